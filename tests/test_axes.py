"""Velocity along other axes: turned by a known angle, the same speed, the right node."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import xarray as xr

from ftrack.axes import turn_to, turning, warp_to
from ftrack.errors import Stop
from ftrack.grid import Grid, place

POLAR = Grid(crs="EPSG:3413", resolution=240.0, left=-200_000.0, top=-2_200_000.0, height=60, width=80)


def make_map(grid: Grid = POLAR, vx: float = 300.0, vy: float = -400.0) -> xr.Dataset:
    shape = (grid.height, grid.width)
    values = {"vx": vx, "vy": vy, "v": np.hypot(vx, vy), "vx_error": 3.0, "vy_error": 9.0}
    return place(xr.Dataset({n: (("y", "x"), np.full(shape, v, "float32")) for n, v in values.items()}), grid)


def test_the_angle_is_the_longitude_from_the_central_meridian() -> None:
    """In a polar stereographic map north points to the pole: grid north of UTM is turned by the difference of longitude."""
    x, y = np.array([-200_000.0, 0.0, 350_000.0]), np.array([-2_200_000.0, -2_000_000.0, -1_500_000.0])
    lon, lat = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(x, y)
    convergence = pyproj.Proj("EPSG:32622").get_factors(lon, lat).meridian_convergence
    expected = np.radians(convergence - (lon + 45))
    np.testing.assert_allclose(turning("EPSG:3413", "EPSG:32622", x, y), expected, atol=1e-6)


def test_north_stays_north() -> None:
    """Ice that flows to the pole flows to grid north in a UTM zone on its central meridian."""
    lon, lat = -51.0, 70.0
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3413", always_xy=True).transform(lon, lat)
    to_pole = -np.array([x, y]) / np.hypot(x, y) * 100
    data = xr.Dataset({"vx": to_pole[0], "vy": to_pole[1]}, {"x": x, "y": y})
    turned = turn_to(data.assign_coords(spatial_ref=((), 0, {"crs_wkt": pyproj.CRS("EPSG:3413").to_wkt()})), "EPSG:32622")
    assert float(turned.vx) == pytest.approx(0, abs=1e-3) and float(turned.vy) == pytest.approx(100, abs=1e-3)


def test_speed_and_places_stay_and_errors_turn_along() -> None:
    data = make_map()
    turned = turn_to(data, "EPSG:32622")
    np.testing.assert_allclose(np.hypot(turned.vx, turned.vy), 500, rtol=1e-5)
    xr.testing.assert_identical(turned.v, data.v)
    np.testing.assert_allclose(turned.vx_error**2 + turned.vy_error**2, 90, rtol=1e-5)
    assert turned.attrs["turned_to"] == "EPSG:32622" and turned.vx.attrs == data.vx.attrs
    back = turning("EPSG:3413", "EPSG:32622", *np.meshgrid(POLAR.x, POLAR.y))
    np.testing.assert_allclose(turned.vx, np.cos(back) * 300 + np.sin(back) * 400, rtol=1e-5)


def test_a_map_is_brought_to_other_nodes_and_back() -> None:
    """A displacement drawn in one map lies where the turned vectors say in the other."""
    data = make_map()
    nodes = Grid(crs="EPSG:32622", resolution=500.0, left=530_000.0, top=7_745_000.0, height=30, width=40)
    moved = warp_to(data, nodes)
    inside = np.isfinite(moved.vx.values)
    assert 0.05 < inside.mean() < 1
    np.testing.assert_allclose(moved.v.values[inside], 500, rtol=1e-6)
    x, y = (part[inside] for part in np.meshgrid(nodes.x, nodes.y))
    to_polar = pyproj.Transformer.from_crs("EPSG:32622", "EPSG:3413", always_xy=True)
    first = np.array(to_polar.transform(x, y))
    last = np.array(to_polar.transform(x + moved.vx.values[inside], y + moved.vy.values[inside]))
    direction = (last - first) / np.hypot(*(last - first))
    np.testing.assert_allclose(direction, np.broadcast_to([[0.6], [-0.8]], direction.shape), atol=2e-3)


def test_each_node_takes_the_nearest_value_of_every_pair() -> None:
    data = make_map().drop_vars(["vx_error", "vy_error"])
    data["vx"] = data["vx"] * 0 + data["x"] / 1000
    cube = xr.concat([data, data + 1000], "mid_date").assign_coords(data.coords)
    cube["status"] = (("mid_date", "y", "x"), np.zeros((2, 60, 80), np.uint8))
    shifted = Grid(crs="EPSG:3413", resolution=480.0, left=POLAR.left - 4800, top=POLAR.top, height=30, width=30)
    moved = warp_to(cube.chunk(mid_date=1, y=20, x=20), shifted)
    assert moved.vx.dims == ("mid_date", "y", "x") and np.isnan(moved.vx.values[:, :, :10]).all()
    assert np.all(moved.status.values[:, :, :10] == 2) and np.all(moved.status.values[:, :, 10:] == 0)
    np.testing.assert_allclose(moved.vx.values[0, 5, 10:], shifted.x[10:] / 1000, atol=0.121)
    np.testing.assert_allclose(moved.vx.values[1, :, 10:] - moved.vx.values[0, :, 10:], 1000, rtol=1e-6)


def test_what_does_not_overlap_or_has_no_crs_is_refused() -> None:
    with pytest.raises(Stop, match="do not cover"):
        warp_to(make_map(), Grid(crs="EPSG:32718", resolution=100.0, left=600_000.0, top=4_400_000.0, height=5, width=5))
    with pytest.raises(Stop, match="no CRS"):
        turn_to(make_map().drop_vars("spatial_ref"), "EPSG:32622")
    with pytest.raises(Stop, match="degrees"):
        turn_to(make_map(), "EPSG:4326")
