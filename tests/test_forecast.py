"""Memory is predicted before anything starts: of a block, of waves, and of what workers fetch from each other."""

from __future__ import annotations

import pytest

from ftrack.batches import IMAGES
from ftrack.forecast import HELD, PROCESS, forecast, worker_memory
from ftrack.tiling import BATCH, Tiling

TILING = Tiling(8, 640, 640, 64, BATCH)
AROUND = (60, 6)


def test_memory_does_not_grow_with_the_area_or_the_years() -> None:
    small, large = Tiling(8, 200, 200, 64, BATCH), Tiling(8, 2000, 2000, 64, 100 * BATCH)
    memory = [forecast(tiling, 24, 1, AROUND).block_memory for tiling in (small, large)]
    assert memory[0] == memory[1]


def test_a_wave_of_several_tiles_is_shared_by_the_workers() -> None:
    ahead = forecast(TILING, IMAGES, 2, AROUND)
    alone, shared = worker_memory(ahead, 1, 1), worker_memory(ahead, 4, 1)
    assert alone == pytest.approx(PROCESS + ahead.block_memory + HELD * ahead.wave_memory, abs=1)
    assert shared == pytest.approx(PROCESS + ahead.block_memory + HELD * (ahead.wave_memory + 3 * ahead.tile_memory) / 4, abs=1)
    assert worker_memory(ahead, 4, 2) - shared == ahead.block_memory


def test_a_worker_that_measures_a_tile_holds_it_however_many_there_are() -> None:
    ahead = forecast(TILING, IMAGES, 2, AROUND)
    assert worker_memory(ahead, 1000, 1) > PROCESS + ahead.block_memory + 0.99 * HELD * ahead.tile_memory


def test_a_wave_of_one_task_reads_for_itself() -> None:
    for side, joined in ((1, 1), (2, 2), (3, 3)):
        ahead = forecast(TILING._replace(joined=joined), IMAGES, side, AROUND)
        assert (ahead.wave_memory, ahead.tile_memory, ahead.tiles) == (0, 0, 0)
        assert worker_memory(ahead, 2, 1) == PROCESS + ahead.block_memory


def test_tiles_that_are_measured_as_one_take_more_memory() -> None:
    one, two = (forecast(TILING._replace(joined=joined), IMAGES, 4, AROUND) for joined in (1, 2))
    assert two.block_memory > 2 * one.block_memory
    assert (one.tiles, two.tiles) == (16, 4)
    assert one.wave_memory == two.wave_memory


def test_memory_of_a_block_and_a_wave_holds_what_the_first_stage_finds() -> None:
    one, two = (forecast(TILING, IMAGES, 2, AROUND, found) for found in ((0, 0), (15, 20)))
    assert two.block_memory - one.block_memory == 15 * BATCH * 4 * (64 + 12 + 40) ** 2
    assert two.wave_memory - one.wave_memory == 15 * BATCH * 4 * (128 + 12 + 40) ** 2
    assert two.stored == one.stored


def test_what_was_measured_with_waves_of_four_tiles_is_predicted() -> None:
    """Two workers, 24 images, 64 pairs, chips of 32 and 64 px: 2191 MB were measured where 1788 had been predicted."""
    ahead = forecast(TILING, IMAGES, 2, (359, 10), (15, 36))
    assert 2191e6 < worker_memory(ahead, 2, 1) < 1.1 * 2191e6
