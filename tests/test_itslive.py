"""ITS_LIVE beside ours: the right cubes of an area, the right units, and nothing from hosts that nobody meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import shapely
import xarray as xr
from file_server import FileServer, serving
from made_itslive import LEFT, PAIRS, SIZE, STEP, TOP, make_catalog, make_itslive, outline_of

from ftrack.axes import turn_to, warp_to
from ftrack.errors import Retry, Stop
from ftrack.grid import Grid, grid_of
from ftrack.itslive import find_itslive, open_itslive, open_mosaic
from ftrack.schema import Status
from ftrack.series import point_series
from ftrack.sources import SourceSettings
from ftrack.velocity import point_scale

JAKOBSHAVN = (-50.2, 68.9, -48.5, 69.5)


def scale_there() -> np.ndarray:
    return point_scale(Grid(crs="EPSG:3413", resolution=STEP, left=LEFT, top=TOP, height=SIZE, width=SIZE))


def test_the_cubes_of_an_area_are_found_the_fullest_first(data_folder: Path) -> None:
    found = find_itslive(JAKOBSHAVN, data_folder / "itslive" / "catalog-greenland-west.json")
    assert 2 <= len(found) <= 6 and found.crs.to_epsg() == 4326
    assert list(found["share"]) == sorted(found["share"], reverse=True) and found["share"].sum() == pytest.approx(100, abs=8)
    assert set(found["epsg"]) == {3413}
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3413", always_xy=True).transform(-49.35, 69.2)
    assert f"X{int(x // 1e5 * 1e5 + 5e4)}_Y{int(y // 1e5 * 1e5 + 5e4)}.zarr" in found["url"].iloc[0]


def test_an_area_without_cubes_says_so(data_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop, match="no cube"):
        find_itslive((10.0, 45.0, 11.0, 46.0), data_folder / "itslive" / "catalog-greenland-west.json")
    (tmp_path / "other.json").write_text("[1, 2]")
    with pytest.raises(Stop, match="no list of features"):
        find_itslive(JAKOBSHAVN, tmp_path / "other.json")
    with pytest.raises(Stop, match="cannot be read"):
        find_itslive(JAKOBSHAVN, tmp_path / "missing.json")


def test_a_catalogue_of_this_machine_names_cubes_beside_it(tmp_path: Path) -> None:
    make_itslive(tmp_path / "cube.zarr")
    catalog = make_catalog(tmp_path / "catalog.json", {"cube.zarr": outline_of(), "empty.zarr": shapely.box(0, 0, 1, 1)})
    (row,) = find_itslive(outline_of().centroid, catalog).itertuples()
    assert (row.url, row.epsg, row.pairs) == (str(tmp_path / "cube.zarr"), 3413, 1234)
    assert open_itslive(row.url).sizes["mid_date"] == PAIRS


def test_version_2_becomes_ground_metres(tmp_path: Path) -> None:
    cube = open_itslive(make_itslive(tmp_path / "cube.zarr"))
    scale = scale_there()
    assert 0.99 < scale.min() < 1.01 and abs(scale.mean() - 1) > 1e-4
    np.testing.assert_allclose(cube["vx"].values[-1], 300 / scale, rtol=1e-6)
    np.testing.assert_allclose(cube["v"].values[-1], 500 / scale, rtol=1e-6)
    np.testing.assert_allclose(cube["vx_error"], 12 / np.median(scale), rtol=1e-6)
    assert cube.attrs["map_scale_corrected"] == 1 and cube["vx"].dtype == np.float32
    assert grid_of(cube).crs == "EPSG:3413"


@pytest.mark.parametrize(("attrs", "version"), [({"map_scale_corrected": 1}, None), (None, 1)])
def test_version_1_is_in_ground_metres_already(tmp_path: Path, attrs: Any, version: Any) -> None:
    cube = open_itslive(make_itslive(tmp_path / "cube.zarr", attrs=attrs), version=version)
    np.testing.assert_array_equal(cube["vx"].values[-1], np.full((SIZE, SIZE), 300.0))


def test_missing_and_filled_values_are_told_apart_and_pairs_sorted(tmp_path: Path) -> None:
    cube = open_itslive(make_itslive(tmp_path / "cube.zarr"))
    assert np.all(np.diff(cube["mid_date"].values) > np.timedelta64(0))
    gone = np.isnan(cube["vx"].values)
    assert gone.sum() == 1 and gone[:, 2, 3].any()
    assert [int((cube["status"] == s).sum()) for s in (Status.NO_DATA, Status.FILLED)] == [1, 1]
    assert cube["status"].dtype == np.uint8
    assert cube["vx"].chunks is not None


def test_a_series_has_the_format_of_the_public_ones(tmp_path: Path, data_folder: Path) -> None:
    cube = open_itslive(make_itslive(tmp_path / "cube.zarr"))
    series = point_series(cube, x=LEFT + 700, y=TOP - 700)
    public = pd.read_csv(data_folder / "itslive" / "jakobshavn-point.csv")
    for column in public.columns:
        name = {"mission": "mission_img1", "satellite": "satellite_img1"}.get(column, column.split(" [")[0])
        assert name in series.variables or name in series.attrs, column
    assert (series["satellite_img1"].values == "2A").all() and np.isfinite(series["v_error"]).all()


def test_a_turned_series_compares_with_ours_in_another_crs(tmp_path: Path) -> None:
    """Ice that moves 500 ground metres a year to the south-east of the polar map, seen along the axes of UTM 22."""
    cube = open_itslive(make_itslive(tmp_path / "cube.zarr", attrs={"map_scale_corrected": 1}))
    x, y = LEFT + 700, TOP - 700
    ours = turn_to(point_series(cube, x=x, y=y), "EPSG:32622")
    lon, lat = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(x, y)
    angle = np.radians(pyproj.Proj("EPSG:32622").get_factors(lon, lat).meridian_convergence - (lon + 45))
    np.testing.assert_allclose(ours["vx"], np.cos(angle) * 300 + np.sin(angle) * 400, rtol=1e-4)
    np.testing.assert_allclose(ours["vy"], np.sin(angle) * 300 - np.cos(angle) * 400, rtol=1e-4)
    np.testing.assert_allclose(ours["v"], 500, rtol=1e-6)


def test_cubes_are_read_over_http_from_hosts_that_are_meant(tmp_path: Path) -> None:
    make_itslive(tmp_path / "cube.zarr")
    files = {f"/{p.relative_to(tmp_path)}": p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    meant = SourceSettings(hosts=("127.0.0.1",), private_hosts=False)
    with serving(FileServer(files)) as server:
        catalog = make_catalog(tmp_path / "catalog.json", {f"{server.url}/cube.zarr": outline_of()})
        server.files["/catalog.json"] = catalog.read_bytes()
        (row,) = find_itslive(outline_of(), f"{server.url}/catalog.json", meant).itertuples()
        here, there = (open_itslive(url, source=meant).drop_attrs().load() for url in (tmp_path / "cube.zarr", row.url))
        xr.testing.assert_identical(here, there)
        asked = len(server.asked)
        with pytest.raises(Stop, match="refused"):
            open_itslive(row.url)
        with pytest.raises(Stop, match="refused"):
            find_itslive(outline_of(), f"{server.url}/catalog.json")
        assert len(server.asked) == asked
        server.redirects["/cube.zarr/.zmetadata"] = "http://169.254.169.254/latest"
        with pytest.raises((Stop, Retry), match="redirect"):
            open_itslive(row.url, source=meant)


@pytest.mark.parametrize(
    "url", ["https://user:pw@example.com/a.zarr", "ftp://example.com/a.zarr", "http://169.254.169.254/a.zarr", "https://localhost/a.zarr"]
)
def test_addresses_that_nobody_should_ask_are_refused(url: str) -> None:
    with pytest.raises(Stop, match="refused"):
        open_itslive(url)


def test_what_is_no_cube_of_its_live_is_refused(tmp_path: Path) -> None:
    xr.Dataset({"a": ("x", [1.0])}).to_zarr(tmp_path / "other.zarr", zarr_format=2, consolidated=True)
    with pytest.raises(Stop, match="no 'vx'"):
        open_itslive(tmp_path / "other.zarr")
    with pytest.raises(Stop, match="is not"):
        open_itslive(tmp_path / "missing.zarr")


def test_a_real_mosaic_of_version_1_is_brought_to_our_grid(data_folder: Path) -> None:
    vx, vy = (data_folder / "itslive" / f"jakobshavn-v{c}.tif" for c in "xy")
    nodes = Grid(crs="EPSG:32622", resolution=480.0, left=550_000.0, top=7_700_000.0, height=100, width=160)
    mosaic = open_mosaic(vx, vy, nodes=nodes, version=1)
    assert mosaic.sizes["x"] < 500
    whole = open_mosaic(vx, vy, version=1)
    with rasterio.open(vx) as source:
        np.testing.assert_array_equal(whole["vx"], source.read(1))
    ours = warp_to(mosaic, nodes)
    assert np.isfinite(ours["v"]).mean() > 0.9
    np.testing.assert_allclose(np.hypot(ours["vx"], ours["vy"]), ours["v"], rtol=1e-4)
    # Jakobshavn flows to the west.
    fast = ours["v"].values > 3000
    assert fast.sum() > 20 and np.median(ours["vx"].values[fast]) < -3000
    xr.testing.assert_allclose(warp_to(whole, nodes)["vx"], ours["vx"])


def test_the_version_of_a_mosaic_is_told_by_its_name_or_by_the_user(tmp_path: Path, data_folder: Path) -> None:
    vx, vy = (data_folder / "itslive" / f"jakobshavn-v{c}.tif" for c in "xy")
    with pytest.raises(Stop, match="version=1"):
        open_mosaic(vx, vy)
    named = [tmp_path / f"ITS_LIVE_velocity_120m_RGI05A_0000_v02_v{c}.tif" for c in "xy"]
    for path, source in zip(named, (vx, vy), strict=True):
        path.symlink_to(source)
    scaled, given = open_mosaic(*named), open_mosaic(vx, vy, version=1)
    np.testing.assert_allclose(scaled["vx"] * point_scale(grid_of(given)), given["vx"], rtol=1e-5)


def test_a_mosaic_that_does_not_fit_is_refused(data_folder: Path, tmp_path: Path) -> None:
    vx = data_folder / "itslive" / "jakobshavn-vx.tif"
    elsewhere = Grid(crs="EPSG:32718", resolution=100.0, left=600_000.0, top=4_400_000.0, height=50, width=50)
    with pytest.raises(Stop, match="does not cover"):
        open_mosaic(vx, vx, nodes=elsewhere, version=1)
    with rasterio.open(vx) as source:
        profile = {**source.profile, "height": 64, "width": 64}
        with rasterio.open(tmp_path / "small.tif", "w", **profile) as made:
            made.write(source.read(1, window=((0, 64), (0, 64))), 1)
    with pytest.raises(Stop, match="different grids"):
        open_mosaic(vx, tmp_path / "small.tif", version=1)
    with pytest.raises(Stop, match="refused"):
        open_mosaic("https://localhost/vx_v02.tif", vx)
