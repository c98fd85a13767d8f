"""Velocity: signs, units, ground metres and errors that mean what they say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from ftrack.cube import CubeSpec, create_cube, open_cube, publish_cube, write_block, write_coords
from ftrack.errors import Stop
from ftrack.grid import Grid, grid_of, place
from ftrack.ground import Calibration, calibrate, find_shifts
from ftrack.labels import Image
from ftrack.pairs import Pair
from ftrack.schema import DAYS_PER_YEAR, MOTION, PER_NODE, PER_PAIR, VELOCITY, Status
from ftrack.stable import FLAT, Shift, StableSettings, fit_shift
from ftrack.velocity import Correction, correct, point_scale, shift_columns, to_velocity, velocity_block
from ftrack.verify import verify_cube

UTM = "EPSG:32622"
NODES = Grid(crs=UTM, resolution=80.0, left=499960.0, top=7700040.0, height=12, width=10)
START = datetime(2020, 3, 1, 14, tzinfo=UTC)
NO_SHIFT = Shift(0.0, 0.0, FLAT, np.nan, np.nan, 0, 0)


def one_node(dx: float = 1.0, dy: float = 0.0, status: int = Status.MEASURED, **others: Any) -> dict[str, np.ndarray]:
    values = {"dx": dx, "dy": dy, "correlation": 0.9, "peak_ratio": 2.0, "dx_error": 0.1, "dy_error": 0.1, "chip_size": 32} | others
    return {v.name: np.full((1, 1, 1), {**values, "status": status}[v.name], v.dtype) for v in MOTION}


def velocity_of(days: float = 10.0, pixel: float = 10.0, scale: float = 1.0, correction: Correction | None = None, **node: Any) -> Any:
    values = velocity_block(one_node(**node), np.array([days]), pixel, np.full((1, 1), scale), correction or Correction())
    return {name: value.item() for name, value in values.items()}


def make_motion(nodes: Grid = NODES, pairs: int = 5, chunks: Any = None, seed: int = 0, shuffle: bool = False) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    shape = (pairs, nodes.height, nodes.width)
    values = {v.name: rng.normal(0, 2, shape) for v in MOTION}
    values["status"] = rng.choice([s for s in Status if s != Status.NOT_COMPUTED], shape)
    values["chip_size"] = rng.choice([16, 32], shape)
    for name in ("dx_error", "dy_error"):
        values[name] = rng.uniform(0.02, 0.2, shape)
    gap = values["status"] > Status.FILLED
    for name in ("dx", "dy", "dx_error", "dy_error"):
        values[name] = np.where(gap, np.nan, values[name])
    made = {v.name: (("pair", "y", "x"), values[v.name].astype(v.dtype)) for v in MOTION}
    order = rng.permutation(pairs) if shuffle else np.arange(pairs)
    times = [START + timedelta(days=int(k)) for k in order]
    coords = {
        "pair": np.arange(pairs),
        "reference": ("pair", np.array([f"S2A_{k}" for k in order], object)),
        "secondary": ("pair", np.array([f"L8_{k}" for k in order], object)),
        "reference_time": ("pair", np.array([t.replace(tzinfo=None) for t in times], "datetime64[ns]")),
        "secondary_time": ("pair", np.array([(t + timedelta(days=10)).replace(tzinfo=None) for t in times], "datetime64[ns]")),
        "reference_platform": ("pair", np.array(["sentinel-2a"] * pairs, object)),
        "secondary_platform": ("pair", np.array(["landsat-8"] * pairs, object)),
        "reference_scene_ids": ("pair", np.array([f"a{k} b{k}" for k in order], object)),
        "secondary_scene_ids": ("pair", np.array([f"c{k}" for k in order], object)),
    }
    motion = place(xr.Dataset(made, coords, {"pixel_size": 10.0, "spacing": 8}), nodes)
    return motion.chunk(chunks) if chunks else motion


def shift_of(dx: float, dy: float, gradient: Any = FLAT, scatter: float = 0.1) -> Shift:
    return Shift(dx, dy, gradient, scatter, scatter, 1000, 1)


# signs and units


def test_right_is_east_and_up_is_north() -> None:
    east, north = velocity_of(dx=1.0, dy=0.0), velocity_of(dx=0.0, dy=-1.0)
    yearly = 10.0 / 10.0 * 365.25
    assert (east["vx"], east["vy"]) == (pytest.approx(yearly), 0.0)
    assert (north["vx"], north["vy"]) == (0.0, pytest.approx(yearly))
    assert east["v"] == north["v"] == pytest.approx(yearly)


def test_a_known_velocity_comes_back() -> None:
    """A point that moves 200 m/yr towards 30 degrees east of grid north for 16 days, seen with pixels of 15 m."""
    metres = 200.0 * 16 / DAYS_PER_YEAR
    dx, dy = metres * np.sin(np.radians(30)) / 15, -metres * np.cos(np.radians(30)) / 15
    found = velocity_of(days=16.0, pixel=15.0, dx=dx, dy=dy)
    assert found["vx"] == pytest.approx(100.0, rel=1e-6)
    assert found["vy"] == pytest.approx(173.2050808, rel=1e-6)
    assert found["v"] == pytest.approx(200.0, rel=1e-6)


def test_the_shift_is_taken_off_in_pixels_before_the_flip() -> None:
    shift = Correction(dx=np.array([[[0.25]]]), dy=np.array([[[-0.5]]]))
    found = velocity_of(dx=1.25, dy=0.5, correction=shift)
    assert (found["vx"], found["vy"]) == (pytest.approx(365.25), pytest.approx(-365.25))


def test_map_metres_become_ground_metres() -> None:
    assert velocity_of(scale=1.04)["vx"] == pytest.approx(velocity_of()["vx"] / 1.04, rel=1e-6)
    assert velocity_of(scale=1.04)["vx_error"] == pytest.approx(velocity_of()["vx_error"] / 1.04, rel=1e-6)


def test_the_displacement_of_a_moved_point_is_its_ground_velocity() -> None:
    """A point is moved on the ellipsoid; its displacement on the map, in pixels, gives back how far it moved."""
    nodes = Grid(crs="EPSG:3413", resolution=80.0, left=300000.0, top=-3300000.0, height=3, width=3)
    to_degrees = pyproj.Transformer.from_crs(nodes.crs, "EPSG:4326", always_xy=True)
    x, y = nodes.x[1], nodes.y[1]
    longitude, latitude = to_degrees.transform(x, y)
    there = pyproj.Geod(ellps="WGS84").fwd(longitude, latitude, 70.0, 100.0)
    x2, y2 = to_degrees.transform(there[0], there[1], direction="INVERSE")
    found = velocity_of(days=DAYS_PER_YEAR, scale=point_scale(nodes)[1, 1], dx=(x2 - x) / 10, dy=-(y2 - y) / 10)
    assert found["v"] == pytest.approx(100.0, abs=2e-3)
    assert np.hypot(x2 - x, y2 - y) > 103.5


@pytest.mark.parametrize("status", [s for s in Status if s > Status.FILLED])
def test_a_node_without_a_vector_has_no_velocity_whatever_else_is_there(status: Status) -> None:
    found = velocity_of(status=status)
    assert all(np.isnan(found[name]) for name in ("vx", "vy", "v", "vx_error", "vy_error", "v_error"))
    assert found["status"] == status
    assert found["correlation"] == pytest.approx(0.9)
    assert found["interp_mask"] == (255 if status == Status.NOT_COMPUTED else 0)


def test_filled_nodes_are_marked() -> None:
    assert velocity_of(status=Status.FILLED)["interp_mask"] == 1
    assert velocity_of(status=Status.MEASURED)["interp_mask"] == 0
    assert velocity_of(status=Status.FILLED)["vx"] == velocity_of()["vx"]


def test_types_are_those_of_the_schema() -> None:
    values = velocity_block(np.zeros((8, 2, 3, 4), "float32"), np.array([5.0, 6.0]), 10.0, np.ones((3, 4)))
    assert {name: (str(a.dtype), a.shape) for name, a in values.items()} == {v.name: (v.dtype, (2, 3, 4)) for v in VELOCITY}


# the scale of the projection


def ellipsoidal_scale(nodes: Grid, length: float = 10.0) -> np.ndarray:
    """Map metres over ground metres of short lines to the east and to the north of every node."""
    crs = pyproj.CRS(nodes.crs)
    to_degrees = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    x, y = np.meshgrid(nodes.x, nodes.y)
    found = []
    for dx, dy in ((length / 2, 0.0), (0.0, length / 2)):
        ends = [*to_degrees.transform(x - dx, y - dy), *to_degrees.transform(x + dx, y + dy)]
        found.append(length / crs.get_geod().inv(*ends)[2])
    return np.array(found)


@pytest.mark.parametrize(
    ("crs", "left", "top"),
    [
        ("EPSG:3413", -200040.0, -2200040.0),
        ("EPSG:3413", 300000.0, -3300000.0),
        ("EPSG:3031", -1600000.0, 500000.0),
        ("EPSG:32622", 300000.0, 7700000.0),
        ("EPSG:32718", 620000.0, 4450000.0),
        ("EPSG:2056", 2640000.0, 1160000.0),
    ],
)
def test_the_scale_is_that_of_lines_on_the_ellipsoid(crs: str, left: float, top: float) -> None:
    nodes = Grid(crs=crs, resolution=400.0, left=left, top=top, height=20, width=30)
    east, north = ellipsoidal_scale(nodes)
    assert np.abs(point_scale(nodes) - east).max() < 1e-6
    assert np.abs(point_scale(nodes) - north).max() < 1e-6


def test_the_scale_of_known_places() -> None:
    for latitude, expected in ((60, 1.0394), (70, 1.0000), (80, 0.9773)):
        x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3413", always_xy=True).transform(-45, latitude)
        nodes = Grid(crs="EPSG:3413", resolution=100.0, left=x - 50, top=y + 50, height=2, width=2)
        assert point_scale(nodes)[0, 0] == pytest.approx(expected, abs=5e-5)
    centre = Grid(crs=UTM, resolution=10.0, left=500000.0, top=7000000.0, height=2, width=2)
    assert point_scale(centre)[0, 0] == pytest.approx(0.9996, abs=1e-7)


@given(st.integers(0, 90), st.integers(0, 90), st.integers(1, 40), st.integers(1, 40))
def test_a_node_has_the_same_scale_in_every_window(row: int, column: int, height: int, width: int) -> None:
    nodes = Grid(crs="EPSG:3413", resolution=240.0, left=-3600.0, top=-2000160.0, height=130, width=130)
    window = (slice(row, row + height), slice(column, column + width))
    np.testing.assert_array_equal(point_scale(nodes.window(*window)), point_scale(nodes)[window])


def test_a_projection_that_does_not_suit_is_refused() -> None:
    with pytest.raises(Stop, match="differs between directions"):
        point_scale(Grid(crs="EPSG:6933", resolution=100.0, left=1e6, top=6e6, height=3, width=3))
    with pytest.raises(Stop, match="in US survey foot"):
        point_scale(Grid(crs="EPSG:2225", resolution=100.0, left=2e6, top=5e5, height=3, width=3))
    assert point_scale(Grid(crs="EPSG:3035", resolution=100.0, left=4.2e6, top=2.6e6, height=3, width=3)) == pytest.approx(1.0, abs=1e-6)


# errors


def test_errors_in_metres_per_year() -> None:
    found = velocity_of(dx=3.0, dy=-4.0, dx_error=0.1, dy_error=0.2)
    assert (found["vx_error"], found["vy_error"]) == (pytest.approx(36.525), pytest.approx(73.05))
    assert found["v_error"] == pytest.approx(np.hypot(0.6 * 36.525, 0.8 * 73.05), rel=1e-6)


def test_the_error_of_the_speed_at_rest_is_the_mean_over_directions() -> None:
    sx, sy = 36.525, 73.05
    angles = np.linspace(0, 2 * np.pi, 1000, endpoint=False)
    mean = np.sqrt(np.mean((np.cos(angles) * sx) ** 2 + (np.sin(angles) * sy) ** 2))
    at_rest = velocity_of(dx=0.0, dy=0.0, dx_error=0.1, dy_error=0.2)["v_error"]
    assert at_rest == pytest.approx(mean, rel=1e-6)
    assert velocity_of(dx=1e-20, dy=0.0, dx_error=0.1, dy_error=0.2)["v_error"] == pytest.approx(sx, rel=1e-6)


def test_formal_errors_are_scaled_and_the_error_of_the_shift_added() -> None:
    correction = correct([shift_of(0.0, 0.0)], [Calibration(2.0, 1.0, 0.3, 0.0, 0.4, 0.5)], (1, 1))
    found = velocity_of(dx_error=0.1, dy_error=1.2, correction=correction)
    assert found["vx_error"] == pytest.approx(365.25 * np.sqrt(0.2**2 + 0.3**2 + 0.4**2), rel=1e-6)
    assert found["vy_error"] == pytest.approx(365.25 * 1.3, rel=1e-6)


def rough_ground(scale: float, floor: float, seed: int = 3, side: int = 120) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Stable ground whose true errors follow from the formal ones, next to ice that moves, with a few wild vectors."""
    rng = np.random.default_rng(seed)
    formal = rng.uniform(0.01, 0.3, (2, side, side))
    true = np.hypot(scale * formal, floor)
    moved = rng.normal(0, true) + np.array([0.4, -0.7])[:, None, None]
    stable = np.zeros((side, side), bool)
    stable[:, : side // 2] = True
    moved[:, :, side // 2 :] += 5
    wild = rng.random((side, side)) < 0.01
    moved[:, wild] += rng.uniform(-10, 10, (2, wild.sum()))
    status = np.where(rng.random((side, side)) < 0.1, Status.OUTLIER, Status.MEASURED)
    moved[:, status == Status.OUTLIER] = np.nan
    motion = {"dx": moved[0], "dy": moved[1], "dx_error": formal[0], "dy_error": formal[1]}
    return {**motion, "status": status.astype("uint8"), "chip_size": np.full((side, side), 32, "uint16"), "true": true}, stable


@pytest.mark.parametrize(("scale", "floor"), [(1.0, 0.0), (2.5, 0.0), (1.0, 0.15), (1.8, 0.1)])
def test_errors_are_calibrated_on_stable_ground_for_good_and_for_poor_nodes(scale: float, floor: float) -> None:
    motion, stable = rough_ground(scale, floor)
    shift = fit_shift(motion["dx"], motion["dy"], motion["status"] == Status.MEASURED, stable, StableSettings(area="rock.gpkg"))
    found = calibrate(shift, motion, stable, 8)
    for k, (s, f) in enumerate(((found.scale_dx, found.floor_dx), (found.scale_dy, found.floor_dy))):
        assert s >= 1 and f >= 0
        formal = motion["dx_error" if k == 0 else "dy_error"]
        ratio = np.hypot(s * formal, f) / motion["true"][k]
        for low, high in ((0.01, 0.1), (0.1, 0.2), (0.2, 0.3)):
            assert np.mean(ratio[(formal >= low) & (formal < high)]) == pytest.approx(1.0, abs=0.12)
    nodes = (stable & (motion["status"] == Status.MEASURED)).sum() / 16
    assert found.shift_error_dx == pytest.approx(np.sqrt(np.pi / 2) * shift.scatter_dx / np.sqrt(nodes), rel=1e-6)


def test_the_error_of_the_shift_is_that_of_a_median_of_independent_nodes() -> None:
    shifts, claimed = [], []
    for seed in range(60):
        motion, stable = rough_ground(1.0, 0.2, seed, 30)
        motion["chip_size"][:] = 8
        shift = fit_shift(motion["dx"], motion["dy"], motion["status"] == Status.MEASURED, stable, StableSettings(area="rock.gpkg"))
        shifts.append((shift.dx, shift.dy))
        found = calibrate(shift, motion, stable, 8)
        claimed.append((found.shift_error_dx, found.shift_error_dy))
    assert np.std(shifts) > 0
    assert np.median(claimed) == pytest.approx(np.std(np.array(shifts) - [0.4, -0.7]), rel=0.3)


def test_without_stable_ground_formal_errors_stay() -> None:
    motion, stable = rough_ground(2.0, 0.1, side=20)
    assert calibrate(NO_SHIFT, motion, stable, 8) == Calibration()
    assert calibrate(shift_of(0.4, -0.7), motion, None, 8) == Calibration()
    few = np.zeros_like(stable)
    few[0, :10] = True
    assert calibrate(shift_of(0.4, -0.7), motion, few, 8).scale_dx == 1.0


# the dataset


def test_the_dataset_is_like_a_published_cube() -> None:
    motion = make_motion()
    velocity = to_velocity(motion)
    assert set(velocity.data_vars) == {v.name for v in (*VELOCITY, *PER_PAIR, *PER_NODE)}
    for v in (*VELOCITY, *PER_PAIR, *PER_NODE):
        assert velocity[v.name].dims == v.dims
        assert v.dtype == "str" or velocity[v.name].dtype == v.dtype, v.name
    assert velocity.rio.crs.to_epsg() == (velocity.vx * 2).rio.crs.to_epsg() == 32622
    assert grid_of(velocity) == NODES
    assert velocity.attrs["map_scale_corrected"] == 1 and velocity.attrs["days_per_year"] == 365.25
    assert (velocity.satellite_img1.values[0], velocity.mission_img1.values[0]) == ("2A", "S")
    assert (velocity.satellite_img2.values[0], velocity.mission_img2.values[0]) == ("8", "L")
    assert velocity.scene_ids_img1.values[2] == "a2 b2"
    assert velocity.date_dt.values.tolist() == [10.0] * 5
    expected = motion.dx.values[0] * 10 / NODES_SCALE / 10 * 365.25
    np.testing.assert_allclose(velocity.vx.values[0], expected, rtol=1e-6)
    np.testing.assert_allclose(velocity.vy.values[0], -motion.dy.values[0] * 10 / NODES_SCALE / 10 * 365.25, rtol=1e-6)
    np.testing.assert_allclose(velocity.roi_valid_percentage, 100 * (motion.status == 0).mean(("y", "x")).values, rtol=1e-6)
    assert (velocity.stable.values == 255).all()
    np.testing.assert_allclose(velocity.scale_factor.values, NODES_SCALE, rtol=1e-7)


NODES_SCALE = point_scale(NODES)


def test_pairs_are_sorted_by_date_with_all_that_belongs_to_them() -> None:
    motion = make_motion(shuffle=True)
    shifts = [shift_of(k / 10, 0.0) for k in range(5)]
    velocity = to_velocity(motion, shifts)
    assert np.all(np.diff(velocity.mid_date.values) > np.timedelta64(0, "us"))
    for k, name in enumerate(motion.reference.values):
        one = velocity.isel(mid_date=int(np.flatnonzero(velocity.image_id_img1.values == name)[0]))
        np.testing.assert_allclose(one.vx.values, (motion.dx.values[k] - k / 10) / NODES_SCALE * 365.25, rtol=1e-5, atol=1e-3)
        assert one.vx_stable_shift == pytest.approx(k / 10 / NODES_SCALE[6, 5] * 365.25)


@pytest.mark.parametrize("chunks", [{"pair": 2, "y": 5, "x": 10}, {"pair": -1, "y": 12, "x": 3}])
@pytest.mark.parametrize("gradient", [FLAT, ((0.01, -0.02), (0.03, 0.004))])
def test_lazy_and_eager_agree_bit_for_bit(chunks: Any, gradient: Any) -> None:
    shifts = [shift_of(0.1 * k, -0.2, gradient) for k in range(5)]
    calibrations = [Calibration(1.0 + k, 1.5, 0.1, 0.2, 0.01, 0.02) for k in range(5)]
    stable = np.random.default_rng(0).random((12, 10)) < 0.5
    eager = to_velocity(make_motion(), shifts, calibrations, stable)
    lazy = to_velocity(make_motion(chunks=chunks), shifts, calibrations, stable)
    for v in VELOCITY:
        assert lazy[v.name].chunks is not None and eager[v.name].chunks is None
        assert lazy[v.name].data.chunksize[1:] == (chunks["y"], chunks["x"])
    assert lazy.compute().identical(eager)
    if gradient != FLAT:
        assert not np.array_equal(eager.vx.values, to_velocity(make_motion(), [s._replace(gradient=FLAT) for s in shifts]).vx.values)


def test_blocks_agree_with_the_dataset_bit_for_bit() -> None:
    motion = make_motion()
    shifts = [shift_of(0.1 * k, -0.2, ((0.01, -0.02), (0.03, 0.004))) for k in range(5)]
    whole = to_velocity(motion, shifts)
    window = (slice(4, 12), slice(3, 7))
    part = {v.name: motion[v.name].values[:, *window] for v in MOTION}
    correction = correct(shifts, None, (12, 10), window)
    values = velocity_block(part, np.full(5, 10.0), 10.0, point_scale(NODES.window(*window)), correction)
    for name, value in values.items():
        np.testing.assert_array_equal(value, whole[name].values[:, *window])


def test_shifts_are_told_in_metres_per_year_on_the_map_axes() -> None:
    columns = shift_columns([shift_of(1.0, 1.0, scatter=0.5), NO_SHIFT], np.array([10.0, 20.0]), 10.0, 1.02)
    assert columns["vx_stable_shift"].tolist() == [pytest.approx(365.25 / 1.02), 0.0]
    assert columns["vy_stable_shift"].tolist() == [pytest.approx(-365.25 / 1.02), 0.0]
    assert columns["vx_error_stationary"][0] == pytest.approx(365.25 / 1.02 / 2)
    assert np.isnan(columns["vy_error_stationary"][1])
    assert columns["stable_shift_flag"].tolist() == [1, 0]


def test_stable_ground_is_found_and_its_velocity_is_zero(tmp_path: Path) -> None:
    import geopandas as gpd
    import shapely

    nodes = Grid(crs=UTM, resolution=80.0, left=499960.0, top=7700040.0, height=40, width=40)
    box = nodes.bounds
    gpd.GeoDataFrame(geometry=[shapely.box(box.left, box.bottom, box.left + 1600, box.top)], crs=UTM).to_file(tmp_path / "rock.gpkg")
    motion = make_motion(nodes, pairs=2)
    rng = np.random.default_rng(5)
    moved = motion.assign(
        dx=motion.dx.copy(data=rng.normal(0.3, 0.1, motion.dx.shape).astype("float32")),
        dy=motion.dy.copy(data=rng.normal(-0.6, 0.1, motion.dx.shape).astype("float32")),
    ).chunk({"pair": 1, "y": 20})
    ground = find_shifts(moved, StableSettings(area=str(tmp_path / "rock.gpkg")))
    assert ground.shifts[0].dx == pytest.approx(0.3, abs=0.05) and ground.shifts[1].dy == pytest.approx(-0.6, abs=0.05)
    velocity = to_velocity(moved, *ground).compute()
    assert velocity.stable.values[:, :20].all() and not velocity.stable.values[:, 20:].any()
    rock = velocity.isel(x=slice(0, 20)).where(velocity.status == Status.MEASURED)
    assert abs(float(rock.vx.median())) < 5 and abs(float(rock.vy.median())) < 5
    assert (velocity.vx_stable_shift.values > 50).all() and (velocity.vy_stable_shift.values > 100).all()
    errors = np.abs(rock.vx) / rock.vx_error
    assert float((errors < 1).sum() / errors.notnull().sum()) == pytest.approx(0.68, abs=0.06)


def test_impossible_motion_is_refused() -> None:
    motion = make_motion()
    twice = motion.assign_coords(reference=("pair", np.array(["a"] * 5, object)), secondary=("pair", np.array(["b"] * 5, object)))
    with pytest.raises(Stop, match="there twice"):
        to_velocity(twice)
    with pytest.raises(Stop, match="no time between"):
        to_velocity(motion.assign_coords(secondary_time=motion.reference_time))


def test_the_dataset_and_the_cube_are_the_same(tmp_path: Path) -> None:
    """What a notebook computes and what a run writes block by block cannot be told apart."""
    motion = make_motion(shuffle=False)
    shifts = [shift_of(0.1 * k, -0.2) for k in range(5)]
    velocity = to_velocity(motion, shifts, stable=np.ones((12, 10), bool))
    pairs = tuple(
        Pair(
            reference=f"S2A_{k}",
            secondary=f"L8_{k}",
            reference_time=START + timedelta(days=k),
            secondary_time=START + timedelta(days=k + 10),
        )
        for k in range(5)
    )
    images = {f"S2A_{k}": Image("sentinel-2a", (f"a{k}", f"b{k}")) for k in range(5)}
    images |= {f"L8_{k}": Image("landsat-8", (f"c{k}",)) for k in range(5)}
    spec, url = CubeSpec(nodes=NODES, pairs=pairs, images=images), str(tmp_path / "c.zarr")
    create_cube(url, spec)
    write_block(url, {v.name: velocity[v.name].values for v in VELOCITY}, (slice(0, 5), slice(0, 12), slice(0, 10)))
    columns = shift_columns(shifts, np.full(5, 10.0), 10.0, float(NODES_SCALE[6, 5]))
    per_pair = {**columns, "roi_valid_percentage": velocity.roi_valid_percentage.values}
    write_coords(url, spec, per_pair, {"scale_factor": NODES_SCALE, "stable": np.ones((12, 10))})
    publish_cube(url, spec)
    assert verify_cube(url).problems == ()
    opened = open_cube(url)
    for name in velocity.variables:
        left, right = velocity[name].compute(), opened[name].compute()
        np.testing.assert_array_equal(left.values, right.values)
        assert left.dtype == right.dtype and left.attrs == right.attrs, name
    assert set(opened.variables) == set(velocity.variables)
    assert opened.attrs == velocity.attrs
