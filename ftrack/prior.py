"""The velocity to expect before anything is matched: numbers or a map, on the nodes of a grid."""

from __future__ import annotations

from typing import Self

import numpy as np
import pyproj
import rasterio
import xarray as xr
from pydantic import model_validator

from ftrack.errors import Retry, Stop
from ftrack.grid import Grid, place
from ftrack.settings import Settings, option

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
    """
    if settings.vx is None or settings.vy is None:
        return None
    if isinstance(settings.vx, float) and isinstance(settings.vy, float):
        return settings.vx, settings.vy
    x, y = np.meshgrid(nodes.x, nodes.y)
    (vx, crs), (vy, other) = (_sample(str(path), nodes.crs, x, y) for path in (settings.vx, settings.vy))
    if crs != other:
        raise Stop(f"prior: {settings.vx} and {settings.vy} lie in different CRS; warp one to the other's grid")
    if crs != pyproj.CRS(nodes.crs):
        vx, vy = _turn(vx, vy, x, y, crs, nodes.crs)
    placed: xr.Dataset = place(xr.Dataset({"vx": (("y", "x"), vx), "vy": (("y", "x"), vy)}), nodes)
    return placed


def largest_speed(prior: xr.Dataset | tuple[float, float] | None) -> float:
    """Return the largest component of an expected velocity, m/yr."""
    if prior is None:
        return 0.0
    parts = prior if isinstance(prior, tuple) else (prior["vx"].values, prior["vy"].values)
    return float(max(np.max(np.abs(np.nan_to_num(part))) for part in parts))


def _sample(path: str, crs: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, pyproj.CRS]:
    """Return the pixel of a raster under each node, NaN where there is none, and the raster's CRS."""
    try:
        with rasterio.open(path) as source:
            if source.crs is None:
                raise Stop(f"prior: {path} has no CRS; write one with rio edit-info --crs")
            columns, rows = ~source.transform * pyproj.Transformer.from_crs(crs, source.crs, always_xy=True).transform(x, y)
            column, row = np.floor(columns).astype(int), np.floor(rows).astype(int)
            inside = (row >= 0) & (row < source.height) & (column >= 0) & (column < source.width)
            values = np.full(x.shape, np.nan)
            if inside.any():
                top, left = row[inside].min(), column[inside].min()
                window = rasterio.windows.Window.from_slices((top, row[inside].max() + 1), (left, column[inside].max() + 1))
                pixels = source.read(1, window=window, masked=True).astype(float).filled(np.nan)
                values[inside] = pixels[row[inside] - top, column[inside] - left]
            return values, pyproj.CRS(source.crs)
    except rasterio.errors.RasterioError as error:
        kind = Retry if "://" in path else Stop
        raise kind(f"prior: {path.split('?')[0]} cannot be read; give two rasters of vx and vy in m/yr") from error


def _turn(vx: np.ndarray, vy: np.ndarray, x: np.ndarray, y: np.ndarray, source: pyproj.CRS, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Turn vectors of one map to those of another, by where their ends come to lie."""
    there = pyproj.Transformer.from_crs(target, source, always_xy=True)
    u, v = there.transform(x, y)
    ends = there.transform(u + STEP * np.nan_to_num(vx), v + STEP * np.nan_to_num(vy), direction="INVERSE")
    known = np.isfinite(vx) & np.isfinite(vy)
    return tuple(np.where(known, (end - start) / STEP, np.nan) for end, start in zip(ends, (x, y), strict=True))  # type: ignore[return-value]
