"""Cells: rectangles of nodes whose offsets are worked on together, so that blocks share their products."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise

import numpy as np

from ftrack.kernels.boxes import fill_boxes, find_far, room_for_boxes
from ftrack.kernels.chain import WIDTH, mark_needed
from ftrack.kernels.gaps import PLANES
from ftrack.kernels.layout import Layout
from ftrack.kernels.moments import Chips
from ftrack.kernels.products import offsets_for
from ftrack.kernels.rectangles import FAR, GAPPY, LEVELLED, MASKED, PLAIN
from ftrack.kernels.rims import room_for_rims
from ftrack.kernels.squares import in_squares
from ftrack.kernels.strip import PLANE, Gaps, Nodes, Places, Shape
from ftrack.kernels.sweep import sweep_gaps, sweep_masked, sweep_strip
from ftrack.kernels.tiles import Cell, Result, Search, Tables, Tile, images_of
from ftrack.kernels.vectors import LANES
from ftrack.kernels.walk import measure_squares, place_squares

CACHE = 700_000
"""Bytes of sums that a strip of a cell may keep, so that they stay in the processor's caches."""

FEWEST = {PLAIN: 8, LEVELLED: 8, MASKED: 20, GAPPY: 8}
"""Nodes along x of a strip at the least, unless there are no more: the blocks at its sides are worked on twice."""

OVER = 6
"""Chips without gaps along x of a strip at the least, side by side, for the same reason."""

MANY, FEW = 256, 32
"""Nodes along the side of a cell where every node has a window of its own, and of a part of one whose chips are summed otherwise."""

WASTE = 3.0
"""A cell is cut in four where its windows together hold this many times the offsets of the largest."""


def cut_cells(search: Search) -> list[tuple[Cell, np.ndarray]]:
    """Cut the nodes into cells, and return with each the first and last row and column of all its windows.

    Cells are cut in four as long as their windows lie far apart.
    """
    (rows, columns), (least, greatest, tallest) = search.mode.shape[1:], search.extent
    if greatest[1] <= least[0]:
        return []
    if least == greatest:
        return [((0, rows, 0, columns), search.extent.union)]
    some = np.asarray(search.mode.any(0))
    down, along = _edges(rows, MANY), _edges(columns, MANY)
    if len(down) == len(along) == 2:
        return _cut_further((0, rows, 0, columns), search.extent.union, search, some, tallest)
    low, high = np.where(some, search.span[:, ::2].swapaxes(0, 1), FAR), np.where(some, search.span[:, 1::2].swapaxes(0, 1), -FAR)
    low = np.minimum.reduceat(np.minimum.reduceat(low, down[:-1], 1), along[:-1], 2)
    high = np.maximum.reduceat(np.maximum.reduceat(high, down[:-1], 1), along[:-1], 2)
    cells = []
    for i in range(len(down) - 1):
        for j in range(len(along) - 1):
            cell = (int(down[i]), int(down[i + 1]), int(along[j]), int(along[j + 1]))
            union = np.array([low[0, i, j], high[0, i, j], low[1, i, j], high[1, i, j]])
            cells += _cut_further(cell, union, search, some, tallest)
    return cells


