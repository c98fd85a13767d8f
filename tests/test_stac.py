from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyproj
import pytest
import shapely
from stac_server import item

from ftrack.catalogue import plain_item
from ftrack.errors import Skip, Stop
from ftrack.scenes import find_scenes
from ftrack.stac import asset_of, platform_family, platform_name, read_scene

ES, PC = "earth-search.aws.element84.com", "planetarycomputer.microsoft.com"
UTC_TIME = "%Y-%m-%dT%H:%M:%S"

# file, number of scenes and passes, a scene, what it is called and where and when it lies, an asset, its grid
RECORDED: list[tuple[str, int, int, tuple[str, ...], str, tuple[Any, ...]]] = [
    (
        f"{ES}-sentinel-2-c1-l2a",
        6,
        2,
        ("S2B_T20EPT_20250731T131905_L2A", "sentinel-2b", "2025-07-31T13:19:22", "S2B_20250731T131909_R095", "R095", "20EPT"),
        "nir",
        ("EPSG:32720", (10.0, 0.0, 600000.0, 0.0, -10.0, 3300040.0), (10980, 10980), 0.0, 0.0001, -0.1, "/B08.tif"),
    ),
    (
        f"{ES}-sentinel-2-l2a",
        7,
        3,
        ("S2A_13TDE_20231008_0_L2A", "sentinel-2a", "2023-10-08T18:02:55", "S2A_20231008T175231_R141", "R141", "13TDE"),
        "red",
        ("EPSG:32613", (10.0, 0.0, 399960.0, 0.0, -10.0, 4500000.0), (10980, 10980), 0.0, 0.0001, -0.1, "/B04.tif"),
    ),
    (
        f"{ES}-sentinel-2-l1c",
        5,
        2,
        ("S2B_20EPT_20250731_0_L1C", "sentinel-2b", "2025-07-31T13:19:22", "S2B_20250731T131909_R095", "R095", "20EPT"),
        "nir",
        ("EPSG:32720", (10.0, 0.0, 600000.0, 0.0, -10.0, 3300040.0), (10980, 10980), 0.0, 0.0001, -0.1, "/0/B08.jp2"),
    ),
    (
        f"{ES}-sentinel-s2-l2a-cogs",
        1,
        1,
        ("S2B_20EPT_20250731_0_L2A", "sentinel-2b", "2025-07-31T13:19:22", "S2B_20250731T131909_R095", "R095", "20EPT"),
        "B08",
        ("EPSG:32720", (10.0, 0.0, 600000.0, 0.0, -10.0, 3300040.0), (10980, 10980), None, 1.0, 0.0, "/B08.tif"),
    ),
    (
        f"{PC}-sentinel-2-l2a",
        8,
        1,
        (
            "S2A_MSIL2A_20190101T000001_R116_T60VUK_20201007T214652",
            "sentinel-2a",
            "2019-01-01T00:00:01",
            "S2A_20190101T000001_R116",
            "R116",
            "60VUK",
        ),
        "B08",
        ("EPSG:32660", (10.0, 0.0, 300000.0, 0.0, -10.0, 6500040.0), (10980, 10980), None, 1.0, 0.0, "_B08_10m.tif"),
    ),
    (
        f"{ES}-landsat-c2-l2",
        1,
        1,
        ("LC08_L2SP_033032_20231008_02_T1", "landsat-8", "2023-10-08T17:37:26", "LC08_20231008_P033", "P033", "032"),
        "nir08",
        ("EPSG:32613", (30.0, 0.0, 449085.0, 0.0, -30.0, 4581915.0), (7831, 7711), 0.0, 2.75e-05, -0.2, "_SR_B5.TIF"),
    ),
    (
        f"{PC}-landsat-c2-l2",
        8,
        1,
        ("LC09_L2SP_084068_20250722_02_T2", "landsat-9", "2025-07-22T23:06:41", "LC09_20250722_P084", "P084", "068"),
        "red",
        ("EPSG:32658", (30.0, 0.0, 351885.0, 0.0, -30.0, -1163085.0), (7731, 7611), 0.0, 2.75e-05, -0.2, "_SR_B4.TIF"),
    ),
    (
        f"{PC}-landsat-8-c2-l2",
        8,
        8,
        ("LC08_L2SR_066091_20160824_02_T1", "landsat-8", "2016-08-24T21:24:54", "LC08_20160824_P066", "P066", "091"),
        "SR_B5",
        # the item says EPSG:3271, a sheet of Antarctica; its grid is one of zone 1 of the north, like all of Landsat's
        ("EPSG:32601", (30.0, 0.0, 442185.0, 0.0, -30.0, -4820685.0), (7951, 7931), None, 1.0, 0.0, "_SR_B5.TIF"),
    ),
    (
        "landsat-c2-l2-LC08_047027",
        1,
        1,
        ("LC08_L2SP_047027_20201204_02_T1", "landsat-8", "2020-12-04T19:02:11", "LC08_20201204_P047", "P047", "027"),
        "red",
        ("EPSG:32610", (30.0, 0.0, 353685.0, 0.0, -30.0, 5374215.0), (7971, 7861), 0.0, 2.75e-05, -0.2, "_SR_B4.TIF"),
    ),
    (
        "usgs-landsat-c2-SR-LC08_008059",
        1,
        1,
        ("LC08_L2SP_008059_20191201_20200825_02_T1", "landsat-8", "2019-12-01T00:00:00", "LC08_20191201_P008", "P008", "059"),
        "SR_B5.TIF",
        ("", None, None, None, 1.0, 0.0, "_SR_B5.TIF"),
    ),
    (
        "pc-sentinel-1-rtc",
        1,
        1,
        (
            "S1A_IW_GRDH_1SDH_20191215T034818_20191215T034847_030353_0378EA_rtc",
            "sentinel-1a",
            "2019-12-15T03:48:33",
            "S1A_20191215T034833_R006",
            "R006",
            "",
        ),
        "hh-rtc",
        ("EPSG:32707", (10.0, 0.0, 457250.0, 0.0, -10.0, 8464920.0), (29204, 25126), -32768.0, 1.0, 0.0, "/iw-hh.rtc.tiff"),
    ),
]


