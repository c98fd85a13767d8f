"""The peaks of windows of all widths against a plain search."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from ftrack.kernels.lanes import LANES, NONE
from ftrack.kernels.peaks import EXCLUSION, HIGHEST_RATIO, judge_row

WIDTH, HEIGHT = 2 * LANES, 20


@njit
def call(*args):  # type: ignore[no-untyped-def]
    judge_row(*args)


def judge(surface: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """Return what is found in a window of a surface whose first coefficient is that of the offset (-4, 3)."""
    top, bottom, left, right = window
    highest = np.full(HEIGHT, NONE, np.float32)
    highest[top:bottom] = surface[top:bottom, left:right].max(1)
    numbers = np.concatenate([np.full(LANES, NONE, np.float32), surface.ravel(), highest, np.zeros(2 * LANES, np.float32)])
    found = np.full((1, 14), np.nan, np.float32)
    places = (LANES, LANES + surface.size, HEIGHT, WIDTH, -4, 3)
    call(numbers, places, np.ones(1, np.bool_), np.array(window)[:, None], found)
    return found[0]


def search(surface: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """Do the same number by number."""
    top, bottom, left, right = window
    found, part = np.full(14, np.nan, np.float32), surface[top:bottom, left:right]
    y, x = np.unravel_index(part.argmax(), part.shape)
    if part[y, x] == NONE:
        return found
    around = np.pad(part, 1, constant_values=np.float32(NONE))
    second = np.float32(0)
    for v, u in np.ndindex(part.shape):
        if max(abs(v - y), abs(u - x)) > EXCLUSION and part[v, u] >= around[v : v + 3, u : u + 3].max():
            second = max(second, part[v, u])
    near = around[y : y + 3, x : x + 3].ravel()
    rim = y in (0, part.shape[0] - 1) or x in (0, part.shape[1] - 1)
    ratio = min(HIGHEST_RATIO, part[y, x] / second) if second > 0 else HIGHEST_RATIO
    found[:5] = part[y, x], top + y - 4, left + x + 3, ratio, 1 if rim else 2 * (near == NONE).any()
    found[5:] = np.where(near == NONE, np.nan, near)
    return found


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 15, 16, 17, 24])
def test_peaks_are_those_of_a_plain_search(width: int) -> None:
    random, bounds = np.random.default_rng(width), set()
    for k in range(300):
        surface = random.normal(0.1, 0.4, (HEIGHT, WIDTH)).astype(np.float32)
        if k % 2:
            surface = np.round(surface, 1) + np.float32(0)
        surface[random.random(surface.shape) < random.choice([0.0, 0.1, 0.9])] = NONE
        surface[:, -1] = NONE
        top, left = random.integers(0, HEIGHT - 1), random.integers(0, WIDTH - width)
        window = (int(top), int(random.integers(top + 1, HEIGHT + 1)), int(left), int(left) + width)
        found = judge(surface, window)
        np.testing.assert_array_equal(found, search(surface, window))
        bounds.add(float(found[4]))
    assert width < 3 or {0, 1, 2} <= bounds
