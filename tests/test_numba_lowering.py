"""What is written in short gives what Numba gives by itself: numbers of arrays, sums, products and comparisons."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from ftrack.kernels.compiled import compiled, filling

KINDS = (np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_)


def _read(plane, block, out):
    """Read at constant, counted, unsigned and negative places, of one and of three axes."""
    last = plane.shape[0] - 1
    out[0], out[1], out[2], out[-1] = plane[0, 1], plane[-1, last], plane[np.uintp(1), np.uintp(2)], plane[last, -2]
    row = plane[1]
    for k in range(row.size):
        out[3 + k] = row[k] + block[k % 2, -1, k - 1]


def _write(plane, count):
    """Write numbers of another kind at all sorts of places."""
    plane[0, 0], plane[-1, -1] = 3, count
    for k in range(count):
        plane[k % plane.shape[0], -k - 1 if k < plane.shape[1] else 0] += k
    line = plane[1]
    line[2] = 1.75
    line[-1] = count > 2


def _work_out(a, b, out):
    """Add, subtract, multiply and compare, in place too."""
    for k in range(a.size):
        total = a[k] + b[k]
        total *= a[k] - b[k]
        total -= b[k] * b[k]
        out[0, k] = total
        out[1, k] = (a[k] < b[k]) + 2 * (a[k] <= b[k]) + 4 * (a[k] > b[k]) + 8 * (a[k] >= b[k]) + 16 * (a[k] == b[k]) + 32 * (a[k] != b[k])


def _bits(a, b, out):
    for k in range(a.size):
        value = a[k] & b[k] | (a[k] ^ 5)
        value |= b[k]
        out[k] = value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 2])
def test_numbers_are_read_and_written_at_all_places(kind: type, step: int) -> None:
    rng = np.random.default_rng(3)
    plane = rng.integers(0, 2 if kind is np.bool_ else 90, (4, 5 * step)).astype(kind)[:, ::step]
    block = rng.normal(size=(2, 3, 6))[:, :, ::step][:, :, :3]
    ours, theirs = np.zeros((2, 9))
    compiled(_read)(plane, block, ours)
    njit(_read)(plane, block, theirs)
    assert np.array_equal(ours, theirs) and ours.any()
    if kind is not np.bool_:
        ours, theirs = plane.copy(), plane.copy()
        filling(_write)(ours[:, ::-1], 7)
        njit(_write)(theirs[:, ::-1], 7)
        assert np.array_equal(ours, theirs) and not np.array_equal(ours, plane)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f4", "f4"),
        ("f8", "f8"),
        ("f4", "f8"),
        ("i8", "i8"),
        ("i4", "i8"),
        ("u8", "u8"),
        ("i8", "u8"),
        ("u1", "i8"),
        ("i8", "f4"),
        ("?", "i8"),
    ],
)
def test_numbers_are_worked_out_and_compared(one: str, other: str) -> None:
    a, b = np.array([0, 1, 2, 3, 7, 1], one), np.array([1, 0, 2, 9, 5, 1], other)
    if one[0] == other[0] == "f":
        a[0], b[1], a[4], b[4] = np.nan, np.inf, np.nan, np.nan
    if one[0] == "i":
        a[2:4] = -3, -1
    ours, theirs = np.zeros((2, 2, 6))
    compiled(_work_out)(a, b, ours)
    njit(_work_out)(a, b, theirs)
    assert np.array_equal(ours, theirs, equal_nan=True) and ours[1].all()


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32])
def test_bits_are_joined(kind: type) -> None:
    a, b = np.arange(12).astype(kind), (7 * np.arange(12)).astype(kind)
    ours, theirs = np.zeros((2, 12), np.int64)
    compiled(_bits)(a, b, ours)
    njit(_bits)(a, b, theirs)
    assert np.array_equal(ours, theirs) and ours.any()
