"""Products, sums and peaks of the correlation against their plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import correlation_surface
from scipy.ndimage import gaussian_filter

from ftrack.kernels.correlate import Layout, Surfaces, correlate, lay_out, pad_for
from ftrack.kernels.peaks import HIGHEST_RATIO, fit_peak, second_peaks
from ftrack.kernels.products import GROUP, LANES, block_products
from ftrack.kernels.scan import NONE, QUANTUM

HALF_STEP = 1.0 / float(QUANTUM)


def texture(shape: tuple[int, int], seed: int, mean: float = 0.0) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return (100 * noise / noise.std() + mean).astype(np.float32)


def tile(layout: Layout, seed: int = 0, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a reference and a secondary that shows it again, moved by less than the radius, with noise."""
    shape_r, shape_s = pad_for(layout)
    world = texture((shape_s[0] + 8, shape_s[1] + 8), seed, mean)
    r = layout.radius
    reference = world[r : r + shape_r[0], r : r + shape_r[1]].copy()
    secondary = world[2 : 2 + shape_s[0], 1 : 1 + shape_s[1]] * np.float32(1.2) + 0.3 * texture(shape_s, seed + 1)
    return reference, secondary.astype(np.float32)


def check(layout: Layout, reference: np.ndarray, secondary: np.ndarray, min_valid: float = 0.6) -> Surfaces:
    """Hold every surface of a tile against the oracle, and return the surfaces."""
    out = correlate(reference, secondary, layout, min_valid)
    r, largest = layout.radius, int(layout.counts.max()) * layout.side
    whole = np.full(secondary.shape, np.nan, np.float32)
    whole[r : r + reference.shape[0], r : r + reference.shape[1]] = reference
    for c, count in enumerate(layout.counts):
        for i in range(layout.rows):
            for j in range(layout.columns):
                row, column = (r + largest // 2 + k * layout.step * layout.side for k in (i, j))
                oracle = correlation_surface(whole, secondary, row, column, int(count) * layout.side, r, min_valid)
                found = out.values[c, i, j]
                assert np.array_equal(found == NONE, np.isnan(oracle))
                if np.isnan(oracle).all():
                    assert np.isnan(out.peak[c, i, j])
                    continue
                np.testing.assert_allclose(found[found != NONE] / QUANTUM, oracle[found != NONE], rtol=0, atol=1e-5 + HALF_STEP)
                assert abs(out.peak[c, i, j] - np.nanmax(oracle)) < 1e-5
                assert oracle[out.peak_dy[c, i, j], out.peak_dx[c, i, j]] >= np.nanmax(oracle) - 1e-6
    return out


@pytest.mark.parametrize("side", [1, 3, 4, 5, 8, 12, 16])
@pytest.mark.parametrize("vectors", [1, 2, 3])
def test_products_are_the_sums_of_shifted_products(side: int, vectors: int) -> None:
    r, s = texture((40, 40), 1), texture((60, 90), 2)
    sums = np.empty(GROUP * LANES * vectors, np.float32)
    block_products(r.ravel(), 3 * 40 + 7, 40, s.ravel(), 5 * 90 + 2, 90, side, vectors, sums)
    block = r[3 : 3 + side, 7 : 7 + side].astype(float)
    for g in range(GROUP):
        for d in range(LANES * vectors):
            direct = (block * s[5 + g : 5 + g + side, 2 + d : 2 + d + side]).sum()
            assert sums[g * LANES * vectors + d] == pytest.approx(direct, rel=1e-4, abs=1e-3 * side * side)


@settings(max_examples=12)
@given(
    spacing=st.sampled_from([4, 6, 8, 10, 16]),
    chips=st.sampled_from([(16,), (8, 20), (32,), (16, 32), (24,), (12, 24, 36)]),
    radius=st.integers(1, 9),
    mean=st.sampled_from([0.0, 8000.0]),
)
def test_surface_equals_the_double_loop(spacing: int, chips: tuple[int, ...], radius: int, mean: float) -> None:
    layout = lay_out(chips, spacing, radius, 2, 3)
    check(layout, *tile(layout, seed=spacing, mean=mean))


@pytest.mark.parametrize("radius", [17, 24, 30])
def test_wide_searches_go_over_several_panels_of_offsets(radius: int) -> None:
    layout = lay_out((16,), 8, radius, 1, 2)
    check(layout, *tile(layout, seed=radius))


def test_many_columns_go_over_several_panels_of_nodes() -> None:
    layout = lay_out((16, 32), 16, 2, 1, 53)
    check(layout, *tile(layout))


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), mean=st.sampled_from([0.0, 8000.0]))
def test_gaps_are_left_out_of_the_sums(seed: int, mean: float) -> None:
    layout = lay_out((16, 32), 8, 5, 3, 4)
    reference, secondary = tile(layout, seed % 97, mean)
    random = np.random.default_rng(seed)
    reference[random.random(reference.shape) < 0.1] = np.nan
    y, x = random.integers(0, 40, 2)
    secondary[y : y + 14, x : x + 25] = np.nan
    check(layout, reference, secondary)


