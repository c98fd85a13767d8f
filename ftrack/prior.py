"""The velocity to expect before anything is matched: numbers or a map, on the nodes of a grid."""

from __future__ import annotations

from typing import Self

import numpy as np
import pyproj
import xarray as xr
from pydantic import model_validator

from ftrack.errors import Stop
from ftrack.grid import Grid, place
from ftrack.sampling import Use, sample_map
from ftrack.settings import Settings, option

USE = Use("prior", "prior.vx and prior.vy")

STEP = 0.01
"""Years by which a node is moved along the map's velocity to see where it goes on another map."""


class PriorSettings(Settings):
    """Where the search begins: the velocity of a known map, such as an ITS_LIVE mosaic, or one velocity for all."""

    vx: float | str | None = option(None, "expected velocity to grid east, m/yr on the map: a number or a raster; null = none")
    vy: float | str | None = option(None, "expected velocity to grid north, m/yr on the map: a number or a raster; null = none")

    @model_validator(mode="after")
    def _both_alike(self) -> Self:
        if type(self.vx) is not type(self.vy):
            raise ValueError("vx and vy are given together: two numbers, or two rasters")
        return self


def read_prior(settings: PriorSettings, nodes: Grid) -> xr.Dataset | tuple[float, float] | None:
    """Return the expected velocity for ``match_stack``.

    Parameters
    ----------
    settings : PriorSettings
        Numbers or rasters; the rasters may lie in any projected CRS, vectors are turned to that of the nodes.
    nodes : Grid
        The grid whose pixel centres are the nodes.

    Returns
    -------
    Dataset with ``vx``, ``vy`` (y, x) on the nodes, or (vx, vy), or None; m/yr on the map, NaN where the map has no data.

    Raises
    ------
    Stop
        A raster is missing or has no CRS, or the two do not have the same one.
    Retry
        A raster that is not on this machine cannot be reached.
    """
    if settings.vx is None or settings.vy is None:
        return None
    if isinstance(settings.vx, float) and isinstance(settings.vy, float):
        return settings.vx, settings.vy
    (vx, crs), (vy, other) = (sample_map(str(path), nodes, USE) for path in (settings.vx, settings.vy))
    vx, vy = vx.astype(np.float64), vy.astype(np.float64)
    if crs != other:
        raise Stop(f"prior: {settings.vx} and {settings.vy} lie in different CRS; warp one to the other's grid")
    if crs != pyproj.CRS(nodes.crs):
        vx, vy = _turn(vx, vy, nodes, crs)
    placed: xr.Dataset = place(xr.Dataset({"vx": (("y", "x"), vx), "vy": (("y", "x"), vy)}), nodes)
    return placed


def largest_speed(prior: xr.Dataset | tuple[float, float] | None) -> float:
    """Return the largest component of an expected velocity, m/yr."""
    if prior is None:
        return 0.0
    parts = prior if isinstance(prior, tuple) else (prior["vx"].values, prior["vy"].values)
    return float(max(np.max(np.abs(np.nan_to_num(part))) for part in parts))


def _turn(vx: np.ndarray, vy: np.ndarray, nodes: Grid, source: pyproj.CRS) -> tuple[np.ndarray, np.ndarray]:
    """Turn vectors of one map to those of another, by where their ends come to lie."""
    x, y = np.meshgrid(nodes.x, nodes.y)
    there = pyproj.Transformer.from_crs(nodes.crs, source, always_xy=True)
    u, v = there.transform(x, y)
    ends = there.transform(u + STEP * np.nan_to_num(vx), v + STEP * np.nan_to_num(vy), direction="INVERSE")
    known = np.isfinite(vx) & np.isfinite(vy)
    return tuple(np.where(known, (end - start) / STEP, np.nan) for end, start in zip(ends, (x, y), strict=True))  # type: ignore[return-value]
