"""Image pairs of which every displacement is known: pure shifts, shear flow, any smooth field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ftrack.errors import Stop
from ftrack.synthetic.texture import image_of, noise_spectrum, sample, smooth_noise, spline_of

Array = np.ndarray
Field = Callable[[Array, Array], tuple[Array, Array]]
"""Displacement (dx, dy) in px, + = right, down, of the features at pixel corners (x, y) of the reference."""


@dataclass(frozen=True, kw_only=True)
class MovingPair:
    """Two images and what moved between them.

    Positions are pixel corners of the reference: ``x`` is the corner between pixels ``x - 1`` and ``x``, and the
    centre of the first pixel is at 0.5.

    Attributes
    ----------
    reference, secondary : ndarray
        (y, x) float32; the texture has zero mean and unit variance.
    truth : callable
        ``truth(x, y) -> (dx, dy)``, the displacement in px, + = right, down, of what is at (x, y) in the reference.
    changed : callable
        ``changed(x, y) -> bool``, True where the ground looks different in the secondary.
    """

    reference: Array
    secondary: Array
    truth: Field
    changed: Callable[[Array, Array], Array]


def shifted_pair(
    shape: tuple[int, int] = (1024, 1024),
    shift: tuple[float, float] = (5.37, -3.71),
    *,
    noise: float = 0.0,
    sigma: float = 1.5,
    seed: int = 0,
) -> MovingPair:
    """Make two images of Gaussian-filtered noise, the second shifted exactly (by its Fourier transform, periodic).

    Parameters
    ----------
    shape : (int, int)
        Pixels along y and x.
    shift : (float, float)
        Displacement (dx, dy) in px, + = right, down.
    noise : float
        Standard deviation of the noise added to each image, as a share of the texture's.
    sigma : float
        Width of the Gaussian filter that makes the texture, in px.
    seed : int
        Same seed, same pair.
    """
    spectrum = noise_spectrum(shape, sigma, np.random.default_rng(seed))
    reference, secondary = with_noise(image_of(spectrum, shape), image_of(spectrum, shape, shift), noise, seed)
    dx, dy = shift

    def truth(x: Array, y: Array) -> tuple[Array, Array]:
        where = np.broadcast_shapes(np.shape(x), np.shape(y))
        return np.full(where, float(dx)), np.full(where, float(dy))

    return MovingPair(reference=reference, secondary=secondary, truth=truth, changed=nowhere)


def moving_pair(
    shape: tuple[int, int],
    field: Field,
    *,
    noise: float = 0.0,
    sigma: float = 1.5,
    seed: int = 0,
) -> MovingPair:
    """Make two images of which the second is the first after every feature has moved by a smooth field.

    Parameters
    ----------
    shape, noise, sigma, seed
        As in `shifted_pair`; a sigma of at least 1 px keeps the interpolation exact to a thousandth of a pixel.
    field : callable
        ``field(x, y) -> (dx, dy)`` at pixel corners of the reference. Its gradient must stay below one.

    Raises
    ------
    Stop
        The field folds the ground: two features would come to lie in one place.
    """
    texture = smooth_noise(shape, sigma, seed)
    x, y = origin_of(field, *pixel_centres(shape))
    reference, secondary = with_noise(texture, sample(spline_of(texture), x, y), noise, seed)
    return MovingPair(reference=reference, secondary=secondary, truth=field, changed=nowhere)


def sheared_pair(
    shape: tuple[int, int] = (1024, 1024),
    *,
    peak: float = 12.0,
    noise: float = 0.2,
    changed: float = 0.06,
    ramp: float = 2.0,
    sigma: float = 1.5,
    seed: int = 0,
) -> MovingPair:
    """Make a pair across a glacier: still ground, shear margins, and a fast middle.

    Parameters
    ----------
    shape, noise, sigma, seed
        As in `shifted_pair`.
    peak : float
        Displacement along the middle of the glacier, in px; the flow runs 20 degrees below the rows.
    changed : float
        Share of the ground, in round patches, that the secondary shows with another texture.
    ramp : float
        Rise of the secondary's brightness from its left to its right edge, in standard deviations of the texture.
    """
    field = glacier_flow(shape, peak)
    texture = smooth_noise(shape, sigma, seed)
    patches = smooth_noise(shape, 20.0, seed + 1)
    limit = np.quantile(patches, 1 - changed) if changed > 0 else np.inf
    patch_spline = spline_of(patches)

    def is_changed(x: Array, y: Array) -> Array:
        x, y = np.broadcast_arrays(x, y)
        return np.asarray(sample(patch_spline, x, y) > limit)

    columns, rows = pixel_centres(shape)
    x, y = origin_of(field, columns, rows)
    moved = np.where(is_changed(x, y), smooth_noise(shape, sigma, seed + 2), sample(spline_of(texture), x, y))
    reference, secondary = with_noise(texture, moved + ramp * (columns / shape[1] - 0.5), noise, seed)
    return MovingPair(reference=reference, secondary=secondary, truth=field, changed=is_changed)


def glacier_flow(shape: tuple[int, int], peak: float, angle: float = 20.0) -> Field:
    """Return a simple shear flow through the middle of an image: zero outside, ``peak`` px inside, smooth margins."""
    along = (math.cos(math.radians(angle)), math.sin(math.radians(angle)))
    half_width, margin = 0.25 * shape[0], 0.06 * shape[0]

    def field(x: Array, y: Array) -> tuple[Array, Array]:
        across = (np.asarray(y) - shape[0] / 2) * along[0] - (np.asarray(x) - shape[1] / 2) * along[1]
        speed = 0.5 * peak * (np.tanh((across + half_width) / margin) - np.tanh((across - half_width) / margin))
        return speed * along[0], speed * along[1]

    return field


def origin_of(field: Field, x: Array, y: Array, rounds: int = 200) -> tuple[Array, Array]:
    """Return where in the reference the features lie that a field has brought to (x, y)."""
    from_x, from_y = x.astype(float), y.astype(float)
    for _ in range(rounds):
        dx, dy = field(from_x, from_y)
        step = max(float(np.abs(x - dx - from_x).max()), float(np.abs(y - dy - from_y).max()))
        from_x, from_y = x - dx, y - dy
        if step < 1e-9:
            return from_x, from_y
    raise Stop("the displacement field folds the ground; make it smoother or smaller, so that its gradient stays below one")


def pixel_centres(shape: tuple[int, int]) -> tuple[Array, Array]:
    """Return x and y of every pixel centre, (y, x) each, in pixel corners."""
    y, x = np.mgrid[0.5 : shape[0], 0.5 : shape[1]]
    return x, y


def with_noise(reference: Array, secondary: Array, noise: float, seed: int) -> tuple[Array, Array]:
    """Return both images in float32 with independent white noise."""
    rng = np.random.default_rng((seed, 1))
    first, second = (image + noise * rng.standard_normal(image.shape) for image in (reference, secondary))
    return first.astype(np.float32), second.astype(np.float32)


def nowhere(x: Array, y: Array) -> Array:
    """Return False for every place."""
    return np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)), bool)
