"""Means and spreads of the boxes of chips, put together from rows and columns."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels.stacked import LENGTH, fill_stacked, lengths_for

ROWS, COLUMNS = 80, 96


@pytest.mark.parametrize("sizes", [(8,), (4, 6, 10), (8, 12, 16), (14,), (16, 32, 64)])
@pytest.mark.parametrize("brightness", [0.0, 300.0])
def test_means_and_spreads_are_those_of_the_boxes(sizes: tuple[int, ...], brightness: float) -> None:
    image = np.random.default_rng(1).normal(brightness, 3.0, (ROWS, COLUMNS)).astype(np.float32)
    size = ROWS * COLUMNS
    numbers = np.concatenate([image.ravel(), np.zeros(2 * len(sizes) * size + 64, np.float32)])
    far = np.zeros((len(sizes), ROWS), np.int64)
    fill_stacked(numbers, (0, COLUMNS, ROWS, COLUMNS, size, (1 + len(sizes)) * size), sizes, far)
    mean, inverse = numbers[size : (1 + 2 * len(sizes)) * size].reshape(2, len(sizes), ROWS, COLUMNS)
    for chip, side in enumerate(sizes):
        boxes = np.lib.stride_tricks.sliding_window_view(image.astype(float), (side, side))
        inside = (chip, slice(ROWS - side + 1), slice(COLUMNS - side + 1))
        np.testing.assert_allclose(mean[inside], boxes.mean((2, 3)), rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(inverse[inside], 1 / np.sqrt(side**2 * boxes.var((2, 3))), rtol=1e-5)
        assert (far[chip, : ROWS - side + 1] != 0).all() == (brightness > 0)


@pytest.mark.parametrize("sizes", [(4,), (6, 10), (8, 12, 16), (32, 64), (30, 70, 512)])
def test_lines_are_made_of_lines_that_are_there_before(sizes: tuple[int, ...]) -> None:
    chain = lengths_for(sizes)
    assert set(sizes) <= set(chain[:, LENGTH]) and chain[0, LENGTH] == 1
    for k, (length, first, second) in enumerate(chain[1:].tolist(), 1):
        assert max(first, second) < k and chain[first, LENGTH] + chain[second, LENGTH] == length
