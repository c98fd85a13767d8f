"""What the simulated ground looks like: crevassed ice that slowly changes as it flows, and rock that does not."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import fft

from ftrack.synthetic.glacier import MARGIN, Glacier, smooth_step
from ftrack.synthetic.texture import Array, frequencies, sample, spline_of

FINER = 2
"""Texture pixels per image pixel."""

PERIOD = 1024
"""Longest side of a texture in image pixels; wider ground repeats it."""


class Ground(NamedTuple):
    """The flow, and splines of the ice and the rock in digital numbers about their mean."""

    glacier: Glacier
    ice: Array
    rock: Array
    seed: int


class Layer(NamedTuple):
    """A texture of the ice: its number, its weight, and the days of mean flow since it was drawn on the ice."""

    number: int
    weight: float
    days: float


def make_ground(glacier: Glacier, blur: float, seed: int) -> Ground:
    """Draw the textures of a glacier; ``blur`` is the width of the sensor's point spread in px."""
    shape = (FINER * min(glacier.height, PERIOD), FINER * min(glacier.width, PERIOD))
    ice, rock = ice_texture(shape, blur, seed), rock_texture(shape, blur, seed)
    return Ground(glacier, spline_of(ice, 3), spline_of(rock, 3), seed)


def ice_texture(shape: tuple[int, int], blur: float, seed: int) -> Array:
    """Return crevasses across the flow, in fields, over a fine and a coarse texture."""
    ky, kx = frequencies(shape)
    wave = 2 * math.pi / 11
    bands = np.exp(-0.5 * ((FINER * kx - wave) / (0.4 * wave)) ** 2 - 0.5 * (7 * FINER * ky) ** 2)
    crevasses = fft.irfft2(_white(shape, (seed, 11)) * bands, shape)
    crevasses /= crevasses.std()
    fields = 0.6 + 0.4 * np.tanh(_rough(shape, ((30.0, 1.0),), (seed, 12)))
    grain = _rough(shape, ((0.8, 160.0), (4.0, 120.0), (25.0, 120.0)), (seed, 13))
    return _seen(grain - 350 * fields * np.maximum(crevasses - 0.2, 0), blur)


def rock_texture(shape: tuple[int, int], blur: float, seed: int) -> Array:
    """Return a texture with detail of every size."""
    return _seen(_rough(shape, tuple((0.8 * 2**i, 150.0 + 20 * i) for i in range(6)), (seed, 21)), blur)


def _white(shape: tuple[int, int], seed: tuple[int, ...]) -> Array:
    return np.asarray(fft.rfft2(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)).astype(np.complex128))


def _rough(shape: tuple[int, int], parts: tuple[tuple[float, float], ...], seed: tuple[int, ...]) -> Array:
    """Return noise whose power is a sum of Gaussian filters, each (width in image pixels, standard deviation)."""
    ky, kx = frequencies(shape)
    k2 = (FINER * ky) ** 2 + (FINER * kx) ** 2
    power = sum(
        ((FINER * width * deviation) ** 2 * 4 * math.pi * np.exp(-(width**2) * k2) for width, deviation in parts), np.zeros(k2.shape)
    )
    return np.asarray(fft.irfft2(_white(shape, seed) * np.sqrt(power), shape))


def _seen(image: Array, blur: float) -> Array:
    """Return a texture as a sensor with a Gaussian point spread sees it, about its mean."""
    ky, kx = frequencies((image.shape[0], image.shape[1]))
    seen = fft.irfft2(fft.rfft2(image) * np.exp(-0.5 * (blur * FINER) ** 2 * (ky**2 + kx**2)), image.shape)
    return np.asarray(seen - seen.mean())


def look_at(ground: Ground, x: Array, y: Array, layers: tuple[Layer, ...]) -> Array:
    """Return the brightness (digital numbers) of the ground at true places (pixel corners)."""
    line = ground.glacier.flow_line(x, y)
    s = np.abs(line)
    x, y = np.broadcast_arrays(x, y)
    bare = smooth_step((s - 1 - MARGIN) / 0.04)
    moraine = 500 * np.exp(-0.5 * ((line - 0.25) / 0.02) ** 2)
    brightness = 4700 - 2300 * smooth_step((s - 1 + MARGIN) / (2 * MARGIN)) - moraine
    is_ice, is_rock = bare < 1, bare > 0
    texture = np.zeros(s.shape)
    texture[is_ice] = (1 - bare[is_ice]) * _ice_at(ground, x[is_ice], y[is_ice], layers)
    texture[is_rock] += bare[is_rock] * sample(ground.rock, FINER * x[is_rock], FINER * y[is_rock], 3)
    return np.asarray(brightness + texture)


def _ice_at(ground: Ground, x: Array, y: Array, layers: tuple[Layer, ...]) -> Array:
    total = np.zeros(x.shape)
    for layer in layers:
        from_x, from_y = ground.glacier.carry(x, y, -layer.days)
        at_x, at_y = np.random.default_rng((ground.seed, 31, layer.number)).uniform(0, PERIOD, 2)
        total += layer.weight * sample(ground.ice, FINER * (from_x + at_x), FINER * (from_y + at_y), 3)
    return total
