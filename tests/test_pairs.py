from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from ftrack.errors import Stop
from ftrack.pairs import PairSettings, choose_pairs
from ftrack.scenes import find_scenes
from ftrack.stac import Scene, platform_family

START = datetime(2020, 1, 20, 12, tzinfo=UTC)


def scene(name: str, day: float, *, orbit: str = "", platform: str = "sentinel-2a", west: float = 0.0, image: str = "") -> Scene:
    return Scene(
        id=name,
        collection="c",
        platform=platform,
        time=START + timedelta(days=day),
        image_id=image or name,
        orbit=orbit,
        tile="",
        cloud_cover=None,
        footprint=shapely.box(west, 60, west + 1, 61),
        assets={},
        item={},
    )


def ids(scenes: list[Scene], **options: Any) -> list[str]:
    return [pair.id for pair in choose_pairs(scenes, **options)]


def test_the_real_collection(data_folder: Path) -> None:
    scenes = find_scenes(data_folder / "perito-moreno", max_cloud=50)
    pairs = choose_pairs(scenes, min_days=13, max_days=50)
    clear = [s for s in scenes if f"{s.time:%m%d}" in ("0101", "0131", "0207", "0210", "0220")]
    assert [p.temporal_baseline for p in choose_pairs(clear, min_days=13, max_days=50)] == [30, 37, 40, 50, 20, 13]
    assert len(pairs) >= 6 and all(13 <= p.temporal_baseline <= 50 for p in pairs)


def test_a_pair_says_when_and_how_long() -> None:
    (pair,) = choose_pairs([scene("b", 3.5), scene("a", 0)])
    assert (pair.id, pair.temporal_baseline, pair.mid_date) == ("a__b", 3.5, START + timedelta(days=1.75))
    assert (pair.reference_time, pair.secondary_time) == (START, START + timedelta(days=3.5))


def test_the_tiles_of_a_pass_are_one_image() -> None:
    scenes = [scene("a1", 0.001, image="a"), scene("a0", 0, image="a", west=1), scene("b0", 5, image="b", west=1.5)]
    (pair,) = choose_pairs(scenes)
    assert pair.id == "a__b" and pair.reference_time == START


def test_the_overlap_is_a_share_of_the_smaller_footprint() -> None:
    wide = [scene(f"w{n}", 0, image="w", west=n) for n in range(20)]
    assert ids([*wide, scene("s", 5, west=0.5)], min_overlap=0.99) == ["w__s"]
    assert ids([*wide, scene("s", 5, west=19.5)], min_overlap=0.49) == ["w__s"]
    with pytest.raises(Stop, match="50% in common"):
        ids([*wide, scene("s", 5, west=19.5)], min_overlap=0.51)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, ["a__b"]),
        ({"same_orbit": False}, ["a__b", "a__c", "b__c"]),
        ({"same_orbit": False, "same_sensor": False}, ["a__b", "a__c", "b__c", "a__d", "b__d", "c__d"]),
        ({"same_orbit": False, "max_days": 5}, ["a__b", "b__c"]),
        ({"same_orbit": False, "min_days": 6}, ["a__c"]),
        ({"same_orbit": False, "max_per_image": 1}, ["a__b"]),
        ({"same_orbit": False, "max_per_image": 2}, ["a__b", "a__c", "b__c"]),
        ({"same_orbit": False, "months": (1,)}, ["a__b", "a__c", "b__c"]),
        ({"same_orbit": False, "area": (0.0, 60, 0.5, 61)}, ["a__b", "a__c", "b__c"]),
        ({"same_orbit": False, "min_overlap": 0.95}, ["a__b"]),
    ],
)
def test_limits(options: dict[str, Any], kept: list[str]) -> None:
    scenes = [
        scene("a", 0, orbit="R001"),
        scene("b", 3, orbit="R001", platform="sentinel-2c"),
        scene("c", 7, orbit="R002", platform="sentinel-2b", west=0.1),
        scene("d", 20, orbit="P009", platform="landsat-8"),
    ]
    assert ids(scenes, **options) == kept


def test_unknown_orbits_match_each_other_and_the_known() -> None:
    assert ids([scene("a", 0), scene("b", 3), scene("c", 6, orbit="R001")]) == ["a__b", "a__c", "b__c"]


def test_landsat_8_and_9_are_one_family() -> None:
    assert ids([scene("a", 0, platform="landsat-8"), scene("b", 8, platform="landsat-9")]) == ["a__b"]


def test_images_of_the_same_moment_are_no_pair() -> None:
    with pytest.raises(Stop, match="1 are shorter than 0 days"):
        choose_pairs([scene("a", 0), scene("b", 0)], min_days=0)


