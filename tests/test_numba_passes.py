"""Kernels are compiled by fewer passes than Numba's own, and compute the same."""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.core.runtime import _nrt_python, rtsys

from ftrack.kernels.compiled import compiled, filling, inner
from ftrack.kernels.numba_passes import QuickFlags


@inner
def _first_even(values, start):
    """Return two at once, from several places, out of a loop."""
    for k in range(start, values.size):
        if values[k] % 2 == 0:
            return k, values[k] ** 2
    return -1, 0


@compiled
def _pairs_of_even(values):
    """Call what is inlined twice, once in a loop, with names that both have."""
    k, total = 0, 0
    while k >= 0 and k < values.size:
        k, square = _first_even(values, k)
        if k < 0:
            break
        total += square
        k += 1
    first, _ = _first_even(values, 0)
    return first, total


@compiled
def _row_above(rows):
    """Make arrays in a loop, by an expression of arrays and one of numbers."""
    kept = np.zeros(rows.shape[1])
    for y in range(rows.shape[0]):
        part = rows[y] * 2.0 + 1.0
        if part[0] < 0:
            continue
        kept = np.maximum(kept, part)
    return kept


def test_an_inlined_function_is_the_same_wherever_it_is_called() -> None:
    values = np.array([3, 4, 5, 8, 1])
    assert _pairs_of_even(values) == (1, 16 + 64)
    assert _pairs_of_even(np.array([1, 3])) == (-1, 0)


def test_arrays_that_a_kernel_makes_are_counted() -> None:
    rows = np.arange(12.0).reshape(4, 3) - 4
    assert np.array_equal(_row_above(rows), np.maximum(2 * rows + 1, 0).max(0))
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    for _ in range(5):
        _row_above(rows)
    after = rtsys.get_allocation_stats()
    assert after.alloc - before.alloc == after.free - before.free > 0


def test_loops_that_go_on_early_give_what_numba_gives() -> None:
    def strange(values, out):
        for y in range(values.shape[0]):
            total = 0.0
            for x in range(values.shape[1]):
                if values[y, x] < 0:
                    continue
                if values[y, x] > 5:
                    break
                total += values[y, x] / (x + 1)
            else:
                total = -total
            out[y] = total

    values = np.random.default_rng(0).normal(2, 2, (20, 9))
    ours, theirs = np.empty((2, 20))
    filling(strange)(values, ours)
    njit(error_model="numpy")(strange)(values, theirs)
    assert np.array_equal(ours, theirs) and (ours != 0).any()


def test_options_of_the_compiler_differ_where_they_did() -> None:
    one, same, other = QuickFlags(), QuickFlags(), QuickFlags()
    other.nrt = True
    assert one == same and hash(one) == hash(same) and one != other and other == other.copy()
