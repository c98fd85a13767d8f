"""Which chips are compared with boxes whose means are too large for their spreads."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels.boxes import LEVEL, find_far
from ftrack.kernels.stacked import fill_stacked

ROWS, COLUMNS = 90, 208


@pytest.mark.parametrize("spread", [60.0, 20.0, 3.0])
def test_chips_are_far_whose_windows_hold_a_box_that_is(spread: float) -> None:
    random = np.random.default_rng(0)
    image = random.normal(0.0, 30.0, (ROWS, COLUMNS)).astype(np.float32)
    image[32:46, 100:130] = random.normal(80.0, spread, (14, 30))
    size = ROWS * COLUMNS
    numbers = np.concatenate([image.ravel(), np.zeros(2 * size + 64, np.float32)])
    pieces = np.zeros((1, ROWS), np.int64)
    region = (0, COLUMNS, ROWS, COLUMNS, size, 2 * size)
    fill_stacked(numbers, region, (8,), pieces)
    mean, inverse = numbers[size : 3 * size].reshape(2, ROWS, COLUMNS)
    boxes = np.lib.stride_tricks.sliding_window_view(image.astype(float), (8, 8))
    np.testing.assert_allclose(mean[:-7, :-7], boxes.mean((2, 3)), atol=1e-4)
    is_far = np.abs(mean * inverse) > np.float32(LEVEL / 8)
    span = np.stack([random.integers(k, k + 5, (5, 12)) for k in (0, 5, 0, 5)], 1)
    some, far = random.random((5, 12)) < 0.9, np.zeros((5, 12), np.bool_)
    find_far(numbers, (size, 2 * size, COLUMNS), (2, 3, 15, 8), pieces[0], some, span, far)
    for i, j in np.ndindex(far.shape):
        y, x = 2 + 15 * i, 3 + 15 * j
        window = is_far[y + span[i, 0, j] : y + span[i, 1, j], x + span[i, 2, j] : x + span[i, 3, j]]
        assert far[i, j] == (some[i, j] and window.any())
    assert far.any() == (spread < 60.0)
