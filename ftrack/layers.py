"""A field of any projection as a picture for a web map: only what is seen, as fine as the screen, placed to the pixel."""

from __future__ import annotations

import io
import math
from base64 import b64encode
from typing import NamedTuple

import numpy as np
import pyproj
import xarray as xr
from PIL import Image

from ftrack.errors import Stop
from ftrack.grid import Grid, grid_of

MERCATOR, DEGREES = "EPSG:3857", "EPSG:4326"

MOST_PIXELS = 1_000_000
"""Pixels of a picture, one byte each before compression; where the screen has more, a pixel covers several of them."""

LATTICE = 24
"""Pixels between points that are projected exactly; bilinear between them."""

LEVELS = 250
"""Colours of a scale."""

SLOW = 0.03
"""Part of the highest speed below which no streamline begins: directions of ice that stands are noise."""

FURTHEST = 85.05
"""Latitude at which web maps end."""


class Field(NamedTuple):
    """Values on a grid, and how they are coloured.

    ``palette`` (colours, 3) uint8 runs from ``low`` to ``high``, along the logarithm if ``log``.
    """

    values: np.ndarray
    grid: Grid
    palette: np.ndarray
    low: float
    high: float
    log: bool = False


class Box(NamedTuple):
    """What a map shows, degrees."""

    west: float
    south: float
    east: float
    north: float


class Sheet(NamedTuple):
    """What a map shows, in metres of its own CRS."""

    crs: str
    left: float
    bottom: float
    right: float
    top: float


