"""The image pairs of the benchmarks, of which every displacement is known far better than any engine measures it.

Three kinds: a pure shift (made by Fourier transform), a glacier with shear margins and patches of changed ground, and
a real Sentinel-2 scene of Perito Moreno moved by the velocity field of Jakobshavn. All textures have zero mean and unit
variance over the scene, so noise is given in standard deviations of the texture (sigma).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates, spline_filter

from ftrack.synthetic import MovingPair, sheared_pair, shifted_pair
from ftrack.synthetic.moving import Field, nowhere, origin_of, pixel_centres, with_noise
from ftrack.synthetic.texture import sample, smooth_noise, spline_of

Array = np.ndarray

SIZE = 1024
"""Side of the synthetic scenes, px."""

SPACING = 8
"""Distance between nodes, px."""

RADIUS = 20
"""Search radius, px."""

BORDER = 50
"""Nodes nearer to the edge of the images are left out, px."""

SIGMA = 1.5
"""Width of the Gaussian filter that makes the synthetic texture, px."""

FASTEST = 13.0
"""Largest displacement of the real texture, px."""

SCENE = "perito-moreno/20200207.tif"
WINDOW = (slice(402, 1038), slice(152, 788))
"""Rows and columns of the Perito Moreno scene: a cloud-free part, ice for the most part, with no gap."""

TRUNK = (slice(0, 333), slice(167, 500))
"""Rows and columns of the Jakobshavn mosaic that are stretched over the window: the trunk above the calving front."""

SMOOTHING = 8.0
"""Gaussian that takes the noise and the steps out of the velocity mosaic, in its cells of 240 m."""


class Scene(NamedTuple):
    """One pair of images and all that is known of it.

    ``pair`` has the images, ``truth(x, y) -> (dx, dy)`` in px (+ = right, down; of the feature that is at the corner
    (x, y) in the reference) and ``changed(x, y)``, True where the ground looks different in the secondary.
    ``texture`` is the reference without its noise, float64 (y, x); ``noise`` is the deviation of the noise in each image.
    """

    name: str
    pair: MovingPair
    texture: Array
    noise: float


def pure_shift(noise: float, shift: tuple[float, float] = (5.37, -3.71), size: int = SIZE, seed: int = 0) -> Scene:
    """Make Gaussian-filtered noise that is shifted exactly, by its Fourier transform.

    Parameters
    ----------
    noise : float
        Standard deviation of the white noise in each image, in sigma.
    shift : (float, float)
        Displacement (dx, dy), px, + = right, down.
    size : int
        Side of the images, px.
    seed : int
        Same seed, same pair.
    """
    pair = shifted_pair((size, size), shift, noise=noise, sigma=SIGMA, seed=seed)
    return Scene(f"pure shift, noise {noise:g} sigma", pair, smooth_noise((size, size), SIGMA, seed), noise)


def sheared_flow(size: int = SIZE, seed: int = 0) -> Scene:
    """Make a glacier: 0-12 px with shear margins, 6 % changed ground in patches, a brightness gradient, noise 0.2 sigma.

    The secondary is read from the order-5 spline of the reference's texture, at places found by fixed-point iteration.
    """
    pair = sheared_pair((size, size), peak=12.0, noise=0.2, changed=0.06, ramp=2.0, sigma=SIGMA, seed=seed)
    return Scene("sheared flow, 6 % decorrelated", pair, smooth_noise((size, size), SIGMA, seed), 0.2)


def real_texture(folder: Path | None = None, noise: float = 0.05, seed: int = 0) -> Scene:
    """Move a clear Sentinel-2 scene of Perito Moreno by the velocity field of Jakobshavn, at most 13 px.

    The ground is the order-5 spline through the pixels of the scene, so reference and secondary are exact samples of
    the same surface; noise is added to both.

    Parameters
    ----------
    folder : Path, optional
        Folder with ``perito-moreno`` and ``itslive``; `data_folder` if left out.
    noise : float
        Standard deviation of the noise in each image, in sigma of the scene.
    seed : int
        Same seed, same noise.
    """
    folder = folder or data_folder()
    whole = _without_gaps(_read(folder / SCENE), missing=0)
    texture = whole[WINDOW]
    mean, deviation = texture.mean(), texture.std()
    spline = spline_of((whole - mean) / deviation)
    field = velocity_field(folder, texture.shape)
    x, y = origin_of(field, *pixel_centres(texture.shape))
    moved = sample(spline, x + WINDOW[1].start, y + WINDOW[0].start)
    texture = (texture - mean) / deviation
    reference, secondary = with_noise(texture, moved, noise, seed)
    pair = MovingPair(reference=reference, secondary=secondary, truth=field, changed=nowhere)
    return Scene(f"real texture and flow, noise {noise:g} sigma", pair, texture, noise)


def velocity_field(folder: Path, shape: tuple[int, int]) -> Field:
    """Return the smoothed trunk of Jakobshavn as a displacement field over an image: a cubic spline, at most 13 px."""
    east, north = (_read(folder / "itslive" / f"jakobshavn-{name}.tif") for name in ("vx", "vy"))
    parts = [gaussian_filter(_without_gaps(part, missing=np.nan), SMOOTHING)[TRUNK] for part in (east, -north)]
    fastest = np.hypot(*parts).max()
    splines = [spline_filter(part * (FASTEST / fastest), 3, mode="mirror") for part in parts]
    rows, columns = parts[0].shape

    def field(x: Array, y: Array) -> tuple[Array, Array]:
        at = [np.asarray(y, float) / shape[0] * rows - 0.5, np.asarray(x, float) / shape[1] * columns - 0.5]
        dx, dy = (map_coordinates(spline, at, order=3, mode="mirror", prefilter=False) for spline in splines)
        return dx, dy

    return field


def data_folder() -> Path:
    """Return the folder with real data: ``FTRACK_TEST_DATA``, or ``../shared/data`` beside the project."""
    return Path(os.environ.get("FTRACK_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def nodes(size: int, spacing: int = SPACING, border: int = BORDER) -> Array:
    """Return the pixel corners of nodes along one side of an image, int64, at least ``border`` px from both ends."""
    return np.arange(-(-border // spacing) * spacing, size - border + 1, spacing)


def truth_at(scene: Scene, rows: Array, columns: Array) -> tuple[Array, Array]:
    """Return the true displacement (dx, dy) at nodes, px, float64 (row, column)."""
    x, y = np.meshgrid(columns.astype(float), rows.astype(float))
    return scene.pair.truth(x, y)


def good_ground(scene: Scene, rows: Array, columns: Array) -> Array:
    """Return where a node lies on ground that looks the same in both images, bool (row, column)."""
    x, y = np.meshgrid(columns.astype(float), rows.astype(float))
    return ~scene.pair.changed(x, y)


def shift_bound(scene: Scene, chip: int, rows: Array, columns: Array) -> tuple[Array, Array]:
    """Return the Cramér-Rao bound of a chip's displacement between two equally noisy images.

    No unbiased estimator has a smaller standard deviation. With noise of variance ``s^2`` in each image, the covariance is at least
    ``2 s^2 inverse(sum g g^T)``, with ``g`` the gradient of the noise-free texture, summed over the pixels of the chip.

    Parameters
    ----------
    scene : Scene
        Texture and noise.
    chip : int
        Side of the chip, px, even.
    rows, columns : int (n,), (m,)
        Pixel corners of the nodes.

    Returns
    -------
    float64 (n, m), float64 (n, m)
        Least standard deviation of dx and dy, px.
    """
    gx, gy = gradient(scene.texture)
    xx, yy, xy = (_chip_sums(product, chip, rows, columns) for product in (gx * gx, gy * gy, gx * gy))
    scale = 2.0 * scene.noise**2 / (xx * yy - xy**2)
    return np.sqrt(scale * yy), np.sqrt(scale * xx)


def gradient(texture: Array) -> tuple[Array, Array]:
    """Return the derivative of the order-5 spline through a texture at its pixel centres, along x and y."""
    spline, step = spline_of(texture), 1e-3
    x, y = pixel_centres(texture.shape)
    gx = sample(spline, x + step, y) - sample(spline, x - step, y)
    gy = sample(spline, x, y + step) - sample(spline, x, y - step)
    return gx / (2 * step), gy / (2 * step)


def _chip_sums(image: Array, chip: int, rows: Array, columns: Array) -> Array:
    """Sum an image over the chip around every node."""
    total = np.pad(image.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    top, left = rows[:, None] - chip // 2, columns[None, :] - chip // 2
    return np.asarray(total[top + chip, left + chip] - total[top, left + chip] - total[top + chip, left] + total[top, left])


def _read(path: Path) -> Array:
    if not path.exists():
        raise SystemExit(f"{path} is missing; set FTRACK_TEST_DATA to the folder with the real data")
    with rasterio.open(path) as image:
        values = image.read(1).astype(float)
        return values if image.nodata is None else np.where(values == image.nodata, np.nan, values)


def _without_gaps(image: Array, missing: float) -> Array:
    """Return the image with its missing pixels (NaN or ``missing``) replaced by the nearest that is there."""
    gap = ~np.isfinite(image) | (image == missing)
    nearest = distance_transform_edt(gap, return_distances=False, return_indices=True)
    return np.asarray(image[tuple(nearest)])
