"""Strain rates: how fast ice is stretched, squeezed and sheared, from the gradients of its velocity."""

from __future__ import annotations

import json
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from scipy.ndimage import correlate1d

from ftrack.errors import Stop
from ftrack.grid import grid_of
from ftrack.matchers.unbend import widening_of
from ftrack.schema import Status
from ftrack.velocity import point_scale

LEAST = 0.5
"""Least share of the nodes of a window that must have a vector."""

LONG_NAMES = {
    "strain_xx": "stretching along grid east",
    "strain_yy": "stretching along grid north",
    "strain_xy": "shear between grid east and grid north (half the engineering shear rate)",
    "strain_longitudinal": "stretching along the flow",
    "strain_transverse": "stretching across the flow, to its left",
    "strain_shear": "shear across the flow (half the engineering shear rate)",
    "strain_effective": "effective strain rate of incompressible ice",
    "rotation": "rotation about the vertical, counter-clockwise",
    "strain_xx_error": "one-sigma error of strain_xx",
    "strain_yy_error": "one-sigma error of strain_yy",
    "strain_xy_error": "one-sigma error of strain_xy",
}


def strain_rates(velocity: xr.Dataset, window: int = 5, *, filled: bool = False, chip: float | None = None) -> xr.Dataset:
    """Compute strain rates from a velocity field, as lazily as it is given.

    A plane is fitted to each component over a window of nodes; its slopes are the velocity gradients.

    Parameters
    ----------
    velocity : Dataset (..., y, x)
        ``vx`` and ``vy`` in ground metres per year, along the grid: a cube, one of its pairs, or a mean. ``vx_error``,
        ``vy_error`` and ``status`` are used if they are there.
    window : int
        Side of the window, nodes; odd. Gradients are means over it.
    filled : bool
        Use vectors that were filled from their neighbours too.
    chip : float, optional
        Side of the chips in nodes: nodes that are nearer share noise. From the cube if left out, with what neighbours that were
        drawn together share besides; 1 where it does not say.

    Returns
    -------
    Dataset (..., y, x)
        In 1/yr, NaN where fewer than half of the window's nodes have a vector: ``strain_xx, strain_yy, strain_xy`` along the
        grid, with one-sigma errors; ``strain_longitudinal``, ``strain_transverse``, ``strain_shear`` along the local flow (positive
        shear: speed grows to the left of the flow); ``strain_effective``, with ice taken as incompressible; ``rotation``.
        Shear rates are tensor components, half the engineering ones.

    Raises
    ------
    Stop
        There is no velocity on a grid, or the window is not an odd number from 3 to 31.

    Notes
    -----
    Cuffey & Paterson 2010, *The Physics of Glaciers*; axes turned to the flow as in Alley et al. 2018, J. Glaciol. 64.
    Errors count noise that neighbouring chips share, but neither wrong matches nor a velocity that bends within the window.
    """
    if not {"vx", "vy"} <= set(velocity.data_vars) or velocity["vx"].dims[-2:] != ("y", "x"):
        raise Stop("strain rates need vx and vy over y and x: a cube, one of its pairs, or a mean of several")
    if window % 2 == 0 or not 3 <= window <= 31:
        raise Stop(f"the window has {window} nodes along its side; it must be an odd number from 3 to 31")
    whole, grid = velocity["vx"], grid_of(velocity)
    usable = np.isfinite(whole) & np.isfinite(velocity["vy"])
    if "status" in velocity:
        usable &= velocity["status"] <= (Status.FILLED if filled else Status.MEASURED)
    given = [
        (velocity[name] if name in velocity else xr.full_like(whole, np.nan)).where(usable) for name in ("vx", "vy", "vx_error", "vy_error")
    ]
    stacked = xr.concat([part.astype(np.float64) for part in given], "component", coords="minimal", compat="override")
    step = grid.resolution / point_scale(grid)
    made = _lazily(stacked.transpose("component", *whole.dims).data, step, window, _chip_of(velocity) if chip is None else chip)
    variables = {}
    for row, (name, text) in enumerate(LONG_NAMES.items()):
        variables[name] = (whole.dims, made[row], {"long_name": text, "units": "year-1", "grid_mapping": "mapping"})
    attrs = {name: velocity.attrs[name] for name in ("title", "run_id", "days_per_year") if name in velocity.attrs}
    return xr.Dataset(variables, whole.coords, {**attrs, "Conventions": "CF-1.11", "strain_window": window})


def _chip_of(velocity: xr.Dataset) -> float:
    """Return how far nodes share noise: the usual side of the chips, wider where solutions are drawn together; nodes."""
    try:
        matcher = json.loads(velocity.attrs["workflow"])["matcher"]
        sizes, spacing = [int(size) for size in matcher["chip_sizes"]], int(matcher["spacing"])
        wider = widening_of(sizes, spacing) if matcher.get("subpixel") == "least_squares" else 1.0
        return max(1.0, wider * float(np.mean(sizes)) / spacing)
    except (KeyError, ValueError, TypeError):
        return 1.0


