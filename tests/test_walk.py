"""Nodes whose windows lie near each other are worked on together, and find the same."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels import walk
from ftrack.kernels.find import Peaks, Windows, find_peaks
from ftrack.kernels.layout import lay_out
from ftrack.synthetic import shifted_pair

NODES = (46, 47)


def search(shift: int) -> Peaks:
    """Search around ``shift`` px down and right on the right, and around zero elsewhere."""
    layout = lay_out((16, 32), 8, 20, *NODES)
    size = layout.shape[0] * layout.side + 40
    pair = shifted_pair((size, size + 8), (1.0, 2.0), noise=0.3)
    moved = np.where(np.arange(NODES[1]) > 20, shift, 0) * np.ones(NODES, int)
    windows = Windows(moved, moved // 2 - 1, np.full(NODES, 4))
    wanted = np.random.default_rng(0).random(NODES) > 0.02
    return find_peaks(pair.reference[20:-20, 20:-20], pair.secondary, layout, windows, 0.6, wanted)


@pytest.mark.parametrize("shift", [0, 5, 11])
def test_parts_find_what_the_cell_finds(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    measure = walk._measure_part
    monkeypatch.setattr(walk, "_measure_part", lambda *given: (calls.append(given[2][0]), measure(*given)))
    parts = search(shift)
    several = len(calls)
    monkeypatch.setattr(walk, "LEAST", 10**6)
    whole = search(shift)
    assert several == (1 if shift == 0 else 2)
    assert len(calls) == several + 1
    assert np.isfinite(parts.peak).mean() > 0.9
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("groups", [1, 3, walk.MOST, walk.MOST + 1])
def test_nodes_are_told_apart_by_their_windows_unless_there_are_too_many_kinds(groups: int) -> None:
    kind = np.random.default_rng(0).integers(0, groups, (30, 40))
    span = np.stack([20 * kind - 3, 20 * kind + 4, 7 - 20 * kind, 14 - 20 * kind], 1)
    mode = np.ones((1, 30, 40), np.uint8)
    mode[0, :, :3] = 0
    kinds, parts = np.empty((20, 40), np.int64), np.empty((walk.MOST, 9), np.int64)
    many = walk.tell_apart(mode, span, (10, 30, 0, 40), 100, kinds, parts)
    assert many == (groups if groups <= walk.MOST else 1)
    assert (kinds[:, :3] == -1).all()
    for part in range(many if many > 1 else 0):
        rows, columns = np.nonzero(kinds == part)
        own = kind[10 + rows[0], columns[0]]
        np.testing.assert_array_equal((kind[10:] == own) & (mode[0, 10:] == 1), kinds == part)
        edges = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1, *span[10 + rows[0], :, columns[0]])
        np.testing.assert_array_equal(parts[part, 1:], edges)
    assert many > 1 or (kinds[:, 3:] == 0).all()
