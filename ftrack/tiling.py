"""Which nodes a task measures: tiles and batches of pairs (blocks), and the waves in which blocks share their reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from ftrack.grid import Grid, Nodes, anchor_of, snapped_grid

BATCH = 64
"""Pairs in a batch, which is also the number of pairs in one chunk of the cube."""


class Tiling(NamedTuple):
    """How the nodes of a grid are cut: ``rows`` by ``columns`` nodes into square tiles of ``tile`` nodes, ``pairs`` into batches.

    ``parts`` are the numbers of pairs that earlier runs have published and that are not touched any more. The pairs of a part
    begin with a batch of their own, so that the last batch of the part before it may be followed by places without a pair.
    ``joined`` by ``joined`` neighbouring tiles are measured as one: what lies around a tile is then measured less often.
    """

    spacing: int
    rows: int
    columns: int
    tile: int
    pairs: int
    parts: tuple[int, ...] = ()
    joined: int = 1

    @property
    def tile_rows(self) -> int:
        """Number of tiles from north to south."""
        return -(-self.rows // self.tile)

    @property
    def tile_columns(self) -> int:
        """Number of tiles from west to east."""
        return -(-self.columns // self.tile)

    @property
    def batches(self) -> int:
        """Number of batches of pairs."""
        return self.first_batch + -(-(self.pairs - sum(self.parts)) // BATCH)

    @property
    def first_batch(self) -> int:
        """The first batch that has not been published."""
        return sum(-(-part // BATCH) for part in self.parts)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Places of the pairs of every part along the axis of pairs: the first, and the one after the last."""
        return pair_ranges((*self.parts, self.pairs - sum(self.parts)), BATCH)

    @property
    def chunks(self) -> tuple[int, int, int]:
        """Chunk of the cube along (pair, y, x): one block, cut off at the end of an axis."""
        return (BATCH, self.tile, self.tile)


class Block(NamedTuple):
    """One tile times one batch of pairs; equals one chunk of every variable."""

    batch: int
    row: int
    column: int

    @property
    def id(self) -> str:
        """Batch, tile row and tile column."""
        return f"{self.batch}-{self.row}-{self.column}"


