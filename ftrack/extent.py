"""The area and the dates of a search: every spelling people use, as longitude and latitude and as UTC."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import pyproj
import shapely
import shapely.affinity
import shapely.geometry

from ftrack.errors import Stop

_MOMENT = timedelta(microseconds=1)


class Dates(NamedTuple):
    """A span of time in UTC, both ends included; None leaves an end open."""

    start: datetime | None = None
    end: datetime | None = None

    def hold(self, time: datetime) -> bool:
        """Return whether a time lies in the span."""
        return (self.start is None or time >= self.start) and (self.end is None or time <= self.end)

    @property
    def text(self) -> str:
        """Return the span as STAC writes it, its end rounded up to a whole second; empty if both ends are open."""
        if self.start is None and self.end is None:
            return ""
        end = self.end if self.end is None or not self.end.microsecond else self.end.replace(microsecond=0) + timedelta(seconds=1)
        return "/".join(".." if t is None else f"{t.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for t in (self.start, end))


def read_dates(dates: Any) -> Dates:
    """Return the span of time that text, a date or a pair of them names.

    Parameters
    ----------
    dates : str, date, datetime, or a pair of them
        ``2020-01-01/2020-02-01``, ``2020-01-01/..``, ``2020``, ``2020-07``, ``("2020-01-01", None)``. A year, month or day
        is meant whole, also as the end. Times without a zone are UTC.

    Raises
    ------
    Stop
        The dates cannot be read, or end before they start.
    """
    if dates is None:
        return Dates()
    ends = dates.split("/") if isinstance(dates, str) else [dates] if isinstance(dates, date) else list(dates)
    if len(ends) not in (1, 2):
        raise Stop(f"dates {dates!r} cannot be read; write '2020-01-01/2020-02-01', or '2020-01-01/..' for an open end")
    span = Dates(_moments(ends[0])[0], _moments(ends[-1])[1])
    if span.start and span.end and span.end < span.start:
        raise Stop(f"dates {dates!r} end before they start")
    return span


def _moments(end: Any) -> Dates:
    """Return the first and the last moment of a day, month, year or time."""
    if end is None or end in ("", ".."):
        return Dates()
    if isinstance(end, datetime):
        return Dates(_utc(end), _utc(end))
    text = str(end).strip()
    try:
        if re.fullmatch(r"\d{4}", text):
            return Dates(_utc(datetime(int(text), 1, 1)), _utc(datetime(int(text) + 1, 1, 1)) - _MOMENT)
        if re.fullmatch(r"\d{4}-\d\d", text):
            first = _utc(datetime.fromisoformat(f"{text}-01"))
            return Dates(first, (first + timedelta(days=31)).replace(day=1) - _MOMENT)
        first = _utc(datetime.fromisoformat(text))
        return Dates(first, first + timedelta(days=1) - _MOMENT if re.fullmatch(r"[\d-]{8,10}", text) else first)
    except ValueError:
        raise Stop(f"the date {end!r} cannot be read; write it as 2020-01-31 or 2020-01-31T12:00:00Z") from None


def read_time(text: str) -> datetime:
    """Return a time in UTC; without a zone it is UTC already."""
    return _utc(datetime.fromisoformat(text.strip()))


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def read_area(area: Any) -> shapely.Geometry:
    """Return an area as a geometry in longitude and latitude.

    Parameters
    ----------
    area : sequence of 4 numbers, str, path, mapping, geometry, or GeoDataFrame
        A box west, south, east, north (``west > east`` crosses the antimeridian), also as text ``"-50,69,-49,69.4"``; a
        vector file (its CRS is honoured); a GeoJSON mapping; a shapely geometry in longitude and latitude; a GeoDataFrame.

    Returns
    -------
    shapely.Geometry
        Valid, one for all parts, within -180 to 180 and -90 to 90 degrees; parts on both sides of the antimeridian are apart.

    Raises
    ------
    Stop
        There is no such file, it is empty, its CRS is unknown, or the numbers are not degrees.
    """
    if isinstance(area, str) and len(numbers := _numbers(area)) == 4:
        return _box(numbers)
    if isinstance(area, (str, Path)):
        return _from_frame(_read_file(str(area)), str(area))
    if isinstance(area, (gpd.GeoDataFrame, gpd.GeoSeries)):
        return _from_frame(area, "the table")
    if isinstance(area, Mapping):
        parts = area.get("features") or [area]
        return _checked(shapely.GeometryCollection([shapely.geometry.shape(part.get("geometry") or part) for part in parts]), "the area")
    if isinstance(area, shapely.Geometry):
        return _checked(area, "the area")
    if isinstance(area, Sequence) and len(area) == 4:
        return _box([float(number) for number in area])
    raise Stop(f"the area {area!r} cannot be read; give west, south, east, north in degrees, a vector file, or a geometry")


def ground_area(area: shapely.Geometry) -> float:
    """Return the area on the ellipsoid of a geometry in longitude and latitude, in square kilometres."""
    return abs(float(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shapely.force_2d(area))[0])) / 1e6


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in re.split(r"[,\s]+", text.strip().strip("[]()"))]
    except ValueError:
        return []


def _box(sides: Sequence[float]) -> shapely.Geometry:
    west, south, east, north = sides
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90) or west == east:
        raise Stop(f"the area {tuple(sides)} is not a box in degrees: give west, south, east, north, for instance -50.0, 69.0, -49.0, 69.4")
    if west < east:
        return shapely.box(west, south, east, north)
    return shapely.union_all([shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)])


def _read_file(path: str) -> gpd.GeoDataFrame:
    if "://" not in path and not Path(path).is_file():
        raise Stop(f"there is no area file {path}; give a vector file, or west, south, east, north in degrees")
    try:
        return gpd.read_file(path)
    except Exception as error:
        raise Stop(f"the area file {path} cannot be read as vector data: {' '.join(str(error).split())[:200]}") from None


def _from_frame(frame: Any, name: str) -> shapely.Geometry:
    geometries = frame.geometry.dropna() if hasattr(frame, "geometry") else None
    if geometries is None or geometries.empty:
        raise Stop(f"{name} holds no geometry")
    crs = geometries.crs
    if crs is not None and not crs.is_geographic:
        extent = max(geometries.total_bounds[2:] - geometries.total_bounds[:2])
        geometries = geometries.segmentize(extent / 100 if extent else 1.0)
    geometries = geometries.to_crs("EPSG:4326") if crs is not None else geometries
    return _checked(shapely.GeometryCollection(list(geometries)), name)


def _checked(geometry: shapely.Geometry, name: str) -> shapely.Geometry:
    geometry = shapely.force_2d(geometry)
    if geometry.is_empty:
        raise Stop(f"{name} is empty")
    left, bottom, right, top = geometry.bounds
    if left < -180 or right > 360 or bottom < -90 or top > 90:
        raise Stop(
            f"{name} reaches from ({left:g}, {bottom:g}) to ({right:g}, {top:g}), which is not degrees; say its CRS, or give degrees"
        )
    return unfolded(geometry)


def unfolded(geometry: shapely.Geometry) -> shapely.Geometry:
    """Return a valid geometry; a ring that runs over the antimeridian becomes parts on both sides of it.

    A ring wider than half the globe is taken to run the short way round; one that is wide both ways holds a pole,
    unless it is a box from -180 to 180.
    """
    if hasattr(geometry, "geoms"):
        return shapely.union_all([unfolded(part) for part in geometry.geoms])
    left, bottom, right, top = geometry.bounds
    if geometry.is_empty:
        return geometry
    whole = (left, right) == (-180, 180) and geometry.equals(geometry.envelope)
    if whole or (right - left <= 180 and right <= 180):
        return geometry if geometry.is_valid else shapely.make_valid(geometry)
    east = shapely.transform(geometry, lambda xy: xy + [[360, 0]] * (xy[:, :1] < 0))
    if east.bounds[2] - east.bounds[0] > 180:
        return shapely.box(-180, bottom if bottom > 0 else -90, 180, 90 if bottom > 0 else top)
    east = east if east.is_valid else shapely.make_valid(east)
    near = shapely.intersection(east, shapely.box(0, -90, 180, 90))
    far = shapely.affinity.translate(shapely.intersection(east, shapely.box(180, -90, 360, 90)), -360)
    return shapely.union_all([near, far])
