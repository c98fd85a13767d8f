"""What only compiled functions call has no machine code of its own, and what calls it gives the same."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import compiled, making, shared


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
