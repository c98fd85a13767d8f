"""Outliers go, shear margins stay, only small holes are filled, and tiles do not matter."""

from __future__ import annotations

import numpy as np
import oracles_clean as oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ftrack.cleaning import FILLABLE, Fill, Outliers, clean_halo, clean_nodes
from ftrack.errors import Stop
from ftrack.schema import Status

DX, DY, CORRELATION, PEAK_RATIO, DX_ERROR, DY_ERROR, CHIP, STATUS = range(8)
KEEP, LEAVE = Outliers(passes=0), Fill(min_neighbours=0)


def motion_of(dx: np.ndarray, dy: np.ndarray, error: float = 0.05) -> np.ndarray:
    motion = np.empty((8, *dx.shape), np.float32)
    motion[DX], motion[DY], motion[CORRELATION], motion[PEAK_RATIO] = dx, dy, 0.8, 2.0
    motion[DX_ERROR], motion[DY_ERROR], motion[CHIP], motion[STATUS] = error, error, 32, Status.MEASURED
    return motion


def blank(motion: np.ndarray, where: np.ndarray, status: int) -> None:
    motion[:STATUS, where] = np.nan
    motion[CHIP, where] = 0
    motion[STATUS, where] = status


def outlet(size: int = 100, margin: float = 4.0, speed: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """Return dx, dy of a glacier with shear margins of ``2 * margin`` nodes and rock beside it."""
    y, x = np.mgrid[:size, :size].astype(float)
    across = np.clip((np.abs(x - size / 2 - 8 * np.sin(y / 20)) - size / 5) / margin, -1, 1)
    flow = 0.5 * speed * (1 - np.sin(np.pi / 2 * across))
    return 0.3 * flow, flow


def spoilt(random: np.random.Generator, dx: np.ndarray, dy: np.ndarray, *, alone: float = 0.04, clusters: int = 30) -> np.ndarray:
    """Return noisy vectors with lone blunders and blunders of up to 3x3 nodes that agree among themselves."""
    noise = [ndimage.gaussian_filter(random.standard_normal(dx.shape), 1.0) * 3.5 * 0.05 for _ in range(2)]
    motion = motion_of(dx + noise[0], dy + noise[1])
    wild = random.random(dx.shape) < alone
    motion[:2, wild] = random.uniform(-16, 16, (2, wild.sum()))
    for _ in range(clusters):
        height, width = random.integers(2, 4, 2)
        top, left = random.integers(0, dx.shape[0] - 3, 2)
        block = motion[:2, top : top + height, left : left + width]
        block[:] = random.uniform(-16, 16, (2, 1, 1)) + 0.1 * random.standard_normal(block.shape)
    return motion


def rates(motion: np.ndarray, cleaned: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> tuple[float, float]:
    """Return the share of kept vectors that are wrong by over 1 px, and the share of right vectors that were lost."""
    had, kept = motion[STATUS] == Status.MEASURED, cleaned[STATUS] == Status.MEASURED
    wrong = had & (np.hypot(motion[DX] - dx, motion[DY] - dy) > 1)
    return float((wrong & kept).sum() / kept.sum()), float((had & ~wrong & ~kept).sum() / (had & ~wrong).sum())


@pytest.mark.parametrize("margin", [8.0, 4.0, 3.0])
def test_blunders_go_and_shear_margins_stay(margin: float) -> None:
    random = np.random.default_rng(1)
    dx, dy = outlet(margin=margin)
    motion = spoilt(random, dx, dy)
    wrong, lost = rates(motion, clean_nodes(motion, fill=LEAVE), dx, dy)
    assert wrong < 0.0005 and lost < 0.002
    sheared = np.abs(np.gradient(dy, axis=1)) > 0.3
    spotless = motion_of(dx, dy)
    assert (clean_nodes(spotless, fill=LEAVE)[STATUS][sheared] == Status.MEASURED).all()


@pytest.mark.parametrize("grain", [1, 2])
def test_incoherent_ground_is_taken_out_whole(grain: int) -> None:
    random = np.random.default_rng(2)
    dx, dy = outlet()
    motion = spoilt(random, dx, dy, alone=0.0, clusters=0)
    patch = np.zeros(dx.shape, bool)
    patch[20:60, 10:70] = True
    wild = np.kron(random.uniform(-16, 16, (2, 50, 50)), np.ones((1, 2, 2))) if grain == 2 else random.uniform(-16, 16, (2, 100, 100))
    motion[:2, patch] = wild[:, patch]
    wrong, lost = rates(motion, clean_nodes(motion, fill=LEAVE), dx, dy)
    assert wrong < 0.001 and lost < 0.02


def test_one_pass_equals_its_plain_definition() -> None:
    random = np.random.default_rng(3)
    dx, dy = outlet(32, margin=3.0)
    motion = spoilt(random, dx, dy, alone=0.15, clusters=5)
    blank(motion, random.random(dx.shape) < 0.25, Status.NO_DATA)
    motion[DX_ERROR:CHIP] = random.uniform(0.02, 0.3, (2, 32, 32)).astype(np.float32)
    chosen = Outliers(passes=1, error_ratio=0.0)
    limits = (chosen.tolerance, chosen.share, chosen.noise, chosen.threshold)
    got = clean_nodes(motion, chosen, LEAVE)[STATUS] == Status.MEASURED
    fields = motion.astype(float)
    expected = np.zeros(dx.shape, bool)
    for y, x in zip(*np.nonzero(motion[STATUS] == Status.MEASURED), strict=True):
        expected[y, x] = oracles.agrees(fields[DX], fields[DY], fields[DX_ERROR:CHIP, y, x], y, x, 2, limits)
    np.testing.assert_array_equal(got, expected)
    assert 50 < (motion[STATUS] == 0).sum() - expected.sum() < 400


def test_a_second_pass_judges_anew_what_a_first_has_changed() -> None:
    random = np.random.default_rng(4)
    motion = spoilt(random, *outlet(), alone=0.2)
    once = clean_nodes(motion, Outliers(passes=1), LEAVE)
    again = clean_nodes(once, Outliers(passes=1), LEAVE)
    assert clean_nodes(motion, Outliers(passes=2), LEAVE).tobytes() == again.tobytes() != once.tobytes()


def test_a_vector_with_a_large_error_may_deviate_more() -> None:
    motion = motion_of(np.zeros((9, 9)), np.zeros((9, 9)), error=0.02)
    motion[DX, 4, 4] = 0.6
    assert clean_nodes(motion, fill=LEAVE)[STATUS, 4, 4] == Status.OUTLIER
    motion[DX_ERROR, 4, 4] = 0.3
    assert clean_nodes(motion, Outliers(error_ratio=0.0), LEAVE)[STATUS, 4, 4] == Status.MEASURED


def test_a_vector_much_less_certain_than_the_better_ones_around_it_is_an_outlier() -> None:
    motion = motion_of(np.zeros((11, 11)), np.zeros((11, 11)), error=0.02)
    motion[DX_ERROR, :, 6:] = 0.05
    motion[DX_ERROR, 5, 5] = 0.12
    found = clean_nodes(motion, fill=LEAVE)[STATUS]
    assert found[5, 5] == Status.OUTLIER
    assert (found == Status.OUTLIER).sum() == 1


def test_an_outlier_loses_its_values_and_the_others_keep_their_bits() -> None:
    dx, dy = outlet(20)
    motion = motion_of(dx, dy)
    motion[DX, 10, 10] += 9
    before = motion.copy()
    cleaned = clean_nodes(motion, fill=LEAVE)
    assert motion.tobytes() == before.tobytes()
    assert np.isnan(cleaned[:CHIP, 10, 10]).all() and cleaned[CHIP, 10, 10] == 0 and cleaned[STATUS, 10, 10] == Status.OUTLIER
    elsewhere = np.ones(dx.shape, bool)
    elsewhere[10, 10] = False
    assert cleaned[:, elsewhere].tobytes() == before[:, elsewhere].tobytes()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 5),
    gaps=st.sampled_from([0.0, 0.1, 0.5]),
    width=st.sampled_from([3, 5, 7]),
    passes=st.integers(0, 3),
    fill_width=st.sampled_from([3, 5]),
    fill_passes=st.integers(0, 3),
    no_data=st.booleans(),
    corner=st.tuples(st.integers(-10, 40), st.integers(-10, 40)),
    size=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    beyond=st.sampled_from([np.nan, float(Status.NOT_COMPUTED)]),
)
def test_a_window_with_its_halo_has_the_bits_of_the_whole(
    seed: int,
    gaps: float,
    width: int,
    passes: int,
    fill_width: int,
    fill_passes: int,
    no_data: bool,
    corner: tuple[int, int],
    size: tuple[int, int],
    beyond: float,
) -> None:
    random = np.random.default_rng(seed)
    motion = spoilt(random, *outlet(40, margin=2.0), alone=0.2, clusters=6)
    for status in (Status.NO_DATA, *FILLABLE):
        blank(motion, random.random((40, 40)) < gaps / 6, status)
    outliers = Outliers(width=width, passes=passes)
    fill = Fill(width=fill_width, min_neighbours=3, passes=fill_passes, no_data=no_data, max_scatter=5.0)
    margin, halo = 60, clean_halo(outliers, fill)
    surround = ((0, 0), (margin, margin), (margin, margin))
    wide = np.pad(motion, surround, constant_values=np.nan)
    wide[STATUS][np.isnan(wide[STATUS])] = beyond
    whole = np.pad(clean_nodes(motion, outliers, fill), surround, constant_values=np.nan)
    whole[STATUS][np.isnan(whole[STATUS])] = beyond
    top, left = margin + corner[0], margin + corner[1]
    part = clean_nodes(wide[:, top - halo : top + size[0] + halo, left - halo : left + size[1] + halo], outliers, fill)
    part = part[:, halo : halo + size[0], halo : halo + size[1]]
    assert part.tobytes() == whole[:, top : top + size[0], left : left + size[1]].tobytes()


