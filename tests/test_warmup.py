"""Compiling beforehand: it measures something, so the code that a run needs is really compiled."""

from __future__ import annotations

from ftrack.kernels.chips import chip_sums
from ftrack.kernels.choose import solve_nodes
from ftrack.kernels.normal import sum_blocks
from ftrack.kernels.outliers import judge
from ftrack.kernels.prefilter import highpass
from ftrack.warmup import compile_numerics, compile_the_rest


def test_what_is_compiled_is_what_a_run_uses() -> None:
    assert 0.2 < compile_numerics() < 0.8


def test_the_other_process_compiles_what_comes_before_and_after_the_search() -> None:
    compile_the_rest()
    for function in (highpass, sum_blocks, solve_nodes, chip_sums, judge):
        assert function.signatures, function.py_func.__name__
