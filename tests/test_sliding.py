"""Sums over the columns of cut chips."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels.sliding import ROOM, begin_secondary, measure_secondary, sum_secondary

PITCH = 96


def secondary(rows: tuple[int, int], start: int, width: int, count: int, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and inverse spreads of boxes of the first rows of an image, going on from those that begin at ``start``."""
    room, out, across = np.empty(ROOM * PITCH), np.empty(2 * PITCH, np.float32), count + width - 1
    begin_secondary(room, PITCH, (0, width), (0, 0, 0), count)
    for top in range(start, rows[0] + 1):
        at = top - rows[0]
        sum_secondary(image.ravel(), at * PITCH, PITCH, rows, top == start, across, room, PITCH)
        measure_secondary(room, PITCH, (rows[1] - rows[0], width), count, 1.0, out, (0, PITCH))
    return out[:count], out[PITCH : PITCH + count]


@pytest.mark.parametrize("width", [1, 2, 7, 16, 26, 32, 58])
@pytest.mark.parametrize("start", [0, 3, 5])
def test_boxes_beside_each_other_have_their_means_and_spreads(width: int, start: int) -> None:
    image = np.random.default_rng(width).normal(1.0, 2.0, (20, PITCH)).astype(np.float32)
    mean, inverse = secondary((5, 16), start, width, 37, image)
    for x in range(37):
        box = image[5:16, x : x + width].astype(float)
        assert mean[x] == pytest.approx(box.mean(), rel=1e-5, abs=1e-6)
        assert inverse[x] == pytest.approx(1 / np.sqrt(((box - box.mean()) ** 2).sum()), rel=1e-5)


def test_columns_that_the_secondary_lacks_do_not_count() -> None:
    room = np.empty(ROOM * PITCH)
    begin_secondary(room, PITCH, (2, 10), (5, 12, 7), 9)
    assert room[9 * PITCH : 9 * PITCH + 9].tolist() == [5, 6, 7, 8, 8, 7, 6, 8, 8]


def test_a_spread_that_is_lost_is_no_number_and_one_without_texture_is_zero() -> None:
    image = np.random.default_rng(0).normal(0.0, 1.0, (20, PITCH)).astype(np.float32)
    image[:, 20:] += np.float32(100)
    image[:, 50:] = 0
    _, inverse = secondary((5, 16), 5, 8, 60, image)
    assert np.isnan(inverse[25])
    assert inverse[55] == 0
    assert inverse[3] > 0
