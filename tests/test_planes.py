"""Arithmetic that is written once: as instructions of a kernel it gives the bits that NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from ftrack.kernels.planes import ALIGNED, LANES, add_lines, each, larger, root, smaller, where


def arithmetic(planes, more):  # type: ignore[no-untyped-def]
    """Use everything there is."""
    a, b = planes[0], planes[1]
    planes[2] = 1.0 + a * b - (2.0 - b) / a + more
    planes[3] = where((a > b) & (b > 0.0), -a, 0.5 * b)
    planes[4] = larger(a, 0.25) + smaller(b, a) - 1.0 / b
    planes[5] = where(root(a) != root(a), planes[2] * planes[3], root(a))
    planes[1] = 3.0


written = each(arithmetic)


@njit
def run(planes, pitch, count, numbers):  # type: ignore[no-untyped-def]
    written(planes, pitch, count, numbers)


@pytest.mark.parametrize("count", [1, LANES, 3 * LANES - 3])
def test_a_kernel_gives_the_bits_of_numpy_and_leaves_the_rest_alone(count: int) -> None:
    pitch = -(-count // LANES) * LANES + 5
    planes = np.random.default_rng(count).normal(size=(6, pitch))
    expected, worked = planes.copy(), -(-count // LANES) * LANES
    with np.errstate(invalid="ignore"):
        arithmetic(expected[:, :worked], 0.7)
    flat = planes.reshape(-1).copy()
    run(flat, pitch, count, (0.7,))
    np.testing.assert_array_equal(flat.reshape(planes.shape), expected)
    assert np.isfinite(expected).all()


@njit
def add(lines, at, step, weights, out, out_at, count):  # type: ignore[no-untyped-def]
    add_lines(lines, at, step, weights, weights.size, out, out_at, count)


@pytest.mark.parametrize("step", [1, 40])
@pytest.mark.parametrize("taps", [1, 2, 7])
def test_lines_are_added_in_their_order(step: int, taps: int) -> None:
    rng, count = np.random.default_rng(taps), 2 * ALIGNED
    lines, weights, out, total = rng.normal(size=400), rng.normal(size=taps), np.full(3 + count + 1, 9.0), np.zeros(count)
    add(lines, 5, step, weights, out, 3, count - 1)
    for k in range(taps):
        total = total + weights[k] * lines[5 + k * step :][:count]
    np.testing.assert_array_equal(out, [9.0, 9.0, 9.0, *total, 9.0])
