from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stac_server import CORE, FILTER, QUERY, StacServer, item, running

from ftrack.errors import Retry, Stop
from ftrack.scenes import SceneQuery, find_scenes, group_images, scenes_table

HASTY = SceneQuery(retries=0, page_size=7)


def many(count: int = 25) -> list[dict[str, Any]]:
    """Items of 25 days, clouds 0, 4, 8, ... percent, ever further east."""
    return [
        item(f"s{n:02}", **{"datetime": f"2020-01-{n + 1:02}T12:00:00Z", "eo:cloud_cover": 4.0 * n, "west": 0.1 * n, "gsd": n})
        for n in range(count)
    ]


def listed(folder: Path, items: list[dict[str, Any]]) -> Path:
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def test_the_real_collection(data_folder: Path) -> None:
    scenes = find_scenes(data_folder / "perito-moreno" / "collection.json", dates="2020-01-01/2020-01-31", max_cloud=50)
    assert [scene.id for scene in scenes] == ["S2_PM_20200101", "S2_PM_20200131"]
    asset = scenes[0].assets["visual"]
    assert Path(asset.href) == data_folder.resolve() / "perito-moreno" / "20200101.tif"
    assert (asset.crs, asset.shape, asset.transform) == ("EPSG:32718", (1231, 1731), (10.0, 0.0, 623100.0, 0.0, -10.0, 4409500.0))
    assert find_scenes(data_folder / "perito-moreno") == find_scenes(str(data_folder / "perito-moreno" / "collection.json"))


def test_a_vector_file_is_an_area(data_folder: Path) -> None:
    place = data_folder / "perito-moreno"
    assert len(find_scenes(place, area=place / "glacier.geojson")) == 8
    with pytest.raises(Stop, match="8 found, 0 after area"):
        find_scenes(place, area=(10, 10, 11, 11))


def test_radar_in_slant_range_is_refused_with_the_reason(data_folder: Path) -> None:
    with pytest.raises(Stop, match=r"Sentinel-1 GRD is not on a map grid.*sentinel-1-rtc"):
        find_scenes(data_folder / "stac-items" / "earth-search.aws.element84.com-sentinel-1-grd.json")


def test_what_cannot_be_used_is_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = item("grd", collection="sentinel-1-grd", platform="sentinel-1a")
    with caplog.at_level(logging.WARNING, "ftrack"):
        assert [s.id for s in find_scenes(listed(tmp_path, [item("ok"), bad, item("../../etc"), item("no-time", datetime=None)]))] == ["ok"]
    assert "not on a map grid" in caplog.text and "'../../etc' is refused" in caplog.text and "no-time says no time" in caplog.text


def test_table(data_folder: Path) -> None:
    table = scenes_table(find_scenes(data_folder / "perito-moreno"))
    assert table.crs.to_epsg() == 4326 and len(table) == 8 and list(table["cloud_cover"])[:2] == [5.0, 90.0]
    assert scenes_table(()).empty


@pytest.mark.parametrize(
    ("conforms", "sent"),
    [(CORE + QUERY + FILTER, {"filter"}), (CORE + FILTER, {"filter"}), (CORE + QUERY, {"query"}), (CORE, set()), (["x"], set())],
)
def test_filters_hold_whatever_the_server_knows(conforms: list[str], sent: set[str]) -> None:
    with running(StacServer(many(), conforms=conforms)) as server:
        query = HASTY.model_copy(update={"cql2": "gsd > 3 AND gsd < 20"})
        scenes = find_scenes(server.url, area=(0.05, 0.2, 1.55, 0.8), dates="2020-01-02/2020-01-14", max_cloud=40, query=query)
    assert [scene.id for scene in scenes] == [f"s{n:02}" for n in range(4, 11)]
    assert {key for body in server.asked for key in body if key in ("filter", "query")} == sent


def test_text_filters_are_sent_as_json() -> None:
    with running(StacServer(many())) as server:
        find_scenes(server.url, query=SceneQuery(cql2="gsd > 3"))
        found = find_scenes(server.url, query=SceneQuery(cql2={"op": ">", "args": [{"property": "gsd"}, 3]}))
    assert len(found) == 21 and server.asked[0]["filter"] == {"op": ">", "args": [{"property": "gsd"}, 3.0]}


def test_a_property_that_is_missing_does_not_pass(tmp_path: Path) -> None:
    path = listed(tmp_path, [item("a", gsd=1), item("b", platform="landsat-8"), item("c", platform="landsat-9", gsd=9)])
    assert [s.id for s in find_scenes(path, query=SceneQuery(cql2="gsd < 5"))] == ["a"]
    assert [s.id for s in find_scenes(path, query=SceneQuery(cql2="gsd IS NULL"))] == ["b"]
    with pytest.raises(Stop, match="3 found, 0 after cql2"):
        find_scenes(path, query=SceneQuery(cql2="unheard_of = 5"))


def test_all_pages_are_read_and_counted() -> None:
    with running(StacServer(many())) as server:
        assert len(find_scenes(server.url, query=HASTY)) == 25
        assert len(server.asked) == 4
        server.counts = False
        assert len(find_scenes(server.url, query=HASTY)) == 25


def test_a_page_that_loses_items_is_noticed_and_asked_again() -> None:
    with running(StacServer(many(), drops_page=1)) as server:
        with pytest.raises(Retry, match="says that 25 items match, but hands over 24"):
            find_scenes(server.url, query=HASTY)
        server.drops = 1
        assert len(find_scenes(server.url, query=HASTY)) == 25


