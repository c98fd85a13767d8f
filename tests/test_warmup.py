"""Compiling beforehand: it measures something, so the code that a run needs is really compiled."""

from __future__ import annotations

from ftrack.kernels import choose, coarse, normal
from ftrack.kernels.centres import move_to_centres
from ftrack.kernels.prefilter import highpass
from ftrack.kernels.sweep import sweep_masked
from ftrack.warmup import compile_numerics, compile_the_rest


def test_what_is_compiled_is_what_a_run_uses() -> None:
    assert 0.2 < compile_numerics() < 0.8


def test_the_other_process_compiles_what_comes_around_the_search_and_the_search_with_gaps() -> None:
    compile_the_rest()
    for function in (highpass, normal._sum_blocks, choose._solve_nodes, move_to_centres, coarse._find_in, sweep_masked):
        assert function.signatures, function.py_func.__name__
