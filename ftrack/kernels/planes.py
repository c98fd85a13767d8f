"""Arithmetic on planes of numbers, element by element, written in vectors: what is written for an array becomes a loop of a kernel.

A function of planes reads ``planes[k]``, computes, and assigns to ``planes[k]``. Given a NumPy array it works on that; made into an
intrinsic, its operators write instructions. Numba takes longer to compile loops of that length, and leaves them without vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ftrack.kernels.lanes import Loop, load, number, spread, store

LANES = 8
"""Numbers that are worked on at once: planes are read and written in multiples of so many."""

ALIGNED = 2 * LANES
"""Lines that are added are read and written in multiples of so many numbers."""

KIND = ir.VectorType(ir.DoubleType(), LANES)


Operator = Callable[["Vector", Any], "Vector"]


def _both_ways(name: str) -> tuple[Operator, Operator]:
    """Return the operators that write an instruction, for a vector on the left and on the right."""
    return (lambda self, other: self._write(name, self, other)), (lambda self, other: self._write(name, other, self))


class Vector:
    """Numbers side by side, or truths, or a single number of a kernel that is being written."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _of(self, other: Any) -> Any:
        if isinstance(other, Vector):
            return other.value
        kind = self.value.type
        return ir.Constant(kind, [float(other)] * kind.count if isinstance(kind, ir.VectorType) else float(other))

    def _write(self, name: str, first: Any, second: Any) -> Vector:
        return Vector(self.builder, getattr(self.builder, name)(self._of(first), self._of(second)))

    def _compare(self, sign: str, other: Any) -> Vector:
        write = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        return Vector(self.builder, write(sign, self.value, self._of(other)))

    __add__, __radd__ = _both_ways("fadd")
    __sub__, __rsub__ = _both_ways("fsub")
    __mul__, __rmul__ = _both_ways("fmul")
    __truediv__, __rtruediv__ = _both_ways("fdiv")

    def __neg__(self) -> Vector:
        return Vector(self.builder, self.builder.fneg(self.value))

    def __and__(self, other: Vector) -> Vector:
        return self._write("and_", self, other)

    def __gt__(self, other: Any) -> Vector:
        return self._compare(">", other)

    def __eq__(self, other: Any) -> Any:
        return self._compare("==", other)

    def __ne__(self, other: Any) -> Any:
        return self._compare("!=", other)

    __hash__ = None  # type: ignore[assignment]


def where(chosen: Any, one: Any, other: Any) -> Any:
    """Return one where that is chosen, else the other."""
    if isinstance(chosen, Vector):
        numbers = next((value for value in (one, other) if isinstance(value, Vector)), Vector(chosen.builder, ir.Constant(KIND, None)))
        return Vector(chosen.builder, chosen.builder.select(chosen.value, numbers._of(one), numbers._of(other)))
    return np.where(chosen, one, other)


def larger(a: Any, b: Any) -> Any:
    """Return the larger number."""
    return where(a > b, a, b)


def smaller(a: Any, b: Any) -> Any:
    """Return the smaller number."""
    return where(a > b, b, a)


def root(a: Any) -> Any:
    """Return the square root."""
    if not isinstance(a, Vector):
        return np.sqrt(a)
    function = cgutils.get_or_insert_function(a.builder.module, ir.FunctionType(KIND, [KIND]), f"llvm.sqrt.v{LANES}f64")
    return Vector(a.builder, a.builder.call(function, [a.value]))


class _Planes:
    """Planes of a kernel that is being written, at one place; what was read or assigned is at hand."""

    def __init__(self, builder: Any, base: Any, pitch: Any, at: Any) -> None:
        self.builder, self.base, self.pitch, self.at = builder, base, pitch, at
        self.known: dict[int, Vector] = {}

    def _place(self, plane: int) -> Any:
        return self.builder.add(self.builder.mul(self.pitch, number(plane)), self.at)

    def __getitem__(self, plane: int) -> Vector:
        if plane not in self.known:
            self.known[plane] = Vector(self.builder, load(self.builder, self.base, self._place(plane), KIND))
        return self.known[plane]

    def __setitem__(self, plane: int, value: Any) -> None:
        vector = value if isinstance(value, Vector) else Vector(self.builder, ir.Constant(KIND, [float(value)] * LANES))
        self.known[plane] = vector
        store(self.builder, vector.value, self.base, self._place(plane))


def each(function: Callable[..., None]) -> Any:
    """Make an intrinsic of a function of planes and numbers: ``intrinsic(planes, pitch, count, numbers)``.

    Planes lie ``pitch`` numbers apart in a row of float64. The first ``count`` of each are worked on, and those up to the next multiple of
    ``LANES``. ``numbers`` is a tuple of float64.
    """

    @intrinsic
    def written(typing_context, planes, pitch, count, numbers):
        signature = types.void(planes, types.int64, types.int64, numbers)

        def build(context, builder, signature, args):
            base = context.make_array(signature.args[0])(context, builder, args[0]).data
            given = [Vector(builder, spread(builder, builder.extract_value(args[3], k), KIND)) for k in range(numbers.count)]
            loop = Loop(builder, args[2], LANES, [])
            function(_Planes(builder, base, args[1], loop.index), *given)
            loop.close([])
            return context.get_dummy_value()

        return signature, build

    return written


def _add_lines(typing_context: Any, lines: Any, at: Any, step: Any, weights: Any, taps: Any, out: Any, out_at: Any, count: Any) -> Any:
    """Fill the weighted sum of ``taps`` lines of ``count`` numbers which begin ``step`` numbers apart, in their order."""
    i8 = types.int64
    signature = types.void(lines, i8, i8, weights, i8, out, i8, i8)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines_at, weights_at, out_at = (context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 3, 5))
        first, result = builder.gep(lines_at, [args[1]]), builder.gep(out_at, [args[6]])
        zero = ir.Constant(KIND, [0.0] * LANES)
        along = Loop(builder, args[7], ALIGNED, [])
        taps = Loop(builder, args[4], 1, [zero, zero, along.index])
        *before, place = taps.carried
        weight = spread(builder, builder.load(builder.gep(weights_at, [taps.index])), KIND)
        parts = (load(builder, first, builder.add(place, number(k)), KIND) for k in (0, LANES))
        totals = [builder.fadd(total, builder.fmul(weight, part)) for total, part in zip(before, parts, strict=True)]
        taps.close([*totals, builder.add(place, args[2])])
        for k, total in zip((0, LANES), totals, strict=True):
            store(builder, total, result, builder.add(along.index, number(k)))
        along.close([])
        return context.get_dummy_value()

    return signature, build


add_lines: Any = intrinsic(_add_lines)