@pytest.mark.parametrize(("file", "scenes", "passes", "names", "asset", "grid"), RECORDED, ids=[row[0] for row in RECORDED])
def test_recorded_items(
    data_folder: Path, file: str, scenes: int, passes: int, names: tuple[str, ...], asset: str, grid: tuple[Any, ...]
) -> None:
    found = find_scenes(data_folder / "stac-items" / f"{file}.json")
    assert (len(found), len({scene.image_id for scene in found})) == (scenes, passes)
    scene = next(scene for scene in found if scene.id == names[0])
    assert (scene.id, scene.platform, f"{scene.time:{UTC_TIME}}", scene.image_id, scene.orbit, scene.tile) == names
    seen = asset_of(scene, asset)
    assert (seen.crs, seen.transform, seen.shape, seen.nodata, seen.scale, seen.offset) == grid[:-1]
    assert seen.href.endswith(grid[-1])


def test_every_recorded_item_lies_where_its_grid_lies(data_folder: Path) -> None:
    """The footprint, which comes from the geometry, and the grid, which comes from the projection, overlap everywhere."""
    checked = 0
    for path in sorted((data_folder / "stac-items").glob("*.json")):
        if "grd" in path.name:
            continue
        for scene in find_scenes(path):
            for asset in scene.assets.values():
                assert "?" not in asset.href and asset.href.startswith(("https://", "s3://", "/"))
                if asset.transform is None or asset.shape is None or not asset.crs:
                    continue
                a, _, left, _, e, top = asset.transform
                corners = (left, top + e * asset.shape[0], left + a * asset.shape[1], top)
                box = pyproj.Transformer.from_crs(asset.crs, 4326, always_xy=True).transform_bounds(*corners)
                grid = shapely.box(*box) if box[0] < box[2] else shapely.box(-180, box[1], box[2], box[3])
                assert shapely.intersection(grid, scene.footprint).area > 0.5 * scene.footprint.area, (path.name, scene.id)
                checked += 1
    assert checked > 200


def test_every_recorded_file_is_in_the_table(data_folder: Path) -> None:
    assert {path.stem for path in (data_folder / "stac-items").glob("*.json")} == {row[0] for row in RECORDED} | {f"{ES}-sentinel-1-grd"}


def test_a_band_is_found_by_its_common_name_on_every_host(data_folder: Path) -> None:
    for file, *_ in RECORDED[:-1]:
        scene = find_scenes(data_folder / "stac-items" / f"{file}.json")[0]
        assert any(part in asset_of(scene, "red").href for part in ("B04", "B4")), file
    assert asset_of(scene, "qa_pixel").href.endswith("QA_PIXEL.TIF")


def test_a_missing_or_ambiguous_asset_lists_what_there_is() -> None:
    bands = [{"name": "B8", "common_name": "nir"}]
    both = {"one": {"href": "https://e.org/1.tif", "eo:bands": bands}, "two": {"href": "https://e.org/2.jp2", "eo:bands": bands}}
    scene = read_scene(item(assets=both))
    with pytest.raises(Stop, match="no asset 'tow'; did you mean 'two'\\? its assets: one, two"):
        asset_of(scene, "tow")
    with pytest.raises(Stop, match="several assets called 'nir': one, two"):
        asset_of(scene, "nir")


@pytest.mark.parametrize("crs", [{"proj:epsg": 32631}, {"proj:code": "EPSG:32631"}, {"proj:wkt2": pyproj.CRS(32631).to_wkt()}])
@pytest.mark.parametrize("level", ["item", "asset"])
def test_both_spellings_of_the_crs_on_both_levels(crs: dict[str, Any], level: str) -> None:
    grid = {"proj:transform": [10, 0, 166020, 0, -10, 110600, 0, 0, 1], "proj:shape": [11060, 11140], **crs}
    asset = {"href": "https://e.org/a.tif", **(grid if level == "asset" else {})}
    made = item(assets={"pan": asset}, **({**grid, "proj:epsg": grid.get("proj:epsg")} if level == "item" else {"proj:epsg": None}))
    seen = read_scene(made).assets["pan"]
    assert (seen.crs, seen.shape, seen.transform) == ("EPSG:32631", (11060, 11140), (10.0, 0.0, 166020.0, 0.0, -10.0, 110600.0))


