"""Images whose pixels are the means of squares of pixels."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import filling, shared
from ftrack.kernels.moments import LARGEST


def decimate(image: np.ndarray, top: int, left: int, factor: int, out: np.ndarray) -> None:
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
    _decimate(image, top, left, factor, out, np.empty((2, out.shape[1] * factor), np.float32))


@filling
def _decimate(image, top, left, factor, out, rooms):
    width = out.shape[1] * factor
    total, count = rooms[0], rooms[1]
    first, last = max(0, -left), max(0, min(width, image.shape[1] - left))
    for i in range(out.shape[0]):
        total[:], count[:] = np.float32(0), np.float32(0)
        for y in range(max(0, top + i * factor), min(image.shape[0], top + (i + 1) * factor)):
            row, sums, some = image[y, first + left : last + left], total[first:last], count[first:last]
            for x in range(sums.size):
                fine = abs(row[x]) <= np.float32(LARGEST)
                sums[x] += row[x] if fine else np.float32(0)
                some[x] += np.float32(1) if fine else np.float32(0)
        line, pixels = out[i], total[: out.shape[1]]
        _join(total, factor, line)
        _join(count, factor, pixels)
        for j in range(line.size):
            line[j] = line[j] / pixels[j] if 2 * pixels[j] >= np.float32(factor * factor) else np.float32(np.nan)


@shared
def _join(row, factor, out):
    """Sum every ``factor`` neighbours."""
    size = np.uintp(out.size)
    if factor == 4:
        for j in range(size):
            at = np.uintp(4) * j
            out[j] = (row[at] + row[at + np.uintp(1)]) + (row[at + np.uintp(2)] + row[at + np.uintp(3)])
    elif factor == 2:
        for j in range(size):
            out[j] = row[np.uintp(2) * j] + row[np.uintp(2) * j + np.uintp(1)]
    else:
        for j in range(out.size):
            out[j] = np.float32(0)
            for k in range(factor):
                out[j] += row[j * factor + k]
