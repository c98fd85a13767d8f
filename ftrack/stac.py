"""What a STAC item says about a scene: platform, time, pass, place, and where its pixels are."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyproj
import shapely
import shapely.geometry

from ftrack.errors import Skip, Stop
from ftrack.extent import read_time, unfolded
from ftrack.settings import nearest

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
"""What ids of scenes and images may look like: they stand in file names, cubes and messages."""

_SENTINEL_2 = re.compile(r"S2[A-D]_MSIL\w\w_(\d{8}T\d{6})(?:_N\d{4})?_R(\d{3})_T(\d\d[A-Z]{3})")
_LANDSAT_ID = re.compile(r"L[COTEM]0(\d)_\w{4}_(\d{3})(\d{3})_\d{8}")
_LANDSAT_CODES = {"landsat-4": "LT04", "landsat-5": "LT05", "landsat-7": "LE07", "landsat-8": "LC08", "landsat-9": "LC09"}
_NOT_GRIDDED = (
    "Sentinel-1 {product} is not on a map grid (it has ground control points only), so it cannot be tracked; "
    "use terrain-corrected images, such as the collection sentinel-1-rtc"
)


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file of a scene, and what the metadata say about its grid and values.

    ``crs`` is empty and ``transform`` and ``shape`` are None where the metadata are silent: the file's header knows.
    ``transform`` holds the six numbers of an affine transform from (column, row) of pixel corners to map coordinates;
    physical value = ``scale`` * stored value + ``offset``.
    """

    href: str
    crs: str = ""
    transform: tuple[float, float, float, float, float, float] | None = None
    shape: tuple[int, int] | None = None
    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    bands: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One acquisition of one sensor: a STAC item, understood.

    Scenes of one pass (neighbouring tiles seen within minutes) share ``image_id``. ``orbit`` is ``R095`` for a relative
    orbit, ``P033`` for a Landsat path, empty if unknown; ``tile`` an MGRS tile or a Landsat row; ``footprint`` is in
    longitude and latitude; ``item`` is the STAC item with absolute, unsigned hrefs; ``datatake`` is when the recording
    of the whole strip began, where that is known (Sentinel-2).
    """

    id: str
    collection: str
    platform: str
    time: datetime
    image_id: str
    orbit: str
    tile: str
    cloud_cover: float | None
    footprint: shapely.Geometry
    assets: Mapping[str, Asset] = field(compare=False, repr=False)
    item: Mapping[str, Any] = field(compare=False, repr=False)
    datatake: str = ""


class _Track(NamedTuple):
    """Which orbit and tile a scene belongs to, and when its datatake began (Sentinel-2 only)."""

    orbit: str
    tile: str
    datatake: str


def read_scene(item: Mapping[str, Any], prefer: str = "") -> Scene:
    """Return what an item says, its pass named by itself until its neighbours are known.

    Parameters
    ----------
    item : mapping
        A STAC item of any version from 0.7, with absolute hrefs.
    prefer : str
        ``s3`` or ``https`` to take that one of an asset's alternate addresses.

    Raises
    ------
    Skip
        The item cannot be used: no time, no place, an id unfit for a name, or pixels that are not on a map grid.
    """
    name, properties = str(item.get("id", "")), item.get("properties") or {}
    if not NAME.fullmatch(name) or ".." in name:
        raise Skip(f"the item id {name[:140]!r} is refused: up to 128 letters, digits, '_', '.' and '-' are allowed")
    crs = _crs(properties)
    _refuse_ungridded(item, crs)
    footprint = _footprint(item, crs)
    track = _track(item)
    scene = Scene(
        id=name,
        collection=str(item.get("collection") or ""),
        platform=_platform_of(item),
        time=_time(name, properties),
        image_id="",
        orbit=track.orbit,
        tile=track.tile,
        cloud_cover=number_of(properties.get("eo:cloud_cover")),
        footprint=footprint,
        assets={key: _asset(raw, properties, footprint, prefer) for key, raw in (item.get("assets") or {}).items()},
        item=item,
        datatake=track.datatake,
    )
    return replace(scene, image_id=pass_name(scene))


def asset_of(scene: Scene, name: str) -> Asset:
    """Return an asset of a scene by its key, or by the name or common name of its band (``red``, ``nir``, ``B08``).

    Raises
    ------
    Stop
        There is no such asset, or several are meant.
    """
    return scene.assets[key_of(scene, name)]


def key_of(scene: Scene, name: str) -> str:
    """Return the key of the asset that a name means; see ``asset_of``.

    Raises
    ------
    Stop
        There is no such asset, or several are meant. The message lists what there is.
    """
    if name in scene.assets:
        return name
    wanted = name.casefold()
    same = [key for key in scene.assets if key.casefold() in (wanted, f"{wanted}.tif")]
    meant = same or [key for key, a in scene.assets.items() if len(a.bands) <= 2 and wanted in {b.casefold() for b in a.bands}]
    if len(meant) == 1:
        return meant[0]
    place = f"scene {scene.id} of collection {scene.collection or 'unknown'}"
    if meant:
        raise Stop(f"{place} has several assets called {name!r}: {', '.join(meant)}; name one of them")
    there = ", ".join(sorted(scene.assets)) or "none that may be read"
    hint = nearest(name, scene.assets)
    hint = f"{hint} " if hint.startswith("did") else ""
    raise Stop(f"{place} has no asset {name!r}; {hint}its assets: {there}")


def platform_name(text: str) -> str:
    """Return the one spelling of a platform: ``sentinel-2a``, ``landsat-8``, ``sentinel-2`` for a whole family."""
    plain = re.sub(r"[\s_]+", "-", text.strip().lower())
    if found := re.match(r"l[cotem]0?(\d)(?!\d)", plain):
        return f"landsat-{found[1]}"
    if found := re.fullmatch(r"s(?:entinel)?-?(\d)-?([a-d]?)", plain):
        return f"sentinel-{found[1]}{found[2]}"
    if found := re.fullmatch(r"landsat-?0?(\d)", plain):
        return f"landsat-{found[1]}"
    return plain


def platform_family(platform: str) -> str:
    """Return the family whose images look alike: ``sentinel-2`` for 2A, 2B and 2C, ``landsat`` for 8 and 9."""
    if re.fullmatch(r"landsat-[89]", platform):
        return "landsat-8-9"
    return re.sub(r"(?<=^sentinel-\d)[a-d]$", "", platform)


def _platform_of(item: Mapping[str, Any]) -> str:
    properties = item.get("properties") or {}
    for key in ("platform", "eo:platform"):
        if properties.get(key):
            return platform_name(str(properties[key]))
    if found := re.match(r"S([12][A-D])_|(L[COTEM]0\d)_", str(item["id"])):
        return platform_name(f"s{found[1]}" if found[1] else found[2])
    return platform_name(str(properties.get("constellation") or "unknown"))


def _time(name: str, properties: Mapping[str, Any]) -> datetime:
    """Return the time of acquisition; the middle where only a start and an end are given."""
    values = [properties.get("datetime")]
    if not values[0]:
        values = [properties.get("start_datetime"), properties.get("end_datetime")]
    try:
        times = [read_time(str(value)) for value in values if value]
    except ValueError:
        raise Skip(f"the item {name} has a time that cannot be read: {values}") from None
    if not times:
        raise Skip(f"the item {name} says no time")
    if len(str(values[0])) == 10:
        log.info("the item %s says the day only, %s: its time is taken as midnight UTC", name, values[0])
    return times[0] + (times[-1] - times[0]) / 2


def _track(item: Mapping[str, Any]) -> _Track:
    properties = item.get("properties") or {}
    get = properties.get
    texts = (item.get("id"), get("s2:product_uri"), get("sentinel:product_id"), get("s2:product_id"))
    product = next((m for m in (_SENTINEL_2.search(str(t)) for t in texts if t) if m), None)
    landsat = _LANDSAT_ID.match(str(item.get("id")))
    datatake = re.match(r"GS2[A-D]_(\d{8}T\d{6})", str(get("s2:datatake_id") or ""))
    began = datatake[1] if datatake else product[1] if product else ""
    path, row = get("landsat:wrs_path"), get("landsat:wrs_row")
    if path is not None and row is not None:
        return _Track(f"P{int(path):03d}", f"{int(row):03d}", "")
    if landsat:
        return _Track(f"P{landsat[2]}", landsat[3], "")
    relative = get("sat:relative_orbit")
    orbit = f"R{int(relative):03d}" if relative is not None else f"R{product[2]}" if product else ""
    return _Track(orbit, _mgrs_tile(properties) or (product[3] if product else ""), began)


def _mgrs_tile(properties: Mapping[str, Any]) -> str:
    if properties.get("s2:mgrs_tile"):
        return str(properties["s2:mgrs_tile"]).removeprefix("T").zfill(5)
    if str(properties.get("grid:code", "")).startswith("MGRS-"):
        return str(properties["grid:code"]).removeprefix("MGRS-").zfill(5)
    for prefix in ("mgrs", "sentinel"):
        parts = [str(properties.get(f"{prefix}:{key}") or "") for key in ("utm_zone", "latitude_band", "grid_square")]
        if all(parts):
            return "".join(parts).zfill(5)
    return ""


def pass_name(scene: Scene) -> str:
    """Return the name of a pass that begins with a scene."""
    platform, orbit = scene.platform, scene.orbit
    if platform in _LANDSAT_CODES and orbit:
        return f"{_LANDSAT_CODES[platform]}_{scene.time:%Y%m%d}_{orbit}"
    code = f"S{platform[9:].upper()}" if re.fullmatch(r"sentinel-\d[a-d]", platform) else platform
    began = scene.datatake or f"{scene.time:%Y%m%dT%H%M%S}"
    name = "_".join(part for part in (code, began, orbit) if part)
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)[:128]


def _refuse_ungridded(item: Mapping[str, Any], crs: str) -> None:
    properties = item.get("properties") or {}
    product = str(properties.get("sar:product_type") or properties.get("product:type") or "").upper()
    product = "GRD" if str(item.get("collection")) == "sentinel-1-grd" or product.endswith("GRD") else product
    if product == "SLC" or (product == "GRD" and (not crs or _is_geographic(crs))):
        raise Skip(_NOT_GRIDDED.format(product=product))


def _crs(holder: Mapping[str, Any]) -> str:
    """Return the CRS that an item's properties or an asset declares, in the old spelling or the new one."""
    if holder.get("proj:code"):
        return str(holder["proj:code"]).upper()
    if holder.get("proj:epsg"):
        return f"EPSG:{int(holder['proj:epsg'])}"
    for key in ("proj:wkt2", "proj:projjson"):
        if holder.get(key):
            known = pyproj.CRS.from_user_input(holder[key])
            return f"EPSG:{known.to_epsg()}" if known.to_epsg() else str(known.to_wkt())
    return ""


