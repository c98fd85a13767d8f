"""Series at a place and profiles along a line: which nodes, which vectors, how far, how certain, and how soon."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
import xarray as xr

from ftrack.cube import open_cube
from ftrack.errors import Stop
from ftrack.grid import Grid, place
from ftrack.schema import PER_PAIR, VELOCITY, Status
from ftrack.series import course_of, is_measured, place_of, point_series, profile

GRID = Grid(crs="EPSG:3413", resolution=240.0, left=-190_000.0, top=-2_240_000.0, height=30, width=40)


def make_cube(pairs: int = 5, grid: Grid = GRID) -> xr.Dataset:
    """Return a cube whose vx tells column and pair, and whose vy tells the row; pairs are not in the order of time."""
    columns, rows, pair = np.arange(grid.width), np.arange(grid.height)[:, None], np.arange(pairs)[:, None, None]
    shape = (pairs, grid.height, grid.width)
    values = {"vx": columns + 1000.0 * pair, "vy": 1.0 * rows, "vx_error": 3.0, "vy_error": 4.0}
    cube = xr.Dataset({n: (("mid_date", "y", "x"), np.broadcast_to(v, shape).astype("float32")) for n, v in values.items()})
    cube["status"] = (("mid_date", "y", "x"), np.zeros(shape, np.uint8))
    middle = np.datetime64("2020-06-01", "us") - np.arange(pairs) * np.timedelta64(20, "D")
    cube["acquisition_date_img1"] = ("mid_date", middle - np.timedelta64(5, "D"))
    cube["acquisition_date_img2"] = ("mid_date", middle + np.timedelta64(5, "D"))
    cube["date_dt"] = ("mid_date", np.full(pairs, 10.0, "float32"))
    return place(cube.assign_coords(mid_date=middle), grid)


def test_a_series_is_that_of_the_nearest_node_in_the_order_of_time() -> None:
    cube = make_cube()
    made = point_series(cube, x=float(cube.x[7]) + 100, y=float(cube.y[4]) - 100)
    np.testing.assert_array_equal(made["vx"], [4007, 3007, 2007, 1007, 7])
    assert np.all(np.diff(made["mid_date"].values) > np.timedelta64(0))
    np.testing.assert_array_equal(made["vy"], np.full(5, 4.0))
    np.testing.assert_allclose(made["v"], np.hypot(made["vx"], 4), rtol=1e-6)
    assert (float(made.x), float(made.y)) == (cube.x[7], cube.y[4])
    assert ((made["acquisition_date_img2"] - made["acquisition_date_img1"]).values == np.timedelta64(10, "D")).all()
    assert made["vx"].attrs["units"] == "meter/year" and made.attrs["epsg"] == 3413


def test_degrees_and_metres_name_the_same_place() -> None:
    cube = make_cube()
    lon, lat = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(float(cube.x[30]), float(cube.y[20]))
    assert place_of(cube, lon=lon, lat=lat) == pytest.approx((float(cube.x[30]), float(cube.y[20])), abs=0.01)
    made = point_series(cube, lon=lon, lat=lat)
    assert float(made["vy"][0]) == 20 and float(made.lon) == pytest.approx(lon) and float(made.lat) == pytest.approx(lat)


def test_within_a_radius_the_components_are_averaged() -> None:
    cube = make_cube()
    cube["vx"][4, 10, 10], cube["status"][4, 10, 11] = np.nan, int(Status.OUTLIER)
    made = point_series(cube, x=float(cube.x[10]), y=float(cube.y[10]), radius=250.0)
    np.testing.assert_array_equal(made["count"], [3, 5, 5, 5, 5])
    assert float(made["vx"][1]) == 3010 and float(made["vx"][0]) == pytest.approx(4000 + (9 + 10 + 10) / 3)
    np.testing.assert_allclose(made["vx_error"], 3.0)
    corner = point_series(cube, x=float(cube.x[0]), y=float(cube.y[0]), radius=300.0)
    assert int(corner["count"][0]) == 3


def test_a_radius_is_in_ground_metres() -> None:
    """At 60 degrees north a map metre of EPSG:3413 is 1 / 1.04 ground metres."""
    cube = make_cube(grid=Grid(crs="EPSG:3413", resolution=104.0, left=-2000.0, top=-3_310_000.0, height=40, width=40))
    x, y = float(cube.x[20]), float(cube.y[20])
    assert int(point_series(cube, x=x, y=y, radius=101.0)["count"][0]) == 5
    assert int(point_series(cube, x=x, y=y, radius=99.0)["count"][0]) == 1


def test_only_measured_vectors_are_shown_unless_asked() -> None:
    cube = make_cube()
    cube["status"][0, 3, 3], cube["status"][1, 3, 3] = int(Status.FILLED), int(Status.AMBIGUOUS)
    x, y = float(cube.x[3]), float(cube.y[3])
    np.testing.assert_array_equal(np.isfinite(point_series(cube, x=x, y=y)["vx"]), [True, True, True, False, False])
    with_filled = point_series(cube, x=x, y=y, filled=True)
    np.testing.assert_array_equal(np.isfinite(with_filled["v_error"]), [True, True, True, False, True])
    np.testing.assert_array_equal(is_measured(with_filled), [True, True, True, False, False])
    np.testing.assert_array_equal(with_filled["status"], [0, 0, 0, Status.AMBIGUOUS, Status.FILLED])


@pytest.mark.parametrize("where", [{}, {"x": 1.0}, {"lon": 0.0, "lat": 0.0}, {"x": -185e3, "y": -2242e3, "radius": -1.0}])
def test_what_is_no_place_is_refused(where: dict[str, float]) -> None:
    with pytest.raises(Stop, match=r"give the place|outside the cube|radius"):
        point_series(make_cube(), **where)


def test_a_point_of_200_pairs_answers_within_half_a_second(tmp_path: Path) -> None:
    """A cube as runs write it: float32 in chunks of 64 pairs and 128 x 128 nodes."""
    grid = Grid(crs="EPSG:32622", resolution=80.0, left=500_000.0, top=7_700_000.0, height=128, width=128)
    random, pairs = np.random.default_rng(1), 200
    noise = random.normal(1000, 30, (pairs, 128, 128)).astype("float32")
    cube = xr.Dataset({v.name: (v.dims, noise.astype(v.dtype)) for v in VELOCITY})
    cube["status"][:] = 0
    first = np.datetime64("2020-01-01", "us") + np.arange(pairs) * np.timedelta64(1, "D").astype("timedelta64[us]")
    values = {"datetime64[us]": first, "str": np.full(pairs, "2A", object)}
    for v in PER_PAIR:
        cube[v.name] = ("mid_date", values.get(v.dtype, np.zeros(pairs, "float32")))
    placed = place(cube.assign_coords(mid_date=first), grid)
    encoding = {v.name: {"chunks": (64, 128, 128)} for v in VELOCITY}
    placed.rename(spatial_ref="mapping").to_zarr(tmp_path / "cube.zarr", encoding=encoding, zarr_format=3, consolidated=True)
    opened = open_cube(str(tmp_path / "cube.zarr"))
    spent, began = [], time.process_time()
    for _ in range(3):
        began = time.process_time()
        made = point_series(opened, x=504_000.0, y=7_695_000.0)
        spent.append(time.process_time() - began)
    assert made.sizes["mid_date"] == pairs and np.isfinite(made["v"]).all()
    assert min(spent) < 0.5


def test_distances_along_a_line_are_ground_kilometres() -> None:
    """Along a meridian from 69 to 70 degrees north, in a projection that is not true to scale there."""
    grid = Grid(crs="EPSG:3413", resolution=1000.0, left=-300_000.0, top=-2_000_000.0, height=500, width=500)
    course = course_of([(-49.0, 69.0), (-49.0, 70.0)], grid)
    assert course.distance[-1] == pytest.approx(111.5, abs=0.1) and course.distance[0] == 0
    assert np.all(np.diff(course.distance) < 1.01)
    in_map = course_of(shapely.LineString([(-200e3, -2100e3), (-190e3, -2100e3)]), grid, step=500.0, crs="EPSG:3413")
    assert len(in_map.places) == 21


def test_a_profile_reads_the_nodes_along_the_line() -> None:
    cube = make_cube()
    ends = [(float(cube.x[2]), float(cube.y[5])), (float(cube.x[12]), float(cube.y[5]))]
    one = profile(cube, ends, pair=1, crs="EPSG:3413")
    np.testing.assert_array_equal(one["vx"], 1000 + np.arange(2, 13))
    np.testing.assert_array_equal(one["vy"], np.full(11, 5.0))
    assert one.attrs["shown"] == "2020-05-07 to 2020-05-17"
    assert one["distance"].attrs["units"] == "km" and one.sizes == {"distance": 11}
    everything = profile(cube, ends, crs="EPSG:3413")
    np.testing.assert_array_equal(everything["vx"], 2000 + np.arange(2, 13))
    np.testing.assert_array_equal(everything["count"], np.full(11, 5))
    recent = profile(cube, ends, dates="2020-05-01/2020-06-30", crs="EPSG:3413")
    assert recent.attrs["shown"] == "median of 2 pairs" and float(recent["vx"][0]) == 502
    np.testing.assert_array_equal(profile(cube.isel(mid_date=0, drop=True), ends, crs="EPSG:3413")["vx"], np.arange(2, 13))


def test_a_profile_has_nothing_outside_the_cube_and_nothing_filled() -> None:
    cube = make_cube(1)
    cube["status"][0, 5, 3] = int(Status.FILLED)
    ends = [(float(cube.x[0]) - 480, float(cube.y[5])), (float(cube.x[4]), float(cube.y[5]))]
    made = profile(cube, ends, crs="EPSG:3413")
    np.testing.assert_array_equal(np.isfinite(made["v"]), [False, False, True, True, True, False, True])
    np.testing.assert_array_equal(made["count"], [0, 0, 1, 1, 1, 0, 1])


def test_a_real_flow_line_is_read_in_its_own_crs(data_folder: Path) -> None:
    lines = gpd.read_file(data_folder / "jakobshavn" / "glacier0001.shp")
    grid = Grid(crs="EPSG:32622", resolution=400.0, left=480_000.0, top=7_750_000.0, height=500, width=500)
    cube = make_cube(1, grid)
    made = profile(cube, lines.iloc[[2]])
    ground = lines.iloc[[2]].to_crs("EPSG:4326").geometry.iloc[0]
    assert float(made["distance"][-1]) == pytest.approx(pyproj.Geod(ellps="WGS84").geometry_length(ground) / 1000, rel=1e-3)
    assert np.isfinite(made["v"]).any()
    with pytest.raises(Stop, match=r"iloc"):
        profile(cube, lines)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ([(0.0, 0.0)], "at least two"),
        ("nowhere.gpkg", "no file"),
        ([(0.0, 0.0), (1.0, 1.0)], "outside the cube"),
        (shapely.Point(0, 0), "one line is needed"),
        ([(-49.0, 69.0), (-49.0, 69.0)], "0 m long"),
        (None, "at least two"),
    ],
)
def test_what_is_no_line_is_refused(line: Any, reason: str) -> None:
    with pytest.raises(Stop, match=reason):
        profile(make_cube(), line)