def test_the_halo_is_not_larger_than_it_must_be() -> None:
    assert clean_halo() == 4 + 2 * 2 + 2
    assert clean_halo(Outliers(passes=0), LEAVE) == 0
    assert clean_halo(Outliers(width=7, passes=3), Fill(width=3, passes=2)) == 4 + 11
    assert clean_halo(Outliers(error_ratio=0.0), LEAVE) == 2 * 2


@pytest.mark.parametrize("status", FILLABLE)
def test_small_holes_are_filled_on_the_plane_of_their_neighbours(status: Status) -> None:
    y, x = np.mgrid[:20, :20].astype(float)
    dx, dy = 0.3 * x - 0.1 * y + 2, -0.25 * x + 0.4 * y
    motion = motion_of(dx, dy, error=0.04)
    hole = np.zeros(dx.shape, bool)
    hole[8:11, 8:11] = True
    blank(motion, hole, status)
    cleaned = clean_nodes(motion)
    assert (cleaned[STATUS][hole] == Status.FILLED).all()
    np.testing.assert_allclose(cleaned[DX][hole], dx[hole], atol=1e-5)
    np.testing.assert_allclose(cleaned[DY][hole], dy[hole], atol=1e-5)
    np.testing.assert_allclose(cleaned[DX_ERROR][hole], 0.04, atol=1e-5)
    assert np.isnan(cleaned[CORRELATION : PEAK_RATIO + 1, hole]).all() and (cleaned[CHIP][hole] == 0).all()


