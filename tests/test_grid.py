"""Pixels and nodes lie where the design says, whatever the tile, the area or the CRS."""

from __future__ import annotations

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from ftrack.errors import Stop
from ftrack.grid import Bounds, Grid, anchor_of, crs_code, grid_of, node_grid, nodes_on, place, snapped_grid

UTM = "EPSG:32622"
resolutions = st.sampled_from([10.0, 15.0, 30.0])
corners = st.integers(-100_000, 100_000)
sizes = st.integers(2, 300)
spacings = st.integers(1, 40)
phases = st.sampled_from([0.0, 0.5])


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    step, phase = draw(resolutions), draw(phases)
    left, top = (draw(corners) + phase) * step, (draw(corners) + phase) * step
    return Grid(crs=UTM, resolution=step, left=left, top=top, height=draw(sizes), width=draw(sizes))


def make(**changes: object) -> Grid:
    values: dict[str, object] = {"crs": UTM, "resolution": 10.0, "left": 500_000.0, "top": 7_700_000.0, "height": 20, "width": 30}
    return Grid(**(values | changes))  # type: ignore[arg-type]


def test_coordinates_are_pixel_centres_and_y_runs_south() -> None:
    grid = make()
    assert grid.x[0] == 500_005.0 and grid.x[-1] == 500_295.0 and grid.x.size == 30
    assert grid.y[0] == 7_699_995.0 and grid.y[-1] == 7_699_805.0 and grid.y.size == 20
    assert grid.bounds == Bounds(500_000.0, 7_699_800.0, 500_300.0, 7_700_000.0)
    assert grid.transform * (0.5, 0.5) == (grid.x[0], grid.y[0])


@given(grids(), st.integers(-5, 5), st.integers(-5, 5))
def test_a_window_has_the_pixels_of_its_grid(grid: Grid, row: int, column: int) -> None:
    part = grid.window(slice(row, row + 4), slice(column, column + 3))
    assert part.bounds.left == grid.left + column * grid.resolution
    assert part.bounds.top == grid.top - row * grid.resolution
    assert (part.height, part.width) == (4, 3)


@given(grids(), spacings)
def test_nodes_lie_on_corners_that_are_whole_multiples_of_the_spacing(grid: Grid, spacing: int) -> None:
    nodes = nodes_on(grid, spacing)
    x0, y0 = anchor_of(grid.left, grid.top, grid.resolution)
    x = (grid.left + nodes.columns * grid.resolution - x0) / (spacing * grid.resolution)
    y = (grid.top - nodes.rows * grid.resolution - y0) / (spacing * grid.resolution)
    np.testing.assert_array_equal(x, np.round(x))
    np.testing.assert_array_equal(y, np.round(y))
    placed = node_grid(grid, nodes)
    np.testing.assert_allclose(placed.x, grid.left + nodes.columns * grid.resolution, rtol=0, atol=1e-6)
    np.testing.assert_allclose(placed.y, grid.top - nodes.rows * grid.resolution, rtol=0, atol=1e-6)


@given(grids(), spacings, st.data())
def test_tiles_share_out_the_nodes_of_the_whole(grid: Grid, spacing: int, data: st.DataObject) -> None:
    row, column = data.draw(st.integers(1, grid.height - 1)), data.draw(st.integers(1, grid.width - 1))
    whole = nodes_on(grid, spacing)
    for cut, size, axis in ((row, grid.height, 0), (column, grid.width, 1)):
        found = []
        for start, stop in ((0, cut), (cut, size)):
            windows = [slice(0, grid.height), slice(0, grid.width)]
            windows[axis] = slice(start, stop)
            nodes = nodes_on(grid.window(*windows), spacing)
            found.extend(start + (nodes.rows if axis == 0 else nodes.columns))
        np.testing.assert_array_equal(found, whole.rows if axis == 0 else whole.columns)


def test_nodes_keep_the_offset_of_landsat_pixels() -> None:
    grid = make(resolution=30.0, left=399_885.0, top=7_700_115.0)
    nodes = nodes_on(grid, 4)
    assert anchor_of(grid.left, grid.top, 30.0) == (15.0, 15.0)
    placed = node_grid(grid, nodes)
    assert (placed.x[0] - 15.0) % 120.0 == 0.0
    assert (placed.y[0] - 15.0) % 120.0 == 0.0


