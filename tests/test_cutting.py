"""A run is cut into waves and tasks as large as memory allows, and no larger than keeps all workers busy."""

from __future__ import annotations

import pytest

from ftrack.batches import IMAGES
from ftrack.config import SceneSettings, Workflow
from ftrack.cutting import JOINED, LARGEST_SIDE, WIDEST, Cut, Grouping, Needs, choose_cut, effort
from ftrack.errors import Stop
from ftrack.forecast import SHARE, forecast, worker_memory
from ftrack.grid import Grid
from ftrack.plan import Plan
from ftrack.refuse import refuse_oversize
from ftrack.tiling import BATCH, Tiling
from ftrack.workers import Workers

GIB = 2**30
GRID = Grid(crs="EPSG:32622", resolution=10.0, left=500_000.0, top=7_700_000.0, height=5120, width=5120)
TILING = Tiling(8, 640, 640, 64, BATCH)
NEEDS = Needs(50, 6)
USUAL = Plan(workflow=Workflow(scenes=SceneSettings(catalog="items.json", asset="nir")), scenes=(), pairs=(), grid=GRID).needs
"""What the matcher and the cleaning need with the settings that hold if nothing is said."""
GROUPINGS = (Grouping(24, 24, 24), Grouping(12, 12, 30), Grouping(6, 6, 48))


def memory_of(tiling: Tiling, grouping: Grouping, cut: Cut, workers: Workers) -> int:
    ahead = forecast(tiling._replace(joined=cut.joined), grouping.images, cut.side, USUAL[:2], USUAL.found)
    return worker_memory(ahead, workers.number, workers.threads)


def test_waves_are_as_large_as_memory_allows() -> None:
    sides = [choose_cut(TILING, [Grouping(n, n, n)], NEEDS, Workers(2, 1, 4 * GIB)).side for n in (2, 20, 40, 200)]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == LARGEST_SIDE and sides[-1] == 1
    ten = [Grouping(10, 10, 10)]
    assert choose_cut(TILING, ten, NEEDS, Workers(1, 1, 2**28)).side < choose_cut(TILING, ten, NEEDS, Workers(8, 1, 8 * GIB)).side


@pytest.mark.parametrize("workers", [Workers(1, 1, 2 * GIB), Workers(2, 1, 3 * GIB), Workers(4, 1, 4 * GIB), Workers(8, 2, 16 * GIB)])
def test_what_is_chosen_fits_into_the_memory_of_a_worker(workers: Workers) -> None:
    cut = choose_cut(TILING, GROUPINGS, USUAL, workers)
    (grouping,) = (each for each in GROUPINGS if each.limit == cut.limit)
    assert memory_of(TILING, grouping, cut, workers) <= SHARE * workers.memory


def test_tiles_are_measured_as_one_as_far_as_a_task_stays_small() -> None:
    wide = Workers(2, 1, 12 * GIB)
    assert choose_cut(TILING, GROUPINGS, USUAL, wide).joined * TILING.tile * TILING.spacing == WIDEST
    assert choose_cut(TILING._replace(tile=16), GROUPINGS, USUAL, wide).joined == JOINED
    assert choose_cut(TILING._replace(tile=128), GROUPINGS, USUAL, wide).joined == 1
    assert choose_cut(TILING._replace(tile=256), GROUPINGS, USUAL, wide).joined == 1


def test_a_small_run_is_cut_so_that_every_worker_has_something_to_do() -> None:
    small, memory = Tiling(8, 128, 128, 64, 5), 12 * GIB
    assert choose_cut(small, GROUPINGS, USUAL, Workers(1, 1, memory)).joined == 2
    assert choose_cut(small, GROUPINGS, USUAL, Workers(4, 1, memory)).joined == 1


def test_fewer_images_are_in_memory_where_larger_tiles_then_fit() -> None:
    limits = [choose_cut(TILING, GROUPINGS, USUAL, workers).limit for workers in (Workers(1, 1, 2 * GIB), Workers(8, 1, 8 * GIB))]
    assert limits[0] < limits[1] == IMAGES


def test_wider_margins_take_longer() -> None:
    workers = Workers(1, 1, GIB)
    times = [effort(TILING, GROUPINGS[0], 1, NEEDS._replace(found=(15, spread)), workers) for spread in (0, 13, 36)]
    assert times == sorted(times)
    assert times[2] > 2 * times[0]


def test_a_worker_of_two_gib_takes_a_batch_of_images_in_tiles_of_512_px() -> None:
    small = Workers(1, 1, 2 * GIB)
    cut = choose_cut(TILING, [Grouping(IMAGES, IMAGES, IMAGES)], USUAL, small)
    ahead = forecast(TILING._replace(joined=cut.joined), IMAGES, cut.side, USUAL[:2], USUAL.found)
    refuse_oversize(ahead, small)
    with pytest.raises(Stop, match="a worker needs"):
        refuse_oversize(forecast(TILING._replace(tile=256), IMAGES, 1, USUAL[:2], USUAL.found), small)
