"""Images laid out for the caches, and windows of offsets around what is expected."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.layout import Windows
from ftrack.matchers.protocol import Prior

LINE, PERIOD = 16, 512
"""Numbers in a line of a cache, and after how many the next lies in nearly the same place."""


def spaced(image: np.ndarray) -> np.ndarray:
    """Return an image in float32 whose rows do not begin a power of two apart, where they would take each other's place in the caches."""
    height, width = image.shape
    if (width + LINE) % PERIOD > 2 * LINE:
        return np.ascontiguousarray(image, np.float32)
    out = np.empty((height, width + 2 * LINE), np.float32)
    out[:, :width], out[:, width:] = image, np.nan
    return out


def windows_around(prior: Prior, radius: int, margin: int, shape: tuple[int, int], farthest: int) -> Windows:
    """Return the search windows around the expected displacement, in whole pixels; zero where nothing is expected.

    What is expected farther away than ``farthest`` px, where there are no data any more, is expected there.
    """
    dy, dx = (_whole_pixels(part, margin, shape, farthest) for part in (prior.dy, prior.dx))
    return Windows(dy, dx, np.full(shape, radius, np.int64))


def _whole_pixels(expected: float | np.ndarray, margin: int, shape: tuple[int, int], farthest: int) -> np.ndarray:
    """Round what is expected; an array that lacks the margin is carried on."""
    values = np.clip(np.rint(np.nan_to_num(np.asarray(expected, float))), -farthest, farthest).astype(np.int64)
    if values.ndim and values.shape != shape:
        values = np.pad(values, margin, mode="edge")
    return np.full(shape, values)
