"""The simulated archive as files: cloud-optimised GeoTIFFs, STAC items, and outlines of ice and rock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from rasterio.io import MemoryFile
from rasterio.shutil import copy as copy_raster

from ftrack.synthetic.glacier import MARGIN, Glacier
from ftrack.synthetic.scene import CLOUD_HIGH, CLOUD_MEDIUM, ArchiveSettings, SceneFacts
from ftrack.synthetic.texture import Array

COLLECTION = "simulated-outlet-glacier"
CLASSES = ((0, "no_data"), (5, "not_vegetated"), (8, "cloud_medium_probability"), (9, "cloud_high_probability"), (11, "snow_ice"))
EXTENSIONS = (
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/sat/v1.1.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"


def write_cog(path: Path, pixels: Array, transform: Affine, epsg: int, resampling: str) -> None:
    """Write one band, 0 = no data, as a cloud-optimised GeoTIFF; the file appears whole or not at all."""
    half_done = path.with_suffix(".part")
    with MemoryFile() as memory:
        shape = {"height": pixels.shape[0], "width": pixels.shape[1], "count": 1, "dtype": pixels.dtype.name}
        with memory.open(driver="GTiff", crs=f"EPSG:{epsg}", transform=transform, nodata=0, **shape) as image:
            image.write(pixels, 1)
        with memory.open() as image:
            copy_raster(image, half_done, driver="COG", compress="DEFLATE", predictor="YES", blocksize=256, overview_resampling=resampling)
    half_done.replace(path)


def write_text(path: Path, content: Any) -> None:
    """Write JSON; the file appears whole or not at all."""
    half_done = path.with_suffix(".part")
    half_done.write_text(json.dumps(content, indent=1) + "\n")
    half_done.replace(path)


def write_scene(folder: Path, settings: ArchiveSettings, scene: SceneFacts, nir: Array, classes: Array) -> dict[str, Any]:
    """Write the two images and the item of a scene, and return the item."""
    step = settings.resolution
    fine = Affine(step, 0, settings.left, 0, -step, settings.top)
    coarse = Affine(2 * step, 0, settings.left, 0, -2 * step, settings.top)
    write_cog(folder / f"{scene.id}_nir.tif", nir, fine, settings.epsg, "AVERAGE")
    write_cog(folder / f"{scene.id}_scl.tif", classes, coarse, settings.epsg, "NEAREST")
    known = classes[classes > 0]
    cloudy = float(np.isin(known, (CLOUD_MEDIUM, CLOUD_HIGH)).mean()) if known.size else 0.0
    item = item_of(settings, scene, round(100 * cloudy, 3))
    write_text(folder / f"{scene.id}.json", item)
    return item


def item_of(settings: ArchiveSettings, scene: SceneFacts, cloud_cover: float) -> dict[str, Any]:
    """Return the STAC item of a scene."""
    time = scene.time.strftime("%Y-%m-%dT%H:%M:%SZ")
    corners = lon_lat(settings, *_around(settings.shape))
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": scene.id,
        "collection": COLLECTION,
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "bbox": _box(corners),
        "properties": {
            "datetime": time,
            "created": time,
            "platform": scene.platform,
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "gsd": settings.resolution,
            "eo:cloud_cover": cloud_cover,
            "sat:relative_orbit": scene.orbit,
            "sat:orbit_state": "descending",
            "proj:code": f"EPSG:{settings.epsg}",
        },
        "links": [{"rel": rel, "href": "./collection.json", "type": "application/json"} for rel in ("root", "parent", "collection")],
        "assets": {"nir": _image_asset(settings, scene), "scl": _class_asset(settings, scene)},
    }


def _image_asset(settings: ArchiveSettings, scene: SceneFacts) -> dict[str, Any]:
    return {
        "href": f"./{scene.id}_nir.tif",
        "type": COG_TYPE,
        "title": "Near infrared, digital numbers",
        "roles": ["data", "reflectance"],
        "gsd": settings.resolution,
        "nodata": 0,
        "data_type": "uint16",
        "bands": [{"name": "nir", "eo:common_name": "nir"}],
        **_projection(settings, 1),
    }


def _class_asset(settings: ArchiveSettings, scene: SceneFacts) -> dict[str, Any]:
    return {
        "href": f"./{scene.id}_scl.tif",
        "type": COG_TYPE,
        "title": "Scene classification",
        "roles": ["data", "classification"],
        "gsd": 2 * settings.resolution,
        "nodata": 0,
        "data_type": "uint8",
        "classification:classes": [{"value": value, "name": name} for value, name in CLASSES],
        **_projection(settings, 2),
    }


def _projection(settings: ArchiveSettings, factor: int) -> dict[str, Any]:
    step = settings.resolution * factor
    return {
        "proj:shape": [side // factor for side in settings.shape],
        "proj:transform": [step, 0, settings.left, 0, -step, settings.top],
    }


def collection_of(settings: ArchiveSettings, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the static collection of an archive."""
    times = [item["properties"]["datetime"] for item in items]
    links = [{"rel": "root", "href": "./collection.json", "type": "application/json"}]
    links += [{"rel": "item", "href": f"./{item['id']}.json", "type": "application/geo+json"} for item in items]
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": COLLECTION,
        "title": "Simulated outlet glacier",
        "description": f"Simulated scenes of a fast outlet glacier with known motion (seed {settings.seed}). Not real data.",
        "license": "CC0-1.0",
        "extent": {"spatial": {"bbox": [items[0]["bbox"]]}, "temporal": {"interval": [[times[0], times[-1]]]}},
        "links": links,
    }


