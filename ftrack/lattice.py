"""The grid of a stack: CRS, pixel lattice and extent, from the scenes, the area and the settings."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyproj
import shapely
from affine import Affine

from ftrack.errors import Stop
from ftrack.extent import read_area
from ftrack.grid import Bounds, Grid, anchor_of, crs_code, snapped_grid
from ftrack.rasters import File, read_header
from ftrack.settings import Settings, option
from ftrack.sources import Access
from ftrack.stac import Scene, asset_of, key_of, number_of

log = logging.getLogger(__name__)

READERS = 16
"""Headers that are read at the same time."""


class GridSettings(Settings):
    """Where the pixels lie that are compared."""

    crs: str | None = option(None, "CRS such as EPSG:3413; null = the one that most scenes have, in which they are not resampled")
    resolution: float | None = option(None, "pixel size; null = that of the scenes", unit="m", gt=0)
    bounds: tuple[float, float, float, float] | None = option(
        None, "left, bottom, right, top in units of the CRS; null = the area, as far as there are scenes"
    )


class Frame(NamedTuple):
    """Where the pixels of one file lie: CRS, affine transform of pixel corners, shape, and bytes per pixel."""

    crs: str
    transform: Affine
    shape: tuple[int, int]
    itemsize: int

    @property
    def resolution(self) -> float:
        """Pixel size (of pixels that are not square, that of a square of the same area)."""
        return float(round(math.sqrt(abs(self.transform.determinant)), 6))

    @property
    def anchor(self) -> tuple[float, float] | None:
        """Where the lattice of square, north-up pixels lies, None for others."""
        t = self.transform
        if t.b or t.d or t.a <= 0 or abs(t.a + t.e) > 1e-6 * t.a:
            return None
        x, y = anchor_of(t.c, t.f, self.resolution)
        return (round(x, 6), round(y, 6))


def file_of(scene: Scene, name: str) -> File:
    """Return the file of an asset of a scene.

    Where neither catalogue nor file says which value means no data, it is 0 for Sentinel-2 and Landsat.

    Raises
    ------
    Stop
        There is no such asset; the message lists what there is.
    """
    asset = asset_of(scene, name)
    usual = 0.0 if scene.platform.startswith(("sentinel-2", "landsat")) else None
    return File(
        scene=scene.id, asset=name, href=asset.href, crs=asset.crs, nodata=asset.nodata, usual_nodata=usual, collection=scene.collection
    )


def frames_of(scenes: Sequence[Scene], name: str, access: Access | None = None) -> tuple[Frame, ...]:
    """Return where the pixels of an asset lie in every scene, from the metadata, or from the file's header where they are silent.

    Raises
    ------
    Stop
        A scene has no such asset, its file is not there, or neither knows a CRS.
    Retry
        A header cannot be read.
    """
    found = {scene.id: _said_frame(scene, key_of(scene, name)) for scene in scenes}
    silent = [scene for scene in scenes if found[scene.id] is None]
    if silent:
        log.info("reading the headers of %d files, whose place the catalogue does not say", len(silent))
        with ThreadPoolExecutor(min(READERS, len(silent))) as pool:
            headers = list(pool.map(lambda scene: read_header(file_of(scene, name), access or Access()), silent))
        for scene, header in zip(silent, headers, strict=True):
            itemsize = np.dtype(header.dtype).itemsize
            found[scene.id] = Frame(_projected(header.crs, scene, name), Affine(*header.transform), header.shape, itemsize)
    frames = tuple(found[scene.id] for scene in scenes)
    return tuple(frame for frame in frames if frame is not None)


def _said_frame(scene: Scene, key: str) -> Frame | None:
    """Return what the metadata say of an asset, or None if they are silent or mean another file of the scene."""
    asset = scene.assets[key]
    if not asset.crs or asset.transform is None or asset.shape is None:
        return None
    raw: Mapping[str, Any] = scene.item["assets"][key]
    transform = Affine(*asset.transform)
    size = _said_resolution(raw)
    if "proj:transform" not in raw and size is not None and abs(size - abs(transform.a)) > 0.01 * size:
        return None
    band = _first_band(raw, "raster:bands")
    itemsize = np.dtype(str(raw.get("data_type") or band.get("data_type") or "uint16")).itemsize
    return Frame(_projected(asset.crs, scene, asset.href), transform, asset.shape, itemsize)


def _said_resolution(raw: Mapping[str, Any]) -> float | None:
    said = (
        _first_band(raw, "raster:bands").get("spatial_resolution"),
        raw.get("raster:spatial_resolution"),
        _first_band(raw, "eo:bands").get("gsd"),
        raw.get("gsd"),
    )
    return next((size for size in map(number_of, said) if size), None)


def _first_band(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    bands = raw.get(key) or [{}]
    return bands[0] if isinstance(bands[0], Mapping) else {}


def _projected(crs: str, scene: Scene, name: str) -> str:
    try:
        return _code(crs)
    except Stop as error:
        raise Stop(f"asset {name!r} of scene {scene.id}: {error}") from None


@lru_cache(maxsize=256)
def _code(crs: str) -> str:
    return crs_code(crs)


def choose_grid(
    scenes: Sequence[Scene], asset: str, area: Any = None, settings: GridSettings | None = None, access: Access | None = None
) -> Grid:
    """Return the grid that suits scenes, area and settings.

    By default the grid has the CRS, the pixel size and the pixel lattice that most of the scenes have, so that those are
    read bit for bit. It covers the area as far as there are scenes, or all scenes without an area.

    Parameters
    ----------
    scenes : sequence of Scene
        At least one.
    asset : str
        Name of the asset whose pixels count.
    area : optional
        See ``ftrack.read_area``.
    settings : GridSettings, optional
        What is not left to the scenes. Its ``bounds`` come before the area and are not cut to the scenes.
    access : Access, optional
        How headers are read, where the metadata do not say where pixels lie.

    Raises
    ------
    Stop
        There are no scenes, no such asset, no CRS, or the area or the bounds are off the scenes.
    """
    settings = settings or GridSettings()
    if not scenes:
        raise Stop("there are no scenes to make a grid for")
    frames = frames_of(scenes, asset, access)
    crs = crs_code(settings.crs) if settings.crs else _most_common_crs(frames)
    resolution = settings.resolution or _most_common(frame.resolution for frame in frames if frame.crs == crs or settings.crs)
    own = [frame.anchor for frame in frames if frame.crs == crs and frame.resolution == resolution]
    anchor = _most_common(a for a in own if a) if any(own) else (0.0, 0.0)
    others = len(frames) - sum(a == anchor for a in own)
    if others:
        log.info("%d of %d scenes are resampled to %s, %g m: their own pixels lie elsewhere", others, len(frames), crs, resolution)
    if settings.bounds:
        box = Bounds(*settings.bounds)
        _refuse_elsewhere(shapely.box(*box), frames, scenes, crs, f"the grid bounds {tuple(box)} in {crs}")
    else:
        box = _box_of(frames, scenes, crs, area)
    return snapped_grid(crs, resolution, box, anchor=anchor)


def _most_common_crs(frames: Iterable[Frame]) -> str:
    counts = Counter(frame.crs for frame in frames)
    best = min(counts, key=lambda crs: (-counts[crs], crs))
    if len(counts) > 1:
        log.info(
            "the scenes have %d CRSs (%s); %s, which most have, is used: set grid.crs to choose another, for instance EPSG:3413 for "
            "Greenland or EPSG:3031 for Antarctica",
            len(counts),
            ", ".join(f"{crs} {count}" for crs, count in sorted(counts.items())),
            best,
        )
    return best


def _most_common(values: Iterable[Any]) -> Any:
    """Return the most frequent value, of equally frequent ones the smallest."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def outline_of(frame: Frame, crs: str) -> shapely.Geometry:
    """Return the outline of a file in another CRS, its edges followed closely; empty where the projection does not reach."""
    height, width = frame.shape
    along = np.linspace(0.0, 1.0, 22)[:-1]
    ring = np.concatenate(
        [np.column_stack(side) for side in ((along, 0 * along), (0 * along + 1, along), (1 - along, 0 * along + 1), (0 * along, 1 - along))]
    )
    t = frame.transform
    columns, rows = ring[:, 0] * width, ring[:, 1] * height
    x, y = t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f
    if frame.crs != crs:
        x, y = _transformer(frame.crs, crs).transform(x, y)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return shapely.Polygon()
    return shapely.make_valid(shapely.Polygon(np.column_stack([x, y])))