def _edges(n: int, most: int) -> np.ndarray:
    pieces = -(-n // most)
    return np.arange(pieces + 1) * n // pieces


def _cut_further(cell: Cell, union: np.ndarray, search: Search, some: np.ndarray, widest: int) -> list[tuple[Cell, np.ndarray]]:
    top, bottom, left, right = cell
    if union[1] <= union[0]:
        return []
    area = (union[1] - union[0] + 2) * (union[3] - union[2] + 6)
    if area <= WASTE * (widest + 2) * (widest + 6) or bottom - top + right - left <= 4:
        return [(cell, union)]
    cells = []
    for a, b in ((top, (top + bottom) // 2), ((top + bottom) // 2, bottom)):
        for c, d in ((left, (left + right) // 2), ((left + right) // 2, right)):
            inside = some[a:b, c:d]
            if inside.any():
                span = [search.span[a:b, k, c:d][inside] for k in range(4)]
                part = np.array([span[0].min(), span[1].max(), span[2].min(), span[3].max()])
                cells += _cut_further((a, b, c, d), part, search, some, widest)
    return cells


def shape_of(cell: Cell, union: np.ndarray, layout: Layout) -> Shape:
    """Return how a cell is cut into blocks and parts of its offsets."""
    rows, columns = ((cell[k + 1] - cell[k] - 1) * layout.step + int(layout.counts[-1]) for k in (0, 2))
    parts = offsets_for(int(union[1] - union[0]), int(union[3] - union[2]))
    return Shape(layout.side, layout.step, rows, columns, *parts, int(union[0]), int(union[2]))


def _strips(cell: Cell, shape: Shape, tables: Tables, kind: int = PLAIN) -> list[tuple[int, int]]:
    """Cut the columns of a cell so that the sums of one strip stay in the processor's caches."""
    surface = {MASKED: 4 * PLANES, GAPPY: 8 * PLANES}.get(kind, 4) * shape.panels * shape.vectors * LANES * shape.bands * shape.group
    fewest = max(FEWEST[kind], OVER * int(tables.blocks[:, WIDTH].max()) // shape.step if kind < MASKED else 0)
    most = min(max(CACHE // (surface * (tables.ring + len(tables.of_chip))), fewest), 64)
    columns = cell[3] - cell[2]
    pieces = -(-columns // most)
    return list(pairwise(cell[2] + k * columns // pieces for k in range(pieces + 1)))


def place_all(tile: Tile, cell: Cell, shape: Shape, tables: Tables) -> tuple[Places, int, int]:
    """Return where everything lies, the place of the differences of means, and the place behind the last thing."""
    reach, chips, layout, largest = shape.vectors * LANES, len(tables.of_chip), tile.layout, int(tile.layout.counts[-1])
    line, parts = shape.group * reach, shape.panels * shape.bands
    height = shape.rows * shape.side + shape.bands * shape.group
    pitch = -(-(shape.columns * shape.side + shape.panels * reach) // LANES) * LANES
    most, few = (max(last - first for first, last in _strips(cell, shape, tables, kind)) for kind in (PLAIN, MASKED))
    nodes = chips * max(most, few) * shape.bands * shape.group
    columns, masked = ((n - 1) * layout.step + largest for n in (most, few))
    sizes = [
        tile.boxes.end,
        chips * height * pitch,
        chips * height * pitch,
        PLANES * tables.lines * line,
        tables.ring * parts * max(columns, PLANES * masked) * line,
        nodes * (shape.panels * reach + LANES) + 2 * LANES,
        nodes,
        3 * (shape.side**2 + (shape.side + shape.group) * (shape.side + reach)) + PLANES * line,
        3 * height * pitch,
        2 * nodes * shape.panels * reach,
        (len(tables.blocks) - 1) * height * pitch,
    ]
    ends = accumulate(-(-size // LANES) * LANES + LANES for size in sizes)
    mean, inverse, lines, ring, surface, highest, room, blocks, rims, differences, end = ends
    y, x = (cell[k] * layout.side * layout.step for k in (0, 2))
    (_, r_step), (_, s_step) = tile.r_valid.shape, tile.s_valid.shape
    r, s = y * r_step + x, tile.r_valid.size + (y + tile.far + shape.dy) * s_step + x + tile.far + shape.dx
    return Places(r, r_step, s, s_step, mean, inverse, height, pitch, lines, ring, surface, highest, room, blocks, rims), differences, end


def end_of(tile: Tile, cell: Cell, union: np.ndarray, tables: Tables) -> int:
    """Return how many numbers a cell needs."""
    end = place_all(tile, cell, shape_of(cell, union, tile.layout), tables)[2]
    return max(end, place_squares(tile, cell, union)[-1]) if in_squares(tile.layout) else end


def measure_cell(tile: Tile, search: Search, cell: Cell, union: np.ndarray, tables: Tables, result: Result, kinds: tuple[int, ...]) -> None:
    """Find the peaks of the nodes of one cell whose sums are of some kinds.

    Chips that prove to have means too large for plain sums are set to ``LEVELLED`` or, at the rim of the imagery, to ``MASKED``.
    """
    mode = search.mode[:, cell[0] : cell[1], cell[2] : cell[3]]
    for kind in kinds:
        if (mode == kind).any():
            parts = _parts(search, cell, kind) if kind != PLAIN else [(cell, union)]
            if kind == MASKED and 2 * _blocks_of(parts, tile.layout) > _blocks_of([(cell, union)], tile.layout):
                parts = [(cell, union)]
            for part, its_union in parts:
                _measure_part(tile, search, (part, its_union, kind), tables, result)


def _parts(search: Search, cell: Cell, kind: int) -> list[tuple[Cell, np.ndarray]]:
    """Return the smallest rectangles of a cell, and their windows, that hold the chips whose sums are of one kind."""
    chosen = (search.mode[:, cell[0] : cell[1], cell[2] : cell[3]] == kind).any(0)
    down, along = (cell[k] + _edges(cell[k + 1] - cell[k], FEW) for k in (0, 2))
    parts = []
    for top, bottom in pairwise(down.tolist()):
        for left, right in pairwise(along.tolist()):
            rows, columns = np.nonzero(chosen[top - cell[0] : bottom - cell[0], left - cell[2] : right - cell[2]])
            if rows.size:
                rows, columns = rows + top, columns + left
                span = search.span[rows, :, columns]
                part = (int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1)
                parts.append((part, np.where([True, False, True, False], span.min(0), span.max(0))))
    return parts


def _blocks_of(parts: list[tuple[Cell, np.ndarray]], layout: Layout) -> int:
    """Return how many blocks the chips of some parts of a cell are made of, each part by itself."""
    most = int(layout.counts[-1])
    sides = (((bottom - top - 1) * layout.step + most, (right - left - 1) * layout.step + most) for (top, bottom, left, right), _ in parts)
    return sum(rows * columns for rows, columns in sides)


def _measure_part(tile: Tile, search: Search, what: tuple[Cell, np.ndarray, int], tables: Tables, result: Result) -> None:
    """Find the peaks of some nodes of a cell by sums of one kind."""
    cell, union, kind = what
    if kind == PLAIN and tile.boxes.far.any():
        _mark_far(tile, search, cell)
    if kind == PLAIN and in_squares(tile.layout):
        measure_squares(tile, search, cell, union, tables, result)
        return
    shape = shape_of(cell, union, tile.layout)
    places, differences, end = place_all(tile, cell, shape, tables)
    if end > tile.numbers.size:
        tile = tile._replace(numbers=np.concatenate([tile.numbers, np.zeros(end - tile.numbers.size, np.float32)]))
    table = tables.blocks.copy()
    if kind == LEVELLED:
        table[1:, PLANE] = differences + np.arange(len(table) - 1) * places.height * places.pitch
        _fill_boxes(tile.numbers, places, table, tables)
    if kind == PLAIN:
        at = (cell[0] * shape.step * shape.side + shape.dy, cell[2] * shape.step * shape.side + shape.dx)
        places = places._replace(**tile.boxes.seen_from(*at))
    for first, last in _strips(cell, shape, tables, kind):
        moved = (first - cell[2]) * tile.layout.step * shape.side
        here = places._replace(r=places.r + moved, s=places.s + moved, mean=places.mean + moved, inverse=places.inverse + moved)
        moved_table = table.copy()
        moved_table[:, PLANE] += moved
        _measure_strip(tile, search, ((cell[0], cell[1], first, last), union, kind), here, tables._replace(blocks=moved_table), result)


def _measure_strip(tile: Tile, search: Search, what: tuple[Cell, np.ndarray, int], places: Places, tables: Tables, result: Result) -> None:
    """Find the peaks of some columns of a cell by sums of one kind."""
    cell, union, kind = what
    shape = shape_of(cell, union, tile.layout)
    here = (slice(None), slice(cell[0], cell[1]), slice(cell[2], cell[3]))
    valid, total, scale = (np.ascontiguousarray(part[here]) for part in (tile.chips.valid, tile.chips.total, tile.chips.scale))
    chips = tile.chips._replace(valid=valid, total=total, scale=scale)
    span = search.span[cell[0] : cell[1], :, cell[2] : cell[3]] - np.array([shape.dy, shape.dy, shape.dx, shape.dx])[:, None]
    chosen = search.mode[here] == kind
    weight = (
        np.ascontiguousarray(chips.weight[(slice(None), *_blocks(cell, shape))]) if kind == LEVELLED else np.zeros((0, 0, 0), np.float32)
    )
    rims = np.ascontiguousarray(search.rims[here])
    for todo, levels, total, scale in _passes(tile, cell, shape, chips, span, chosen, kind):
        nodes = Nodes(
            mark_needed(todo, tables.blocks, (tables.of_chip, tile.layout.starts, tile.layout.step), (shape.rows, shape.columns)),
            todo,
            span,
            levels,
            weight,
            total,
            scale,
            rims,
        )
        found = np.full((*todo.shape, 14), np.nan, np.float32)
        keep = np.full((*todo.shape, *result.keep.shape[3:]) if result.keep.size else (0,) * 5, np.nan, np.float32)
        gaps = _gaps(tile, shape, tables, kind, todo.shape)
        given = (tile.numbers, shape, places, tables.blocks, nodes, gaps)
        if kind < MASKED:
            sweep_strip(*given, room_for_rims(shape, tables.blocks, nodes), (found, keep))
        elif kind == MASKED:
            sweep_masked(*given, np.zeros((3, shape.rows, shape.columns), np.float32), (found, keep))
        else:
            sweep_gaps(*given, (found, keep))
        search.mode[here][gaps.far] = MASKED if kind < MASKED else GAPPY
        found[gaps.far] = np.nan
        result.found[here][todo] = found[todo]
        if result.keep.size:
            result.keep[here][todo] = keep[todo]


Pass = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _passes(tile: Tile, cell: Cell, shape: Shape, chips: Chips, span: np.ndarray, todo: np.ndarray, kind: int) -> Iterator[Pass]:
    """Return which chips of a strip are done together, with what is taken out of the blocks, and the chips' totals and scales.

    Blocks of the secondary without pixels at offset zero take a level from the chip that they are needed for, so coarse
    that most chips agree on it.
    """
    if not todo.any():
        return
    if kind in (PLAIN, MASKED):
        yield todo, np.zeros((2, 0, 0)), chips.total, chips.scale
        return
    level, (other, some) = chips.level[_blocks(cell, shape)], _level_of_secondary(tile, cell, shape)
    if kind == LEVELLED:
        yield todo, np.stack([level, np.where(some, other, level)]), np.zeros_like(chips.total), chips.scale
        return
    pixels = np.maximum(chips.valid * np.square(tile.layout.counts * shape.side)[:, None, None], 1.0)
    means = np.stack([chips.total / pixels, np.zeros_like(chips.total)])
    missing = np.zeros(todo.shape, np.bool_)
    for c in range(len(todo)):
        present = _windows(some, tile.layout, c, todo.shape[1:])
        count = present.sum((2, 3))
        total = np.where(present, _windows(other, tile.layout, c, todo.shape[1:]), 0.0).sum((2, 3))
        means[1, c] = total / np.maximum(count, 1)
        for n, m in zip(*np.nonzero(todo[c] & (count == 0)), strict=True):
            means[1, c, n, m] = _mean_of_window(tile, cell, shape, span, (c, int(n), int(m)))
        missing[c] = count < tile.layout.counts[c] ** 2
    coarse = np.exp2(np.ceil(np.log2(8.0 / (chips.scale * np.sqrt(pixels)))))
    rough = np.where(missing, np.rint(means[1] / coarse) * coarse, 0.0)
    for value in np.unique(rough[todo]):
        yield todo & (rough == value), np.stack([level, np.where(some, other, value)]), *means[::-1].astype(np.float32)


def _blocks(cell: Cell, shape: Shape) -> tuple[slice, slice]:
    top, left = cell[0] * shape.step, cell[2] * shape.step
    return slice(top, top + shape.rows), slice(left, left + shape.columns)


def _mean_of_window(tile: Tile, cell: Cell, shape: Shape, span: np.ndarray, chip: tuple[int, int, int]) -> float:
    """Return the mean of all pixels that one chip is compared with; zero if there are none."""
    c, n, m = chip
    size = int(tile.layout.counts[c]) * shape.side
    ranges = []
    for k, node, first in ((0, cell[0] + n, shape.dy), (2, cell[2] + m, shape.dx)):
        at = tile.far + (node * shape.step + int(tile.layout.starts[c])) * shape.side + first
        ranges.append(slice(at + int(span[n, k, m]), at + int(span[n, k + 1, m]) - 1 + size))
    pixels = np.asarray(_secondary(tile)[tuple(ranges)][tile.s_valid[tuple(ranges)]], np.float64)
    return float(pixels.mean()) if pixels.size else 0.0


def _secondary(tile: Tile) -> np.ndarray:
    return tile.numbers[tile.r_valid.size : images_of(tile)].reshape(tile.s_valid.shape)


def _windows(blocks: np.ndarray, layout: Layout, chip: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the blocks of every chip of one size: (row, column, block row, block column)."""
    count, start = int(layout.counts[chip]), int(layout.starts[chip])
    rows, columns = (slice(start, start + (n - 1) * layout.step + 1, layout.step) for n in shape)
    return np.lib.stride_tricks.sliding_window_view(blocks, (count, count))[rows, columns]


def _level_of_secondary(tile: Tile, cell: Cell, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of every block of the secondary at offset zero, and whether it has any pixels."""
    side = shape.side
    size = (shape.rows * side, shape.columns * side)
    y, x = (cell[k] * side * shape.step + tile.far for k in (0, 2))
    images = (_secondary(tile), tile.s_valid)
    parts = (array[y : y + size[0], x : x + size[1]].reshape(shape.rows, side, shape.columns, side) for array in images)
    total, count = (part.sum((1, 3), dtype=np.float64) for part in parts)
    return total / np.maximum(count, 1), count > 0


def _fill_boxes(numbers: np.ndarray, places: Places, table: np.ndarray, tables: Tables) -> None:
    planes = np.full((len(tables.pixels), 2), -1)
    planes[tables.of_box[tables.of_chip], 0] = np.arange(len(tables.of_chip))
    planes[tables.of_box[1:], 1] = table[1:, PLANE]
    region = (places.s, places.s_step, places.height, places.pitch, places.mean, places.inverse)
    fill_boxes(numbers, region, tables.pixels, tables.remember, planes, *room_for_boxes(tables.remember, places.pitch))


def _gaps(tile: Tile, shape: Shape, tables: Tables, kind: int, chips: tuple[int, ...]) -> Gaps:
    """Return where the images have pixels, and room for the sums of a strip of chips with gaps in double precision."""
    line = PLANES * shape.group * shape.vectors * LANES
    rows = tables.lines, tables.ring * shape.panels * shape.bands * shape.columns
    sums = np.zeros(sum(rows) * line if kind == GAPPY else 0)
    return Gaps(images_of(tile), images_of(tile), tile.min_valid, sums, rows[0] * line, np.zeros(chips, np.bool_))


def _mark_far(tile: Tile, search: Search, cell: Cell) -> None:
    """Set chips of a cell to ``LEVELLED`` that are compared with a box whose mean is too large for its spread."""
    layout, boxes, here = tile.layout, tile.boxes, (slice(*cell[:2]), slice(*cell[2:]))
    step, plane = layout.step * layout.side, boxes.height * boxes.pitch
    span = np.ascontiguousarray(search.span[here[0], :, here[1]])
    for c, (count, start) in enumerate(zip(layout.counts, layout.starts, strict=True)):
        if not boxes.far[c].any():
            continue
        mode = search.mode[c][here]
        at = (boxes.mean + c * plane, boxes.inverse + c * plane, boxes.pitch)
        first = int(start) * layout.side
        where = (first + cell[0] * step - boxes.dy, first + cell[2] * step - boxes.dx, step, int(count) * layout.side)
        chosen = np.zeros(mode.shape, np.bool_)
        find_far(tile.numbers, at, where, boxes.far[c], (mode == PLAIN) & (search.rims[c, :, :, 1][here] == 0), span, chosen)
        mode[chosen] = LEVELLED
