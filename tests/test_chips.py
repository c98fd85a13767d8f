"""Sums over the chips of nodes: against plain slices."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels.chips import chip_sums
from ftrack.kernels.layout import lay_out


@pytest.mark.parametrize(("sizes", "spacing"), [((32,), 8), ((16, 32, 64), 8), ((16, 32), 24), ((20, 48), 12), ((8,), 32)])
def test_every_node_has_the_sum_of_its_own_chip(sizes: tuple[int, ...], spacing: int) -> None:
    rng, layout = np.random.default_rng(0), lay_out(sizes, spacing, 0, 5, 6)
    planes = rng.normal(size=(3, *layout.shape))
    chosen = rng.integers(-1, len(sizes), (5, 6)).astype(np.int8)
    out = np.full((3, 5, 6), 7.0)
    chip_sums(planes, (layout.side, layout.step, layout.counts.astype(np.int64), layout.starts.astype(np.int64)), chosen, out)
    for i in range(5):
        for j in range(6):
            expected = np.full(3, 7.0)
            if chosen[i, j] >= 0:
                count, start = layout.counts[chosen[i, j]], layout.starts[chosen[i, j]]
                top, left = start + i * layout.step, start + j * layout.step
                expected = planes[:, top : top + count, left : left + count].sum((1, 2))
            np.testing.assert_allclose(out[:, i, j], expected, rtol=1e-12, atol=1e-12)
