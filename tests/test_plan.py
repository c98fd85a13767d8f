"""A plan is decided beforehand, is the same for the same input, survives the round trip, and refuses what cannot be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import SHAPE, make_archive, make_workflow

from ftrack.batches import IMAGES
from ftrack.config import SceneSettings, Workflow
from ftrack.errors import Stop
from ftrack.forecast import LARGEST_SIDE, forecast, wave_side, worker_memory
from ftrack.grid import Grid
from ftrack.match import found_by
from ftrack.plan import Plan, describe, make_plan, read_plan, write_plan
from ftrack.refuse import refuse_oversize
from ftrack.scenes import find_scenes
from ftrack.tiling import BATCH, Tiling
from ftrack.workers import Workers

GRID = Grid(crs="EPSG:32622", resolution=10.0, left=500_000.0, top=7_700_000.0, height=5120, width=5120)


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def workflow(listing: Path, tmp_path: Path) -> Callable[..., Workflow]:
    return lambda **changes: make_workflow(listing, tmp_path / "cube.zarr", **changes)


def test_a_plan_counts_what_will_be_done(workflow: Callable[..., Workflow]) -> None:
    plan = make_plan(workflow())
    told = describe(plan)
    assert (told["scenes"], told["images"], told["pairs"]) == (4, 4, 5)
    assert told["grid"]["nodes"] == (SHAPE[0] // 8, SHAPE[1] // 8)
    assert (told["tiles"], told["batches"], told["blocks"]) == (6, 1, 6)
    assert told["vectors"] == 5 * 24 * 32
    assert told["bytes_to_read"] >= 4 * 2 * SHAPE[0] * SHAPE[1]
    assert told["memory"]["worker"] > told["memory"]["block"] > 4 * 4 * 96 * 96
    assert set(json.loads(json.dumps(told))) == set(told)
    assert len(plan.run_id) == 32


def test_reading_is_counted_without_halos_that_lie_off_the_scenes(workflow: Callable[..., Workflow]) -> None:
    plan = make_plan(workflow(run={"tile": 512}))
    assert len(plan.waves) == 1
    assert plan.bytes_to_read == 4 * 2 * SHAPE[0] * SHAPE[1]


def test_reading_is_counted_in_pixels_of_the_scenes_not_of_the_grid(workflow: Callable[..., Workflow]) -> None:
    plan = make_plan(workflow(run={"tile": 512}, grid={"resolution": 20.0}))
    assert plan.bytes_to_read == 4 * 2 * SHAPE[0] * SHAPE[1]


def test_the_same_input_gives_the_same_plan(workflow: Callable[..., Workflow], listing: Path) -> None:
    plan = make_plan(workflow())
    again = make_plan(workflow(), reversed(find_scenes(str(listing))))
    assert plan == again
    assert plan.run_id == again.run_id
    assert [block.id for block in plan.blocks] == [block.id for block in again.blocks]
    assert list(plan.pairs) == sorted(plan.pairs, key=lambda pair: pair.mid_date)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"cluster": {"threads": 1}}, True),
        ({"name": "another title"}, True),
        ({"matcher": {"search_radius": 6}}, False),
        ({"outliers": {"passes": 1}}, False),
        ({"pairs": {"max_days": 12}}, False),
        ({"run": {"tile": 72}}, False),
        ({"scenes": {"dates": "2021-06-01/2021-06-12"}}, False),
        ({"grid": {"bounds": [560000, 7668000, 562000, 7670000]}}, False),
    ],
)
def test_the_run_is_another_if_its_numbers_are(workflow: Callable[..., Workflow], changes: dict[str, Any], same: bool) -> None:
    assert (make_plan(workflow()).run_id == make_plan(workflow(**changes)).run_id) is same


def test_the_run_is_the_same_wherever_its_output_is(listing: Path, tmp_path: Path) -> None:
    ids = {make_plan(make_workflow(listing, tmp_path / name)).run_id for name in ("a.zarr", "b.zarr")}
    assert len(ids) == 1


def test_a_plan_survives_the_round_trip(workflow: Callable[..., Workflow]) -> None:
    plan = make_plan(workflow())
    text = write_plan(plan)
    again = read_plan(text)
    assert again == plan
    assert again.run_id == plan.run_id == json.loads(text)["run_id"]
    assert [scene.assets["nir"].href for scene in again.scenes] == [scene.assets["nir"].href for scene in plan.scenes]
    assert again.waves == plan.waves
    assert write_plan(again) == text


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": 99}'])
def test_what_is_not_a_plan_is_named(text: str) -> None:
    with pytest.raises(Stop, match=r"plan\.json"):
        read_plan(text)


def test_scenes_that_no_pair_needs_are_left_out(workflow: Callable[..., Workflow]) -> None:
    plan = make_plan(workflow(pairs={"min_days": 14, "max_days": 16}))
    assert [scene.id for scene in plan.scenes] == ["S2A_0", "S2A_3"]


def test_the_grid_starts_on_a_node_and_covers_the_area(workflow: Callable[..., Workflow]) -> None:
    plan = make_plan(workflow(grid={"bounds": [560123, 7668456, 562345, 7669321]}))
    inner, outer = (560123, 7668456, 562345, 7669321), plan.grid.bounds
    assert outer.left % 80 == 0 and outer.top % 80 == 0 and plan.grid.height % 8 == 0 and plan.grid.width % 8 == 0
    assert outer.left <= inner[0] < outer.left + 80 and outer.top - 80 < inner[3] <= outer.top
    assert outer.right - 80 < inner[2] <= outer.right and outer.bottom <= inner[1] < outer.bottom + 80
    assert plan.nodes.x[0] == outer.left and plan.nodes.y[0] == outer.top


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"pairs": {"min_days": 50, "max_days": 60}}, "pair"),
        ({"scenes": {"asset": "red"}}, "nir"),
        ({"scenes": {"area": [10, 10, 11, 11]}}, "no scene"),
        ({"scenes": {"dates": "1999"}}, "no scene"),
        ({"grid": {"bounds": [0, 0, 1000, 1000]}}, "off the scenes"),
        ({"matcher": {"chip_sizes": 300, "search_radius": 5}, "run": {"tile": 512}}, "chips of 300 px are larger than the 256 x 192 px"),
        ({"cluster": {"kind": "local", "workers": 1, "threads": 1, "memory": "300MB"}}, r"may use .*run\.tile smaller"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    workflow: Callable[..., Workflow], tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(Stop, match=text):
        make_plan(workflow(**changes))
    assert list(tmp_path.iterdir()) == []


def test_images_that_share_too_little_for_a_chip_are_refused(tmp_path: Path) -> None:
    listing = make_archive(tmp_path / "archive", days=(1, 6), apart=236)
    with pytest.raises(Stop, match="chips of 64 px are larger than the 20 x 192 px that the images of any pair have in common"):
        make_plan(make_workflow(listing, tmp_path / "cube.zarr", matcher={"chip_sizes": 64}, pairs={"min_overlap": 0}, run={"tile": 128}))


def test_stable_ground_that_cannot_be_read_is_refused(workflow: Callable[..., Workflow]) -> None:
    with pytest.raises(Stop, match="nowhere"):
        make_plan(workflow(stable={"area": "/nowhere.geojson"}))


def test_an_empty_list_of_scenes_is_refused(workflow: Callable[..., Workflow]) -> None:
    with pytest.raises(Stop, match="no scenes"):
        make_plan(workflow(), [])


def test_an_output_with_something_else_is_not_touched(workflow: Callable[..., Workflow], tmp_path: Path) -> None:
    folder = tmp_path / "cube.zarr"
    folder.mkdir()
    make_plan(workflow())
    (folder / "thesis.txt").write_text("three years of work")
    with pytest.raises(Stop, match=r"not a cube; choose another with --set output=PATH"):
        make_plan(workflow())
    shutil.rmtree(folder)
    (tmp_path / "cube.zarr.run").mkdir()
    (tmp_path / "cube.zarr.run" / "plan.json").write_text(json.dumps({"run_id": "other"}))
    with pytest.raises(Stop, match=r"unfinished cube of another plan \(other.*--set output=PATH"):
        make_plan(workflow())


def test_a_full_disk_is_refused(workflow: Callable[..., Workflow], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage("/"))(100, 99, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(Stop, match="has 1 B left"):
        make_plan(workflow())


def test_waves_are_as_large_as_memory_allows() -> None:
    tiling = Tiling(8, 640, 640, 64, 64)
    sides = [wave_side(tiling, images, (50, 6), Workers(2, 1, 4 * 2**30)) for images in (2, 20, 40, 200)]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == LARGEST_SIDE and sides[-1] == 1
    assert wave_side(tiling, 10, (50, 6), Workers(1, 1, 2**28)) < wave_side(tiling, 10, (50, 6), Workers(8, 1, 2**33))


def test_a_worker_of_two_gib_takes_a_batch_of_images_in_tiles_of_512_px() -> None:
    plan = Plan(workflow=Workflow(scenes=SceneSettings(catalog="items.json", asset="nir")), scenes=(), pairs=(), grid=GRID)
    tiling, around, small = Tiling(8, 640, 640, 64, BATCH), (plan.reach, plan.margin), Workers(1, 1, 2 * 2**30)
    stages = found_by(plan.workflow.matcher)
    side = wave_side(tiling, IMAGES, around, small, stages)
    refuse_oversize(forecast(tiling, IMAGES, side, around, stages), small)
    with pytest.raises(Stop, match="a worker needs"):
        refuse_oversize(forecast(tiling._replace(tile=256), IMAGES, 1, around, stages), small)


def test_a_wave_of_several_tiles_is_shared_by_the_workers() -> None:
    ahead = forecast(Tiling(8, 640, 640, 64, BATCH), IMAGES, 2, (60, 6))
    alone, shared = worker_memory(ahead, 1, 1), worker_memory(ahead, 4, 1)
    assert alone - shared == pytest.approx(0.75 * ahead.wave_memory, abs=1)
    assert worker_memory(ahead, 4, 2) - shared == ahead.block_memory


def test_memory_does_not_grow_with_the_area_or_the_years() -> None:
    small, large = Tiling(8, 200, 200, 64, BATCH), Tiling(8, 2000, 2000, 64, 100 * BATCH)
    memory = [forecast(tiling, 24, 1, (60, 6)).block_memory for tiling in (small, large)]
    assert memory[0] == memory[1]


def test_a_wide_search_takes_memory(workflow: Callable[..., Workflow]) -> None:
    narrow, wide = (make_plan(workflow(matcher={"search_radius": r}, run={"tile": 256})).forecast for r in (5, 64))
    assert wide.block_memory - narrow.block_memory > 32 * 24 * 129**2


def test_memory_does_not_grow_with_the_number_of_scenes(tmp_path: Path) -> None:
    plans = []
    for count in (70, 140):
        listing = make_archive(tmp_path / str(count), shape=(64, 64), days=tuple(range(1, count + 1)))
        plans.append(make_plan(make_workflow(listing, tmp_path / "cube.zarr", pairs={"min_days": 0.9, "max_days": 1.1})))
    assert [len(plan.scenes) for plan in plans] == [70, 140]
    assert [plan.forecast.images for plan in plans] == [IMAGES, IMAGES]
    assert plans[0].forecast.block_memory == plans[1].forecast.block_memory


def test_frozen_items_hold_no_signatures(workflow: Callable[..., Workflow], listing: Path, tmp_path: Path) -> None:
    items = json.loads(listing.read_text())
    for item in items["features"]:
        item["assets"]["nir"]["href"] = f"https://images.example.com/{item['id']}.tif?sig=SECRET"
    signed = tmp_path / "signed.json"
    signed.write_text(json.dumps(items))
    plan = make_plan(workflow(scenes={"catalog": str(signed)}))
    assert "SECRET" not in write_plan(plan)
    assert "https://images.example.com/S2A_0.tif" in write_plan(plan)
    assert not any("SECRET" in str(value) for value in plan.provenance.values())


def test_batches_hold_the_pairs_in_order(tmp_path: Path) -> None:
    listing = make_archive(tmp_path / "archive", shape=(128, 128), days=tuple(range(1, 16)))
    plan = make_plan(make_workflow(listing, tmp_path / "cube.zarr", matcher={"chip_sizes": 16}, pairs={"max_days": 30}))
    assert len(plan.pairs) == 105 and plan.tiling.batches == 2
    assert (*plan.pairs_of(0), *plan.pairs_of(1)) == plan.pairs
    named = {name for pair in plan.pairs_of(1) for name in (pair.reference, pair.secondary)}
    assert {scene.image_id for scene in plan.scenes_in(plan.pairs_of(1))} == named
    for batch in range(2):
        assert np.all(np.diff([pair.mid_date.timestamp() for pair in plan.pairs_of(batch)]) >= 0)


def test_memory_of_a_block_and_a_wave_holds_what_the_first_stage_finds() -> None:
    tiling = Tiling(8, 640, 640, 64, BATCH)
    one, two = (forecast(tiling, IMAGES, 2, (60, 6), found) for found in ((0, 0), (15, 20)))
    assert two.block_memory - one.block_memory == 15 * BATCH * 4 * (64 + 12 + 40) ** 2
    assert two.wave_memory - one.wave_memory == 15 * BATCH * 4 * (128 + 12 + 40) ** 2
    assert two.stored == one.stored
