"""What a wave reads, and that its results come in the order of its pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rasterio.windows import Window
from small_run import make_archive, make_workflow

from ftrack.cube import create_motion
from ftrack.errors import Stop
from ftrack.plan import Plan, make_plan
from ftrack.reader import ExactWarpReader
from ftrack.records import keys_in, mark_replaced, motion_of
from ftrack.run import spec_of
from ftrack.tasks import finish_match, job_of, measure_wave

DAYS = (1, 4, 6, 9, 11, 14)
"""Two orbits take turns."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("archive")
    return make_plan(make_workflow(make_archive(folder, shape=(192, 192), days=DAYS), folder / "cube.zarr"))


def test_every_image_is_read_once_in_a_wave(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[tuple[str, int, int]] = []

    read = ExactWarpReader.read

    def count(reader: ExactWarpReader, window: Window) -> np.ndarray:
        windows.append((reader.image.layers[0].file.scene, int(window.height), int(window.width)))
        return read(reader, window)

    monkeypatch.setattr(ExactWarpReader, "read", count)
    (wave,) = plan.waves
    assert (wave.height, wave.width) == (2, 2)
    measure_wave(plan, wave, range(len(plan.pairs))).compute(scheduler="synchronous")
    assert sorted(name for name, _, _ in windows) == [scene.id for scene in plan.scenes]
    assert min(min(size) for _, *size in windows) > 192


def test_groups_of_images_come_back_in_the_order_of_the_pairs(plan: Plan) -> None:
    numbers = (7, 2, 5, 0)
    whole = measure_wave(plan, plan.waves[0], numbers).compute(scheduler="synchronous")
    few = measure_wave(replace(plan, images=3), plan.waves[0], numbers).compute(scheduler="synchronous")
    one = measure_wave(plan, plan.waves[0], numbers[1:2]).compute(scheduler="synchronous")
    np.testing.assert_array_equal(few, whole)
    np.testing.assert_array_equal(one[:, 0], whole[:, 1])


def test_a_worker_that_a_replaced_run_has_left_writes_nothing(plan: Plan) -> None:
    motion = motion_of(plan.folder, 0)
    create_motion(motion, spec_of(plan))
    job, before = job_of(plan, plan.blocks[0]), sorted(keys_in(motion))
    sizes = (part.stop - part.start for part in job.region)
    values = np.zeros((8, *sizes), np.float32)
    mark_replaced(plan.folder, plan.run_id, "another")
    with pytest.raises(Stop, match="another run has taken the place of this one"):
        finish_match(job, values)
    assert sorted(keys_in(motion)) == before
    mark_replaced(plan.folder, "another", plan.run_id)
    assert finish_match(job, values).done and len(keys_in(motion)) > len(before)
