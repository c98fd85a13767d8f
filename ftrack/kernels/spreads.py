"""Sums over the columns of cut chips, their means and inverse spreads at the offsets of a row, in vectors of 16 columns or offsets.

Numbers behind the last offset are read, and in rooms for sums written too, up to a whole vector.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ftrack.kernels.boxes import FAINTEST, FLAT, LEVEL
from ftrack.kernels.lanes import BITS, LANES, PLACES, VECTOR, Loop, bits_of, load, spread, store

_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)

LOST = 1e-10
"""A spread below this share of the power of all pixels looked at may be lost in differences of sums."""


def _doubles(value: float) -> Any:
    return ir.Constant(_DOUBLES, [value] * LANES)


def _singles(value: float) -> Any:
    return ir.Constant(VECTOR, [value] * LANES)


def _add_rows(typing_context, numbers, at, step, rows, sums, pitch, count):
    """Add rows of pixels, and of their squares ``pitch`` behind, to sums of ``count`` columns, one row after the other."""
    i8 = types.int64
    signature = types.void(numbers, i8, i8, i8, sums, i8, i8)

    def build(context, builder, signature, args):
        data, target = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 4))
        source = builder.gep(data, [args[1]])
        along = Loop(builder, args[6], LANES, [])
        places = (along.index, builder.add(along.index, args[5]))
        down = Loop(builder, args[3], 1, [load(builder, target, place, _DOUBLES) for place in places])
        pixels = load(builder, source, builder.add(builder.mul(down.index, args[2]), along.index))
        pixels = builder.fpext(pixels, _DOUBLES)
        values = [builder.fadd(now, value) for now, value in zip(down.carried, (pixels, builder.fmul(pixels, pixels)), strict=True)]
        down.close(values)
        for value, place in zip(values, places, strict=True):
            store(builder, value, target, place)
        along.close([])
        return context.get_dummy_value()

    return signature, build


def _add_shifted(typing_context, sums, at, shift, out, pitch, count):
    """Add to each of ``count`` sums that which lies ``shift`` behind, in two planes ``pitch`` apart; all are places in one array."""
    i8 = types.int64
    signature = types.void(sums, i8, i8, i8, i8, i8)

    def build(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        source, target = (builder.gep(data, [args[k]]) for k in (1, 3))
        loop = Loop(builder, args[5], LANES, [])
        for at in (loop.index, builder.add(loop.index, args[4])):
            both = [load(builder, source, place, _DOUBLES) for place in (at, builder.add(at, args[2]))]
            store(builder, builder.fadd(*both), target, at)
        loop.close([])
        return context.get_dummy_value()

    return signature, build


def make_measure(reference: bool) -> Any:
    """Return an intrinsic that turns sums over a row of chips into what the correlation needs of them.

    ``sums`` has the sums of pixels at ``plus`` and of their squares ``pitch`` behind, less, for the reference, those at
    ``minus``, and the numbers of columns and their inverses at ``columns``; chips have ``rows`` rows. Written to ``out`` are
    the sum (of the reference) or the mean (of the secondary) and the inverse root of the summed squared deviations: NaN
    where it is lost, zero where there are fewer pixels than ``fewest`` or there is no texture. ``power`` is the power of all
    pixels looked at or, for the secondary, the place of the largest sums of squares so far.
    """

    @intrinsic
    def measure(typing_context, sums, plus, minus, pitch, columns, power, rows, fewest, out, first, inverse, count):
        i8, f8 = types.int64, types.float64
        signature = types.void(sums, i8, i8, i8, i8, f8 if reference else i8, f8, f8, out, i8, i8, i8)

        def build(context, builder, signature, args):
            data, target = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 8))
            added, taken, pixels = (builder.gep(data, [args[k]]) for k in (1, 2, 4))
            first, second = (builder.gep(target, [args[k]]) for k in (9, 10))
            rows, fewest = spread(builder, args[6], _DOUBLES), spread(builder, args[7], _DOUBLES)
            part = builder.fdiv(_doubles(1.0), rows)
            loop = Loop(builder, args[11], LANES, [])
            at = loop.index
            behind = builder.add(at, args[3])
            one, two = (load(builder, added, place, _DOUBLES) for place in (at, behind))
            if reference:
                one, two = (builder.fsub(value, load(builder, taken, place, _DOUBLES)) for value, place in ((one, at), (two, behind)))
                least = builder.fmul(_doubles(LOST), spread(builder, args[5], _DOUBLES))
            else:
                before = load(builder, builder.gep(data, [args[5]]), at, _DOUBLES)
                most = builder.select(builder.fcmp_ordered(">", two, before), two, before)
                store(builder, most, builder.gep(data, [args[5]]), at)
                least = builder.fmul(_doubles(LOST), most)
            n = builder.fmul(rows, load(builder, pixels, at, _DOUBLES))
            mean = builder.fmul(one, builder.fmul(part, load(builder, pixels, behind, _DOUBLES)))
            store(builder, builder.fptrunc(one if reference else mean, VECTOR), first, at)
            store(builder, _invert(builder, (one, two, mean), n, fewest, least), second, at)
            loop.close([])
            return context.get_dummy_value()

        return signature, build

    return measure


def _invert(builder: Any, moments: tuple[Any, Any, Any], n: Any, fewest: Any, least: Any) -> Any:
    one, two, mean = moments
    power = builder.fmul(one, mean)
    deviations = builder.fsub(two, power)
    far = builder.fcmp_ordered(">", power, builder.fmul(_doubles(LEVEL * LEVEL), deviations))
    far = builder.or_(far, builder.fcmp_ordered("<", deviations, least))
    enough = builder.fcmp_ordered(">=", n, fewest)
    fine = builder.and_(enough, builder.fcmp_ordered(">", deviations, builder.fmul(_doubles(FLAT * FLAT), two)))
    fine = builder.and_(fine, builder.fcmp_ordered(">", deviations, builder.fmul(_doubles(FAINTEST), n)))
    root = cgutils.get_or_insert_function(builder.module, ir.FunctionType(VECTOR, [VECTOR]), f"llvm.sqrt.v{LANES}f32")
    single = builder.fptrunc(builder.select(fine, deviations, _doubles(1.0)), VECTOR)
    inverse = builder.fdiv(_singles(1.0), builder.call(root, [single]))
    inverse = builder.select(fine, inverse, _singles(0.0))
    return builder.select(builder.and_(enough, far), _singles(math.nan), inverse)


def make_combine(single: bool) -> Any:
    """Return an intrinsic that writes the products of two parts of A and B at ``count`` offsets, and returns whether some B is lost.

    The reference's parts lie in ``parts`` at ``a`` and ``b``, or are these numbers if ``single``; the secondary's lie in
    ``others`` at ``mean`` and ``inverse``. A and B are written to ``numbers`` at two places.
    """

    @intrinsic
    def combine(typing_context, parts, a, b, others, mean, inverse, numbers, a_at, b_at, count):
        i8 = types.int64
        signature = types.boolean(parts, a, b, others, i8, i8, numbers, i8, i8, i8)
        if single:
            signature = types.boolean(parts, types.float32, types.float32, others, i8, i8, numbers, i8, i8, i8)

        def build(context, builder, signature, args):
            data = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 6)]
            others, targets = (builder.gep(data[1], [args[k]]) for k in (4, 5)), [builder.gep(data[2], [args[k]]) for k in (7, 8)]
            mine = [spread(builder, args[k]) if single else builder.gep(data[0], [args[k]]) for k in (1, 2)]
            i4, pairs = ir.IntType(32), list(zip(mine, others, targets, strict=True))
            last, lanes = spread(builder, builder.trunc(args[9], i4), PLACES), ir.Constant(PLACES, list(range(LANES)))
            loop = Loop(builder, args[9], LANES, [BITS(0)])
            at = loop.index
            inside = builder.icmp_signed("<", builder.add(spread(builder, builder.trunc(at, i4), PLACES), lanes), last)
            for part, other, target in pairs:
                value = builder.fmul(part if single else load(builder, part, at), load(builder, other, at))
                store(builder, builder.select(inside, value, load(builder, target, at)), target, at)
            lost = bits_of(builder, builder.and_(inside, builder.fcmp_unordered("uno", value, value)))
            lost = builder.or_(lost, loop.carried[0])
            loop.close([lost])
            return builder.icmp_unsigned("!=", lost, BITS(0))

        return signature, build

    return combine


add_shifted: Any = intrinsic(_add_shifted)
add_rows: Any = intrinsic(_add_rows)
