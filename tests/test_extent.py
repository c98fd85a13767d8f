from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from ftrack.errors import Stop
from ftrack.extent import read_area, read_dates, unfolded


@pytest.mark.parametrize(
    ("dates", "text"),
    [
        ("2020-01-01/2020-02-01", "2020-01-01T00:00:00Z/2020-02-02T00:00:00Z"),
        (("2020-01-01", None), "2020-01-01T00:00:00Z/.."),
        ("../2020-02-29", "../2020-03-01T00:00:00Z"),
        ("/2020-02-29", "../2020-03-01T00:00:00Z"),
        ("2020-01-05", "2020-01-05T00:00:00Z/2020-01-06T00:00:00Z"),
        ("2020", "2020-01-01T00:00:00Z/2021-01-01T00:00:00Z"),
        ("2019-12/2020-02", "2019-12-01T00:00:00Z/2020-03-01T00:00:00Z"),
        ([date(2020, 1, 1), date(2020, 1, 2)], "2020-01-01T00:00:00Z/2020-01-03T00:00:00Z"),
        (date(2020, 1, 1), "2020-01-01T00:00:00Z/2020-01-02T00:00:00Z"),
        ("2020-01-01T06:00:00+02:00/2020-01-02T00:00:00Z", "2020-01-01T04:00:00Z/2020-01-02T00:00:00Z"),
        ((datetime(2020, 1, 1, 5), datetime(2020, 1, 2, tzinfo=UTC)), "2020-01-01T05:00:00Z/2020-01-02T00:00:00Z"),
        ("../..", ""),
        (None, ""),
    ],
)
def test_dates(dates: Any, text: str) -> None:
    assert read_dates(dates).text == text


def test_the_last_day_is_included_and_not_a_moment_more() -> None:
    span = read_dates("2020-01-01/2020-02-01")
    assert span.hold(datetime(2020, 2, 1, 23, 59, 59, 999999, tzinfo=UTC)) and not span.hold(datetime(2020, 2, 2, tzinfo=UTC))
    assert span.hold(datetime(2020, 1, 1, tzinfo=UTC)) and not span.hold(datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert read_dates("../2020").hold(datetime(1980, 1, 1, tzinfo=UTC)) and read_dates(None).hold(datetime(1, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("dates", ["yesterday", "2020-13-01", "2020-02-01/2020-01-01", "2020/2021/2022", "01.02.2020", ["2020"] * 3])
def test_unreadable_dates(dates: Any) -> None:
    with pytest.raises(Stop, match=r"cannot be read|end before"):
        read_dates(dates)


def test_boxes_as_numbers_and_text() -> None:
    box = shapely.box(-50, 69, -49, 69.5)
    for area in (
        (-50, 69, -49, 69.5),
        [-50.0, 69.0, -49.0, 69.5],
        "-50, 69, -49, 69.5",
        "[-50 69 -49 69.5]",
        box,
        gpd.GeoSeries([box], crs=4326),
    ):
        assert read_area(area).equals(box)


def test_geojson_in_all_its_shapes(tmp_path: Path) -> None:
    geometry = shapely.geometry.mapping(shapely.box(-50, 69, -49, 69.5))
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    for document in (geometry, feature, {"type": "FeatureCollection", "features": [feature, feature]}):
        path = tmp_path / "a.geojson"
        path.write_text(json.dumps(document))
        for area in (document, path, str(path)):
            assert read_area(area).equals(shapely.box(-50, 69, -49, 69.5))


def test_a_file_in_metres_is_brought_to_degrees(data_folder: Path) -> None:
    west, south, east, north = read_area(data_folder / "perito-moreno" / "glacier.geojson").bounds
    assert -73.27 < west < east < -73.0 and -50.57 < south < north < -50.44


def test_straight_sides_on_the_map_stay_where_they_are(tmp_path: Path) -> None:
    """A box of 400 km in EPSG:3413: the middle of its sides, not only its corners, comes to lie where the projection has it."""
    path = tmp_path / "box.geojson"
    gpd.GeoSeries([shapely.box(-400_000, -2_400_000, 0, -2_000_000)], crs=3413).to_file(path)
    area = read_area(path)
    middle = gpd.GeoSeries([shapely.Point(-200_000, -2_399_900), shapely.Point(-200_000, -2_400_100)], crs=3413).to_crs(4326)
    assert list(middle.within(area)) == [True, False]


def test_the_antimeridian() -> None:
    area = read_area((170, -80, -170, -70))
    assert area.bounds == (-180, -80, 180, -70) and area.area == pytest.approx(200)
    assert area.intersects(shapely.Point(179, -75)) and not area.intersects(shapely.Point(0, -75))
    ring = shapely.Polygon([(179, 0), (-179, 0), (-179, 1), (179, 1)])
    assert unfolded(ring).intersects(shapely.Point(-179.5, 0.5)) and not unfolded(ring).intersects(shapely.Point(0.5, 0.5))
    assert unfolded(ring).area == pytest.approx(2) and read_area(shapely.box(179, 0, 181, 1)).area == pytest.approx(2)


def test_an_area_around_a_pole(tmp_path: Path) -> None:
    path = tmp_path / "pole.geojson"
    gpd.GeoSeries([shapely.Point(0, 0).buffer(1_000_000)], crs=3031).to_file(path)
    area = read_area(path)
    assert (
        area.contains(shapely.Point(77, -89)) and area.contains(shapely.Point(-100, -81.5)) and not area.intersects(shapely.Point(0, -79))
    )


@given(st.floats(-179, 179), st.floats(-85, 85), st.floats(0.01, 90))
def test_unfolding_keeps_what_is_narrow(west: float, south: float, width: float) -> None:
    ring = shapely.box(west, south, west + width, south + 1)
    wrapped = shapely.transform(ring, lambda xy: (xy + [180, 0]) % [360, 1e9] - [180, 0] if south >= 0 else xy)
    whole = unfolded(wrapped)
    assert whole.bounds[0] >= -180 and whole.bounds[2] <= 180
    assert whole.area == pytest.approx(width, abs=1e-6)


@pytest.mark.parametrize(
    ("area", "reason"),
    [
        ((-49, 69, -50, 60), "is not a box in degrees"),
        ((500_000, 7_000_000, 510_000, 7_010_000), "is not a box in degrees"),
        (shapely.box(5e5, 7e6, 5.1e5, 7.01e6), "not degrees"),
        (shapely.Polygon(), "is empty"),
        ("missing.geojson", "there is no area file missing.geojson"),
        (42, "cannot be read"),
        ((1, 2, 3), "cannot be read"),
    ],
)
def test_areas_that_are_none(area: Any, reason: str) -> None:
    with pytest.raises(Stop, match=reason):
        read_area(area)


def test_a_file_that_is_no_map(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text("hello")
    with pytest.raises(Stop, match="cannot be read as vector data"):
        read_area(tmp_path / "a.geojson")
    (tmp_path / "b.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(Stop, match="holds no geometry"):
        read_area(tmp_path / "b.geojson")
