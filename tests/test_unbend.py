"""From means over chips to centres: curved fields are followed, noise is drawn together and no more is believed than is there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from ftrack.kernels.layout import Layout, lay_out
from ftrack.kernels.normal import PLANES, XX, YY, N
from ftrack.kernels.solve import FIELDS
from ftrack.matchers import unbend as module
from ftrack.matchers.unbend import noise_of, reach_of, unbend, widening_of


class Solved(NamedTuple):
    """Solutions of chips of one size on ground whose texture is alike everywhere."""

    layout: Layout
    sums: np.ndarray
    solved: np.ndarray
    centres: np.ndarray


def solve(pixels: np.ndarray, chip: int, spacing: int, error: float) -> Solved:
    """Return the means of a field (2, y, x) over chips, and the field at their centres."""
    rows, columns = ((n - chip) // spacing + 1 for n in pixels.shape[1:])
    layout = lay_out((chip,), spacing, 0, rows, columns)
    sums = np.zeros((*layout.shape, PLANES))
    sums[..., [N, XX, YY]] = layout.side**2
    total = np.pad(pixels.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    top, left = spacing * np.arange(rows)[:, None], spacing * np.arange(columns)
    means = total[:, top + chip, left + chip] - total[:, top, left + chip] - total[:, top + chip, left] + total[:, top, left]
    solved = np.zeros((FIELDS, rows, columns))
    solved[:2], solved[2:4], solved[[6, 8, 9]] = means / chip**2, error, chip**2
    around = pixels[:, (top + chip // 2)[..., None, None] - [[1], [0]], (left + chip // 2)[..., None, None] - [1, 0]]
    return Solved(layout, sums, solved, around.mean((-1, -2)))


def unbent(one: Solved, known: np.ndarray | None = None) -> np.ndarray:
    shape = one.solved.shape[1:]
    known = np.ones(shape, np.bool_) if known is None else known
    out = one.solved.copy()
    out[:, ~known] = np.nan
    unbend(one.sums, one.layout, np.zeros((2, *shape)), np.zeros(shape, np.int8), known, out)
    return out


def inner(values: np.ndarray, chip: int, spacing: int) -> np.ndarray:
    """Leave out the nodes that lack neighbours."""
    margin = reach_of((chip,), spacing).margin
    return values[:, margin:-margin, margin:-margin]


def wave(length: float, size: int = 512) -> np.ndarray:
    """Return a field that goes up and down by one pixel across."""
    at = np.arange(size) + 0.5
    return np.stack(np.broadcast_arrays(np.sin(2 * np.pi * at / length), 0.3 * np.cos(2 * np.pi * at[:, None] / length)))


@pytest.mark.parametrize(("chip", "spacing"), [(32, 8), (32, 4), (16, 8), (32, 16)])
def test_a_field_that_bends_is_followed(chip: int, spacing: int) -> None:
    one = solve(wave(4.0 * chip), chip, spacing, 1e-4)
    before, after = (inner(part - one.centres, chip, spacing) for part in (one.solved[:2], unbent(one)[:2]))
    assert np.abs(before).max() > 0.09
    assert np.abs(after).max() < 0.25 * np.abs(before).max()


def test_what_noise_explains_is_not_followed_and_its_error_stays_honest() -> None:
    one = solve(0.02 * wave(4.0 * 32), 32, 8, 0.5)
    found = unbent(one)
    assert np.abs(found[:2]).max() < 0.02
    assert found[2:4].max() < 0.35


@pytest.mark.parametrize("doubt", [1e9, 0.0])
@pytest.mark.parametrize(("chip", "spacing"), [(32, 8), (16, 8), (32, 32)])
def test_noise_is_as_large_as_told(chip: int, spacing: int, doubt: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOUBT", doubt)
    one = solve(np.random.default_rng(0).normal(size=(2, 1400, 1400)), chip, spacing, 1.0 / chip)
    noise = noise_of(chip, spacing, one.layout.side)
    scatter = inner(unbent(one)[:2], chip, spacing).std() * chip
    assert scatter**2 == pytest.approx(noise.held[-1] if doubt == 0.0 else noise.held[0], rel=0.15)


def test_noise_that_is_not_believed_is_seen_as_told() -> None:
    for chip, spacing in ((32, 8), (16, 8), (64, 8), (32, 32)):
        noise = noise_of(chip, spacing, lay_out((chip,), spacing, 0, 3, 3).side)
        assert 0.0 <= noise.seen[0] <= noise.seen[1] < 1.0
        assert 0.0 < noise.held[0] <= noise.held[1] <= noise.held[2]


def test_errors_of_noise_are_as_large_as_its_scatter() -> None:
    one = solve(np.random.default_rng(1).normal(size=(2, 1400, 1400)), 32, 8, 1.0 / 32)
    found = unbent(one)
    ratio = inner(found[:2] / found[2:4], 32, 8)
    assert 0.85 < ratio.std() < 1.1
    assert inner(found[:2], 32, 8).std() < 0.75 / 32


def test_errors_grow_where_the_field_bends_more_than_is_resolved() -> None:
    at, chip, spacing = np.arange(800) + 0.5, 32, 8
    pixels = np.stack(np.broadcast_arrays(np.where(at < 396, 0.0, 2.0), 0.0 * at[:, None]))
    one = solve(pixels + np.random.default_rng(2).normal(scale=0.5, size=pixels.shape), chip, spacing, 0.5 / chip)
    found, centre = unbent(one), chip // 2 + spacing * np.arange(one.solved.shape[2])
    off, stated = (inner(part, chip, spacing) for part in (found[:1] - np.where(centre < 396, 0.0, 2.0), found[2:3]))
    away = np.abs(centre[reach_of((chip,), spacing).margin :][: off.shape[2]] - 396)
    near = (away > 8) & (away < 40)
    assert np.sqrt(np.mean(off[..., near] ** 2)) > 3.0 * np.sqrt(np.mean(off[..., away > 60] ** 2))
    assert stated[..., near].mean() > 0.7 * np.sqrt(np.mean(off[..., near] ** 2))
    assert stated[..., near].mean() > 5.0 * np.median(stated)


def test_nodes_that_are_not_known_are_left_alone_and_say_nothing() -> None:
    one = solve(wave(128.0, 400), 32, 8, 1e-3)
    known = np.random.default_rng(3).random(one.solved.shape[1:]) < 0.9
    found, lied = unbent(one, known), one.solved.copy()
    assert np.isnan(found[:, ~known]).all()
    assert np.isfinite(found[:4, known]).all()
    lied[:2, ~known] += 50.0
    np.testing.assert_array_equal(unbent(one._replace(solved=lied), known)[:, known], found[:, known])


def test_a_linear_field_stays() -> None:
    y, x = np.mgrid[:400, :400] + 0.5
    one = solve(np.stack([0.01 * x - 0.02 * y, 0.005 * x]), 32, 8, 0.01)
    np.testing.assert_allclose(inner(unbent(one)[:2], 32, 8), inner(one.centres, 32, 8), atol=1e-9)


def test_the_bits_of_a_node_depend_on_its_neighbours_alone() -> None:
    rng = np.random.default_rng(4)
    one = solve(wave(128.0, 600) + rng.normal(scale=0.3, size=(2, 600, 600)), 32, 8, 0.01)
    margin, whole = reach_of((32,), 8).margin, unbent(one)
    size = 2 * margin + 5
    cut = (slice(None), slice(9, 9 + size), slice(14, 14 + size))
    blocks = (slice(9, 9 + size + 3), slice(14, 14 + size + 3))
    part = unbent(Solved(lay_out((32,), 8, 0, size, size), one.sums[blocks].copy(), one.solved[cut].copy(), one.centres))
    np.testing.assert_array_equal(inner(part, 32, 8), inner(whole[cut], 32, 8))


def test_noise_that_is_drawn_together_is_shared_farther() -> None:
    one, node = solve(np.random.default_rng(5).normal(size=(2, 1500, 1500)), 32, 8, 1.0 / 32), 12
    after = inner(unbent(one)[:2], 32, 8)
    before = inner(one.solved[:2], 32, 8)
    count = [n // node for n in after.shape[1:]]
    means = [
        part[:, : count[0] * node, : count[1] * node].reshape(2, count[0], node, count[1], node).mean((2, 4)).std()
        for part in (before, after)
    ]
    assert means[1] == pytest.approx(means[0], rel=0.1)
    assert widening_of((32,), 8) == pytest.approx(before.std() / after.std(), rel=0.1)
    assert widening_of((16, 32, 64), 8) > 1.2


@pytest.mark.parametrize(("power", "least", "most"), [(1.0, 1.0, 1.15), (4.0, 3.0, 5.0)])
def test_noise_like_the_ground_counts_as_far_as_it_is_more_than_chance(power: float, least: float, most: float) -> None:
    one = solve(np.zeros((2, 344, 344)), 32, 8, 1.0 / 32)
    plain = unbent(one)[2:4]
    # The mean of the neighbourhood has its share of the noise of each block.
    share = 1.0 - noise_of(32, 8, 8).held[0] / 16
    one.solved[10:12] = np.sqrt(power * share) * np.random.default_rng(2).normal(size=(2, 40, 40))
    colour = np.square(unbent(one)[2:4] / plain)
    assert colour.min() >= 1.0
    assert least <= colour.mean() <= most
