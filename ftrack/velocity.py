"""From displacement in pixels to velocity in ground metres per year, with errors: the one flip of y and the one change of unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import pyproj
import xarray as xr

from ftrack.errors import Stop
from ftrack.grid import Grid, grid_of
from ftrack.ground import Calibration
from ftrack.labels import (
    BOUNDS,
    COORDINATES,
    MAPPING,
    Image,
    attributes_of,
    cube_attributes,
    mapping_attributes,
    pair_columns,
    unique_mid_date,
)
from ftrack.pairs import Pair
from ftrack.schema import DAYS_PER_YEAR, MOTION, PER_NODE, PER_PAIR, VELOCITY, Status
from ftrack.stable import FLAT, NO_SHIFT, Shift, shift_at

LATTICE = 5000.0
"""Metres between the points where the scale of the projection is computed; bilinear between them it is exact to 1e-7."""

ANISOTROPY = 0.01
"""Largest difference of the scale between directions: one scale factor per node cannot express more."""


class Correction(NamedTuple):
    """What is taken off the displacement of each pair and what its formal error lacks; px, broadcastable to (pairs, y, x).

    ``error_scale_*`` multiply the formal errors (1 or more), ``error_*`` are the errors of the shift itself.
    """

    dx: Any = 0.0
    dy: Any = 0.0
    error_scale_dx: Any = 1.0
    error_scale_dy: Any = 1.0
    error_dx: Any = 0.0
    error_dy: Any = 0.0


UNCORRECTED = Correction()


def point_scale(nodes: Grid) -> np.ndarray:
    """Return the scale of the projection at every node: map metres per ground metre, float64 (y, x).

    For a conformal projection (UTM, polar stereographic, Lambert conformal conic) it is the same in all directions;
    otherwise it is the geometric mean of the largest and the smallest.

    Raises
    ------
    Stop
        The CRS is not in metres, or its scale differs between directions by more than ``ANISOTROPY``.
    """
    # The lattice is fixed to the map, so that a node has the same scale in whatever window it is asked for.
    x, y = nodes.x / LATTICE, nodes.y / LATTICE
    columns = np.arange(np.floor(x.min()), np.floor(x.max()) + 2)
    rows = np.arange(np.floor(y.min()), np.floor(y.max()) + 2)
    known = _exact_scale(nodes.crs, *np.meshgrid(columns * LATTICE, rows * LATTICE))
    column, row = (np.floor(x) - columns[0]).astype(int), (np.floor(y) - rows[0]).astype(int)
    wx, wy = (x - np.floor(x))[None, :], (y - np.floor(y))[:, None]
    corners = {(i, j): known[np.ix_(row + i, column + j)] for i in (0, 1) for j in (0, 1)}
    upper = corners[0, 0] * (1 - wx) + corners[0, 1] * wx
    lower = corners[1, 0] * (1 - wx) + corners[1, 1] * wx
    return np.asarray(upper * (1 - wy) + lower * wy)


def _exact_scale(code: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    crs = pyproj.CRS(code)
    if any(abs(axis.unit_conversion_factor - 1) > 1e-12 for axis in crs.axis_info[:2]):
        raise Stop(f"the CRS {crs.name} is in {crs.axis_info[0].unit_name}; choose one in metres, such as the UTM zone")
    longitude, latitude = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(x, y)
    factors = pyproj.Proj(crs).get_factors(longitude, latitude)
    if not np.all(np.isfinite(factors.areal_scale)):
        raise Stop(f"parts of the grid lie outside the area in which the CRS {crs.name} is defined")
    if np.any(factors.tissot_semimajor > (1 + ANISOTROPY) * factors.tissot_semiminor):
        raise Stop(
            f"the scale of the CRS {crs.name} differs between directions by up to "
            f"{100 * (np.max(factors.tissot_semimajor / factors.tissot_semiminor) - 1):.1f} %; "
            "choose a conformal one, such as the UTM zone, EPSG:3413 or EPSG:3031"
        )
    return np.asarray(np.sqrt(factors.areal_scale))


def velocity_block(
    motion: Mapping[str, Any] | np.ndarray, days: np.ndarray, pixel_size: float, scale_factor: Any, correction: Correction = UNCORRECTED
) -> dict[str, Any]:
    """Turn displacement into velocity.

    Parameters
    ----------
    motion : mapping of str to array (pairs, y, x), or array (8, pairs, y, x)
        ``schema.MOTION`` by name, or in its order. Numpy or Dask.
    days : float (pairs,)
        Temporal baselines.
    pixel_size : float
        Map metres per pixel.
    scale_factor : float (y, x)
        Map metres per ground metre, see ``point_scale``.
    correction : Correction
        Shift and errors found over stable ground, px.

    Returns
    -------
    dict of str to array (pairs, y, x)
        ``schema.VELOCITY`` by name and in its types. Nodes whose status is neither measured nor filled have no velocity.

    Notes
    -----
    The error of a component is ``hypot(error_scale * formal error, error of the shift)``, in m/yr; for that of the speed see ``speed``.
    """
    names = [variable.name for variable in MOTION]
    given = motion if isinstance(motion, Mapping) else dict(zip(names, motion, strict=True))
    status = given["status"].astype("uint8")
    kept = status <= Status.FILLED
    metres = (DAYS_PER_YEAR * pixel_size / np.asarray(days, float))[:, None, None] / scale_factor
    vx = _where(kept, (given["dx"] - correction.dx) * metres)
    vy = _where(kept, -(given["dy"] - correction.dy) * metres)
    vx_error = _where(kept, np.hypot(given["dx_error"] * correction.error_scale_dx, correction.error_dx) * metres)
    vy_error = _where(kept, np.hypot(given["dy_error"] * correction.error_scale_dy, correction.error_dy) * metres)
    v, v_error = speed(vx, vy, vx_error, vy_error)
    values = {
        "vx": vx,
        "vy": vy,
        "v": v,
        "vx_error": vx_error,
        "vy_error": vy_error,
        "v_error": v_error,
        "interp_mask": np.where(status == Status.NOT_COMPUTED, 255, status == Status.FILLED),
        "correlation": given["correlation"],
        "peak_ratio": given["peak_ratio"],
        "chip_size": given["chip_size"],
        "status": status,
    }
    return {variable.name: values[variable.name].astype(variable.dtype) for variable in VELOCITY}


def speed(vx: Any, vy: Any, vx_error: Any, vy_error: Any) -> tuple[Any, Any]:
    """Return the speed and its error.

    The error is the propagation of those of the components, ``sqrt((vx vx_error)^2 + (vy vy_error)^2) / v``; where v is 0
    the direction is undefined and the root mean square over all directions, ``sqrt((vx_error^2 + vy_error^2) / 2)``, is taken.
    """
    v = np.hypot(vx, vy)
    along = np.hypot(vx * vx_error, vy * vy_error) / np.where(v > 0, v, 1.0)
    return v, np.where(v > 0, along, np.hypot(vx_error, vy_error) / np.sqrt(2.0))


def _where(kept: Any, values: Any) -> Any:
    return np.where(kept, values, np.nan)


def correct(
    shifts: Sequence[Shift],
    calibrations: Sequence[Calibration] | None,
    shape: tuple[int, int],
    window: tuple[slice, slice] | None = None,
) -> Correction:
    """Return what is taken off the displacement of some pairs on a window of the nodes.

    Parameters
    ----------
    shifts, calibrations : sequence of Shift, of Calibration
        One per pair; without calibrations the formal errors stay.
    shape : (int, int)
        Nodes of the whole grid along y and x.
    window : (slice, slice), optional
        Rows and columns; all nodes if left out.

    Returns
    -------
    Correction
        Arrays (pairs, y, x), or (pairs, 1, 1) where a shift is the same everywhere.
    """
    rows, columns = window or (slice(0, shape[0]), slice(0, shape[1]))
    if not any(np.any(shift.gradient) for shift in shifts):
        rows, columns = slice(0, 1), slice(0, 1)
    fields = [shift_at(shift, shape, rows, columns) for shift in shifts]
    known = calibrations or [Calibration()] * len(shifts)
    return Correction(
        np.stack([dx for dx, _ in fields]),
        np.stack([dy for _, dy in fields]),
        *(np.array(values)[:, None, None] for values in zip(*((c.scale_dx, c.scale_dy) for c in known), strict=True)),
        *(np.hypot(*np.array(values).T)[:, None, None] for values in _added(known)),
    )


def _added(known: Sequence[Calibration]) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    return [(c.floor_dx, c.shift_error_dx) for c in known], [(c.floor_dy, c.shift_error_dy) for c in known]


def shift_columns(shifts: Sequence[Shift], days: np.ndarray, pixel_size: float, scale: float) -> dict[str, np.ndarray]:
    """Return what ``schema.PER_PAIR`` says of the shifts, m/yr; ``scale`` is the scale of the projection at the grid's centre."""
    metres = DAYS_PER_YEAR * pixel_size / scale / np.asarray(days, float)
    return {
        "vx_stable_shift": np.array([shift.dx for shift in shifts]) * metres,
        "vy_stable_shift": -np.array([shift.dy for shift in shifts]) * metres,
        "vx_error_stationary": np.array([shift.scatter_dx for shift in shifts]) * metres,
        "vy_error_stationary": np.array([shift.scatter_dy for shift in shifts]) * metres,
        "stable_count_stationary": np.array([shift.count for shift in shifts], "uint32"),
        "stable_shift_flag": np.array([shift.flag for shift in shifts], "uint8"),
    }


