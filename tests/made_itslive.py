"""Cubes as ITS_LIVE publishes them: Zarr version 2, int16 with -32767, a grid mapping, errors per pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
import shapely.geometry
import xarray as xr
from numcodecs import Blosc

LEFT, TOP, STEP, SIZE, PAIRS = -200_000.0, -2_200_000.0, 120.0, 24, 7
FILL = -32767


def make_itslive(path: Path, vx: Any = 300, vy: Any = -400, *, attrs: dict[str, Any] | None = None, crs: str = "EPSG:3413") -> Path:
    """Write a cube whose pairs are not in the order of time; one node of the first pair is missing, another filled."""
    shape = (PAIRS, SIZE, SIZE)
    values = {name: np.broadcast_to(np.asarray(v), shape).astype("int16").copy() for name, v in (("vx", vx), ("vy", vy))}
    values["v"] = np.hypot(values["vx"].astype(float), values["vy"]).round().astype("int16")
    values["v_error"] = np.full(shape, 20, "int16")
    for part in values.values():
        part[0, 2, 3] = FILL
    cube = xr.Dataset({name: (("mid_date", "y", "x"), part) for name, part in values.items()})
    interp = np.zeros(shape, "uint8")
    interp[0, 4, 5] = 1
    cube["interp_mask"] = (("mid_date", "y", "x"), interp)
    middle = np.datetime64("2021-03-01T12:00:00", "ns") + np.random.default_rng(1).permutation(PAIRS) * np.timedelta64(11, "D")
    for name, shift in (("acquisition_date_img1", -8), ("acquisition_date_img2", 8)):
        cube[name] = ("mid_date", middle + np.timedelta64(shift, "D"))
    cube["date_dt"] = ("mid_date", np.full(PAIRS, 16, "float32"))
    for name, part in (("vx_error", 12.0), ("vy_error", 18.0)):
        cube[name] = ("mid_date", np.full(PAIRS, part, "float32"))
    for name, text in (("mission_img1", "S"), ("satellite_img1", "2A"), ("mission_img2", "S"), ("satellite_img2", "2B")):
        cube[name] = ("mid_date", np.array([text] * PAIRS, "U2"))
    cube["mapping"] = ((), "", {**pyproj.CRS(crs).to_cf(), "spatial_epsg": pyproj.CRS(crs).to_epsg(), "proj4text": ""})
    for name in ("vx", "vy", "v", "v_error"):
        cube[name].attrs = {"units": "meter/year", "grid_mapping": "mapping", "missing_value": np.int16(FILL)}
    places = {"x": LEFT + STEP * (np.arange(SIZE) + 0.5), "y": TOP - STEP * (np.arange(SIZE) + 0.5)}
    cube = cube.assign_coords(mid_date=middle, **places).assign_attrs(author="ITS_LIVE", projection=crs[5:], **(attrs or {}))
    packed = {name: {"compressors": (Blosc("zlib", 2, 1),), "chunks": (PAIRS, 10, 10)} for name in values}
    cube.to_zarr(path, zarr_format=2, consolidated=True, encoding=packed)
    return path


def make_catalog(path: Path, cubes: dict[str, shapely.Geometry], epsg: int = 3413) -> Path:
    """Write a catalogue of cubes, by address and outline in longitude and latitude."""
    features = [
        {
            "type": "Feature",
            "properties": {"zarr_url": url, "epsg": epsg, "datacube_exist": 1, "granule_count": 1234, "roi_percent_coverage": 50.0},
            "geometry": shapely.geometry.mapping(outline),
        }
        for url, outline in cubes.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def outline_of(left: float = LEFT, top: float = TOP, side: float = STEP * SIZE, crs: str = "EPSG:3413") -> shapely.Geometry:
    """Return the outline of a cube in longitude and latitude."""
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    corners = [(left, top), (left + side, top), (left + side, top - side), (left, top - side)]
    return shapely.Polygon([to_degrees.transform(*corner) for corner in corners])
