"""Stable ground is found where the file says, and the shift fitted to it is not led astray."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from ftrack.errors import Retry, Stop
from ftrack.grid import Grid
from ftrack.stable import FLAT, Shift, StableSettings, fit_shift, shift_at, stable_nodes

NODES = Grid(crs="EPSG:32718", resolution=100.0, left=600_000.0, top=4_400_000.0, height=50, width=60)


def polygon_file(folder: Path, *shapes: shapely.Geometry, crs: str | None = "EPSG:32718", name: str = "area.gpkg") -> str:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        gpd.GeoDataFrame(geometry=list(shapes), crs=crs).to_file(folder / name)
    return str(folder / name)


def raster_file(
    folder: Path,
    values: np.ndarray,
    transform: Affine,
    *,
    crs: str | None = "EPSG:32718",
    nodata: float | None = None,
    name: str = "area.tif",
) -> str:
    profile = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype}
    with rasterio.open(folder / name, "w", crs=crs, transform=transform, nodata=nodata, **profile) as out:
        out.write(values, 1)
    return str(folder / name)


def box_of(rows: slice, columns: slice) -> shapely.Polygon:
    return shapely.box(*NODES.window(rows, columns).bounds)


def patch(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((NODES.height, NODES.width), bool)
    mask[rows, columns] = True
    return mask


def test_nothing_is_known_without_area_and_reference() -> None:
    assert stable_nodes(StableSettings(), NODES) == (None, 0)


def test_polygons_hold_the_nodes_inside_them_and_outside_turns_them_round(tmp_path: Path) -> None:
    area = polygon_file(tmp_path, box_of(slice(5, 20), slice(10, 30)), box_of(slice(15, 25), slice(25, 40)))
    expected = patch(slice(5, 20), slice(10, 30)) | patch(slice(15, 25), slice(25, 40))
    inside = stable_nodes(StableSettings(area=area), NODES)
    assert inside.flag == 1
    np.testing.assert_array_equal(inside.stable, expected)
    np.testing.assert_array_equal(stable_nodes(StableSettings(area=area, outside=True), NODES).stable, ~expected)


def test_each_node_is_tested_as_a_point(tmp_path: Path) -> None:
    wild = shapely.Polygon([(600_210, 4_399_800), (605_777, 4_398_431), (603_111, 4_395_222), (602_500, 4_397_600)])
    got = stable_nodes(StableSettings(area=polygon_file(tmp_path, wild, name="area.geojson")), NODES).stable
    expected = [[wild.contains(shapely.Point(x, y)) for x in NODES.x] for y in NODES.y]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("outside", [False, True])
def test_a_buffer_keeps_away_from_the_border(tmp_path: Path, outside: bool) -> None:
    rows, columns, mask = slice(15, 35), slice(20, 40), patch(slice(15, 35), slice(20, 40))
    area = polygon_file(tmp_path, box_of(rows, columns))
    raster = raster_file(tmp_path, mask.astype(np.uint8), NODES.transform)
    for path in (area, raster):
        got = stable_nodes(StableSettings(area=path, outside=outside, buffer=300.0), NODES).stable
        distance = np.hypot(
            np.maximum(0, np.abs(NODES.x - 603_000)[None] - 1000), np.maximum(0, np.abs(NODES.y - 4_397_500)[:, None] - 1000)
        )
        assert got is not None
        expected = distance > 300 if outside else patch(slice(18, 32), slice(23, 37))
        assert (got != expected).sum() <= (40 if path == raster else 0), "a raster knows its border to one node"
        assert not (got & (mask == outside)).any()


def test_polygons_in_degrees_are_brought_to_the_grid(tmp_path: Path) -> None:
    box = box_of(slice(5, 20), slice(10, 30))
    degrees = gpd.GeoSeries([box.segmentize(50)], crs=NODES.crs).to_crs("EPSG:4326")
    degrees.to_file(tmp_path / "area.geojson")
    got = stable_nodes(StableSettings(area=str(tmp_path / "area.geojson")), NODES).stable
    np.testing.assert_array_equal(got, patch(slice(5, 20), slice(10, 30)))


def test_long_edges_in_degrees_follow_the_parallel(tmp_path: Path) -> None:
    polar = Grid(crs="EPSG:3413", resolution=2000.0, left=-600_000.0, top=-1_600_000.0, height=400, width=500)
    path = polygon_file(tmp_path, shapely.box(-60, 68, -30, 72), crs="EPSG:4326")
    x, y = np.meshgrid(polar.x, polar.y)
    lon, lat = pyproj.Transformer.from_crs(polar.crs, "EPSG:4326", always_xy=True).transform(x, y)
    got = stable_nodes(StableSettings(area=path), polar).stable
    assert got is not None
    assert (got != ((lon > -60) & (lon < -30) & (lat > 68) & (lat < 72))).mean() < 1e-4


def test_a_raster_is_read_at_the_node_in_any_crs(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = (random.random((300, 300)) < 0.4).astype(np.uint8)
    to_degrees = pyproj.Transformer.from_crs(NODES.crs, "EPSG:4326", always_xy=True)
    west, north = to_degrees.transform(NODES.left - 500, NODES.top + 500)
    path = raster_file(tmp_path, values, Affine(0.0003, 0, west, 0, -0.0003, north), crs="EPSG:4326")
    points = [to_degrees.transform(x, y) for y in NODES.y for x in NODES.x]
    with rasterio.open(path) as source:
        index = [source.index(*point) for point in points]
    expected = np.array([values[r, c] if 0 <= r < 300 and 0 <= c < 300 else 0 for r, c in index]).reshape(50, 60) != 0
    np.testing.assert_array_equal(stable_nodes(StableSettings(area=path), NODES).stable, expected)


def test_unknown_pixels_are_never_stable_and_zero_as_no_data_means_not_marked(tmp_path: Path) -> None:
    values = np.zeros((50, 60), np.uint8)
    values[10:20], values[20:30] = 1, 255
    half = NODES.window(slice(0, 50), slice(0, 30))
    marked = raster_file(tmp_path, values[:, :30], half.transform, nodata=255)
    got = stable_nodes(StableSettings(area=marked), NODES).stable
    np.testing.assert_array_equal(got, patch(slice(10, 20), slice(0, 30)))
    got = stable_nodes(StableSettings(area=marked, outside=True), NODES).stable
    np.testing.assert_array_equal(got, patch(slice(0, 10), slice(0, 30)) | patch(slice(30, 50), slice(0, 30)))
    values[20:30] = 0
    sparse = raster_file(tmp_path, values, NODES.transform, nodata=0, name="sparse.tif")
    got = stable_nodes(StableSettings(area=sparse, outside=True), NODES).stable
    np.testing.assert_array_equal(got, ~patch(slice(10, 20), slice(0, 60)))


def test_slow_ground_of_a_reference_map_is_the_second_choice(tmp_path: Path) -> None:
    x = np.broadcast_to(np.arange(60, dtype=np.float32), (50, 60)).copy()
    x[:5] = -9999.0
    one = raster_file(tmp_path, x, NODES.transform, nodata=-9999.0, name="speed.tif")
    slow = stable_nodes(StableSettings(reference=one, max_speed=20), NODES)
    assert slow.flag == 2
    np.testing.assert_array_equal(slow.stable, patch(slice(5, 50), slice(0, 21)))
    both = stable_nodes(StableSettings(reference=(one, one), max_speed=20), NODES)
    np.testing.assert_array_equal(both.stable, patch(slice(5, 50), slice(0, 15)))
    away = stable_nodes(StableSettings(reference=one, max_speed=20, buffer=200.0), NODES)
    np.testing.assert_array_equal(away.stable, patch(slice(5, 50), slice(0, 19)))
    x[:5] = 0.0
    blank = raster_file(tmp_path, x, NODES.transform, nodata=0.0, name="blank.tif")
    np.testing.assert_array_equal(
        stable_nodes(StableSettings(reference=blank, max_speed=20), NODES).stable, patch(slice(5, 50), slice(1, 21))
    )
    area = polygon_file(tmp_path, box_of(slice(0, 5), slice(0, 5)))
    assert stable_nodes(StableSettings(area=area, reference=one), NODES).flag == 1


def test_the_slow_margin_of_jakobshavn(data_folder: Path) -> None:
    paths = tuple(str(data_folder / "itslive" / f"jakobshavn-{c}.tif") for c in ("vx", "vy"))
    with rasterio.open(paths[0]) as source:
        vx, t, crs, nodata = source.read(1), source.transform, str(source.crs), source.nodata
    with rasterio.open(paths[1]) as source:
        vy = source.read(1)
    grid = Grid(crs=crs, resolution=t.a, left=t.c, top=t.f, height=vx.shape[0], width=vx.shape[1])
    got = stable_nodes(StableSettings(reference=paths, max_speed=50), grid).stable
    known = np.isfinite(vx) & (vx != nodata)
    np.testing.assert_array_equal(got, known & (np.hypot(vx.astype(float), vy.astype(float)) <= 50))


def test_files_that_cannot_serve_stop_with_a_reason(tmp_path: Path) -> None:
    for path in ("nowhere.geojson", "nowhere.tif"):
        with pytest.raises(Stop, match="does not exist"):
            stable_nodes(StableSettings(area=path), NODES)
    for name in ("broken.geojson", "broken.tif"):
        (tmp_path / name).write_text("not a map")
        with pytest.raises(Stop, match="cannot be read"):
            stable_nodes(StableSettings(area=str(tmp_path / name)), NODES)
    far = polygon_file(tmp_path, shapely.box(0, 0, 10, 10), name="far.gpkg")
    for outside in (False, True):
        with pytest.raises(Stop, match="no polygon"):
            stable_nodes(StableSettings(area=far, outside=outside), NODES)
    small = polygon_file(tmp_path, shapely.box(600_010, 4_399_910, 600_020, 4_399_920), name="small.gpkg")
    with pytest.raises(Stop, match="no node lies on stable ground"):
        stable_nodes(StableSettings(area=small), NODES)
    nowhere = polygon_file(tmp_path, shapely.box(0, 0, 10, 10), crs=None, name="bare.shp")
    with pytest.raises(Stop, match="has no CRS"):
        stable_nodes(StableSettings(area=nowhere), NODES)
    bare = raster_file(tmp_path, np.ones((4, 4), np.uint8), NODES.transform, crs=None, name="bare.tif")
    with pytest.raises(Stop, match="has no CRS"):
        stable_nodes(StableSettings(area=bare), NODES)
    with pytest.raises(Retry, match="cannot be reached"):
        stable_nodes(StableSettings(area="/vsicurl/http://127.0.0.1:9/area.tif"), NODES)
    with pytest.raises(Stop, match="two of vx and vy"):
        StableSettings(reference=("a.tif", "b.tif", "c.tif"))
    with pytest.raises(Stop, match="outside needs an area"):
        StableSettings(outside=True)


def field(random: np.random.Generator, gradient: tuple[tuple[float, float], tuple[float, float]] = FLAT) -> tuple[np.ndarray, np.ndarray]:
    """Return displacement with shift (0.67, -1.89), scatter (0.1, 0.2), and a gradient in px per node."""
    true = Shift(0.67, -1.89, gradient, 0, 0, 0, 1)
    dx, dy = shift_at(true, (80, 100))
    return dx + 0.1 * random.standard_normal(dx.shape), dy + 0.2 * random.standard_normal(dy.shape)


@pytest.mark.parametrize("model", ["constant", "plane"])
@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_the_shift_is_found_although_part_of_the_ground_moves(model: str, wrong: float) -> None:
    random = np.random.default_rng(1)
    gradient = ((0.004, -0.003), (0.002, 0.005)) if model == "plane" else FLAT
    dx, dy = field(random, gradient)
    moving = random.random(dx.shape) < wrong
    dx[moving] += random.uniform(2, 8, moving.sum())
    valid = random.random(dx.shape) < 0.8
    dx[~valid], dy[random.random(dx.shape) < 0.1] = np.nan, np.nan
    stable = np.zeros(dx.shape, bool)
    stable[10:75, 5:60] = True
    shift = fit_shift(dx, dy, valid, stable, StableSettings(model=model))
    assert shift.dx == pytest.approx(0.67, abs=0.02) and shift.dy == pytest.approx(-1.89, abs=0.02)
    np.testing.assert_allclose(shift.gradient, gradient, atol=0.0005)
    assert shift.scatter_dy == pytest.approx(0.2, rel=0.08)
    assert 0.09 < shift.scatter_dx < (0.11 if not wrong else 0.2)
    assert shift.count == np.count_nonzero(valid & stable & np.isfinite(dx + dy)) and shift.flag == 1


def test_float32_and_large_maps_lose_nothing() -> None:
    dx, dy = (part.astype(np.float32) for part in field(np.random.default_rng(2)))
    everywhere = np.ones(dx.shape, bool)
    one = fit_shift(dx, dy, everywhere, everywhere, StableSettings(clip=100.0))
    assert one.dx == np.median(dx) and one.dy == np.median(dy)


def test_too_few_nodes_or_no_knowledge_give_no_shift() -> None:
    dx, dy = field(np.random.default_rng(3))
    everywhere = np.ones(dx.shape, bool)
    few = np.zeros(dx.shape, bool)
    few.flat[:49] = True
    for stable, count in ((None, 0), (few, 49), (~everywhere, 0)):
        shift = fit_shift(dx, dy, everywhere, stable, StableSettings())
        assert shift[:3] == (0.0, 0.0, FLAT) and shift.count == count and shift.flag == 0
        assert np.isnan(shift.scatter_dx) and np.isnan(shift.scatter_dy)
    assert fit_shift(dx, dy, everywhere, few, StableSettings(min_nodes=49)).flag == 1
    assert fit_shift(dx, dy, everywhere, everywhere, StableSettings(reference="speed.tif")).flag == 2


def test_bunched_nodes_carry_no_plane(caplog: pytest.LogCaptureFixture) -> None:
    dx, dy = field(np.random.default_rng(4), ((0.01, 0.0), (0.0, 0.01)))
    line = np.zeros(dx.shape, bool)
    line[40:44] = True
    with caplog.at_level(logging.WARNING):
        shift = fit_shift(dx, dy, np.ones(dx.shape, bool), line, StableSettings(model="plane"))
    assert shift.gradient == FLAT and "constant" in caplog.text


def test_a_shift_holds_at_the_centre_of_the_grid_and_grows_along_column_and_row() -> None:
    dx, dy = shift_at(Shift(1.0, 2.0, ((0.1, 0.0), (0.0, 0.5)), 0, 0, 0, 1), (3, 5))
    np.testing.assert_allclose(dx, [[0.8, 0.9, 1.0, 1.1, 1.2]] * 3)
    np.testing.assert_allclose(dy, np.repeat([[1.5], [2.0], [2.5]], 5, axis=1))


@given(
    rows=st.tuples(st.integers(0, 79), st.integers(1, 80)),
    columns=st.tuples(st.integers(0, 99), st.integers(1, 100)),
    slopes=st.tuples(*[st.floats(-0.1, 0.1)] * 4),
)
def test_a_window_of_the_shift_has_the_bits_of_the_whole(
    rows: tuple[int, int], columns: tuple[int, int], slopes: tuple[float, float, float, float]
) -> None:
    shift = Shift(0.3, -2.7, (slopes[:2], slopes[2:]), 0.1, 0.1, 100, 1)
    part = shift_at(shift, (80, 100), slice(*rows), slice(*columns))
    for some, all_of_it in zip(part, shift_at(shift, (80, 100)), strict=True):
        np.testing.assert_array_equal(some, all_of_it[slice(*rows), slice(*columns)])


def test_kaskawulsh_bedrock_gives_the_published_numbers(data_folder: Path) -> None:
    folder, parts = data_folder / "kaskawulsh", []
    for component in ("vx", "vy"):
        with rasterio.open(folder / f"20180304-20180405_velo-raw_{component}.tif") as source:
            values, t, crs = source.read(1).astype(float), source.transform, str(source.crs)
            parts.append(np.where(values == source.nodata, np.nan, values))
    grid = Grid(crs=crs, resolution=t.a, left=t.c, top=t.f, height=parts[0].shape[0], width=parts[0].shape[1])
    chosen = StableSettings(area=str(folder / "bedrock_V2.shp"))
    shift = fit_shift(*parts, np.isfinite(parts[0] + parts[1]), stable_nodes(chosen, grid).stable, chosen)
    assert shift.count == 46677
    # The densest point of the distribution lies at (-0.0195, -0.0245) m/day, its 2-sigma half-widths are 0.150 and 0.160.
    assert shift.dx == pytest.approx(-0.0195, abs=0.01) and shift.dy == pytest.approx(-0.0245, abs=0.01)
    assert 0.03 < shift.scatter_dx < 0.150 / 2 and 0.03 < shift.scatter_dy < 0.160 / 2
