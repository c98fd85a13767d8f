"""The public velocities of ITS_LIVE beside ours: its cubes and mosaics found, opened, and brought to the same units and frame."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pyproj
import rasterio.windows
import shapely
import shapely.geometry
import xarray as xr
from xarray.coders import CFDatetimeCoder
from zarr.abc.store import Store
from zarr.storage import LocalStore

from ftrack.addresses import shown
from ftrack.errors import Stop
from ftrack.extent import read_area, unfolded
from ftrack.grid import Grid, crs_code, grid_of, place
from ftrack.means import ABOUT_PAIRS
from ftrack.rasters import File, use_file
from ftrack.schema import Status
from ftrack.sources import SourceSettings, refusal
from ftrack.store import told_apart
from ftrack.velocity import point_scale
from ftrack.web import WebStore, read_address

CATALOG = "https://its-live-data.s3.amazonaws.com/datacubes/catalog_v02.json"
"""The catalogue of all cubes, a file of outlines."""

PUBLIC = SourceSettings(private_hosts=False)
"""How it is read unless somebody says otherwise."""

TITLE = "ITS_LIVE"

LARGEST_MOSAIC = 2e8
"""Pixels of a mosaic that are read at once."""

PAIR_ERRORS = ("vx_error", "vy_error")

Version = Literal[1, 2] | None


def find_itslive(area: Any, catalog: str | Path = CATALOG, source: SourceSettings = PUBLIC) -> gpd.GeoDataFrame:
    """Find the cubes that cover an area.

    Parameters
    ----------
    area : any
        As `ftrack.extent.read_area` takes it.
    catalog : str or path
        Address or path of a catalogue like ``catalog_v02.json``. One on this machine may name cubes beside it by relative paths.
    source : SourceSettings
        What may be reached.

    Returns
    -------
    GeoDataFrame
        ``url``, ``epsg``, ``pairs`` (layers of the cube), ``ice`` (percent of it), ``share`` (percent of the area that it covers)
        and its outline, the one that covers most first.

    Raises
    ------
    Stop
        The area or the catalogue cannot be read, or no cube covers the area.
    Retry
        The catalogue could not be reached.
    """
    wanted = read_area(area)
    rows = [row for feature in _features(str(catalog), source) if (row := _row(feature, wanted, str(catalog))) is not None]
    if not rows:
        box = ", ".join(f"{side:.2f}" for side in wanted.bounds)
        raise Stop(f"ITS_LIVE has no cube for {box} in {shown(str(catalog))}; choose another area")
    rows.sort(key=lambda row: (-row["share"], row["url"]))
    return gpd.GeoDataFrame(rows, geometry="geometry", crs="EPSG:4326")


def _features(catalog: str, source: SourceSettings) -> list[dict[str, Any]]:
    if "://" in catalog:
        content = read_address(_secured(catalog, source), source.access)
        if content is None:
            raise Stop(f"there is no catalogue at {shown(catalog)}")
    else:
        try:
            content = Path(catalog).read_bytes()
        except OSError as error:
            raise Stop(f"the catalogue {catalog} cannot be read: {error.strerror}") from None
    try:
        features: list[dict[str, Any]] = json.loads(content)["features"]
    except (ValueError, KeyError, TypeError):
        raise Stop(f"{shown(catalog)} is not a catalogue of ITS_LIVE: it has no list of features") from None
    return features


def _row(feature: dict[str, Any], wanted: shapely.Geometry, catalog: str) -> dict[str, Any] | None:
    """Return what the catalogue says of a cube, if there is one and it covers a part of the area."""
    known = feature.get("properties") or {}
    url = str(known.get("zarr_url") or "")
    if not url or not known.get("datacube_exist", 1) or not feature.get("geometry"):
        return None
    outline = unfolded(shapely.geometry.shape(feature["geometry"]))
    common = shapely.intersection(outline, wanted)
    if common.is_empty or (wanted.area and not common.area):
        return None
    share = 100 * common.area / wanted.area if wanted.area else 100.0
    epsg = int(re.sub(r"\D", "", str(known.get("data_epsg") or known.get("epsg") or "0")) or 0)
    if "://" not in url and "://" not in catalog:
        url = str(Path(catalog).parent / url)
    pairs, ice = known.get("granule_count"), known.get("roi_percent_coverage")
    return {"url": url, "epsg": epsg, "pairs": pairs, "ice": ice, "share": share, "geometry": outline}


def _secured(address: str, source: SourceSettings) -> str:
    """Return the address that is asked: the catalogue names plain http, which the store answers over https too."""
    if address.startswith("http://") and refusal(address, source.access):
        return f"https{address.removeprefix('http')}"
    return address


def open_itslive(url: str | Path, *, source: SourceSettings = PUBLIC, version: Version = None) -> xr.Dataset:
    """Open a cube of ITS_LIVE lazily, in the units and under the names of a cube of ftrack.

    Parameters
    ----------
    url : str or path
        Address or path of the Zarr store, as `find_itslive` gives it.
    source : SourceSettings
        What may be reached.
    version : 1 or 2, optional
        Whether velocity is in ground metres (1) or map metres (2); if not given, what the cube says, else 2.

    Returns
    -------
    Dataset
        ``vx, vy, v``, their errors and ``status`` over ``(mid_date, y, x)``, float32 in **ground** metres per year along its own
        grid, sorted by ``mid_date``; errors of components are those of a pair.

    Raises
    ------
    Stop
        There is no such cube, it is not one of ITS_LIVE, or its host may not be reached.
    Retry
        It could not be reached.
    """
    store = _store(str(url), source)
    with told_apart(shown(str(url))):
        try:
            raw = xr.open_zarr(
                store, chunks={}, zarr_format=2, consolidated=True, decode_coords="all", decode_times=CFDatetimeCoder(time_unit="us")
            )
        except (ValueError, KeyError) as error:
            raise Stop(f"{shown(str(url))} is not a cube of ITS_LIVE: {' '.join(str(error).split())[:160]}") from None
    missing = [name for name in ("vx", "vy", "mid_date", "x", "y", "mapping") if name not in raw.variables]
    if missing:
        raise Stop(f"{shown(str(url))} is not a cube of ITS_LIVE: it has no {missing[0]!r}")
    raw = raw.sortby("y", ascending=False) if raw["y"][0] < raw["y"][-1] else raw
    return _like_ours(raw.isel(mid_date=np.argsort(raw["mid_date"].values, kind="stable")), version, shown(str(url)))


def _store(url: str, source: SourceSettings) -> Store:
    if "://" not in url:
        return LocalStore(url, read_only=True)
    address = _secured(url, source)
    why = refusal(address, source.access)
    if why:
        raise Stop(f"{shown(url)} is refused: {why}")
    return WebStore(address, source.access)


def _like_ours(raw: xr.Dataset, version: Version, url: str) -> xr.Dataset:
    mapping = raw["mapping"].attrs
    placed = raw.assign_coords(spatial_ref=((), np.int32(0), {"crs_wkt": _wkt(mapping, url)}))
    grid = grid_of(placed)
    ground = version == 1 or (version is None and _says_ground(raw))
    scale = xr.DataArray(np.float32(1.0) if ground else point_scale(grid).astype(np.float32), dims=() if ground else ("y", "x"))
    made = xr.Dataset(attrs={"title": TITLE, "url": url, "map_scale_corrected": 1, "velocity_frame": "ground"})
    stored = dict(zip(raw["vx"].dims, raw["vx"].encoding.get("chunks") or raw["vx"].shape, strict=True))
    made.attrs["stored_chunks"] = tuple(stored[name] for name in ("mid_date", "y", "x"))
    for name in ("vx", "vy", "v", "v_error"):
        if name in raw:
            made[name] = (raw[name].astype(np.float32) / scale).transpose("mid_date", "y", "x").assign_attrs(units="meter/year")
    # Errors of components are known per pair only: the scale in the middle of the cube stands for all of it.
    middle = float(scale.median())
    for name in PAIR_ERRORS:
        if name in raw:
            made[name] = (raw[name].astype(np.float32) / middle).assign_attrs(units="meter/year")
    if "v" not in made:
        made["v"] = np.hypot(made["vx"], made["vy"])
    for name in ABOUT_PAIRS:
        if name in raw:
            made[name] = raw[name].astype(object) if raw[name].dtype.kind in "UST" else raw[name]
    known = made["vx"].notnull()
    filled = known & (raw["interp_mask"].fillna(0) == 1) if "interp_mask" in raw else known & False
    status = filled.astype(np.uint8) * np.uint8(Status.FILLED) + (~known).astype(np.uint8) * np.uint8(Status.NO_DATA)
    made["status"] = status.transpose("mid_date", "y", "x")
    located: xr.Dataset = place(made.drop_vars(["mapping", "spatial_ref"], errors="ignore"), grid)
    return located


def _wkt(mapping: dict[str, Any], url: str) -> str:
    for name in ("crs_wkt", "spatial_ref", "spatial_epsg", "proj4text"):
        if mapping.get(name):
            known = mapping[name]
            return str(pyproj.CRS.from_user_input(int(known) if name == "spatial_epsg" else known).to_wkt())
    raise Stop(f"{url} does not say its CRS")


def _says_ground(raw: xr.Dataset) -> bool:
    """Return whether a cube says that its metres are those of the ground, as version 1 did."""
    return any(int(holder.attrs.get("map_scale_corrected", 0)) == 1 for holder in (raw, raw["vx"]))


def open_mosaic(
    vx: str | Path, vy: str | Path, *, nodes: Grid | None = None, version: Version = None, source: SourceSettings = PUBLIC
) -> xr.Dataset:
    """Read a mosaic of ITS_LIVE, two GeoTIFFs of components.

    Parameters
    ----------
    vx, vy : str or path
        Addresses or paths of the components towards grid east and grid north, m/yr.
    nodes : Grid, optional
        Where it is needed, in any CRS; all of it if not given.
    version : 1 or 2, optional
        Whether velocity is in ground metres (1) or map metres (2); if not given, what ``_v01`` or ``_v02`` in the name says.
    source : SourceSettings
        What may be reached.

    Returns
    -------
    Dataset
        ``vx, vy, v`` over ``(y, x)``, float32 in **ground** metres per year along its own grid.

    Raises
    ------
    Stop
        A file is missing or refused, the two differ in their grids, the version is not known, or they lie elsewhere than the nodes.
    """
    version = version or _version_in(str(vx))
    own, read = source.model_copy(update={"local_files": True}).access, _reader(nodes)
    files = [File(scene="of ITS_LIVE", asset=name, href=_secured(str(path), source)) for name, path in (("vx", vx), ("vy", vy))]
    (east, grid), (north, other) = (use_file(file, own, read) for file in files)
    if grid != other:
        raise Stop(f"{shown(str(vx))} and {shown(str(vy))} lie on different grids; give both components of one mosaic")
    scale = point_scale(grid).astype(np.float32) if version == 2 else np.float32(1.0)
    values = {"vx": east / scale, "vy": north / scale, "v": np.hypot(east, north) / scale}
    made = xr.Dataset({name: (("y", "x"), part, {"units": "meter/year"}) for name, part in values.items()})
    made.attrs = {"title": f"{TITLE} mosaic", "url": shown(str(vx)), "map_scale_corrected": 1, "velocity_frame": "ground"}
    placed: xr.Dataset = place(made, grid)
    return placed


def _version_in(path: str) -> Version:
    found = re.search(r"[_/]v0?([12])(?=[_./-])", path)
    if found is None:
        raise Stop(f"{shown(path)} does not say which version of ITS_LIVE it is: say version=1 (ground metres) or version=2 (map metres)")
    return 1 if found[1] == "1" else 2


def _reader(nodes: Grid | None) -> Any:
    """Return what reads the part of a raster that covers some nodes, as float32 with NaN, and its grid."""

    def read(dataset: Any) -> tuple[np.ndarray, Grid]:
        if dataset.crs is None:
            raise Stop("the mosaic has no CRS; write one with rio edit-info --crs")
        t = dataset.transform
        whole = Grid(crs=crs_code(dataset.crs.to_wkt()), resolution=t.a, left=t.c, top=t.f, height=dataset.height, width=dataset.width)
        rows, columns = window_of(whole, nodes)
        if (rows.stop - rows.start) * (columns.stop - columns.start) > LARGEST_MOSAIC:
            raise Stop("the mosaic is too large to be read as a whole; say with nodes= where it is needed")
        box = rasterio.windows.Window.from_slices(rows, columns)
        pixels = dataset.read(1, window=box).astype(np.float32)
        known = np.isfinite(pixels) & (dataset.read_masks(1, window=box) != 0) & (pixels > -32767)
        return np.where(known, pixels, np.float32(np.nan)), whole.window(rows, columns)

    return read


def window_of(whole: Grid, nodes: Grid | None) -> tuple[slice, slice]:
    """Return the rows and columns of a grid that cover some nodes, in any CRS; all of them for None.

    Raises
    ------
    Stop
        It does not cover them.
    """
    if nodes is None:
        return slice(0, whole.height), slice(0, whole.width)
    to_there = pyproj.Transformer.from_crs(nodes.crs, whole.crs, always_xy=True)
    left, bottom, right, top = to_there.transform_bounds(*nodes.bounds, densify_pts=51)
    columns = _between((left - whole.left) / whole.resolution, (right - whole.left) / whole.resolution, whole.width)
    rows = _between((whole.top - top) / whole.resolution, (whole.top - bottom) / whole.resolution, whole.height)
    if columns.stop - columns.start < 2 or rows.stop - rows.start < 2:
        raise Stop("ITS_LIVE does not cover the area here: choose the cube, or the mosaic, of its region")
    return rows, columns


def _between(first: float, last: float, size: int) -> slice:
    """Return the pixels between two edges and one more on either side, as far as there are any."""
    return slice(max(0, math.floor(first) - 1), min(size, math.ceil(last) + 1))
