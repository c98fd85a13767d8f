"""Plain definitions of the prefilters and of the validation of vectors: slow loops that can be read."""

from __future__ import annotations

import math

import numpy as np


def window_of(image: np.ndarray, y: int, x: int, radius: int) -> np.ndarray:
    """Return the neighbourhood of a pixel in float64; outside is NaN."""
    return np.pad(np.asarray(image, np.float64), radius, constant_values=np.nan)[y : y + 2 * radius + 1, x : x + 2 * radius + 1]


def gaussian_window(sigma: float, radius: int) -> np.ndarray:
    axis = np.arange(-radius, radius + 1)
    line = np.exp(-(axis**2) / (2 * sigma**2)) if sigma else (axis == 0).astype(float)
    window = np.outer(line, line)
    return window / window.sum()


def weighted_mean(window: np.ndarray, weights: np.ndarray, least: float) -> float:
    """Return the mean over valid pixels, NaN if the centre is missing or too little weight is on valid pixels."""
    valid = np.isfinite(window)
    centre = window[window.shape[0] // 2, window.shape[1] // 2]
    share = weights[valid].sum()
    if math.isnan(centre) or share < least:
        return math.nan
    return float((window[valid] * weights[valid]).sum() / share)


def each_pixel(image: np.ndarray, function: object) -> np.ndarray:
    return np.array([[function(y, x) for x in range(image.shape[1])] for y in range(image.shape[0])])  # type: ignore[operator]


def smooth(image: np.ndarray, sigma: float, radius: int, least: float) -> np.ndarray:
    weights = gaussian_window(sigma, radius)
    return each_pixel(image, lambda y, x: weighted_mean(window_of(image, y, x, radius), weights, least))


def highpass(image: np.ndarray, sigma: float, radius: int, least: float) -> np.ndarray:
    return image - smooth(image, sigma, radius, least)


def wallis(image: np.ndarray, width: int, floor: float, least: float) -> np.ndarray:
    radius, weights = width // 2, np.full((width, width), 1.0 / width**2)

    def one(y: int, x: int) -> float:
        window = window_of(image, y, x, radius)
        mean = weighted_mean(window, weights, least)
        return float((image[y, x] - mean) / np.hypot(np.nanstd(window), floor)) if math.isfinite(mean) else math.nan

    return each_pixel(image, one)


def answer(image: np.ndarray, taps: np.ndarray, weights: np.ndarray, y: int, x: int, known: np.ndarray) -> float:
    """Return the answer of taps where missing pixels are taken to be at the weighted mean of the neighbourhood."""
    radius = taps.shape[0] // 2
    window = window_of(np.where(known, image, np.nan), y, x, radius)
    mean = weighted_mean(window, weights, 0.0)
    return float((taps * np.where(np.isfinite(window), window, mean)).sum())


def laplacian(image: np.ndarray, sigma: float, radius: int, least: float) -> np.ndarray:
    axis = np.arange(-radius, radius + 1)
    line = np.exp(-(axis**2) / (2 * sigma**2))
    line /= line.sum()
    second = (axis**2 - (axis**2 * line).sum()) * line
    second *= 2.0 / (axis**2 * second).sum()
    taps, weights = np.outer(line, second) + np.outer(second, line), gaussian_window(sigma, radius)
    supported = np.isfinite(smooth(image, sigma, radius, least))
    known = np.isfinite(image)
    return each_pixel(image, lambda y, x: answer(image, taps, weights, y, x, known) if supported[y, x] else math.nan)


def naof(image: np.ndarray, sigma: float, radius: int, least: float) -> np.ndarray:
    even = smooth(image, sigma, radius, least)

    def one(y: int, x: int) -> float:
        if math.isnan(even[y, x]):
            return math.nan
        w = window_of(even, y, x, 1)
        lines = [(w[1, 0], w[1, 2]), (w[0, 1], w[2, 1]), (w[0, 0], w[2, 2]), (w[0, 2], w[2, 0])]
        f = [2 * (w[1, 1] - np.nanmean(line)) if np.isfinite(line).any() else 0.0 for line in lines]
        pairs = [(math.atan2(b, a) if (a or b) else None) for a, b in ((f[0], f[1]), (f[2], f[3]))]
        return sum(math.cos(a) + math.cos(math.pi / 2 - a) for a in pairs if a is not None)

    return each_pixel(image, one)


def orientation(image: np.ndarray, sigma: float, radius: int, window: float, reach: int, least: float) -> np.ndarray:
    even = smooth(image, sigma, radius, least)
    known = np.isfinite(even)

    def slope(y: int, x: int, axis: int) -> float:
        w = window_of(even, y, x, 1)
        before, centre, after = (w[:, 1] if axis == 0 else w[1, :]).tolist()
        before, after = (2 * centre - after if math.isnan(before) else before), (2 * centre - before if math.isnan(after) else after)
        return 0.0 if math.isnan(after - before) else after - before

    gy, gx = (each_pixel(even, lambda y, x, a=a: slope(y, x, a) if known[y, x] else math.nan) for a in (0, 1))
    length = np.hypot(gx, gy)
    unit = [np.where(length > 0, g / np.where(length > 0, length, 1), 0.0) for g in (gx, gy)]
    axis = np.arange(-reach, reach + 1)
    line = np.exp(-(axis**2) / (2 * window**2))
    line /= line.sum()
    first = axis * line / (axis**2 * line).sum()
    weights = gaussian_window(window, reach)

    def one(y: int, x: int) -> float:
        if not known[y, x]:
            return math.nan
        along = answer(unit[0], np.outer(line, first), weights, y, x, known)
        return along + answer(unit[1], np.outer(first, line), weights, y, x, known)

    return each_pixel(image, one)


def slope(field: np.ndarray, axis: int) -> float:
    """Return the median step between neighbours of a window along an axis; 0 if fewer than six are known."""
    steps = np.diff(field, axis=axis)
    steps = steps[np.isfinite(steps)]
    return float(np.median(steps)) if steps.size >= 6 else 0.0


def implied(field: np.ndarray, y: int, x: int, radius: int) -> np.ndarray:
    """Return what each neighbour implies for a node, given the slope of the field in the window; NaN = no neighbour."""
    window = window_of(field, y, x, radius)
    down, across = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    brought = window - slope(window, 0) * down - slope(window, 1) * across
    brought[radius, radius] = np.nan
    return brought


def agrees(dx: np.ndarray, dy: np.ndarray, errors: np.ndarray, y: int, x: int, radius: int, limits: tuple[float, ...]) -> bool:
    """Both tests of one vector; fields are NaN where there is no vector."""
    tolerance, share, noise, threshold = limits
    around = [implied(dx, y, x, radius), implied(dy, y, x, radius)]
    count = np.isfinite(around[0]).sum()
    alike = ((np.abs(around[0] - dx[y, x]) <= tolerance) & (np.abs(around[1] - dy[y, x]) <= tolerance)).sum()
    if count < 4 or alike < max(4, share * count):
        return False
    ratios = []
    for values, value, error in zip(around, (dx[y, x], dy[y, x]), errors, strict=True):
        middle = np.nanmedian(values)
        ratios.append((value - middle) / (np.nanmedian(np.abs(values - middle)) + np.hypot(noise, error)))
    return bool(np.hypot(*ratios) <= threshold)
