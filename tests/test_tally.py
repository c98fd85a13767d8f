"""What is done of a run is counted once, whatever the order and number of its records."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from ftrack.append import Part
from ftrack.config import SceneSettings, Workflow
from ftrack.grid import Grid
from ftrack.pairs import Pair
from ftrack.plan import Plan
from ftrack.records import Record
from ftrack.tally import Tally

START = datetime(2020, 1, 1, tzinfo=UTC)
PAIRS = tuple(
    Pair(reference=f"i{k}", secondary=f"i{k + 1}", reference_time=START + timedelta(days=k), secondary_time=START + timedelta(days=k + 1))
    for k in range(70)
)
PLAN = Plan(
    workflow=Workflow(scenes=SceneSettings(catalog="items.json", asset="nir")),
    scenes=(),
    pairs=PAIRS,
    grid=Grid(crs="EPSG:32622", resolution=10.0, left=0.0, top=0.0, height=512, width=1024),
)


def record(block: str, count: int, **changes: object) -> Record:
    return replace(
        Record(phase="match", block=block, run_id="r", status="ok", measured=(count,) * (64 if block[0] == "0" else 6)), **changes
    )


def test_a_block_that_is_done_is_counted_once() -> None:
    tally = Tally(PLAN, [record("0-0-0", 3), record("0-0-1", 4), record("0-0-1", 4), record("1-0-0", 0, status="empty")])
    assert [tally.has("match", block) for block in PLAN.blocks] == [True, True, True, False]
    assert not any(tally.has("velocity", block) for block in PLAN.blocks)
    np.testing.assert_array_equal(tally.measured, [7] * 64 + [0] * 6)
    assert tally.empty == 1 and not tally.failed
    tally.add(record("0-0-0", 9, phase="velocity"))
    assert tally.measured.sum() == 7 * 64 and tally.has("velocity", PLAN.blocks[0])


def test_a_failure_lasts_until_the_block_is_done() -> None:
    block, failed = PLAN.blocks[0], record("0-0-0", 2, status="failed", lost=(1,))
    tally = Tally(PLAN, [failed])
    assert tally.record_of("match", block) == failed and not tally.has("match", block) and tally.measured.sum() == 0
    tally.add(record("0-0-0", 2))
    assert tally.record_of("match", block) is None and tally.has("match", block)
    tally.add(failed)
    assert tally.record_of("match", block) is None


def test_pairs_of_an_appended_part_are_counted_from_its_first() -> None:
    tally = Tally(replace(PLAN, earlier=(Part("r0", 40),)), [replace(record("1-0-0", 5), measured=(5,) * 30)])
    np.testing.assert_array_equal(tally.measured, [5] * 30)
