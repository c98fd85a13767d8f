"""Which squares of blocks chips need, and strips that follow one another."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels import walk
from ftrack.kernels.find import Windows, everywhere, find_peaks
from ftrack.kernels.layout import lay_out
from ftrack.kernels.rectangles import PLAIN
from ftrack.kernels.squares import in_squares, levels_of, mark_squares
from ftrack.kernels.strip import Shape


@pytest.mark.parametrize(
    ("chips", "spacing", "squares"),
    [((16, 32, 64), 8, True), ((32,), 8, True), ((24, 48), 8, False), ((24,), 6, True), ((30,), 5, False), ((6,), 3, False)],
)
def test_chips_are_squares_of_squares_of_blocks_of_even_side(chips: tuple[int, ...], spacing: int, squares: bool) -> None:
    assert in_squares(lay_out(chips, spacing, 4, 3, 3)) == squares


def test_all_that_a_chip_is_made_of_is_needed_and_nothing_else() -> None:
    layout = lay_out((16, 64), 16, 4, 4, 5)
    assert levels_of(layout) == 3
    random = np.random.default_rng(0)
    mode, kinds, bands = (
        random.choice([0, 1, 2], (2, 6, 7), p=[0.2, 0.3, 0.5]),
        random.integers(0, 2, (6, 8)),
        random.integers(0, 3, (6, 7)),
    )
    shape = Shape(layout.side, layout.step, *layout.shape, 1, 1, 2, 8, -4, 10)
    span = np.zeros((6, 4, 7), np.int64)
    span[:, 0], span[:, 1], span[:, 2], span[:, 3] = np.where(bands == 1, 4, -1), np.where(bands == 0, 4, 5), 10, 11
    todo, moved = np.empty((2, 4, 5), np.bool_), np.empty((4, 4, 5), np.int64)
    needed = np.zeros((2, *layout.shape), np.uint8)
    mark_squares(mode.astype(np.uint8), span, kinds, (1, 2, 3, 1, 2), shape, (np.array([-1, 0, -1, 1]), layout.starts), todo, moved, needed)
    np.testing.assert_array_equal(todo, (mode[:, 1:5, 2:] == PLAIN) & (kinds[2:, 3:] == 1))
    np.testing.assert_array_equal(moved, span[1:5, :, 2:] - np.array([-4, -4, 10, 10])[:, None])
    here = bands[1:5, 2:]
    assert todo.any()
    todo = np.stack([todo & (here != 1), todo & (here != 0)])
    direct = np.zeros_like(needed)

    def mark(part: int, level: int, row: int, column: int) -> None:
        direct[part, row, column] = max(direct[part, row, column], level + 1)
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)) if level else ():
            mark(part, level - 1, row - down * (1 << level - 1), column - right * (1 << level - 1))

    for part, c, n, m in zip(*np.nonzero(todo), strict=True):
        end = int(layout.starts[c] + layout.counts[c]) - 1
        mark(int(part), (1, 3)[c], end + int(n) * layout.step, end + int(m) * layout.step)
    np.testing.assert_array_equal(needed, direct)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("cache", [1, 300_000])
def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch, cache: int, own: bool) -> None:
    layout = lay_out((16, 32), 8, 7, 4, 30)
    height, width = (n * layout.side for n in layout.shape)
    random = np.random.default_rng(3)
    reference = random.normal(size=(height, width)).astype(np.float32)
    secondary = random.normal(size=(height + 14, width + 14)).astype(np.float32)
    secondary[5 : 5 + height, 9 : 9 + width] += reference
    secondary[:, :12] = np.nan
    windows = everywhere(layout)
    if own:
        windows = Windows(*(random.integers(*limits, windows.dy.shape) for limits in ((-3, 4), (-3, 4), (1, 5))))
    wanted = random.random(windows.dy.shape) < 0.9
    monkeypatch.setattr(walk, "CACHE", 10**9)
    whole = find_peaks(reference, secondary, layout, windows, 0.6, wanted)
    monkeypatch.setattr(walk, "CACHE", cache)
    cut = find_peaks(reference, secondary, layout, windows, 0.6, wanted)
    assert np.isfinite(whole.peak).sum() > 100
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(one, other)


def test_windows_of_other_nodes_make_no_difference() -> None:
    layout = lay_out((16, 32), 8, 30, 12, 12)
    height, width = (n * layout.side for n in layout.shape)
    random = np.random.default_rng(3)
    reference = random.normal(size=(height, width)).astype(np.float32)
    secondary = random.normal(size=(height + 60, width + 60)).astype(np.float32)
    narrow = random.random((12, 12)) < 0.7
    windows = Windows(np.zeros((12, 12), np.int64), np.where(narrow, 8, 0), np.where(narrow, 6, 30))
    among = find_peaks(reference, secondary, layout, windows, 0.6, np.ones_like(narrow))
    alone = find_peaks(reference, secondary, layout, windows, 0.6, narrow)
    for one, other in zip(among, alone, strict=True):
        np.testing.assert_array_equal(one[:, narrow], other[:, narrow])
