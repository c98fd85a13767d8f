"""A plan is decided beforehand, is the same for the same input, survives the round trip, and refuses what cannot be."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import SHAPE, make_archive, make_workflow

from ftrack.batches import IMAGES
from ftrack.config import Workflow
from ftrack.errors import Stop
from ftrack.jobfiles import Beat, Submission, write_beat, write_submission
from ftrack.plan import describe, make_plan, read_plan, write_plan
from ftrack.records import refuse_replaced
from ftrack.refuse import write_plan_of
from ftrack.scenes import find_scenes
from ftrack.stable import StableSettings


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


def test_a_run_without_stable_ground_is_warned_of_what_stays_in_its_velocities(workflow: Callable[..., Workflow]) -> None:
    plan = make_plan(workflow())
    (warning,) = describe(plan)["warnings"]
    assert "no stable ground is given" in warning and "0.1 px is 73 m/yr in 5 days" in warning and "stable.area" in warning
    assert plan.provenance["misregistration"] == "not known, not taken off"
    known = replace(plan, workflow=plan.workflow.model_copy(update={"stable": StableSettings(reference=("speed.tif",))}))
    assert known.warnings == () and "stable_shift_flag" in known.provenance["misregistration"]


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
    (tmp_path / "cube.zarr.run" / "blocks").mkdir(parents=True)
    (tmp_path / "cube.zarr.run" / "plan.json").write_text(json.dumps({"run_id": "other"}))
    with pytest.raises(Stop, match=r"unfinished cube of another plan \(other.*--set output=PATH"):
        make_plan(workflow())


def test_a_plan_of_which_nothing_was_made_does_not_stand_in_the_way(workflow: Callable[..., Workflow], tmp_path: Path) -> None:
    folder = tmp_path / "cube.zarr.run"
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps({"run_id": "other"}))
    assert make_plan(workflow()).run_id != "other"
    job = Submission(id="1", run_id="other", name="", output=str(tmp_path / "cube.zarr"), cluster={}, submitted="2020-01-01T00:00:00+00:00")
    write_submission(str(folder), job)
    with pytest.raises(Stop, match=r"a job of another plan \(other.* waits to begin, and will write to .*stop it with: ftrack cancel"):
        make_plan(workflow())
    write_beat(str(folder), Beat(driver="1", submission="1", time=time.time(), state="running"))
    with pytest.raises(Stop, match=r"is under way, and will write to"):
        make_plan(workflow())
    write_beat(str(folder), Beat(driver="1", submission="1", time=time.time(), state="failed"))
    assert make_plan(workflow()).run_id != "other"
    (tmp_path / "cube.zarr").mkdir()
    (tmp_path / "cube.zarr" / "vx").write_text("begun")
    with pytest.raises(Stop, match="unfinished cube of another plan"):
        make_plan(workflow())


def test_arrays_without_blocks_stand_in_the_way_unless_a_job_that_is_dead_made_them(
    workflow: Callable[..., Workflow], tmp_path: Path
) -> None:
    output, folder = tmp_path / "cube.zarr", tmp_path / "cube.zarr.run"
    for array in ("cube.zarr/vx", "cube.zarr/mid_date", "cube.zarr.run/motion/dx"):
        (tmp_path / array).mkdir(parents=True)
        (tmp_path / array / "zarr.json").write_text("{}")
    (output / "vx" / "zarr.0a1b.partial").write_text("{")
    (folder / "plan.json").write_text(json.dumps({"run_id": "other"}))
    with pytest.raises(Stop, match="unfinished cube of another plan"):
        make_plan(workflow())
    job = Submission(id="1", run_id="other", name="", output=str(output), cluster={}, submitted="2020-01-01T00:00:00+00:00")
    write_submission(str(folder), job)
    write_beat(str(folder), Beat(driver="1", submission="1", time=time.time(), state="running"))
    with pytest.raises(Stop, match=r"is under way, and will write to"):
        make_plan(workflow())
    write_beat(str(folder), Beat(driver="1", submission="1", time=time.time(), state="failed"))
    assert make_plan(workflow()).run_id != "other"
    for kept in ("cube.zarr/vx/c/0/0/0", "cube.zarr/notes.txt", "cube.zarr.run/blocks/match-0-0-0.json", "cube.zarr/y/data/notes.txt"):
        (tmp_path / kept).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / kept).write_text("kept")
        with pytest.raises(Stop, match="unfinished cube of another plan"):
            write_plan_of(str(output), str(folder), "new", "{}")
        (tmp_path / kept).unlink()
        shutil.rmtree(folder / "blocks", ignore_errors=True)
    write_plan_of(str(output), str(folder), "new", json.dumps({"run_id": "new"}))
    assert not list(output.iterdir()) and sorted(path.name for path in folder.iterdir()) == [
        "heartbeat.json", "job.json", "plan.json", "replaced",
    ]  # fmt: skip
    with pytest.raises(Stop, match="another run has taken the place of this one"):
        refuse_replaced(str(folder), "other")
    refuse_replaced(str(folder), "new")


def test_a_full_disk_is_refused(workflow: Callable[..., Workflow], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage("/"))(100, 99, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(Stop, match="has 1 B left"):
        make_plan(workflow())


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


def test_plans_of_earlier_versions_are_read(workflow: Callable[..., Workflow]) -> None:
    values = json.loads(write_plan(make_plan(workflow())))
    del values["joined"], values["images"]
    old = read_plan(json.dumps(values))
    assert (old.joined, old.images) == (1, IMAGES)


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