def test_a_chip_with_too_few_valid_pixels_has_no_surface() -> None:
    layout = lay_out((16,), 8, 3, 2, 2)
    reference, secondary = tile(layout)
    reference[:9] = np.nan
    out = check(layout, reference, secondary)
    assert np.isnan(out.peak[0, 0]).all()
    assert not np.isnan(out.peak[0, 1]).any()


def test_a_flat_chip_is_told_apart() -> None:
    layout = lay_out((16,), 16, 3, 1, 2)
    reference, secondary = tile(layout)
    reference[:, :16] = 7.3
    out = correlate(reference, secondary, layout, 0.6)
    assert out.flat[0, 0].tolist() == [True, False]
    assert np.isnan(out.peak[0, 0, 0])


def test_gain_and_offset_of_brightness_change_nothing() -> None:
    layout = lay_out((32,), 8, 6, 2, 2)
    reference, secondary = tile(layout)
    one = correlate(reference, secondary, layout, 0.6)
    other = correlate(reference, secondary * np.float32(1.1) - np.float32(1000), layout, 0.6)
    np.testing.assert_allclose(one.peak, other.peak, atol=1e-5)
    assert np.array_equal(one.peak_dx, other.peak_dx)


def test_ties_go_to_the_first_in_row_major_order() -> None:
    layout = lay_out((8,), 8, 6, 1, 1)
    shape_r, shape_s = pad_for(layout)
    pattern = texture((4, 4), 3)
    reference = np.tile(pattern, (shape_r[0] // 4 + 1, shape_r[1] // 4 + 1))[: shape_r[0], : shape_r[1]].copy()
    secondary = np.tile(pattern, (shape_s[0] // 4 + 1, shape_s[1] // 4 + 1))[: shape_s[0], : shape_s[1]].copy()
    out = correlate(reference, secondary, layout, 0.6)
    values = out.values[0, 0, 0]
    first = np.argwhere(values >= values.max() - 1)[0]
    assert (out.peak_dy[0, 0, 0] % 4, out.peak_dx[0, 0, 0] % 4) == (first[0] % 4, first[1] % 4)
    assert out.peak_dy[0, 0, 0] < 4 or out.peak[0, 0, 0] > values[:4].max() / QUANTUM


def test_a_node_has_the_same_bits_whatever_nodes_are_beside_it() -> None:
    whole = lay_out((16, 32), 8, 7, 5, 30)
    reference, secondary = tile(whole)
    secondary[60:64, 100:130] = np.nan
    everything = correlate(reference, secondary, whole, 0.6)
    part = lay_out((16, 32), 8, 7, 2, 3)
    shape_r, shape_s = pad_for(part)
    for i, j in ((0, 0), (1, 9), (3, 26), (2, 13)):
        cut_r = np.ascontiguousarray(reference[8 * i : 8 * i + shape_r[0], 8 * j : 8 * j + shape_r[1]])
        cut_s = np.full(shape_s, np.nan, np.float32)
        piece = secondary[8 * i : 8 * i + shape_s[0], 8 * j : 8 * j + shape_s[1]]
        cut_s[: piece.shape[0], : piece.shape[1]] = piece
        found = correlate(cut_r, cut_s, part, 0.6)
        for one, all_ in zip(found, everything, strict=True):
            np.testing.assert_array_equal(one, all_[:, i : i + 2, j : j + 3])


def surface_of(*peaks: tuple[int, int, float]) -> np.ndarray:
    y, x = np.mgrid[0:21, 0:21]
    surface = np.full((21, 21), -0.1)
    for row, column, height in peaks:
        surface = np.maximum(surface, height * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 4.0))
    return (surface * QUANTUM).astype(np.int16)


def judge(surface: np.ndarray) -> tuple[float, int]:
    y, x = np.unravel_index(surface.argmax(), surface.shape)
    ratio, bounded = np.empty(1, np.float32), np.empty(1, np.uint8)
    peak = np.array([surface.max() / QUANTUM], np.float32)
    second_peaks(surface[None], peak, np.array([y], np.int32), np.array([x], np.int32), ratio, bounded)
    return float(ratio[0]), int(bounded[0])


def test_the_second_peak_is_another_maximum_not_the_flank_of_the_first() -> None:
    assert judge(surface_of((10, 10, 0.8), (4, 15, 0.4))) == (pytest.approx(2.0, abs=1e-3), 0)
    assert judge(surface_of((10, 10, 0.8)))[0] == HIGHEST_RATIO


def test_a_peak_on_the_rim_or_beside_a_gap_is_told_apart() -> None:
    assert judge(surface_of((0, 10, 0.8)))[1] == 1
    surface = surface_of((10, 10, 0.8))
    surface[:, 11:] = NONE
    assert judge(surface)[1] == 2


def test_the_parabola_finds_a_shifted_peak() -> None:
    y, x = np.mgrid[-5:6, -5:6]
    surface = (0.9 * (1 - 0.05 * ((y - 0.3) ** 2 + (x + 0.2) ** 2)) * QUANTUM).astype(np.int16)
    dy, dx, sy, sx = fit_peak(surface, 5, 5, False, 1024.0)
    assert (dy, dx) == (pytest.approx(0.3, abs=2e-3), pytest.approx(-0.2, abs=2e-3))
    assert 0 < sy < 0.1
    assert 0 < sx < 0.1
