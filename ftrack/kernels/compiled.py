"""How functions are compiled that only compiled functions call: without the ways in from Python, which take long to compile."""

from __future__ import annotations

from typing import Any, cast

from numba import njit

inner: Any = cast(Any, njit)(nogil=True, cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
