"""The last steps from sums of products to coefficients, with what comes before them in the same pass."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ftrack.kernels.lanes import LANES, NONE, PLACES, VECTOR, Loop, fma_of, highest_lane, larger, load, number, spread, store


class _Scores:
    """Coefficients ``(sum - total * mean) * scale * inverse``, and the highest of each row.

    ``where`` are the places of means and inverses and how far apart their rows are, total and scale, the first and the
    last offset along x, the place of the coefficients and how far apart their rows are, and that of the highest. There
    is no coefficient where the inverse is zero or outside the offsets.
    """

    def __init__(self, builder: Any, data: Any, where: tuple[Any, ...]) -> None:
        mean, inverse, pitch, total, scale, first, last, out, width, top = where
        i4 = ir.IntType(32)
        self.builder, self.pitch, self.width, self.fma = builder, pitch, width, fma_of(builder)
        self.mean, self.inverse, self.out, self.top = (builder.gep(data, [place]) for place in (mean, inverse, out, top))
        self.total, self.scale = spread(builder, builder.fneg(total)), spread(builder, scale)
        self.first, self.last = (spread(builder, builder.trunc(place, i4), PLACES) for place in (first, last))
        self.none, self.zero = ir.Constant(VECTOR, [NONE] * LANES), ir.Constant(VECTOR, [0.0] * LANES)

    def inside(self, at: Any) -> Any:
        """Return which offsets of a vector that begins at ``at`` are looked at."""
        builder = self.builder
        place = spread(builder, builder.trunc(at, ir.IntType(32)), PLACES)
        place = builder.add(place, ir.Constant(PLACES, list(range(LANES))))
        return builder.and_(builder.icmp_signed(">=", place, self.first), builder.icmp_signed("<", place, self.last))

    def write(self, value: Any, row: Any, at: Any, inside: Any) -> Any:
        """Turn a vector of sums into coefficients; write and return them."""
        builder = self.builder
        place = builder.add(builder.mul(row, self.pitch), at)
        inverted = load(builder, self.inverse, place)
        value = builder.call(self.fma, [self.total, load(builder, self.mean, place), value])
        value = builder.fmul(builder.fmul(value, self.scale), inverted)
        inside = builder.and_(inside, builder.fcmp_ordered(">", inverted, self.zero))
        value = builder.select(inside, value, self.none)
        store(builder, value, self.out, builder.add(builder.mul(row, self.width), at))
        return value

    def keep(self, best: Any, row: Any) -> None:
        """Keep the highest coefficient of a row if it is higher than what is there."""
        place = self.builder.gep(self.top, [row])
        self.builder.store(larger(self.builder, highest_lane(self.builder, best), self.builder.load(place)), place)


def _normalise(typing_context, numbers, sums, mean, inverse, pitch, total, scale, rows, reach, first, last, out, width, top):
    """Turn lines of sums into coefficients; keep the highest of each row in ``top``, see ``_Scores``.

    All are places in one array; lines of sums lie ``reach`` apart.
    """
    i8, f4 = types.int64, types.float32
    signature = types.void(numbers, i8, i8, i8, i8, f4, f4, i8, i8, i8, i8, i8, i8, i8)

    def build(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        scores = _Scores(builder, data, (*args[2:7], *args[9:]))
        down = Loop(builder, args[7], 1, [])
        line = builder.gep(builder.gep(data, [args[1]]), [builder.mul(down.index, args[8])])
        along = Loop(builder, args[8], LANES, [scores.none])
        value = scores.write(load(builder, line, along.index), down.index, along.index, scores.inside(along.index))
        best = larger(builder, value, along.carried[0])
        along.close([best])
        scores.keep(best, down.index)
        down.close([])
        return context.get_dummy_value()

    return signature, build


def make_join(vectors: int, push: bool, score: bool, below: bool = True) -> Any:
    """Return an intrinsic that adds lines of ``vectors * 16`` sums side by side, and goes on with the result.

    If ``push``, it is added to ``above``, which it takes the place of, and what comes out is written to ``below``, if that is wanted. If
    ``score``, it is turned into coefficients, see ``_Scores``; the highest of a single vector are not kept. All are places in one array.
    """

    @intrinsic
    def join(typing_context, numbers, a, b, above, under, rows, mean, inverse, pitch, total, scale, first, last, out, width, top):
        i8, f4 = types.int64, types.float32
        signature = types.void(numbers, i8, i8, i8, i8, i8, i8, i8, i8, f4, f4, i8, i8, i8, i8, i8)

        def build(context, builder, signature, args):
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            a_ptr, b_ptr, above_ptr, under_ptr = (builder.gep(data, [args[k]]) for k in range(1, 5))
            scores = _Scores(builder, data, args[6:])
            places = [number(k * LANES) for k in range(vectors)]
            inside = [scores.inside(place) for place in places]
            down = Loop(builder, args[5], 1, [])
            line, best = builder.mul(down.index, number(vectors * LANES)), scores.none
            for place, here in zip(places, inside, strict=True):
                at = builder.add(line, place)
                value = builder.fadd(load(builder, a_ptr, at), load(builder, b_ptr, at))
                if push and below:
                    store(builder, builder.fadd(load(builder, above_ptr, at), value), under_ptr, at)
                if push:
                    store(builder, value, above_ptr, at)
                if score:
                    best = larger(builder, scores.write(value, down.index, place, here), best)
            if score and vectors > 1:
                scores.keep(best, down.index)
            down.close([])
            return context.get_dummy_value()

        return signature, build

    return join


normalise: Any = intrinsic(_normalise)
