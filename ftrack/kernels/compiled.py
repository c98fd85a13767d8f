"""How functions are compiled: without the ways in that are not needed, which take long to compile."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import Any, Protocol, cast

from numba import config, njit

from ftrack.kernels.pipeline import compilers


class Decorator(Protocol):
    """What compiles a function."""

    def __call__(self, function: Callable[..., Any], /) -> Any: ...


_njit: Any = cast(Any, njit)
_WHOLE, _PART = compilers()

_HERE = Path(__file__).parent
_VERSION = sha1(b"".join(file.read_bytes() for file in sorted(_HERE.glob("*.py"))), usedforsecurity=False).hexdigest()[:12]


def compiled(function: Callable[..., Any], /) -> Any:
    """Compile a function that Python calls; what is compiled is kept on disk."""
    return _kept(function)


def filling(function: Callable[..., Any], /) -> Any:
    """Compile a function that Python calls and that makes no arrays; it need not count who holds those that it is given, see `shared`."""
    return _kept(function, _nrt=False)


def _kept(function: Callable[..., Any], **options: Any) -> Any:
    """Keep what is compiled on disk.

    Numba looks only at the file of a function to see whether it has changed, not at the files of what it calls. So each
    version of all kernels together has a folder of its own.
    """
    usual = config.CACHE_DIR  # type: ignore[attr-defined]
    config.CACHE_DIR = str(Path(usual or _HERE / "__pycache__") / f"kernels-{_VERSION}")  # type: ignore[attr-defined]
    try:
        return _njit(pipeline_class=_WHOLE, nogil=True, cache=True, error_model="numpy", no_cfunc_wrapper=True, **options)(function)
    finally:
        config.CACHE_DIR = usual  # type: ignore[attr-defined]


_part: dict[str, Any] = {
    "pipeline_class": _PART,
    "nogil": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}

inner: Decorator = _njit(**_part, inline="always")
"""A part of one compiled function."""

shared: Decorator = _njit(**_part, _nrt=False)
"""A function that compiled functions call at several places, or in loops.

It makes no arrays, so it need not count how many hold those that it is given; counting takes as long as many sums do.
"""

making: Decorator = _njit(**_part, _nrt=True)
"""A function that compiled functions call, which makes arrays."""

reordered: Decorator = _njit(**_part, _nrt=False, fastmath={"reassoc", "nsz"})
"""A function that compiled functions call, whose sums run in an order that depends on their length alone, so that they use vectors."""
