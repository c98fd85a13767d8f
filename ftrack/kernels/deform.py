"""Weights with which an image is interpolated between its pixels, and of the gradient at a pixel."""

from __future__ import annotations

import numpy as np

TAPS = 6
"""Pixels that an interpolation takes along each axis."""

BITS = 8
FRACTIONS = 2**BITS
"""Steps per pixel to which displacement is rounded."""

BEFORE, AFTER = TAPS // 2 - 1, TAPS // 2
"""Pixels needed before and after a position."""

DERIVATIVE = (8.0 / 12.0, -1.0 / 12.0)
"""Weights of the differences over 2 and 4 pixels in the fourth-order first derivative."""

REACH = len(DERIVATIVE)
"""Pixels needed on every side for a gradient."""

NOISE_IN_DERIVATIVE = 2.0 * (8.0**2 + 1.0) / 144.0
"""Sum of the squared weights: how much white noise adds to the mean squared gradient."""

FOR_VALUES, FOR_SLOPES = (1.2, 0.001), (1.0, 0.02)
"""Texture for which the weights are best: noise that a Gaussian of this width smooths, px, and white noise with this share of its power."""


def _fit(passed: np.ndarray, moments: np.ndarray, texture: tuple[float, float]) -> np.ndarray:
    """Return the weights of ``TAPS`` pixels that pass waves nearest to what is wanted: (FRACTIONS, TAPS).

    Parameters
    ----------
    passed : complex (wave, FRACTIONS)
        What is wanted of the waves of ``_WAVES``.
    moments : float64 (2, FRACTIONS)
        Sum of the weights, and sum of weights times pixels from the position: kept to exactly, so that slopes stay where they are.
    texture : (float, float)
        See ``FOR_VALUES``.
    """
    power = np.exp(-np.square(texture[0] * _WAVES)) + texture[1]
    waves, exact = np.exp(1j * _WAVES * _PIXELS), np.array([np.ones(TAPS), _PIXELS])
    normal = np.block([[(waves.conj().T @ (power * waves)).real, exact.T], [exact, np.zeros((2, 2))]])
    weights: np.ndarray = np.linalg.solve(normal, np.concatenate([(waves.conj().T @ (power * passed)).real, moments]))[:TAPS].T
    return weights


_WAVES, _PIXELS, _PLACES = np.linspace(0.0, np.pi, 257)[:, None], np.arange(TAPS) - BEFORE, np.arange(FRACTIONS) / FRACTIONS

WEIGHTS = _fit(np.exp(1j * _WAVES * _PLACES), np.array([np.ones(FRACTIONS), _PLACES]), FOR_VALUES).astype(np.float32)
"""Weights of the value at every fraction: float32 (FRACTIONS, TAPS)."""

WEIGHTS[0] = _PIXELS == 0

SLOPES = _fit(
    2j * np.sin(_WAVES * np.arange(1, REACH + 1)) @ np.array(DERIVATIVE)[:, None] * (np.exp(1j * _WAVES * _PIXELS) @ WEIGHTS.T),
    np.array([np.zeros(FRACTIONS), np.ones(FRACTIONS)]),
    FOR_SLOPES,
)
"""Weights of the gradient at every fraction, which are the derivative of the interpolated values as nearly as can be: float64
(FRACTIONS, TAPS). Both images' gradients must pass waves alike; at whole pixels these weights are ``DERIVATIVE`` itself."""

TABLE = np.concatenate([WEIGHTS, SLOPES], axis=1, dtype=np.float32)
"""Both, side by side: float32 (FRACTIONS, 2 * TAPS)."""

KEPT_BETWEEN = np.square(WEIGHTS, dtype=float).sum(1)
"""White noise that is interpolated loses some of its power: none at whole pixels, a fifth half-way between two."""
