"""A guided search: the vectors of the full search, the same bits in any tile, and nothing lost that a small window misses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftrack.kernels.layout import Windows
from ftrack.matchers import NCC, Prior
from ftrack.matchers.guide import RADIUS, factor_of, look_ahead
from ftrack.schema import Status
from ftrack.synthetic import shifted_pair
from ftrack.synthetic.moving import sheared_pair

CHIP, STATUS = 6, 7
FULL = NCC(chip_sizes=(16, 32), search_radius=12, subpixel="parabola")
GUIDED = FULL.model_copy(update={"search": "guided"})


def flow() -> tuple[np.ndarray, np.ndarray]:
    """Return a sheared pair with noise, gaps and changed ground."""
    pair = sheared_pair((320, 328), peak=9.0, noise=0.2, changed=0.1, seed=3)
    reference, secondary = pair.reference.copy(), pair.secondary.copy()
    reference[60:75, 30:60] = np.nan
    secondary[230:250, 100:140] = np.nan
    return reference, secondary


IMAGES = flow()
ROWS, COLUMNS = np.arange(0, 321, 8), np.arange(0, 329, 8)
WHOLE = GUIDED.measure(*IMAGES, ROWS, COLUMNS, Prior())


def vectors(motion: np.ndarray) -> np.ndarray:
    return np.where(motion[STATUS] == Status.MEASURED, motion[:2], np.nan)


def same(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of nodes at which two motions agree to 0.05 px or neither has a vector."""
    one, other = vectors(a), vectors(b)
    return float(((np.isnan(one[0]) & np.isnan(other[0])) | (np.hypot(*(one - other)) <= 0.05)).mean())


def test_it_finds_what_the_full_search_finds() -> None:
    full = FULL.measure(*IMAGES, ROWS, COLUMNS, Prior())
    assert (full[STATUS] == Status.MEASURED).mean() > 0.5
    assert same(full, WHOLE) > 0.995
    assert ((full[CHIP] == WHOLE[CHIP]) | (full[STATUS] != WHOLE[STATUS])).mean() > 0.995


@settings(max_examples=6)
@given(data=st.data())
def test_the_bits_of_a_node_do_not_depend_on_its_tile_or_on_the_place_of_the_image(data: st.DataObject) -> None:
    cuts = []
    for n in (ROWS.size, COLUMNS.size):
        first = data.draw(st.integers(0, n - 1))
        cuts.append(slice(first, data.draw(st.integers(first + 1, n))))
    rows, columns, moved = ROWS[cuts[0]], COLUMNS[cuts[1]], data.draw(st.integers(0, 9))
    images = [np.pad(image, moved, constant_values=np.nan) for image in IMAGES]
    part = GUIDED.measure(*images, rows + moved, columns + moved, Prior())
    np.testing.assert_array_equal(part, WHOLE[:, cuts[0], cuts[1]])


def test_the_bits_of_a_node_do_not_depend_on_pixels_beyond_its_halo() -> None:
    matcher = NCC(chip_sizes=(16,), search_radius=12, search="guided")
    images = [np.pad(image, 160, mode="reflect") for image in IMAGES]
    rows, columns = np.arange(304, 328, 8), np.arange(312, 328, 8)
    top, left = rows[0] - matcher.halo, columns[0] - matcher.halo
    window = (slice(top, rows[-1] + matcher.halo), slice(left, columns[-1] + matcher.halo))
    whole = matcher.measure(*images, rows, columns, Prior())
    part = matcher.measure(*(image[window] for image in images), rows - top, columns - left, Prior())
    assert (whole[STATUS] == Status.MEASURED).any()
    np.testing.assert_array_equal(part, whole)


