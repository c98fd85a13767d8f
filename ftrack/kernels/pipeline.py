"""How Numba compiles kernels: what only other functions call becomes machine code with its callers alone, and all is optimised once."""

from __future__ import annotations

from typing import Any

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompilerBase

from ftrack.kernels.numba_passes import BEFORE, COUNTED, DONE, LOWERED, TYPED, Pass, Passes, QuickFlags

FITS = ("0.68",)
"""Releases of Numba that this is known to fit, which uses their insides; others compile as they do by themselves, which takes longer."""


class _Once(JITCodeLibrary):
    """Code that is optimised as a whole alone."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout


class _Whole(_Once):
    """The code of a function and of all that it calls."""

    def _optimize_final_module(self) -> None:
        # Numba optimises twice, first to find more counts of references that cancel out, of which kernels have few.
        passes, builder = self._codegen._module_pass_manager()
        passes.run(self._final_module, builder)


class _Part(_Once):
    """The code of a function that only other functions call, and of all that it calls."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


def _register(state: Any) -> None:
    """Let functions find the code of a part."""
    # Numba tells functions apart by what Python would call: a builtin that nothing else has.
    state["cr"] = state["cr"]._replace(cfunc={}.get)
    state.targetctx.insert_user_function(state["cr"].cfunc, state["cr"].fndesc, [state.library])


class _Kernels(CompilerBase):
    """Compiles kernels."""

    def _compile_core(self) -> Any:
        self.state.flags = QuickFlags(self.state.flags)
        return super()._compile_core()

    def _passes(self, library: type[JITCodeLibrary], *last: Pass) -> list[Passes]:
        state = self.state
        state.library = library(state.targetctx.codegen(), state.func_id.func_qualname)
        counted = COUNTED if state.flags.nrt else ()
        return [Passes(*BEFORE, *TYPED, *counted, LOWERED, *last, DONE)]


class WholeCompiler(_Kernels):
    """Compiles a function that Python calls."""

    def define_pipelines(self) -> list[Any]:
        """Return the passes."""
        passes = self._passes(_Whole)
        self.state.library.enable_object_caching()
        return passes


class PartCompiler(_Kernels):
    """Compiles a function that only compiled functions call."""

    def define_pipelines(self) -> list[Any]:
        """Return the passes, without machine code."""
        self.state.flags.no_compile = True
        return self._passes(_Part, _register)


def compilers() -> tuple[type[CompilerBase], type[CompilerBase]]:
    """Return what compiles functions that Python calls, and functions that only compiled ones call."""
    fits = numba.__version__.rpartition(".")[0] in FITS
    return (WholeCompiler, PartCompiler) if fits else (Compiler, Compiler)