@lru_cache(maxsize=256)
def _to_map(crs: str) -> pyproj.Transformer | None:
    try:
        return pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    except pyproj.exceptions.ProjError:
        return None


@lru_cache(maxsize=256)
def _is_geographic(crs: str) -> bool:
    transformer = _to_map(crs)
    return transformer is None or transformer.target_crs is None or transformer.target_crs.is_geographic


def _footprint(item: Mapping[str, Any], crs: str) -> shapely.Geometry:
    """Return the footprint in longitude and latitude, also for items that give it in metres on the map."""
    geometry, bbox = item.get("geometry"), item.get("bbox")
    if geometry:
        footprint = shapely.geometry.shape(geometry)
    elif bbox and len(bbox) >= 4:
        footprint = shapely.box(bbox[0], bbox[1], bbox[len(bbox) // 2], bbox[len(bbox) // 2 + 1])
    else:
        raise Skip(f"the item {item['id']} says no place: it has neither geometry nor bbox")
    footprint = shapely.force_2d(footprint)
    left, bottom, right, top = footprint.bounds
    if left >= -360 and right <= 360 and bottom >= -90 and top <= 90:
        return unfolded(footprint)
    transformer = _to_map(crs) if crs else None
    if transformer is None:
        raise Skip(f"the item {item['id']} gives its footprint neither in degrees nor with a CRS")
    return shapely.transform(footprint, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1], direction="INVERSE")))


