"""The passes by which Numba compiles a kernel.

Kernels have no closures, generators, ``with`` or literal loops, and most make no arrays, so what looks for these is left out,
as is what is found about all variables again and again and only such things need.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from numba.core import typed_passes, types, untyped_passes
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler import Flags
from numba.core.inline_closurecall import InlineWorker
from numba.core.ir import Scope
from numba.core.ir_utils import build_definitions, guard, simplify_CFG
from numba.core.rewrites.registry import rewrite_registry
from numba.core.ssa import reconstruct_ssa
from numba.core.transforms import canonicalize_cfg

from ftrack.kernels.numba_lowering import QuickLower

Pass = Callable[[Any], object]


class Passes:
    """Passes that run one after the other."""

    pipeline_name = "kernels"

    def __init__(self, *passes: Pass) -> None:
        self.passes = passes
        self.exec_times: dict[str, Any] = {}

    def finalize(self) -> None:
        """Do nothing: nothing has to be prepared."""

    def run(self, state: Any) -> None:
        """Run all passes."""
        for each in self.passes:
            each(state)


_SAME = hash(Flags())


class QuickFlags(Flags):
    """Options of the compiler that are fast to compare, which is done for every operator."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is QuickFlags and self._values.keys() == other._values.keys():
            return bool(self._values == other._values)
        return bool(super().__eq__(other))

    def __hash__(self) -> int:
        return _SAME


def rewrite(state: Any) -> None:
    """Find constant indices and exponents."""
    blocks = state.func_ir.blocks
    for kind in rewrite_registry.rewrites["before-inference"]:
        change, todo = kind(state), list(blocks.items())
        while todo:
            label, block = todo.pop()
            if change.match(state.func_ir, block, state.typemap, state.calltypes):
                blocks[label] = change.apply()
                todo.append((label, blocks[label]))


class _Names(Scope):
    """Names of a function, of which each inlined block gets a copy; the variables themselves get other names there anyway."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Scope:
        copied = memo[id(self)] = _Names(self.parent, self.loc)
        copied.localvars._con.update(self.localvars._con)
        copied.redefined.update(self.redefined)
        copied.var_redefinitions.update({name: set(others) for name, others in self.var_redefinitions.items()})
        return copied


class _Worker(InlineWorker):
    """Inlines functions, each of which is translated once."""

    def __init__(self, state: Any) -> None:
        super().__init__(state.typingctx, state.targetctx, state.locals, state.pipeline, state.flags)
        self._compiler_pipeline = lambda _, name="": Passes(*BEFORE)

    def run_untyped_passes(self, func: Any, enable_ssa: bool = False) -> Any:
        if func not in _translated:
            _translated[func] = super().run_untyped_passes(func, enable_ssa)
            for block in _translated[func].blocks.values():
                block.scope.__class__ = _Names
        return _translated[func]


_translated: dict[Any, Any] = {}
_inlining = untyped_passes.InlineInlinables()


def inline(state: Any) -> None:
    """Write the functions that are inlined in the places where they are called."""
    worker, function = _Worker(state), state.func_ir
    todo, changed = list(function.blocks.items()), False
    while todo:
        _, block = todo.pop()
        for k, statement in enumerate(block.body):
            call = getattr(statement, "value", None)
            if getattr(call, "op", None) == "call" and guard(_inlining._do_work, state, todo, block, k, call, worker):
                changed = True
                break
    if changed:
        for dead in compute_cfg_from_blocks(function.blocks).dead_nodes():
            del function.blocks[dead]
        function.blocks = simplify_CFG(function.blocks)
    function.blocks = canonicalize_cfg(function.blocks)


def assign_once(state: Any) -> None:
    """Give every assignment of a variable a name of its own."""
    state.func_ir = reconstruct_ssa(state.func_ir)
    state.func_ir._definitions = build_definitions(state.func_ir.blocks)


class _Known:
    """A typing context that remembers what operators give for numbers, and has functions compiled for no single number of their own."""

    def __init__(self, context: Any, known: dict[Any, Any]) -> None:
        self._context, self._known = context, known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, func: Any, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        if isinstance(func, types.Dispatcher):
            args = tuple(types.unliteral(arg) for arg in args)
        if kws or type(func) is not types.Function or not all(isinstance(arg, types.Number | types.Boolean) for arg in args):
            return self._context.resolve_function_type(func, args, kws)
        if (func, args) not in self._known:
            self._known[func, args] = self._context.resolve_function_type(func, args, kws)
        return self._known[func, args]


_known: dict[str, dict[Any, Any]] = defaultdict(dict)
_inference = typed_passes.NopythonTypeInference()


def infer(state: Any) -> None:
    """Find the types of everything."""
    usual = state.typingctx
    state.typingctx = _Known(usual, _known[state.flags.get_mangle_string()])
    try:
        _inference.run_pass(state)
    finally:
        state.typingctx = usual


_stripping = typed_passes.PreLowerStripPhis()


def strip(state: Any) -> None:
    """Bring names together again where paths meet."""
    state.func_ir = _stripping._strip_phi_nodes(state.func_ir)
    state.func_ir._definitions = build_definitions(state.func_ir.blocks)


BEFORE: tuple[Pass, ...] = (untyped_passes.TranslateByteCode().run_pass, untyped_passes.FixupArgs().run_pass, rewrite, inline)
"""Passes for functions that are inlined as well."""

TYPED: tuple[Pass, ...] = (assign_once, infer, strip)

COUNTED: tuple[Pass, ...] = (typed_passes.NopythonRewrites().run_pass, typed_passes.IRLegalization().run_pass)
"""Passes for functions that make arrays: expressions of arrays become loops, and references are counted."""


class _Lowering(typed_passes.NativeLowering):
    """Write a function in LLVM's terms."""

    lowering_class = QuickLower


LOWERED: Pass = _Lowering().run_pass
DONE: Pass = typed_passes.NoPythonBackend().run_pass
