"""The plain definition of each kernel, written to be read and believed, not to be fast."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.deform import REACH, WEIGHTS
from ftrack.kernels.normal import LANES, draw_back


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


def drawn_back(
    reference: np.ndarray, secondary: np.ndarray, corner: int, field: np.ndarray, place: tuple[int, int, int], used: np.ndarray
) -> np.ndarray:
    """Draw an image back in one piece, in blocks of 8 px; rows that are not used keep 7."""
    height, width = (n - 2 * REACH for n in reference.shape)
    planes, room = np.full((6, height, width + LANES), 7.0, np.float32), np.empty(4 * reference.size, np.float32)
    secondary = np.ascontiguousarray(secondary, np.float32)
    draw_back(reference, (secondary, (corner, corner)), (field, place, WEIGHTS), used, 8, planes, room)
    return planes