def to_velocity(
    motion: xr.Dataset,
    shifts: Sequence[Shift] | None = None,
    calibrations: Sequence[Calibration] | None = None,
    stable: np.ndarray | None = None,
) -> xr.Dataset:
    """Turn displacement into a dataset like a published cube.

    Parameters
    ----------
    motion : Dataset (pair, y, x)
        As ``ftrack.match_stack`` and ``ftrack.clean`` give it, lazy or not.
    shifts, calibrations, stable
        What ``find_shifts`` found; without them nothing is taken off and formal errors stay as they are.

    Returns
    -------
    Dataset (mid_date, y, x)
        ``schema.VELOCITY`` in ground metres per year, ``PER_PAIR`` and ``PER_NODE``, sorted by ``mid_date``; as lazy as
        what was given.

    Raises
    ------
    Stop
        A pair is there twice or has no time between its images, or the CRS does not suit (see ``point_scale``).
    """
    nodes = grid_of(motion)
    pairs, images = _pairs_of(motion)
    dates = unique_mid_date(pairs)
    days = np.array([pair.temporal_baseline for pair in pairs])
    if np.any(days <= 0):
        raise Stop(f"the pair {pairs[int(np.argmin(days))].id} has no time between its images")
    pixel_size, scale = float(motion.attrs["pixel_size"]), point_scale(nodes)
    found = tuple(shifts) if shifts is not None else (NO_SHIFT,) * len(pairs)
    given = {v.name: motion[v.name].transpose("pair", "y", "x").data for v in MOTION}
    correction = _correct_like(given["dx"], found, calibrations)
    values = velocity_block(given, days, pixel_size, _lazy(scale, given["dx"]), correction)
    columns = {
        **pair_columns(pairs, images),
        **shift_columns(found, days, pixel_size, float(scale[nodes.height // 2, nodes.width // 2])),
        "roi_valid_percentage": 100 * (values["status"] == Status.MEASURED).mean(axis=(1, 2)),
    }
    unknown = np.full(scale.shape, 255, "uint8")
    per_node = {"scale_factor": scale, "stable": unknown if stable is None else stable}
    variables = (*VELOCITY, *PER_PAIR, *PER_NODE)
    all_values = {**values, **columns, **per_node}
    made = {v.name: (v.dims, _typed(all_values[v.name], v.dtype), attributes_of(v)) for v in variables}
    bounds = np.stack([columns["acquisition_date_img1"], columns["acquisition_date_img2"]], axis=1)
    coords = {"mid_date": ("mid_date", dates, COORDINATES["mid_date"]), BOUNDS: (("mid_date", "bnds"), bounds)}
    cube = _place(xr.Dataset(made, coords, cube_attributes(nodes, pairs)), nodes)
    order = np.argsort(dates)
    return cube if np.array_equal(order, np.arange(order.size)) else cube.isel(mid_date=order)


def _correct_like(like: Any, shifts: Sequence[Shift], calibrations: Sequence[Calibration] | None) -> Correction:
    """Return the correction of all nodes, block by block if the displacement is lazy."""
    shape = like.shape[1:]
    flat = not any(np.any(shift.gradient) for shift in shifts)
    if flat or not isinstance(like, da.Array):
        return correct(shifts, calibrations, shape)

    def field(component: int, block_info: Any = None) -> np.ndarray:
        (first, last), rows, columns = block_info[None]["array-location"]
        part = correct(shifts[first:last], None, shape, (slice(*rows), slice(*columns)))[component]
        return np.broadcast_to(part, block_info[None]["chunk-shape"])

    meta = np.empty((0, 0, 0))
    fields = [da.map_blocks(field, k, chunks=like.chunks, dtype="float64", meta=meta) for k in (0, 1)]
    errors = correct([shift._replace(gradient=FLAT) for shift in shifts], calibrations, shape)
    return errors._replace(dx=fields[0], dy=fields[1])


def _lazy(values: np.ndarray, like: Any) -> Any:
    """Return an array (y, x) as a Dask array with the chunks of another one (pair, y, x), if that is one."""
    return da.from_array(values, chunks=like.chunks[1:]) if isinstance(like, da.Array) else values


def _typed(values: Any, dtype: str) -> Any:
    return values if dtype == "str" else values.astype(dtype)


def _place(cube: xr.Dataset, nodes: Grid) -> xr.Dataset:
    """Give the cube its coordinates on the map and its CRS, under the names of readers of ITS_LIVE and of rioxarray."""
    mapping = ((), np.int32(0), mapping_attributes(nodes))
    places = {"x": ("x", nodes.x, COORDINATES["x"]), "y": ("y", nodes.y, COORDINATES["y"])}
    placed: xr.Dataset = cube.assign_coords({**places, MAPPING: mapping, "spatial_ref": mapping})
    placed["mid_date"].encoding["bounds"] = BOUNDS
    for variable in (*VELOCITY, *PER_NODE):
        placed[variable.name].encoding["grid_mapping"] = MAPPING
    return placed


def _pairs_of(motion: xr.Dataset) -> tuple[tuple[Pair, ...], dict[str, Image]]:
    """Read pairs and images from the coordinates of a motion dataset."""

    def column(name: str) -> list[Any]:
        return motion[name].values.tolist() if name in motion.coords else [""] * motion.sizes["pair"]

    times = [motion[name].values.astype("datetime64[us]").tolist() for name in ("reference_time", "secondary_time")]
    pairs = tuple(
        Pair(reference=str(a), secondary=str(b), reference_time=s.replace(tzinfo=UTC), secondary_time=t.replace(tzinfo=UTC))
        for a, b, s, t in zip(column("reference"), column("secondary"), *times, strict=True)
    )
    images: dict[str, Image] = {}
    for role in ("reference", "secondary"):
        for name, platform, scenes in zip(column(role), column(f"{role}_platform"), column(f"{role}_scene_ids"), strict=True):
            images[str(name)] = Image(str(platform), tuple(str(scenes).split()))
    return pairs, images
