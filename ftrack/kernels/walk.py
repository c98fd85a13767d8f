"""A cell whose chips are squares of squares of blocks, walked over strip by strip."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from ftrack.kernels.certain import leave_out
from ftrack.kernels.compiled import filling
from ftrack.kernels.folded import paired_offsets_for
from ftrack.kernels.lanes import LANES
from ftrack.kernels.layout import Layout
from ftrack.kernels.rectangles import FAR, MASKED, PLAIN
from ftrack.kernels.rims import room_for_rims
from ftrack.kernels.squares import TOGETHER, Squares, levels_of, mark_squares
from ftrack.kernels.strip import Gaps, Nodes, Places, Shape
from ftrack.kernels.sweep import sweep_squares
from ftrack.kernels.tiles import Cell, Result, Search, Tables, Tile, images_of
from ftrack.kernels.vectors import PAIRS

CACHE = 4_000_000
"""Bytes of sums that a strip may keep, so that those of several threads stay in the cache that they share; narrower strips cost more
where they meet."""

FEWEST = 8
"""Blocks along x of a strip at the least."""


LEAST, MOST = 2000, 4
"""Nodes of a cell from which those with windows near each other are worked on by themselves, and into how many parts at the most."""

ROWS = 2 * PAIRS[1]
"""Rows of offsets that are worked on together where those of a row fit into one vector."""


def measure_squares(tile: Tile, search: Search, cell: Cell, union: np.ndarray, tables: Tables, result: Result) -> None:
    """Find the peaks of the nodes of a cell whose sums are plain."""
    top, bottom, left, right = cell
    kinds, parts = np.empty((bottom - top, right - left), np.int64), np.empty((MOST, 9), np.int64)
    many = tell_apart(search.mode, search.span, cell, LEAST, kinds, parts)
    if many == 1:
        _measure_part(tile, search, (cell, union), (kinds, (0, 0, 0)), tables, result)
        return
    for part in range(many):
        first, last, start, end = parts[part, 1:5].tolist()
        its_cell = (top + first, top + last, left + start, left + end)
        _measure_part(tile, search, (its_cell, parts[part, 5:]), (kinds, (part, first, start)), tables, result)


@filling
def tell_apart(mode, span, cell, least, kinds, parts):
    """Tell nodes with plain sums apart by where their windows lie, if those of a part then fit into one vector.

    Return how many parts there are, one if there are fewer nodes than ``least``; fill the part of every node of a cell, -1 = none, int64
    (row, column), and, if there are several, for each of them a key, the first and last row and column of its nodes, and those of its
    windows, int64 (part, 9).
    """
    (top, _, left, _), nodes, tall, wide, first, start = cell, 0, 0, 0, FAR, FAR
    for i in range(kinds.shape[0]):
        for j in range(kinds.shape[1]):
            kinds[i, j] = -1
            for c in range(mode.shape[0]):
                if mode[c, top + i, left + j] == PLAIN:
                    kinds[i, j] = 0
            if kinds[i, j] == 0:
                nodes, first, start = nodes + 1, min(first, span[top + i, 0, left + j]), min(start, span[top + i, 2, left + j])
                tall = max(tall, span[top + i, 1, left + j] - span[top + i, 0, left + j])
                wide = max(wide, span[top + i, 3, left + j] - span[top + i, 2, left + j])
    down, across, first = (ROWS - tall + 1) // 2 * 2, LANES + 1 - wide, first - first % 2
    many = 0 if nodes >= least and down > 0 and across > 0 else MOST + 1
    for i in range(kinds.shape[0] if many == 0 else 0):
        for j in range(kinds.shape[1] if many <= MOST else 0):
            if kinds[i, j] < 0:
                continue
            k, key = 0, (span[top + i, 0, left + j] - first) // down * FAR + (span[top + i, 2, left + j] - start) // across
            while k < many and parts[k, 0] != key:
                k += 1
            if k == many:
                many += 1
                if k == MOST:
                    break
                for n in range(9):
                    parts[k, n] = key if n == 0 else FAR if n % 2 else -FAR
            kinds[i, j], parts[k, 2] = k, i + 1
            parts[k, 1], parts[k, 3], parts[k, 4] = min(parts[k, 1], i), min(parts[k, 3], j), max(parts[k, 4], j + 1)
            for n in range(5, 9, 2):
                parts[k, n] = min(parts[k, n], span[top + i, n - 5, left + j])
                parts[k, n + 1] = max(parts[k, n + 1], span[top + i, n - 4, left + j])
    if many <= MOST:
        return max(many, 1)
    for i in range(kinds.shape[0]):
        for j in range(kinds.shape[1]):
            kinds[i, j] = min(kinds[i, j], 0)
    return 1


def _measure_part(
    tile: Tile,
    search: Search,
    where: tuple[Cell, np.ndarray],
    part: tuple[np.ndarray, tuple[int, int, int]],
    tables: Tables,
    result: Result,
) -> None:
    """Find the peaks of the nodes of a cell that belong to one part: the parts of nodes, its number and where the cell begins there."""
    (cell, union), (kinds, chosen) = where, part
    layout, shape = tile.layout, _shape_of(tile.layout, cell, union)
    places, (room, fold), seams, end = place_squares(tile, cell, union)
    if end > tile.numbers.size:
        tile = tile._replace(numbers=np.concatenate([tile.numbers, np.zeros(end - tile.numbers.size, np.float32)]))
    nodes = (cell[1] - cell[0], cell[3] - cell[2])
    todo, span = np.empty((len(layout.counts), *nodes), np.bool_), np.empty((nodes[0], 4, nodes[1]), np.int64)
    needed = np.zeros((shape.panels * shape.bands, shape.rows, shape.columns), np.uint8)
    chip = np.full(levels_of(layout) + 1, -1)
    chip[[int(n).bit_length() - 1 for n in layout.counts]] = np.arange(len(layout.counts))
    mark_squares(search.mode, search.span, kinds, (*chosen, cell[0], cell[2]), shape, (chip, layout.starts), todo, span, needed)
    strips = _strips(layout, shape)
    for k, (first, last) in enumerate(strips):
        if k > 0:
            leave_out(result.found, (cell[0], cell[2]), search.limits, todo)
        along, chips = (slice(0, nodes[1]), (todo, span)) if len(strips) == 1 else _ending(layout, (first, last), todo, span)
        blocks = along.start * layout.step
        squares = Squares(
            np.ascontiguousarray(needed[:, :, first:last]),
            chip,
            layout.starts,
            first - blocks,
            last - first,
            last < shape.columns,
            fold,
            room,
            seams[k % 2],
            seams[1 - k % 2],
            (cell[0], cell[2] + along.start),
            search.limits,
        )
        moved = blocks * shape.side
        at = {name: getattr(places, name) + moved for name in ("r", "s", "mean", "inverse")}
        across = max(along.stop - along.start - 1, 0) * layout.step + int(layout.counts[-1])
        strip = Strip(shape._replace(columns=across), places._replace(**at), squares)
        _measure_strip(tile, search, (cell, along), strip, chips, tables, result)


def _ending(layout: Layout, columns: tuple[int, int], todo: np.ndarray, span: np.ndarray) -> tuple[slice, tuple[np.ndarray, np.ndarray]]:
    """Return the nodes along x some of whose chips end in some columns of blocks, those chips, and their windows."""
    behind = layout.starts[:, None] + layout.counts[:, None] - 1 + layout.step * np.arange(todo.shape[2])
    within = (behind >= columns[0]) & (behind < columns[1])
    some = np.flatnonzero(within.any(0))
    nodes = slice(int(some[0]), int(some[-1]) + 1) if some.size else slice(0, 0)
    return nodes, (np.ascontiguousarray((todo & within[:, None])[:, :, nodes]), np.ascontiguousarray(span[:, :, nodes]))


class Strip(NamedTuple):
    """Some columns of the blocks of a cell."""

    shape: Shape
    places: Places
    squares: Squares


def _measure_strip(
    tile: Tile,
    search: Search,
    what: tuple[Cell, slice],
    strip: Strip,
    chips: tuple[np.ndarray, np.ndarray],
    tables: Tables,
    result: Result,
) -> None:
    """Find the peaks of the chips that end in a strip, ``chips`` = (which of its nodes' chips, windows)."""
    (top, bottom, left, _), columns = what
    here = (slice(None), slice(top, bottom), slice(left + columns.start, left + columns.stop))
    total, scale, rims = (np.ascontiguousarray(part[here]) for part in (tile.chips.total, tile.chips.scale, search.rims))
    todo, span = chips
    none = np.zeros((0, 0, 0), np.float32)
    nodes = Nodes(none > 0, todo, span, none.astype(np.float64), none, total, scale, rims)
    gaps = Gaps(images_of(tile), images_of(tile), tile.min_valid, np.zeros(0), 0, np.zeros(todo.shape, np.bool_))
    kept = room_for_rims(strip.shape, tables.blocks, nodes)
    sweep_squares(tile.numbers, strip.shape, strip.places, tables.blocks, nodes, gaps, kept, strip.squares, tuple(result))
    if gaps.far.any():
        search.mode[here][gaps.far], result.found[here][gaps.far] = MASKED, np.nan


def _shape_of(layout: Layout, cell: Cell, union: np.ndarray) -> Shape:
    """Return how a cell is cut; its offsets begin with an even one along y."""
    rows, columns = ((cell[k + 1] - cell[k] - 1) * layout.step + int(layout.counts[-1]) for k in (0, 2))
    first = int(union[0]) - int(union[0]) % 2
    parts = paired_offsets_for(int(union[1]) - first, int(union[3] - union[2]))
    return Shape(layout.side, layout.step, rows, columns, *parts, first, int(union[2]))


def _strips(layout: Layout, shape: Shape) -> list[tuple[int, int]]:
    """Cut the columns of blocks so that the sums of one strip stay in the processor's caches."""
    many = (1 << levels_of(layout)) - 1
    size = 4 * shape.panels * shape.vectors * LANES * shape.bands * shape.group * many
    pieces = max(min(-(-shape.columns // max(CACHE // size, FEWEST)), shape.columns // (many + 1)), 1)
    return list(pairwise(k * shape.columns // pieces for k in range(pieces + 1)))


def place_squares(tile: Tile, cell: Cell, union: np.ndarray) -> tuple[Places, tuple[int, int], tuple[int, int], int]:
    """Return where everything lies, the room and the fold and both seams of ``Squares``, and the place behind all."""
    layout, shape = tile.layout, _shape_of(tile.layout, cell, union)
    chips, many, reach = len(layout.counts), (1 << levels_of(layout)) - 1, shape.vectors * LANES
    line, parts, height = shape.group * reach, shape.panels * shape.bands, shape.bands * shape.group
    columns = max(last - first for first, last in _strips(layout, shape))
    nodes = chips * min(columns + int(layout.counts[-1]), cell[3] - cell[2]) * height
    sizes = [
        tile.boxes.end,
        2 * many * parts * line,
        many * parts * columns * line,
        chips * TOGETHER * height * (shape.panels * reach + LANES) + 2 * LANES,
        chips * TOGETHER * height,
        line,
        (2 * shape.side + height) * (TOGETHER * shape.side + shape.panels * reach),
        2 * nodes * shape.panels * reach,
        many * parts * shape.rows * line,
        many * parts * shape.rows * line,
    ]
    lines, ring, surface, highest, room, fold, rims, seam, next_seam, end = accumulate(-(-size // LANES) * LANES + LANES for size in sizes)
    y, x = (cell[k] * layout.side * layout.step for k in (0, 2))
    (_, r_step), (_, s_step) = tile.r_valid.shape, tile.s_valid.shape
    r, s = y * r_step + x, tile.r_valid.size + (y + tile.far + shape.dy) * s_step + x + tile.far + shape.dx
    boxes = tile.boxes.seen_from(y + shape.dy, x + shape.dx)
    return (
        Places(r, r_step, s, s_step, **boxes, lines=lines, ring=ring, surface=surface, highest=highest, room=0, blocks=0, rims=rims),
        (room, fold),
        (seam, next_seam),
        end,
    )
