"""How functions are compiled: without the ways in that are not needed, which take long to compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

from numba import njit


class Decorator(Protocol):
    """What compiles a function."""

    def __call__(self, function: Callable[..., Any], /) -> Any: ...


_njit: Any = cast(Any, njit)

compiled: Decorator = _njit(nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True)
"""A function that Python calls; the compiled code is kept on disk."""

inner: Decorator = _njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, inline="always")
"""A part of one compiled function."""

shared: Decorator = _njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""A function that compiled functions call at several places."""