class Wave(NamedTuple):
    """A rectangle of tiles, ``height`` by ``width`` from tile (``row``, ``column``), times one batch."""

    batch: int
    row: int
    column: int
    height: int
    width: int

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Blocks of the wave in row-major order."""
        rows, columns = range(self.row, self.row + self.height), range(self.column, self.column + self.width)
        return tuple(Block(self.batch, row, column) for row in rows for column in columns)


class Region(NamedTuple):
    """Where a block lies in the cube."""

    pairs: slice
    rows: slice
    columns: slice


class WaveWindow(NamedTuple):
    """The pixels that a wave reads.

    Attributes
    ----------
    rows, columns : slice
        Pixels of the image grid, which may reach beyond it.
    chunks : (tuple of int, tuple of int)
        Chunks of these pixels along y and x: one for the tiles that are joined, the outer ones carry the halo.
    nodes : Nodes
        The nodes of the wave's tiles and of the margin around them, relative to these pixels.
    margin : int
        Nodes around the tiles.
    tiles : (tuple of int, tuple of int)
        Nodes of every tile along y and x.
    """

    rows: slice
    columns: slice
    chunks: tuple[tuple[int, ...], tuple[int, ...]]
    nodes: Nodes
    margin: int
    tiles: tuple[tuple[int, ...], tuple[int, ...]]


def pair_ranges(parts: Sequence[int], chunk: int) -> tuple[tuple[int, int], ...]:
    """Return the places of the pairs of every part, each of which begins with a chunk of its own: the first, and the one after the last."""
    ranges: list[tuple[int, int]] = []
    start = 0
    for count in parts:
        ranges.append((start, start + count))
        start += -(-count // chunk) * chunk
    return tuple(ranges)


def batch_pairs(tiling: Tiling, batch: int) -> slice:
    """Return which of the pairs of a tiling a batch holds."""
    before = 0
    for first, stop in tiling.ranges:
        if batch * BATCH < stop:
            return slice(before + batch * BATCH - first, before + min(stop, (batch + 1) * BATCH) - first)
        before += stop - first
    return slice(before, before)


def blocks_of(tiling: Tiling) -> tuple[Block, ...]:
    """Return every block that has not been published, batch by batch, tiles in row-major order."""
    return tuple(
        Block(batch, row, column)
        for batch in range(tiling.first_batch, tiling.batches)
        for row in range(tiling.tile_rows)
        for column in range(tiling.tile_columns)
    )


def waves_of(tiling: Tiling, side: int) -> tuple[Wave, ...]:
    """Return waves of at most ``side`` by ``side`` tiles, all about as large, that hold every block once and part no joined tiles."""
    return tuple(
        Wave(batch, row, column, height, width)
        for batch in range(tiling.first_batch, tiling.batches)
        for row, height in _steps(tiling.tile_rows, side, tiling.joined)
        for column, width in _steps(tiling.tile_columns, side, tiling.joined)
    )


def _steps(count: int, side: int, joined: int) -> Iterator[tuple[int, int]]:
    """Return where steps of at most ``side`` begin and how long they are, the longest first; ``joined`` divides all but the last."""
    units = -(-count // joined)
    steps = -(-units // max(1, side // joined))
    edges = [min(count, joined * -(-units * step // steps)) for step in range(steps + 1)]
    return ((start, stop - start) for start, stop in pairwise(edges))


def region_of(tiling: Tiling, block: Block) -> Region:
    """Return the places of the pairs, the node rows and the node columns of a block."""
    pairs = batch_pairs(tiling, block.batch)
    return Region(
        slice(block.batch * BATCH, block.batch * BATCH + pairs.stop - pairs.start),
        slice(block.row * tiling.tile, min(tiling.rows, (block.row + 1) * tiling.tile)),
        slice(block.column * tiling.tile, min(tiling.columns, (block.column + 1) * tiling.tile)),
    )


def wave_window(tiling: Tiling, wave: Wave, reach: int, margin: int) -> WaveWindow:
    """Return the pixels and the chunks with which a wave is read.

    Every wave, also at the border of the grid, has ``margin`` nodes around its tiles and at least ``reach`` pixels
    around these, so that no number depends on where waves and tiles are cut.

    Parameters
    ----------
    tiling, wave : Tiling, Wave
        The cut, and the part of it.
    reach : int
        Pixels needed around a node, by the matcher and the prefilter together.
    margin : int
        Nodes needed around a tile by outlier detection and filling.
    """
    pad = -(-reach // tiling.spacing) * tiling.spacing
    rows, y_chunks, high = _axis(tiling, wave.row, wave.height, tiling.rows, (pad, margin))
    columns, x_chunks, wide = _axis(tiling, wave.column, wave.width, tiling.columns, (pad, margin))
    nodes = Nodes(tiling.spacing, pad, pad, sum(high) + 2 * margin, sum(wide) + 2 * margin)
    return WaveWindow(rows, columns, (y_chunks, x_chunks), nodes, margin, (high, wide))


def _axis(tiling: Tiling, first: int, count: int, size: int, around: tuple[int, int]) -> tuple[slice, tuple[int, ...], tuple[int, ...]]:
    pad, margin = around
    s = tiling.spacing
    starts = [tile * tiling.tile for tile in range(first, first + count)]
    sizes = tuple(min(tiling.tile, size - start) for start in starts)
    outer = margin * s + pad
    chunks = [s * sum(sizes[k : k + tiling.joined]) for k in range(0, count, tiling.joined)]
    chunks[0] += outer
    chunks[-1] += outer
    pixels = slice(starts[0] * s - outer, (starts[-1] + sizes[-1]) * s + outer)
    return pixels, tuple(chunks), sizes


def wave_pixels(tiling: Tiling, side: int, reach: int, margin: int) -> int:
    """Return how many pixels of one image the largest wave of ``side`` by ``side`` tiles reads."""
    window = wave_window(tiling, Wave(0, 0, 0, *_largest(tiling, side)), reach, margin)
    return sum(window.chunks[0]) * sum(window.chunks[1])


def wave_tiles(tiling: Tiling, side: int) -> int:
    """Return how many tiles, joined ones counted as one, the largest wave of ``side`` by ``side`` tiles has."""
    height, width = _largest(tiling, side)
    return -(-height // tiling.joined) * -(-width // tiling.joined)


def _largest(tiling: Tiling, side: int) -> tuple[int, int]:
    """Return the tiles along y and x of the largest wave."""
    (_, height), (_, width) = (next(_steps(count, side, tiling.joined)) for count in (tiling.tile_rows, tiling.tile_columns))
    return height, width


def snap_to_nodes(grid: Grid, spacing: int) -> Grid:
    """Return the smallest grid around ``grid`` whose edges lie on the lattice of nodes."""
    anchor = anchor_of(grid.left, grid.top, grid.resolution)
    return snapped_grid(grid.crs, grid.resolution, grid.bounds, spacing, anchor)
