"""Chips that the rim of the imagery cuts, against the plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_find import check, search, some_windows, tile

from ftrack.kernels.layout import Windows, everywhere, lay_out

LAYOUT = lay_out((8, 16), 8, 6, 4, 5)


@pytest.mark.parametrize("mean", [0.0, 250.0, 8000.0])
@pytest.mark.parametrize(
    "where",
    [np.s_[:9], np.s_[-11:], np.s_[:, :10], np.s_[:, -7:], np.s_[-7:, :], np.s_[:, np.r_[0:9, 43:60]], np.s_[np.r_[0:8, 40:52]]],
)
def test_surfaces_at_the_rim_are_those_of_the_definition(where: tuple[slice, ...], mean: float) -> None:
    reference, secondary = tile(LAYOUT, 1, mean)
    secondary[where] = np.nan
    check(LAYOUT, (reference, secondary))


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), own=st.booleans(), least=st.sampled_from([0.3, 0.6, 1.0]))
def test_both_images_may_be_cut_anywhere(seed: int, own: bool, least: float) -> None:
    random = np.random.default_rng(seed)
    images = tile(LAYOUT, seed % 89, float(random.integers(0, 200)))
    for image in images:
        for n, axis in zip(image.shape, (0, 1), strict=True):
            first, last = random.integers(0, n // 4, 2)
            image.swapaxes(0, axis)[: int(first)] = np.nan
            image.swapaxes(0, axis)[n - int(last) :] = np.nan
    windows = some_windows(LAYOUT, seed, 3, 5) if own else everywhere(LAYOUT)
    check(LAYOUT, images, windows, least)


def test_ground_without_texture_and_a_huge_value_at_the_rim_do_not_harm() -> None:
    reference, secondary = tile(LAYOUT, 2)
    secondary[:8], secondary[8:20, 10:26], secondary[9, 40] = np.nan, 3.0, 1e12
    check(LAYOUT, (reference, secondary))


@settings(max_examples=8)
@given(row=st.integers(0, 3), column=st.integers(0, 3), seed=st.integers(0, 50))
def test_a_node_at_the_rim_has_the_same_bits_in_any_tile(row: int, column: int, seed: int) -> None:
    whole, part = lay_out((8, 16), 8, 9, 5, 6), lay_out((8, 16), 8, 9, 2, 3)
    reference, secondary = tile(whole, seed, 100.0)
    reference[:, :5], secondary[:17], secondary[:, :13], secondary[:, -12:] = (np.nan,) * 4
    everything, _ = search(whole, (reference, secondary))
    here = (slice(row, row + 2), slice(column, column + 3))
    height, width = (n * part.side for n in part.shape)
    cut = reference[8 * row :, 8 * column :][:height, :width], secondary[8 * row :, 8 * column :][: height + 18, : width + 18]
    found, _ = search(part, cut, Windows(*(w[here] for w in everywhere(whole))))
    for one, other in zip(found, everything, strict=True):
        np.testing.assert_array_equal(one, other[:, *here])
