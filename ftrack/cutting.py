"""How a run is cut: as large waves and tasks as its workers have memory for, since what lies around them is worked on twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ftrack.forecast import SHARE, forecast, worker_memory
from ftrack.tiling import BATCH, Tiling
from ftrack.workers import Workers

LARGEST_SIDE = 4
"""Tiles along the side of a wave, at the most."""

JOINED, WIDEST = 2, 1024
"""Tiles, and pixels, along the side of what a task measures, at the most, where it takes several tiles together."""

MOST = 6 * 2**30
"""Bytes of a worker that are planned with at the most, however large it is."""

REFINE, READ = 0.2, 0.03
"""Time in which a vector is refined, and a pixel is read and filtered, over that in which a node is searched."""


class Grouping(NamedTuple):
    """What comes of a limit of the images that are in memory together: how many there are then, and how many a batch reads."""

    limit: int
    images: int
    read: float


class Cut(NamedTuple):
    """The limit of images in memory together, and the tiles along the side of a wave and of a task, at the most."""

    limit: int
    side: int
    joined: int


class Needs(NamedTuple):
    """What is needed around a node: pixels, nodes of cleaning, and what the first stage of a matcher gives (``match.found_by``)."""

    reach: int
    margin: int
    found: tuple[int, int] = (0, 0)


def choose_cut(tiling: Tiling, groupings: Sequence[Grouping], needs: Needs, workers: Workers) -> Cut:
    """Return the cut with which a run takes least time, among those that fit into the memory of the workers.

    Groupings are tried in turn, the one of most images first, until one leaves room for several tiles: with fewer images some are read
    more than once in a wave. If nothing fits, it is the cut that needs least.
    """
    most = max(1, min(JOINED, WIDEST // (tiling.tile * tiling.spacing)))
    shapes = [(side, joined) for side in range(1, LARGEST_SIDE + 1) for joined in range(1, min(side, most) + 1)]
    room = min(SHARE * workers.memory, MOST * workers.threads)
    fit: list[tuple[float, Cut]] = []
    for grouping in groupings:
        for side, joined in shapes:
            cut = tiling._replace(joined=joined)
            ahead = forecast(cut, grouping.images, side, needs[:2], needs.found)
            if worker_memory(ahead, workers.number, workers.threads) <= room:
                fit.append((effort(cut, grouping, side, needs, workers), Cut(grouping.limit, side, joined)))
        if any(cut.side > 1 for _, cut in fit):
            break
    return min(fit, default=(0.0, Cut(groupings[-1].limit, 1, 1)))[1]


class _Axis(NamedTuple):
    """What is done along an axis, with all that lies around waves and tasks: nodes searched and refined, pixels read, nodes of a task."""

    searched: int
    refined: int
    read: int
    task: int


def effort(tiling: Tiling, grouping: Grouping, side: int, needs: Needs, workers: Workers) -> float:
    """Return about how long a run takes, in the time that searching one node for one pair takes."""
    y, x = (_along(tiling, nodes, side, needs) for nodes in (tiling.rows, tiling.columns))
    pairs, threads = min(BATCH, tiling.pairs), workers.number * workers.threads
    batch = pairs * (y.searched * x.searched + REFINE * y.refined * x.refined) + READ * grouping.read * y.read * x.read
    largest = batch * y.task * x.task / (tiling.rows * tiling.columns)
    # Graham (1969): the longest that tasks take whatever the order in which they are taken up.
    return (tiling.batches - tiling.first_batch) * batch / threads + (1 - 1 / threads) * largest


def _along(tiling: Tiling, nodes: int, side: int, needs: Needs) -> _Axis:
    tasks = -(-nodes // (tiling.joined * tiling.tile))
    waves = -(-tasks // max(1, side // tiling.joined))
    outer, spread = nodes + 2 * waves * needs.margin, needs.found[1]
    return _Axis(
        searched=outer + 2 * waves * spread,
        refined=outer + 2 * tasks * spread,
        read=tiling.spacing * outer + 2 * waves * needs.reach,
        task=min(nodes, tiling.joined * tiling.tile),
    )
