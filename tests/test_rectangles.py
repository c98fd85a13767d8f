"""Rectangles of valid pixels."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels.certain import NEVER
from ftrack.kernels.moments import summed
from ftrack.kernels.rectangles import PLAIN, choose_chips, find_bounds

EVERYWHERE = np.ones((1, 1, 1), np.bool_)


def rectangles(reference: np.ndarray, secondary: np.ndarray, bounds: np.ndarray | None = None) -> tuple[bool, list[int]]:
    """Return whether a chip of 8 px at (4, 4), compared with what lies up to 2 px around it, has gaps, and its rectangles.

    If ``bounds`` are given, images are said to have no gaps within these.
    """
    one, two = np.array([1]), np.array([[2]])
    mode, rims = np.zeros((1, 1, 1), np.uint8), np.zeros((1, 1, 1, 8), np.int32)
    totals = [summed(flags) if bounds is None else np.zeros((0, 0), np.int32) for flags in (reference, secondary)]
    bounds = np.array([[-99, 99] * 2] * 2) if bounds is None else bounds
    results = np.zeros((1, 4, 1), np.int64), mode, rims, np.zeros(9, np.int64)
    given = (0 * two, 0 * two, two), (bounds, *totals), (4, 4, 1, 2 * one, one), (EVERYWHERE, EVERYWHERE, ~EVERYWHERE)
    choose_chips(*given, NEVER, np.zeros((0,) * 4, np.float32), *results)
    assert results[0].ravel().tolist() == [-2, 3, -2, 3]
    return bool(mode[0, 0, 0] != PLAIN) or bool(rims.any()), rims[0, 0, 0].tolist()


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


@pytest.mark.parametrize("seed", range(8))
def test_images_without_gaps_are_known_by_their_bounds(seed: int) -> None:
    rng, bounds = np.random.default_rng(seed), np.zeros((2, 4), np.int64)
    images = [np.zeros((12, 12), np.bool_), np.zeros((20, 20), np.bool_)]
    for image, edges, far in zip(images, bounds, (0, 4), strict=True):
        edges[::2], edges[1::2] = rng.integers(0, 7, 2), rng.integers(6, image.shape[0] + 1, 2)
        image[edges[0] : edges[1], edges[2] : edges[3]] = True
        edges -= far
    assert rectangles(*images, bounds) == rectangles(*images)


def test_the_smallest_rectangle_that_holds_all_numbers_is_found() -> None:
    image = np.full((9, 12), np.nan, np.float32)
    assert find_bounds(image) == (0, 0, 0, 0)
    image[2, 5], image[6, 3] = 0.0, -1.0
    assert find_bounds(image) == (2, 7, 3, 6)