def _lazily(values: Any, step: np.ndarray, window: int, chip: float) -> Any:
    if not isinstance(values, da.Array):
        return strain_block(values, step, window, chip)
    reach, axes = window // 2, values.ndim
    whole = values.rechunk({0: -1})
    scale = da.broadcast_to(da.from_array(step, chunks=whole.chunks[-2:]), (1, *whole.shape[1:]), chunks=((1,), *whole.chunks[1:]))
    both = da.concatenate([whole, scale], axis=0).rechunk({0: -1})
    depth = {axis: reach if axis >= axes - 2 else 0 for axis in range(axes)}
    boundary = {axis: np.nan if axis >= axes - 2 else "none" for axis in range(axes)}
    joined = da.overlap.overlap(both, depth, boundary)
    made = joined.map_blocks(_strain_of_joined, window=window, chip=chip, dtype=np.float32, chunks=((len(LONG_NAMES),), *joined.chunks[1:]))
    return da.overlap.trim_internal(made, depth, boundary)


def _strain_of_joined(joined: np.ndarray, window: int, chip: float) -> np.ndarray:
    return strain_block(joined[:4], joined[4], window, chip)


def strain_block(values: np.ndarray, step: np.ndarray, window: int, chip: float) -> np.ndarray:
    """Compute strain rates of an array.

    Parameters
    ----------
    values : float64 (4, ..., y, x)
        ``vx, vy`` and their errors, m/yr; NaN where there is no vector.
    step : float64 (..., y, x)
        Ground metres between nodes.
    window : int
        Side of the window, nodes.
    chip : float
        Side of the chips, nodes.

    Returns
    -------
    float32 (11, ..., y, x)
        In the order of ``LONG_NAMES``, 1/yr.
    """
    known = np.isfinite(values[:2]).all(0)
    (du_dx, du_dy), (dv_dx, dv_dy), spread = _slopes(values[:2], known, window)
    noise = _noise(values[2:], known, window, chip) * spread
    with np.errstate(invalid="ignore", divide="ignore"):
        du_dx, du_dy, dv_dx, dv_dy = (part / step for part in (du_dx, du_dy, dv_dx, dv_dy))
        xx_error, yy_error = noise[0] / step, noise[1] / step
        xx, yy, xy = du_dx, dv_dy, 0.5 * (du_dy + dv_dx)
        speed = np.hypot(*values[:2])
        c, s = values[0] / speed, values[1] / speed
        along = xx * c * c + yy * s * s + 2.0 * xy * c * s
        across = xx * s * s + yy * c * c - 2.0 * xy * c * s
        shear = (yy - xx) * c * s + xy * (c * c - s * s)
        effective = np.sqrt(xx * xx + yy * yy + xx * yy + xy * xy)
        turning, xy_error = 0.5 * (dv_dx - du_dy), 0.5 * np.hypot(xx_error, yy_error)
    return np.stack([xx, yy, xy, along, across, shear, effective, turning, xx_error, yy_error, xy_error]).astype(np.float32)


def _sum(values: np.ndarray, down: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Sum over the window of every node, with weights along y and x."""
    return np.asarray(correlate1d(correlate1d(values, down, axis=-2, mode="constant"), along, axis=-1, mode="constant"))


Slopes = tuple[np.ndarray, np.ndarray]


def _slopes(values: np.ndarray, known: np.ndarray, window: int) -> tuple[Slopes, Slopes, np.ndarray]:
    """Fit planes: slopes of both components towards grid east and grid north per node, and by how much gaps raise their errors."""
    at, one = np.arange(window) - window // 2.0, np.ones(window)
    square = at**2
    weight = known.astype(float)
    n, x, y = _sum(weight, one, one), _sum(weight, one, at), _sum(weight, at, one)
    xx, yy, xy = _sum(weight, one, square), _sum(weight, square, one), _sum(weight, at, at)
    with np.errstate(invalid="ignore", divide="ignore"):
        xx, yy, xy = xx - x * x / n, yy - y * y / n, xy - x * y / n
        determinant = xx * yy - xy * xy
        enough = (n >= LEAST * window**2) & (determinant > 1e-6 * window**4)
        determinant = np.where(enough, determinant, np.nan)
        slopes = []
        for part in values:
            filled = np.where(known, part, 0.0)
            total = _sum(filled, one, one)
            right = _sum(filled, one, at) - x * total / n
            down = _sum(filled, at, one) - y * total / n
            # Rows run to the south, so the slope to the north has the other sign.
            slopes.append(((yy * right - xy * down) / determinant, -(xx * down - xy * right) / determinant))
        full = window * square.sum()
        spread = np.stack([np.sqrt(full * yy / determinant), np.sqrt(full * xx / determinant)])
    return slopes[0], slopes[1], spread


def _noise(errors: np.ndarray, known: np.ndarray, window: int, chip: float) -> np.ndarray:
    """Return the one-sigma error of slopes from whole windows, per node: chips that overlap share noise."""
    at = np.arange(window) - window // 2
    shared = np.clip(1.0 - np.abs(at[:, None] - at[None, :]) / chip, 0.0, None)
    slope, mean = at / np.square(at).sum(), np.full(window, 1.0 / window)
    factor = (slope @ shared @ slope) * (mean @ shared @ mean)
    one, count = np.ones(window), known & np.isfinite(errors).all(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        number = _sum(count.astype(float), one, one)
        return np.stack(
            [np.sqrt(factor * _sum(np.where(count, part, 0.0) ** 2, one, one) / np.where(number > 0.5, number, np.nan)) for part in errors]
        )
