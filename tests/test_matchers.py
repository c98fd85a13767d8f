"""The correlation matcher: vectors where there is motion to see, reasons where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.errors import Stop
from ftrack.matchers import NCC, Matcher, Prior
from ftrack.schema import MOTION, Status
from ftrack.synthetic import shifted_pair

DX, DY, CORRELATION, RATIO, DX_ERROR, DY_ERROR, CHIP, STATUS = range(len(MOTION))
ROWS, COLUMNS = np.arange(80, 180, 8), np.arange(80, 176, 8)
SMALL = NCC(chip_sizes=(16, 32), search_radius=8)


def measure(matcher: NCC, reference: np.ndarray, secondary: np.ndarray, prior: Prior = Prior()) -> np.ndarray:  # noqa: B008
    return matcher.measure(reference, secondary, ROWS, COLUMNS, prior)


@pytest.mark.parametrize("subpixel", ["least_squares", "parabola", "gaussian"])
def test_a_known_motion_is_found(subpixel: str) -> None:
    pair = shifted_pair((256, 256), (5.37, -3.71), noise=0.1)
    out = measure(NCC(chip_sizes=(32,), search_radius=8, subpixel=subpixel), pair.reference, pair.secondary)
    assert (out[STATUS] == Status.MEASURED).all()
    assert np.sqrt(np.mean((out[DX] - 5.37) ** 2)) < 0.05
    assert np.sqrt(np.mean((out[DY] + 3.71) ** 2)) < 0.05
    assert (out[CHIP] == 32).all()
    assert (out[CORRELATION] > 0.9).all()
    assert (out[RATIO] > 1.2).all()
    assert ((out[DX_ERROR] > 0.001) & (out[DX_ERROR] < 0.1)).all()


def test_it_is_a_matcher() -> None:
    matcher: Matcher = SMALL
    assert matcher.halo >= 16 + 8 + 2


@pytest.mark.parametrize("as_array", [False, True])
def test_a_prior_moves_the_search(as_array: bool) -> None:
    pair = shifted_pair((256, 256), (21.4, -15.2), noise=0.1)
    lost = measure(SMALL, pair.reference, pair.secondary)
    assert (lost[STATUS] != Status.MEASURED).mean() > 0.9
    shape = (ROWS.size, COLUMNS.size)
    prior = Prior(np.full(shape, 19.0), np.full(shape, -17.0)) if as_array else Prior(19.0, -17.0)
    found = measure(SMALL, pair.reference, pair.secondary, prior)
    assert (found[STATUS] == Status.MEASURED).all()
    assert np.abs(found[DX] - 21.4).max() < 0.3


def test_a_prior_that_varies_is_followed_node_by_node() -> None:
    pair = shifted_pair((256, 256), (6.3, 0.0), noise=0.05)
    shape = (ROWS.size + 2 * SMALL.margin, COLUMNS.size + 2 * SMALL.margin)
    prior = Prior(np.linspace(0.0, 12.0, shape[0] * shape[1]).reshape(shape), 0.0)
    out = measure(SMALL, pair.reference, pair.secondary, prior)
    assert (out[STATUS] == Status.MEASURED).all()
    assert np.abs(out[DX] - 6.3).max() < 0.2


def test_gaps_give_no_data_and_the_rest_stays() -> None:
    pair = shifted_pair((256, 256), (2.0, 1.0), noise=0.05)
    reference = pair.reference.copy()
    reference[:, :120] = np.nan
    out = measure(NCC(chip_sizes=(32,), search_radius=8), reference, pair.secondary)
    assert (out[STATUS][:, COLUMNS < 112] == Status.NO_DATA).all()
    assert (out[STATUS][:, COLUMNS >= 136] == Status.MEASURED).all()
    assert np.isnan(out[DX][out[STATUS] == Status.NO_DATA]).all()


def test_a_search_window_that_leaves_the_imagery_is_told_apart() -> None:
    pair = shifted_pair((256, 256), (6.0, 0.0))
    secondary = pair.secondary.copy()
    secondary[:, 130:] = np.nan
    out = measure(NCC(chip_sizes=(16,), search_radius=8, min_valid=0.9), pair.reference, secondary)
    assert set(np.unique(out[STATUS])) <= {
        Status.MEASURED,
        Status.EDGE,
        Status.NO_DATA,
        Status.SEARCH_LIMIT,
        Status.LOW_CORRELATION,
        Status.AMBIGUOUS,
        Status.DIVERGED,
    }
    assert (out[STATUS] == Status.EDGE).any()
    measured = out[STATUS] == Status.MEASURED
    assert np.abs(out[DX][measured] - 6.0).max() < 0.5


def test_motion_beyond_the_search_is_no_vector() -> None:
    pair = shifted_pair((256, 256), (9.0, 0.0))
    out = measure(SMALL, pair.reference, pair.secondary)
    assert (out[STATUS] != Status.MEASURED).mean() > 0.9
    assert (out[STATUS] == Status.SEARCH_LIMIT).any()


@pytest.mark.parametrize("make", ["constant", "nothing", "infinite", "noise"])
def test_images_without_information_give_no_vector(make: str) -> None:
    shape = (256, 256)
    images = {
        "constant": (np.full(shape, 5.0), np.full(shape, 5.0)),
        "nothing": (np.full(shape, np.nan), np.full(shape, np.nan)),
        "infinite": (np.full(shape, np.inf), np.full(shape, np.inf)),
        "noise": (shifted_pair(shape, seed=1).reference, np.zeros(shape)),
    }[make]
    out = measure(SMALL, *(image.astype(np.float32) for image in images))
    assert (out[STATUS] != Status.MEASURED).all()
    assert np.isnan(out[:CHIP]).all()
    assert set(np.unique(out[STATUS])) <= {Status.NO_DATA, Status.NO_TEXTURE, Status.LOW_CORRELATION}


def test_a_small_chip_serves_where_it_agrees_with_the_larger() -> None:
    pair = shifted_pair((256, 256), (2.3, 1.1), noise=0.05)
    out = measure(SMALL, pair.reference, pair.secondary)
    assert (out[CHIP] == 16).mean() > 0.9


@pytest.mark.parametrize("sizes", [(15,), (), (2,), (1024,)])
def test_impossible_chips_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(Stop, match="chip_sizes"):
        NCC(chip_sizes=sizes)


def test_one_chip_size_may_stand_alone() -> None:
    assert NCC(chip_sizes=32).chip_sizes == (32,)


@pytest.mark.parametrize("search", ["full", "guided"])
@pytest.mark.parametrize("expected", [Prior(1e7, 0.0), Prior(0.0, -1e30), Prior(np.inf, np.inf), Prior(-900.0, 700.0)])
def test_a_motion_expected_far_beyond_the_images_gives_no_vector(expected: Prior, search: str) -> None:
    pair = shifted_pair((256, 256), (2.0, 1.0))
    matcher = NCC(chip_sizes=(16,), search_radius=12, search=search, subpixel="parabola")
    out = measure(matcher, pair.reference, pair.secondary, expected)
    assert (out[STATUS] == Status.NO_DATA).all()
    assert np.isnan(out[:CHIP]).all()


@pytest.mark.parametrize("search", ["full", "guided"])
def test_whole_numbers_of_sixteen_bits_do_not_overflow(search: str) -> None:
    pair = shifted_pair((256, 256), (5.37, -3.71), noise=0.1)
    images = [np.clip(np.rint(65000 + 200 * image), 0, 65535).astype(np.uint16) for image in (pair.reference, pair.secondary)]
    out = measure(NCC(chip_sizes=(32,), search_radius=10, search=search), *images)
    assert (out[STATUS] == Status.MEASURED).all()
    assert np.hypot(out[DX] - 5.37, out[DY] + 3.71).max() < 0.2


@pytest.mark.parametrize("make", ["constant", "nothing", "infinite"])
@pytest.mark.parametrize("shape", [(256, 256), (12, 9)])
def test_a_guided_search_gives_no_vector_either_where_there_is_no_information(make: str, shape: tuple[int, int]) -> None:
    image = np.full(shape, {"constant": 60000.0, "nothing": np.nan, "infinite": np.inf}[make], np.float32)
    out = measure(NCC(chip_sizes=(16, 32), search_radius=12, search="guided"), image, image)
    assert np.isin(out[STATUS], (Status.NO_DATA, Status.NO_TEXTURE)).all()
    assert np.isnan(out[:CHIP]).all()


@pytest.mark.parametrize("radius", [0, -3, 1000])
def test_an_impossible_radius_is_refused(radius: int) -> None:
    with pytest.raises(Stop, match="search_radius"):
        NCC(search_radius=radius)


@pytest.mark.parametrize(("min_valid", "sizes"), [(0.6, (16, 32)), (0.75, (16,)), (0.3, (16, 32)), (1.0, (16, 32)), (0.55, (20,))])
def test_nodes_without_enough_pixels_are_passed_over_and_no_others(
    monkeypatch: pytest.MonkeyPatch, min_valid: float, sizes: tuple[int, ...]
) -> None:
    pair = shifted_pair((90, 100), (1.0, 2.0))
    reference = pair.reference.copy()
    reference[:7], reference[:, 93:] = np.nan, np.nan
    matcher = NCC(chip_sizes=sizes, spacing=1, search_radius=3, min_valid=min_valid, subpixel="parabola")
    rows, columns = np.arange(-20, 30), np.arange(75, 120)
    found = matcher.find(reference, pair.secondary, rows, columns, Prior())
    monkeypatch.setattr(NCC, "_with_data", lambda *_: (slice(0, rows.size), slice(0, columns.size)))
    everywhere = matcher.find(reference, pair.secondary, rows, columns, Prior())
    np.testing.assert_array_equal(found[: 5 + len(sizes)], everywhere[: 5 + len(sizes)])
    assert (found[4] >= 0).any()
