"""Scenes made for tests: small GeoTIFFs with chosen pixels, and the STAC items that describe them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
import shapely
from affine import Affine

from ftrack.passes import name_passes
from ftrack.stac import Scene, read_scene


def write_image(
    path: Path, values: np.ndarray, crs: str | None = "EPSG:32622", corner: tuple[float, float] = (560000.0, 7670000.0),
    resolution: float = 10.0, nodata: float | None = 0.0,
) -> Path:  # fmt: skip
    """Write a tiled GeoTIFF of (y, x) or (band, y, x) values."""
    layers = values if values.ndim == 3 else values[None]
    with rasterio.open(
        path, "w", driver="GTiff", count=layers.shape[0], height=layers.shape[1], width=layers.shape[2], dtype=layers.dtype, crs=crs,
        transform=Affine(resolution, 0, corner[0], 0, -resolution, corner[1]), nodata=nodata, tiled=True, blockxsize=64, blockysize=64,
        compress="deflate",
    ) as file:  # fmt: skip
        file.write(layers)
    return path


def make_item(name: str, files: dict[str, Path | str], *, time: str = "2020-07-01T15:00:00Z", crs: str = "EPSG:32622",
              corner: tuple[float, float] = (560000.0, 7670000.0), shape: tuple[int, int] = (200, 200), resolution: float = 10.0,
              said: bool = True, assets: dict[str, dict[str, Any]] | None = None, **properties: Any) -> dict[str, Any]:  # fmt: skip
    """Return a STAC item; with ``said`` its properties tell where the pixels lie."""
    left, top = corner
    back = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    west, south, east, north = back.transform_bounds(left, top - shape[0] * resolution, left + shape[1] * resolution, top)
    where = {"proj:code": crs, "proj:shape": list(shape), "proj:transform": [resolution, 0.0, left, 0.0, -resolution, top]} if said else {}
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "collection": "made", "links": [],
        "geometry": shapely.geometry.mapping(shapely.box(west, south, east, north)), "bbox": [west, south, east, north],
        "properties": {"datetime": time, "platform": "sentinel-2a", **where, **properties},
        "assets": {key: {"href": str(path), **(assets or {}).get(key, {})} for key, path in files.items()},
    }  # fmt: skip


def make_scenes(*items: dict[str, Any]) -> tuple[Scene, ...]:
    """Return items as scenes, as ``find_scenes`` does."""
    return name_passes(read_scene(item) for item in items)
