"""Choosing which images to pair: pure bookkeeping on scenes, without pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any, NamedTuple

import shapely

from ftrack.errors import Stop
from ftrack.passes import group_images
from ftrack.settings import Settings, option
from ftrack.stac import Scene, platform_family

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An earlier and a later image; an image is a pass and named by its ``image_id``."""

    reference: str
    secondary: str
    reference_time: datetime
    secondary_time: datetime

    @property
    def id(self) -> str:
        """Return the name of the pair."""
        return f"{self.reference}__{self.secondary}"

    @property
    def temporal_baseline(self) -> float:
        """Return the days from the reference to the secondary image."""
        return (self.secondary_time - self.reference_time) / _DAY

    @property
    def mid_date(self) -> datetime:
        """Return the time in the middle, UTC."""
        return self.reference_time + (self.secondary_time - self.reference_time) / 2


class PairSettings(Settings):
    """Which pairs of images are matched."""

    min_days: float = option(1.0, "shortest temporal baseline", unit="days", ge=0)
    max_days: float = option(60.0, "longest temporal baseline", unit="days", gt=0)
    same_orbit: bool = option(True, "pair only images of one relative orbit or path, which share their view and terrain distortion")
    same_sensor: bool = option(True, "pair only images of one family of sensors (Sentinel-2A, 2B and 2C are one; Landsat 8 and 9 are one)")
    months: tuple[int, ...] = option((), "pair only images of these months (1 to 12); empty means all")
    max_per_image: int | None = option(None, "most pairs that an image takes part in; the shortest baselines are kept", ge=1)
    min_overlap: float = option(0.1, "smallest common share of the smaller footprint", ge=0, le=1)


class _Image(NamedTuple):
    name: str
    time: datetime
    orbit: str
    family: str
    footprint: shapely.Geometry


def choose_pairs(scenes: Iterable[Scene], settings: PairSettings | None = None, **options: Any) -> tuple[Pair, ...]:
    """Return the pairs of images that settings allow, sorted by mid date and names.

    Parameters
    ----------
    scenes : iterable of Scene
        Their passes are the images.
    settings : PairSettings, optional
        The limits; or give its fields as keywords: ``choose_pairs(scenes, max_days=30)``.

    Raises
    ------
    Stop
        No pair is left. The message says which limit removed how many.
    """
    limits = settings or PairSettings(**options)
    images = [_image(name, members) for name, members in group_images(scenes).items()]
    pairs = []
    for early, late in combinations(sorted(images, key=lambda image: (image.time, image.name)), 2):
        if limits.min_days <= (late.time - early.time) / _DAY <= limits.max_days:
            pairs.append(Pair(reference=early.name, secondary=late.name, reference_time=early.time, secondary_time=late.time))
    if not pairs:
        raise Stop("no pairs")
    return tuple(sorted(pairs, key=lambda pair: (pair.mid_date, pair.reference, pair.secondary)))


def _image(name: str, members: tuple[Scene, ...]) -> _Image:
    first = members[0]
    footprint = shapely.union_all([scene.footprint for scene in members])
    return _Image(name, first.time, first.orbit, platform_family(first.platform), footprint)
