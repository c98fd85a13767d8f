"""Sums over the columns of cut chips."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from ftrack.kernels.sliding import (
    COLUMNS,
    LINES,
    ROOM,
    count_columns,
    measure_part,
    measure_secondary,
    measure_whole,
    sum_columns,
    sum_secondary,
)

PITCH = 160
COUNT = 37


@njit
def means_of_secondary(image, rows, start, width, rooms, out):
    """Fill means and inverse spreads of boxes of some rows of an image, going on from boxes that begin at ``start``."""
    count_columns(rooms, (0, width), (0, 0, 0), COUNT)
    for top in range(start, rows[0] + 1):
        sum_secondary(image, (top - rows[0]) * PITCH, PITCH, rows, top == start, COUNT + width - 1, rooms)
        measure_secondary((rows[1] - rows[0], width), COUNT, 1.0, out, (0, PITCH), rooms)


@njit
def count(columns, offsets, count, rooms):
    count_columns(rooms, columns, offsets, count)


@njit
def sums_of_reference(image, chip, steps, offsets, rooms):
    """Fill sums and inverse spreads of a chip at every offset, its rows being added in steps; return those of the whole chip."""
    first, last, left, count = offsets
    known = (0, 0)
    for top, bottom in steps:
        known = sum_columns(image, (0, PITCH), (top, bottom, chip[2], chip[3]), known, rooms)
    count_columns(rooms, chip[2:], (first - left, last - left, count), count)
    measure_part((chip[1] - chip[0], chip[2], chip[3]), offsets, 1.0, rooms)
    return measure_whole(chip[1] - chip[0], chip[3] - chip[2], 1.0, rooms)


def rooms() -> tuple[np.ndarray, np.ndarray, int]:
    return np.full(ROOM * PITCH, np.nan), np.full(LINES * PITCH, np.nan, np.float32), PITCH


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 2.0, (20, PITCH)).astype(np.float32)


def inverse_spread(box: np.ndarray) -> float:
    return float(1 / np.sqrt(((box - box.mean()) ** 2).sum()))


@pytest.mark.parametrize("width", [1, 2, 7, 16, 26, 32, 58])
@pytest.mark.parametrize("start", [0, 3, 5])
def test_boxes_beside_each_other_have_their_means_and_spreads(width: int, start: int) -> None:
    image, out = noise(width), np.empty(2 * PITCH, np.float32)
    means_of_secondary(image.ravel(), (5, 16), start, width, rooms(), out)
    for x in range(COUNT):
        box = image[5:16, x : x + width].astype(float)
        assert out[x] == pytest.approx(box.mean(), rel=1e-5, abs=1e-6)
        assert out[PITCH + x] == pytest.approx(inverse_spread(box), rel=1e-5)


@pytest.mark.parametrize("edges", [(0, 60), (8, 60), (-60, 20), (9, 25), (-70, -45), (90, 99)])
def test_the_part_of_a_chip_that_is_compared_has_its_sum_and_spread(edges: tuple[int, int]) -> None:
    image, room = noise(1), rooms()
    left = -11
    one, inverse = sums_of_reference(image.ravel(), (3, 14, 2, 30), ((7, 9), (5, 14), (3, 14)), (*edges, left, COUNT), room)
    chip = image[3:14, 2:30].astype(float)
    assert (one, inverse) == (pytest.approx(chip.sum(), rel=1e-6), pytest.approx(inverse_spread(chip), rel=1e-6))
    for k in range(COUNT):
        box = image[3:14, max(2, edges[0] - left - k) : max(min(30, edges[1] - left - k), 0)].astype(float)
        if box.size:
            assert room[1][k] == pytest.approx(box.sum(), rel=1e-5, abs=1e-4)
            assert room[1][PITCH + k] == pytest.approx(inverse_spread(box), rel=1e-5)
        else:
            assert room[1][PITCH + k] == 0


def test_columns_that_the_secondary_lacks_do_not_count() -> None:
    room = rooms()
    count((2, 10), (5, 12, 7), 9, room)
    counts = room[0][COLUMNS * PITCH :].reshape(2, PITCH)[:, :9]
    assert counts[0].tolist() == [5, 6, 7, 7, 6, 5, 4, 8, 8]
    np.testing.assert_allclose(counts[1], 1 / counts[0])


def test_a_spread_that_is_lost_is_no_number_and_one_without_texture_is_zero() -> None:
    image, out = noise(0), np.empty(2 * PITCH, np.float32)
    image[:, 15:25] += np.float32(100)
    image[:, 25:] = 0
    means_of_secondary(image.ravel(), (5, 16), 5, 6, rooms(), out)
    assert np.isnan(out[PITCH + 17])
    assert out[PITCH + 30] == 0
    assert out[PITCH + 3] > 0
