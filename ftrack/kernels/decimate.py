"""Images whose pixels are the means of squares of pixels."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import compiled


@compiled
def decimate(image, factor, out):
    """Fill the mean of the valid pixels of every square of ``factor`` by ``factor``.

    Parameters
    ----------
    image : float32 (y, x)
        NaN = no data.
    factor : int
        Side of the squares, px.
    out : float32 (y / factor, x / factor)
        Result; NaN where fewer than half of the pixels are valid.
    """
    total, count = np.zeros(out.shape[1]), np.zeros(out.shape[1], np.int32)
    for i in range(out.shape[0]):
        total[:], count[:] = 0.0, 0
        for y in range(i * factor, (i + 1) * factor):
            row = image[y]
            for j in range(out.shape[1]):
                for x in range(j * factor, (j + 1) * factor):
                    value = row[x]
                    if value == value:
                        total[j] += value
                        count[j] += 1
        for j in range(out.shape[1]):
            out[i, j] = total[j] / count[j] if 2 * count[j] >= factor * factor else np.nan
