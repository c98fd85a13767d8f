"""Lazy matching and cleaning: the numbers of the tile functions, whatever the chunks; signs and places that are known."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import cloudpickle
import numpy as np
import pytest
import xarray as xr
from dask import config
from hypothesis import given, settings
from hypothesis import strategies as st

from ftrack.cleaning import Fill, Outliers, clean_halo
from ftrack.errors import Stop
from ftrack.grid import Grid, grid_of, node_grid, nodes_on, place
from ftrack.match import bands_of, clean, match_array, match_stack, prefilter
from ftrack.matchers import NCC, Prior
from ftrack.pairs import Pair
from ftrack.prefilters import HighPass, NoFilter
from ftrack.schema import MOTION, Status
from ftrack.synthetic import shifted_pair
from ftrack.tile import clean_tile, filter_tile, match_tile

START = datetime(2020, 1, 1, tzinfo=UTC)
PAIR = Pair(reference="a", secondary="b", reference_time=START, secondary_time=START + timedelta(days=10))
MATCHER = NCC(chip_sizes=(16,), search_radius=4)


def stack_of(*images: np.ndarray, left: float = 500030.0, top: float = 7000020.0) -> xr.DataArray:
    grid = Grid(crs="EPSG:32622", resolution=10.0, left=left, top=top, height=images[0].shape[0], width=images[0].shape[1])
    names = np.array(["a", "b", "c"][: len(images)], object)
    times = np.array([np.datetime64("2020-01-01", "ns") + np.timedelta64(10 * k, "D") for k in range(len(images))])
    return place(xr.DataArray(np.stack(images), dims=("time", "y", "x"), coords={"time": times, "image": ("time", names)}), grid)


def pair_of_images(shift: tuple[float, float] = (1.4, -2.2), shape: tuple[int, int] = (200, 240)) -> xr.DataArray:
    pair = shifted_pair(shape, shift, noise=0.1)
    secondary = pair.secondary.copy()
    secondary[60:75, 80:130] = np.nan
    return stack_of(pair.reference, secondary)


STACK = pair_of_images()


def eager() -> np.ndarray:
    """Return what the tile functions give for the whole stack as one tile."""
    nodes = nodes_on(grid_of(STACK), 8)
    images = filter_tile(STACK.values, HighPass())
    halo = MATCHER.halo
    padded = np.pad(images, ((0, 0), (halo, halo), (halo, halo)), constant_values=np.nan)
    motion = match_tile(padded, [(0, 1)], MATCHER, nodes.rows + halo, nodes.columns + halo, [Prior()])
    wide = clean_halo(Outliers(), Fill())
    motion = np.pad(motion, ((0, 0), (0, 0), (wide, wide), (wide, wide)), constant_values=np.nan)
    return clean_tile(motion, Outliers(), Fill())[..., wide:-wide, wide:-wide]


@pytest.fixture(scope="module", autouse=True)
def chunks_as_they_are() -> Iterator[None]:
    """Small as they are here, let chunks be the tiles that are matched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ftrack.match.LEAST", 1)
        yield


@settings(max_examples=8)
@given(y=st.integers(24, 200), x=st.integers(24, 240))
def test_any_chunks_give_the_bits_of_the_eager_way(y: int, x: int) -> None:
    if y < 56:
        y = 56 + y
    motion = clean(match_stack(prefilter(STACK.chunk({"y": y, "x": max(x, 56)})), [PAIR], MATCHER)).compute(scheduler="sync")
    expected = eager()
    for k, variable in enumerate(MOTION):
        np.testing.assert_array_equal(motion[variable.name].values, expected[k].astype(variable.dtype), err_msg=variable.name)


def test_signs_and_places() -> None:
    world = shifted_pair((260, 260), seed=5).reference
    motion = match_stack(stack_of(world[20:220, 20:220], world[17:217, 22:222]), [PAIR], MATCHER).compute()
    measured = motion.status.values == Status.MEASURED
    assert measured.mean() > 0.6
    assert np.median(motion.dx.values[measured]) == pytest.approx(-2.0, abs=0.01)
    assert np.median(motion.dy.values[measured]) == pytest.approx(3.0, abs=0.01)
    assert (motion.x.values % 80 == 0).all()
    assert (motion.y.values % 80 == 0).all()


def test_a_feature_is_placed_where_it_is_in_the_reference() -> None:
    world = shifted_pair((200, 200), seed=5).reference
    moved = world.copy()
    moved[:, 100:] = np.roll(world, 3, axis=1)[:, 100:]
    motion = match_stack(stack_of(world, moved, left=500000.0, top=7000000.0), [PAIR], NCC(chip_sizes=(16,), search_radius=6)).compute()
    row = motion.dx.values[0, 8]
    assert np.nanmax(np.abs(row[motion.x.values < 500000 + 880])) < 0.1
    assert np.nanmin(row[(motion.x.values > 500000 + 1120) & (motion.x.values < 500000 + 1700)]) > 2.9


