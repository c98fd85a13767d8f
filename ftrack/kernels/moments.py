"""What the sums of a chip need to know of the reference: valid pixels, mean and spread of every block and chip."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ftrack.kernels.boxes import FAINTEST, FLAT, LEVEL
from ftrack.kernels.chain import DOWN, FIRST, RIGHT, SECOND
from ftrack.kernels.compiled import filling
from ftrack.kernels.lanes import LANES, VECTOR, Loop, larger, load, number, store
from ftrack.kernels.layout import Layout

_DOUBLES, _FLAGS = ir.VectorType(ir.DoubleType(), LANES), ir.VectorType(ir.IntType(8), LANES)

LARGEST = 1e15
"""Larger values count as no data: their products would leave the range of single precision."""


class Chips(NamedTuple):
    """Moments of the reference.

    ``level`` is the mean of every block, ``weight`` (box, block row, block column) what the difference of means of a
    box's two parts adds to its covariance. All others are (chip, row, column): share of valid pixels, missing texture,
    a mean too large for the spread, sum of the pixels, and inverse root of the summed squared deviations.
    """

    level: np.ndarray
    weight: np.ndarray
    valid: np.ndarray
    flat: np.ndarray
    far: np.ndarray
    total: np.ndarray
    scale: np.ndarray


@filling
def copy_valid(image, top, left, out, valid):
    """Copy an image into a larger one at ``(top, left)``, zero and not valid where there are no data.

    Return how many of its own pixels are not.
    """
    count = 0
    x0, x1 = min(max(0, left), out.shape[1]), max(min(image.shape[1] + left, out.shape[1]), 0)
    for y in range(out.shape[0]):
        if y < top or y >= top + image.shape[0] or x1 <= x0:
            out[y], valid[y] = np.float32(0), False
            continue
        out[y, :x0], valid[y, :x0], out[y, x1:], valid[y, x1:] = np.float32(0), False, np.float32(0), False
        source, target, flags = image[y - top, x0 - left : x1 - left], out[y, x0:x1], valid[y, x0:x1]
        gaps = 0
        for x in range(source.size):
            fine = abs(source[x]) <= np.float32(LARGEST)
            target[x] = source[x] if fine else np.float32(0)
            flags[x] = fine
            gaps += not fine
        count += gaps
    return count


@filling
def sum_flags(flags, total):
    """Fill how many flags lie above and to the left of every corner: bool (y, x), int32 (y + 1, x + 1)."""
    for y in range(flags.shape[0]):
        row = 0
        for x in range(flags.shape[1]):
            row += flags[y, x]
            total[y + 1, x + 1] = total[y, x + 1] + row


def summed(flags: np.ndarray) -> np.ndarray:
    """Return how many flags lie above and to the left of every corner."""
    total = np.zeros((flags.shape[0] + 1, flags.shape[1] + 1), np.int32)
    sum_flags(flags, total)
    return total


def measure_chips(image: np.ndarray, valid: np.ndarray, layout: Layout, chain: np.ndarray, of_chip: np.ndarray) -> Chips:
    """Return the moments of a reference without gaps filled by zero: float32 (y, x) and bool (y, x)."""
    shape, blocks = (len(layout.counts), layout.rows, layout.columns), (len(chain), *layout.shape)
    moments, weight = np.zeros((4, *blocks)), np.zeros(blocks, np.float32)
    if image.shape[1] < LANES:
        more = ((0, 0), (0, LANES - image.shape[1]))
        image, valid = np.pad(image, more), np.pad(valid, more)
    rooms = np.zeros(image.shape[1], np.float32), np.empty((4, image.shape[1]))
    numbers, flags = np.empty((3, *shape), np.float32), np.empty((2, *shape), np.bool_)
    _measure_blocks(image, valid, layout.side, rooms, moments[0, 0], moments[1, 0], moments[2, 0], moments[3, 0])
    given = (layout.side, layout.step, layout.counts, layout.starts, of_chip), (*blocks, *shape[1:])
    _measure_chips(moments.ravel(), chain, *given, weight.ravel(), numbers.ravel(), flags.ravel())
    return Chips(moments[1, 0].copy(), weight, numbers[0], flags[0], flags[1], numbers[1], numbers[2])


def _add_rows(typing_context, image, at, width, valid, middle, rows, out, first, count):
    """Add up ``count`` columns, from the first on, of ``rows`` pixels less ``middle``; one vector at the least.

    Fill the number of valid pixels, their sum, that of their squares and their largest absolute value, ``width`` apart.
    """
    i8 = types.int64
    signature = types.void(image, i8, i8, valid, middle, i8, out, i8, i8)

    def build(context, builder, signature, args):
        pixels, flags, levels, target = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 4, 6))
        pixels, flags = (builder.gep(data, [args[1]]) for data in (pixels, flags))
        zero, none = ir.Constant(VECTOR, [0.0] * LANES), ir.Constant(_DOUBLES, [0.0] * LANES)
        size = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR]), f"llvm.fabs.v{LANES}f32")
        along = Loop(builder, args[8], LANES, [])
        place = builder.add(along.index, args[7])
        level = load(builder, levels, place)
        down = Loop(builder, args[5], 1, [zero, none, none, zero])
        number_of, total, squares, largest = down.carried
        at = builder.add(builder.mul(down.index, args[2]), place)
        pixel, there = load(builder, pixels, at), load(builder, flags, at, _FLAGS)
        there.align = 1
        there = builder.icmp_unsigned("!=", there, ir.Constant(_FLAGS, [0] * LANES))
        value = builder.fpext(builder.select(there, builder.fsub(pixel, level), zero), _DOUBLES)
        number_of = builder.fadd(number_of, builder.select(there, ir.Constant(VECTOR, [1.0] * LANES), zero))
        squares = builder.fadd(squares, builder.fmul(value, value))
        sums = [number_of, builder.fadd(total, value), squares, larger(builder, builder.call(size, [pixel]), largest)]
        down.close(sums)
        for k, value in enumerate(sums):
            value = value if value.type == _DOUBLES else builder.fpext(value, _DOUBLES)
            store(builder, value, target, builder.add(builder.mul(args[2], number(k)), place))
        along.close([])
        return context.get_dummy_value()

    return signature, build


_add_up: Any = intrinsic(_add_rows)


@filling
def _measure_blocks(image, valid, side, rooms, n, mean, spread, top):
    """Fill count, mean, sum of squared deviations and largest absolute value of the valid pixels of every block."""
    (middle, added), width = rooms, image.shape[1]
    pixels, flags, out = image.reshape(-1), valid.reshape(-1), added.reshape(-1)
    count, total, squares, largest = added[0], added[1], added[2], added[3]
    for i in range(n.shape[0]):
        for j in range(n.shape[1]):
            middle[j * side : (j + 1) * side] = image[i * side + side // 2, j * side + side // 2]
        for first, columns in ((0, width - LANES), (width - LANES, LANES)):
            _add_up(pixels, i * side * width, width, flags, middle, side, out, first, columns)
        for j in range(n.shape[1]):
            held, one, two, highest = 0.0, 0.0, 0.0, 0.0
            for x in range(j * side, (j + 1) * side):
                held, one, two, highest = held + count[x], one + total[x], two + squares[x], max(highest, largest[x])
            if held > 0.0:
                n[i, j], mean[i, j] = held, middle[j * side] + one / held
                spread[i, j], top[i, j] = max(two - one * one / held, 0.0), highest


@filling
def _measure_chips(moments, chain, layout, shape, weight, numbers, flags):
    """Put the moments of boxes together from those of their parts (Chan et al. 1983), and fill what is known of chips; see `Chips`."""
    (side, step, counts, starts, of_chip), (boxes, rows, columns, down, along) = layout, shape
    second = np.uintp(boxes * rows * columns)
    third, fourth = second + second, second + second + second
    for b in range(1, boxes):
        right, below = chain[b, RIGHT], chain[b, DOWN]
        for y in range(rows - below):
            one, other = np.uintp((chain[b, FIRST] * rows + y) * columns), np.uintp((chain[b, SECOND] * rows + y + below) * columns + right)
            both = np.uintp((b * rows + y) * columns)
            for x in range(np.uintp(columns - right)):
                p, q, out = one + x, other + x, both + x
                n1, n2 = moments[p], moments[q]
                mean, difference = moments[second + p], moments[second + p] - moments[second + q]
                spreads, top = moments[third + p] + moments[third + q], max(moments[fourth + p], moments[fourth + q])
                n = max(n1 + n2, 1.0)
                share = n1 * n2 / n
                moments[out], moments[second + out] = n1 + n2, mean - difference * n2 / n
                moments[third + out], moments[fourth + out] = spreads + share * (difference * difference), top
                weight[out] = np.float32(share * difference)
    chips, k = np.uintp(counts.size * down * along), np.uintp(0)
    for c in range(counts.size):
        size = np.float64((counts[c] * side) ** 2)
        for i in range(down):
            at = np.uintp((of_chip[c] * rows + starts[c] + i * step) * columns + starts[c])
            for _ in range(along):
                n, mean, spread = moments[at], moments[second + at], moments[third + at]
                deviation = np.sqrt(spread / max(n, 1.0))
                numbers[k], numbers[chips + k] = np.float32(n / size), np.float32(n * mean)
                numbers[chips + chips + k] = np.float32(1.0 / np.sqrt(max(spread, 1e-60)))
                flags[k] = not (deviation > FLAT * moments[fourth + at] and deviation * deviation > FAINTEST)
                flags[chips + k] = abs(mean) > LEVEL * deviation
                k, at = k + np.uintp(1), at + np.uintp(step)