@lru_cache(maxsize=256)
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def _box_of(frames: Sequence[Frame], scenes: Sequence[Scene], crs: str, area: Any) -> Bounds:
    """Return the box around the area, as far as there are scenes, or around all scenes."""
    covered = shapely.union_all([outline_of(frame, crs) for frame in frames])
    if area is None:
        return Bounds(*covered.bounds)
    degrees = read_area(area)
    sides = [shapely.box(*part.bounds).length for part in shapely.get_parts(degrees)]
    dense = shapely.segmentize(degrees, max(sides) / 400) if max(sides) else degrees
    transformer = _transformer("EPSG:4326", crs)
    place = shapely.transform(dense, lambda xy: np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])))
    place = shapely.make_valid(place) if np.isfinite(shapely.get_coordinates(place)).all() else shapely.Polygon()
    west, south, east, north = degrees.bounds
    _refuse_elsewhere(place, frames, scenes, crs, f"the area ({west:g}, {south:g}, {east:g}, {north:g})")
    return Bounds(*shapely.intersection(place, covered).bounds)


def _refuse_elsewhere(place: shapely.Geometry, frames: Sequence[Frame], scenes: Sequence[Scene], crs: str, name: str) -> None:
    covered = shapely.union_all([outline_of(frame, crs) for frame in frames])
    common = shapely.intersection(place, covered)
    if common.area > 0 or (place.area == 0 and not common.is_empty):
        return
    west, south, east, north = shapely.union_all([scene.footprint for scene in scenes]).bounds
    raise Stop(
        f"{name} is off the scenes: the {len(scenes)} scenes lie between longitude {west:.3f} and {east:.3f}, "
        f"latitude {south:.3f} and {north:.3f}; choose an area there, or search for scenes of this area"
    )


