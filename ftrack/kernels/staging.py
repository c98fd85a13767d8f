"""Windows of images as they are drawn back: where they lie, what lies beyond the edges, and how bright they are."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import inner, shared


@inner
def beyond(shape, y, x, size):
    """Say whether no pixel of a part lies in an image, or none that has neighbours on all sides."""
    return y >= shape[0] - 1 or x >= shape[1] - 1 or y + size[0] <= 1 or x + size[1] <= 1


@inner
def stage(pixels, shape, y, x, rows, columns, room):
    """Return where a window of an image lies, in the image itself or, with what lies beyond its edges missing, in a copy."""
    if y >= 0 and x >= 0 and y + rows <= shape[0] and x + columns <= shape[1]:
        return pixels, y * shape[1] + x, shape[1]
    _copy(pixels, shape, y, x, rows, columns, room)
    return room, 0, columns


@shared
def _copy(pixels, shape, y, x, rows, columns, room):
    for i in range(rows):
        for j in range(columns):
            inside = 0 <= y + i < shape[0] and 0 <= x + j < shape[1]
            room[i * columns + j] = pixels[(y + i) * shape[1] + x + j] if inside else np.float32(np.nan)


@inner
def level(pixels, at, step, size):
    """Return about the brightness of an image in a part: that of its middle, or of its first pixel that is there, or NaN."""
    value = pixels[at + size[0] // 2 * step + size[1] // 2]
    return value if np.isfinite(value) else _first_level(pixels, at, step, size)


@shared
def _first_level(pixels, at, step, size):
    for y in range(size[0]):
        for x in range(size[1]):
            value = pixels[at + y * step + x]
            if np.isfinite(value):
                return value
    return np.float32(np.nan)
