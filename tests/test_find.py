"""Products, sums and peaks of the correlation against their plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit
from oracles import correlation_surface, second_maximum
from scipy.ndimage import gaussian_filter

from ftrack.kernels import choose, find, peaks, products
from ftrack.kernels.chain import chain_for, chain_of_pixels
from ftrack.kernels.find import Peaks, Windows, everywhere, find_peaks
from ftrack.kernels.layout import Layout, lay_out
from ftrack.kernels.peaks import EXCLUSION, HIGHEST_RATIO
from ftrack.kernels.vectors import GROUPS, LANES, NONE

WIDTH = 64

block_products, judge_row, fit_axis = (
    njit(part.py_func, error_model="numpy") for part in (products.block_products, peaks.judge_row, choose.fit_axis)
)


def texture(shape: tuple[int, int], seed: int, mean: float = 0.0, spread: float = 100.0) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return (spread * noise / noise.std() + mean).astype(np.float32)


def tile(layout: Layout, seed: int = 0, mean: float = 0.0, spread: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a reference and a secondary that shows it again, moved by (2, 1) px, with other gain and noise."""
    reach = layout.radius
    height, width = (n * layout.side for n in layout.shape)
    shape = (height + 2 * reach, width + 2 * reach)
    world = texture((shape[0] + 4, shape[1] + 4), seed, mean, spread)
    reference = world[reach + 2 : reach + 2 + height, reach + 1 : reach + 1 + width].copy()
    secondary = world[: shape[0], : shape[1]] * np.float32(1.2) + 0.3 * texture(shape, seed + 1, 0.0, spread)
    return reference, secondary.astype(np.float32)


def search(
    layout: Layout, images: tuple[np.ndarray, np.ndarray], windows: Windows | None = None, min_valid: float = 0.6
) -> tuple[Peaks, np.ndarray]:
    """Return peaks and surfaces of all nodes."""
    windows = everywhere(layout) if windows is None else windows
    width = 2 * int(windows.radius.max()) + 1
    keep = np.full((len(layout.counts), layout.rows, layout.columns, width, width), np.nan, np.float32)
    return find_peaks(*images, layout, windows, min_valid, np.ones(keep.shape[1:3], np.bool_), keep), keep