@pytest.mark.parametrize(("wrong", "right"), [(32632, "EPSG:32631"), (3271, "EPSG:32631"), (999999, "EPSG:32631")])
def test_a_wrong_code_gives_way_to_the_zone_in_which_grid_and_footprint_agree(wrong: int, right: str) -> None:
    grid = {"proj:transform": [10, 0, 166020, 0, -10, 110600], "proj:shape": [11060, 11140], "proj:epsg": wrong}
    assert read_scene(item(**grid)).assets["pan"].crs == right
    assert read_scene(item(**{**grid, "west": 100.0})).assets["pan"].crs == ""


def test_a_polar_grid_is_left_as_it_is() -> None:
    grid = {"proj:transform": [15, 0, -208050, 0, -15, -2247460], "proj:shape": [8000, 8000], "proj:epsg": 3413}
    assert read_scene(item(**grid, west=-49.5, south=69.0)).assets["pan"].crs == "EPSG:3413"


def test_values_on_asset_and_band_level() -> None:
    assets = {
        "old": {"href": "https://e.org/a", "raster:bands": [{"nodata": "nan", "scale": 2, "offset": -1}]},
        "new": {"href": "https://e.org/a", "bands": [{"name": "x", "eo:common_name": "red", "nodata": 0, "raster:scale": 3}]},
        "top": {"href": "https://e.org/a", "nodata": -9999, "raster:scale": 4, "raster:offset": 5},
        "none": {"href": "https://e.org/a"},
    }
    seen = read_scene(item(assets=assets)).assets
    assert str(seen["old"].nodata) == "nan" and (seen["old"].scale, seen["old"].offset) == (2, -1)
    assert (seen["new"].nodata, seen["new"].scale, seen["new"].offset, seen["new"].bands) == (0, 3, 0, ("x", "red"))
    assert (seen["top"].nodata, seen["top"].scale, seen["top"].offset) == (-9999, 4, 5)
    assert (seen["none"].nodata, seen["none"].scale, seen["none"].offset) == (None, 1, 0)


def test_the_preferred_address_is_read() -> None:
    asset = {
        "href": "https://e.org/a.tif?sig=1",
        "alternate": {"s3": {"href": "s3://bucket/a.tif"}, "local": {"href": "file:///etc/passwd"}},
    }
    made = plain_item(item(assets={"pan": asset}), "https://e.org/search", local=False)
    assert [read_scene(made, prefer).assets["pan"].href for prefer in ("", "s3", "https")] == [
        "https://e.org/a.tif",
        "s3://bucket/a.tif",
        "https://e.org/a.tif",
    ]
    assert "passwd" not in json.dumps(made)


@pytest.mark.parametrize(
    ("text", "name", "family"),
    [
        ("LANDSAT_8", "landsat-8", "landsat-8-9"),
        ("LC09", "landsat-9", "landsat-8-9"),
        ("Landsat-7", "landsat-7", "landsat-7"),
        ("landsat8", "landsat-8", "landsat-8-9"),
        ("SENTINEL-1A", "sentinel-1a", "sentinel-1"),
        ("Sentinel-2C", "sentinel-2c", "sentinel-2"),
        ("S2B", "sentinel-2b", "sentinel-2"),
        ("Sentinel 2", "sentinel-2", "sentinel-2"),
        ("PlanetScope", "planetscope", "planetscope"),
    ],
)
def test_platforms(text: str, name: str, family: str) -> None:
    assert (platform_name(text), platform_family(name)) == (name, family)


def test_the_middle_of_a_span_and_other_zones() -> None:
    span = {"datetime": None, "start_datetime": "2020-01-01 00:00:00+00:00", "end_datetime": "2020-01-01T02:00:00+01:00"}
    assert read_scene(item(**span)).time == datetime(2020, 1, 1, 0, 30, tzinfo=UTC)
    assert read_scene(item(datetime="2020-01-01T00:00:00")).time == datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "a/../b"}, "is refused"),
        ({"id": ".."}, "is refused"),
        ({"id": "a" * 129}, "is refused"),
        ({"id": "a b"}, "is refused"),
        ({"geometry": None, "bbox": None}, "says no place"),
        ({"geometry": {"type": "Point", "coordinates": [5e5, 5e6]}}, "neither in degrees"),
    ],
)
def test_unusable_items(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        read_scene({**item(), **change})


def test_a_box_stands_in_for_the_geometry_also_in_three_dimensions() -> None:
    assert read_scene({**item(), "geometry": None}).footprint.bounds == (0, 0, 1, 1)
    assert read_scene({**item(), "geometry": None, "bbox": [0, 0, -5, 1, 1, 900]}).footprint.bounds == (0, 0, 1, 1)


def test_scenes_travel(data_folder: Path) -> None:
    import pickle

    scenes = find_scenes(data_folder / "perito-moreno")
    assert pickle.loads(pickle.dumps(scenes)) == scenes and len(set(scenes)) == 8