def test_a_count_that_is_too_high_is_an_error() -> None:
    with running(StacServer(many(), claims_more=12)) as server, pytest.raises(Retry, match="37 items match, but hands over 25"):
        find_scenes(server.url, query=HASTY)


def test_too_many_scenes_are_refused_after_one_page() -> None:
    with running(StacServer(many())) as server, pytest.raises(Stop, match="matches 25 scenes, more than the limit of 20"):
        find_scenes(server.url, query=SceneQuery(limit=20, page_size=5))
    assert len(server.asked) == 1


def test_a_server_without_post_is_asked_by_get() -> None:
    with running(StacServer(many(5), only_get=True)) as server:
        assert len(find_scenes(server.url, collections=["things"], area=(0, 0, 3, 1))) == 5


def test_a_passing_failure_is_waited_out() -> None:
    with running(StacServer(many(3), failures=1)) as server:
        assert len(find_scenes(server.url, query=SceneQuery(retries=2))) == 3


@pytest.mark.parametrize(("status", "kind"), [(503, Retry), (429, Retry), (404, Stop), (401, Stop), (400, Stop)])
def test_failures_say_whether_trying_again_helps(status: int, kind: type[Exception]) -> None:
    with running(StacServer(many(3), status=status)) as server, pytest.raises(kind, match=str(status)) as caught:
        find_scenes(f"{server.url}?sig=secret", query=HASTY)
    assert "secret" not in str(caught.value)


def test_an_unreachable_catalogue_says_where_it_was_looked_for() -> None:
    with running(StacServer([])) as server:
        url = server.url
    with pytest.raises(Retry, match=f"the catalogue {url} cannot be reached") as caught:
        find_scenes(f"{url}?token=secret", query=HASTY)
    assert "secret" not in str(caught.value)


def test_an_empty_search_says_which_condition_emptied_it() -> None:
    with running(StacServer(many())) as server:
        ask = {"catalog": server.url, "query": HASTY}
        with pytest.raises(Stop, match="25 in the collections, 25 in the area, 0 in the dates 2021"):
            find_scenes(area=(0, 0, 9, 1), dates="2021", **ask)
        with pytest.raises(Stop, match=r"24 in the dates .*, 0 with at most 1 % cloud"):
            find_scenes(dates="2020-01-02/..", max_cloud=1, **ask)
        with pytest.raises(Stop, match="0 in the collections; there is no collection 'thing', did you mean 'things'"):
            find_scenes(collections="thing", **ask)
        with pytest.raises(Stop, match="25 found, 0 after months; months there: 1"):
            find_scenes(**{**ask, "query": SceneQuery(months=(7,))})


def test_a_collection_of_an_api_is_not_walked() -> None:
    with running(StacServer(many())) as server:
        document = {"type": "Collection", "id": "things", "links": [{"rel": "items", "href": "x"}, {"rel": "root", "href": server.url}]}
        server.landing = lambda: document  # type: ignore[method-assign]
        with pytest.raises(Stop, match=rf"give catalog='{server.url}' and collections=\['things'\]"):
            find_scenes(f"{server.url}collections/things/")


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"platforms": ["sentinel-2"]}, "ab"),
        ({"platforms": ["Sentinel-2B", "LC08"]}, "bc"),
        ({"orbits": ["R095"]}, "a"),
        ({"orbits": [95]}, "ac"),
        ({"orbits": ["P095"]}, "c"),
        ({"orbits": ["95/11"]}, "c"),
        ({"orbits": ["095/012", "R1"]}, "b"),
        ({"tiles": ["22WEB"]}, "a"),
        ({"tiles": ["11"]}, "c"),
        ({"months": [1, 2]}, "ac"),
    ],
)
def test_conditions(tmp_path: Path, options: dict[str, Any], kept: str) -> None:
    path = listed(
        tmp_path,
        [
            item("a", **{"sat:relative_orbit": 95, "s2:mgrs_tile": "22WEB"}),
            item("b", **{"sat:relative_orbit": 1, "platform": "Sentinel-2B", "datetime": "2020-03-01T00:00:00Z"}),
            item("c", **{"landsat:wrs_path": 95, "landsat:wrs_row": "011", "platform": "LANDSAT_8"}),
        ],
    )
    assert {scene.id for scene in find_scenes(path, query=SceneQuery(**options))} == set(kept)


def test_wrong_settings_name_every_fault() -> None:
    with pytest.raises(Stop) as caught:
        SceneQuery(cql2="a <", months=[13], orbits=["Q9"], platform="x")
    text = str(caught.value)
    assert "cannot be read" in text and "months.0" in text and "'Q9' is no orbit" in text and "did you mean 'platforms'" in text
    with pytest.raises(Stop, match="0 to 100"):
        find_scenes("nowhere.json", max_cloud=120)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not json", "it is not JSON"),
        ("[1]", "a JSON object is expected"),
        ('{"type": "Topology"}', "neither a catalogue"),
        (None, "is not there"),
    ],
)
def test_a_catalogue_that_is_none(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "c.json"
    if text:
        path.write_text(text)
    with pytest.raises(Stop, match=reason):
        find_scenes(path)
    with pytest.raises(Stop, match=r"neither catalog\.json nor collection.json"):
        find_scenes(tmp_path)


@given(st.permutations(many(12)), st.integers(0, 100))
def test_the_order_of_items_does_not_matter(items: list[dict[str, Any]], cloud: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = listed(Path(folder), items)
        scenes = find_scenes(path, max_cloud=cloud)
    assert [s.id for s in scenes] == [f"s{n:02}" for n in range(12) if 4 * n <= cloud]
    assert list(group_images(scenes)) == [f"S2A_202001{n + 1:02}T120000" for n in range(len(scenes))]