def check(
    layout: Layout, images: tuple[np.ndarray, np.ndarray], windows: Windows | None = None, min_valid: float = 0.6
) -> tuple[Peaks, np.ndarray]:
    """Hold every surface and peak of a tile against the oracle, and return them."""
    windows = everywhere(layout) if windows is None else windows
    peaks, keep = search(layout, images, windows, min_valid)
    reach, largest = layout.radius, int(layout.counts.max()) * layout.side
    reference = np.pad(images[0], reach, constant_values=np.nan)
    for c, i, j in np.ndindex(peaks.peak.shape):
        at, size = (c, i, j), int(layout.counts[c]) * layout.side
        row, column = (reach + largest // 2 + k * layout.step * layout.side for k in (i, j))
        dy, dx, radius = (int(w[i, j]) for w in windows)
        oracle = correlation_surface(reference, images[1], row, column, size, radius, min_valid, (dy, dx))
        found = keep[at][: 2 * radius + 1, : 2 * radius + 1]
        assert np.array_equal(np.isnan(found), np.isnan(oracle))
        assert np.isnan(keep[at]).sum() == np.isnan(oracle).sum() + keep[at].size - oracle.size
        if np.isnan(oracle).all():
            assert np.isnan(peaks.peak[at])
            assert np.isnan(peaks.around[at]).all()
            continue
        np.testing.assert_allclose(found, oracle, rtol=0, atol=1e-5)
        check_peak(peaks, at, found, oracle, (dy - radius, dx - radius))
    return peaks, keep


def check_peak(peaks: Peaks, at: tuple[int, int, int], found: np.ndarray, oracle: np.ndarray, first: tuple[int, int]) -> None:
    """Hold what is said of one peak against its surface."""
    assert peaks.peak[at] == np.nanmax(found)
    y, x = np.unravel_index(np.nanargmax(found), found.shape)
    assert (peaks.dy[at], peaks.dx[at]) == (first[0] + y, first[1] + x)
    assert oracle[y, x] >= np.nanmax(oracle) - 1e-6
    around = np.pad(found, 1, constant_values=np.nan)[y : y + 3, x : x + 3]
    np.testing.assert_array_equal(peaks.around[at], around)
    rim = y in (0, found.shape[0] - 1) or x in (0, found.shape[1] - 1)
    assert peaks.bounded[at] == (1 if rim else 2 if np.isnan(around).any() else 0)
    second = second_maximum(found, EXCLUSION)
    ratio = min(HIGHEST_RATIO, peaks.peak[at] / second) if second > 0 else HIGHEST_RATIO
    assert peaks.ratio[at] == pytest.approx(ratio, rel=1e-6)


def some_windows(layout: Layout, seed: int, far: int, most: int) -> Windows:
    random = np.random.default_rng(seed)
    shape = (layout.rows, layout.columns)
    return Windows(random.integers(-far, far + 1, shape), random.integers(-far, far + 1, shape), random.integers(1, most + 1, shape))


@pytest.mark.parametrize("side", [1, 3, 4, 5, 8, 12, 16])
@pytest.mark.parametrize("vectors", [1, 2, 3])
def test_products_are_the_sums_of_shifted_products(side: int, vectors: int) -> None:
    r, s = texture((40, 40), 1), texture((60, 90), 2)
    group = GROUPS[vectors]
    sums = np.empty(2 + group * LANES * vectors, np.float32)
    block_products(r.ravel(), 3 * 40 + 7, 40, s.ravel(), 5 * 90 + 2, 90, side, vectors, sums, 2)
    block = r[3 : 3 + side, 7 : 7 + side].astype(float)
    for g in range(group):
        for d in range(LANES * vectors):
            direct = (block * s[5 + g : 5 + g + side, 2 + d : 2 + d + side]).sum()
            assert sums[2 + g * LANES * vectors + d] == pytest.approx(direct, rel=1e-4, abs=1e-3 * side * side)


@given(counts=st.sets(st.integers(2, 70), min_size=1, max_size=4), side=st.integers(1, 12))
def test_a_chain_makes_every_chip_of_parts_that_fit_and_come_before(counts: set[int], side: int) -> None:
    chain, of_chip = chain_for(np.array(sorted(counts)))
    pixels, of_box = chain_of_pixels(chain, side)
    for table in (chain, pixels):
        for b, (first, second, right, down, width, height) in enumerate(table.tolist()[1:], 1):
            assert first < b
            assert second < b
            assert (right == 0) != (down == 0)
            one, other = table[first], table[second]
            assert (one[4] + (other[4] if right else 0), one[5] + (other[5] if down else 0)) == (width, height)
            assert (right, down) == ((one[4], 0) if right else (0, one[5]))
    assert [(chain[b, 4], chain[b, 5]) for b in of_chip] == [(n, n) for n in sorted(counts)]
    assert (pixels[of_box, 4:] == side * chain[:, 4:]).all()


@settings(max_examples=15)
@given(
    spacing=st.sampled_from([4, 6, 7, 8, 10, 16, 33]),
    chips=st.sampled_from([(16,), (8, 20), (32,), (16, 32), (24,), (12, 24, 36), (8, 16, 32), (14,)]),
    radius=st.integers(0, 9),
    brightness=st.sampled_from([(0.0, 100.0), (8000.0, 100.0), (1e4, 10.0), (0.0, 1e-4)]),
)
def test_surface_equals_the_double_loop(spacing: int, chips: tuple[int, ...], radius: int, brightness: tuple[float, float]) -> None:
    layout = lay_out(chips, spacing, radius, 2, 3)
    check(layout, tile(layout, spacing, *brightness))


@pytest.mark.parametrize("radius", [17, 24, 30])
def test_wide_searches_go_over_several_panels_of_offsets(radius: int) -> None:
    layout = lay_out((16,), 8, radius, 1, 2)
    check(layout, tile(layout, seed=radius))


def test_many_columns_go_over_several_strips_of_nodes() -> None:
    layout = lay_out((16, 32), 16, 2, 2, 70)
    check(layout, tile(layout))


def test_chips_far_apart_do_not_need_what_lies_between() -> None:
    layout = lay_out((8,), 64, 3, 2, 2)
    reference, secondary = tile(layout)
    whole, _ = search(layout, (reference, secondary))
    reference[8:64], secondary[20:60] = np.nan, np.nan
    apart, _ = check(layout, (reference, secondary))
    np.testing.assert_array_equal(apart.peak, whole.peak)


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10**6),
    brightness=st.sampled_from([(0.0, 100.0), (8000.0, 100.0), (1e4, 10.0)]),
    chips=st.sampled_from([(16, 32), (4,), (8, 12)]),
)
@example(seed=251, brightness=(0.0, 100.0), chips=(4,))
def test_gaps_are_left_out_of_the_sums(seed: int, brightness: tuple[float, float], chips: tuple[int, ...]) -> None:
    layout = lay_out(chips, 8, 7, 3, 4)
    reference, secondary = tile(layout, seed % 97, *brightness)
    random = np.random.default_rng(seed)
    reference[random.random(reference.shape) < 0.1] = np.nan
    y, x = random.integers(0, 24, 2)
    secondary[y : y + 14, x : x + 20] = np.nan
    check(layout, (reference, secondary))


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), mean=st.sampled_from([0.0, 8000.0]), gap=st.booleans())
def test_every_node_may_have_a_window_of_its_own(seed: int, mean: float, gap: bool) -> None:
    layout = lay_out((8, 16), 8, 6, 4, 5)
    reference, secondary = tile(layout, seed % 89, mean)
    if gap:
        secondary[20:24, 10:30] = np.nan
    check(layout, (reference, secondary), some_windows(layout, seed, 14, 5))


