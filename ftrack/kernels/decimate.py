"""Images whose pixels are the means of squares of pixels."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import compiled
from ftrack.kernels.moments import LARGEST


@compiled
def decimate(image, top, left, factor, out):
    """Fill the mean of the valid pixels of every square of ``factor`` by ``factor``.

    Parameters
    ----------
    image : float32 (y, x)
        What is not a finite number, and what lies beyond, is no data.
    top, left : int
        First row and column of the first square.
    factor : int
        Side of the squares, px.
    out : float32 (rows, columns)
        Result; NaN where fewer than half of the pixels are valid.
    """
    width = out.shape[1] * factor
    total, count = np.zeros(width), np.zeros(width, np.int32)
    first, last = max(0, -left), min(width, image.shape[1] - left)
    for i in range(out.shape[0]):
        total[:], count[:] = 0.0, 0
        for y in range(max(0, top + i * factor), min(image.shape[0], top + (i + 1) * factor)):
            row = image[y]
            for x in range(first, last):
                value = row[left + x]
                fine = abs(value) <= np.float32(LARGEST)
                total[x] += np.float64(value) if fine else 0.0
                count[x] += fine
        for j in range(out.shape[1]):
            value, some = 0.0, 0
            for x in range(j * factor, (j + 1) * factor):
                value += total[x]
                some += count[x]
            out[i, j] = value / some if 2 * some >= factor * factor else np.nan
