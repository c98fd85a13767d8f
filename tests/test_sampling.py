"""The pixel of a map under each node, beyond what stable ground and expected velocity already ask of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine

from ftrack.errors import Retry, Stop
from ftrack.grid import Grid
from ftrack.sampling import ROWS_AT_ONCE, Use, sample_map, tell_failure

NODES = Grid(crs="EPSG:32622", resolution=80.0, left=540000.0, top=7680000.0, height=12, width=15)
USE = Use("the map", "map.path")


def write(path: Path, values: np.ndarray, transform: Affine, crs: str | None = "EPSG:32622", nodata: float | None = None) -> str:
    profile = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype}
    with rasterio.open(path, "w", crs=crs, transform=transform, nodata=nodata, **profile) as sink:
        sink.write(values, 1)
    return str(path)


def test_many_rows_are_read_in_parts_and_fit_together(tmp_path: Path) -> None:
    tall = Grid(crs="EPSG:32622", resolution=80.0, left=540000.0, top=7680000.0, height=2 * ROWS_AT_ONCE + 7, width=3)
    values = np.arange(tall.height * 3, dtype=np.int32).reshape(-1, 3)
    got, crs = sample_map(write(tmp_path / "a.tif", values, tall.transform), tall, USE)
    assert got.dtype == np.float32 and crs == pyproj.CRS("EPSG:32622")
    np.testing.assert_array_equal(got, values)


def test_a_turned_raster_is_read_where_its_pixels_lie(tmp_path: Path) -> None:
    turned = Affine.translation(540300.0, 7680100.0) * Affine.rotation(-30.0) * Affine.scale(50.0, -50.0)
    values = np.random.default_rng(0).integers(1, 1000, (20, 22)).astype(np.int16)
    got, _ = sample_map(write(tmp_path / "a.tif", values, turned), NODES, USE)
    expected = np.full(got.shape, np.nan)
    for i, y in enumerate(NODES.y):
        for j, x in enumerate(NODES.x):
            column, row = (int(np.floor(v)) for v in ~turned @ (x, y))
            if 0 <= row < 20 and 0 <= column < 22:
                expected[i, j] = values[row, column]
    assert 0 < np.isfinite(expected).sum() < expected.size
    np.testing.assert_array_equal(got, expected)


def test_scale_and_offset_of_the_file_are_applied(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.full((12, 15), 30, np.int16), NODES.transform)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.5,), (-7.0,)
    np.testing.assert_array_equal(sample_map(path, NODES, USE)[0], 8.0)


def test_a_mask_beside_the_pixels_means_no_data(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.full((12, 15), 30.0, np.float32), NODES.transform)
    valid = np.ones((12, 15), bool)
    valid[:, 4] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(valid)
    np.testing.assert_array_equal(np.isfinite(sample_map(path, NODES, USE)[0]), valid)


def test_infinite_pixels_are_no_data(tmp_path: Path) -> None:
    values = np.zeros((12, 15), np.float32)
    values[2, 3], values[4, 5] = np.inf, np.nan
    got, _ = sample_map(write(tmp_path / "a.tif", values, NODES.transform), NODES, USE)
    assert np.isnan(got[2, 3]) and np.isnan(got[4, 5]) and np.isnan(got).sum() == 2


def test_zero_counts_as_a_value_only_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.zeros((12, 15), np.uint8), NODES.transform, nodata=0)
    assert np.isnan(sample_map(path, NODES, USE)[0]).all()
    assert (sample_map(path, NODES, USE, zero_is_value=True)[0] == 0).all()


def test_nodes_that_the_projection_of_the_map_does_not_reach_have_no_value(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", np.ones((9, 9), np.float32), Affine(1e6, 0, -4.5e6, 0, -1e6, 4.5e6), crs="ESRI:102034")
    south = Grid(crs="EPSG:3031", resolution=1000.0, left=-3000.0, top=3000.0, height=6, width=6)
    assert np.isnan(sample_map(path, south, USE)[0]).all()


def test_a_map_elsewhere_gives_nothing_and_is_no_error(tmp_path: Path) -> None:
    far = Affine.translation(900000.0, 0.0) * Affine.scale(80.0, -80.0)
    assert np.isnan(sample_map(write(tmp_path / "a.tif", np.ones((3, 3), np.uint8), far), NODES, USE)[0]).all()


def test_messages_name_the_use_and_the_settings_but_no_signature(tmp_path: Path) -> None:
    with pytest.raises(Stop, match=r"the map: the file .*nowhere\.tif does not exist.*correct map\.path"):
        sample_map(str(tmp_path / "nowhere.tif"), NODES, USE)
    with pytest.raises(Stop, match=r"the map: .* has no CRS"):
        sample_map(write(tmp_path / "bare.tif", np.ones((3, 3), np.uint8), NODES.transform, crs=None), NODES, USE)
    address = "https://example.org/a.tif?sig=SECRET"
    failure = tell_failure(address, USE, OSError(f"{address}: cannot be opened"))
    assert isinstance(failure, Retry)
    assert str(failure) == "the map: https://example.org/a.tif cannot be reached: https://example.org/a.tif cannot be opened"