def test_it_is_lazy_and_keeps_coordinates() -> None:
    motion = match_stack(STACK.assign_coords(platform=("time", np.array(["sentinel-2a", "sentinel-2b"], object))).chunk(), [PAIR], MATCHER)
    assert motion.dx.chunks is not None
    assert [(v.name, str(motion[v.name].dtype)) for v in MOTION] == [(v.name, v.dtype) for v in MOTION]
    assert motion.reference_platform.item() == "sentinel-2a"
    assert motion.secondary.item() == "b"
    assert motion.rio.crs.to_epsg() == 32622
    assert motion.attrs["spacing"] == 8


def test_a_prior_is_a_velocity_on_the_map() -> None:
    pair = shifted_pair((200, 200), (12.0, -9.0), noise=0.05)
    per_pixel = 10.0 * 365.25 / 10.0
    stack = stack_of(pair.reference, pair.secondary)
    constant = match_stack(stack, [PAIR], MATCHER, prior=(12 * per_pixel, 9 * per_pixel)).compute()
    assert np.nanmedian(constant.dx) == pytest.approx(12.0, abs=0.01)
    assert np.nanmedian(constant.dy) == pytest.approx(-9.0, abs=0.01)
    y, x = np.arange(6998000.0, 7000100.0, 100)[::-1], np.arange(500000.0, 502100.0, 100)
    field = xr.Dataset(
        {n: (("y", "x"), np.full((y.size, x.size), v * per_pixel)) for n, v in (("vx", 12.0), ("vy", 9.0))}, {"y": y, "x": x}
    )
    from_map = match_stack(stack, [PAIR], MATCHER, prior=field).compute()
    assert np.nanmedian(from_map.dx) == pytest.approx(12.0, abs=0.01)


class Echo:
    """A matcher that finds what is expected."""

    spacing, halo = 8, 8

    def measure(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, prior: Prior) -> np.ndarray:
        out = np.zeros((len(MOTION), rows.size, columns.size), np.float32)
        out[0], out[1] = prior.dx, prior.dy
        return out


def test_a_map_of_velocity_reaches_every_node_of_every_pair_in_its_pixels() -> None:
    stack = stack_of(*np.zeros((3, 200, 180), np.float32))
    pairs = [PAIR, Pair(reference="a", secondary="c", reference_time=START, secondary_time=START + timedelta(days=35))]
    nodes = node_grid(grid_of(stack), nodes_on(grid_of(stack), 8))
    vx, vy = np.random.default_rng(0).uniform(-300, 300, (2, nodes.height, nodes.width))
    field = place(xr.Dataset({"vx": (("y", "x"), vx), "vy": (("y", "x"), vy)}), nodes)
    motion = match_stack(stack.chunk({"y": 70, "x": 60}), pairs, Echo(), prior=field).compute()
    for number, days in enumerate((10, 35)):
        np.testing.assert_allclose(motion.dx.values[number], vx * days / 365.25 / 10.0, rtol=1e-6)
        np.testing.assert_allclose(motion.dy.values[number], -vy * days / 365.25 / 10.0, rtol=1e-6)


def test_a_map_of_velocity_is_in_the_graph_once_however_many_pairs_there_are() -> None:
    stack = stack_of(*np.zeros((2, 400, 400), np.float32)).chunk()
    nodes = node_grid(grid_of(stack), nodes_on(grid_of(stack), 8))
    speed = np.random.default_rng(0).random((nodes.height, nodes.width))
    field = place(xr.Dataset({"vx": (("y", "x"), speed), "vy": (("y", "x"), speed + 1)}), nodes)
    sizes = [len(cloudpickle.dumps(match_array(stack, [PAIR] * count, Echo(), prior=field).dask)) for count in (1, 30)]
    assert sizes[1] < sizes[0] + field.vx.nbytes


def test_a_window_measures_only_its_nodes() -> None:
    whole = match_stack(STACK, [PAIR], MATCHER).compute()
    nodes = nodes_on(grid_of(STACK), 8)
    window = nodes._replace(row=nodes.row + 40, column=nodes.column + 80, height=9, width=7)
    part = match_stack(STACK.chunk({"y": 100, "x": 60}), [PAIR], MATCHER, window=window).compute()
    xr.testing.assert_identical(part, whole.isel(y=slice(5, 14), x=slice(10, 17)).assign_coords(spatial_ref=part.spatial_ref))


def test_chunks_smaller_than_the_halo_are_joined_and_given_back() -> None:
    whole = match_stack(STACK, [PAIR], MATCHER).compute()
    parts = match_stack(STACK.chunk({"y": 8, "x": 80}), [PAIR], MATCHER)
    assert parts.dx.data.chunks[1:] == ((1,) * (whole.sizes["y"]), (10, 10, 9)) or parts.dx.data.numblocks == (1, 25, 3)
    xr.testing.assert_identical(parts.compute(), whole)
    cleaned = clean(parts)
    assert cleaned.dx.data.chunks == parts.dx.data.chunks
    xr.testing.assert_identical(cleaned.compute(), clean(whole).compute())