def test_windows_far_from_each_other_are_worked_on_apart() -> None:
    layout = lay_out((16,), 8, 150, 40, 40)
    images = tile(layout)
    windows = Windows(*(np.full((40, 40), v) for v in (2, 1, 3)))
    near, _ = search(layout, images, windows)
    windows.dy[7, 30], windows.dx[7, 30] = -120, 130
    far, keep = search(layout, images, windows)
    others = np.ones((40, 40), np.bool_)
    others[7, 30] = False
    for one, other in zip(near, far, strict=True):
        np.testing.assert_array_equal(one[0][others], other[0][others])
    reference = np.pad(images[0], 150, constant_values=np.nan)
    oracle = correlation_surface(reference, images[1], 150 + 8 + 56, 150 + 8 + 240, 16, 3, 0.6, (-120, 130))
    np.testing.assert_allclose(keep[0, 7, 30], oracle, atol=1e-5)


def test_a_window_beyond_the_secondary_has_no_peak() -> None:
    layout = lay_out((16,), 8, 6, 2, 2)
    windows = everywhere(layout)
    windows.dx[0, 0], windows.dy[1, 1] = 10**7, -400
    peaks, _ = search(layout, tile(layout), windows)
    assert np.isnan(peaks.peak[0]).tolist() == [[True, False], [False, True]]


def test_only_wanted_chips_are_worked_on() -> None:
    layout = lay_out((16, 32), 8, 4, 6, 7)
    images = tile(layout)
    whole, _ = search(layout, images)
    wanted = np.random.default_rng(0).random(whole.peak.shape) < 0.3
    some = find_peaks(*images, layout, everywhere(layout), 0.6, wanted)
    assert np.array_equal(~np.isnan(some.peak), wanted)
    for one, other in zip(whole, some, strict=True):
        np.testing.assert_array_equal(one[wanted], other[wanted])


