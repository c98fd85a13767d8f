"""What the product says of itself: a unique date for every pair, the columns that describe pairs, and CF and GeoZarr attributes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import pyproj

from ftrack.errors import Stop
from ftrack.grid import Grid, crs_attributes
from ftrack.pairs import Pair
from ftrack.schema import ALGORITHM_VERSION, DAYS_PER_YEAR, STATUS_TEXT, Status, Variable
from ftrack.stac import Scene

MAPPING = "mapping"
"""Name of the variable that holds the CRS."""

BOUNDS = "time_bnds"
"""Name of the variable that holds both acquisition dates as the bounds of ``mid_date``."""

RANGES = "pair_ranges"
"""Attribute of a cube to which pairs have been appended: where the pairs of every part lie along ``mid_date``."""

TOKENS = 10**6


class Image(NamedTuple):
    """What is known of an image: its platform (``sentinel-2a``, ``landsat-8``) and the STAC items it is made of."""

    platform: str = ""
    scenes: tuple[str, ...] = ()


COMMENTS: dict[str, str] = {
    "vx": "ground metres (map metres divided by scale_factor); belongs to where the feature was in the reference image",
    "vy": "ground metres (map metres divided by scale_factor); belongs to where the feature was in the reference image",
    "v": "sqrt(vx^2 + vy^2); average the components, not the speed, which is biased upwards by noise",
    "vx_error": "formal error of the match, raised to agree with the scatter over stable ground, and the error of the removed shift",
    "vy_error": "formal error of the match, raised to agree with the scatter over stable ground, and the error of the removed shift",
    "v_error": "sqrt((vx vx_error)^2 + (vy vy_error)^2) / v; where v = 0, the mean over all directions",
    "status": "; ".join(f"{int(status)} {text}" for status, text in STATUS_TEXT.items()),
    "scale_factor": "multiply vx, vy, v and their errors by it to get map metres per year",
    "date_center": "mid_date is this time, to the second, and in its microseconds a number made from the two images that keeps it unique",
}

FLAGS: dict[str, tuple[tuple[int, ...], str]] = {
    "status": (tuple(int(status) for status in Status), " ".join(status.name.lower() for status in Status)),
    "interp_mask": ((0, 1), "measured interpolated"),
    "stable_shift_flag": ((0, 1, 2), "no_correction stable_ground slow_ground"),
    "stable": ((0, 1, 255), "not_stable stable unknown"),
}


def images_of(scenes: Iterable[Scene]) -> dict[str, Image]:
    """Return what is known of every image of some scenes, by image id."""
    images: dict[str, Image] = {}
    for scene in sorted(scenes, key=lambda scene: (scene.time, scene.id)):
        known = images.get(scene.image_id, Image(scene.platform))
        images[scene.image_id] = known._replace(scenes=(*known.scenes, scene.id))
    return images


def unique_mid_date(pairs: Sequence[Pair], parts: Sequence[int] = ()) -> np.ndarray:
    """Return one date for every pair that no other pair has and that is the same in every run.

    It is the middle of the two acquisitions, cut to the second, with microseconds that are a digest of the
    two image ids.

    Parameters
    ----------
    pairs : sequence of Pair
        In any order; the result follows it.
    parts : sequence of int
        Numbers of the first pairs that were dated alone, and of the next that were dated after them, and so on; these dates stay.

    Returns
    -------
    datetime64[us] (pairs,)

    Raises
    ------
    Stop
        A pair is there twice.
    """
    names = [(pair.reference, pair.secondary) for pair in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Stop(f"the pair {' and '.join(twice)} is there twice")
    dates = np.empty(len(names), dtype="datetime64[us]")
    taken: set[np.datetime64] = set()
    edges = np.cumsum([0, *parts]).tolist()
    groups = [range(a, b) for a, b in zip(edges, [*edges[1:], len(names)], strict=True)]
    for index in (index for group in groups for index in sorted(group, key=names.__getitem__)):
        second = middle(pairs[index]).astype("datetime64[s]").astype("datetime64[us]")
        date, attempt = second + _token(names[index], 0), 0
        while date in taken:
            attempt += 1
            date = second + _token(names[index], attempt)
        taken.add(date)
        dates[index] = date
    return dates


def _token(names: tuple[str, str], attempt: int) -> np.timedelta64:
    digest = blake2b("\n".join((*names, str(attempt))).encode(), digest_size=8).digest()
    return np.timedelta64(int.from_bytes(digest, "big") % TOKENS, "us")


def middle(pair: Pair) -> np.datetime64:
    """Return the middle of the two acquisitions, UTC, datetime64[us]."""
    first, second = utc(pair.reference_time), utc(pair.secondary_time)
    return first + (second - first) // 2


def utc(time: datetime) -> np.datetime64:
    """Return a time as datetime64[us] in UTC; a time without a zone is taken as UTC."""
    return np.datetime64((time if time.tzinfo is None else time.astimezone(UTC)).replace(tzinfo=None), "us")


def pair_columns(pairs: Sequence[Pair], images: Mapping[str, Image]) -> dict[str, np.ndarray]:
    """Return what is known of every pair before anything is measured, by name as in ``schema.PER_PAIR``.

    Parameters
    ----------
    pairs : sequence of Pair
    images : mapping of str to Image
        By image id; an image that is missing gets empty texts.
    """
    first = np.array([utc(pair.reference_time) for pair in pairs], "datetime64[us]")
    second = np.array([utc(pair.secondary_time) for pair in pairs], "datetime64[us]")
    columns: dict[str, np.ndarray] = {
        "acquisition_date_img1": first,
        "acquisition_date_img2": second,
        "date_center": np.array([middle(pair) for pair in pairs], "datetime64[us]"),
        "date_dt": ((second - first) / np.timedelta64(1, "D")).astype("float32"),
    }
    for suffix, names in (("img1", [pair.reference for pair in pairs]), ("img2", [pair.secondary for pair in pairs])):
        known = [images.get(name, Image()) for name in names]
        columns[f"satellite_{suffix}"] = texts(satellite_of(image.platform)[1] for image in known)
        columns[f"mission_{suffix}"] = texts(satellite_of(image.platform)[0] for image in known)
        columns[f"image_id_{suffix}"] = texts(names)
        columns[f"scene_ids_{suffix}"] = texts(" ".join(image.scenes) for image in known)
    return columns


def texts(values: Any) -> np.ndarray:
    """Return texts as an array of objects, the type with which xarray can mask and write them."""
    return np.array([str(value) for value in values], dtype=object)


def satellite_of(platform: str) -> tuple[str, str]:
    """Return mission and satellite as ITS_LIVE writes them: ``sentinel-2a`` is S and 2A, ``landsat-8`` is L and 8."""
    family, _, number = platform.lower().partition("-")
    mission = {"sentinel": "S", "landsat": "L"}.get(family)
    return (mission, number.upper()) if mission else ("", platform)


def attributes_of(variable: Variable) -> dict[str, Any]:
    """Return the CF attributes of a variable; the units of times are left to whoever encodes them."""
    attrs: dict[str, Any] = {"long_name": variable.long_name}
    if variable.units:
        attrs["units"] = variable.units
    if variable.standard_name:
        attrs["standard_name"] = variable.standard_name
    comment = variable.comment or COMMENTS.get(variable.name)
    if comment:
        attrs["comment"] = comment
    if variable.name in FLAGS:
        values, meanings = FLAGS[variable.name]
        attrs |= {"flag_values": list(values), "flag_meanings": meanings}
    if variable.name in ("vx", "vy", "v"):
        attrs |= {"cell_methods": "mid_date: mean", "ancillary_variables": f"{variable.name}_error interp_mask status"}
    return attrs


COORDINATES: dict[str, dict[str, Any]] = {
    "mid_date": {
        "standard_name": "time",
        "long_name": "middle of the two acquisition dates, made unique in the microseconds (UTC)",
        "axis": "T",
    },
    "y": {"standard_name": "projection_y_coordinate", "long_name": "y of the node", "units": "metre", "axis": "Y"},
    "x": {"standard_name": "projection_x_coordinate", "long_name": "x of the node", "units": "metre", "axis": "X"},
}


def mapping_attributes(nodes: Grid) -> dict[str, Any]:
    """Return the attributes of the grid mapping: CF, and what GDAL, rioxarray and readers of ITS_LIVE look for."""
    crs = pyproj.CRS(nodes.crs)
    attrs = {**crs_attributes(nodes), "proj4text": _proj4(crs)}
    epsg = crs.to_epsg()
    return {**attrs, "spatial_epsg": epsg} if epsg else attrs


def _proj4(crs: pyproj.CRS) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return str(crs.to_proj4())


def cube_attributes(nodes: Grid, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return the attributes of the whole product: CF, GeoZarr, where and when it is, and how its velocity is to be read."""
    crs, box = pyproj.CRS(nodes.crs), nodes.bounds
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    corners = [(box.left, box.top), (box.right, box.top), (box.right, box.bottom), (box.left, box.bottom), (box.left, box.top)]
    west, south, east, north = to_degrees.transform_bounds(*box)
    longitude, latitude = to_degrees.transform((box.left + box.right) / 2, (box.bottom + box.top) / 2)
    epsg = crs.to_epsg()
    return {
        "Conventions": "CF-1.11",
        "title": "Ice velocity of image pairs",
        "author": "ftrack",
        "institution": "",
        "source": f"feature tracking of satellite images with ftrack {version('ftrack')}",
        "references": "",
        "url": "",
        "ftrack_version": version("ftrack"),
        "algorithm_version": ALGORITHM_VERSION,
        "map_scale_corrected": 1,
        "velocity_frame": "ground",
        "days_per_year": DAYS_PER_YEAR,
        "projection": str(epsg) if epsg else crs.to_wkt(),
        "GDAL_AREA_OR_POINT": "Area",
        "time_standard_img1": "UTC",
        "time_standard_img2": "UTC",
        "time_coverage_start": str(min(utc(pair.reference_time) for pair in pairs)),
        "time_coverage_end": str(max(utc(pair.secondary_time) for pair in pairs)),
        "longitude": round(longitude, 6),
        "latitude": round(latitude, 6),
        "geospatial_lon_min": round(west, 6),
        "geospatial_lon_max": round(east, 6),
        "geospatial_lat_min": round(south, 6),
        "geospatial_lat_max": round(north, 6),
        "proj_polygon": [list(corner) for corner in corners],
        "geo_polygon": [[round(value, 6) for value in to_degrees.transform(*corner)] for corner in corners],
        **_geozarr(nodes, crs),
    }


def _geozarr(nodes: Grid, crs: pyproj.CRS) -> dict[str, Any]:
    """Return the attributes of the Zarr conventions ``proj`` and ``spatial``, version 0.1."""
    known = {
        "proj": ("f17cb550-5864-4468-aeb7-f3180cfb622f", "Coordinate reference system information for geospatial data"),
        "spatial": ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
    }
    code = {"proj:code": nodes.crs} if nodes.crs.startswith("EPSG:") else {}
    return {
        "zarr_conventions": [
            {
                "uuid": uuid,
                "name": name,
                "schema_url": f"https://raw.githubusercontent.com/zarr-conventions/{name}/refs/tags/v0.1/schema.json",
                "spec_url": f"https://github.com/zarr-conventions/{name}/blob/v0.1/README.md",
                "description": description,
            }
            for name, (uuid, description) in known.items()
        ],
        **code,
        "proj:wkt2": crs.to_wkt(),
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": list(nodes.transform)[:6],
        "spatial:shape": [nodes.height, nodes.width],
        "spatial:bbox": list(nodes.bounds),
        "spatial:registration": "pixel",
    }