@given(grids(), st.integers(1, 64), st.tuples(*[st.floats(0, 5000)] * 4))
def test_a_snapped_grid_is_the_smallest_that_covers(grid: Grid, multiple: int, inset: tuple[float, float, float, float]) -> None:
    box = Bounds(grid.left + inset[0], grid.top - 6000 - inset[1], grid.left + 6000 + inset[2], grid.top - inset[3])
    anchor = anchor_of(grid.left, grid.top, grid.resolution)
    found = snapped_grid(UTM, grid.resolution, box, multiple, anchor)
    step, slack = grid.resolution * multiple, 1e-5 * grid.resolution * multiple
    assert found.height % multiple == 0 and found.width % multiple == 0
    assert anchor_of(found.left, found.top, step) == anchor_of(*anchor, step)
    for outer, inner in zip(found.bounds, box, strict=True):
        assert abs(outer - inner) < step + slack
    assert found.bounds.left <= box.left + slack and found.bounds.right >= box.right - slack
    assert found.bounds.bottom <= box.bottom + slack and found.bounds.top >= box.top - slack


def test_bounds_on_the_lattice_are_kept() -> None:
    bounds = make().bounds
    assert snapped_grid(UTM, 10.0, bounds).bounds == bounds
    nudged = Bounds(bounds.left + 1e-7, bounds.bottom - 1e-7, bounds.right + 1e-7, bounds.top - 1e-7)
    assert snapped_grid(UTM, 10.0, nudged).bounds == bounds


def test_an_empty_box_is_refused() -> None:
    with pytest.raises(Stop, match="left, bottom, right, top"):
        snapped_grid(UTM, 10.0, Bounds(10.0, 0.0, 0.0, 10.0))


@given(grids())
def test_a_placed_array_gives_its_grid_back(grid: Grid) -> None:
    array = place(xr.DataArray(np.zeros((grid.height, grid.width), "float32"), dims=("y", "x")), grid)
    assert grid_of(array) == grid


def test_rioxarray_reads_crs_and_transform() -> None:
    grid = make()
    array = place(xr.DataArray(np.zeros((20, 30), "float32"), dims=("y", "x")), grid)
    assert array.rio.crs.to_epsg() == 32622
    assert tuple(array.rio.bounds()) == tuple(grid.bounds)
    assert array.rio.transform() == grid.transform


@pytest.mark.parametrize(
    ("crs", "code"), [(3413, "EPSG:3413"), ("epsg:32718", "EPSG:32718"), ("+proj=utm +zone=22 +datum=WGS84", "EPSG:32622")]
)
def test_a_crs_is_known_by_its_code(crs: object, code: str) -> None:
    assert crs_code(crs) == code


def test_a_crs_without_a_code_stays_whole() -> None:
    wkt = crs_code("+proj=stere +lat_0=90 +lon_0=-33 +lat_ts=71 +datum=WGS84")
    assert wkt.startswith("PROJCRS[") and crs_code(wkt) == wkt


def test_degrees_and_nonsense_are_refused() -> None:
    with pytest.raises(Stop, match="in degrees"):
        crs_code(4326)
    with pytest.raises(Stop, match="cannot be understood"):
        crs_code("EPSG:99999999")


def test_an_array_that_is_not_on_a_grid_is_refused() -> None:
    good = place(xr.DataArray(np.zeros((20, 30), "float32"), dims=("y", "x")), make())
    with pytest.raises(Stop, match="no coordinate 'y'"):
        grid_of(good.isel(y=0))
    with pytest.raises(Stop, match="no CRS"):
        grid_of(good.drop_vars("spatial_ref"))
    with pytest.raises(Stop, match="north-up"):
        grid_of(good.isel(y=slice(None, None, -1)))
    with pytest.raises(Stop, match="square"):
        grid_of(good.isel(x=slice(None, None, 2)))
    uneven = good.isel(x=[0, 1, 2, 4, 5])
    with pytest.raises(Stop, match="evenly spaced"):
        grid_of(uneven)
