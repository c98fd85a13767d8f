"""Smooth fields over nodes with gaps: what stays, what is filled, and that a node asks only its neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels.smooth import bell, keep_coherent, sharpen, smooth

RADIUS = 3
WEIGHTS = bell(1.5, RADIUS)


def smoothed(values: np.ndarray, known: np.ndarray, weights: np.ndarray = WEIGHTS) -> np.ndarray:
    out = np.empty_like(values)
    smooth(values, known, weights, out)
    return out


def linear(rows: int = 14, columns: int = 17) -> np.ndarray:
    y, x = np.mgrid[:rows, :columns].astype(float)
    return np.stack([1.0 + 0.3 * x - 0.2 * y, -2.0 + 0.1 * x + 0.5 * y])


def test_a_bell_is_symmetric_and_of_its_width() -> None:
    weights = bell(2.0, 4)
    assert weights.shape == (9,)
    np.testing.assert_array_equal(weights, weights[::-1])
    assert weights[6] / weights[4] == pytest.approx(np.exp(-0.5))
    assert (bell(0.0, 2) == [0, 0, 1, 0, 0]).all()


def test_smoothing_is_the_weighted_mean_of_what_is_known() -> None:
    rng = np.random.default_rng(0)
    values, known = rng.normal(size=(2, 9, 11)), rng.random((9, 11)) < 0.4
    values[:, ~known] = np.nan
    found = smoothed(values, known)
    for i in range(9):
        for j in range(11):
            total, weight = np.zeros(2), 0.0
            for v, u in zip(*np.nonzero(known), strict=True):
                if abs(v - i) <= RADIUS and abs(u - j) <= RADIUS:
                    w = WEIGHTS[v - i + RADIUS] * WEIGHTS[u - j + RADIUS]
                    total, weight = total + w * values[:, v, u], weight + w
            np.testing.assert_allclose(found[:, i, j], total / weight if weight else np.nan, rtol=1e-12)


def test_constant_fields_stay_everywhere_and_linear_ones_inside() -> None:
    known = np.ones((14, 17), np.bool_)
    np.testing.assert_allclose(smoothed(np.full((2, 14, 17), 3.7), known), 3.7, rtol=1e-13)
    inside = (slice(None), slice(RADIUS, -RADIUS), slice(RADIUS, -RADIUS))
    np.testing.assert_allclose(smoothed(linear(), known)[inside], linear()[inside], rtol=1e-12, atol=1e-12)


def test_unknown_nodes_are_filled_and_far_ones_are_missing() -> None:
    values, known = np.full((2, 14, 17), np.nan), np.zeros((14, 17), np.bool_)
    values[:, 5, 6], known[5, 6] = (2.0, -1.0), True
    found = smoothed(values, known)
    y, x = np.mgrid[:14, :17]
    near = (np.abs(y - 5) <= RADIUS) & (np.abs(x - 6) <= RADIUS)
    np.testing.assert_allclose(found[0][near], 2.0)
    np.testing.assert_allclose(found[1][near], -1.0)
    assert np.isnan(found[:, ~near]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_small_fields_are_smoothed_too(shape: tuple[int, int]) -> None:
    found = smoothed(np.full((2, *shape), 0.7), np.ones(shape, np.bool_))
    np.testing.assert_allclose(found, 0.7, rtol=1e-13)


@pytest.mark.parametrize("cut", [(0, 0), (3, 5), (7, 2)])
def test_the_bits_of_a_node_depend_on_its_neighbours_alone(cut: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    values, known = rng.normal(size=(2, 24, 22)), rng.random((24, 22)) < 0.6
    whole = smoothed(values, known)
    rows, columns = slice(cut[0], cut[0] + 2 * RADIUS + 4), slice(cut[1], cut[1] + 2 * RADIUS + 5)
    part = smoothed(np.ascontiguousarray(values[:, rows, columns]), np.ascontiguousarray(known[rows, columns]))
    inner = (slice(None), slice(RADIUS, -RADIUS), slice(RADIUS, -RADIUS))
    np.testing.assert_array_equal(part[inner], whole[:, rows, columns][inner])


def coherent(values: np.ndarray, known: np.ndarray, tolerance: float = 1.0, share: float = 0.6) -> np.ndarray:
    kept = np.empty_like(known)
    keep_coherent(values, known, tolerance, share, kept)
    return kept


def test_a_blunder_is_left_out_and_its_neighbours_stay() -> None:
    values, known = linear(), np.ones((14, 17), np.bool_)
    values[0, 6, 7] += 9.0
    expected = known.copy()
    expected[6, 7] = False
    np.testing.assert_array_equal(coherent(values, known), expected)


def test_one_component_that_differs_is_enough() -> None:
    for d in range(2):
        values, known = np.zeros((2, 5, 5)), np.ones((5, 5), np.bool_)
        values[d, 2, 2] = -1.5
        assert not coherent(values, known)[2, 2]
        assert coherent(values, known).sum() == 24


def test_unknown_vectors_are_never_kept_and_lonely_ones_are() -> None:
    values, known = np.full((2, 7, 7), np.nan), np.zeros((7, 7), np.bool_)
    values[:, 3, 3], known[3, 3] = 2.0, True
    np.testing.assert_array_equal(coherent(values, known), known)


def test_both_sides_of_a_line_stay_and_a_share_below_the_least_does_not() -> None:
    values, known = np.zeros((2, 8, 8)), np.ones((8, 8), np.bool_)
    values[0, :, 4:] = 5.0
    assert coherent(values, known)[1:-1].all()
    assert not coherent(values, known, share=0.7)[1:-1, 3:5].any()


def test_a_field_is_bent_further_where_something_is_known_and_stays_elsewhere() -> None:
    rng, known = np.random.default_rng(2), np.zeros((20, 22), np.bool_)
    known[4:12, 5:15] = rng.random((8, 10)) < 0.7
    values, field = np.where(known, rng.normal(size=(2, 20, 22)), np.nan), rng.normal(size=(2, 20, 22))
    once = smoothed(values, known)
    there = np.isfinite(once[0])
    assert 0 < there.sum() < there.size
    expected = np.where(there, once + 2.5 * (once - smoothed(once, there)), field)
    sharpen(values, known, WEIGHTS, 2.5, field)
    np.testing.assert_array_equal(field, expected)
