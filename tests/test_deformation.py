"""Displacement of a whole tile below one pixel: the same bits in any tile, shear is followed, and nothing false is told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftrack.matchers import NCC, Prior
from ftrack.matchers.deformation import scales_of
from ftrack.schema import MOTION, Status
from ftrack.synthetic import shifted_pair
from ftrack.synthetic.moving import sheared_pair
from ftrack.synthetic.texture import smooth_noise

DX, DY, CORRELATION, RATIO, DX_ERROR, DY_ERROR, CHIP, STATUS = range(len(MOTION))
MATCHER = NCC(chip_sizes=(16, 32), search_radius=6)
SHIFT = (2.37, -1.61)


def measure(reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, matcher: NCC = MATCHER) -> np.ndarray:
    out = matcher.measure(reference.astype(np.float32), secondary.astype(np.float32), rows, columns, Prior())
    measured = out[STATUS] == Status.MEASURED
    assert np.isfinite(out[:CHIP][:, measured]).all()
    assert np.isnan(out[[DX, DY, DX_ERROR, DY_ERROR]][:, ~measured]).all()
    assert (out[CHIP][~measured] == 0).all()
    return out


def nodes_of(image: np.ndarray, spacing: int = 8, away: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the node rows and columns of an image, some pixels away from its edges."""
    rows, columns = (np.arange(-(-away // spacing) * spacing, n - away + 1, spacing) for n in image.shape)
    return rows, columns


def wrong_by(out: np.ndarray, dx: float | np.ndarray, dy: float | np.ndarray) -> np.ndarray:
    """Return by how much each vector is wrong, px; NaN where there is none."""
    return np.asarray(np.hypot(out[DX] - dx, out[DY] - dy))


def hard_pair() -> tuple[np.ndarray, np.ndarray]:
    """Return a sheared pair with noise, gaps and changed ground."""
    pair = sheared_pair((208, 216), peak=4.0, noise=0.2, changed=0.1, seed=3)
    reference, secondary = pair.reference.astype(np.float32), pair.secondary.astype(np.float32)
    reference[60:75, 30:60] = np.nan
    secondary[130:150, 100:140] = np.nan
    return reference, secondary


HARD = hard_pair()
WHOLE: dict[int, np.ndarray] = {}


@settings(max_examples=6)
@given(spacing=st.sampled_from([8, 16]), data=st.data())
def test_the_bits_of_a_node_do_not_depend_on_its_tile(spacing: int, data: st.DataObject) -> None:
    matcher = NCC(chip_sizes=(16, 32), search_radius=6, spacing=spacing)
    rows, columns = nodes_of(HARD[0], spacing)
    if spacing not in WHOLE:
        WHOLE[spacing] = measure(*HARD, rows, columns, matcher)
        assert (WHOLE[spacing][STATUS] == Status.MEASURED).mean() > 0.4
        assert (WHOLE[spacing][STATUS] != Status.MEASURED).mean() > 0.05
    cuts = []
    for n in (rows.size, columns.size):
        first = data.draw(st.integers(0, n - 1))
        cuts.append(slice(first, data.draw(st.integers(first + 1, n))))
    part = measure(*HARD, rows[cuts[0]], columns[cuts[1]], matcher)
    np.testing.assert_array_equal(part, WHOLE[spacing][:, cuts[0], cuts[1]])


def test_the_bits_of_a_node_do_not_depend_on_pixels_beyond_its_halo() -> None:
    reference, secondary = (np.pad(image, 200, mode="reflect") for image in HARD)
    rows, columns = np.arange(288, 312, 8), np.arange(296, 312, 8)
    halo = MATCHER.halo
    top, left = rows[0] - halo, columns[0] - halo
    window = (slice(top, rows[-1] + halo), slice(left, columns[-1] + halo))
    whole = measure(reference, secondary, rows, columns)
    part = measure(reference[window], secondary[window], rows - top, columns - left)
    assert (whole[STATUS] == Status.MEASURED).any()
    np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize("sizes", [(16,), (32,), (16, 32), (20, 48)])
def test_the_margin_is_that_of_the_scales(sizes: tuple[int, ...]) -> None:
    for spacing in (4, 8, 12):
        matcher = NCC(chip_sizes=sizes, spacing=spacing)
        assert matcher.margin == scales_of(sizes, spacing).margin
        assert matcher.halo >= max(sizes) // 2 + matcher.search_radius + matcher.margin * spacing


def test_a_shift_is_found_and_its_error_is_told() -> None:
    pair = shifted_pair((256, 256), SHIFT, noise=0.2)
    out = measure(pair.reference, pair.secondary, *nodes_of(pair.reference, away=48))
    measured = out[STATUS] == Status.MEASURED
    off = (out[[DX, DY]] - np.reshape(SHIFT, (2, 1, 1)))[:, measured]
    assert measured.mean() > 0.95
    assert np.sqrt(np.mean(np.square(off))) < 0.05
    assert np.abs(off.mean(1)).max() < 0.01
    said = np.sqrt(np.mean(np.square(out[[DX_ERROR, DY_ERROR]][:, measured])))
    assert said == pytest.approx(np.sqrt(np.mean(np.square(off))), rel=0.35)


def test_shear_is_followed() -> None:
    pair = sheared_pair((320, 320), peak=4.0, noise=0.1, changed=0.0)
    rows, columns = nodes_of(pair.reference, away=40)
    out = measure(pair.reference, pair.secondary, rows, columns)
    dx, dy = pair.truth(columns[None, :], rows[:, None])
    wrong = wrong_by(out, dx, dy)
    assert (out[STATUS] == Status.MEASURED).mean() > 0.9
    assert np.nanmedian(wrong) < 0.05
    assert np.nanpercentile(wrong, 95) < 0.2
    assert np.nanmax(wrong) < 1.0


@pytest.mark.parametrize("axis", [0, 1])
def test_halves_that_move_apart_keep_their_own_motion(axis: int) -> None:
    first, second = (shifted_pair((240, 240), shift, noise=0.1, seed=2) for shift in ((-3.3, 1.2), (3.4, -1.7)))
    line = np.arange(240) < 120
    side = line[:, None] if axis == 0 else line[None, :]
    secondary = np.where(side, first.secondary, second.secondary)
    rows, columns = nodes_of(secondary, away=40)
    out = measure(first.reference, secondary, rows, columns)
    at = rows[:, None] + 0 * columns if axis == 0 else columns + 0 * rows[:, None]
    wrong = wrong_by(out, np.where(at < 120, -3.3, 3.4), np.where(at < 120, 1.2, -1.7))
    away, far = np.abs(at - 120) > 16, np.abs(at - 120) > 32
    assert np.nanmax(wrong[away]) < 1.0
    assert np.nanmax(wrong[far]) < 0.3
    assert (out[STATUS][far] == Status.MEASURED).mean() > 0.9


@pytest.mark.parametrize("which", ["reference", "secondary", "both"])
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_what_is_not_finite_is_no_data(which: str, value: float) -> None:
    pair = shifted_pair((200, 200), SHIFT, noise=0.1)
    infinite, missing = ([pair.reference.copy(), pair.secondary.copy()] for _ in range(2))
    for k, name in enumerate(("reference", "secondary")):
        if which in (name, "both"):
            infinite[k][90:110, 100:125], missing[k][90:110, 100:125] = value, np.nan
    nodes = np.arange(64, 144, 8), np.arange(64, 144, 8)
    out = measure(*infinite, *nodes)
    np.testing.assert_array_equal(out, measure(*missing, *nodes))
    assert (out[STATUS] == Status.MEASURED).any()
    assert np.nanmax(wrong_by(out, *SHIFT)) < 0.5


@pytest.mark.parametrize("kind", ["constant", "bright", "both missing", "reference missing", "secondary missing", "secondary flat"])
def test_images_without_information_give_no_vector(kind: str) -> None:
    texture, shape = shifted_pair((160, 160)).reference, (160, 160)
    missing, flat = np.full(shape, np.nan), np.full(shape, 1.0)
    images = {
        "constant": (flat, flat),
        "bright": (np.full(shape, 60000.0), np.full(shape, 60000.0)),
        "both missing": (missing, missing),
        "reference missing": (missing, texture),
        "secondary missing": (texture, missing),
        "secondary flat": (texture, flat),
    }[kind]
    out = measure(*images, *nodes_of(texture))
    assert (out[STATUS] != Status.MEASURED).all()


def test_images_of_other_ground_give_hardly_a_vector_and_fewer_than_peaks_alone() -> None:
    first, second = shifted_pair((256, 256), seed=1), shifted_pair((256, 256), seed=2)
    nodes, peaks = nodes_of(first.reference, away=48), MATCHER.model_copy(update={"subpixel": "parabola"})
    solved, alone = ((measure(first.reference, second.reference, *nodes, m)[STATUS] == Status.MEASURED).mean() for m in (MATCHER, peaks))
    assert solved < 0.06
    assert solved < 0.5 * alone


@pytest.mark.parametrize("shape", [(12, 12), (20, 200), (1, 1), (31, 33)])
def test_a_chip_larger_than_the_image_gives_no_vector_or_the_right_one(shape: tuple[int, int]) -> None:
    image = shifted_pair((256, 256)).reference[: shape[0], : shape[1]]
    out = measure(image, image, *nodes_of(image))
    assert np.nanmax(wrong_by(out, 0.0, 0.0), initial=0.0) < 0.2
    alone = measure(image, image, np.array([0, 8]), np.array([0]), NCC(chip_sizes=(64,), search_radius=6))
    assert (alone[STATUS] != Status.MEASURED).all()


@pytest.mark.parametrize("brightness", [0.0, 60000.0])
def test_whole_numbers_however_bright_give_the_right_vectors(brightness: float) -> None:
    pair = shifted_pair((256, 256), SHIFT, noise=0.1)
    images = [np.rint(image * 300 + brightness) for image in (pair.reference, pair.secondary)]
    out = measure(*images, *nodes_of(images[0], away=48))
    assert (out[STATUS] == Status.MEASURED).mean() > 0.95
    assert np.nanmax(wrong_by(out, *SHIFT)) < 0.2


@pytest.mark.parametrize(("gain", "offset"), [(1.0, -30.0), (1.0, 1000.0), (0.8, 0.0), (1.25, 10.0), (0.25, 0.0), (4.0, 0.0)])
def test_brightness_and_contrast_of_the_second_image_do_not_matter(gain: float, offset: float) -> None:
    pair = shifted_pair((256, 256), SHIFT, noise=0.1)
    nodes = nodes_of(pair.reference, away=48)
    plain = measure(pair.reference, pair.secondary, *nodes)
    out = measure(pair.reference, gain * pair.secondary + offset, *nodes)
    assert (out[STATUS] == Status.MEASURED).mean() > 0.95
    rms = [np.sqrt(np.nanmean(np.square(wrong_by(one, *SHIFT)))) for one in (plain, out)]
    assert rms[1] < 1.15 * rms[0]
    assert np.sqrt(np.nanmean(np.square(np.hypot(out[DX_ERROR], out[DY_ERROR])))) == pytest.approx(rms[1], rel=0.35)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_errors_hold_what_change_of_the_ground_does(share: float) -> None:
    shape = (288, 288)
    pair = shifted_pair(shape, SHIFT, noise=0.05, sigma=1.5, seed=4)
    secondary = pair.secondary + share * smooth_noise(shape, 1.5, 9)
    matcher = NCC(chip_sizes=(32,), search_radius=6)
    out = measure(pair.reference, secondary, *nodes_of(pair.reference, away=32), matcher)
    for axis in range(2):
        ratio = (out[DX + axis] - SHIFT[axis]) / out[DX_ERROR + axis]
        assert 0.75 < np.sqrt(np.nanmean(ratio**2)) < 1.25
