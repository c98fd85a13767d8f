"""Velocity along the axes of another map: turned by grid convergence, and brought to other nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyproj
import xarray as xr

from ftrack.errors import Stop
from ftrack.grid import Grid, crs_code, grid_of, place
from ftrack.schema import Status

STEP = 50.0
"""Metres to either side by which it is seen where an axis of one map points on another."""

COMPONENTS = ("vx", "vy")
ERRORS = ("vx_error", "vy_error")


def turning(source: str, target: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the angle, counter-clockwise in radians, by which a vector of one map has to be turned on another.

    It is the difference of their grid convergences at places (x, y) of the first; both maps have to be conformal.
    """
    there = pyproj.Transformer.from_crs(source, target, always_xy=True)
    x, y = np.asarray(x, float), np.asarray(y, float)
    first, last = (np.asarray(there.transform(x + step, y)) for step in (-STEP, STEP))
    return np.asarray(np.arctan2(last[1] - first[1], last[0] - first[0]))


def turn_to(data: xr.Dataset, crs: Any) -> xr.Dataset:
    """Turn velocity to the grid directions of another CRS; the places of the values stay.

    Parameters
    ----------
    data : Dataset
        ``vx``, ``vy`` and, if there, their errors, with coordinates ``x``, ``y`` of its own CRS: a map, a cube, a series or a profile.
    crs : any
        The CRS along whose axes the components are wanted.

    Returns
    -------
    Dataset
        As given, with turned components. The speed stays: ground metres are the same everywhere.

    Raises
    ------
    Stop
        The data have no CRS, or the other one cannot be understood.
    """
    reference = data.coords.get("spatial_ref", data.coords.get("mapping"))
    if reference is None or "crs_wkt" not in reference.attrs:
        raise Stop("the data have no CRS; write one with data.rio.write_crs('EPSG:...')")
    own, wanted = crs_code(reference.attrs["crs_wkt"]), crs_code(crs)
    y, x = (data["y"], data["x"]) if data["x"].dims == data["y"].dims else xr.broadcast(data["y"], data["x"])
    angle = xr.DataArray(turning(own, wanted, x.values, y.values), dims=x.dims)
    return _turned(data, angle).assign_attrs(turned_to=wanted)


def _turned(data: xr.Dataset, angle: xr.DataArray) -> xr.Dataset:
    cos, sin = (angle.copy(data=part(angle.values).astype(np.float32)) for part in (np.cos, np.sin))
    east, north = (data[name] for name in COMPONENTS)
    made: dict[str, xr.DataArray] = {"vx": cos * east - sin * north, "vy": sin * east + cos * north}
    if all(name in data for name in ERRORS):
        a, b = (data[name] for name in ERRORS)
        made |= {"vx_error": ((cos * a) ** 2 + (sin * b) ** 2) ** 0.5, "vy_error": ((sin * a) ** 2 + (cos * b) ** 2) ** 0.5}
    return data.assign({name: _ordered(part).assign_attrs(data[name].attrs) for name, part in made.items()})


def _ordered(values: xr.DataArray) -> xr.DataArray:
    return values.transpose(*(name for name in ("mid_date", "y", "x", "distance") if name in values.dims))


def warp_to(data: xr.Dataset, nodes: Grid) -> xr.Dataset:
    """Bring a velocity map or cube to the nodes and the grid directions of another, so that both can be subtracted.

    Parameters
    ----------
    data : Dataset
        ``vx``, ``vy`` in ground m/yr over ``(y, x)``, also with ``mid_date``.
    nodes : Grid
        The nodes wanted, such as ``ftrack.grid.grid_of(cube)``; each takes the value of the nearest node of the data.

    Returns
    -------
    Dataset
        On the nodes; NaN where the data do not reach.

    Raises
    ------
    Stop
        The data do not cover any node.
    """
    own = grid_of(data)
    u, v = pyproj.Transformer.from_crs(nodes.crs, own.crs, always_xy=True).transform(*np.meshgrid(nodes.x, nodes.y))
    known = np.isfinite(u) & np.isfinite(v)
    u, v = np.where(known, u, own.left - own.resolution), np.where(known, v, own.top)
    column, row = np.floor((u - own.left) / own.resolution).astype(int), np.floor((own.top - v) / own.resolution).astype(int)
    inside = (column >= 0) & (column < own.width) & (row >= 0) & (row < own.height)
    if not inside.any():
        raise Stop(f"the data in {own.crs} do not cover the nodes in {nodes.crs}: choose data of the same area")
    at = {name: xr.DataArray(np.where(inside, index, 0), dims=("y", "x")) for name, index in (("y", row), ("x", column))}
    picked = data.drop_vars(["x", "y", "spatial_ref", "mapping"], errors="ignore").isel(at)
    angle = np.where(inside, turning(own.crs, nodes.crs, np.where(inside, u, own.x[0]), np.where(inside, v, own.y[0])), 0.0)
    turned = _turned(picked, xr.DataArray(angle, dims=("y", "x")))
    covered = xr.DataArray(inside, dims=("y", "x"))
    for name, values in turned.data_vars.items():
        if {"y", "x"} <= set(values.dims) and values.dtype.kind == "f":
            turned[name] = values.where(covered)
    if "status" in turned:
        turned["status"] = turned["status"].where(covered, np.uint8(Status.NO_DATA))
    placed: xr.Dataset = place(turned, nodes)
    return placed
