"""Means and spreads of the boxes of every chip at every pixel of an image: rows are put together first, then their columns.

A row of boxes is made of two rows that are made already, so that sums and squared deviations keep their accuracy whatever the
brightness. The order of all sums depends on the size of a box alone.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ftrack.kernels.boxes import find_pieces, invert, most_of, piece_of
from ftrack.kernels.compiled import filling, inner
from ftrack.kernels.lanes import LANES, VECTOR, Loop, fma_of, load, number, on_a_line, spread, store

LENGTH, FIRST, SECOND = range(3)
"""Columns of a chain: how long a line is, and the lines that it is made of."""

LATEST = -1
"""Stands for the line that has just been made."""


def lengths_for(lengths: tuple[int, ...]) -> np.ndarray:
    """Return which lines are put together until there is one of every length: int64 (line, 3), beginning with a single pixel."""
    chain: dict[int, tuple[int, int]] = {1: (0, 0)}

    def add(length: int) -> None:
        if length not in chain:
            second = length // 2 if length % 2 == 0 else 1
            add(length - second)
            chain[length] = (length - second, second)

    for length in lengths:
        add(length)
    at = {length: k for k, length in enumerate(chain)}
    return np.array([(length, at.get(first, 0), at.get(second, 0)) for length, (first, second) in chain.items()])


def _join(builder: Any, one: list[Any], other: list[Any], scales: list[Any]) -> tuple[Any, Any]:
    """Merge sums and squared deviations of two boxes (Chan et al. 1983)."""
    difference = builder.fsub(builder.fmul(one[0], scales[0]), builder.fmul(other[0], scales[1]))
    squares = builder.fadd(one[1], other[1])
    squares = builder.call(fma_of(builder), [builder.fmul(scales[2], difference), difference, squares])
    return builder.fadd(one[0], other[0]), squares


def _stack_rows(typing_context, numbers, at, lines, pitch, places, scales, levels, count):
    """Put a row of pixels together with rows above: fill ``levels`` lines of sums and, ``pitch`` behind, of squared deviations.

    Line by line, ``places``, int64 (line, 3), are those of its first part, of its second, ``LATEST`` if it is the line before, and of
    itself; ``scales``, float32 (line, 3), are one over the pixels of both parts, and the weight of the squared difference of means.
    The first line is that of the pixels.
    """
    i8 = types.int64
    signature = types.void(numbers, i8, lines, i8, places, scales, i8, i8)

    def build(context, builder, signature, args):
        data, room, table, factors = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 2, 4, 5))
        behind, source = builder.gep(room, [args[3]]), builder.gep(data, [args[1]])
        along = Loop(builder, args[7], LANES, [])
        pixels = load(builder, source, along.index)
        store(builder, pixels, room, builder.add(builder.load(builder.gep(table, [number(2)])), along.index))
        down = Loop(builder, args[6], 1, [pixels, ir.Constant(VECTOR, [0.0] * LANES)])
        row = builder.mul(builder.add(down.index, number(1)), number(3))
        first, second, own = (builder.load(builder.gep(table, [builder.add(row, number(k))])) for k in range(3))
        three = [spread(builder, builder.load(builder.gep(factors, [builder.add(row, number(k))]))) for k in range(3)]
        before = builder.block
        with builder.if_then(builder.icmp_signed("!=", second, number(LATEST)), likely=False):
            at = builder.add(second, along.index)
            looked_up, within = [load(builder, part, at) for part in (room, behind)], builder.block
        other = []
        for latest, part in zip(down.carried, looked_up, strict=True):
            value = builder.phi(VECTOR)
            value.add_incoming(latest, before)
            value.add_incoming(part, within)
            other.append(value)
        at = builder.add(first, along.index)
        now = _join(builder, [load(builder, part, at) for part in (room, behind)], other, three)
        for value, part in zip(now, (room, behind), strict=True):
            store(builder, value, part, builder.add(own, along.index))
        down.close(list(now))
        along.close([])
        return context.get_dummy_value()

    return signature, build


def _merge_columns(typing_context, lines, pitch, one, other, out, scale1, scale2, weight, count):
    """Put two lines of sums, and the squared deviations ``pitch`` behind, together at ``count`` places."""
    i8, f4 = types.int64, types.float32
    signature = types.void(lines, i8, i8, i8, i8, f4, f4, f4, i8)

    def build(context, builder, signature, args):
        room = context.make_array(signature.args[0])(context, builder, args[0]).data
        behind, scales = builder.gep(room, [args[1]]), [spread(builder, value) for value in args[5:8]]
        loop = Loop(builder, args[8], LANES, [])
        one, other = ([load(builder, part, builder.add(at, loop.index)) for part in (room, behind)] for at in args[2:4])
        for value, part in zip(_join(builder, one, other, scales), (room, behind), strict=True):
            store(builder, value, part, builder.add(args[4], loop.index))
        loop.close([])
        return context.get_dummy_value()

    return signature, build


_stack: Any = intrinsic(_stack_rows)
_merge: Any = intrinsic(_merge_columns)


def fill_stacked(numbers: np.ndarray, region: tuple[int, int, int, int, int, int], sizes: tuple[int, ...], far: np.ndarray) -> None:
    """Fill mean and inverse root of the summed squared deviations of the boxes at every place of a region, for every chip.

    Parameters
    ----------
    numbers : float32 (n,)
        Holds the image, and takes the results.
    region : (at, step, rows, columns, mean, inverse)
        See ``ftrack.kernels.boxes.fill_boxes``.
    sizes : int
        Sides of the chips, px.
    far : int64 (chip, row)
        Result, see ``ftrack.kernels.boxes.Boxes``.
    """
    chains, scales = _chains_for(sizes)
    pitch = (int(chains[1][-1].sum()) + 1) * region[3] + LANES
    lines, places = on_a_line(np.zeros(2 * pitch + 2 * LANES, np.float32)), np.empty((len(scales), 3), np.int64)
    _fill_stacked(numbers, region, chains, (lines, pitch, places, scales), far)


@lru_cache(maxsize=64)
def _chains_for(sizes: tuple[int, ...]) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return how rows are put together, how many are kept of each kind and which is the first, how columns are, and the chips' rows.

    The last are the scales of `_stack_rows`.
    """
    tall = lengths_for(sizes)
    kept = np.ones(len(tall), np.int64)
    for _, first, second in tall[1:]:
        kept[first] = max(kept[first], tall[second, LENGTH] + 1)
    alone = [lengths_for((size,)) for size in sizes]
    wide = np.zeros((len(sizes), max(map(len, alone)), 3), np.int64)
    for chip, chain in enumerate(alone):
        wide[chip, : len(chain)] = chain
    of_chip = np.array([int(np.flatnonzero(tall[:, LENGTH] == size)[0]) for size in sizes])
    scales = np.array([_scales(tall[first, LENGTH], tall[second, LENGTH]) for _, first, second in tall], np.float32)
    return (tall, np.stack([kept, np.cumsum(kept) - kept], 1), wide, of_chip), scales


