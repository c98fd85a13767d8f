"""A cell whose chips are squares of squares of blocks, walked over strip by strip."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from ftrack.kernels.certain import leave_out
from ftrack.kernels.folded import paired_offsets_for
from ftrack.kernels.lanes import LANES
from ftrack.kernels.layout import Layout
from ftrack.kernels.rectangles import MASKED, PLAIN
from ftrack.kernels.rims import room_for_rims
from ftrack.kernels.squares import TOGETHER, Squares, levels_of, mark_squares
from ftrack.kernels.strip import Gaps, Nodes, Places, Shape
from ftrack.kernels.sweep import sweep_squares
from ftrack.kernels.tiles import Cell, Result, Search, Tables, Tile, images_of
from ftrack.kernels.vectors import PAIRS

CACHE = 8_000_000
"""Bytes of sums that a strip may keep, so that they stay in the cache that processors share; narrower strips cost more where they meet."""

FEWEST = 8
"""Blocks along x of a strip at the least."""


LEAST, MOST = 2000, 4
"""Nodes of a cell from which those with windows near each other are worked on by themselves, and into how many parts at the most."""


def measure_squares(tile: Tile, search: Search, cell: Cell, union: np.ndarray, tables: Tables, result: Result) -> None:
    """Find the peaks of the nodes of a cell whose sums are plain."""
    here = (slice(None), slice(*cell[:2]), slice(*cell[2:]))
    span, plain = search.span[here[1], :, here[2]], (search.mode[here] == PLAIN).any(0)
    parts = _parts_of(span, plain)
    if len(parts) == 1:
        _measure_part(tile, search, (cell, union, plain), tables, result)
        return
    for chosen in parts:
        rows, columns = (np.flatnonzero(chosen.any(axis)) for axis in (1, 0))
        edges = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
        its_cell = (cell[0] + edges[0], cell[0] + edges[1], cell[2] + edges[2], cell[2] + edges[3])
        its_union = np.array([(np.min, np.max)[k % 2](span[:, k][chosen]) for k in range(4)])
        _measure_part(tile, search, (its_cell, its_union, chosen[edges[0] : edges[1], edges[2] : edges[3]]), tables, result)


def _parts_of(span: np.ndarray, some: np.ndarray) -> list[np.ndarray]:
    """Tell nodes apart by where their windows lie, if those of a part then fit into one vector: bool (row, column) of each part."""
    if np.count_nonzero(some) < LEAST:
        return [some]
    top, bottom, left, right = span.swapaxes(0, 1)
    down, across = (2 * PAIRS[1] - int((bottom - top)[some].max()) + 1) // 2 * 2, LANES + 1 - int((right - left)[some].max())
    if down <= 0 or across <= 0:
        return [some]
    first = int(top[some].min())
    y, x = (top - (first - first % 2)) // down, (left - left[some].min()) // across
    kind = y * (int(x[some].max()) + 1) + x
    kinds = np.flatnonzero(np.bincount(kind[some]))
    return [some & (kind == k) for k in kinds] if kinds.size <= MOST else [some]


def _measure_part(tile: Tile, search: Search, what: tuple[Cell, np.ndarray, np.ndarray], tables: Tables, result: Result) -> None:
    """Find the peaks of some of the nodes of a cell, bool (row, column)."""
    cell, union, chosen = what
    layout, shape = tile.layout, _shape_of(tile.layout, cell, union)
    places, (room, fold), seams, end = place_squares(tile, cell, union)
    if end > tile.numbers.size:
        tile = tile._replace(numbers=np.concatenate([tile.numbers, np.zeros(end - tile.numbers.size, np.float32)]))
    here = (slice(None), slice(*cell[:2]), slice(*cell[2:]))
    span = search.span[here[1], :, here[2]] - np.array([shape.dy, shape.dy, shape.dx, shape.dx])[:, None]
    todo = (search.mode[here] == PLAIN) & chosen
    needed = mark_squares(layout, _by_part(todo, span, shape), (shape.rows, shape.columns))
    chip = np.full(levels_of(layout) + 1, -1)
    chip[[int(n).bit_length() - 1 for n in layout.counts]] = np.arange(len(layout.counts))
    behind = layout.starts[:, None] + layout.counts[:, None] - 1 + layout.step * np.arange(todo.shape[2])
    for k, (first, last) in enumerate(_strips(layout, shape)):
        if k > 0:
            leave_out(result.found, (cell[0], cell[2]), search.limits, todo)
        within = (behind >= first) & (behind < last)
        columns = np.flatnonzero(within.any(0))
        nodes = slice(int(columns[0]), int(columns[-1]) + 1) if columns.size else slice(0, 0)
        blocks = nodes.start * layout.step
        squares = Squares(
            np.ascontiguousarray(needed[:, :, first:last]),
            chip,
            layout.starts.astype(np.int64),
            first - blocks,
            last - first,
            last < shape.columns,
            fold,
            room,
            seams[k % 2],
            seams[1 - k % 2],
            (cell[0], cell[2] + nodes.start),
            search.limits,
        )
        moved = blocks * shape.side
        at = {name: getattr(places, name) + moved for name in ("r", "s", "mean", "inverse")}
        across = max(nodes.stop - nodes.start - 1, 0) * layout.step + int(layout.counts.max())
        strip = Strip(shape._replace(columns=across), places._replace(**at), squares)
        chips = ((todo & within[:, None])[:, :, nodes], span[:, :, nodes])
        _measure_strip(tile, search, (cell, nodes), strip, chips, tables, result)


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
    todo, span = (np.ascontiguousarray(part) for part in chips)
    none = np.zeros((0, 0, 0), np.float32)
    nodes = Nodes(none > 0, todo, span, none.astype(np.float64), none, total, scale, rims)
    gaps = Gaps(images_of(tile), images_of(tile), tile.min_valid, np.zeros(0), 0, np.zeros(todo.shape, np.bool_))
    kept = room_for_rims(strip.shape, tables.blocks, nodes)
    sweep_squares(tile.numbers, strip.shape, strip.places, tables.blocks, nodes, gaps, kept, strip.squares, tuple(result))
    if gaps.far.any():
        search.mode[here][gaps.far], result.found[here][gaps.far] = MASKED, np.nan


def _shape_of(layout: Layout, cell: Cell, union: np.ndarray) -> Shape:
    """Return how a cell is cut; its offsets begin with an even one along y."""
    rows, columns = ((cell[k + 1] - cell[k] - 1) * layout.step + int(layout.counts.max()) for k in (0, 2))
    first = int(union[0]) - int(union[0]) % 2
    parts = paired_offsets_for(int(union[1]) - first, int(union[3] - union[2]))
    return Shape(layout.side, layout.step, rows, columns, *parts, first, int(union[2]))


def _by_part(todo: np.ndarray, span: np.ndarray, shape: Shape) -> np.ndarray:
    """Return which chips need which parts of the offsets: bool (part, chip, row, column)."""
    reach = shape.vectors * LANES
    parts = []
    for part in range(shape.panels * shape.bands):
        dy, dx = part // shape.panels * shape.group, part % shape.panels * reach
        parts.append(todo & (span[:, 0] < dy + shape.group) & (span[:, 1] > dy) & (span[:, 2] < dx + reach) & (span[:, 3] > dx))
    return np.stack(parts)


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
    nodes = chips * min(columns + int(layout.counts.max()), cell[3] - cell[2]) * height
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
