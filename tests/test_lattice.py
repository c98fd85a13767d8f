"""The grid of a stack: CRS, lattice and extent."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from made_scenes import make_item, make_scenes, write_image

from ftrack import lattice
from ftrack.errors import Skip, Stop
from ftrack.grid import Bounds, Grid
from ftrack.lattice import GridSettings, choose_grid, file_of, frames_of, outline_of, scene_bytes
from ftrack.rasters import Access, File, Header
from ftrack.scenes import find_scenes
from ftrack.stac import read_scene


def plain(name: str = "a", **item: Any) -> dict[str, Any]:
    return make_item(name, {"nir": "https://example.org/nir.tif"}, **item)


def test_scenes_that_share_a_lattice_keep_it() -> None:
    scenes = make_scenes(plain("a"), plain("b", corner=(560500.0, 7670300.0)))
    grid = choose_grid(scenes, "nir")
    assert grid == Grid(crs="EPSG:32622", resolution=10.0, left=560000.0, top=7670300.0, height=230, width=250)


def test_landsat_pixels_keep_their_odd_lattice() -> None:
    scenes = make_scenes(plain(corner=(449085.0, 4581915.0), resolution=30.0, platform="landsat-8"))
    grid = choose_grid(scenes, "nir", settings=GridSettings(bounds=(450000.0, 4577000.0, 452000.0, 4580000.0)))
    assert (grid.left - 449085.0) % 30 == 0 and (grid.top - 4581915.0) % 30 == 0
    assert grid.left <= 450000.0 < grid.left + 30 and grid.bounds.bottom <= 4577000.0


def test_the_area_is_followed_along_its_edges_and_cut_to_the_scenes() -> None:
    scenes = make_scenes(plain())
    west, south, east, north = scenes[0].footprint.bounds
    middle = (west + east) / 2
    grid = choose_grid(scenes, "nir", (west - 1, south - 1, middle, north + 1))
    to_map = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32622", always_xy=True)
    edge = max(to_map.transform(middle, latitude)[0] for latitude in np.linspace(south, north, 50))
    assert (grid.left, grid.top, grid.height) == (560000.0, 7670000.0, 200)
    assert abs(grid.bounds.right - edge) <= 12


def test_parallels_are_arcs_on_a_polar_map() -> None:
    scenes = make_scenes(plain(crs="EPSG:3031", corner=(-1e6, 2e6), resolution=1000.0, shape=(2000, 2000)))
    grid = choose_grid(scenes, "nir", (-20.0, -76.0, 20.0, -75.0))
    _, top = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3031", always_xy=True).transform(0.0, -75.0)
    assert 0 <= grid.top - top < 1200


def test_an_area_over_the_antimeridian() -> None:
    scenes = make_scenes(plain(crs="EPSG:3031", corner=(-100000.0, -1400000.0), resolution=100.0, shape=(2000, 2000)))
    grid = choose_grid(scenes, "nir", (178.0, -76.0, -178.0, -75.0))
    assert grid.left < 0 < grid.bounds.right and grid.width < 1200


@pytest.mark.parametrize("request_", [{"area": (10.0, 50.0, 11.0, 51.0)}, {"settings": GridSettings(bounds=(0.0, 0.0, 5000.0, 5000.0))}])
def test_a_place_off_the_scenes_says_where_they_are(request_: dict[str, Any]) -> None:
    scenes = make_scenes(plain())
    with pytest.raises(Stop, match=r"off the scenes: the 1 scenes lie between longitude -49\.\d+ and -49\.\d+"):
        choose_grid(scenes, "nir", **request_)


def test_bounds_are_not_cut_to_the_scenes() -> None:
    grid = choose_grid(make_scenes(plain()), "nir", settings=GridSettings(bounds=(559000.0, 7669000.0, 561000.0, 7671000.0)))
    assert grid.bounds == Bounds(559000.0, 7669000.0, 561000.0, 7671000.0)


def test_the_most_common_crs_is_taken_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    others = [plain(name, crs="EPSG:32622") for name in "bc"]
    scenes = make_scenes(plain("a", crs="EPSG:32623", corner=(330000.0, 7670000.0)), *others)
    with caplog.at_level(logging.INFO, "ftrack"):
        grid = choose_grid(scenes, "nir", settings=GridSettings(bounds=(560000.0, 7669000.0, 561000.0, 7670000.0)))
    assert grid.crs == "EPSG:32622"
    assert "EPSG:3413" in caplog.text and "1 of 3 scenes are resampled" in caplog.text


def test_a_chosen_crs_and_resolution() -> None:
    grid = choose_grid(make_scenes(plain()), "nir", settings=GridSettings(crs="EPSG:3413", resolution=15.0))
    assert (grid.crs, grid.resolution) == ("EPSG:3413", 15.0)
    assert grid.left % 15 == 0 and grid.top % 15 == 0 and 2000 < grid.width * 15 < 2600
    assert choose_grid(make_scenes(plain()), "nir", settings=GridSettings(crs="EPSG:3413")).resolution == 10.0


def test_degrees_are_refused() -> None:
    with pytest.raises(Stop, match="in degrees"):
        choose_grid(make_scenes(plain()), "nir", settings=GridSettings(crs="EPSG:4326"))


def test_a_wrong_asset_lists_what_there_is() -> None:
    with pytest.raises(Stop, match=r"no asset 'red'.*nir"):
        choose_grid(make_scenes(plain()), "red")
    with pytest.raises(Stop, match="no scenes"):
        choose_grid((), "nir")


def test_headers_tell_what_the_metadata_do_not(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", np.ones((60, 50), "uint8"))
    scenes = make_scenes(make_item("a", {"nir": path}, said=False))
    (frame,) = frames_of(scenes, "nir")
    assert (frame.crs, frame.shape, frame.itemsize) == ("EPSG:32622", (60, 50), 1)
    assert choose_grid(scenes, "nir").bounds == Bounds(560000.0, 7669400.0, 560500.0, 7670000.0)


def test_without_any_crs_there_is_no_grid(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", np.ones((60, 50), "uint8"), crs=None)
    with pytest.raises(Stop, match=r"asset 'nir' of scene a .* has no CRS"):
        choose_grid(make_scenes(make_item("a", {"nir": path}, said=False)), "nir")


def test_the_place_of_an_item_does_not_count_for_an_asset_of_other_pixels(tmp_path: Path) -> None:
    """Items say where most of their files lie; the panchromatic band has pixels of half the size."""
    path = write_image(tmp_path / "pan.tif", np.ones((400, 400), "uint16"), resolution=15.0)
    scenes = make_scenes(make_item("a", {"pan": path}, resolution=30.0, assets={"pan": {"gsd": 15.0}}))
    assert choose_grid(scenes, "pan").resolution == 15.0


def test_what_is_said_of_an_asset_counts_wherever_it_is_read_from(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"gsd": 15.0, "data_type": "uint8", "alternate": {"s3": {"href": "s3://bucket/pan.tif"}}}
    read: list[str] = []

    def header(file: File, access: Access) -> Header:
        read.append(file.href)
        return Header("EPSG:32622", (15.0, 0.0, 560000.0, 0.0, -15.0, 7670000.0), (400, 400), None, "uint8")

    monkeypatch.setattr(lattice, "read_header", header)
    for resolution, known in ((15.0, []), (30.0, ["s3://bucket/pan.tif"])):
        item = make_item("a", {"pan": "https://example.org/pan.tif"}, resolution=resolution, assets={"pan": said})
        (frame,) = frames_of((read_scene(item, "s3"),), "pan")
        assert (frame.resolution, frame.itemsize, read) == (15.0, 1, known)


def test_the_outline_follows_curved_edges() -> None:
    scenes = make_scenes(plain(crs="EPSG:3413", corner=(-200000.0, -2000000.0), resolution=100.0, shape=(5000, 5000)))
    outline = outline_of(frames_of(scenes, "nir")[0], "EPSG:32622")
    to_utm = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:32622", always_xy=True)
    x, y = to_utm.transform(-200000 + np.linspace(0, 500000, 500), np.full(500, -2000000.0))
    assert shapely.distance(outline.exterior, shapely.points(x, y)).max() < 100.0
    assert abs(outline.area / 500000**2 - 1) < 0.1


def test_bytes_are_counted_where_scenes_overlap_the_grid() -> None:
    scenes = make_scenes(plain("a"), plain("b", corner=(561000.0, 7670000.0)), plain("c", corner=(600000.0, 7670000.0)))
    grid = Grid(crs="EPSG:32622", resolution=10.0, left=560000.0, top=7671000.0, height=200, width=200)
    found = scene_bytes(scenes, "nir", [grid])
    assert list(found) == ["a", "b", "c"] and round(sum(found.values())) == 2 * (200 * 100 + 100 * 100)
    polar = choose_grid(scenes[:1], "nir", settings=GridSettings(crs="EPSG:3413"))
    assert scene_bytes(scenes[:1], "nir", [polar])["a"] == pytest.approx(2 * 200 * 200, rel=1e-6)
    coarse = Grid(crs="EPSG:32622", resolution=20.0, left=560000.0, top=7671000.0, height=100, width=100)
    assert scene_bytes(scenes, "nir", [coarse, grid]) == pytest.approx({name: 2 * size for name, size in found.items()})


def test_what_means_no_data_where_nobody_says() -> None:
    said = plain("a", assets={"nir": {"raster:bands": [{"nodata": 7}]}})
    assert (file_of(make_scenes(said)[0], "nir").nodata, file_of(make_scenes(plain())[0], "nir").nodata) == (7.0, None)
    assert file_of(make_scenes(plain())[0], "nir").usual_nodata == 0.0
    assert file_of(make_scenes(plain(platform="planetscope"))[0], "nir").usual_nodata is None


def test_recorded_items_are_placed_without_the_network(data_folder: Path) -> None:
    placed = {}
    for path in sorted((data_folder / "stac-items").glob("*.json")):
        document = json.loads(path.read_text())
        for item in document.get("features", [document])[:3]:
            try:
                scene = read_scene(item)
            except Skip:
                continue
            name = next((n for n in ("nir", "B08", "nir08", "B8") if n in scene.assets), "")
            if name and scene.assets[name].transform:
                placed[f"{path.stem}/{scene.id}"] = choose_grid((scene,), name)
    assert len(placed) >= 6
    assert all(grid.resolution in (10.0, 30.0) and 7000 < grid.width < 11000 for grid in placed.values())
    landsat = [grid for name, grid in placed.items() if "landsat" in name]
    assert landsat and all(grid.left % 30 == 15 for grid in landsat)


def test_real_scenes_keep_their_own_pixels(data_folder: Path) -> None:
    scenes = find_scenes(data_folder / "perito-moreno" / "collection.json", dates="2020-01")
    grid = choose_grid(scenes, "visual")
    assert grid == Grid(crs="EPSG:32718", resolution=10.0, left=623100.0, top=4409500.0, height=1231, width=1731)
    assert round(sum(scene_bytes(scenes, "visual", [grid]).values())) == len(scenes) * 1231 * 1731 * 2