def test_large_holes_edges_and_clouds_are_not_filled() -> None:
    motion = motion_of(np.zeros((30, 30)), np.zeros((30, 30)))
    hole = np.zeros((30, 30), bool)
    hole[10:17, 10:17] = True
    blank(motion, hole, Status.LOW_CORRELATION)
    beside = np.zeros((30, 30), bool)
    beside[:2] = True
    blank(motion, beside, Status.LOW_CORRELATION)
    cloud = np.zeros((30, 30), bool)
    cloud[25, 25] = True
    blank(motion, cloud, Status.NO_DATA)
    status = clean_nodes(motion)[STATUS]
    assert (status[12:15, 12:15] == Status.LOW_CORRELATION).all()
    assert (status[:2] == Status.LOW_CORRELATION).all(), "beside the field is not surrounded"
    assert status[25, 25] == Status.NO_DATA
    assert clean_nodes(motion, fill=Fill(no_data=True))[STATUS, 25, 25] == Status.FILLED


def test_a_node_beside_the_field_is_not_filled_however_many_neighbours_it_has() -> None:
    motion = motion_of(np.zeros((12, 12)), np.zeros((12, 12)))
    edge, corner = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    edge[0, 5], corner[11, 11] = True, True
    blank(motion, edge | corner, Status.AMBIGUOUS)
    cleaned = clean_nodes(motion, fill=Fill(min_neighbours=4))
    # On the edge the node lies between two neighbours, but not inside the hull: beyond it nothing is known.
    assert cleaned[STATUS, 0, 5] == Status.AMBIGUOUS and cleaned[STATUS, 11, 11] == Status.AMBIGUOUS


