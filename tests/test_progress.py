"""How far tiles are is told from the records of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from small_run import STEP, make_archive, make_workflow

import ftrack as ft
from ftrack.progress import plan_of, progress_of, sketch_of
from ftrack.records import Record, write_record


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> ft.Plan:
    """Return the plan of a run that is finished, and has kept its displacement."""
    folder = tmp_path_factory.mktemp("progress")
    workflow = make_workflow(make_archive(folder / "archive"), folder / "velocity.zarr", run={"keep_motion": True})
    plan = ft.make_plan(workflow)
    with ft.open_client(workflow.cluster) as client:
        assert ft.run_plan(plan, client).failed == ()
    return plan


def test_every_tile_of_a_finished_run_is_whole_and_lies_in_its_place(finished: ft.Plan) -> None:
    tiles = progress_of(finished)
    assert len(tiles) == finished.tiling.tile_rows * finished.tiling.tile_columns > 1
    assert all(tile.whole and not tile.failed for tile in tiles)
    around = shapely.union_all([scene.footprint for scene in finished.scenes]).buffer(0.002)
    assert shapely.union_all([tile.outline for tile in tiles]).within(around)
    assert sum(a.outline.buffer(-1e-6).overlaps(b.outline) for a in tiles for b in tiles if a is not b) == 0


def test_what_has_not_been_measured_or_failed_is_told(finished: ft.Plan, tmp_path: Path) -> None:
    elsewhere = ft.make_plan(finished.workflow.model_copy(update={"output": str(tmp_path / "other.zarr")}), finished.scenes)
    assert [tile.done for tile in progress_of(elsewhere)] == [0] * len(progress_of(finished))
    write_record(elsewhere.folder, Record(phase="match", block=elsewhere.blocks[0].id, run_id=elsewhere.run_id, status="ok"))
    write_record(elsewhere.folder, Record(phase="match", block=elsewhere.blocks[1].id, run_id=elsewhere.run_id, status="failed"))
    first, second, *others = progress_of(elsewhere)
    assert first.whole and second.failed == 1 and not second.whole
    assert not any(tile.done or tile.failed for tile in others)
    assert sketch_of(elsewhere, 0, 0) is None
    assert plan_of(str(tmp_path / "none.zarr.run")) is None


def test_a_sketch_shows_the_speed_of_a_tile(finished: ft.Plan) -> None:
    sketch = sketch_of(finished, 0, 0, side=4)
    assert sketch is not None and 1 < len(sketch.cells) <= 16
    assert np.median(sketch.speed) == pytest.approx(np.hypot(*STEP) * 10 / 5 * 365.25, rel=0.1)
    tile = progress_of(finished)[0]
    assert shapely.union_all(sketch.cells).within(tile.outline.buffer(1e-6))