@pytest.mark.parametrize(("least", "tiles"), [(1, 9), (80, 6), (120, 1)])
def test_chunks_are_matched_together_and_given_back(least: int, tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftrack.match.LEAST", least)
    with config.set(num_workers=1):
        still = match_stack(STACK.chunk({"y": 80, "x": 80}), [PAIR], Still())
        parts = match_stack(STACK.chunk({"y": 80, "x": 80}), [PAIR], MATCHER)
    assert sum("_match_block" in str(key) for key in still["dx"].data.dask.to_dict()) == tiles
    assert parts["dx"].data.numblocks == still["dx"].data.numblocks == (1, 3, 3)
    xr.testing.assert_identical(parts.compute(), match_stack(STACK, [PAIR], MATCHER).compute())


def test_a_pair_that_is_not_in_the_stack_is_refused() -> None:
    stranger = Pair(reference="a", secondary="z", reference_time=START, secondary_time=START + timedelta(days=3))
    with pytest.raises(Stop, match="no image 'z'"):
        match_stack(STACK, [stranger], MATCHER)
    with pytest.raises(Stop, match="no pairs"):
        match_stack(STACK, [], MATCHER)


def test_no_filter_changes_nothing() -> None:
    np.testing.assert_array_equal(prefilter(STACK, NoFilter()).values, STACK.values)


@pytest.mark.parametrize("matcher", [MATCHER, NCC(chip_sizes=(16, 32), search_radius=10, search="guided")])
def test_tiles_share_their_search_and_nothing_changes(matcher: NCC, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = shifted_pair((600, 620), (3.4, -2.2), noise=0.2)
    stack, searched = stack_of(pair.reference, pair.secondary), []
    whole = match_stack(stack, [PAIR], matcher).compute()
    find = NCC.find

    def counted(self: NCC, *given: np.ndarray) -> np.ndarray:
        searched.append(given[2].size * given[3].size)
        return find(self, *given)

    monkeypatch.setattr(NCC, "find", counted)
    parts = match_stack(stack.chunk({"y": 300, "x": 310}), [PAIR], matcher)
    assert parts.dx.data.numblocks[1:] == (2, 2)
    xr.testing.assert_identical(parts.compute(scheduler="sync"), whole)
    beyond = 2 * matcher.spread
    assert len(searched) == 4
    assert sum(searched) == (whole.sizes["y"] + beyond) * (whole.sizes["x"] + beyond)


def test_a_prior_that_varies_reaches_both_stages() -> None:
    pair = shifted_pair((560, 560), (6.0, -4.0), noise=0.1)
    stack, per_pixel = stack_of(pair.reference, pair.secondary), 10.0 * 365.25 / 10.0
    nodes = node_grid(grid_of(stack), nodes_on(grid_of(stack), 8))
    change = np.linspace(-1.0, 1.0, nodes.width)[None, :] * np.linspace(-1.0, 1.0, nodes.height)[:, None]
    field = place(xr.Dataset({"vx": (("y", "x"), (6.0 + change) * per_pixel), "vy": (("y", "x"), (4.0 + change) * per_pixel)}), nodes)
    whole = match_stack(stack, [PAIR], MATCHER, prior=field).compute()
    parts = match_stack(stack.chunk({"y": 190, "x": 280}), [PAIR], MATCHER, prior=field).compute()
    xr.testing.assert_identical(parts, whole)
    assert (whole.status == Status.MEASURED).mean() > 0.8


class Still(NCC):
    """A matcher that replaces what NCC measures, and needs no pixels around a node."""

    @property
    def halo(self) -> int:
        return 0

    @property
    def margin(self) -> int:
        return 0

    def measure(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, prior: Prior) -> np.ndarray:
        return np.zeros((len(MOTION), rows.size, columns.size), np.float32)


def test_a_matcher_that_replaces_measure_alone_has_one_stage() -> None:
    motion = match_stack(STACK.chunk({"y": 40, "x": 40}), [PAIR], Still()).compute(scheduler="sync")
    assert (motion.status == Status.MEASURED).all()
    assert (motion.dx == 0).all()


def test_images_of_one_chunk_are_shared_by_threads_and_keep_their_chunk_and_bits() -> None:
    pair = shifted_pair((880, 120), (1.4, -2.2), noise=0.1)
    stack = stack_of(pair.reference, pair.secondary)
    with config.set(num_workers=2):
        shared = match_stack(stack.chunk(-1), [PAIR], MATCHER)
        assert bands_of(stack.chunk({"y": 440}), nodes_on(grid_of(stack), 8)) is None
    with config.set(num_workers=1):
        alone = match_stack(stack.chunk(-1), [PAIR], MATCHER)
    assert sum("find_block" in str(key) for key in shared["dx"].data.dask.to_dict()) >= 2
    assert not any("find_block" in str(key) for key in alone["dx"].data.dask.to_dict())
    assert shared["dx"].data.chunks == alone["dx"].data.chunks == ((1,), (110,), (15,))
    assert np.isfinite(alone["dx"].values).mean() > 0.5
    xr.testing.assert_identical(shared.compute(), alone.compute())