def test_a_chip_with_too_few_valid_pixels_has_no_surface() -> None:
    layout = lay_out((16,), 8, 3, 2, 2)
    reference, secondary = tile(layout)
    reference[:9] = np.nan
    peaks, _ = check(layout, (reference, secondary))
    assert np.isnan(peaks.peak[0, 0]).all()
    assert not np.isnan(peaks.peak[0, 1]).any()
    np.testing.assert_allclose(peaks.valid[0], [[7 / 16] * 2, [15 / 16] * 2])


def test_a_flat_chip_is_told_apart() -> None:
    layout = lay_out((16,), 16, 3, 1, 2)
    reference, secondary = tile(layout)
    reference[:, :16] = 7.3
    peaks, _ = search(layout, (reference, secondary))
    assert peaks.flat[0, 0].tolist() == [True, False]
    assert np.isnan(peaks.peak[0, 0, 0])


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("level", [0.0, 7.3, 1e4])
def test_an_offset_where_the_secondary_is_flat_has_no_value(level: float, gap: bool) -> None:
    layout = lay_out((8,), 8, 9, 1, 2)
    reference, secondary = tile(layout, mean=level, spread=10.0)
    secondary[:20, 4:20] = 1.2 * level + 13.3
    if gap:
        secondary[20, 20] = np.nan
    peaks, keep = check(layout, (reference, secondary))
    assert np.isnan(keep[0, 0, 0]).sum() >= 9 * 7
    assert not np.isnan(peaks.peak).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 0.0, 12.5, 1e30])
@pytest.mark.parametrize("which", [0, 1])
def test_images_without_information_have_no_peak(which: int, value: float) -> None:
    layout = lay_out((8, 16), 8, 3, 2, 2)
    images = tile(layout)
    images[which][:] = value
    peaks, keep = search(layout, images)
    assert np.isnan(peaks.peak).all()
    assert np.isnan(keep).all()


def test_values_too_large_to_multiply_are_gaps() -> None:
    layout = lay_out((16,), 8, 3, 2, 2)
    reference, secondary = tile(layout)
    reference[3, 5], secondary[9, 9] = 3e38, -np.inf
    large, _ = search(layout, (reference, secondary))
    reference[3, 5], secondary[9, 9] = np.nan, np.nan
    gap, _ = search(layout, (reference, secondary))
    for one, other in zip(large, gap, strict=True):
        np.testing.assert_array_equal(one, other)


def test_gain_and_offset_of_brightness_change_nothing() -> None:
    layout = lay_out((32,), 8, 6, 2, 2)
    reference, secondary = tile(layout)
    one, _ = search(layout, (reference, secondary))
    other, _ = search(layout, (reference, secondary * np.float32(1.1) - np.float32(1000)))
    np.testing.assert_allclose(one.peak, other.peak, atol=1e-5)
    assert np.array_equal(one.dx, other.dx)


@pytest.mark.parametrize("gap", [False, True])
def test_ties_go_to_the_first_in_row_major_order(gap: bool) -> None:
    layout = lay_out((8,), 8, 6, 1, 1)
    pattern = np.random.default_rng(3).integers(-8, 9, (4, 4)).astype(np.float32)
    reference, secondary = np.tile(pattern, (2, 2)), np.roll(np.tile(pattern, (5, 5)), 2, (0, 1))
    if gap:
        reference[0, 0] = np.nan
    peaks, keep = search(layout, (reference, secondary))
    assert (keep[0, 0, 0] == peaks.peak[0, 0, 0]).sum() == 9
    assert (peaks.dy[0, 0, 0], peaks.dx[0, 0, 0]) == (-4, -4)


