"""Images made smaller by means over squares."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels.decimate import decimate


@pytest.mark.parametrize("image", [np.arange(48.0), np.where(np.arange(48) < 12, np.nan, np.arange(48.0))])
def test_decimated_pixels_are_means_of_what_is_valid(image: np.ndarray) -> None:
    image = image.reshape(6, 8).astype(np.float32)
    out = np.empty((3, 4), np.float32)
    decimate(image, 2, out)
    squares = image.reshape(3, 2, 4, 2).swapaxes(1, 2).reshape(3, 4, 4)
    enough = np.isfinite(squares).sum(2) >= 2
    np.testing.assert_array_equal(np.isfinite(out), enough)
    np.testing.assert_allclose(out[enough], np.nanmean(squares[enough], 1), rtol=1e-6)
