"""Which peaks are certain, and which chips need not be searched because a smaller one is.

The smallest chip that is certain is taken, and the next larger confirms it. So where one is both, of the next larger only the place of
its peak matters, not how far the second is below it, and no chip beyond those does.
"""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import inner

# The codes of ftrack.schema.Status, as compiled code needs them.
MEASURED, EDGE, LOW_CORRELATION, AMBIGUOUS, SEARCH_LIMIT = 0, 3, 5, 6, 7

AGREEMENT = 1.5
"""A chip is confirmed where the peak of the next larger chip lies within this many pixels of its own."""

NEVER = (np.inf, np.inf)
"""Limits under which no peak is certain, so that all chips are searched."""


@inner
def judge_peak(peak, ratio, bounded, limits):
    """Say whether a peak can be trusted by itself, or why not; ``limits`` = (least correlation, least peak ratio)."""
    said = MEASURED
    if peak < limits[0]:
        said = LOW_CORRELATION
    elif bounded == 1:
        said = SEARCH_LIMIT
    elif bounded == 2:
        said = EDGE
    elif ratio < limits[1]:
        said = AMBIGUOUS
    return said


@inner
def agree(dy, dx):
    """Say whether two peaks, so far from each other, confirm each other."""
    return max(abs(dy), abs(dx)) <= AGREEMENT


def _settles(peak, ratio, bounded, dy, dx, limits):
    """Say, of numbers or arrays, whether a peak is certain by `judge_peak` and one so far from it confirms it."""
    return (peak >= limits[0]) & (ratio >= limits[1]) & (bounded == 0) & (abs(dy) <= AGREEMENT) & (abs(dx) <= AGREEMENT)


_settled = inner(_settles)


@inner
def is_settled(found, c, i, j, limits):
    """Say whether a chip is certain and the next larger one confirms it; see ``ftrack.kernels.tiles.Result``."""
    one, other = found[c, i, j], found[c + 1, i, j]
    return _settled(one[0], one[3], one[4], one[1] - other[1], one[2] - other[2], limits)


def leave_out(found: np.ndarray, corner: tuple[int, int], limits: tuple[float, float], todo: np.ndarray) -> None:
    """Leave chips out, bool (chip, row, column), where a smaller one is settled, of nodes from the row and column of a corner on."""
    chips, rows, columns = todo.shape
    here = found[:, corner[0] : corner[0] + rows, corner[1] : corner[1] + columns]
    exact = tuple(np.float64(limit) for limit in limits)
    for c in range(chips - 2):
        peak, dy, dx, ratio, bounded = np.moveaxis(here[c, ..., :5], -1, 0)
        todo[c + 2 :] &= ~_settles(peak, ratio, bounded, dy - here[c + 1, ..., 1], dx - here[c + 1, ..., 2], exact)
