"""What is put together of the chips of a node: the chip that was taken speaks where there is one, else the largest that was judged."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.choose import put_together
from ftrack.schema import Status


def test_the_chip_that_was_taken_is_told_or_why_there_is_none() -> None:
    rng = np.random.default_rng(0)
    found, peak, ratio = rng.normal(size=(4, 3, 6)), *rng.random((2, 2, 3, 6), np.float32)
    found[2:] = 0.1
    chosen = np.array([0, 0, 1, -1, -1, 0], np.int8) * np.ones((3, 1), np.int8)
    found[3, :, 2] = 0.6
    status = np.full((2, 3, 6), Status.NOT_COMPUTED, np.uint8)
    status[0] = Status.MEASURED
    status[:, :, 3] = [[Status.AMBIGUOUS], [Status.NO_TEXTURE]]
    status[0, :, 4] = Status.DIVERGED
    out = np.empty((8, 1, 4), np.float32)
    put_together(found, (peak, ratio), np.array([16, 32]), 0.5, 1, status, chosen, out)
    taken = [*found[:2, 1, 1], peak[0, 1, 1], ratio[0, 1, 1], *found[2:, 1, 1], 16, Status.MEASURED]
    np.testing.assert_array_equal(out[:, 0, 0], np.array(taken, np.float32))
    assert np.isnan(out[:6, 0, 1:]).all()
    assert (out[6, 0, 1:] == 0).all()
    assert out[7, 0, 1:].tolist() == [Status.ERROR_TOO_LARGE, Status.NO_TEXTURE, Status.DIVERGED]
