"""Rectangles of valid pixels."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.moments import summed
from ftrack.kernels.rectangles import find_bounds, find_rectangles

EVERYWHERE = np.ones((1, 1, 1), np.bool_)


def rectangles(reference: np.ndarray, secondary: np.ndarray) -> tuple[bool, list[int]]:
    """Return whether a chip of 8 px at (4, 4), compared with what lies up to 2 px around it, has gaps, and its rectangles."""
    gaps, rims = np.zeros((1, 1, 1), np.bool_), np.zeros((1, 1, 1, 8), np.int32)
    span, one = np.array([[[-2], [3], [-2], [3]]]), np.array([1])
    find_rectangles(summed(reference), summed(secondary), (4, 4, 1, 2 * one, one), span, EVERYWHERE, gaps, rims)
    return bool(gaps[0, 0, 0]), rims[0, 0, 0].tolist()


def test_what_is_valid_is_said_where_it_is_a_rectangle() -> None:
    full, wide = np.ones((12, 12), np.bool_), np.ones((20, 20), np.bool_)
    assert rectangles(full, wide) == (False, [0] * 8)
    cut = wide.copy()
    cut[:9], cut[:, 17:] = False, False
    assert rectangles(full, cut) == (True, [0, 8, 0, 8, 1, 10, -2, 9])
    cut[12, 12] = False
    assert rectangles(full, cut) == (True, [0] * 8)
    full[:, :6] = False
    assert rectangles(full, wide) == (True, [0, 8, 2, 8, -2, 10, -2, 10])
    assert rectangles(full, np.zeros_like(wide)) == (True, [0] * 8)


def test_the_smallest_rectangle_that_holds_all_numbers_is_found() -> None:
    image = np.full((9, 12), np.nan, np.float32)
    assert find_bounds(image) == (0, 0, 0, 0)
    image[2, 5], image[6, 3] = 0.0, -1.0
    assert find_bounds(image) == (2, 7, 3, 6)
