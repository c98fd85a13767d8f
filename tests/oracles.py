"""The plain definition of each kernel, written to be read and believed, not to be fast."""

from __future__ import annotations

import numpy as np


def correlation_surface(
    reference: np.ndarray, secondary: np.ndarray, row: int, column: int, chip: int, radius: int, min_valid: float = 0.6
) -> np.ndarray:
    """Zero-normalised correlation at every offset, over the pixels that both images have, in float64."""
    width = 2 * radius + 1
    surface = np.full((width, width), np.nan)
    half = chip // 2
    r = reference[row - half : row + half, column - half : column + half].astype(float)
    for i in range(width):
        for j in range(width):
            y, x = row - half + i - radius, column - half + j - radius
            s = secondary[y : y + chip, x : x + chip].astype(float)
            both = np.isfinite(r) & np.isfinite(s)
            if both.sum() < min_valid * chip * chip:
                continue
            a, b = r[both] - r[both].mean(), s[both] - s[both].mean()
            norm = np.sqrt((a * a).sum() * (b * b).sum())
            if norm > 0:
                surface[i, j] = (a * b).sum() / norm
    return surface
