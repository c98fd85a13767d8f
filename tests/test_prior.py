"""The expected velocity: numbers and maps, in the grid's CRS and in another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from rasterio.transform import from_origin

from ftrack.errors import Stop
from ftrack.grid import Grid
from ftrack.prior import PriorSettings, largest_speed, read_prior

NODES = Grid(crs="EPSG:32622", resolution=80.0, left=540000.0, top=7680000.0, height=12, width=15)


def write(path: Path, values: np.ndarray, crs: str, corner: tuple[float, float], resolution: float) -> str:
    profile = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": "float32", "nodata": -32767}
    with rasterio.open(path, "w", crs=crs, transform=from_origin(*corner, resolution, resolution), **profile) as sink:
        sink.write(values.astype(np.float32), 1)
    return str(path)


def test_nothing_is_expected_by_default() -> None:
    assert read_prior(PriorSettings(), NODES) is None
    assert largest_speed(None) == 0.0


def test_one_velocity_for_all() -> None:
    prior = read_prior(PriorSettings(vx=-300, vy=40.5), NODES)
    assert prior == (-300.0, 40.5)
    assert largest_speed(prior) == 300.0


def test_a_map_is_sampled_under_each_node_and_gaps_stay_gaps(tmp_path: Path) -> None:
    columns = np.broadcast_to(np.arange(40.0), (40, 40)).copy()
    columns[:, 3] = -32767
    vx = write(tmp_path / "vx.tif", columns, "EPSG:32622", (540000.0 - 100, 7680000.0 + 100), 100.0)
    vy = write(tmp_path / "vy.tif", columns.T * 0 + 7, "EPSG:32622", (540000.0 - 100, 7680000.0 + 100), 100.0)
    prior = read_prior(PriorSettings(vx=vx, vy=vy), NODES)
    expected = np.floor((NODES.x - 539900.0) / 100.0)
    expected[expected == 3] = np.nan
    np.testing.assert_array_equal(prior["vx"].values[0], expected)
    assert (prior["vy"].values == 7).all()
    assert largest_speed(prior) == np.nanmax(expected)


def test_vectors_of_another_map_are_turned(tmp_path: Path) -> None:
    to_polar = pyproj.Transformer.from_crs("EPSG:32622", "EPSG:3413", always_xy=True)
    x, y = to_polar.transform(540600.0, 7679500.0)
    corner, ones = (x - 20000, y + 20000), np.ones((100, 100))
    vx = write(tmp_path / "vx.tif", 300 * ones, "EPSG:3413", corner, 400.0)
    vy = write(tmp_path / "vy.tif", -500 * ones, "EPSG:3413", corner, 400.0)
    prior = read_prior(PriorSettings(vx=vx, vy=vy), NODES)
    start = to_polar.transform(NODES.x[4], NODES.y[5])
    end = to_polar.transform(start[0] + 3.0, start[1] - 5.0, direction="INVERSE")
    assert prior["vx"].values[5, 4] == pytest.approx(100 * (end[0] - NODES.x[4]), rel=1e-4)
    assert prior["vy"].values[5, 4] == pytest.approx(100 * (end[1] - NODES.y[5]), rel=1e-4)


def test_half_a_prior_and_a_missing_map_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="together"):
        PriorSettings(vx=3.0)
    with pytest.raises(Stop, match="cannot be read"):
        read_prior(PriorSettings(vx=str(tmp_path / "vx.tif"), vy=str(tmp_path / "vy.tif")), NODES)
