"""Lazy arrays in tiles that reach into their neighbours: cut from whole images without a copy, or joined from chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from operator import getitem
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

Edges = tuple[tuple[int, ...], tuple[int, ...]]
"""Where tiles begin, and where the last one ends, along y and x."""


def edges_of(chunks: Sequence[Sequence[int]]) -> Edges:
    """Return where chunks begin and end along y and x."""
    first, second = (tuple(int(v) for v in np.cumsum((0, *sizes))) for sizes in chunks[-2:])
    return first, second


def outside(ndim: int) -> dict[int, Any]:
    """Return what lies beyond the edges: nothing along the first axes, no data along y and x."""
    return {axis: "none" if axis < ndim - 2 else np.nan for axis in range(ndim)}


def nowhere(ndim: int) -> dict[int, Any]:
    """Return that nothing lies beyond the edges."""
    return dict.fromkeys(range(ndim), "none")


def depth_of(array: da.Array, halo: int) -> dict[int, int]:
    """Return how far chunks reach into their neighbours along every axis: not at all where there is only one."""
    *others, y, x = array.numblocks
    return {**dict.fromkeys(range(len(others)), 0), len(others): halo if y > 1 else 0, len(others) + 1: halo if x > 1 else 0}


def merge_short(array: da.Array, halo: int) -> da.Array:
    """Join neighbouring chunks until each is as long as the halo, which is all that can be taken from a neighbour."""
    merged = {axis: joined(array.chunks[axis], halo) for axis in (array.ndim - 2, array.ndim - 1)}
    return array.rechunk(merged) if any(array.chunks[a] != c for a, c in merged.items()) else array


def joined(chunks: Sequence[int], least: int) -> tuple[int, ...]:
    """Return sizes of chunks of which neighbours are joined until none is shorter than ``least``."""
    sizes: list[int] = []
    for chunk in chunks:
        if sizes and sizes[-1] < least:
            sizes[-1] += chunk
        else:
            sizes.append(chunk)
    if len(sizes) > 1 and sizes[-1] < least:
        sizes[-2:] = [sizes[-2] + sizes[-1]]
    return tuple(sizes)


class Tiles(NamedTuple):
    """Images in tiles.

    Attributes
    ----------
    images : Array (time, y, x)
        In one chunk along y and x; or in one along time, and in tiles along y and x.
    edges : Edges
        Of the tiles.
    halo : int
        Pixels that a tile needs around it, as far as there are any.
    """

    images: da.Array
    edges: Edges
    halo: int

    @property
    def numbers(self) -> tuple[int, int]:
        """How many tiles there are along y and x."""
        return len(self.edges[0]) - 1, len(self.edges[1]) - 1


def map_tiles(
    function: Any, tiles: Tiles, chunks: Sequence[Sequence[int]], found: tuple[da.Array, int] | None = None, **given: Any
) -> da.Array:
    """Map a function over tiles that reach into their neighbours.

    Images in one chunk along y and x are cut into views. Chunks that are joined for every tile would be copied several times over, and a
    worker that has to cut something for another does so only when it has come to the end of its own tile.

    Parameters
    ----------
    function : callable
        Is given the images of a tile and what is around it, each (y, x), what was found there, if anything, and ``block_id``, which ends
        with the tile's row and column; returns float32 (n, pair, y, x).
    tiles : Tiles
        Which.
    chunks : four sequences of int
        Chunks of the result.
    found : (Array (n, pair, y, x), int), optional
        Something in the same tiles, and how far around a tile it is needed.
    given : dict
        More for the function.
    """
    images, others = tiles.images, (found[0],) if found else ()
    if images.numblocks[1:] == (1, 1):
        return _map_whole(partial(function, **given), function.__name__, tiles, chunks, found)
    depths = [depth_of(images, tiles.halo), *([depth_of(*found)] if found else [])]
    mapped: da.Array = da.map_overlap(
        function, images, *others, depth=depths, boundary=[nowhere(3), nowhere(4)][: len(depths)], trim=False, allow_rechunk=False,
        align_arrays=False, new_axis=None if found else 0, chunks=tuple(map(tuple, chunks)), dtype=np.float32,
        meta=np.empty((0, 0, 0, 0), np.float32), **given,
    )  # fmt: skip
    return mapped


def _map_whole(function: Any, name: str, tiles: Tiles, chunks: Sequence[Sequence[int]], found: tuple[da.Array, int] | None) -> da.Array:
    """Map a function over tiles of images that are in one chunk along y and x."""
    views = _cut(tiles)
    name = f"{name}-{tokenize(function, views.name, chunks, found)}"
    rows, columns = tiles.numbers
    layer: dict[Any, Any] = {}
    for i in range(rows):
        for j in range(columns):
            near = [] if found is None else [[(found[0].name, 0, 0, y, x) for x in _near(j, columns)] for y in _near(i, rows)]
            middle = (min(i, 1), min(j, 1))
            seen = [(views.name, k, i, j) for k in range(views.numblocks[0])]
            layer[name, 0, 0, i, j] = (_on_tile, function, seen, near, middle, found[1] if found else 0, [0, 0, i, j])
    graph = HighLevelGraph.from_collections(name, layer, [views, *(found[:1] if found else ())])  # type: ignore[list-item]
    return da.Array(graph, name, tuple(map(tuple, chunks)), dtype=np.float32)


def _near(place: int, count: int) -> range:
    return range(max(0, place - 1), min(count, place + 2))


def _on_tile(
    function: Any, parts: list[np.ndarray], near: list[list[np.ndarray]], middle: tuple[int, int], depth: int, block: list[int]
) -> Any:
    images = [image for part in parts for image in part]
    return function(images, *([_join(near, middle, depth)] if near else []), block_id=tuple(block))


def _join(near: list[list[np.ndarray]], middle: tuple[int, int], depth: int) -> np.ndarray:
    """Join a tile and the rims of its neighbours."""

    def rim(place: int) -> slice:
        return slice(-depth, None) if place < 0 else slice(None) if place == 0 else slice(depth)

    return np.block([[part[..., rim(i - middle[0]), rim(j - middle[1])] for j, part in enumerate(row)] for i, row in enumerate(near)])


def _cut(tiles: Tiles) -> da.Array:
    """Return views of images that are in one chunk along y and x: one chunk for each tile, with its halo."""
    images, edges, halo = tiles
    if tiles.numbers == (1, 1):
        return images
    rows, columns = ([slice(max(a - halo, 0), min(b + halo, axis[-1])) for a, b in pairwise(axis)] for axis in edges)
    name = f"getitem-{tokenize(images.name, edges, halo)}"
    layer: dict[Any, Any] = {
        (name, k, i, j): (getitem, (images.name, k, 0, 0), (slice(None), row, column))
        for k in range(images.numblocks[0])
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    }
    chunks = (images.chunks[0], *(tuple(part.stop - part.start for part in axis) for axis in (rows, columns)))
    graph = HighLevelGraph.from_collections(name, layer, [images])  # type: ignore[list-item]
    return da.Array(graph, name, chunks, dtype=images.dtype)
