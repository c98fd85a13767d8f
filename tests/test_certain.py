"""Chips that are left out because a smaller one is certain are not missed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftrack.kernels import choose, find, walk
from ftrack.kernels.certain import NEVER
from ftrack.kernels.find import nothing_found, peaks_of, prepare, search
from ftrack.kernels.layout import everywhere, lay_out
from ftrack.matchers import NCC, Prior, guide, ncc
from ftrack.schema import Status
from ftrack.synthetic import sheared_pair

SIDE = 208


def scene(seed: int, noise: float, holes: bool, bright: bool) -> tuple[np.ndarray, np.ndarray]:
    """Make a pair with a rim, some gaps, and ground that is far brighter than its texture."""
    pair = sheared_pair((SIDE, SIDE), peak=4.0, noise=noise, changed=0.15, seed=seed)
    images = (pair.reference.astype(np.float32), pair.secondary.astype(np.float32))
    random = np.random.default_rng(seed)
    images[1][:, : int(random.integers(4, 60))] = np.nan
    for image in images:
        if holes:
            y, x = random.integers(0, SIDE - 30, 2)
            image[y : y + 9, x : x + 30] = np.nan
        if bright:
            image[: SIDE // 3] += 40.0
    return images


def whole_search(matcher: NCC, images: tuple[np.ndarray, np.ndarray], nodes: np.ndarray) -> np.ndarray:
    """Find what a search of all chips finds, all of them being judged."""

    def judge(*given: Any) -> None:
        choose.judge_chips(*given[:-3], np.ones_like(given[-3]), *given[-2:])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ncc, "judge_chips", judge)
        patch.setattr(ncc, "search", lambda *given: find.search(*given[:-1], NEVER))
        patch.setattr(ncc, "search_closely", lambda *given: guide.search_closely(*given[:-1], NEVER))
        return matcher.find(*images, nodes, nodes, Prior())


@settings(max_examples=16)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.sampled_from([(16, 32, 64), (8, 16, 32), (8, 16, 32, 64), (12, 24, 48), (16, 64)]),
    noise=st.sampled_from([0.1, 0.5]),
    holes=st.booleans(),
    bright=st.booleans(),
    how=st.sampled_from(
        [("full", "parabola", 0.5), ("full", "gaussian", 0.1), ("guided", "parabola", 0.1), ("guided", "least_squares", 0.5)]
    ),
    least=st.sampled_from([(0.3, 1.3), (0.6, 2.0), (-1.0, 1.0)]),
    cache=st.sampled_from([1, 10**9]),
)
def test_the_chip_and_its_peak_are_those_of_a_search_of_all_chips(
    seed: int,
    sizes: tuple[int, ...],
    noise: float,
    holes: bool,
    bright: bool,
    how: tuple[Any, Any, float],
    least: tuple[float, float],
    cache: int,
) -> None:
    search, subpixel, max_error = how
    matcher = NCC(
        chip_sizes=sizes,
        search_radius=9,
        search=search,
        subpixel=subpixel,
        max_error=max_error,
        min_correlation=least[0],
        min_peak_ratio=least[1],
    )
    images, nodes = scene(seed, noise, holes, bright), np.arange(16, SIDE - 8, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "CACHE", cache)
        lazy = matcher.find(*images, nodes, nodes, Prior())
    whole = whole_search(matcher, images, nodes)
    np.testing.assert_array_equal(lazy[:5], whole[:5])
    chips, largest = len(sizes), (whole[4] < 0) & (lazy[4 + len(sizes)] != Status.NOT_COMPUTED)
    np.testing.assert_array_equal(lazy[4 + chips][largest], whole[4 + chips][largest])
    known, all_known = (found[5:].reshape(5, chips, *found.shape[1:]) for found in (lazy, whole))
    judged = known[0] != Status.NOT_COMPUTED
    np.testing.assert_array_equal(known[[1, 3, 4]][:, judged], all_known[[1, 3, 4]][:, judged])
    ratio, taken = known[2], np.take_along_axis(known[2], np.maximum(whole[4], 0).astype(int)[None], 0)[0]
    same = ratio == all_known[2]
    assert (same | ~judged | np.isnan(ratio) | (ratio == taken)).all()
    assert (whole[4] >= 0).any()


def test_where_a_chip_is_settled_what_is_larger_than_the_next_is_not_searched() -> None:
    layout, images = lay_out((16, 32, 64), 8, 6, 20, 22), scene(3, 0.1, False, False)
    ground = prepare(images, ((0, 0), (0, 0)), layout, everywhere(layout), 0.6)
    some, every = nothing_found(ground), nothing_found(ground)
    search(ground, everywhere(layout), np.ones((20, 22), np.bool_), some, (0.3, 1.3))
    search(ground, everywhere(layout), np.ones((20, 22), np.bool_), every)
    peaks = peaks_of(ground, every)
    status, settled = np.empty(peaks.peak.shape, np.uint8), np.empty((20, 22), np.int8)
    choose.judge_chips(
        peaks.valid,
        peaks.flat,
        (peaks.peak, peaks.dy, peaks.dx),
        (peaks.ratio, peaks.bounded),
        (0.6, 0.3, 1.3),
        np.zeros((20, 22), np.bool_),
        status,
        settled,
    )
    out = status == Status.NOT_COMPUTED
    np.testing.assert_array_equal(out[2], settled == 0)
    assert out[2].mean() > 0.5
    assert not out[:2].any()
    assert np.isnan(some[out]).all()
    assert np.isnan(some[1, out[2], 3]).all()
    confirms = np.isnan(some[..., 3]) & ~np.isnan(some[..., 0])
    assert not confirms[0].any()
    some[confirms, 3] = every[confirms, 3]
    np.testing.assert_array_equal(some[~out], every[~out])


def test_gaps_that_only_chips_left_out_would_see_do_not_matter() -> None:
    pixels = np.random.default_rng(5).normal(size=(200, 200)).astype(np.float32)
    pixels[70:74, 98:102] = np.nan
    matcher = NCC(chip_sizes=(16, 32, 64), spacing=64, search_radius=6, subpixel="parabola")
    node = np.array([100])
    found = matcher.measure(pixels, np.roll(pixels, 2, 1), node, node, Prior())
    assert abs(found[0, 0, 0] - 2.0) < 0.1 and abs(found[1, 0, 0]) < 0.1 and found[6, 0, 0] == 16