def test_a_piece_of_ground_too_small_for_the_decimated_images_is_not_lost() -> None:
    """A block of 32 px moves by (9, -7) in ground that stands still; its large chips see the ground."""
    pair, block = shifted_pair((256, 256), noise=0.05), shifted_pair((256, 256), seed=9).reference
    reference, secondary = pair.reference.copy(), pair.reference.copy()
    reference[112:144, 112:144], secondary[105:137, 121:153] = (block[112:144, 112:144],) * 2
    matcher = NCC(chip_sizes=(32,), search_radius=12, subpixel="parabola", search="guided")
    out = matcher.measure(reference, secondary, np.array([128]), np.array([128]), Prior())
    sight = look_ahead((reference, secondary), (120, 120), 8, 12, Windows(*np.zeros((2, 3, 3), int), np.full((3, 3), 12)), 0.6)
    assert out[STATUS, 0, 0] == Status.MEASURED
    np.testing.assert_allclose(out[:2, 0, 0], (9.0, -7.0), atol=0.05)
    assert np.hypot(*(part[1, 1] for part in sight.windows[:2])) < RADIUS or not sight.sure[1, 1]


def test_a_corner_without_anything_to_search_closely_is_no_matter() -> None:
    """Cells of nodes none of which is sure, beside others whose windows lie far apart."""
    images = [image.copy() for image in IMAGES]
    for image in images:
        image[:, :300] = np.nan
    wide = [np.concatenate([image, pair], 1) for image, pair in zip(images, IMAGES, strict=True)]
    out = GUIDED.measure(*wide, ROWS, np.arange(0, 653, 8), Prior())
    assert (out[STATUS, :, :32] == Status.NO_DATA).all()
    assert (out[STATUS, :, 45:] == Status.MEASURED).mean() > 0.5


def test_what_lies_at_the_limit_of_the_full_window_is_said_to() -> None:
    pair = shifted_pair((256, 256), (14.0, 0.0))
    out = GUIDED.measure(pair.reference, pair.secondary, np.arange(96, 160, 8), np.arange(96, 160, 8), Prior())
    assert (out[STATUS] != Status.MEASURED).mean() > 0.9
    assert (out[STATUS] == Status.SEARCH_LIMIT).any()


@pytest.mark.parametrize("spacing", [6, 8, 9, 5])
def test_large_radii_and_priors_are_covered_at_any_spacing(spacing: int) -> None:
    pair = shifted_pair((400, 400), (39.4, -52.7), noise=0.1)
    nodes = np.arange(176 - 176 % spacing, 224, spacing)
    for prior, radius in ((Prior(), 64), (Prior(30.0, -41.0), 20), (Prior(np.full((nodes.size,) * 2, 29.0), -41.3), 20)):
        matcher = NCC(chip_sizes=(32,), search_radius=radius, spacing=spacing, subpixel="parabola", search="guided")
        out = matcher.measure(pair.reference, pair.secondary, nodes, nodes, prior)
        assert (out[STATUS] == Status.MEASURED).all()
        assert np.hypot(out[0] - 39.4, out[1] + 52.7).max() < 0.25


def test_a_guided_window_lies_inside_the_allowed_one() -> None:
    allowed = Windows(*np.full((2, 9, 9), 3), np.full((9, 9), 12))
    pair = shifted_pair((256, 256), (13.4, -8.8))
    sight = look_ahead((pair.reference, pair.secondary), (96, 96), 8, 12, allowed, 0.6)
    assert sight.sure.any()
    assert (abs(sight.windows.dx - 3) + RADIUS <= 12).all() and (abs(sight.windows.dy - 3) + RADIUS <= 12).all()


def test_peaks_near_the_limit_of_the_allowed_window_are_those_of_the_full_search() -> None:
    """Coarse peaks lie on the rim of what is looked at there, and guide nobody."""
    pair, nodes = shifted_pair((256, 256), (14.2, -8.2), noise=0.1), np.arange(96, 160, 8)
    full, guided = (m.measure(pair.reference, pair.secondary, nodes, nodes, Prior(3.0, 3.0)) for m in (FULL, GUIDED))
    assert (full[STATUS] == Status.MEASURED).all()
    np.testing.assert_array_equal(full, guided)


def test_nothing_is_decimated_where_that_has_nothing_to_offer() -> None:
    assert [factor_of(s, 20) for s in (8, 12, 9, 6, 10, 5)] == [4, 4, 3, 3, 2, 1]
    assert factor_of(8, 2 * RADIUS) == 1
    assert NCC(search="guided", search_radius=6).halo == NCC(search_radius=6).halo