def _asset(raw: Mapping[str, Any], properties: Mapping[str, Any], footprint: shapely.Geometry, prefer: str) -> Asset:
    bands = [b for b in (raw.get("raster:bands") or raw.get("bands") or []) if isinstance(b, Mapping)]
    first: Mapping[str, Any] = bands[0] if bands else {}
    transform = raw.get("proj:transform") or properties.get("proj:transform")
    shape = raw.get("proj:shape") or properties.get("proj:shape")
    crs = _crs(raw) or _crs(properties)
    six = tuple(float(v) for v in transform[:6]) if transform and len(transform) >= 6 else None
    size = (int(shape[0]), int(shape[1])) if shape and len(shape) == 2 else None
    hrefs = [str(raw["href"]), *(str(other["href"]) for other in (raw.get("alternate") or {}).values())]
    return Asset(
        href=next((href for href in hrefs if prefer and href.startswith(f"{prefer}://")), hrefs[0]),
        crs=_placed_crs(crs, six, size, footprint.representative_point().coords[0]) if crs and six and size else crs,
        transform=six,  # type: ignore[arg-type]
        shape=size,
        nodata=number_of(_first(raw, first, "nodata")),
        scale=number_of(_first(raw, first, "scale")) or 1.0,
        offset=number_of(_first(raw, first, "offset")) or 0.0,
        bands=_band_names(raw, properties),
    )