def test_room_that_served_another_search_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, other = lay_out((16, 32), 8, 5, 4, 6), lay_out((64,), 16, 9, 5, 5)
    images = tile(layout)
    images[1][:20, 30:] = np.nan
    images = (images[0], images[1][:-6, :-9].copy())
    fresh: list[np.ndarray] = []
    monkeypatch.setattr(find, "_spare", fresh)
    first, _ = search(layout, images)
    search(other, tile(other, 3, 9000.0))
    rooms = [room.ctypes.data for room in fresh]
    for room in fresh:
        room[:] = np.nan
    again, _ = search(layout, images)
    assert [room.ctypes.data for room in fresh] == rooms
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, same)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), own=st.booleans(), mean=st.sampled_from([0.0, 300.0, 9000.0]))
def test_a_node_has_the_same_bits_whatever_nodes_are_beside_it(seed: int, own: bool, mean: float) -> None:
    whole = lay_out((16, 32), 8, 9, 5, 40)
    reference, secondary = tile(whole, seed % 83, mean)
    secondary[60:64, 100:130] = np.nan
    secondary[:, 200:] += np.float32(2000)
    windows = some_windows(whole, seed, 4, 5) if own else everywhere(whole)
    everything, _ = search(whole, (reference, secondary), windows)
    part = lay_out((16, 32), 8, 9, 2, 3)
    height, width = (n * part.side for n in part.shape)
    for i, j in ((0, 0), (1, 9), (3, 36), (2, 13)):
        here = (slice(i, i + 2), slice(j, j + 3))
        cut = (
            reference[8 * i : 8 * i + height, 8 * j : 8 * j + width],
            secondary[8 * i : 8 * i + height + 18, 8 * j : 8 * j + width + 18],
        )
        found, _ = search(part, cut, Windows(*(w[here] for w in windows)))
        for one, all_ in zip(found, everything, strict=True):
            np.testing.assert_array_equal(one, all_[:, *here])


def judge(*peaks: tuple[int, int, float], gap: int | None = None) -> tuple[float, int]:
    """Return peak ratio and bound of a surface with peaks of the given height at the given places."""
    y, x = np.mgrid[0:21, 0:21]
    surface = np.full((21, 21), -0.1)
    for row, column, height in peaks:
        surface = np.maximum(surface, height * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 4.0))
    if gap is not None:
        surface[:, gap:] = NONE
    numbers = np.full((22, WIDTH), NONE, np.float32)
    numbers[:21, :21] = surface
    numbers[21, :21] = surface.max(1)
    numbers = np.concatenate([np.full(LANES, NONE, np.float32), numbers.ravel()])
    found = np.full((1, 14), np.nan, np.float32)
    places = (LANES, LANES + 21 * WIDTH, 21, WIDTH, -10, -10)
    judge_row(numbers, places, np.ones(1, np.bool_), np.array([[0], [21], [0], [21]]), found)
    return float(found[0, 3]), int(found[0, 4])


def test_the_second_peak_is_another_maximum_not_the_flank_of_the_first() -> None:
    assert judge((10, 10, 0.8), (4, 15, 0.4)) == (pytest.approx(2.0, abs=1e-3), 0)
    assert judge((10, 10, 0.8), (10, 16, 0.4)) == (pytest.approx(2.0, abs=1e-3), 0)
    assert judge((10, 10, 0.8))[0] == HIGHEST_RATIO


def test_a_peak_on_the_rim_or_beside_a_gap_is_told_apart() -> None:
    assert judge((0, 10, 0.8))[1] == 1
    assert judge((10, 20, 0.8))[1] == 1
    assert judge((10, 10, 0.8), gap=11)[1] == 2


@pytest.mark.parametrize("place", [-0.4, 0.0, 0.3])
def test_the_parabola_finds_a_shifted_peak(place: float) -> None:
    before, peak, after = (0.9 * (1 - 0.05 * (k - place) ** 2) for k in (-1, 0, 1))
    found, error = fit_axis(before, peak, after, False, 1024.0)
    assert found == pytest.approx(place, abs=1e-9)
    assert 0 < error < 0.1
    assert np.isnan(fit_axis(0.5, 0.4, 0.5, False, 1024.0)[0])


def test_the_gaussian_finds_a_shifted_peak() -> None:
    before, peak, after = (0.9 * np.exp(-0.2 * (k - 0.3) ** 2) for k in (-1, 0, 1))
    assert fit_axis(before, peak, after, True, 1024.0)[0] == pytest.approx(0.3, abs=1e-9)
