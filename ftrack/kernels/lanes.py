"""Vectors of 16 numbers in LLVM's own terms: how they are asked for, loaded, stored, compared and looped over."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16

NONE = -3.0
"""Stands where an offset has no coefficient."""

FLOAT = ir.FloatType()
INDEX = ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
PLACES = ir.VectorType(ir.IntType(32), LANES)
BITS = ir.IntType(LANES)


def on_a_line(room: np.ndarray) -> np.ndarray:
    """Return a row of float32 from where a line of the processor's cache begins, at most ``LANES - 1`` numbers behind its first.

    Vectors that begin at multiples of ``LANES`` then do not lie across two lines.
    """
    return room[-room.ctypes.data % (4 * LANES) // 4 :]


def number(value: int) -> Any:
    """Return a constant whole number."""
    return ir.Constant(INDEX, value)


def place_of(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    """Return where a vector begins, some numbers behind a place."""
    return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())


def load(builder: Any, base: Any, offset: Any, kind: Any = VECTOR) -> Any:
    """Load a vector from some numbers behind a place; it may begin anywhere."""
    value = builder.load(place_of(builder, base, offset, kind))
    value.align = 4
    return value


def store(builder: Any, value: Any, base: Any, offset: Any) -> None:
    """Store a vector some numbers behind a place; it may begin anywhere."""
    builder.store(value, place_of(builder, base, offset, value.type)).align = 4


def spread(builder: Any, number: Any, kind: Any = VECTOR) -> Any:
    """Repeat one number in all lanes of a vector."""
    undefined = ir.Constant(kind, ir.Undefined)
    single = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    places = ir.VectorType(PLACES.element, kind.count)
    return builder.shuffle_vector(single, undefined, ir.Constant(places, [0] * kind.count))


def fma_of(builder: Any, kind: Any = VECTOR) -> Any:
    """Return what multiplies two vectors and adds a third, rounding once."""
    function = ir.FunctionType(kind, [kind, kind, kind])
    return cgutils.get_or_insert_function(builder.module, function, f"llvm.fma.v{kind.count}f32")


class Loop:
    """A loop over ``0, step, 2 * step, ...`` below ``end`` that carries values along."""

    def __init__(self, builder: Any, end: Any, step: int, carried: list[Any]) -> None:
        self.builder, self.end, self.step = builder, end, step
        before = builder.block
        self.body, self.done = builder.append_basic_block("body"), builder.append_basic_block("done")
        builder.branch(self.body)
        builder.position_at_end(self.body)
        self.index = builder.phi(INDEX)
        self.index.add_incoming(number(0), before)
        self.carried = [builder.phi(value.type) for value in carried]
        for phi, value in zip(self.carried, carried, strict=True):
            phi.add_incoming(value, before)

    def close(self, values: list[Any]) -> None:
        """End the body; afterwards the loop is done and ``values`` are those of the last turn."""
        builder = self.builder
        after = builder.add(self.index, number(self.step))
        self.index.add_incoming(after, builder.block)
        for phi, value in zip(self.carried, values, strict=True):
            phi.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed("<", after, self.end), self.body, self.done)
        builder.position_at_end(self.done)


def larger(builder: Any, a: Any, b: Any) -> Any:
    """Return the larger of two vectors, lane by lane."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def highest_lane(builder: Any, value: Any) -> Any:
    """Return the largest number of a vector."""
    width = LANES
    while width > 1:
        width //= 2
        halves = [ir.Constant(ir.VectorType(ir.IntType(32), width), [k + first for k in range(width)]) for first in (0, width)]
        value = larger(builder, *(builder.shuffle_vector(value, value, half) for half in halves))
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


def bits_of(builder: Any, lanes: Any) -> Any:
    """Return a vector of truths as a number with a bit for each lane."""
    return builder.bitcast(lanes, BITS)


def _fetch(typing_context, numbers, at, step, rows, columns):
    """Ask for rows of numbers that will be looked at soon, so that they are on their way to the processor's caches; any place will do."""
    i8 = types.int64
    signature = types.void(numbers, i8, i8, i8, i8)

    def build(context, builder, signature, args):
        start = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        kind, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = ir.FunctionType(ir.VoidType(), [kind, flag, flag, flag])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [kind], function)
        read, second, data = (ir.Constant(flag, value) for value in (0, 2, 1))
        down = Loop(builder, args[3], 1, [])
        along = Loop(builder, args[4], LANES, [])
        place = builder.gep(start, [builder.add(builder.mul(down.index, args[2]), along.index)])
        builder.call(prefetch, [builder.bitcast(place, kind), read, second, data])
        along.close([])
        down.close([])
        return context.get_dummy_value()

    return signature, build


fetch: Any = intrinsic(_fetch)
