"""Which scenes belong together: reprocessings of one acquisition, and the neighbouring tiles of one pass."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import chain, groupby
from typing import Any

import shapely

from ftrack.extent import read_time
from ftrack.stac import Scene, number_of, pass_name

log = logging.getLogger(__name__)

_SAME_PASS = timedelta(minutes=10)
_SAME_ORBIT = timedelta(minutes=60)


def name_passes(scenes: Iterable[Scene]) -> tuple[Scene, ...]:
    """Return the scenes, sorted by time and id, with one ``image_id`` for all scenes of a pass.

    A pass is one datatake of Sentinel-2; else what one platform sees on one orbit or path within an hour (an orbit is
    repeated after days), or within ten minutes where the orbit is unknown. Its first scene names it.
    """
    named = []
    ordered = sorted(scenes, key=lambda s: (s.platform, s.orbit, s.datatake, s.time, s.id))
    for (_, orbit, datatake), group in groupby(ordered, key=lambda s: (s.platform, s.orbit, s.datatake)):
        first = last = None
        gap = _SAME_ORBIT if orbit else _SAME_PASS
        for scene in group:
            if first is None or last is None or not (datatake or scene.time - last.time <= gap):
                first = scene
            named.append(replace(scene, image_id=pass_name(first)))
            last = scene
    return tuple(sorted(named, key=lambda s: (s.time, s.id)))


def group_images(scenes: Iterable[Scene]) -> dict[str, tuple[Scene, ...]]:
    """Return the scenes of every image (pass), images in order of time, scenes in order of time and id."""
    groups: dict[str, list[Scene]] = {}
    for scene in sorted(scenes, key=lambda s: (s.time, s.id)):
        groups.setdefault(scene.image_id, []).append(scene)
    return {image: tuple(members) for image, members in groups.items()}


def newest_scenes(scenes: Iterable[Scene], collections: Sequence[str] = ()) -> tuple[Scene, ...]:
    """Return one scene of every acquisition, the newest processing; the others are logged.

    Parameters
    ----------
    scenes : iterable of Scene
        Possibly the same acquisition several times: reprocessed, or held by several collections.
    collections : sequence of str
        Which collection wins where the processing is equally new.
    """

    def rank(scene: Scene) -> tuple[Any, ...]:
        order = collections.index(scene.collection) if scene.collection in collections else len(collections)
        return (*_processing(scene), -order, _generated(scene), scene.id)

    groups: dict[tuple[str, str, date], list[Scene]] = {}
    for scene in sorted(scenes, key=rank, reverse=True):
        days = [scene.time.date() + timedelta(days=k) for k in (0, -1, 1)]
        near = chain.from_iterable(groups.get((scene.platform, scene.tile, day), ()) for day in days)
        winner = next((other for other in near if _same_acquisition(scene, other)), None)
        if winner is None:
            groups.setdefault((scene.platform, scene.tile, days[0]), []).append(scene)
        else:
            log.info("scene %s (%s) gives way to %s (%s)", scene.id, scene.collection, winner.id, winner.collection)
    return tuple(sorted((scene for kept in groups.values() for scene in kept), key=lambda s: (s.time, s.id)))


def _same_acquisition(a: Scene, b: Scene) -> bool:
    """Return whether two scenes of one platform and tile are the same acquisition, processed twice.

    Two parts of one Sentinel-2 tile that came down in different datastrips are not: they complete each other.
    """
    if a.orbit.startswith("P") and b.orbit.startswith("P"):
        return a.orbit == b.orbit and a.time.date() == b.time.date()
    strips = [re.search(r"_S(\d{8}T\d{6})", str(s.item["properties"].get("s2:datastrip_id") or "")) for s in (a, b)]
    if strips[0] and strips[1]:
        return strips[0][1] == strips[1][1]
    if abs(a.time - b.time) > timedelta(seconds=1):
        return False
    if a.tile:
        return True
    union = shapely.union(a.footprint, b.footprint).area
    return bool(shapely.intersection(a.footprint, b.footprint).area >= 0.95 * union)


def _processing(scene: Scene) -> tuple[float, int]:
    """Return how far a scene has been processed: its Sentinel-2 baseline, and its Landsat tier (real time, 2, 1)."""
    properties = scene.item["properties"]
    baseline = number_of(properties.get("s2:processing_baseline") or properties.get("sentinel:processing_baseline"))
    tier = str(properties.get("landsat:collection_category") or scene.id[-2:])
    return (baseline or 0.0, {"RT": 0, "T2": 1, "T1": 2}.get(tier, 0))


def _generated(scene: Scene) -> datetime:
    """Return when a scene was processed, as far as it says."""
    properties = scene.item["properties"]
    keys = ("s2:generation_time", "landsat:product_generated", "processing:datetime", "s1:processing_datetime", "created", "updated")
    for key in keys[:4]:
        if properties.get(key):
            return read_time(str(properties[key]))
    hrefs = " ".join(asset.href for asset in scene.assets.values())
    if found := re.search(r"_\d{8}_(\d{8})_\d\d_(?:RT|T\d)", f"{scene.id} {hrefs}"):
        return read_time(found[1])
    said = next((str(properties[key]) for key in keys[4:] if properties.get(key)), "1970-01-01")
    return read_time(said)
