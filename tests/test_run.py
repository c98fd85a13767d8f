"""A run makes the same cube however it is cut, stopped and started again, and never takes a fault for a result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from dask.delayed import delayed
from distributed import Client, Worker
from moto.server import ThreadedMotoServer
from small_run import STEP, bytes_of, make_archive, make_workflow

from ftrack.cluster import open_client
from ftrack.config import ClusterSettings
from ftrack.console import show_run_report
from ftrack.cube import open_cube, read_block
from ftrack.errors import Stop
from ftrack.ground import find_shifts
from ftrack.match import clean, match_stack, prefilter
from ftrack.plan import Plan, make_plan
from ftrack.records import read_records
from ftrack.run import Event, Report, run_plan
from ftrack.schema import VELOCITY, Status
from ftrack.stack import open_stack
from ftrack.tasks import Job, match_tasks
from ftrack.tiling import Block, Wave
from ftrack.velocity import to_velocity
from ftrack.verify import verify_cube

NAMES = [variable.name for variable in VELOCITY]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with open_client(ClusterSettings(kind="threads", threads=2)) as opened:
        yield opened


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def rock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Polygon of stable ground: the western half."""
    path = tmp_path_factory.mktemp("rock") / "rock.geojson"
    ring = [[560000, 7670000], [561280, 7670000], [561280, 7667000], [560000, 7667000], [560000, 7670000]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32622"}}
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    return path


@pytest.fixture(scope="module")
def reference(listing: Path, rock: Path, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cube of a run that nothing disturbed."""
    output = tmp_path_factory.mktemp("reference") / "cube.zarr"
    report = run_plan(make_plan(make_workflow(listing, output, stable={"area": str(rock)})), client)
    assert report.published
    return output


def values_of(cube: Path) -> xr.Dataset:
    return open_cube(str(cube))[NAMES].load()


def test_the_cube_holds_the_motion(reference: Path) -> None:
    cube = open_cube(str(reference)).load()
    moving = cube.sel(x=slice(561300, None))
    kept = moving["status"] == Status.MEASURED
    assert float(kept.mean()) > 0.7
    assert {Status.OUTLIER, Status.FILLED} <= set(np.unique(cube["status"]).tolist())
    days = cube["date_dt"].values
    assert sorted(days) == [5, 5, 5, 10, 10]
    pixels = float(cube["scale_factor"].mean()) * days / 365.25 / 10
    steps = days / 5
    np.testing.assert_allclose(cube["vx_stable_shift"] * pixels, STEP[0] * steps, atol=0.02)
    np.testing.assert_allclose(cube["vy_stable_shift"] * pixels, -STEP[1] * steps, atol=0.02)
    left = np.hypot(moving["vx"], moving["vy"]).where(kept) * moving["date_dt"] / 365.25 / 10
    assert float(left.median()) < 0.05
    assert verify_cube(str(reference)).problems == ()


def test_a_run_gives_what_the_steps_give_by_hand(reference: Path, listing: Path, rock: Path, tmp_path: Path) -> None:
    plan = make_plan(make_workflow(listing, tmp_path / "cube.zarr", stable={"area": str(rock)}))
    workflow = plan.workflow
    around = plan.reach + 8 * plan.margin
    pad = -(-around // 8) * 8
    wide = plan.grid.window(slice(-pad, plan.grid.height + pad), slice(-pad, plan.grid.width + pad))
    stack = open_stack(plan.scenes, asset="nir", grid=wide, chunks=-1)
    motion = clean(match_stack(prefilter(stack, workflow.prefilter), plan.pairs, workflow.matcher), workflow.outliers, workflow.fill)
    inside = motion.sel(x=plan.nodes.x, y=plan.nodes.y).compute(scheduler="synchronous")
    by_hand = to_velocity(inside, *find_shifts(inside, workflow.stable))
    xr.testing.assert_identical(values_of(reference)[NAMES].drop_vars(["mapping", "spatial_ref"], errors="ignore").drop_attrs(),
                                by_hand[NAMES].drop_vars(["mapping", "spatial_ref"], errors="ignore").drop_attrs())  # fmt: skip


@pytest.mark.parametrize(("tile", "side"), [(64, 1), (512, 4)])
def test_tiles_and_waves_do_not_change_a_number(
    reference: Path, listing: Path, rock: Path, client: Client, tmp_path: Path, tile: int, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftrack.cutting.LARGEST_SIDE", side)
    plan = make_plan(make_workflow(listing, tmp_path / "cube.zarr", run={"tile": tile}, stable={"area": str(rock)}))
    assert max(max(wave.height, wave.width) for wave in plan.waves) <= side
    assert run_plan(plan, client).published
    xr.testing.assert_equal(values_of(tmp_path / "cube.zarr"), values_of(reference))


def test_tiles_that_are_measured_as_one_do_not_change_a_number(
    reference: Path, listing: Path, rock: Path, client: Client, tmp_path: Path
) -> None:
    made = make_plan(make_workflow(listing, tmp_path / "cube.zarr", run={"tile": 64}, stable={"area": str(rock)}))
    plan = replace(made, wave_side=3, joined=2)
    assert {(wave.height, wave.width) for wave in plan.waves} == {(2, 2), (1, 2)}
    assert len(plan.blocks) == 12
    assert run_plan(plan, client).published
    xr.testing.assert_equal(values_of(tmp_path / "cube.zarr"), values_of(reference))
    assert xr.open_zarr(tmp_path / "cube.zarr")["vx"].encoding["chunks"] == (64, 8, 8)


def test_a_node_at_the_edge_of_a_wave_sees_all_that_it_needs(
    listing: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(tile: int, side: int) -> xr.Dataset:
        monkeypatch.setattr("ftrack.cutting.LARGEST_SIDE", side)
        bare = {"outliers": {"passes": 0}, "fill": {"min_neighbours": 0}, "matcher": {"search_radius": 7}, "pairs": {"max_days": 5}}
        plan = make_plan(make_workflow(listing, tmp_path / f"{tile}.zarr", run={"tile": tile}, **bare))
        assert plan.margin == 0
        assert run_plan(plan, client).published
        return values_of(tmp_path / f"{tile}.zarr")

    xr.testing.assert_equal(measured(64, 1), measured(512, 1))


def test_images_in_memory_at_a_time_do_not_change_a_number(
    reference: Path, listing: Path, rock: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftrack.batches.IMAGES", 2)
    plan = make_plan(make_workflow(listing, tmp_path / "cube.zarr", stable={"area": str(rock)}))
    assert plan.forecast.images == 2
    assert run_plan(plan, client).published
    assert chunks_of(tmp_path / "cube.zarr") == chunks_of(reference)


def test_a_prior_reaches_motion_beyond_the_search(listing: Path, client: Client, tmp_path: Path) -> None:
    def measured(name: str, **changes: object) -> np.ndarray:
        narrow = {"kind": "ncc", "chip_sizes": [16], "spacing": 8, "search_radius": 1}
        workflow = make_workflow(listing, tmp_path / name, matcher=narrow, pairs={"min_days": 9, "max_days": 11}, **changes)
        assert run_plan(make_plan(workflow), client).published
        return np.asarray(values_of(tmp_path / name)["vx"].values)

    per_year = 365.25 / 5 * 10.0
    vx, vy = STEP[0] * per_year, -STEP[1] * per_year
    assert np.isfinite(measured("without.zarr")).mean() < 0.1
    found = measured("with.zarr", prior={"vx": vx, "vy": vy})
    assert np.isfinite(found).mean() > 0.5
    assert np.nanmedian(found) == pytest.approx(vx, rel=0.02)


def test_a_prior_that_varies_gives_the_same_cube_in_any_waves(
    listing: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_year = 365.25 / 5 * 10.0
    faster = np.linspace(0.0, 3.0, 512)[None, :] * np.ones((512, 1))
    for name, speed in (("vx", faster * per_year), ("vy", -faster.T * per_year)):
        form = {"driver": "GTiff", "width": 512, "height": 512, "count": 1, "dtype": "float32", "crs": "EPSG:32622"}
        with rasterio.open(tmp_path / f"{name}.tif", "w", transform=Affine(10.0, 0, 558720.0, 0, -10.0, 7671600.0), **form) as raster:
            raster.write(speed.astype(np.float32), 1)

    def measured(tile: int) -> xr.Dataset:
        monkeypatch.setattr("ftrack.cutting.LARGEST_SIDE", 1)
        prior = {"vx": str(tmp_path / "vx.tif"), "vy": str(tmp_path / "vy.tif")}
        workflow = make_workflow(listing, tmp_path / f"{tile}.zarr", run={"tile": tile}, prior=prior, pairs={"max_days": 5})
        assert run_plan(make_plan(workflow), client).published
        return values_of(tmp_path / f"{tile}.zarr")

    xr.testing.assert_equal(measured(64), measured(512))


def test_pairs_with_too_little_stable_ground_are_counted(
    listing: Path, rock: Path, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stable = {"area": str(rock), "min_nodes": 10**6}
    plan = make_plan(make_workflow(listing, tmp_path / "cube.zarr", stable=stable, pairs={"min_days": 14, "max_days": 16}))
    report = run_plan(plan, client)
    assert report.published and report.unshifted == len(plan.pairs) == 1
    show_run_report(report)
    assert "1 pair had too little stable ground" in " ".join(capsys.readouterr().err.split())
    assert "stable_shift_flag" in open_cube(tmp_path / "cube.zarr").attrs["misregistration"]


def test_a_finished_run_has_nothing_to_do(reference: Path, listing: Path, rock: Path, client: Client) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.parent.rglob("*") if path.is_file()}
    events: list[Event] = []
    plan = make_plan(make_workflow(listing, reference, stable={"area": str(rock)}))
    report = run_plan(plan, client, events.append)
    assert [event.kind for event in events] == ["unchanged"]
    assert report.published and report.resumed == report.blocks == 6 and report.measured > 0 and not report.failed
    assert {path: path.stat().st_mtime_ns for path in reference.parent.rglob("*") if path.is_file()} == before


def test_another_plan_does_not_touch_a_finished_cube(reference: Path, listing: Path, rock: Path, client: Client) -> None:
    before = bytes_of(reference)
    changed = make_workflow(listing, reference, stable={"area": str(rock)}, matcher={"search_radius": 4})
    with pytest.raises(Stop, match=r"finished cube of another run.*--set output=PATH"):
        make_plan(changed)
    elsewhere = make_plan(changed.model_copy(update={"output": str(reference.parent / "other.zarr")}))
    with pytest.raises(Stop, match="finished cube of another run"):
        run_plan(replace(elsewhere, workflow=changed), client)
    assert bytes_of(reference) == before


def test_progress_is_told_block_by_block(listing: Path, client: Client, tmp_path: Path) -> None:
    events: list[Event] = []
    plan = make_plan(make_workflow(listing, tmp_path / "cube.zarr"))
    report = run_plan(plan, client, events.append)
    for phase in ("match", "velocity"):
        told = [event for event in events if event.kind == "block" and event.phase == phase]
        assert [event.done for event in told] == list(range(1, 7))
        assert {event.total for event in told} == {6}
        assert all(event.rate > 0 for event in told)
        assert told[-1].seconds_left == 0
        assert {event.record.block for event in told if event.record} == {block.id for block in plan.blocks}
    assert events[-1].kind == "published"
    assert report.published and report.failed == () and report.resumed == 0


def test_the_next_wave_is_sent_before_the_last_one_has_ended(
    listing: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftrack.cutting.LARGEST_SIDE", 3)
    plan = make_plan(make_workflow(listing, tmp_path / "cube.zarr", run={"tile": 64}))
    made: list[int] = []
    told: list[tuple[int, int]] = []

    def tasks(plan: Plan, wave: Wave, jobs: Mapping[Block, Job]) -> dict[str, Any]:
        made.append(len(jobs))
        return match_tasks(plan, wave, jobs)

    monkeypatch.setattr("ftrack.run.match_tasks", tasks)
    assert run_plan(plan, client, lambda event: told.append((event.done, len(made)))).published
    assert [len(wave.blocks) for wave in plan.waves] == made == [6, 6]
    assert (1, 2) in told


def test_records_say_what_was_measured_and_only_what_is_needed_stays(reference: Path, listing: Path, rock: Path) -> None:
    plan = make_plan(make_workflow(listing, reference, stable={"area": str(rock)}))
    records = read_records(plan.folder, plan.run_id)
    assert len(records) == 2 * len(plan.blocks)
    measured = int((values_of(reference)["status"] == Status.MEASURED).sum())
    assert sum(sum(records["match", block.id].measured) for block in plan.blocks) == measured
    assert sorted(path.name for path in Path(plan.folder).iterdir()) == ["blocks", "plan.json", "shifts"]
    assert all(path.stat().st_size < 2000 for path in Path(plan.folder, "blocks").iterdir())


def test_displacement_in_pixels_is_kept_if_asked_for(reference: Path, listing: Path, rock: Path, client: Client, tmp_path: Path) -> None:
    output = tmp_path / "cube.zarr"
    workflow = make_workflow(listing, output, stable={"area": str(rock)}, run={"keep_motion": True})
    plan = make_plan(workflow)
    assert run_plan(plan, client).run_id == make_plan(make_workflow(listing, reference, stable={"area": str(rock)})).run_id
    dx = read_block(f"{plan.folder}/motion", ["dx"], (slice(0, 5), slice(0, 24), slice(0, 32)))["dx"]
    pixels = plan.pairs[0].temporal_baseline / 5 * STEP[0]
    assert np.nanmedian(dx[0]) == pytest.approx(pixels, abs=0.05)
    run_plan(plan, client)
    assert Path(plan.folder, "motion").exists()


def test_ground_without_images_is_empty_which_is_a_result(listing: Path, client: Client, tmp_path: Path) -> None:
    wide = {"bounds": [559000, 7668000, 561000, 7670000]}
    report = run_plan(make_plan(make_workflow(listing, tmp_path / "cube.zarr", grid=wide)), client)
    assert report.published and 0 < report.empty < report.blocks
    status = open_cube(str(tmp_path / "cube.zarr"))["status"].sel(x=slice(None, 559800)).load()
    assert bool((status == Status.NO_DATA).all())
    assert verify_cube(str(tmp_path / "cube.zarr")).problems == ()


@pytest.mark.parametrize("damage", ["a corner", "all of it"])
def test_an_unreadable_scene_costs_its_own_pairs_and_is_taken_up_when_it_is_repaired(
    rock: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr("ftrack.rasters.FIRST_WAIT", 0.001)
    listing = make_archive(tmp_path / "archive")
    near = {"matcher": {"subpixel": "parabola"}, "stable": {"area": str(rock)}}
    run_plan(make_plan(make_workflow(listing, tmp_path / "whole.zarr", **near)), client)
    damaged = tmp_path / "archive" / "image_2.tif"
    good = damaged.read_bytes()
    with rasterio.open(damaged) as image:
        start, size = (int(image.get_tag_item(f"BLOCK_{name}_3_2", "TIFF", bidx=1)) for name in ("OFFSET", "SIZE"))
    damaged.write_bytes(good[:start] + bytes(size) + good[start + size :] if damage == "a corner" else b"")
    plan = make_plan(make_workflow(listing, tmp_path / "cube.zarr", **near))
    events: list[Event] = []
    report = run_plan(plan, client, events.append)
    assert not report.published
    assert 0 < len(report.failed) <= report.blocks
    assert (len(report.failed) < report.blocks) is (damage == "a corner")
    image = next(scene.image_id for scene in plan.scenes if scene.id == "S2A_2")
    without = {number for number, pair in enumerate(plan.pairs) if image not in (pair.reference, pair.secondary)}
    for record in report.failed:
        assert record.scene == "S2A_2" and "image_2.tif" in record.reason
        assert set(record.lost) == set(range(len(plan.pairs))) - without
        assert {number for number, count in enumerate(record.measured) if count} <= without
    assert sum(sum(record.measured) for record in report.failed) > 0
    assert any("S2A_2" in event.message for event in events)
    assert [event.done for event in events if event.phase == "match"][-1] == report.blocks - len(report.failed)
    with pytest.raises(Stop, match="not a published cube"):
        open_cube(str(tmp_path / "cube.zarr"))

    still = run_plan(make_plan(plan.workflow), client)
    assert not still.published and {record.block: record.lost for record in still.failed} == {r.block: r.lost for r in report.failed}
    damaged.write_bytes(good)
    again = run_plan(make_plan(plan.workflow), client)
    assert again.published and again.failed == ()
    assert again.resumed == report.blocks - len(report.failed)
    assert chunks_of(tmp_path / "cube.zarr") == chunks_of(tmp_path / "whole.zarr")


def chunks_of(cube: Path) -> dict[str, str]:
    return {name: value for name, value in bytes_of(cube).items() if not name.endswith("zarr.json")}


def interrupt_at(phase: str, number: int) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if event.kind == "block" and event.phase == phase and event.done >= number:
            raise KeyboardInterrupt

    return listen


def executing(dask_worker: Worker) -> int:
    return len(dask_worker.state.executing)


def rest(client: Client) -> None:
    """Wait until nothing is under way: what a thread has begun goes on when it is cancelled, and still writes."""
    deadline = time.monotonic() + 120
    while any(client.processing().values()) or any(client.run(executing).values()):
        assert time.monotonic() < deadline, "the workers do not come to rest"
        time.sleep(0.05)


def test_an_interrupted_run_goes_on_and_reads_no_image_for_what_is_measured(
    reference: Path, rock: Path, client: Client, tmp_path: Path
) -> None:
    listing = make_archive(tmp_path / "archive")
    plan = make_plan(make_workflow(listing, tmp_path / "cube.zarr", stable={"area": str(rock)}))

    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, client, interrupt_at("match", 2))
    rest(client)
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan, client, interrupt_at("velocity", 3))
    rest(client)
    for image in (tmp_path / "archive").glob("*.tif"):
        image.unlink()
    report = run_plan(plan, client)
    assert report.published and report.resumed == 6
    assert chunks_of(tmp_path / "cube.zarr") == chunks_of(reference)


def test_a_cube_in_an_object_store_is_the_same(
    reference: Path, listing: Path, rock: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    try:
        given = {
            "ACCESS_KEY_ID": "key",
            "SECRET_ACCESS_KEY": "secret",
            "ENDPOINT_URL": f"http://{host}:{port}",
            "DEFAULT_REGION": "us-east-1",
        }
        for name, value in given.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        boto3.client("s3").create_bucket(Bucket="runs")
        plan = make_plan(make_workflow(listing, "s3://runs/small/cube.zarr", stable={"area": str(rock)}))
        with pytest.raises(KeyboardInterrupt):
            run_plan(plan, client, interrupt_at("match", 2))
        assert run_plan(make_plan(plan.workflow), client).published
        xr.testing.assert_equal(open_cube("s3://runs/small/cube.zarr")[NAMES].load(), values_of(reference))
        kept = boto3.client("s3").list_objects_v2(Bucket="runs", Prefix="small/cube.zarr.run/")["Contents"]
        assert not [entry["Key"] for entry in kept if "/motion/" in entry["Key"]]
        assert verify_cube("s3://runs/small/cube.zarr").problems == ()
    finally:
        server.stop()


DRIVER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from small_run import make_workflow
from ftrack.cluster import open_client
from ftrack.plan import Plan, make_plan
from ftrack.run import run_plan
if __name__ == "__main__":
    plan = make_plan(make_workflow(Path({listing!r}), {output!r}, stable={{"area": {rock!r}}}))
    with open_client(plan.workflow.cluster) as client:
        run_plan(plan, client, lambda event: print(event.kind, event.phase, event.done, flush=True))
"""


def test_killing_the_driver_changes_no_byte(reference: Path, listing: Path, rock: Path, client: Client, tmp_path: Path) -> None:
    output = tmp_path / "cube.zarr"
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(tests=str(Path(__file__).parent), listing=str(listing), output=str(output), rock=str(rock)))
    for last in ("block match 2", "block velocity 2"):
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout is not None
            for line in driver.stdout:
                if line.startswith((last, "published")):
                    break
            os.kill(driver.pid, signal.SIGKILL)
        with pytest.raises(Stop):
            open_cube(str(output))
    begun = time.monotonic()
    plan = make_plan(make_workflow(listing, output, stable={"area": str(rock)}))
    report = run_plan(plan, client)
    assert report.published and report.resumed == 6
    assert time.monotonic() - begun < 60
    assert chunks_of(output) == chunks_of(reference)
    assert verify_cube(str(output)).problems == ()


def test_two_runs_of_one_plan_at_once_make_one_cube(reference: Path, listing: Path, rock: Path, client: Client, tmp_path: Path) -> None:
    """The second run starts when the first has measured two blocks, and the first goes on when the second has published."""
    output = tmp_path / "cube.zarr"
    plan = make_plan(make_workflow(listing, output, stable={"area": str(rock)}))
    second: list[Report] = []
    told: list[Event] = []

    def listen(event: Event) -> None:
        told.append(event)
        if event.kind == "block" and event.done == 2 and not second:
            second.append(run_plan(plan, client))

    first = run_plan(plan, client, listen)
    assert second[0].published and first.published and first.failed == () == second[0].failed
    assert told[-1].kind == "unchanged" and "another run" in told[-1].message
    assert bytes_of(output) == bytes_of(reference)
    assert not Path(plan.folder, "motion").exists()
    assert all(record.done for record in read_records(plan.folder, plan.run_id).values())


def test_a_block_that_kills_its_workers_fails_alone(listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(make_workflow(listing, tmp_path / "cube.zarr", cluster={"kind": "local", "workers": 1, "memory": "2GB"}))
    monkeypatch.setattr("ftrack.run.match_tasks", poisoned("0-1-1"))
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), open_client(plan.workflow.cluster) as processes:
        report = run_plan(plan, processes)
    (failed,) = report.failed
    assert not report.published and failed.block == "0-1-1"
    assert failed.attempts == 4 and "workers died" in failed.reason and failed.lost == ()
    records = read_records(plan.folder, plan.run_id)
    assert sum(record.done for record in records.values() if record.phase == "match") == report.blocks - 1


def poisoned(block: str) -> Callable[..., dict[str, Any]]:
    """Return ``match_tasks`` with one block that ends its process."""

    def tasks(plan: Plan, wave: Wave, jobs: Mapping[Block, Job]) -> dict[str, Any]:
        made = match_tasks(plan, wave, jobs)
        return {name: delayed(os._exit)(1) if name == block else task for name, task in made.items()}

    return tasks
