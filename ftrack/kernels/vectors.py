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


def _place(builder: Any, base: Any, offset: Any) -> Any:
    return builder.bitcast(builder.gep(base, [offset]), _VECTOR.as_pointer())


def _load(builder: Any, base: Any, offset: Any) -> Any:
    value = builder.load(_place(builder, base, offset))
    value.align = 4
    return value


def _store(builder: Any, value: Any, base: Any, offset: Any) -> None:
    builder.store(value, _place(builder, base, offset)).align = 4


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