def test_settings_and_keywords_together() -> None:
    scenes = [scene("a", 0), scene("b", 3), scene("c", 9)]
    assert ids(scenes, settings=PairSettings(max_days=5)) == ["a__b"]
    assert ids(scenes, settings=PairSettings(max_days=5), min_days=2, max_days=7) == ["a__b", "b__c"]
    with pytest.raises(Stop, match="did you mean 'max_days'"):
        ids(scenes, max_dayz=3)
    with pytest.raises(Stop, match="min_days 9 is longer than max_days 3"):
        PairSettings(min_days=9, max_days=3)
    with pytest.raises(Stop, match=r"months\.0"):
        PairSettings(months=(0,))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_days": 2}, "3 images make 3, 3 are longer than 2 days; closest: a and b, 4 days, 100% in common"),
        ({"min_days": 50}, "3 are shorter than 50 days; closest: a and c, 12 days, 0% in common"),
        ({"months": (7,)}, "3 are outside the months"),
        ({"min_overlap": 0.5, "min_days": 5}, "1 are shorter than 5 days, 2 are with less than 50% in common; closest"),
        ({"min_overlap": 0.5, "max_days": 4, "area": (5, 60, 6, 61)}, "2 are longer than 4 days, 1 are with less than 50% in common"),
    ],
)
def test_no_pairs_says_which_limit_removed_them(options: dict[str, Any], text: str) -> None:
    with pytest.raises(Stop, match="no pairs") as caught:
        choose_pairs([scene("a", 0), scene("b", 4), scene("c", 12, west=2)], **options)
    assert text in str(caught.value)


def test_one_image_makes_no_pair() -> None:
    for scenes in ([], [scene("a", 0)]):
        with pytest.raises(Stop, match="make 0; widen dates, area or cloud"):
            choose_pairs(scenes)


ARCHIVES = st.lists(
    st.tuples(
        st.floats(0, 100).map(lambda day: round(day, 1)),
        st.sampled_from(["", "R001", "R002"]),
        st.sampled_from(["sentinel-2a", "sentinel-2b", "landsat-8", "landsat-9"]),
        st.floats(0, 2).map(lambda west: round(west, 1)),
    ),
    max_size=9,
).map(lambda rows: [scene(f"s{n}", day, orbit=orbit, platform=platform, west=west) for n, (day, orbit, platform, west) in enumerate(rows)])


@given(
    ARCHIVES,
    st.floats(0, 20),
    st.floats(20, 110),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), (1, 2), (3,)]),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_exactly_the_pairs_that_the_limits_allow(
    scenes: list[Scene], low: float, high: float, orbit: bool, sensor: bool, months: tuple[int, ...], overlap: float
) -> None:
    def allowed(a: Scene, b: Scene) -> bool:
        days = abs(b.time - a.time) / timedelta(days=1)
        common = max(0.0, 1 - abs(a.footprint.bounds[0] - b.footprint.bounds[0]))
        return (
            low <= days <= high
            and days > 0
            and (not orbit or a.orbit == b.orbit or not a.orbit or not b.orbit)
            and (not sensor or platform_family(a.platform) == platform_family(b.platform))
            and (not months or (a.time.month in months and b.time.month in months))
            and common >= overlap - 1e-9
        )

    wanted = {frozenset((a.id, b.id)) for a, b in combinations(scenes, 2) if allowed(a, b)}
    options = {"min_days": low, "max_days": high, "same_orbit": orbit, "same_sensor": sensor, "months": months, "min_overlap": overlap}
    if not wanted:
        with pytest.raises(Stop, match="no pairs"):
            choose_pairs(scenes, **options)
        return
    pairs = choose_pairs(scenes, **options)
    assert {frozenset((p.reference, p.secondary)) for p in pairs} == wanted and len(pairs) == len(wanted)
    assert all(p.reference_time < p.secondary_time for p in pairs)
    assert list(pairs) == sorted(pairs, key=lambda p: (p.mid_date, p.reference, p.secondary))


@given(ARCHIVES, st.randoms(), st.sampled_from([None, 1, 2, 3]))
def test_the_order_of_scenes_does_not_matter_and_no_image_is_used_too_often(scenes: list[Scene], random: Any, most: int | None) -> None:
    options: dict[str, Any] = {"max_per_image": most, "min_overlap": 0.0, "same_sensor": False, "min_days": 0.05}
    try:
        pairs = choose_pairs(scenes, **options)
    except Stop:
        return
    shuffled = list(scenes)
    random.shuffle(shuffled)
    assert choose_pairs(shuffled, **options) == pairs
    everything = choose_pairs(scenes, **{**options, "max_per_image": None})
    used = {s.id: sum(s.id in (p.reference, p.secondary) for p in pairs) for s in scenes}
    assert set(pairs) <= set(everything) and max(used.values()) <= (most or len(scenes))
    for left_out in set(everything) - set(pairs):
        assert most is not None and max(used[left_out.reference], used[left_out.secondary]) == most