def _scales(n1: int, n2: int) -> tuple[float, float, float]:
    return 1 / n1, 1 / n2, n1 * n2 / (n1 + n2)


@filling
def _fill_stacked(numbers, region, chains, room, far):
    at, step, rows, columns, mean, inverse = region
    tall, kept, wide, of_chip = chains
    lines, pitch, places, scales = room
    for y in range(rows):
        for k in range(tall.shape[0]):
            first, second = tall[k, FIRST], tall[k, SECOND]
            above = (y - tall[second, LENGTH]) % kept[first, 0]
            places[k, 0] = (kept[first, 1] + above) * columns
            places[k, 1] = LATEST if second == k - 1 else (kept[second, 1] + y % kept[second, 0]) * columns
            places[k, 2] = (kept[k, 1] + y % kept[k, 0]) * columns
        _stack(numbers, at + y * step, lines, pitch, places, scales, tall.shape[0] - 1, columns)
        for c in range(of_chip.size):
            size = tall[of_chip[c], LENGTH]
            top, count = y - size + 1, columns - size + 1
            if top < 0:
                continue
            line = _widen(lines, pitch, (places[of_chip[c], 2], pitch - LANES - columns), wide[c], size, columns)
            place = (c * rows + top) * columns
            m, s, n = mean + place, inverse + place, size * size
            sums, squares = lines[line : line + count], lines[pitch + line : pitch + line + count]
            if invert(sums, squares, n, numbers[m : m + count], numbers[s : s + count]):
                far[c, top] = find_pieces(numbers[m : m + count], numbers[s : s + count], most_of(n), piece_of(columns))


@inner
def _widen(lines, pitch, places, chain, size, columns):
    """Put boxes of one column, ``size`` pixels high, together until they are as wide; return where they are."""
    (alone, out), line = places, places[0]
    for k in range(1, chain.shape[0]):
        width = chain[k, LENGTH]
        if width == 0:
            break
        n1, n2 = chain[chain[k, FIRST], LENGTH], chain[chain[k, SECOND], LENGTH]
        other, weight = (line if n1 == n2 else alone) + n1, np.float32(size * n1 * n2 / width)
        scale1, scale2 = np.float32(1.0 / (n1 * size)), np.float32(1.0 / (n2 * size))
        _merge(lines, pitch, line, other, out, scale1, scale2, weight, columns - width + 1)
        line = out
    return line
