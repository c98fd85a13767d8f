"""Which pairs are measured together: batches and groups of pairs that share images, so that these are seldom read twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ftrack.labels import unique_mid_date
from ftrack.pairs import Pair
from ftrack.tiling import BATCH

IMAGES = 24
"""Images of a tile that are in memory at a time, at the most; pairs of a batch that need more are measured one group after another."""

FEWER = (16, 12, 8, 6)
"""Limits that are taken instead where larger tiles then fit into the memory of the workers."""

SIDE = 8
"""Neighbouring references and secondaries whose pairs follow each other: a batch is about one such square of pairs."""


def order_pairs(pairs: Sequence[Pair], parts: Sequence[int] = ()) -> tuple[Pair, ...]:
    """Return the pairs in the order of the cube: batches of pairs that share images, each in the order of its unique dates.

    Parameters
    ----------
    pairs : sequence of Pair
        In any order; the result does not depend on it.
    parts : sequence of int
        Numbers of the first pairs that earlier runs have published, which stay in their places.
    """
    first = sum(parts)
    dates = unique_mid_date(pairs, parts)[first:]
    near = np.array(_by_images(pairs[first:]), int)
    batches = [near[start : start + BATCH] for start in range(0, near.size, BATCH)]
    return (*pairs[:first], *(pairs[first + index] for batch in batches for index in batch[np.argsort(dates[batch])]))


def group_pairs(pairs: Sequence[Pair], most: int) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of the pairs of a batch in groups of at most ``most`` images, of which few are in more than one group."""
    order = _by_images(pairs)
    names = [(pairs[number].reference, pairs[number].secondary) for number in order]
    # Fewest images, then fewest groups, for the first n pairs, and where the last of these groups begins.
    best: list[tuple[int, int, int]] = [(0, 0, 0)]
    for stop in range(1, len(names) + 1):
        images: set[str] = set()
        ways = []
        for start in range(stop - 1, -1, -1):
            images.update(names[start])
            if len(images) > most:
                break
            ways.append((best[start][0] + len(images), best[start][1] + 1, start))
        best.append(min(ways))
    groups: list[tuple[int, ...]] = []
    stop = len(order)
    while stop:
        start = best[stop][2]
        groups.append(tuple(order[start:stop]))
        stop = start
    return tuple(reversed(groups))


def limits() -> tuple[int, ...]:
    """Return how many images may be in memory together, the most first."""
    return (IMAGES, *(limit for limit in FEWER if limit < IMAGES))


def images_in(pairs: Sequence[Pair]) -> set[str]:
    """Return the names of the images of some pairs."""
    return {name for pair in pairs for name in (pair.reference, pair.secondary)}


def _by_images(pairs: Sequence[Pair]) -> list[int]:
    """Return the numbers of pairs so that those that follow each other share images.

    Images that no chain of pairs connects (those of two orbits) come one set after the other; in a set, squares of ``SIDE`` references
    by ``SIDE`` secondaries, in order of time.
    """
    times = {name: time for pair in pairs for name, time in ((pair.reference, pair.reference_time), (pair.secondary, pair.secondary_time))}
    names = sorted(times, key=lambda name: (times[name], name))
    place = {name: number for number, name in enumerate(names)}
    edges = [(place[pair.reference], place[pair.secondary]) for pair in pairs]
    sets = _connected(len(names), edges)
    rank: dict[int, int] = {}
    count: dict[int, int] = {}
    for image, label in enumerate(sets):
        rank[image] = count[label] = count.get(label, -1) + 1

    def key(number: int) -> tuple[int, ...]:
        i, j = rank[edges[number][0]], rank[edges[number][1]]
        return (sets[edges[number][0]], i // SIDE, j // SIDE, i, j)

    return sorted(range(len(pairs)), key=key)


def _connected(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Return for every place the first place that edges connect it with."""
    root = list(range(count))

    def find(place: int) -> int:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for a, b in edges:
        one, other = sorted((find(a), find(b)))
        root[other] = one
    return [find(place) for place in range(count)]
