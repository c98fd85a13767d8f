"""Files for others: every reader finds the same numbers, units and places in them."""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from made_itslive import LEFT, TOP, make_itslive
from test_series import GRID, make_cube
from typer.testing import CliRunner

from ftrack.cli import app
from ftrack.errors import Stop
from ftrack.export import BANDS, SEASON, series_table, write_map, write_series
from ftrack.grid import Grid
from ftrack.itslive import open_itslive
from ftrack.schema import Status
from ftrack.season import seasonal_fit
from ftrack.series import point_series, profile


def make_series() -> xr.Dataset:
    cube = make_cube()
    cube["status"][1, 4, 7] = int(Status.OUTLIER)
    cube["satellite_img1"] = ("mid_date", np.array(["2A", "2B", "2A", "2B", "2A"], object))
    return point_series(cube.assign_attrs(title="Jakobshavn"), x=float(cube.x[7]), y=float(cube.y[4]))


def test_a_series_comes_back_from_every_format(tmp_path: Path) -> None:
    series = make_series()
    table = series_table(series)
    csv = pd.read_csv(write_series(series, tmp_path / "a" / "s.csv"), parse_dates=["mid_date"])
    parquet = pd.read_parquet(write_series(series, tmp_path / "s.parquet"))
    netcdf = xr.open_dataset(write_series(series, tmp_path / "s.nc"))
    np.testing.assert_array_equal(csv["mid_date"].values.astype("datetime64[us]"), series["mid_date"].values)
    pd.testing.assert_frame_equal(parquet, table)
    for name in ("v", "vx", "vy_error"):
        np.testing.assert_allclose(csv[f"{name} [m/yr]"], series[name], rtol=1e-6)
        np.testing.assert_array_equal(netcdf[name], series[name])
        assert netcdf[name].attrs["units"] == "meter/year"
    np.testing.assert_array_equal(netcdf["mid_date"].values.astype("datetime64[s]"), series["mid_date"].values.astype("datetime64[s]"))
    assert list(netcdf["satellite_img1"].values) == ["2A", "2B", "2A", "2B", "2A"] == list(csv["satellite"])
    assert netcdf.attrs["title"] == "Jakobshavn" and float(netcdf["lat"]) == pytest.approx(float(series["lat"]))
    assert np.isnan(csv["v [m/yr]"]).sum() == 1 and list(csv["status"]) == [0, 0, 0, 10, 0]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".ftrack-")]


def test_the_columns_are_those_of_public_series(tmp_path: Path, data_folder: Path) -> None:
    public = list(pd.read_csv(data_folder / "itslive" / "jakobshavn-point.csv", nrows=1).columns)
    theirs = point_series(open_itslive(make_itslive(tmp_path / "cube.zarr")), x=LEFT + 700, y=TOP - 700)
    assert list(series_table(theirs).columns)[: len(public)] == public
    assert set(series_table(theirs)["epsg"]) == {3413}


def test_a_profile_is_a_table_along_its_distance(tmp_path: Path) -> None:
    cube = make_cube()
    along = profile(cube, [(float(cube.x[2]), float(cube.y[5])), (float(cube.x[9]), float(cube.y[5]))], crs="EPSG:3413")
    table = pd.read_csv(write_series(along, tmp_path / "p.csv"))
    assert list(table.columns[:5]) == ["distance [km]", "lat", "lon", "x [m]", "y [m]"] and len(table) == 8
    np.testing.assert_allclose(table["vx [m/yr]"], 2002 + np.arange(8))
    with xr.open_dataset(write_series(along, tmp_path / "p.nc")) as again:
        assert again["distance"].attrs["units"] == "km"


