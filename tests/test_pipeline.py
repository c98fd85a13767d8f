"""What only compiled functions call has no machine code of its own, and what calls it gives the same."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numba
import numpy as np

from ftrack.kernels.compiled import compiled, making, shared
from ftrack.kernels.pipeline import FITS


@shared
def _twice(x):
    return 2 * x


@making
def _row(n, value):
    return np.full(n, _twice(value))


@compiled
def _sum_of_rows(n):
    total = 0.0
    for k in range(n):
        total += _row(3, 1.5).sum() + _twice(k)
    return total


def test_parts_are_code_of_their_callers_alone() -> None:
    assert _sum_of_rows(4) == 4 * 9.0 + 12
    for part in (_twice, _row):
        (*_, result) = part.overloads.values()
        assert not result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


def test_a_part_is_compiled_for_every_kind_of_arguments() -> None:
    before = len(_twice.overloads)

    @compiled
    def both(x, z):
        return _twice(x) + _twice(z)

    assert both(np.float32(1.5), 2j) == 3 + 4j
    assert len(_twice.overloads) == before + 2


def test_the_release_that_is_installed_fits() -> None:
    assert numba.__version__.rpartition(".")[0] in FITS


def test_another_release_of_numba_compiles_in_its_own_way() -> None:
    script = """
        import numba
        numba.__version__ = "0.999.0"
        import numpy as np
        from numba.core.compiler import Compiler
        from ftrack.kernels import compiled
        assert compiled.compilers() == (Compiler, Compiler)
        from ftrack.kernels.smooth import bell, smooth
        values, smoothed = np.ones((2, 5, 5)), np.empty((2, 5, 5))
        smooth(values, np.ones((5, 5), np.bool_), bell(1.0, 2), smoothed)
        assert np.allclose(smoothed, 1.0)
    """
    told = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