def _first(raw: Mapping[str, Any], band: Mapping[str, Any], key: str) -> Any:
    found = (holder[k] for holder in (raw, band) for k in (f"raster:{key}", key) if holder.get(k) is not None)
    return next(found, None)


def number_of(value: Any) -> float | None:
    """Return a number, or None where there is none."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _band_names(raw: Mapping[str, Any], properties: Mapping[str, Any]) -> tuple[str, ...]:
    """Return name and common name of an asset of one band; older items refer to a list by number."""
    bands: Sequence[Any] = raw.get("eo:bands") or raw.get("bands") or []
    listed = properties.get("eo:bands") or []
    bands = [listed[b] if isinstance(b, int) and b < len(listed) else b for b in bands]
    if len(bands) != 1 or not isinstance(bands[0], Mapping):
        return ()
    keys = ("name", "common_name", "eo:common_name")
    return tuple(dict.fromkeys(str(bands[0][key]) for key in keys if bands[0].get(key)))


@lru_cache(maxsize=1024)
def _placed_crs(crs: str, transform: tuple[float, ...], shape: tuple[int, int], point: tuple[float, float]) -> str:
    """Return the CRS that puts the grid where the footprint is; ``point`` (longitude, latitude) lies inside that.

    Some archives write a wrong code (a UTM zone without its leading zero). The UTM zone in which grid and footprint
    agree replaces it; without one the CRS is left to the file's header.
    """
    if _holds(crs, transform, shape, point):
        return crs
    zone = math.floor((point[0] + 180) / 6) % 60 + 1
    near = (f"EPSG:{base + (zone - 1 + step) % 60 + 1}" for step in (0, -1, 1) for base in (32600, 32700))
    better = next((code for code in near if _holds(code, transform, shape, point)), "")
    log.info("the CRS %s puts a grid off its footprint; %s is used", crs, better or "the file's header")
    return better


def _holds(crs: str, transform: tuple[float, ...], shape: tuple[int, int], point: tuple[float, float]) -> bool:
    transformer = _to_map(crs)
    if transformer is None:
        return False
    x, y = transformer.transform(*point)
    a, b, c, d, e, f = transform
    determinant = a * e - b * d
    if not (math.isfinite(x) and math.isfinite(y)) or determinant == 0:
        return False
    column, row = (e * (x - c) - b * (y - f)) / determinant, (a * (y - f) - d * (x - c)) / determinant
    height, width = shape
    return bool(-0.1 * width <= column <= 1.1 * width and -0.1 * height <= row <= 1.1 * height)