class Picture(NamedTuple):
    """A PNG, and the corners that place it on its map, see `corners_of`."""

    png: bytes
    box: Box

    @property
    def url(self) -> str:
        """The picture as an address that holds all of it."""
        return f"data:image/png;base64,{b64encode(self.png).decode()}"

    @property
    def bounds(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """South-west and north-east corner, (latitude, longitude) each."""
        return (self.box.south, self.box.west), (self.box.north, self.box.east)


def box_of(grid: Grid) -> Box:
    """Return the box in degrees around a grid."""
    return Box(*pyproj.Transformer.from_crs(grid.crs, DEGREES, always_xy=True).transform_bounds(*grid.bounds, densify_pts=51))


def sheet_of(box: Box) -> Sheet:
    """Return what a web map in the Mercator projection shows of a box."""
    south, north = max(box.south, -FURTHEST), min(box.north, FURTHEST)
    to_map = pyproj.Transformer.from_crs(DEGREES, MERCATOR, always_xy=True)
    (left, right), (bottom, top) = to_map.transform([box.west, box.east], [south, north])
    return Sheet(MERCATOR, left, bottom, right, top)


def corners_of(sheet: Sheet) -> Box:
    """Return the corners of a sheet as web maps take those of pictures: top left is north-west, bottom right south-east.

    On a polar map the upper corner can be the one further from the pole: it is named by the way over the pole then, as a
    latitude beyond 90 degrees, which is the same place.
    """
    to_degrees = pyproj.Transformer.from_crs(sheet.crs, DEGREES, always_xy=True)
    (west, east), (north, south) = to_degrees.transform([sheet.left, sheet.right], [sheet.top, sheet.bottom])
    if north < south and south > 0:
        west, north = west + 180, 180 - north
    elif north < south:
        east, south = east + 180, -180 - south
    return Box(west, south, east if sheet.crs == MERCATOR else west + (east - west) % 360, north)


def render(field: Field, shown: Box | Sheet, width: int, *, beside: Field | None = None, share: float = 1.0) -> Picture | None:
    """Draw the part of a field that a web map shows.

    Parameters
    ----------
    field : Field
        In any projected CRS.
    shown : Box or Sheet
        What the map shows; a box is one of a Mercator map.
    width : int
        Pixels of the screen across it.
    beside : Field, optional
        Another one, drawn where the first ends: right of ``share`` of the map.
    share : float
        0 to 1.

    Returns
    -------
    Picture or None
        None if nothing of the field is seen. Transparent where it has no value.

    Raises
    ------
    Stop
        The map shows nothing.
    """
    sheet = sheet_of(shown) if isinstance(shown, Box) else shown
    window = _window(field.grid if beside is None else None, sheet, width)
    if window is None:
        return None
    left, top, pixel, rows, columns = window
    x, y = left + (np.arange(columns) + 0.5) * pixel, top - (np.arange(rows) + 0.5) * pixel
    indices, palette = _indices(field, sheet.crs, x, y), field.palette
    if beside is not None:
        second = _indices(beside, sheet.crs, x, y)
        offset = len(field.palette)
        right = x > sheet.left + share * (sheet.right - sheet.left)
        indices = np.where(right[None], np.where(second > 0, second + offset, 0), indices)
        palette = np.concatenate([field.palette, beside.palette])
    if not indices.any():
        return None
    drawn = Sheet(sheet.crs, left, top - rows * pixel, left + columns * pixel, top)
    return Picture(_png(indices, palette), corners_of(drawn))


def _window(grid: Grid | None, sheet: Sheet, width: int) -> tuple[float, float, float, int, int] | None:
    """Return left, top, pixel size, rows and columns of the picture of a sheet, cut to where the grid lies."""
    crs, left, bottom, right, top = sheet
    pixel = (right - left) / max(width, 1)
    if not pixel > 0:
        raise Stop(f"the map is empty: it reaches from {left:g} to {right:g} m")
    if grid is not None:
        there = pyproj.Transformer.from_crs(grid.crs, crs, always_xy=True).transform_bounds(*grid.bounds, densify_pts=51)
        # Cut along whole pixels, so that what stays lies where it lay.
        left, right = left + pixel * max(0, math.floor((there[0] - left) / pixel)), min(right, there[2] + pixel)
        top, bottom = top - pixel * max(0, math.floor((top - there[3]) / pixel)), max(bottom, there[1] - pixel)
    if right <= left or top <= bottom:
        return None
    pixel *= max(1.0, math.sqrt((right - left) * (top - bottom) / pixel**2 / MOST_PIXELS))
    return left, top, pixel, max(1, math.floor((top - bottom) / pixel)), max(1, math.floor((right - left) / pixel))


def _indices(field: Field, crs: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which colour of the palette each pixel has, counted from 1; 0 where there is no value."""
    column, row = _places(field.grid, crs, x, y)
    inside = (row >= 0) & (row < field.grid.height) & (column >= 0) & (column < field.grid.width)
    values = np.full(inside.shape, np.nan, np.float32)
    values[inside] = field.values[row[inside], column[inside]]
    colours = len(field.palette)
    with np.errstate(divide="ignore", invalid="ignore"):
        part: np.ndarray
        if field.log:
            part = np.log(np.maximum(values, field.low) / field.low) / math.log(field.high / field.low)
        else:
            part = (values - field.low) / (field.high - field.low)
    known = np.isfinite(part)
    index = 1 + np.clip(np.where(known, part, 0) * colours, 0, colours - 1).astype(int)
    return np.where(known, index, 0)


def _places(grid: Grid, crs: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return column and row of the grid under each pixel of a picture in a CRS, (rows, columns) int."""
    to_grid = pyproj.Transformer.from_crs(crs, grid.crs, always_xy=True)
    knots_x, knots_y = (np.linspace(v[0], v[-1], max(2, math.ceil(v.size / LATTICE) + 1)) for v in (x, y))
    u, v = to_grid.transform(*np.meshgrid(knots_x, knots_y))
    lattice = ((np.asarray(u) - grid.left) / grid.resolution, (grid.top - np.asarray(v)) / grid.resolution)
    column, row = (np.floor(_between(np.where(np.isfinite(part), part, -1e9), x.size, y.size)) for part in lattice)
    return column.astype(int), row.astype(int)


def _between(knots: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """Return values between evenly spaced knots, bilinear, whose first and last lie on the first and last pixel."""

    def along(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        place = np.linspace(0, size - 1, count) if count > 1 else np.zeros(1)
        first = np.minimum(place.astype(int), size - 2)
        return first, place - first

    (j, a), (i, b) = along(columns, knots.shape[1]), along(rows, knots.shape[0])
    across = knots[:, j] * (1 - a) + knots[:, j + 1] * a
    return np.asarray(across[i] * (1 - b)[:, None] + across[i + 1] * b[:, None])


def _png(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """Return colours by number as a PNG with a palette; number 0 is transparent."""
    if len(palette) > 255:
        step = math.ceil(len(palette) / 255)
        indices, palette = np.where(indices > 0, 1 + (indices - 1) // step, 0), palette[::step]
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette(np.concatenate([np.zeros((1, 3), np.uint8), palette]).astype(np.uint8).tobytes())
    into = io.BytesIO()
    image.save(into, "PNG", transparency=0, compress_level=6)
    return into.getvalue()


class Vectors(NamedTuple):
    """Lines in longitude and latitude, (points, 2) each, and the speed of each in m/yr."""

    lines: list[np.ndarray]
    speed: np.ndarray


def arrows(velocity: xr.Dataset, shown: Box | Sheet, count: int = 24) -> Vectors:
    """Return one arrow for every square of the part of a map that is seen, as lines: shaft and head.

    Parameters
    ----------
    velocity : Dataset
        ``vx``, ``vy`` over ``(y, x)``.
    shown : Box or Sheet
        What the map shows.
    count : int
        Arrows along the longer side. The fastest is as long as a square.
    """
    grid = grid_of(velocity)
    rows, columns, size = _seen(grid, shown, count)
    i, j = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
    vx, vy = (velocity[name].values[i, j].astype(float) for name in ("vx", "vy"))
    speed = np.hypot(vx, vy)
    known = np.isfinite(speed) & (speed > 0)
    if not known.any():
        return Vectors([], np.empty(0))
    i, j, vx, vy, speed = (part[known] for part in (i, j, vx, vy, speed))
    length = size * grid.resolution * np.sqrt(speed / speed.max())
    to = np.stack([vx / speed * length, vy / speed * length], axis=1)
    start = np.stack([grid.x[j], grid.y[i]], axis=1) - to / 2
    wings = [start + to * 0.7 + side * 0.18 * to[:, ::-1] * [-1, 1] for side in (1, -1)]
    shapes = np.stack([start, start + to, wings[0], start + to, wings[1]], axis=1)
    return Vectors(_in_degrees(shapes, grid.crs), speed)


def streamlines(velocity: xr.Dataset, shown: Box | Sheet, count: int = 14, steps: int = 14) -> Vectors:
    """Return lines along which the ice flows now, through evenly spread places of the part of a map that is seen.

    Parameters
    ----------
    velocity, shown : Dataset, Box or Sheet
        As for `arrows`.
    count : int
        Lines along the longer side.
    steps : int
        Steps of half a node to either side, at most as many as lead through known velocity.
    """
    grid = grid_of(velocity)
    rows, columns, size = _seen(grid, shown, count)
    fields = [velocity[name].values for name in ("vx", "vy")]
    seeds = np.stack([part.ravel() for part in np.meshgrid(rows + 0.5, columns + 0.5, indexing="ij")], axis=1).astype(float)
    speed = np.hypot(*(field[tuple(seeds.astype(int).T)] for field in fields))
    seeds = seeds[np.nan_to_num(speed) > SLOW * np.nanmax(np.append(speed, 0.0))]
    step = max(0.5, size / 12)
    back, forth = (_follow(fields, seeds, sign * step, steps) for sign in (-1, 1))
    paths = np.concatenate([back[:, :0:-1], forth], axis=1)
    lines, speeds = [], []
    for path, (row, column) in zip(paths, seeds.astype(int), strict=True):
        known = path[np.isfinite(path).all(axis=1)]
        if len(known) > 4:
            lines.append(np.stack([grid.left + known[:, 1] * grid.resolution, grid.top - known[:, 0] * grid.resolution], axis=1))
            speeds.append(float(np.hypot(fields[0][row, column], fields[1][row, column])))
    return Vectors([_in_degrees(line[None], grid.crs)[0] for line in lines], np.array(speeds))


def _follow(fields: list[np.ndarray], seeds: np.ndarray, step: float, steps: int) -> np.ndarray:
    """Return paths (seeds, steps + 1, 2) of row and column, with equal steps (midpoint rule); NaN from where nothing is known."""
    paths = np.full((len(seeds), steps + 1, 2), np.nan)
    paths[:, 0] = here = seeds
    for number in range(1, steps + 1):
        here = here + step * _direction(fields, here + step / 2 * _direction(fields, here))
        paths[:, number] = here
    return paths


def _direction(fields: list[np.ndarray], places: np.ndarray) -> np.ndarray:
    """Return the direction of flow, rows down and columns right, of length 1; NaN where it is not known."""
    height, width = fields[0].shape
    known = np.isfinite(places).all(axis=1)
    row, column = (np.floor(np.where(known, part, -1)).astype(int) for part in places.T)
    known &= (row >= 0) & (row < height) & (column >= 0) & (column < width)
    vx, vy = (np.where(known, field[np.where(known, row, 0), np.where(known, column, 0)], np.nan) for field in fields)
    speed = np.hypot(vx, vy)
    return np.stack([-vy, vx], axis=1) / np.where(speed > 0, speed, np.nan)[:, None]


def _seen(grid: Grid, shown: Box | Sheet, count: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the middle rows and columns of squares of nodes that are seen, and the nodes along a square."""
    crs, *sides = sheet_of(shown) if isinstance(shown, Box) else shown
    there = pyproj.Transformer.from_crs(grid.crs, crs, always_xy=True).transform_bounds(*grid.bounds, densify_pts=51)
    # Far from the grid its projection has no coordinates.
    left, bottom = (max(pair) for pair in zip(sides[:2], there[:2], strict=True))
    right, top = (min(pair) for pair in zip(sides[2:], there[2:], strict=True))
    if right <= left or top <= bottom:
        return np.empty(0, int), np.empty(0, int), 1
    to_grid = pyproj.Transformer.from_crs(crs, grid.crs, always_xy=True)
    left, bottom, right, top = to_grid.transform_bounds(left, bottom, right, top, densify_pts=21)
    (west, east), (north, south) = (
        (part / grid.resolution for part in ends) for ends in ((left - grid.left, right - grid.left), (grid.top - top, grid.top - bottom))
    )
    first = max(0, math.floor(west)), max(0, math.floor(north))
    last = min(grid.width, math.ceil(east)), min(grid.height, math.ceil(south))
    size = max(1, math.ceil(max(last[0] - first[0], last[1] - first[1], 1) / count))
    columns, rows = (np.arange(a - a % size + size // 2, b, size) for a, b in zip(first, last, strict=True))
    return rows[rows < grid.height], columns[columns < grid.width], size


def _in_degrees(shapes: np.ndarray, crs: str) -> list[np.ndarray]:
    lon, lat = pyproj.Transformer.from_crs(crs, DEGREES, always_xy=True).transform(shapes[..., 0], shapes[..., 1])
    return list(np.stack([lon, lat], axis=-1))