def write_outlines(folder: Path, settings: ArchiveSettings, glacier: Glacier) -> None:
    """Write ``glacier.geojson`` (all that moves) and ``rock.geojson`` (all that does not), in longitude and latitude."""
    height, width = settings.shape
    x = np.linspace(0, width, 129)
    reach = (1 + MARGIN) * glacier.half_width(x)
    upper, lower = glacier.centre(x)[0] - reach, glacier.centre(x)[0] + reach
    top, bottom = np.zeros_like(x), np.full_like(x, height)
    write_text(folder / "glacier.geojson", _features(settings, "ice", [(x, upper, lower)]))
    write_text(folder / "rock.geojson", _features(settings, "rock", [(x, top, upper), (x, lower, bottom)]))


def _features(settings: ArchiveSettings, name: str, strips: list[tuple[Array, Array, Array]]) -> dict[str, Any]:
    features = []
    for x, upper, lower in strips:
        ring = lon_lat(settings, np.r_[x, x[::-1], x[:1]], np.r_[lower, upper[::-1], lower[:1]])
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": {"name": name}, "geometry": geometry})
    return {"type": "FeatureCollection", "features": features}


def lon_lat(settings: ArchiveSettings, x: Array, y: Array) -> list[list[float]]:
    """Return pixel corners as longitude and latitude."""
    to_degrees = pyproj.Transformer.from_crs(settings.epsg, 4326, always_xy=True)
    lon, lat = to_degrees.transform(settings.left + x * settings.resolution, settings.top - y * settings.resolution)
    return [[round(float(a), 9), round(float(b), 9)] for a, b in zip(lon, lat, strict=True)]


def _around(shape: tuple[int, int]) -> tuple[Array, Array]:
    """Return a ring around the scene, counter-clockwise on the map, with points along its sides."""
    height, width = shape
    run, still = np.linspace(0, 1, 9), np.zeros(8)
    x = np.r_[width * run[:-1], still + width, width * (1 - run[:-1]), still, 0.0]
    y = np.r_[still + height, height * (1 - run[:-1]), still, height * run[:-1], float(height)]
    return x, y


def _box(ring: list[list[float]]) -> list[float]:
    lon, lat = zip(*ring, strict=True)
    return [min(lon), min(lat), max(lon), max(lat)]
