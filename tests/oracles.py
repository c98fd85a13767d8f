"""The plain definition of each kernel, written to be read and believed, not to be fast."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.deform import BEFORE, DERIVATIVE, FRACTIONS, KEPT_BETWEEN, REACH, TAPS, WEIGHTS
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
    sum_blocks(both, corner, field.astype(np.float32), place, (WEIGHTS.reshape(-1), KEPT_BETWEEN), used, even, side, out)
    return out


def factors_of_block(
    images: tuple[np.ndarray, np.ndarray], top: int, left: int, side: int, moved: tuple[float, float]
) -> dict[str, np.ndarray]:
    """Return pixels, gradients and what was drawn back of one block, in float64; NaN where one of them is not known."""
    steps = [round(part * FRACTIONS) for part in moved]
    (dx, x_rest), (dy, y_rest) = (divmod(step, FRACTIONS) for step in steps)
    wide = side + 2 * REACH
    reference = window(images[0], top - REACH, left - REACH, wide)
    pixels = window(images[1], top + dy - REACH - BEFORE, left + dx - REACH - BEFORE, wide + TAPS - 1)
    along = sum(weight * pixels[:, k : k + wide] for k, weight in enumerate(WEIGHTS[x_rest].astype(float)))
    warped = sum(weight * along[k : k + wide] for k, weight in enumerate(WEIGHTS[y_rest].astype(float)))
    mean, middle = 0.5 * (reference + warped), slice(REACH, REACH + side)
    x, y = np.zeros((2, side, side))
    for k, weight in enumerate(DERIVATIVE, 1):
        after, before = (slice(REACH + way * k, REACH + way * k + side) for way in (1, -1))
        x += weight * (mean[middle, after] - mean[middle, before])
        y += weight * (mean[after, middle] - mean[before, middle])
    factors = {"r": reference[middle, middle], "x": x, "y": y, "w": warped[middle, middle]}
    known = np.isfinite(sum(factors.values()))
    return {name: np.where(known, part, np.nan) for name, part in factors.items()}
