"""How Numba compiles kernels: what only other functions call becomes machine code with its callers alone, and all is optimised once."""

from __future__ import annotations

from typing import Any

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.typed_passes import NativeLowering

FITS = ("0.68",)
"""Releases of Numba that this is known to fit, which uses their insides; others compile as they do by themselves, which takes longer."""


class _Whole(JITCodeLibrary):
    """The code of a function and of all that it calls."""

    def _optimize_final_module(self) -> None:
        # Numba optimises twice, first to find more counts of references that cancel out, of which kernels have few.
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


class _Part(JITCodeLibrary):
    """The code of a function that only other functions call, and of all that it calls."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


@register_pass(mutates_CFG=False, analysis_only=False)
class _Register(LoweringPass):
    """Let functions find the code of a part."""

    _name = "register"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        # Numba tells functions apart by what Python would call: a builtin that nothing else has.
        state["cr"] = state["cr"]._replace(cfunc={}.get)
        state.targetctx.insert_user_function(state["cr"].cfunc, state["cr"].fndesc, [state.library])
        return True


class WholeCompiler(CompilerBase):
    """Compiles a function that Python calls."""

    def define_pipelines(self) -> list[Any]:
        """Return the usual passes."""
        state = self.state
        state.library = _Whole(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return [DefaultPassBuilder.define_nopython_pipeline(state)]


class PartCompiler(CompilerBase):
    """Compiles a function that only compiled functions call."""

    def define_pipelines(self) -> list[Any]:
        """Return the usual passes, without machine code."""
        state = self.state
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        passes = DefaultPassBuilder.define_nopython_pipeline(state)
        passes.add_pass_after(_Register, NativeLowering)
        passes.finalize()
        return [passes]


def compilers() -> tuple[type[CompilerBase], type[CompilerBase]]:
    """Return what compiles functions that Python calls, and functions that only compiled ones call."""
    fits = numba.__version__.rpartition(".")[0] in FITS
    return (WholeCompiler, PartCompiler) if fits else (Compiler, Compiler)
