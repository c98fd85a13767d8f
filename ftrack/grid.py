"""Where pixels and nodes lie: CRS, transform, tiles and halos."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyproj
import rioxarray as _rioxarray  # noqa: F401  registers .rio, by which arrays know their CRS
import xarray as xr
from affine import Affine

from ftrack.errors import Stop

TOLERANCE = 1e-6
"""Largest deviation from a pixel lattice, in pixels, that still counts as lying on it."""


class Bounds(NamedTuple):
    """A box on the map, in the units of its CRS."""

    left: float
    bottom: float
    right: float
    top: float


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A north-up grid of square pixels.

    Pixel ``(row, column)`` covers ``left + column * resolution`` to ``left + (column + 1) * resolution``
    and ``top - row * resolution`` to ``top - (row + 1) * resolution``; its coordinates are its centre.
    """

    crs: str
    resolution: float
    left: float
    top: float
    height: int
    width: int

    @property
    def bounds(self) -> Bounds:
        """Outer edges."""
        right = self.left + self.width * self.resolution
        return Bounds(self.left, self.top - self.height * self.resolution, right, self.top)

    @property
    def transform(self) -> Affine:
        """Affine transform from (column, row) of pixel corners to map coordinates."""
        return Affine(self.resolution, 0.0, self.left, 0.0, -self.resolution, self.top)

    @property
    def x(self) -> np.ndarray:
        """Pixel centres, west to east."""
        return self.left + (np.arange(self.width) + 0.5) * self.resolution

    @property
    def y(self) -> np.ndarray:
        """Pixel centres, north to south."""
        return self.top - (np.arange(self.height) + 0.5) * self.resolution

    def window(self, rows: slice, columns: slice) -> Grid:
        """Return the part of the grid, which may reach beyond it, that a window of pixels covers."""
        return Grid(
            crs=self.crs,
            resolution=self.resolution,
            left=self.left + columns.start * self.resolution,
            top=self.top - rows.start * self.resolution,
            height=rows.stop - rows.start,
            width=columns.stop - columns.start,
        )


def crs_code(crs: Any) -> str:
    """Return ``EPSG:n`` where the CRS has such a code, else its WKT.

    Raises
    ------
    Stop
        The CRS cannot be understood, or is in degrees: displacement needs metres.
    """
    try:
        known = pyproj.CRS.from_user_input(crs)
    except pyproj.exceptions.CRSError as error:
        raise Stop(f"the CRS {crs!r} cannot be understood: {error}") from None
    if known.is_geographic:
        raise Stop(f"the CRS {crs!r} is in degrees; choose a projected one in metres, such as the UTM zone or EPSG:3413")
    epsg = known.to_epsg()
    return f"EPSG:{epsg}" if epsg else str(known.to_wkt())


def snapped_grid(crs: str, resolution: float, bounds: Bounds, multiple: int = 1, anchor: tuple[float, float] = (0.0, 0.0)) -> Grid:
    """Return the smallest grid around a box whose edges are whole multiples of ``multiple`` pixels from the anchor.

    Parameters
    ----------
    crs, resolution : str, float
        CRS and pixel size in its units.
    bounds : Bounds
        The box to cover.
    multiple : int
        Edges lie on every ``multiple``-th line of the pixel lattice.
    anchor : (float, float)
        A pixel corner (x, y); the lattice of pixels runs through it.
    """
    if not (bounds.right > bounds.left and bounds.top > bounds.bottom):
        raise Stop(f"the box {tuple(bounds)} is empty: it is given as left, bottom, right, top")
    step = resolution * multiple
    left = math.floor((bounds.left - anchor[0]) / step + TOLERANCE)
    right = math.ceil((bounds.right - anchor[0]) / step - TOLERANCE)
    bottom = math.floor((bounds.bottom - anchor[1]) / step + TOLERANCE)
    top = math.ceil((bounds.top - anchor[1]) / step - TOLERANCE)
    return Grid(
        crs=crs,
        resolution=resolution,
        left=anchor[0] + left * step,
        top=anchor[1] + top * step,
        height=(top - bottom) * multiple,
        width=(right - left) * multiple,
    )


def anchor_of(left: float, top: float, resolution: float) -> tuple[float, float]:
    """Return where the pixel lattice of an image lies: the offset of its corners from whole multiples of the resolution."""
    return (_phase(left, resolution), _phase(top, resolution))


def _phase(value: float, resolution: float) -> float:
    phase = math.fmod(value, resolution)
    phase = phase + resolution if phase < 0 else phase
    return 0.0 if min(phase, resolution - phase) < TOLERANCE * resolution else phase


