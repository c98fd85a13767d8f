"""Products of blocks by pairs of rows against plain sums."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from ftrack.kernels.folded import fold_blocks, pair_products, paired_offsets_for
from ftrack.kernels.lanes import LANES
from ftrack.kernels.vectors import PAIRS

R, S = (40, 64), (70, 128)


@njit
def call(numbers, images, across, folds, *args):  # type: ignore[no-untyped-def]
    fold_blocks(numbers, *images, args[0], across, folds)
    pair_products(numbers, *images, folds, *args)


def numbers_of(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a reference, a secondary, and both in one array with room behind them."""
    rng = np.random.default_rng(seed)
    r, s = rng.normal(3.0, 5.0, R).astype(np.float32), rng.normal(3.0, 5.0, S).astype(np.float32)
    return r, s, np.concatenate([r.ravel(), s.ravel(), np.zeros(10 * 1024, np.float32)])


def multiply(numbers: np.ndarray, side: int, vectors: int, dy: int, above: np.ndarray) -> np.ndarray:
    """Return the sums of the block at (8, 16) with blocks ``dy`` and more rows down, below ``above``."""
    room, pitch, rows = R[0] * R[1] + S[0] * S[1], side + vectors * LANES, side + 2 * PAIRS[vectors] - 2
    kept = room + 1024
    numbers[room : room + 1024], numbers[kept : kept + above.size] = 0, above
    images = (8 * R[1] + 16, R[1], R[0] * R[1] + (8 + dy) * S[1] + 20, S[1])
    fold = kept + 2048
    call(numbers, images, (side, pitch, rows), (fold, fold + side * pitch, pitch), side, vectors, room, kept, kept + 1024)
    above[:] = numbers[kept : kept + above.size]
    return numbers[kept + 1024 : kept + 1024 + above.size].reshape(2 * PAIRS[vectors], vectors * LANES)


@pytest.mark.parametrize("vectors", [1, 2, 3])
@pytest.mark.parametrize("side", [2, 4, 8, 12, 16])
def test_sums_are_those_of_the_block_and_the_one_above(side: int, vectors: int) -> None:
    r, s, numbers = numbers_of()
    shape = (2 * PAIRS[vectors], vectors * LANES)
    above = np.random.default_rng(1).normal(size=shape).astype(np.float32).ravel()
    before = above.copy()
    sums = multiply(numbers, side, vectors, 0, above)
    block = r[8 : 8 + side, 16 : 16 + side].astype(float)
    plain = np.array([[(block * s[8 + g : 8 + g + side, 20 + d : 20 + d + side]).sum() for d in range(shape[1])] for g in range(shape[0])])
    np.testing.assert_allclose(above.reshape(shape), plain, rtol=0, atol=1e-4 * side * side)
    np.testing.assert_array_equal(sums.ravel(), above + before)


@pytest.mark.parametrize("last", [0.0, 2.0])
def test_a_block_of_zeros_takes_the_sums_above_and_leaves_zeros(last: float) -> None:
    r, s, numbers = numbers_of()
    r[8:16, 16:24] = 0
    r[15, 23] = last
    numbers[: r.size] = r.ravel()
    above = np.random.default_rng(1).normal(size=14 * 48).astype(np.float32)
    before = above.copy()
    sums = multiply(numbers, 8, 3, 0, above)
    plain = last * np.array([[s[15 + g, 27 + d] for d in range(48)] for g in range(14)])
    np.testing.assert_allclose(above.reshape(plain.shape), plain, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(sums.ravel(), above + before)


def test_sums_do_not_depend_on_the_first_of_the_offsets_nor_on_how_many_there_are() -> None:
    _, _, numbers = numbers_of()
    wide = multiply(numbers, 8, 3, 0, np.zeros(14 * 48, np.float32)).copy()
    for vectors in (1, 2):
        part = multiply(numbers, 8, vectors, 4, np.zeros(2 * PAIRS[vectors] * vectors * LANES, np.float32))
        np.testing.assert_array_equal(part[:10], wide[4:, : vectors * LANES])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (9, 9), (41, 41), (42, 49), (60, 100)])
def test_parts_hold_all_offsets(height: int, width: int) -> None:
    panels, vectors, bands, rows = paired_offsets_for(height, width)
    assert panels * vectors * LANES >= width > (panels * vectors - panels) * LANES
    assert bands * rows >= height > (bands - 1) * rows
    assert rows % 2 == 0
