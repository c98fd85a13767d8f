"""Finding scenes: a STAC search, an archive of files or a list of items becomes a sorted tuple of scenes."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import cql2
import geopandas as gpd
import shapely
from pydantic import Field, field_validator

from ftrack.addresses import shown
from ftrack.catalogue import Access, api_io, catalogue_file, read_document, walk_items
from ftrack.errors import Skip, Stop
from ftrack.extent import Dates, read_area, read_dates
from ftrack.passes import group_images, name_passes, newest_scenes
from ftrack.search import Question, is_api, open_api, refuse_collection_of_api, search_items, why_empty
from ftrack.settings import Settings, option
from ftrack.stac import Asset, Scene, asset_of, platform_name, read_scene

log = logging.getLogger(__name__)

__all__ = ["Asset", "Scene", "SceneQuery", "asset_of", "find_scenes", "group_images", "read_area", "scenes_table"]


class SceneQuery(Settings):
    """What else scenes have to be, and how the catalogue is asked."""

    platforms: tuple[str, ...] = option((), "platforms or families of them: sentinel-2, sentinel-2a, landsat-9; empty means all")
    orbits: tuple[str | int, ...] = option((), "relative orbits (R095), Landsat paths (P009) or path/row (009/011); empty means all")
    tiles: tuple[str, ...] = option((), "MGRS tiles (22WEB) or Landsat rows (011); empty means all")
    months: tuple[Annotated[int, Field(ge=1, le=12)], ...] = option((), "months of the year, 1 to 12; empty means all")
    leave_out: tuple[str, ...] = option((), "ids of scenes that are not used, because somebody looked at them")
    cql2: dict[str, Any] | str | None = option(None, 'a CQL2 filter, as text or JSON, for instance "eo:cloud_cover < 20 AND gsd <= 10"')
    prefer: Literal["", "https", "s3"] = option("", "which of an asset's addresses to read, where it has several")
    limit: int = option(10_000, "refuse a search that matches more scenes than this", ge=1)
    page_size: int = option(100, "items asked for at once", ge=1, le=10_000)
    retries: int = option(4, "attempts after the first at a request that fails in passing", ge=0, le=20)
    timeout: float = option(60.0, "longest wait for an answer", unit="s", gt=0)

    @field_validator("cql2")
    @classmethod
    def _readable(cls, value: Any) -> Any:
        if value is not None:
            _cql2_json(value)
        return value

    @field_validator("orbits")
    @classmethod
    def _orbits(cls, value: tuple[str | int, ...]) -> tuple[str | int, ...]:
        for orbit in value:
            if not _ORBIT.fullmatch(str(orbit)):
                raise ValueError(f"{orbit!r} is no orbit: write R095, P009, 9 or 009/011")
        return value


class Filter(NamedTuple):
    """One condition on scenes: what it is called in messages, whether a scene passes, and what to say of those that do not."""

    name: str
    passes: Callable[[Scene], bool]
    seen: Callable[[Scene], object]


_ORBIT = re.compile(r"([RrPp]?)0*(\d+)(?:\s*/\s*0*(\d+))?")


def find_scenes(
    catalog: str | Path,
    *,
    area: Any = None,
    dates: Any = None,
    collections: str | Sequence[str] = (),
    max_cloud: float | None = None,
    query: SceneQuery | None = None,
) -> tuple[Scene, ...]:
    """Return the scenes of a catalogue that lie in an area and a span of time, sorted by time and id.

    Duplicates and reprocessings of one acquisition collapse to the newest; the others are logged.

    Parameters
    ----------
    catalog : str or Path
        URL of a STAC API; URL or path of a static catalogue, collection, item, or list of items (ItemCollection).
    area : optional
        See ``read_area``; scenes that touch it are found.
    dates : optional
        See ``read_dates``: ``"2020-01-01/2020-02-01"``, last day included.
    collections : str or sequence of str
        Names of collections, preferred in this order where two hold the same acquisition.
    max_cloud : float, optional
        Largest cloud cover in percent. Scenes that do not say theirs do not pass.
    query : SceneQuery, optional
        Further conditions, and how the catalogue is asked.

    Raises
    ------
    Stop
        Nothing is left (the message says which condition left nothing), nothing can be tracked, or there is no such catalogue.
    Retry
        The catalogue cannot be reached, or hands over less than it says there is.
    """
    query = query or SceneQuery()
    names = (collections,) if isinstance(collections, str) else tuple(collections)
    if max_cloud is not None and not 0 <= max_cloud <= 100:
        raise Stop(f"max_cloud {max_cloud:g} is not a share in percent; give 0 to 100")
    place = None if area is None else read_area(area)
    condition = None if query.cql2 is None else _cql2_json(query.cql2)
    question = Question(names, place, read_dates(dates), max_cloud, condition)
    items, cql2_applied = _collect(str(catalog), question, query)
    if not items:
        raise Stop(f"no scenes in {shown(str(catalog))}: it holds no items")
    filters = _filters(question._replace(cql2=None) if cql2_applied else question, query)
    kept = _sieve(_understood(items, query.prefer), filters, shown(str(catalog)))
    return name_passes(newest_scenes(kept, names))


def scenes_table(scenes: Iterable[Scene]) -> gpd.GeoDataFrame:
    """Return scenes as a table with footprints in longitude and latitude, one row per scene."""
    names = ("id", "collection", "platform", "time", "image_id", "orbit", "tile", "cloud_cover")
    scenes = tuple(scenes)
    columns = {name: [getattr(scene, name) for scene in scenes] for name in names}
    return gpd.GeoDataFrame(columns, geometry=[scene.footprint for scene in scenes], crs="EPSG:4326")


def _collect(catalog: str, question: Question, query: SceneQuery) -> tuple[list[dict[str, Any]], bool]:
    """Return the items of a catalogue, and whether the CQL2 filter has been applied to them."""
    io = api_io(Access(query.retries, query.timeout))
    address = catalogue_file(catalog)
    document = read_document(address, io)
    if not is_api(document):
        refuse_collection_of_api(address, document)
        return list(walk_items(address, document, io)), False
    api = open_api(address, io, query.page_size, query.limit)
    answer = search_items(api, question)
    if not answer.items:
        raise Stop(f"no scenes in {shown(address)}: {why_empty(api, question)}")
    return answer.items, answer.cql2_applied


def _understood(items: Iterable[Mapping[str, Any]], prefer: str) -> list[Scene]:
    scenes, reasons = [], Counter[str]()
    for item in items:
        try:
            scenes.append(read_scene(item, prefer))
        except Skip as refusal:
            reasons[str(refusal)] += 1
    if not scenes:
        raise Stop("; ".join(reasons))
    for reason, count in reasons.items():
        log.warning("%d items are left out: %s", count, reason)
    return scenes


def _filters(question: Question, query: SceneQuery) -> list[Filter]:
    """Return the conditions in the order in which they are counted."""
    filters = []
    if question.collections:
        filters.append(Filter("collections", lambda s: s.collection in question.collections, lambda s: s.collection))
    if question.area is not None:
        shapely.prepare(question.area)
        filters.append(Filter("area", lambda s: s.footprint.intersects(question.area), lambda s: _corner(s.footprint)))
    if question.dates != Dates():
        filters.append(Filter("dates", lambda s: question.dates.hold(s.time), lambda s: f"{s.time:%Y-%m-%d}"))
    if question.max_cloud is not None:
        most = question.max_cloud
        filters.append(Filter("max_cloud", lambda s: s.cloud_cover is not None and s.cloud_cover <= most, lambda s: s.cloud_cover))
    if query.platforms:
        wanted = tuple(platform_name(platform) for platform in query.platforms)
        filters.append(Filter("platforms", lambda s: s.platform.startswith(wanted), lambda s: s.platform))
    if query.orbits:
        filters.append(
            Filter("orbits", lambda s: any(_on_orbit(s, orbit) for orbit in query.orbits), lambda s: f"{s.orbit}/{s.tile}".strip("/"))
        )
    if query.tiles:
        tiles = {tile.upper().removeprefix("T").lstrip("0") for tile in query.tiles}
        filters.append(Filter("tiles", lambda s: s.tile.lstrip("0") in tiles, lambda s: s.tile))
    if query.months:
        filters.append(Filter("months", lambda s: s.time.month in query.months, lambda s: s.time.month))
    if query.leave_out:
        filters.append(Filter("leave_out", lambda s: s.id not in query.leave_out, lambda s: s.id))
    if question.cql2 is not None:
        expression = cql2.Expr(dict(question.cql2))
        filters.append(Filter("cql2", lambda s: _matches(expression, s), lambda s: s.id))
    return filters


def _sieve(scenes: list[Scene], filters: list[Filter], place: str) -> list[Scene]:
    """Return the scenes that pass every condition, or say which one left nothing."""
    counts = [f"{len(scenes)} found"]
    for condition in filters:
        kept = [scene for scene in scenes if condition.passes(scene)]
        counts.append(f"{len(kept)} after {condition.name}")
        if not kept:
            raise Stop(f"no scenes in {place}: {', '.join(counts)}; {condition.name} there: {_range([condition.seen(s) for s in scenes])}")
        scenes = kept
    return scenes


def _range(values: Sequence[Any]) -> str:
    known = sorted({value for value in values if value not in (None, "")})
    if not known:
        return "not said"
    return ", ".join(map(str, known)) if len(known) <= 6 else f"{known[0]} to {known[-1]}"


def _corner(footprint: shapely.Geometry) -> str:
    return "({:.2f}, {:.2f}, {:.2f}, {:.2f})".format(*footprint.bounds)


def _orbit_text(scene: Scene) -> str:
    return f"{scene.orbit}/{scene.tile}".strip("/")


def _on_orbit(scene: Scene, orbit: str | int) -> bool:
    found = _ORBIT.fullmatch(str(orbit))
    if found is None or not scene.orbit:
        return False
    letter, number, row = found.groups()
    if letter and letter.upper() != scene.orbit[0]:
        return False
    return int(number) == int(scene.orbit[1:]) and (row is None or (scene.tile.isdigit() and int(row) == int(scene.tile)))


def _cql2_json(condition: Mapping[str, Any] | str) -> dict[str, Any]:
    try:
        return dict(cql2.Expr(condition if isinstance(condition, str) else dict(condition)).to_json())
    except Exception as error:
        raise Stop(f"the CQL2 filter {condition!r} cannot be read: {' '.join(str(error).split())}") from None


def _matches(expression: Any, scene: Scene) -> bool:
    """Return whether a scene passes; a comparison with a property that it lacks is unknown, which does not pass."""
    try:
        return bool(expression.matches(dict(scene.item)))
    except Exception as error:
        if "boolean" not in str(error):
            raise Stop(f"the CQL2 filter cannot be applied to the scene {scene.id}: {error}") from None
        return False