def test_the_scatter_of_the_neighbours_is_part_of_the_error() -> None:
    checker = 0.2 * (-1.0) ** np.add.outer(np.arange(12), np.arange(12))
    motion = motion_of(checker, np.zeros((12, 12)), error=0.03)
    lone = np.zeros((12, 12), bool)
    lone[5, 5] = True
    blank(motion, lone, Status.AMBIGUOUS)
    filled = clean_nodes(motion, KEEP)[:, 5, 5]
    assert filled[STATUS] == Status.FILLED and abs(filled[DX]) < 0.21
    assert filled[DX_ERROR] == pytest.approx(np.hypot(1.4826 * 0.2, 0.03), rel=0.4)
    assert filled[DY_ERROR] == pytest.approx(0.03)


def test_filled_nodes_serve_the_next_pass() -> None:
    motion = motion_of(np.zeros((20, 20)), np.zeros((20, 20)))
    hole = np.zeros((20, 20), bool)
    hole[8:12, 8:12] = True
    blank(motion, hole, Status.DIVERGED)
    assert (clean_nodes(motion)[STATUS][hole] == Status.FILLED).sum() == 12
    assert (clean_nodes(motion, fill=Fill(passes=2))[STATUS][hole] == Status.FILLED).all()


def test_no_status_but_those_named_is_filled() -> None:
    for status in set(Status) - set(FILLABLE) - {Status.MEASURED}:
        motion = motion_of(np.zeros((9, 9)), np.zeros((9, 9)))
        lone = np.zeros((9, 9), bool)
        lone[4, 4] = True
        blank(motion, lone, status)
        assert clean_nodes(motion)[STATUS, 4, 4] == status


def test_holes_where_neighbours_disagree_stay_empty() -> None:
    random = np.random.default_rng(5)
    motion = motion_of(*(2.0 * random.standard_normal((2, 30, 30))))
    holes = np.zeros((30, 30), bool)
    holes[::6, ::6] = True
    blank(motion, holes, Status.AMBIGUOUS)
    assert (clean_nodes(motion, KEEP)[STATUS] != Status.FILLED).all()


def test_errors_of_filled_vectors_cover_their_true_error() -> None:
    random = np.random.default_rng(6)
    dx, dy = outlet(margin=8.0)
    motion = spoilt(random, dx, dy, alone=0.06)
    cleaned = clean_nodes(motion)
    filled = cleaned[STATUS] == Status.FILLED
    miss = np.stack([cleaned[DX] - dx, cleaned[DY] - dy])[:, filled] / cleaned[DX_ERROR:CHIP, filled]
    assert filled.sum() > 500
    assert (np.abs(miss) < 1).mean() > 0.68 and (np.abs(miss) < 3).mean() > 0.99


def test_bad_input_is_named() -> None:
    with pytest.raises(Stop, match=r"shape \(8, y, x\)"):
        clean_nodes(np.zeros((3, 4), np.float32))
    with pytest.raises(Stop, match="odd"):
        Outliers(width=4)
    with pytest.raises(Stop, match="odd"):
        Fill(width=4)
    empty = clean_nodes(np.full((8, 0, 5), np.nan, np.float32))
    assert empty.shape == (8, 0, 5)
    assert np.isnan(clean_nodes(np.full((8, 3, 5), np.nan, np.float32))).all()
