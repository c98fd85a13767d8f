"""Fill small holes in a field of vectors from the measured nodes that surround them."""

from __future__ import annotations

import math

import numpy as np

from ftrack.kernels.compiled import filling, inner, shared
from ftrack.kernels.outliers import bring, centre_of, median, window

NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@inner
def _surrounded(usable: np.ndarray, y: int, x: int, box: tuple[int, int, int, int], least: int) -> bool:
    """Tell whether a node has enough usable neighbours and lies inside their hull.

    It does if, turning from any neighbour to the left, another one comes before half a turn.
    """
    top, bottom, left, right = box
    there = 0
    for row in range(top, bottom):
        for column in range(left, right):
            there += usable[row, column]
    if there < least:
        return False
    for row in range(top, bottom):
        for column in range(left, right):
            if not usable[row, column]:
                continue
            down, across = row - y, column - x
            found = False
            for other in range(top, bottom):
                for beside in range(left, right):
                    found |= usable[other, beside] and across * (other - y) > down * (beside - x)
            if not found:
                return False
    return True


@shared
def _typical(error: np.ndarray, usable: np.ndarray, box: tuple[int, int, int, int], scratch: np.ndarray) -> float:
    """Return the median error of the usable nodes of a window; NaN if none has one."""
    top, bottom, left, right = box
    count = 0
    for row in range(top, bottom):
        for column in range(left, right):
            if usable[row, column] and math.isfinite(error[row, column]):
                scratch[count] = error[row, column]
                count += 1
    return median(scratch, count)


def fill_holes(
    vectors: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    usable: np.ndarray,
    wanted: np.ndarray,
    radius: int,
    least: int,
    max_scatter: float,
    filled: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Estimate the vector of each wanted node from its neighbours, where they surround it and agree.

    The neighbours are brought to the node along the slope of the field, and their median is taken. Its error is
    their scatter and their median error in quadrature, not divided by their number: neighbours share pixels.

    Parameters
    ----------
    vectors : four float32 (y, x)
        dx, dy and their errors, px.
    usable, wanted : bool (y, x)
        Nodes with a vector, and nodes to fill.
    radius : int
        Radius of the window, nodes.
    least : int
        Least number of usable neighbours.
    max_scatter : float
        Largest robust scatter of the neighbours in each component, px.
    filled : four float32 (y, x)
        Receive dx, dy and their errors; NaN where nothing is filled.
    """
    scratch = np.empty(2 * (2 * radius + 1) * (2 * radius + 1))
    _fill_holes(vectors, usable, wanted, radius, least, max_scatter, scratch, filled)


@filling
def _fill_holes(vectors, usable, wanted, radius, least, max_scatter, scratch, filled):
    shape = usable.shape
    for y in range(shape[0]):
        for x in range(shape[1]):
            for part in filled:
                part[y, x] = np.nan
            box = window(shape, y, x, radius)
            if not wanted[y, x] or not _surrounded(usable, y, x, box, least):
                continue
            dx, spread_x = centre_of(scratch, bring(vectors[0], usable, y, x, box, scratch))
            dy, spread_y = centre_of(scratch, bring(vectors[1], usable, y, x, box, scratch))
            if NORMAL * max(spread_x, spread_y) > max_scatter:
                continue
            filled[0][y, x], filled[1][y, x] = dx, dy
            filled[2][y, x] = math.hypot(NORMAL * spread_x, _typical(vectors[2], usable, box, scratch))
            filled[3][y, x] = math.hypot(NORMAL * spread_y, _typical(vectors[3], usable, box, scratch))
