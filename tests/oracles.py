"""The plain definition of each kernel, written to be read and believed, not to be fast."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.deform import BEFORE, DERIVATIVE, FRACTIONS, KEPT_BETWEEN, REACH, SLOPES, TABLE, TAPS, WEIGHTS
from ftrack.kernels.normal import PLANES, sum_blocks


def correlation_surface(
    reference: np.ndarray,
    secondary: np.ndarray,
    row: int,
    column: int,
    chip: int,
    radius: int,
    min_valid: float = 0.6,
    centre: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Zero-normalised correlation at every offset around ``centre``, over the pixels that both images have, in float64.

    What lies beyond the secondary is no data.
    """
    width = 2 * radius + 1
    surface = np.full((width, width), np.nan)
    half = chip // 2
    r = reference[row - half : row + half, column - half : column + half].astype(float)
    for i in range(width):
        for j in range(width):
            s = window(secondary, row - half + centre[0] + i - radius, column - half + centre[1] + j - radius, chip)
            both = np.isfinite(r) & np.isfinite(s)
            if both.sum() < min_valid * chip * chip:
                continue
            a, b = r[both] - r[both].mean(), s[both] - s[both].mean()
            norm = np.sqrt((a * a).sum() * (b * b).sum())
            if norm > 0:
                surface[i, j] = (a * b).sum() / norm
    return surface


def window(image: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    """Return a square of an image in float64, NaN beyond its edges."""
    out = np.full((size, size), np.nan)
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + size, image.shape[0]), min(left + size, image.shape[1])
    if y1 > y0 and x1 > x0:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return out


def second_maximum(surface: np.ndarray, exclusion: int) -> float:
    """Highest local maximum (of eight neighbours) farther than ``exclusion`` from the highest value; zero if none is positive."""
    y0, x0 = np.unravel_index(np.nanargmax(surface), surface.shape)
    best = 0.0
    for y in range(surface.shape[0]):
        for x in range(surface.shape[1]):
            if np.isnan(surface[y, x]) or (abs(y - y0) <= exclusion and abs(x - x0) <= exclusion):
                continue
            around = surface[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            if surface[y, x] == np.nanmax(around):
                best = max(best, float(surface[y, x]))
    return best


def summed(
    images: tuple[np.ndarray, np.ndarray],
    corner: tuple[int, int],
    field: np.ndarray,
    place: tuple[int, int, int],
    side: int,
    used: tuple[np.ndarray, np.ndarray],
    before: float = 0.0,
    even: float = np.inf,
) -> np.ndarray:
    """Sum the blocks of two images into an array that is filled with ``before``."""
    out = np.full((used[0].size, used[1].size, PLANES), before)
    both = tuple(np.ascontiguousarray(image, np.float32) for image in images)
    sum_blocks(both, corner, field.astype(np.float32), place, (TABLE.reshape(-1), KEPT_BETWEEN), used, even, side, out)
    return out


def factors_of_block(
    images: tuple[np.ndarray, np.ndarray], top: int, left: int, side: int, moved: tuple[float, float]
) -> dict[str, np.ndarray]:
    """Return pixels, gradients and what was drawn back of one block, in float64; NaN where one of them is not known."""
    steps = [round(part * FRACTIONS) for part in moved]
    (dx, x_rest), (dy, y_rest) = (divmod(step, FRACTIONS) for step in steps)
    reference = window(images[0], top - REACH, left - REACH, side + 2 * REACH)
    pixels = window(images[1], top + dy - BEFORE, left + dx - BEFORE, side + TAPS - 1)
    values, slopes = (np.stack([table[rest].astype(float) for rest in (y_rest, x_rest)]) for table in (WEIGHTS, SLOPES))
    warped = interpolated(pixels, values[0], values[1])
    middle = slice(REACH, REACH + side)
    x, y = 0.5 * interpolated(pixels, values[0], slopes[1]), 0.5 * interpolated(pixels, slopes[0], values[1])
    for k, weight in enumerate(DERIVATIVE, 1):
        after, before = (slice(REACH + way * k, REACH + way * k + side) for way in (1, -1))
        x += 0.5 * weight * (reference[middle, after] - reference[middle, before])
        y += 0.5 * weight * (reference[after, middle] - reference[before, middle])
    factors = {"r": reference[middle, middle], "x": x, "y": y, "w": warped}
    known = np.isfinite(sum(factors.values()))
    return {name: np.where(known, part, np.nan) for name, part in factors.items()}


def interpolated(pixels: np.ndarray, down: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Weigh as many pixels along each axis as there are weights."""
    near = np.lib.stride_tricks.sliding_window_view(pixels, (down.size, along.size))
    return np.einsum("ijkl,k,l->ij", near, down, along)
