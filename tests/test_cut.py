"""Windows of offsets around what is expected, and images laid out for the caches."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.matchers import Prior
from ftrack.matchers.cut import LINE, PERIOD, spaced, windows_around


def test_windows_lie_around_what_is_expected_in_whole_pixels() -> None:
    dx = np.array([[1.4, np.nan], [-2.6, 3.0]])
    windows = windows_around(Prior(dx, 7.6), 5, 1, (4, 4), 100)
    np.testing.assert_array_equal(windows.dx[1:3, 1:3], [[1, 0], [-3, 3]])
    np.testing.assert_array_equal(windows.dx[0], windows.dx[1])
    assert (windows.dy == 8).all()
    assert (windows.radius == 5).all()


@pytest.mark.parametrize("far", [1e3, 1e30, np.inf])
def test_what_is_expected_beyond_all_pixels_is_expected_just_there(far: float) -> None:
    windows = windows_around(Prior(far, np.full((2, 2), -far)), 5, 0, (2, 2), 70)
    assert (windows.dx == 70).all()
    assert (windows.dy == -70).all()


@pytest.mark.parametrize("width", [3, 300, 500, 512, 1024, 1040, 1041])
def test_rows_of_spaced_images_never_lie_a_power_of_two_apart(width: int) -> None:
    image = np.random.default_rng(0).normal(size=(4, width))
    out = spaced(image)
    np.testing.assert_array_equal(out[:, :width], image.astype(np.float32))
    assert np.isnan(out[:, width:]).all()
    assert LINE <= out.shape[1] % PERIOD <= PERIOD - LINE
    assert out.flags.c_contiguous
