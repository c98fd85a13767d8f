"""Sums of products of a block of one image with the shifted blocks of another, held in vector registers.

The inner loop of the correlation is written in LLVM's own terms, since the sums of ``GROUP`` rows of
offsets times up to 48 offsets along x must stay in registers over the whole block; a compiler that sees
plain loops spills them. The vectors are 16 numbers wide; LLVM splits them on processors with narrower ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

GROUP = 5
"""Rows of offsets that one pass over a block serves."""

LANES = 16
WIDEST = 3 * LANES
"""Offsets along x that one pass over a block serves, at most."""

_FLOAT = ir.FloatType()
_INDEX = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)


def _make_products(rows: int, vectors: int) -> Any:
    """Return an intrinsic that adds the products of ``rows`` rows of a block to ``GROUP * vectors * 16`` sums."""

    @intrinsic
    def add_products(typing_context, r, r_at, r_step, s, s_at, s_step, sums, sums_at, columns):
        i8 = types.int64
        signature = types.void(r, i8, i8, s, i8, i8, sums, i8, i8)

        def build(context, builder, signature, args):
            first = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 6)]
            r_ptr, s_ptr, sums_ptr = (builder.gep(data, [args[k + 1]]) for data, k in zip(first, (0, 3, 6), strict=True))
            _emit(builder, (r_ptr, args[2]), (s_ptr, args[5]), sums_ptr, args[8], (rows, vectors))
            return context.get_dummy_value()

        return signature, build

    return add_products


def _number(value: int) -> Any:
    return ir.Constant(_INDEX, value)


def _place(builder: Any, base: Any, offset: Any) -> Any:
    return builder.bitcast(builder.gep(base, [offset]), _VECTOR.as_pointer())


def _load(builder: Any, base: Any, offset: Any) -> Any:
    value = builder.load(_place(builder, base, offset))
    value.align = 4
    return value


def _spread(builder: Any, pixel: Any) -> Any:
    """Repeat one number in all lanes of a vector."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    single = builder.insert_element(undefined, pixel, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _emit(builder: Any, r: Any, s: Any, sums: Any, count: Any, shape: tuple[int, int]) -> None:
    """Write the loop over the columns of a block; ``r`` and ``s`` are a pointer and the length of a row."""
    rows, vectors = shape
    fma_type = ir.FunctionType(_VECTOR, [_VECTOR, _VECTOR, _VECTOR])
    fma = cgutils.get_or_insert_function(builder.module, fma_type, f"llvm.fma.v{LANES}f32")
    before = builder.block
    start = [_load(builder, sums, _number(n * LANES)) for n in range(GROUP * vectors)]
    loop, done = builder.append_basic_block("columns"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    column = builder.phi(_INDEX)
    column.add_incoming(_number(0), before)
    kept = [builder.phi(_VECTOR) for _ in start]
    for phi, value in zip(kept, start, strict=True):
        phi.add_incoming(value, before)
    now = list(kept)
    for q in range(rows + GROUP - 1):
        at = builder.add(builder.mul(s[1], _number(q)), column)
        shifted = [_load(builder, s[0], builder.add(at, _number(k * LANES))) for k in range(vectors)]
        for g in range(max(0, q - rows + 1), min(GROUP, q + 1)):
            pixel = builder.load(builder.gep(r[0], [builder.add(builder.mul(r[1], _number(q - g)), column)]))
            spread = _spread(builder, pixel)
            for k in range(vectors):
                now[g * vectors + k] = builder.call(fma, [spread, shifted[k], now[g * vectors + k]])
    after = builder.add(column, _number(1))
    column.add_incoming(after, builder.block)
    for phi, value in zip(kept, now, strict=True):
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", after, count), loop, done)
    builder.position_at_end(done)
    for n, value in enumerate(now):
        builder.store(value, _place(builder, sums, _number(n * LANES))).align = 4


_8x1, _8x2, _8x3 = _make_products(8, 1), _make_products(8, 2), _make_products(8, 3)
_4x1, _4x2, _4x3 = _make_products(4, 1), _make_products(4, 2), _make_products(4, 3)


@njit(nogil=True, cache=True, error_model="numpy")
def block_products(
    r: np.ndarray, r_at: int, r_step: int, s: np.ndarray, s_at: int, s_step: int, side: int, vectors: int, sums: np.ndarray
) -> None:
    """Sum the products of a block of ``r`` with ``GROUP`` x ``16 * vectors`` shifted blocks of ``s``.

    Parameters
    ----------
    r, s : float32 (n,)
        Images row after row; ``r_at``, ``s_at`` index the block's first pixel, ``*_step`` are the lengths of a row.
    side : int
        Side of the block, px.
    vectors : int
        1, 2 or 3: how many sixteens of offsets along x.
    sums : float32 (GROUP * 16 * vectors,)
        Result, ``sums[g, d] = sum r[y, x] s[y + g, x + d]``.
    """
    for k in range(GROUP * LANES * vectors):
        sums[k] = np.float32(0)
    y = 0
    while y < side:
        ra, sa = r_at + y * r_step, s_at + y * s_step
        if side - y >= 8:
            if vectors == 1:
                _8x1(r, ra, r_step, s, sa, s_step, sums, 0, side)
            elif vectors == 2:
                _8x2(r, ra, r_step, s, sa, s_step, sums, 0, side)
            else:
                _8x3(r, ra, r_step, s, sa, s_step, sums, 0, side)
            y += 8
        elif side - y >= 4:
            if vectors == 1:
                _4x1(r, ra, r_step, s, sa, s_step, sums, 0, side)
            elif vectors == 2:
                _4x2(r, ra, r_step, s, sa, s_step, sums, 0, side)
            else:
                _4x3(r, ra, r_step, s, sa, s_step, sums, 0, side)
            y += 4
        else:
            _row_products(r, ra, s, sa, s_step, side, LANES * vectors, sums)
            y += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _row_products(r, r_at, s, s_at, s_step, side, reach, sums):
    """Do for one row of a block what the intrinsics do for eight or four."""
    for g in range(GROUP):
        kept = sums[g * reach : (g + 1) * reach]
        for x in range(side):
            pixel, shifted = r[r_at + x], s[s_at + g * s_step + x : s_at + g * s_step + x + reach]
            for d in range(reach):
                kept[d] += pixel * shifted[d]