def test_what_cannot_be_written_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = make_series()
    with pytest.raises(Stop, match=r"\.csv, \.nc or \.parquet"):
        write_series(series, tmp_path / "s.xlsx")
    with pytest.raises(Stop, match="series or a profile"):
        write_series(make_cube(), tmp_path / "s.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(Stop, match="cannot be written"):
        write_series(series, tmp_path / "file" / "s.csv")
    with pytest.raises(Stop, match=r"as \.tif"):
        write_map(make_cube(), tmp_path / "m.png")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("ftrack.export.find_spec", lambda _: None)
    with pytest.raises(Stop, match="pip install"):
        write_series(series, tmp_path / "s.parquet")


def test_a_map_is_a_cloud_optimised_geotiff(tmp_path: Path) -> None:
    grid = Grid(crs="EPSG:3413", resolution=120.0, left=-300_000.0, top=-2_000_000.0, height=700, width=1100)
    cube = make_cube(3, grid).assign_attrs(title="Jakobshavn", run_id="abc")
    cube["status"][:, 10:20, 10:20] = int(Status.NO_DATA)
    with rasterio.open(write_map(cube, tmp_path / "map.tif")) as made:
        assert made.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert made.overviews(1) and made.block_shapes[0] == (512, 512)
        assert set(made.dtypes) == {"float32"} and np.isnan(made.nodata)
        assert made.crs.to_epsg() == 3413 and made.transform == grid.transform
        assert made.descriptions == BANDS and made.units == (*["meter/year"] * 6, "1")
        assert made.tags()["shown"] == "median of 3 pairs" and made.tags()["run_id"] == "abc" and made.tags()["units"] == "meter/year"
        vx = made.read(1)
        assert np.isnan(vx[10:20, 10:20]).all() and np.isfinite(vx).sum() == vx.size - 100
        np.testing.assert_array_equal(vx[0, :9], 1000 + np.arange(9))
        with rasterio.open(tmp_path / "map.tif", overview_level=0) as small:
            assert set(np.unique(small.read(7))) <= {0.0, 3.0}


def test_a_map_of_a_pair_or_of_a_span(tmp_path: Path) -> None:
    cube = make_cube()
    cube["status"][2, 0, 0] = int(Status.FILLED)
    with rasterio.open(write_map(cube, tmp_path / "one.tif", pair=2)) as made:
        assert np.isnan(made.read(1)[0, 0]) and made.read(1)[0, 1] == 2001
        assert made.tags()["shown"] == "2020-04-17 to 2020-04-27"
    with rasterio.open(write_map(cube, tmp_path / "filled.tif", pair=2, filled=True)) as made:
        assert made.read(1)[0, 0] == 2000
    with rasterio.open(write_map(cube, tmp_path / "span.tif", dates="2020-05-01/2020-06-30")) as made:
        assert made.tags()["shown"] == "median of 2 pairs" and made.shape == (GRID.height, GRID.width)


def test_a_map_of_the_season_has_trend_and_season_as_bands(tmp_path: Path) -> None:
    fit = seasonal_fit(make_cube()).assign_attrs(title="Jakobshavn")
    fit["v_amp"][:] = 12.5
    with rasterio.open(write_map(fit, tmp_path / "season.tif")) as made:
        assert made.descriptions == SEASON and made.tags()["title"] == "Jakobshavn" and made.crs.to_epsg() == 3413
        units = dict(zip(made.descriptions, made.units, strict=True))
        assert units["v_phase"] == "day of year" and units["dv_dt"] == "meter/year^2" and units["v_amp_error"] == "meter/year"
        assert (made.read(1 + SEASON.index("v_amp")) == 12.5).all() and np.isnan(made.read(1 + SEASON.index("dv_dt"))).all()
        assert made.tags()["shown"].startswith("mean, trend and season of 5 pairs, mean of 2020-")
        np.testing.assert_array_equal(made.read(1), fit["vx"])


def test_the_command_line_writes_maps_series_and_profiles(tmp_path: Path) -> None:
    cube, place = make_cube(), tmp_path / "cube.zarr"
    cube.rename(spatial_ref="mapping").to_zarr(place, zarr_format=3, consolidated=True)
    line = gpd.GeoSeries([shapely.LineString([(cube.x[2], cube.y[5]), (cube.x[9], cube.y[5])])], crs="EPSG:3413")
    line.to_file(tmp_path / "line.gpkg")
    files = [str(tmp_path / name) for name in ("map.tif", "series.csv", "along.csv")]
    point = f"--point={float(cube.x[7])},{float(cube.y[4])}"
    made = CliRunner().invoke(app, ["export", str(place), *files[:2], point])
    assert made.exit_code == 0 and made.output.count("is written") == 2, made.output
    assert list(pd.read_csv(files[1])["vy [m/yr]"]) == [4.0] * 5
    assert CliRunner().invoke(app, ["export", str(place), files[2], "--line", str(tmp_path / "line.gpkg")]).exit_code == 0
    assert len(pd.read_csv(files[2])) == 8 and Path(files[0]).exists()
    told = CliRunner().invoke(app, ["season", str(place), files[0]])
    assert told.exit_code == 0 and "100 % of nodes: fewer than 30 vectors or 10 images: no trend, no season" in told.output
    refused = CliRunner().invoke(app, ["export", str(place), files[1]])
    assert refused.exit_code == 2 and "--point" in refused.output
