"""How a kernel's commonest steps become LLVM's: single numbers of arrays, and sums, products and comparisons of numbers.

Numba finds a function for every one of them anew, which writes several times as much as is needed; the rest is done by Numba.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.ir import Expr, StaticSetItem
from numba.core.lowering import Lower

_ARITHMETIC = {
    operator.add: "add",
    operator.iadd: "add",
    operator.sub: "sub",
    operator.isub: "sub",
    operator.mul: "mul",
    operator.imul: "mul",
}
_BITWISE = {
    operator.and_: "and_",
    operator.iand: "and_",
    operator.or_: "or_",
    operator.ior: "or_",
    operator.xor: "xor",
    operator.ixor: "xor",
}
_COMPARED = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "==", operator.ne: "!="}


class QuickLower(Lower):
    """Writes a kernel in LLVM's terms."""

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        """Return room for a variable, of which debuggers need not know."""
        return cgutils.alloca_once(self.builder, lltype, name=name, zfill=False)

    def lower_inst(self, inst: Any) -> Any:
        """Write a statement."""
        if isinstance(inst, StaticSetItem) and isinstance(self.typeof(inst.target.name), types.Array):
            return self.lower_setitem(inst.target, inst.index_var, inst.value, self.fndesc.calltypes[inst])
        return super().lower_inst(inst)

    def lower_expr(self, resty: Any, expr: Any) -> Any:
        """Write an expression."""
        if expr.op == "static_getitem" and isinstance(self.typeof(expr.value.name), types.Array):
            return self.lower_getitem(resty, expr, expr.value, expr.index_var, self.fndesc.calltypes[expr])
        return super().lower_expr(resty, expr)

    def lower_getitem(self, resty: Any, expr: Any, value: Any, index: Any, signature: Any) -> Any:
        """Write what reads a part of an array."""
        array, at = self.typeof(value.name), self.typeof(index.name)
        if self.context.enable_boundscheck or not _is_number(array, at):
            return super().lower_getitem(resty, expr, value, index, signature)
        number = self.context.unpack_value(self.builder, array.dtype, self._place(array, value, at, index), align=_align(array))
        return self.context.cast(self.builder, number, array.dtype, resty)

    def lower_setitem(self, target_var: Any, index_var: Any, value_var: Any, signature: Any) -> Any:
        """Write what changes a part of an array."""
        array, at, kind = (self.typeof(var.name) for var in (target_var, index_var, value_var))
        simple = _is_number(array, at) and isinstance(kind, types.Number | types.Boolean)
        if self.context.enable_boundscheck or not simple:
            return super().lower_setitem(target_var, index_var, value_var, signature)
        number = self.context.cast(self.builder, self.loadvar(value_var.name), kind, array.dtype)
        place = self._place(array, target_var, at, index_var)
        return self.context.pack_value(self.builder, array.dtype, number, place, align=_align(array))

    def _place(self, array: Any, value: Any, at: Any, index: Any) -> Any:
        """Return where a number of an array lies."""
        builder, model = self.builder, self.context.data_model_manager[array]
        struct, indices = self.loadvar(value.name), self.loadvar(index.name)
        data, shape, strides = (builder.extract_value(struct, model.get_field_position(name)) for name in ("data", "shape", "strides"))
        places = []
        for axis, kind in enumerate(_kinds_of(at)):
            place = indices if at is kind else builder.extract_value(indices, axis)
            place = self.context.cast(builder, place, kind, types.intp if kind.signed else types.uintp)
            if kind.signed and not (isinstance(place, ir.Constant) and place.constant >= 0):
                wrapped = builder.add(place, builder.extract_value(shape, axis))
                place = builder.select(builder.icmp_signed("<", place, place.type(0)), wrapped, place)
            places.append(place)
        if array.layout == "C":
            offset, step = places[-1], None
            for axis in range(array.ndim - 1, 0, -1):
                side = builder.extract_value(shape, axis)
                step = side if step is None else builder.mul(side, step)
                offset = builder.add(builder.mul(places[axis - 1], step), offset)
            return builder.gep(data, [offset])
        lengths = (builder.extract_value(strides, axis) for axis in range(array.ndim))
        offset = places[0].type(0)
        for place, length in zip(places, lengths, strict=True):
            offset = builder.add(offset, builder.mul(length, place))
        return cgutils.pointer_add(builder, data, offset)

    def lower_binop(self, resty: Any, expr: Expr, op: Any) -> Any:
        """Write an operation on two values."""
        signature = self.fndesc.calltypes[expr]
        (kind, other), result = signature.args, signature.return_type
        step = self._step(op, kind, result) if kind == other else None
        if step is None:
            return super().lower_binop(resty, expr, op)
        values = [self.context.cast(self.builder, self.loadvar(var.name), self.typeof(var.name), kind) for var in (expr.lhs, expr.rhs)]
        return self.context.cast(self.builder, step(*values), result, resty)

    def _step(self, op: Any, kind: Any, result: Any) -> Any:
        """Return what writes an operation on two numbers of a kind, or nothing."""
        builder, whole = self.builder, isinstance(kind, types.Integer)
        if not whole and not isinstance(kind, types.Float):
            return None
        if op in _COMPARED and result == types.boolean:
            compare = builder.fcmp_unordered if op is operator.ne else builder.fcmp_ordered
            if whole:
                compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
            return lambda a, b: compare(_COMPARED[op], a, b)
        if op in _ARITHMETIC and result == kind:
            name = _ARITHMETIC[op]
            if not whole:
                return getattr(builder, f"f{name}")
            return lambda a, b: getattr(builder, name)(a, b, flags=["nsw"] if kind.signed else [])
        if op in _BITWISE and whole and result == kind:
            return getattr(builder, _BITWISE[op])
        return None


def _is_number(array: Any, at: Any) -> bool:
    """Return whether a single number of an array is asked for."""
    if not isinstance(array, types.Array) or not isinstance(array.dtype, types.Number | types.Boolean):
        return False
    kinds = _kinds_of(at)
    return len(kinds) == array.ndim and all(isinstance(kind, types.Integer) for kind in kinds) and array.layout in "CA"


def _kinds_of(at: Any) -> tuple[Any, ...]:
    """Return the types of all indices."""
    return at.types if isinstance(at, types.Tuple | types.UniTuple) else (at,)


def _align(array: Any) -> int | None:
    return None if array.aligned else 1
