"""Weights with which an image is interpolated between its pixels, and of the gradient at a pixel."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

TAPS = 8
"""Pixels that an interpolation takes along each axis."""

BITS = 8
FRACTIONS = 2**BITS
"""Steps per pixel to which displacement is rounded."""

BEFORE, AFTER = TAPS // 2 - 1, TAPS // 2
"""Pixels needed before and after a position."""

DERIVATIVE = (45.0 / 60.0, -9.0 / 60.0, 1.0 / 60.0)
"""Weights of the differences over 2, 4 and 6 pixels in the sixth-order first derivative."""

REACH = len(DERIVATIVE)
"""Pixels needed on every side for a gradient."""

NOISE_IN_DERIVATIVE = 2.0 * (45.0**2 + 9.0**2 + 1.0) / 3600.0
"""Sum of the squared weights: how much white noise adds to the mean squared gradient."""


SHORT = 0.02
"""Share of the power of waves that are as long as a pixel, beside those of a texture that is smoothed by a pixel."""


def _tabulate() -> np.ndarray:
    """Return the cubic spline's response to one pixel, cut to ``TAPS`` pixels, at every fraction: float32 (FRACTIONS, TAPS).

    It passes less noise than a windowed sinc of that width (Unser 1999).
    """
    pulse = np.zeros(16 * TAPS)
    pulse[8 * TAPS] = 1.0
    distance = (np.arange(FRACTIONS) / FRACTIONS)[:, None] - (np.arange(TAPS) - BEFORE)
    weights = ndimage.map_coordinates(pulse, [8 * TAPS + distance], order=3)
    weights[0] = np.arange(TAPS) == BEFORE
    table: np.ndarray = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return table


def _differentiate(values: np.ndarray) -> np.ndarray:
    """Return the weights that come nearest to the derivative of what ``values`` interpolate, at every fraction: (FRACTIONS, TAPS).

    Both images' gradients must pass waves alike: at whole pixels these weights are the derivative itself. Elsewhere they differ from it
    least for a smooth texture, and give that of a constant and of a slope exactly.
    """
    wave, at = np.linspace(0.0, np.pi, 257)[:, None], np.arange(TAPS) - BEFORE
    steps = np.arange(1, REACH + 1)
    derivative = 2j * np.sin(wave * steps) @ np.array(DERIVATIVE)
    power = np.sqrt(np.exp(-np.square(wave)) + SHORT)
    waves = power * np.exp(1j * wave * at)
    wanted = derivative[:, None] * (waves @ values.astype(float).T)
    exact, slope = np.array([np.ones(TAPS), at]), np.zeros((2, FRACTIONS))
    slope[1] = 1.0
    normal = np.block([[(waves.conj().T @ waves).real, exact.T], [exact, np.zeros((2, 2))]])
    right = np.concatenate([(waves.conj().T @ wanted).real, slope])
    table: np.ndarray = np.linalg.solve(normal, right)[:TAPS].T
    return table


WEIGHTS = _tabulate()

SLOPES = _differentiate(WEIGHTS)

TABLE = np.concatenate([WEIGHTS, SLOPES], axis=1, dtype=np.float32)
"""Both, side by side: float32 (FRACTIONS, 2 * TAPS)."""

KEPT_BETWEEN = np.square(WEIGHTS, dtype=float).sum(1)
"""White noise that is interpolated loses some of its power: none at whole pixels, a quarter half-way between two."""
