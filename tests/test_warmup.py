"""Compiling beforehand: it measures something, so the code that a run needs is really compiled."""

from __future__ import annotations

from ftrack.warmup import compile_numerics


def test_what_is_compiled_is_what_a_run_uses() -> None:
    assert 0.2 < compile_numerics() < 0.8