def scene_bytes(scenes: Sequence[Scene], asset: str, grids: Sequence[Grid], access: Access | None = None) -> dict[str, float]:
    """Return about how many bytes of pixels, before compression, are read of every scene where it overlaps grids.

    Parameters
    ----------
    scenes, asset : sequence of Scene, str
        What is read.
    grids : sequence of Grid
        At least one, all of one CRS; a pixel counts once for each of them that it lies in.
    access : Access, optional
        How headers are read, where the metadata do not say where pixels lie.

    Returns
    -------
    dict
        Bytes of the scene's own pixels, by scene id.
    """
    boxes = shapely.box(*np.array([grid.bounds for grid in grids]).T)
    shares: dict[Frame, float] = {}
    known = {}
    for scene, frame in zip(scenes, frames_of(scenes, asset, access), strict=True):
        if frame not in shares:
            shares[frame] = _share_in(outline_of(frame, grids[0].crs), boxes)
        known[scene.id] = shares[frame] * frame.shape[0] * frame.shape[1] * frame.itemsize
    return known


def _share_in(outline: shapely.Geometry, boxes: np.ndarray) -> float:
    """Return the share of an outline that lies in boxes; what lies in several counts several times."""
    if not outline.area:
        return 0.0
    near = boxes[shapely.intersects(shapely.box(*outline.bounds), boxes)]
    shapely.prepare(outline)
    inside = shapely.contains(outline, near)
    shared = shapely.area(near[inside]).sum() + shapely.area(shapely.intersection(outline, near[~inside])).sum()
    return float(shared / outline.area)
