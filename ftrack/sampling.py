"""Maps of others under our nodes: the pixel of a raster that each node lies in, whatever CRS the raster has."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyproj
import rasterio
import rasterio.errors
import rasterio.windows

from ftrack.addresses import shown_text
from ftrack.errors import Retry, Stop
from ftrack.grid import Grid

ROWS_AT_ONCE = 256


class Use(NamedTuple):
    """What a map is used for, and the settings that name it, as messages call them."""

    name: str
    settings: str


def tell_failure(path: str, use: Use, error: Exception) -> Stop | Retry:
    """Tell a file that is wrong or missing from one that cannot be reached."""
    remote, place, reason = "://" in path or path.startswith("/vsi"), shown_text(path), shown_text(str(error))
    if not remote and not Path(path).exists():
        return Stop(f"{use.name}: the file {place} does not exist, so it cannot be read; correct {use.settings}")
    return Retry(f"{use.name}: {place} cannot be reached: {reason}") if remote else Stop(f"{use.name}: {place} cannot be read: {reason}")


def sample_map(path: str, nodes: Grid, use: Use, *, zero_is_value: bool = False) -> tuple[np.ndarray, pyproj.CRS]:
    """Return the pixel of a raster under each node, and the raster's CRS.

    Parameters
    ----------
    path : str
        A raster of one band.
    nodes : Grid
        The grid whose pixel centres are the nodes.
    use : Use
        What for.
    zero_is_value : bool
        Take 0 for a value even if the file says that it means no data.

    Returns
    -------
    values : float32 (y, x)
        NaN off the raster and where it has no data.
    crs : CRS

    Raises
    ------
    Stop
        The file is missing, cannot be read or has no CRS.
    Retry
        A file that is not on this machine cannot be reached.
    """
    values = np.full((nodes.height, nodes.width), np.nan, np.float32)
    try:
        with rasterio.open(path) as source:
            if source.crs is None:
                raise Stop(f"{use.name}: {shown_text(path)} has no CRS; write one with rio edit-info --crs")
            to_source = pyproj.Transformer.from_crs(nodes.crs, source.crs, always_xy=True)
            for start in range(0, nodes.height, ROWS_AT_ONCE):
                x, y = np.meshgrid(nodes.x, nodes.y[start : start + ROWS_AT_ONCE])
                values[start : start + ROWS_AT_ONCE] = _pick(source, *to_source.transform(x, y), zero_is_value)
            return values, pyproj.CRS(source.crs)
    except rasterio.errors.RasterioError as error:
        raise tell_failure(path, use, error) from error


def _pick(source: rasterio.DatasetReader, x: np.ndarray, y: np.ndarray, zero_is_value: bool) -> np.ndarray:
    """Read the box of pixels around some points and pick the one under each point; one that is infinitely far has none."""
    t = ~source.transform
    x, y = np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)
    columns, rows = np.floor(t.a * x + t.b * y + t.c), np.floor(t.d * x + t.e * y + t.f)
    inside = (columns >= 0) & (columns < source.width) & (rows >= 0) & (rows < source.height)
    picked = np.full(x.shape, np.nan, np.float32)
    if not inside.any():
        return picked
    row, column = rows[inside].astype(int), columns[inside].astype(int)
    box = rasterio.windows.Window.from_slices((row.min(), row.max() + 1), (column.min(), column.max() + 1))
    within = (row - row.min(), column - column.min())
    pixels = source.read(1, window=box)[within]
    known = np.isfinite(pixels)
    if not (zero_is_value and source.nodata == 0):
        known &= source.read_masks(1, window=box)[within] != 0
    picked[inside] = np.where(known, pixels * source.scales[0] + source.offsets[0], np.nan)
    return picked
