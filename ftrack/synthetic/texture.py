"""Periodic random textures, band-limited so that they can be read between the pixels."""

from __future__ import annotations

import math
from typing import Literal

import numba
import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates, spline_filter

Array = np.ndarray


def frequencies(shape: tuple[int, int]) -> tuple[Array, Array]:
    """Return the angular frequencies (rad/px) along y and x of a real Fourier transform."""
    return 2 * np.pi * fft.fftfreq(shape[0])[:, None], 2 * np.pi * fft.rfftfreq(shape[1])[None, :]


def noise_spectrum(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Array:
    """Return the spectrum of periodic white noise after a Gaussian filter, scaled to unit variance and zero mean.

    The highest frequency of an even side is left out: its phase is not defined, so it cannot be shifted.
    """
    ky, kx = frequencies(shape)
    spectrum = fft.rfft2(rng.standard_normal(shape))
    spectrum *= np.exp(-0.5 * sigma**2 * (ky**2 + kx**2))
    spectrum[0, 0] = 0
    if shape[0] % 2 == 0:
        spectrum[shape[0] // 2] = 0
    if shape[1] % 2 == 0:
        spectrum[:, -1] = 0
    return np.asarray(spectrum / fft.irfft2(spectrum, shape).std())


def image_of(spectrum: Array, shape: tuple[int, int], shift: tuple[float, float] = (0.0, 0.0)) -> Array:
    """Return the periodic image of a spectrum after its features have moved by ``shift`` (px right, px down)."""
    ky, kx = frequencies(shape)
    return np.asarray(fft.irfft2(spectrum * np.exp(-1j * (kx * shift[0] + ky * shift[1])), shape))


def smooth_noise(shape: tuple[int, int], sigma: float, seed: int | tuple[int, ...]) -> Array:
    """Return periodic Gaussian-filtered noise, (y, x) float64, zero mean and unit variance."""
    return image_of(noise_spectrum(shape, sigma, np.random.default_rng(seed)), shape)


def spline_of(image: Array, order: Literal[3, 5] = 5) -> Array:
    """Return the coefficients of the periodic spline through the pixels of an image."""
    return np.asarray(spline_filter(image, order=order, mode="grid-wrap"))


def sample(spline: Array, x: Array, y: Array, order: Literal[3, 5] = 5) -> Array:
    """Return the periodic spline at positions given as pixel corners (the centre of the first pixel is 0.5, 0.5)."""
    if order == 3:
        out = np.empty(x.shape)
        _sample_cubic(spline, np.ravel(x), np.ravel(y), out.reshape(-1))
        return out
    return np.asarray(map_coordinates(spline, [y - 0.5, x - 0.5], order=order, mode="grid-wrap", prefilter=False))


@numba.njit(nogil=True, cache=True)
def _sample_cubic(spline: Array, x: Array, y: Array, out: Array) -> None:  # pragma: no cover
    height, width = spline.shape
    wx, wy, columns = np.empty(4), np.empty(4), np.empty(4, np.int64)
    for i in range(x.size):
        column, row = math.floor(x[i] - 0.5), math.floor(y[i] - 0.5)
        _cubic_weights(x[i] - 0.5 - column, wx)
        _cubic_weights(y[i] - 0.5 - row, wy)
        for k in range(4):
            columns[k] = (column - 1 + k) % width
        total = 0.0
        for j in range(4):
            line = spline[(row - 1 + j) % height]
            total += wy[j] * (wx[0] * line[columns[0]] + wx[1] * line[columns[1]] + wx[2] * line[columns[2]] + wx[3] * line[columns[3]])
        out[i] = total


@numba.njit(nogil=True, cache=True)
def _cubic_weights(t: float, weights: Array) -> None:  # pragma: no cover
    u = 1 - t
    weights[0] = u * u * u / 6
    weights[1] = (4 - 6 * t * t + 3 * t * t * t) / 6
    weights[2] = (4 - 6 * u * u + 3 * u * u * u) / 6
    weights[3] = t * t * t / 6
