from __future__ import annotations

import logging
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stac_server import item

from ftrack.passes import group_images, name_passes, newest_scenes
from ftrack.stac import NAME, Scene, read_scene


def scene(name: str = "a", **properties: Any) -> Scene:
    return read_scene(item(name, **properties))


def s2(name: str, baseline: str = "05.00", strip: str = "20200101T120000", **more: Any) -> Scene:
    known = {
        "s2:mgrs_tile": "22WEB",
        "s2:processing_baseline": baseline,
        "s2:datastrip_id": f"S2A_OPER_MSI_DS_2BPS_20210101T000000_S{strip}_N02",
    }
    return scene(name, **{**known, **more})


def names(scenes: tuple[Scene, ...]) -> list[str]:
    return [scene.id for scene in scenes]


def test_the_newest_processing_wins_and_the_loser_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    old, new = s2("old", "02.12"), s2("new", "05.00", datetime="2020-01-01T12:00:20Z")
    with caplog.at_level(logging.INFO, "ftrack"):
        assert names(newest_scenes([old, new])) == names(newest_scenes([new, old])) == ["new"]
    assert "scene old (things) gives way to new (things)" in caplog.text


def test_two_parts_of_a_tile_complete_each_other() -> None:
    assert names(newest_scenes([s2("north"), s2("south", strip="20200101T120430")])) == ["north", "south"]


def test_equally_new_processing_is_settled_by_collection_then_by_time() -> None:
    early = s2("early", collection="c1", **{"s2:generation_time": "2021-01-01T00:00:00Z"})
    late = s2("late", collection="c2", **{"s2:generation_time": "2022-01-01T00:00:00Z"})
    assert names(newest_scenes([early, late])) == ["late"]
    assert names(newest_scenes([late, early], ("c1", "c2"))) == ["early"]
    assert names(newest_scenes([late, early, s2("newest", "05.11", collection="c2")], ("c1", "c2"))) == ["newest"]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("LC08_L1TP_009011_20200101_20200110_02_T1", "LC08_L1TP_009011_20200101_20200101_02_RT"),
        ("LC08_L1GT_009011_20200101_20200110_02_T2", "LC08_L1TP_009011_20200101_20200101_02_RT"),
        ("LC08_L1TP_009011_20200101_20200110_02_T1", "LC08_L1TP_009011_20200101_20200823_02_T2"),
        ("LC08_L1TP_009011_20200101_20200823_02_T1", "LC08_L1TP_009011_20200101_20200110_02_T1"),
    ],
)
def test_landsat_tiers(better: str, worse: str) -> None:
    two = [scene(name, platform="landsat-8") for name in (worse, better)]
    assert names(newest_scenes(two)) == names(newest_scenes(two[::-1])) == [better]


def test_without_a_tile_the_footprints_decide() -> None:
    assert names(newest_scenes([scene("a"), scene("b", created="2021-01-01T00:00:00Z")])) == ["b"]
    assert names(newest_scenes([scene("a"), scene("b", west=0.5)])) == ["a", "b"]
    assert names(newest_scenes([scene("a"), scene("b", datetime="2020-01-01T12:00:05Z")])) == ["a", "b"]


def test_neighbouring_rows_share_a_pass_also_over_midnight() -> None:
    rows = [
        scene(f"r{row}", **{"platform": "landsat-8", "landsat:wrs_path": 85, "landsat:wrs_row": row, "datetime": time})
        for row, time in (
            (10, "2020-01-01T23:59:40Z"),
            (11, "2020-01-02T00:00:04Z"),
            (40, "2020-01-02T00:12:00Z"),
            (10, "2020-01-17T23:59:40Z"),
        )
    ]
    assert [s.image_id for s in name_passes(rows)] == ["LC08_20200101_P085"] * 3 + ["LC08_20200117_P085"]


def test_the_datatake_names_a_pass_of_sentinel_2() -> None:
    known = {"sat:relative_orbit": 95, "s2:datatake_id": "GS2A_20200101T115500_043879_N05.11"}
    scenes = name_passes([scene("a", **known), scene("b", west=3.0, datetime="2020-01-01T12:30:00Z", **known)])
    assert {s.image_id for s in scenes} == {"S2A_20200101T115500_R095"}


def test_platforms_do_not_share_a_pass() -> None:
    scenes = name_passes([scene("a"), scene("b", platform="sentinel-2b"), scene("c", platform="Ikonos 2/x")])
    assert [s.image_id for s in scenes] == ["S2A_20200101T120000", "S2B_20200101T120000", "ikonos-2-x_20200101T120000"]


@pytest.mark.parametrize(("known", "longest"), [({}, 10), ({"sat:relative_orbit": 9}, 60)])
def test_the_longest_gap_within_a_pass(known: dict[str, int], longest: int) -> None:
    for minutes, passes in ((longest, 1), (longest + 1, 2)):
        later = f"2020-01-01T{12 + minutes // 60}:{minutes % 60:02}:00Z"
        assert len(group_images(name_passes([scene("a", **known), scene("b", west=3.0, datetime=later, **known)]))) == passes


def test_images_in_order_of_time() -> None:
    scenes = name_passes([scene("b", west=2.0, datetime="2020-01-01T12:05:00Z"), scene("z", datetime="2019-01-01T00:00:00Z"), scene("a")])
    assert {image: names(members) for image, members in group_images(reversed(scenes)).items()} == {
        "S2A_20190101T000000": ["z"],
        "S2A_20200101T120000": ["a", "b"],
    }


@given(
    st.lists(st.tuples(st.integers(0, 120), st.sampled_from(["sentinel-2a", "s2b", "other"]), st.sampled_from([None, 9])), max_size=12),
    st.randoms(),
)
def test_passes_are_chains_of_scenes_close_in_time(rows: list[tuple[int, str, int | None]], random: Any) -> None:
    """A plain definition: scenes of one platform and orbit belong together exactly if no gap between them is too long."""
    start = datetime(2020, 1, 1)
    scenes = [
        scene(
            f"s{n}",
            platform=platform,
            datetime=f"{start + timedelta(minutes=3 * step):%Y-%m-%dT%H:%M:%SZ}",
            **({"sat:relative_orbit": orbit} if orbit else {}),
        )
        for n, (step, platform, orbit) in enumerate(rows)
    ]
    named = name_passes(scenes)
    shuffled = list(scenes)
    random.shuffle(shuffled)
    assert name_passes(shuffled) == named
    assert all(NAME.fullmatch(s.image_id) for s in named)
    for a in named:
        for b in named:
            if a.time > b.time:
                continue
            same = (a.platform, a.orbit) == (b.platform, b.orbit)
            between = sorted(s.time for s in named if (s.platform, s.orbit) == (a.platform, a.orbit) and a.time <= s.time <= b.time)
            gap = max((later - earlier for earlier, later in pairwise(between)), default=timedelta(0))
            limit = timedelta(minutes=60 if a.orbit else 10)
            assert (a.image_id == b.image_id) == (same and gap <= limit)