class Nodes(NamedTuple):
    """The nodes that lie on a grid of pixels: every ``spacing``-th pixel corner of the global lattice.

    ``row`` and ``column`` are the pixel corner of the first node on the grid, ``height`` and ``width`` count nodes.
    """

    spacing: int
    row: int
    column: int
    height: int
    width: int

    @property
    def rows(self) -> np.ndarray:
        """Pixel corners (from the top of the grid) of the node rows."""
        return self.row + self.spacing * np.arange(self.height)

    @property
    def columns(self) -> np.ndarray:
        """Pixel corners (from the left of the grid) of the node columns."""
        return self.column + self.spacing * np.arange(self.width)

    def widened(self, count: int) -> Nodes:
        """Return these nodes and ``count`` more on every side."""
        first = (self.row - count * self.spacing, self.column - count * self.spacing)
        return Nodes(self.spacing, *first, self.height + 2 * count, self.width + 2 * count)


def nodes_on(grid: Grid, spacing: int) -> Nodes:
    """Return the nodes of a grid: pixel corners whose map coordinates are whole multiples of ``spacing`` pixels.

    A node belongs to the grid if its corner is the upper left corner of one of the grid's pixels, so the
    nodes of neighbouring grids neither overlap nor leave a gap. Where the pixel lattice itself does not run
    through the origin of the CRS (Landsat), the nodes keep its offset.
    """
    x0, y0 = anchor_of(grid.left, grid.top, grid.resolution)
    column = -round((grid.left - x0) / grid.resolution) % spacing
    row = round((grid.top - y0) / grid.resolution) % spacing
    height = max(0, -(-(grid.height - row) // spacing))
    width = max(0, -(-(grid.width - column) // spacing))
    return Nodes(spacing, row, column, height, width)


def node_grid(grid: Grid, nodes: Nodes) -> Grid:
    """Return the grid whose pixel centres are the nodes."""
    step = nodes.spacing * grid.resolution
    return Grid(
        crs=grid.crs,
        resolution=step,
        left=grid.left + nodes.column * grid.resolution - step / 2,
        top=grid.top - nodes.row * grid.resolution + step / 2,
        height=nodes.height,
        width=nodes.width,
    )


def crs_attributes(grid: Grid) -> dict[str, Any]:
    """Return the CRS of a grid and where it lies as attributes that CF, GDAL and rioxarray read."""
    crs, t = pyproj.CRS(grid.crs), grid.transform
    wkt = crs.to_wkt()
    geotransform = f"{t.c!r} {t.a!r} {t.b!r} {t.f!r} {t.d!r} {t.e!r}"
    return {"crs_wkt": wkt, "spatial_ref": wkt, **crs.to_cf(), "GeoTransform": geotransform}


def place(array: xr.DataArray | xr.Dataset, grid: Grid) -> Any:
    """Return the array with the coordinates and the CRS of a grid.

    The CRS goes into the scalar coordinate ``spatial_ref`` that rioxarray reads.
    """
    return array.assign_coords(
        x=("x", grid.x, {"standard_name": "projection_x_coordinate", "units": "metre", "axis": "X"}),
        y=("y", grid.y, {"standard_name": "projection_y_coordinate", "units": "metre", "axis": "Y"}),
        spatial_ref=((), np.int32(0), crs_attributes(grid)),
    )


def grid_of(array: xr.DataArray | xr.Dataset) -> Grid:
    """Return the grid of an array with centre coordinates ``x``, ``y`` and a CRS.

    Raises
    ------
    Stop
        A coordinate or the CRS is missing, or the pixels are not square, evenly spaced and north-up.
    """
    for name in ("x", "y"):
        if name not in array.coords or array.sizes.get(name, 0) < 2:
            raise Stop(f"the array has no coordinate {name!r} with at least two pixels; use ftrack.open_stack, or assign x and y")
    reference = array.coords.get("spatial_ref", array.coords.get("mapping"))
    wkt = None if reference is None else reference.attrs.get("crs_wkt", reference.attrs.get("spatial_ref"))
    if wkt is None:
        raise Stop("the array has no CRS; write one with array.rio.write_crs('EPSG:...')")
    x, y = np.asarray(array["x"].values, float), np.asarray(array["y"].values, float)
    step_x, step_y = (x[-1] - x[0]) / (x.size - 1), (y[-1] - y[0]) / (y.size - 1)
    even = all(np.allclose(np.diff(v), s, rtol=0, atol=1e-4 * abs(s)) for v, s in ((x, step_x), (y, step_y)))
    if not even or step_x <= 0 or abs(step_x + step_y) > TOLERANCE * step_x:
        raise Stop(f"the pixels are {step_x:g} by {-step_y:g}: a north-up grid of square, evenly spaced pixels is needed")
    step = float(round(step_x, 9))
    return Grid(
        crs=crs_code(wkt),
        resolution=step,
        left=round(float(x[0]) - step / 2, 6),
        top=round(float(y[0]) + step / 2, 6),
        height=y.size,
        width=x.size,
    )
