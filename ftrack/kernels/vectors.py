"""The inner loops of the correlation, written in vectors of 16 numbers so that sums stay in the processor's registers.

A compiler that sees plain loops spills the sums of a block at many offsets; here the loops are written in LLVM's own
terms. LLVM splits the vectors on processors with narrower ones. Every number of a result is summed in an order that
depends on the size of the block alone, not on the place of its offset in a vector, so results do not depend on how
offsets are put together.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16

MOST_VECTORS = 3
WIDEST = MOST_VECTORS * LANES
"""Offsets along x that one line of sums holds, at most."""

GROUPS = (0, 12, 8, 6)
"""Rows of offsets that one pass over a block serves, by the number of vectors along x: as many sums as registers hold."""

NONE = -3.0
"""Stands where an offset has no coefficient."""

_FLOAT = ir.FloatType()
_INDEX = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_PLACES = ir.VectorType(ir.IntType(32), LANES)


def _number(value: int) -> Any:
    return ir.Constant(_INDEX, value)


def _place(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())


def _load(builder: Any, base: Any, offset: Any, kind: Any = _VECTOR) -> Any:
    value = builder.load(_place(builder, base, offset, kind))
    value.align = 4
    return value


def _store(builder: Any, value: Any, base: Any, offset: Any) -> None:
    builder.store(value, _place(builder, base, offset, value.type)).align = 4


def _spread(builder: Any, number: Any, kind: Any = _VECTOR) -> Any:
    """Repeat one number in all lanes of a vector."""
    undefined = ir.Constant(kind, ir.Undefined)
    single = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(_PLACES, [0] * LANES))


def _fma(builder: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR, _VECTOR])
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")


class _Loop:
    """A loop over ``0, step, 2 * step, ...`` below ``end`` that carries values along."""

    def __init__(self, builder: Any, end: Any, step: int, carried: list[Any]) -> None:
        self.builder, self.end, self.step = builder, end, step
        before = builder.block
        self.body, self.done = builder.append_basic_block("body"), builder.append_basic_block("done")
        builder.branch(self.body)
        builder.position_at_end(self.body)
        self.index = builder.phi(_INDEX)
        self.index.add_incoming(_number(0), before)
        self.carried = [builder.phi(value.type) for value in carried]
        for phi, value in zip(self.carried, carried, strict=True):
            phi.add_incoming(value, before)

    def close(self, values: list[Any]) -> None:
        """End the body; afterwards the loop is done and ``values`` are those of the last turn."""
        builder = self.builder
        after = builder.add(self.index, _number(self.step))
        self.index.add_incoming(after, builder.block)
        for phi, value in zip(self.carried, values, strict=True):
            phi.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed("<", after, self.end), self.body, self.done)
        builder.position_at_end(self.done)


def make_products(rows: int, vectors: int) -> Any:
    """Return an intrinsic that sums the products of a block with ``GROUPS[vectors]`` times ``vectors * 16`` shifted blocks.

    ``side`` is a multiple of ``rows``; ``sums[g, d] = sum r[y, x] s[y + g, x + d]``.
    """
    group = GROUPS[vectors]

    @intrinsic
    def products(typing_context, r, r_at, r_step, s, s_at, s_step, side, sums, sums_at):
        i8 = types.int64
        signature = types.void(r, i8, i8, s, i8, i8, i8, sums, i8)

        def build(context, builder, signature, args):
            arrays = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 7)]
            r_ptr, s_ptr, out = (builder.gep(data, [args[k + 1]]) for data, k in zip(arrays, (0, 3, 7), strict=True))
            r_step, s_step, side = args[2], args[5], args[6]
            fma = _fma(builder)
            zero = ir.Constant(_VECTOR, [0.0] * LANES)
            down = _Loop(builder, side, rows, [zero] * (group * vectors))
            r_row = builder.gep(r_ptr, [builder.mul(down.index, r_step)])
            s_row = builder.gep(s_ptr, [builder.mul(down.index, s_step)])
            along = _Loop(builder, side, 1, down.carried)
            now = list(along.carried)
            for q in range(rows + group - 1):
                at = builder.add(builder.mul(s_step, _number(q)), along.index)
                shifted = [_load(builder, s_row, builder.add(at, _number(k * LANES))) for k in range(vectors)]
                for g in range(max(0, q - rows + 1), min(group, q + 1)):
                    place = builder.add(builder.mul(r_step, _number(q - g)), along.index)
                    pixel = _spread(builder, builder.load(builder.gep(r_row, [place])))
                    for k in range(vectors):
                        now[g * vectors + k] = builder.call(fma, [pixel, shifted[k], now[g * vectors + k]])
            along.close(now)
            down.close(now)
            for n, value in enumerate(now):
                _store(builder, value, out, _number(n * LANES))
            return context.get_dummy_value()

        return signature, build

    return products


def make_merge(push: bool, levelled: bool) -> Any:
    """Return an intrinsic that adds lines of sums: ``out = a + b``, ``+ weight * d`` with the differences of boxes ``d``.

    All are places in one array. Lines are ``rows`` times ``reach`` numbers long; those of ``d`` lie ``pitch`` apart. If
    ``push``, ``a`` is then overwritten with ``kept``.
    """

    @intrinsic
    def merge(typing_context, numbers, a, b, out, kept, weight, d, pitch, rows, reach):
        i8 = types.int64
        signature = types.void(numbers, i8, i8, i8, i8, types.float32, i8, i8, i8, i8)

        def build(context, builder, signature, args):
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            a_ptr, b_ptr, out_ptr, kept_ptr, d_ptr = (builder.gep(data, [args[k]]) for k in (1, 2, 3, 4, 6))
            pitch, rows, reach = args[7:10]
            fma, spread = _fma(builder), _spread(builder, args[5])
            down = _Loop(builder, rows, 1, [])
            line, d_line = builder.mul(down.index, reach), builder.mul(down.index, pitch)
            along = _Loop(builder, reach, LANES, [])
            at = builder.add(line, along.index)
            total = builder.fadd(_load(builder, a_ptr, at), _load(builder, b_ptr, at))
            if levelled:
                total = builder.call(fma, [spread, _load(builder, d_ptr, builder.add(d_line, along.index)), total])
            if push:
                _store(builder, _load(builder, kept_ptr, at), a_ptr, at)
            _store(builder, total, out_ptr, at)
            along.close([])
            down.close([])
            return context.get_dummy_value()

        return signature, build

    return merge


def _normalise(typing_context, numbers, sums, mean, inverse, pitch, total, scale, rows, reach, first, last, out, width, top):
    """Turn lines of sums into coefficients, ``(sums - total * mean) * scale * inverse``; keep the highest of each row in ``top``.

    All are places in one array; lines of sums lie ``reach`` apart, those of boxes ``pitch``, those of the result
    ``width``. Where ``inverse`` is zero and outside the offsets ``first`` to ``last`` along x the result is ``NONE``.
    """
    i8, f4 = types.int64, types.float32
    signature = types.void(numbers, i8, i8, i8, i8, f4, f4, i8, i8, i8, i8, i8, i8, i8)

    def build(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        sums_ptr, mean_ptr, inverse_ptr, out_ptr, top_ptr = (builder.gep(data, [args[k]]) for k in (1, 2, 3, 11, 13))
        pitch, rows, reach, width = args[4], args[7], args[8], args[12]
        total, scale = _spread(builder, builder.fneg(args[5])), _spread(builder, args[6])
        i4 = ir.IntType(32)
        first, last = (_spread(builder, builder.trunc(args[k], i4), _PLACES) for k in (9, 10))
        fma, none = _fma(builder), ir.Constant(_VECTOR, [NONE] * LANES)
        zero, places = ir.Constant(_VECTOR, [0.0] * LANES), ir.Constant(_PLACES, list(range(LANES)))
        down = _Loop(builder, rows, 1, [])
        line, plane, target = (builder.mul(down.index, step) for step in (reach, pitch, width))
        along = _Loop(builder, reach, LANES, [none])
        inverted = _load(builder, inverse_ptr, builder.add(plane, along.index))
        value = _load(builder, sums_ptr, builder.add(line, along.index))
        value = builder.call(fma, [total, _load(builder, mean_ptr, builder.add(plane, along.index)), value])
        value = builder.fmul(builder.fmul(value, scale), inverted)
        place = builder.add(_spread(builder, builder.trunc(along.index, i4), _PLACES), places)
        inside = builder.and_(builder.icmp_signed(">=", place, first), builder.icmp_signed("<", place, last))
        inside = builder.and_(inside, builder.fcmp_ordered(">", inverted, zero))
        value = builder.select(inside, value, none)
        _store(builder, value, out_ptr, builder.add(target, along.index))
        best = _larger(builder, value, along.carried[0])
        along.close([best])
        best = _highest_lane(builder, best)
        place = builder.gep(top_ptr, [down.index])
        builder.store(_larger(builder, best, builder.load(place)), place)
        down.close([])
        return context.get_dummy_value()

    return signature, build


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _highest_lane(builder: Any, value: Any) -> Any:
    width = LANES
    while width > 1:
        width //= 2
        order = [(k + width) % LANES for k in range(LANES)]
        other = builder.shuffle_vector(value, value, ir.Constant(_PLACES, order))
        value = _larger(builder, value, other)
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)


def _merge_boxes(typing_context, sums, one, other, out, squares, weight, share1, share2, differences, d_at, count):
    """Merge the sums and squared deviations of two boxes at ``count`` places; keep the difference of their means.

    ``d = sums[one] * share1 - sums[other] * share2``, ``sums[out] = sums[one] + sums[other]`` and
    ``squares[out] = squares[one] + squares[other] + weight * d * d`` (Chan et al. 1983).
    """
    i8, f8 = types.int64, types.float64
    signature = types.void(sums, i8, i8, i8, squares, types.float32, f8, f8, differences, i8, i8)
    double = sums.dtype == types.float64

    def build(context, builder, signature, args):
        data = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 4, 8)]
        kind = _DOUBLES if double else _VECTOR
        a, b, total = (builder.gep(data[0], [args[k]]) for k in (1, 2, 3))
        qa, qb, spread = (builder.gep(data[1], [args[k]]) for k in (1, 2, 3))
        difference = builder.gep(data[2], [args[9]])
        shares = args[6:8] if double else [builder.fptrunc(args[k], _FLOAT) for k in (6, 7)]
        one, other = (_spread(builder, share, kind) for share in shares)
        weight, fma = _spread(builder, args[5]), _fma(builder)
        loop = _Loop(builder, args[10], LANES, [])
        at = loop.index
        first, second = _load(builder, a, at, kind), _load(builder, b, at, kind)
        _store(builder, builder.fadd(first, second), total, at)
        d = builder.fsub(builder.fmul(first, one), builder.fmul(second, other))
        d = builder.fptrunc(d, _VECTOR) if double else d
        _store(builder, d, difference, at)
        q = builder.fadd(_load(builder, qa, at), _load(builder, qb, at))
        _store(builder, builder.call(fma, [builder.fmul(weight, d), d, q]), spread, at)
        loop.close([])
        return context.get_dummy_value()

    return signature, build


def _highest_maximum(typing_context, numbers, above, at, below, first, last, left, right):
    """Return the highest local maximum of a row between ``first`` and ``last`` that is not between ``left`` and ``right``.

    ``above``, ``at`` and ``below`` are the places of three rows; ``NONE`` where there is no maximum. One number on each
    side of the three rows is looked at.
    """
    i8, i4 = types.int64, ir.IntType(32)
    signature = types.float32(numbers, i8, i8, i8, i8, i8, i8, i8)

    def build(context, builder, signature, args):
        rows = [builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[k]]) for k in (1, 2, 3)]
        limits = [_spread(builder, builder.trunc(args[k], i4), _PLACES) for k in (5, 6, 7)]
        places, none = ir.Constant(_PLACES, list(range(LANES))), ir.Constant(_VECTOR, [NONE] * LANES)
        start = builder.gep(rows[1], [args[4]])
        loop = _Loop(builder, builder.sub(args[5], args[4]), LANES, [none])
        at = builder.add(loop.index, args[4])
        value = _load(builder, start, loop.index)
        place = builder.add(_spread(builder, builder.trunc(at, i4), _PLACES), places)
        near = builder.and_(builder.icmp_signed(">=", place, limits[1]), builder.icmp_signed("<", place, limits[2]))
        fine = builder.and_(builder.icmp_signed("<", place, limits[0]), builder.not_(near))
        for row in rows:
            for beside in (-1, 0, 1):
                other = _load(builder, row, builder.add(at, _number(beside)))
                fine = builder.and_(fine, builder.fcmp_ordered(">=", value, other))
        best = _larger(builder, builder.select(fine, value, none), loop.carried[0])
        loop.close([best])
        return _highest_lane(builder, best)

    return signature, build


normalise: Any = intrinsic(_normalise)
merge_boxes: Any = intrinsic(_merge_boxes)
highest_maximum: Any = intrinsic(_highest_maximum)
