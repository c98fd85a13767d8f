"""Velocity over time at a place, and along a line: from a cube to numbers with errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pyproj
import shapely
import shapely.geometry
import xarray as xr

from ftrack.errors import Stop
from ftrack.grid import Grid, crs_attributes, grid_of
from ftrack.means import ABOUT_PAIRS, IDS, components, velocity_of
from ftrack.schema import Status
from ftrack.velocity import point_scale, speed

DESCRIBED = (*ABOUT_PAIRS, *IDS)
"""What a series keeps of every pair, where the cube has it."""

LONG_NAMES = {"vx": "velocity towards grid east", "vy": "velocity towards grid north", "v": "speed"}

MOST_PLACES = 20_000
"""Places along a line, at most."""

DEGREES = "EPSG:4326"


def place_of(
    cube: xr.Dataset, *, x: float | None = None, y: float | None = None, lon: float | None = None, lat: float | None = None
) -> tuple[float, float]:
    """Return a place in map coordinates of the cube, from map coordinates or from degrees.

    Raises
    ------
    Stop
        The place is not given, given twice, or outside the cube.
    """
    grid = grid_of(cube)
    if (x is None) != (y is None) or (lon is None) != (lat is None) or (x is None) == (lon is None):
        raise Stop("give the place either as x and y in metres of the cube's CRS, or as lon and lat in degrees")
    given = f"x {x}, y {y}"
    if lon is not None and lat is not None:
        given = f"lon {lon}, lat {lat}"
        x, y = pyproj.Transformer.from_crs(DEGREES, grid.crs, always_xy=True).transform(lon, lat)
    assert x is not None and y is not None
    b = grid.bounds
    if not (b.left <= x <= b.right and b.bottom <= y <= b.top):
        raise Stop(
            f"{given} lies outside the cube, which covers x {b.left:.0f} to {b.right:.0f}, y {b.bottom:.0f} to {b.top:.0f} ({grid.crs})"
        )
    return float(x), float(y)


def point_series(
    cube: xr.Dataset,
    *,
    x: float | None = None,
    y: float | None = None,
    lon: float | None = None,
    lat: float | None = None,
    radius: float = 0.0,
    filled: bool = False,
) -> xr.Dataset:
    """Read the velocity of one place over time.

    Parameters
    ----------
    cube : Dataset
        As `ftrack.open_cube` or `ftrack.open_itslive` return it; only the chunks of the place are read.
    x, y : float
        The place in metres of the cube's CRS.
    lon, lat : float
        The place in degrees, instead of ``x`` and ``y``.
    radius : float
        Ground metres around the place in which nodes are averaged, component by component; 0 is the nearest node alone.
    filled : bool
        Use vectors that were filled from their neighbours too.

    Returns
    -------
    Dataset over ``mid_date``, in its order
        ``vx, vy, v``, their errors (m/yr), ``count`` (nodes), ``status`` of the nearest node, and of every pair its dates and images.
        Coordinates ``x, y, lon, lat`` are those of the nearest node. Nodes share pixels, so the error of a mean over nodes is
        the root mean square of theirs.

    Raises
    ------
    Stop
        The place is not given, given twice, or outside the cube.
    """
    x, y = place_of(cube, x=x, y=y, lon=lon, lat=lat)
    if not 0 <= radius < 1e6:
        raise Stop(f"the radius {radius} is not one: give ground metres, 0 for the nearest node")
    box, inside, nearest = _nodes_near(cube, x, y, radius)
    box = box.isel(mid_date=np.argsort(box["mid_date"].values, kind="stable"))
    given = {name: values[:, inside] for name, values in components(box, filled).items()}
    count = np.isfinite(given["vx"]).sum(axis=1)
    mean = {name: _mean_of_nodes(given[name], count) for name in ("vx", "vy")}
    error = {f"{name}_error": np.sqrt(_mean_of_nodes(given[f"{name}_error"] ** 2, count)) for name in ("vx", "vy")}
    node = box.isel(y=nearest[0], x=nearest[1])
    columns = {name: box[name].load() for name in DESCRIBED if name in box}
    if "status" in node:
        columns["status"] = node["status"].load()
    made = _velocities(("mid_date",), {**mean, **error}, count, "nodes that were averaged")
    made = made.assign({name: ("mid_date", c.values, c.attrs) for name, c in columns.items()})
    made = made.assign_coords(mid_date=("mid_date", box["mid_date"].values, box["mid_date"].attrs))
    return _located(made, grid_of(cube), node["x"].values, node["y"].values, cube.attrs.get("title", "")).assign_attrs(radius=float(radius))


def _nodes_near(cube: xr.Dataset, x: float, y: float, radius: float) -> tuple[xr.Dataset, np.ndarray, tuple[int, int]]:
    """Return the box of nodes around a place, which of them lie within the radius (the nearest always), and the nearest one."""
    grid = grid_of(cube)
    row = min(int((grid.top - y) / grid.resolution), grid.height - 1)
    column = min(int((x - grid.left) / grid.resolution), grid.width - 1)
    reach = radius * float(point_scale(grid.window(slice(row, row + 1), slice(column, column + 1)))[0, 0]) if radius else 0.0
    wide = int(reach / grid.resolution) + 1 if reach else 0
    rows = slice(max(0, row - wide), min(grid.height, row + wide + 1))
    columns = slice(max(0, column - wide), min(grid.width, column + wide + 1))
    inside = np.hypot(grid.x[columns][None] - x, grid.y[rows][:, None] - y) <= reach
    nearest = (row - rows.start, column - columns.start)
    inside[nearest] = True
    return cube.isel(y=rows, x=columns), inside, nearest


def _mean_of_nodes(values: np.ndarray, count: np.ndarray) -> np.ndarray:
    known = np.where(np.isfinite(values), values, 0.0).sum(axis=1)
    missing = (count == 0) | np.isnan(values).all(axis=1)
    return np.where(missing, np.nan, known / np.maximum(count, 1))


def _velocities(dims: tuple[str, ...], given: dict[str, np.ndarray], count: np.ndarray, counted: str) -> xr.Dataset:
    """Return components and errors as a dataset, with the speed that follows from them."""
    v, v_error = speed(given["vx"], given["vy"], given["vx_error"], given["vy_error"])
    values = {**given, "v": v, "v_error": v_error}
    made = xr.Dataset()
    for name in ("vx", "vy", "v"):
        made[name] = (dims, values[name].astype(np.float32), {"long_name": LONG_NAMES[name], "units": "meter/year"})
        error = values[f"{name}_error"].astype(np.float32)
        made[f"{name}_error"] = (dims, error, {"long_name": f"one-sigma error of {name}", "units": "meter/year"})
    made["count"] = (dims, count.astype(np.uint32), {"long_name": counted, "units": "1"})
    return made


def _located(made: xr.Dataset, grid: Grid, x: Any, y: Any, title: str) -> xr.Dataset:
    """Return a dataset with the places of its values on the map and in degrees."""
    lon, lat = pyproj.Transformer.from_crs(grid.crs, DEGREES, always_xy=True).transform(x, y)
    dims = ("distance",) if np.ndim(x) else ()
    places = {
        "x": (dims, np.asarray(x, float), {"standard_name": "projection_x_coordinate", "units": "metre"}),
        "y": (dims, np.asarray(y, float), {"standard_name": "projection_y_coordinate", "units": "metre"}),
        "lon": (dims, np.asarray(lon, float), {"standard_name": "longitude", "units": "degrees_east"}),
        "lat": (dims, np.asarray(lat, float), {"standard_name": "latitude", "units": "degrees_north"}),
        "spatial_ref": ((), np.int32(0), {k: v for k, v in crs_attributes(grid).items() if k != "GeoTransform"}),
    }
    epsg = pyproj.CRS(grid.crs).to_epsg()
    attrs = {"title": title, "Conventions": "CF-1.11", "map_scale_corrected": 1, "velocity_frame": "ground"}
    return made.assign_coords(places).assign_attrs({**attrs, **({"epsg": epsg} if epsg else {})})


class Course(NamedTuple):
    """Places along a line: map coordinates (n, 2), and ground kilometres from its beginning (n,)."""

    places: np.ndarray
    distance: np.ndarray


def profile(
    cube: xr.Dataset,
    line: Any,
    *,
    pair: int | str | Any | None = None,
    dates: Any = None,
    step: float | None = None,
    filled: bool = False,
    crs: Any = DEGREES,
) -> xr.Dataset:
    """Read the velocity along a line, such as a flow line.

    Parameters
    ----------
    cube : Dataset
        ``vx`` and ``vy`` over ``(mid_date, y, x)``, or ``(y, x)`` for a single map.
    line : GeoDataFrame, vector file, GeoJSON mapping, shapely geometry, or sequence of (x, y)
        One line.
    pair : int, str, datetime or None
        Position, date, or ``"median"`` over pairs; None is the only pair, else the median.
    dates : str or pair of dates, optional
        Only pairs whose middle lies in this span.
    step : float, optional
        Map metres between places; the distance of the nodes if not given.
    filled : bool
        Use vectors that were filled from their neighbours too.
    crs : optional
        CRS of a line that does not say its own; longitude and latitude if not given.

    Returns
    -------
    Dataset over ``distance`` (ground kilometres from the beginning of the line)
        ``vx, vy, v``, their errors (m/yr) and ``count`` (pairs), each of the node that is nearest; NaN outside the cube.

    Raises
    ------
    Stop
        There is no line, or several; it lies outside the cube; there is no such pair.
    """
    grid = grid_of(cube)
    course = course_of(line, grid, step, crs)
    column = np.floor((course.places[:, 0] - grid.left) / grid.resolution).astype(int)
    row = np.floor((grid.top - course.places[:, 1]) / grid.resolution).astype(int)
    inside = (row >= 0) & (row < grid.height) & (column >= 0) & (column < grid.width)
    if not inside.any():
        b = grid.bounds
        raise Stop(f"the line lies outside the cube, which covers x {b.left:.0f} to {b.right:.0f}, y {b.bottom:.0f} to {b.top:.0f}")
    names = [name for name in ("vx", "vy", "vx_error", "vy_error", "status", *DESCRIBED) if name in cube]
    nodes = cube[names].isel(y=xr.DataArray(row[inside], dims="distance"), x=xr.DataArray(column[inside], dims="distance"))
    found = velocity_of(nodes, pair, dates=dates, filled=filled)
    values = {name: _spread(found[name].values, inside) for name in ("vx", "vy", "vx_error", "vy_error", "count")}
    made = _velocities(("distance",), values, values.pop("count"), "pairs that were used")
    made = made.assign_coords(distance=("distance", course.distance, {"long_name": "distance along the line", "units": "km"}))
    x, y = course.places.T
    return _located(made, grid, x, y, cube.attrs.get("title", "")).assign_attrs(shown=found.attrs["shown"])


def _spread(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    whole = np.full(inside.shape, 0 if values.dtype.kind == "u" else np.nan, values.dtype)
    whole[inside] = values
    return whole


def course_of(line: Any, grid: Grid, step: float | None = None, crs: Any = DEGREES) -> Course:
    """Return places along a line, evenly spaced between its vertices; see ``profile``.

    Raises
    ------
    Stop
        There is no line, or several, or it would have more than ``MOST_PLACES`` places.
    """
    step = grid.resolution if step is None else step
    geometry, known = _read_line(line, crs)
    to_map = pyproj.Transformer.from_crs(known, grid.crs, always_xy=True)
    vertices = np.column_stack(to_map.transform(*shapely.get_coordinates(geometry).T))
    vertices = vertices[np.isfinite(vertices).all(axis=1)]
    moved = shapely.LineString(vertices) if len(vertices) > 1 else shapely.LineString()
    if not step > 0 or moved.length == 0 or moved.length / step > MOST_PLACES:
        raise Stop(f"the line is {moved.length:.0f} m long and the step {step:g} m: give a line, and a step that fits it")
    places = shapely.get_coordinates(shapely.segmentize(moved, step))
    lon, lat = pyproj.Transformer.from_crs(grid.crs, DEGREES, always_xy=True).transform(*places.T)
    lengths = pyproj.Geod(ellps="WGS84").line_lengths(lon, lat)
    return Course(places, np.concatenate([[0.0], np.cumsum(lengths)])[: len(places)] / 1000)


def _read_line(line: Any, crs: Any) -> tuple[shapely.Geometry, Any]:
    if isinstance(line, (str, Path)):
        if not Path(line).exists():
            raise Stop(f"there is no file {line} with a line in it")
        line = gpd.read_file(line)
    if isinstance(line, (gpd.GeoDataFrame, gpd.GeoSeries)):
        crs = line.crs or crs
        geometry = shapely.line_merge(shapely.union_all(list(line.geometry.dropna())))
    elif isinstance(line, dict):
        geometry = shapely.geometry.shape(line.get("geometry") or line)
    elif isinstance(line, shapely.Geometry):
        geometry = line
    else:
        geometry = _line_through(line)
    if geometry.geom_type == "MultiLineString":
        geometry = shapely.line_merge(geometry)
    if geometry.geom_type != "LineString" or geometry.is_empty:
        raise Stop(f"one line is needed, not a {geometry.geom_type}; of a table of lines, give one row: lines.iloc[[0]]")
    return geometry, crs


def _line_through(places: Any) -> shapely.Geometry:
    try:
        return shapely.LineString(np.asarray(places, float)[:, :2])
    except (ValueError, IndexError, TypeError, shapely.errors.GEOSException):
        raise Stop("a line is given as a table of lines, a geometry, or a list of at least two (x, y)") from None


def is_measured(series: xr.Dataset) -> np.ndarray:
    """Return which values of a series are measured, not filled from their neighbours."""
    known: np.ndarray = np.isfinite(series["v"].values)
    return known & (series["status"].values != Status.FILLED) if "status" in series else known
