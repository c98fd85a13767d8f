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


def _data(context: Any, builder: Any, signature: Any, args: Any, k: int) -> Any:
    """Return the pointer to the element ``args[k + 1]`` of the array ``args[k]``."""
    data = context.make_array(signature.args[k])(context, builder, args[k]).data
    return builder.gep(data, [args[k + 1]])


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

    ``side`` is a multiple of ``rows``; ``sums[g, d] = sum r[y, x] s[y + g, x + d]`` is overwritten.
    """
    group = GROUPS[vectors]

    @intrinsic
    def products(typing_context, r, r_at, r_step, s, s_at, s_step, side, sums, sums_at):
        i8 = types.int64
        signature = types.void(r, i8, i8, s, i8, i8, i8, sums, i8)

        def build(context, builder, signature, args):
            r_ptr, s_ptr, out = (_data(context, builder, signature, args, k) for k in (0, 3, 7))
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

    Lines are ``rows`` times ``reach`` numbers long; those of ``d`` lie ``pitch`` apart. If ``push``, ``a`` is then
    overwritten with ``kept``.
    """

    @intrinsic
    def merge(typing_context, a, a_at, b, b_at, kept, kept_at, out, out_at, weight, d, d_at, pitch, rows, reach):
        i8, f4 = types.int64, types.float32
        signature = types.void(a, i8, b, i8, kept, i8, out, i8, f4, d, i8, i8, i8, i8)

        def build(context, builder, signature, args):
            a_ptr, b_ptr, kept_ptr, out_ptr = (_data(context, builder, signature, args, k) for k in (0, 2, 4, 6))
            d_ptr, pitch, rows, reach = _data(context, builder, signature, args, 9), args[11], args[12], args[13]
            fma, spread = _fma(builder), _spread(builder, args[8])
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


@intrinsic
def normalise(
    typing_context,
    sums,
    sums_at,
    mean,
    inverse,
    at,
    pitch,
    total,
    scale,
    rows,
    reach,
    first,
    last,
    out,
    out_at,
    out_pitch,
    top,
    top_at,
):
    """Turn lines of sums into coefficients, ``(sums - total * mean) * scale * inverse``, and keep the highest of each row in ``top``.

    Where ``inverse`` is zero and outside the offsets ``first`` to ``last`` along x the result is ``NONE``.
    """
    i8, f4 = types.int64, types.float32
    signature = types.void(sums, i8, mean, inverse, i8, i8, f4, f4, i8, i8, i8, i8, out, i8, i8, top, i8)

    def build(context, builder, signature, args):
        sums_ptr, out_ptr, highest_ptr = (_data(context, builder, signature, args, k) for k in (0, 12, 15))
        arrays = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (2, 3)]
        mean_ptr, inverse_ptr = (builder.gep(data, [args[4]]) for data in arrays)
        pitch, rows, reach, out_pitch = args[5], args[8], args[9], args[14]
        total, scale = _spread(builder, builder.fneg(args[6])), _spread(builder, args[7])
        i4 = ir.IntType(32)
        first, last = (_spread(builder, builder.trunc(args[k], i4), _PLACES) for k in (10, 11))
        fma, none = _fma(builder), ir.Constant(_VECTOR, [NONE] * LANES)
        zero, places = ir.Constant(_VECTOR, [0.0] * LANES), ir.Constant(_PLACES, list(range(LANES)))
        down = _Loop(builder, rows, 1, [])
        line, plane, target = (builder.mul(down.index, step) for step in (reach, pitch, out_pitch))
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
        place = builder.gep(highest_ptr, [down.index])
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


@intrinsic
def merge_boxes(
    typing_context, sums, a_at, b_at, sums_out, squares, qa_at, qb_at, squares_out, one, other, weight, differences, d_at, count
):
    """Merge the sums and squared deviations of two boxes at ``count`` places; keep the difference of their means.

    ``d = sums[a] * one - sums[b] * other``, ``sums = a + b``, ``squares = qa + qb + weight * d * d`` (Chan et al. 1983).
    """
    i8, f8 = types.int64, types.float64
    signature = types.void(sums, i8, i8, i8, squares, i8, i8, i8, f8, f8, types.float32, differences, i8, i8)
    double = sums.dtype == types.float64

    def build(context, builder, signature, args):
        data = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 4, 11)]
        kind = _DOUBLES if double else _VECTOR
        a, b, total = (builder.gep(data[0], [args[k]]) for k in (1, 2, 3))
        qa, qb, spread = (builder.gep(data[1], [args[k]]) for k in (5, 6, 7))
        difference = builder.gep(data[2], [args[12]])
        shares = args[8:10] if double else [builder.fptrunc(args[k], _FLOAT) for k in (8, 9)]
        one, other = (_spread(builder, share, kind) for share in shares)
        weight, fma = _spread(builder, args[10]), _fma(builder)
        loop = _Loop(builder, args[13], LANES, [])
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
