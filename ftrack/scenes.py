"""Finding scenes: a STAC search, an archive of files or a list of items becomes a sorted tuple of scenes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import geopandas as gpd

from ftrack.catalogue import Access, api_io, catalogue_file, read_document, walk_items
from ftrack.errors import Skip, Stop
from ftrack.stac import Asset, Scene, asset_of, group_images, name_passes, read_scene

log = logging.getLogger(__name__)

__all__ = ["Asset", "Scene", "asset_of", "find_scenes", "group_images", "scenes_table"]


def find_scenes(catalog: str, *, area: Any = None, dates: Any = None, collections: Sequence[str] = ()) -> tuple[Scene, ...]:
    """Return the scenes of a static catalogue."""
    io = api_io(Access())
    address = catalogue_file(str(catalog))
    scenes = []
    for item in walk_items(address, read_document(address, io), io):
        try:
            scenes.append(read_scene(item))
        except Skip as reason:
            log.warning("%s", reason)
    if not scenes:
        raise Stop(f"no scene in {catalog}")
    return name_passes(scenes)


def scenes_table(scenes: Sequence[Scene]) -> gpd.GeoDataFrame:
    """Return the scenes as a table with footprints in longitude and latitude."""
    names = ("id", "collection", "platform", "time", "image_id", "orbit", "tile", "cloud_cover")
    rows = [{name: getattr(scene, name) for name in names} for scene in scenes]
    return gpd.GeoDataFrame(rows, columns=list(names), geometry=[scene.footprint for scene in scenes], crs="EPSG:4326")
