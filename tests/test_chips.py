"""Sums over the chips of nodes: against plain slices."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from ftrack.kernels import chips
from ftrack.kernels.layout import lay_out
from ftrack.kernels.normal import PLANES, XX, XY, YY, N
from ftrack.kernels.planes import ALIGNED

chip_sums, weigh_blocks = (njit(part.py_func, error_model="numpy") for part in (chips.chip_sums, chips.weigh_blocks))


@pytest.mark.parametrize(("sizes", "spacing"), [((32,), 8), ((16, 32, 64), 8), ((16, 32), 24), ((20, 48), 12), ((8,), 32)])
def test_every_node_has_the_sum_of_its_own_chip(sizes: tuple[int, ...], spacing: int) -> None:
    rng, layout = np.random.default_rng(0), lay_out(sizes, spacing, 0, 5, 6)
    width = -(-layout.shape[1] // ALIGNED) * ALIGNED
    planes = rng.normal(size=(3, layout.shape[0], width))
    chosen = rng.integers(-1, len(sizes), (5, 6)).astype(np.int8)
    filled = np.full(4 + 3 * 31, 7.0)
    chip_sums(planes, layout.blocks, np.ones(layout.counts.max()), chosen, np.empty(3 * width), filled, (4, 31))
    assert (filled[:4] == 7.0).all()
    out = filled[4:].reshape(3, 31)[:, :30].reshape(3, 5, 6)
    for i in range(5):
        for j in range(6):
            expected = np.full(3, 7.0)
            if chosen[i, j] >= 0:
                count, start = layout.counts[chosen[i, j]], layout.starts[chosen[i, j]]
                top, left = start + i * layout.step, start + j * layout.step
                expected = planes[:, top : top + count, left : left + count].sum((1, 2))
            np.testing.assert_allclose(out[:, i, j], expected, rtol=1e-12, atol=1e-12)


def test_fields_at_blocks_are_linear_between_nodes_and_carried_on_beyond() -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:5, :6]
    field = np.stack([1.0 + 0.3 * x - 0.2 * y, 0.1 * x + 0.5 * y - 2.0])
    sums, out, room = rng.normal(size=(30, 30, PLANES)), np.empty((4, 30, 30)), np.empty(90)
    weigh_blocks(sums, field.reshape(-1), (0, 30), (5, 6), (-5, 2, 8), room, out)
    at = (-5 + 2 * np.arange(30)) / 8
    y, x = np.clip(at, 0, 4)[:, None], np.clip(at, 0, 5)
    u, v = 1.0 + 0.3 * x - 0.2 * y, 0.1 * x + 0.5 * y - 2.0
    xx, xy, yy, n = np.moveaxis(sums[..., [XX, XY, YY, N]], -1, 0)
    np.testing.assert_allclose(out, np.stack([xx * u + xy * v, xy * u + yy * v, n * u, n * v]), rtol=1e-12, atol=1e-12)
    out = np.empty((4, 3, 3))
    weigh_blocks(np.ones((3, 3, PLANES)), np.full(2, 4.0), (0, 1), (1, 1), (-4, 4, 8), room, out)
    assert (out == [[[8.0]], [[8.0]], [[4.0]], [[4.0]]]).all()
