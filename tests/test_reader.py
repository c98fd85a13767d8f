"""Pixels on a grid: exact positions, exact values, the same bits in every window."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from made_scenes import write_image

from ftrack.errors import Stop
from ftrack.grid import Bounds, Grid
from ftrack.rasters import File
from ftrack.reader import Image, Layer, Quality, _positions, _Source, read_image

CORNER = (560000.0, 7670000.0)
RNG = np.random.default_rng(5)
NOISE = RNG.integers(1, 60000, (150, 170)).astype("uint16")
OWN = Grid(crs="EPSG:32622", resolution=10.0, left=CORNER[0], top=CORNER[1], height=150, width=170)


def file_at(path: Path, **said: Any) -> File:
    return File(scene="scene-1", asset="nir", href=str(path), **said)


def image_of(*paths: Path, resampling: str = "sinc", **layer: Any) -> Image:
    return Image(layers=tuple(Layer(file=file_at(path), **layer) for path in paths), resampling=resampling)


def polar_grid(size: int, resolution: float = 10.0, centre: tuple[float, float] = (560850.0, 7669250.0)) -> Grid:
    x, y = pyproj.Transformer.from_crs(32622, 3413, always_xy=True).transform(*centre)
    half = size // 2 * resolution
    left, top = (resolution * round(v / resolution) for v in (x - half, y + half))
    return Grid(crs="EPSG:3413", resolution=resolution, left=left, top=top, height=size, width=size)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise with a hole of no data and a missing corner."""
    values = NOISE.copy()
    values[40:52, 60:75] = 0
    values[:30, :20] = 0
    return write_image(tmp_path_factory.mktemp("noise") / "noise.tif", values, corner=CORNER)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes on pixels of 20 m that cover all but the last columns."""
    values = RNG.integers(0, 12, (75, 80)).astype("uint8")
    return write_image(tmp_path_factory.mktemp("classes") / "classes.tif", values, corner=CORNER, resolution=20.0, nodata=0)


def test_pixels_of_the_own_grid_are_read_bit_for_bit(noise: Path) -> None:
    with rasterio.open(noise) as file:
        stored = file.read(1).astype("float32")
    stored[stored == 0] = np.nan
    for resampling in ("sinc", "nearest"):
        np.testing.assert_array_equal(read_image(image_of(noise, resampling=resampling), OWN), stored)
    beyond = read_image(image_of(noise), OWN.window(slice(-20, 160), slice(150, 200)))
    np.testing.assert_array_equal(beyond[20:170, :20], stored[:, 150:])
    assert np.isnan(beyond[:20]).all() and np.isnan(beyond[170:]).all() and np.isnan(beyond[:, 20:]).all()


@pytest.mark.parametrize(("source", "target", "corner"), [
    ("EPSG:32622", "EPSG:3413", CORNER), ("EPSG:32718", "EPSG:3031", (640000.0, 4400000.0)),
    ("EPSG:32622", "EPSG:32623", CORNER), ("EPSG:3413", "EPSG:32622", (-180000.0, -2270000.0)),
])  # fmt: skip
def test_positions_are_those_of_the_projection(tmp_path: Path, source: str, target: str, corner: tuple[float, float]) -> None:
    path = write_image(tmp_path / "a.tif", NOISE, crs=source, corner=corner)
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
    x, y = transformer.transform(corner[0] + 500, corner[1] - 500)
    grid = Grid(crs=target, resolution=30.0, left=30.0 * round(x / 30) - 6003.0, top=30.0 * round(y / 30) + 6007.0, height=333, width=301)
    px, py = transformer.transform(*np.meshgrid(grid.x, grid.y), direction="INVERSE")
    with rasterio.open(path) as file:
        rows, columns = _positions(_Source(file, file_at(path)), grid)
    np.testing.assert_allclose(columns, (px - corner[0]) / 10, rtol=0, atol=1e-6)
    np.testing.assert_allclose(rows, (corner[1] - py) / 10, rtol=0, atol=1e-6)


@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "sinc"])
def test_half_pixels_have_the_right_sign(tmp_path: Path, resampling: str) -> None:
    y, x = np.mgrid[0:80, 0:80]
    path = write_image(tmp_path / "ramp.tif", (1000 + 10 * x + 3 * y).astype("uint16"), corner=(0.0, 800.0))
    grid = Grid(crs="EPSG:32622", resolution=10.0, left=202.5, top=597.0, height=30, width=30)
    expected = 1000 + 10 * (grid.x / 10 - 0.5)[None, :] + 3 * ((800 - grid.y) / 10 - 0.5)[:, None]
    found = read_image(image_of(path, resampling=resampling), grid)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=0, atol=1e-3)


def test_bilinear_is_the_plain_definition_at_projected_positions(noise: Path) -> None:
    grid = polar_grid(90)
    px, py = pyproj.Transformer.from_crs(3413, 32622, always_xy=True).transform(*np.meshgrid(grid.x, grid.y))
    u, v = (CORNER[1] - py) / 10 - 0.5, (px - CORNER[0]) / 10 - 0.5
    with rasterio.open(noise) as file:
        stored = file.read(1).astype(float)
    stored[stored == 0] = np.nan
    r, c = np.floor(u).astype(int), np.floor(v).astype(int)
    a, b = u - r, v - c
    expected = (1 - a) * ((1 - b) * stored[r, c] + b * stored[r, c + 1]) + a * ((1 - b) * stored[r + 1, c] + b * stored[r + 1, c + 1])
    found = read_image(image_of(noise, resampling="bilinear"), grid)
    assert np.array_equal(np.isnan(found), np.isnan(expected)) and np.isnan(found).any()
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "sinc"])
def test_gaps_neither_bleed_nor_grow(noise: Path, tmp_path: Path, resampling: str) -> None:
    with rasterio.open(noise) as file:
        flat = np.where(file.read(1) == 0, 0, 700).astype("uint16")
    found = read_image(image_of(write_image(tmp_path / "flat.tif", flat), resampling=resampling), polar_grid(110))
    nearest = read_image(image_of(tmp_path / "flat.tif", resampling="nearest"), polar_grid(110))
    assert np.nanmax(np.abs(found - 700)) < 1e-3
    lost = np.isnan(found) & ~np.isnan(nearest)
    assert 0 < lost.sum() < 4 * (15 + 12 + 30 + 20)


def test_larger_pixels_do_not_alias(tmp_path: Path) -> None:
    y, x = np.mgrid[0:150, 0:170]
    path = write_image(tmp_path / "board.tif", np.where((x + y) % 2, 2000, 1000).astype("uint16"))
    found = read_image(image_of(path), polar_grid(30, 40.0))
    assert np.isfinite(found).sum() > 300
    np.testing.assert_allclose(found[np.isfinite(found)], 1500, atol=2)


windows = st.tuples(st.integers(-40, 120), st.integers(1, 90), st.integers(-40, 120), st.integers(1, 90))


@pytest.mark.parametrize("mode", ["own", "polar", "cubic", "nearest", "coarse", "shifted"])
@settings(max_examples=15)
@given(window=windows)
def test_every_window_has_the_same_bits(noise: Path, classes: Path, mode: str, window: tuple[int, int, int, int]) -> None:
    row, height, column, width = window
    grids = {"own": OWN, "coarse": polar_grid(110, 25.0), "shifted": replace(OWN, left=OWN.left + 3.3, top=OWN.top + 4.7)}
    grid = grids.get(mode, polar_grid(110))
    resampling = mode if mode in ("cubic", "nearest") else "sinc"
    layer = Layer(file=file_at(noise), quality=Quality(file=file_at(classes), values=(3,), bits=0, grow=1))
    image = Image(layers=(layer,), resampling=resampling)
    whole = read_image(image, grid.window(slice(-40, 210), slice(-40, 210)))
    part = read_image(image, grid.window(slice(row, row + height), slice(column, column + width)))
    assert np.isfinite(whole).any()
    np.testing.assert_array_equal(part.view("u4"), whole[row + 40 : row + 40 + height, column + 40 : column + 40 + width].view("u4"))


def test_big_windows_are_resampled_in_parts_with_the_same_bits(noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_image(image_of(noise), polar_grid(150))
    monkeypatch.setattr("ftrack.reader.BLOCK", 48)
    np.testing.assert_array_equal(read_image(image_of(noise), polar_grid(150)), whole)


def test_where_the_projection_does_not_reach_there_are_no_data(noise: Path) -> None:
    grid = Grid(crs="EPSG:3413", resolution=1e5, left=-3e7, top=3e7, height=600, width=600)
    assert np.isnan(read_image(image_of(noise), grid)).all()


def test_the_first_scene_with_data_wins(tmp_path: Path) -> None:
    one, two = np.full((50, 50), 10, "uint16"), np.full((50, 50), 20, "uint16")
    one[:, 30:] = 0
    paths = [write_image(tmp_path / f"{n}.tif", v, corner=(CORNER[0] + n * 200, CORNER[1])) for n, v in enumerate((one, two))]
    found = read_image(image_of(*paths), replace(OWN, height=50, width=80))
    np.testing.assert_array_equal(found[0], [10] * 30 + [20] * 40 + [np.nan] * 10)


def test_a_scene_that_lies_elsewhere_is_not_opened(tmp_path: Path) -> None:
    layer = Layer(file=file_at(tmp_path / "missing.tif"), extent=Bounds(0.0, 0.0, 10.0, 10.0))
    assert np.isnan(read_image(Image(layers=(layer,)), OWN)).all()
    with pytest.raises(Stop, match="is not there"):
        read_image(Image(layers=(replace(layer, extent=None),)), OWN)


def test_classes_and_bits_drop_pixels(noise: Path, classes: Path) -> None:
    with rasterio.open(classes) as file:
        fine = np.repeat(np.repeat(file.read(1), 2, 0), 2, 1)
    plain = read_image(image_of(noise), OWN)
    for quality, bad in (
        (Quality(file=file_at(classes), values=(0, 3, 8)), np.isin(fine, (0, 3, 8))),
        (Quality(file=file_at(classes), bits=0b101), (fine & 0b101) != 0),
    ):
        found = read_image(image_of(noise, quality=quality), OWN)
        expected = plain.copy()
        expected[:, 160:] = np.nan
        expected[:, :160][bad] = np.nan
        np.testing.assert_array_equal(found, expected)


def test_what_is_dropped_grows(tmp_path: Path) -> None:
    white = write_image(tmp_path / "white.tif", np.full((60, 60), 9, "uint16"))
    spot = np.ones((60, 60), "uint8")
    spot[30, 40] = 7
    quality = Quality(file=file_at(write_image(tmp_path / "spot.tif", spot)), values=(7,), grow=3)
    found = np.isnan(read_image(image_of(white, quality=quality), replace(OWN, height=60, width=60)))
    expected = np.zeros((60, 60), bool)
    expected[27:34, 37:44] = True
    np.testing.assert_array_equal(found, expected)


def test_a_mask_is_made_of_whole_numbers(noise: Path, tmp_path: Path) -> None:
    mask = write_image(tmp_path / "float.tif", np.ones((150, 170), "float32"))
    with pytest.raises(Stop, match="whole numbers"):
        read_image(image_of(noise, quality=Quality(file=file_at(mask), values=(1,))), OWN)


@pytest.mark.parametrize(
    ("said", "own", "usual", "missing"),
    [(7.0, 5.0, 0.0, 7), (None, 5.0, 0.0, 5), (None, None, 0.0, 0), (None, None, None, None), (math.nan, 5.0, None, None)],
)
def test_the_metadata_know_best_what_means_no_data(
    tmp_path: Path, said: float | None, own: float | None, usual: float | None, missing: int | None
) -> None:
    path = write_image(tmp_path / "a.tif", np.array([[0, 5, 7, 9]], "uint16"), nodata=own)
    image = Image(layers=(Layer(file=file_at(path, nodata=said, usual_nodata=usual)),))
    expected = [math.nan if value == missing else value for value in (0, 5, 7, 9)]
    np.testing.assert_array_equal(read_image(image, replace(OWN, height=1, width=4))[0], expected)


def test_a_mask_inside_the_file_counts(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", np.full((4, 4), 9, "uint16"), nodata=None)
    with rasterio.open(path, "r+") as file:
        file.write_mask(np.eye(4, dtype=bool))
    np.testing.assert_array_equal(np.isfinite(read_image(image_of(path), replace(OWN, height=4, width=4))), np.eye(4, dtype=bool))


def test_gain_and_bias_are_applied_to_what_is_not_missing(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", np.array([[0, 1000, 3000]], "uint16"))
    found = read_image(image_of(path, gain=2.0, bias=-1000.0), replace(OWN, height=1, width=3))
    np.testing.assert_array_equal(found, [[np.nan, 1000, 5000]])


def test_pixels_that_are_not_north_up_are_resampled(tmp_path: Path) -> None:
    """A south-up file holds the same picture as its north-up twin."""
    north = write_image(tmp_path / "north.tif", NOISE, nodata=None)
    south = tmp_path / "south.tif"
    with rasterio.open(north) as file:
        profile = file.profile | {"transform": Affine(10, 0, CORNER[0], 0, 10, CORNER[1] - 1500)}
        with rasterio.open(south, "w", **profile) as other:
            other.write(file.read(1)[::-1], 1)
    for resampling in ("nearest", "sinc"):
        np.testing.assert_allclose(read_image(image_of(south, resampling=resampling), OWN), read_image(image_of(north), OWN), rtol=1e-6)
