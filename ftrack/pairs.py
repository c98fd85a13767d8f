"""Choosing which images to pair: pure bookkeeping on scenes, without pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations, islice, takewhile
from typing import Annotated, Any, NamedTuple, Self

import shapely
from pydantic import Field, model_validator

from ftrack.errors import Stop
from ftrack.extent import read_area
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
    """Which images are paired."""

    min_days: float = option(1.0, "shortest temporal baseline", unit="days", ge=0)
    max_days: float = option(60.0, "longest temporal baseline", unit="days", gt=0)
    same_orbit: bool = option(True, "pair only images of one relative orbit or path, which share their view and terrain distortion")
    same_sensor: bool = option(True, "pair only images of one family of sensors (Sentinel-2A, 2B and 2C are one; Landsat 8 and 9 are one)")
    months: tuple[Annotated[int, Field(ge=1, le=12)], ...] = option((), "both images are of these months, 1 to 12; empty means all")
    max_per_image: int | None = option(None, "most pairs that an image takes part in; the shortest baselines are kept", ge=1)
    min_overlap: float = option(0.1, "smallest common share of the smaller footprint", ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_days > self.max_days:
            raise ValueError(f"min_days {self.min_days:g} is longer than max_days {self.max_days:g}")
        return self


class _Image(NamedTuple):
    name: str
    time: datetime
    orbit: str
    family: str
    footprint: shapely.Geometry


class _Limit(NamedTuple):
    """One limit: what it asks of two images, and what is said of pairs that it removes."""

    allows: Callable[[_Image, _Image], bool]
    removed: str


def choose_pairs(scenes: Iterable[Scene], settings: PairSettings | None = None, *, area: Any = None, **options: Any) -> tuple[Pair, ...]:
    """Return the pairs of images that the settings allow, sorted by mid date and names.

    Parameters
    ----------
    scenes : iterable of Scene
        Their passes are the images; the time of an image is that of its first scene.
    settings : PairSettings, optional
        The limits; or give its fields as keywords: ``choose_pairs(scenes, max_days=30)``.
    area : optional
        See ``read_area``: only footprints inside count for the overlap.

    Raises
    ------
    Stop
        No pair is left. The message says how many each limit removed, and what comes closest.
    """
    limits = PairSettings(**{**(settings.model_dump() if settings else {}), **options})
    place = None if area is None else read_area(area)
    images = sorted((_image(name, members, place) for name, members in group_images(scenes).items()), key=lambda i: (i.time, i.name))
    tests = _limits(limits)
    chosen = [two for two in _close_in_time(images, limits.max_days) if all(test.allows(*two) for test in tests)]
    if not chosen:
        raise Stop(_why_none(images, tests, limits))
    pairs = [
        Pair(reference=early.name, secondary=late.name, reference_time=early.time, secondary_time=late.time)
        for early, late in _fewest(chosen, limits.max_per_image)
    ]
    return tuple(sorted(pairs, key=lambda pair: (pair.mid_date, pair.reference, pair.secondary)))


def _image(name: str, members: tuple[Scene, ...], area: shapely.Geometry | None) -> _Image:
    footprint = shapely.union_all([scene.footprint for scene in members])
    footprint = footprint if area is None else shapely.intersection(footprint, area)
    orbit = next((scene.orbit for scene in members if scene.orbit), "")
    return _Image(name, members[0].time, orbit, platform_family(members[0].platform), footprint)


def _limits(settings: PairSettings) -> list[_Limit]:
    months = set(settings.months) or set(range(1, 13))
    limits = [
        _Limit(lambda a, b: a.time.month in months and b.time.month in months, "outside the months"),
        _Limit(lambda a, b: not settings.same_sensor or a.family == b.family, "of two families of sensors (same_sensor)"),
        _Limit(lambda a, b: not settings.same_orbit or a.orbit == b.orbit or "" in (a.orbit, b.orbit), "on two orbits (same_orbit)"),
        _Limit(lambda a, b: 0 < _days(a, b) >= settings.min_days, f"shorter than {settings.min_days:g} days"),
        _Limit(lambda a, b: _days(a, b) <= settings.max_days, f"longer than {settings.max_days:g} days"),
    ]
    return [*limits, _Limit(lambda a, b: _overlaps(a, b, settings.min_overlap), f"with less than {settings.min_overlap:.0%} in common")]


def _days(early: _Image, late: _Image) -> float:
    return (late.time - early.time) / _DAY


def _overlaps(a: _Image, b: _Image, least: float) -> bool:
    return _overlap(a, b) >= least - 1e-9


def _overlap(a: _Image, b: _Image) -> float:
    """Return the common share of the smaller footprint; footprints without an area share all or nothing."""
    smaller = min(a.footprint.area, b.footprint.area)
    if smaller == 0:
        return float(a.footprint.intersects(b.footprint))
    return float(shapely.intersection(a.footprint, b.footprint).area / smaller)


def _close_in_time(images: Sequence[_Image], max_days: float) -> Iterator[tuple[_Image, _Image]]:
    for number, early in enumerate(images):
        yield from takewhile(lambda two: _days(*two) <= max_days, ((early, late) for late in islice(images, number + 1, None)))


def _fewest(pairs: list[tuple[_Image, _Image]], most: int | None) -> list[tuple[_Image, _Image]]:
    """Return the pairs that leave every image with at most so many, the shortest first."""
    if most is None:
        return pairs
    taken: Counter[str] = Counter()
    kept = []
    for early, late in sorted(pairs, key=lambda two: (_days(*two), two[0].time, two[0].name, two[1].name)):
        if max(taken[early.name], taken[late.name]) < most:
            taken.update((early.name, late.name))
            kept.append((early, late))
    return kept


def _why_none(images: Sequence[_Image], limits: Sequence[_Limit], settings: PairSettings) -> str:
    """Return how many pairs each limit removes from what the ones before it leave, and what the last one would need."""
    left = list(combinations(images, 2))
    parts = [f"no pairs: {len(images)} images make {len(left)}"]
    if not left:
        return f"{parts[0]}; widen dates, area or cloud so that at least two are found"
    for limit in limits:
        kept = [two for two in left if limit.allows(*two)]
        if len(kept) < len(left):
            parts.append(f"{len(left) - len(kept)} are {limit.removed}")
        if not kept:
            return f"{', '.join(parts)}; {_closest(left, settings)}"
        left = kept
    return ", ".join(parts)


def _closest(pairs: list[tuple[_Image, _Image]], settings: PairSettings) -> str:
    def distance(two: tuple[_Image, _Image]) -> tuple[float, float, str, str]:
        days = _days(*two)
        return (max(settings.min_days - days, days - settings.max_days, 0.0), -_overlap(*two), two[0].name, two[1].name)

    early, late = min(pairs, key=distance)
    return f"closest: {early.name} and {late.name}, {_days(early, late):.4g} days, {_overlap(early, late):.0%} in common"
