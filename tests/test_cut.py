"""Windows of images and of offsets: what lies beyond, or is not finite, is no data."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.matchers import Prior
from ftrack.matchers.cut import LINE, PERIOD, cut, spaced, windows_around


@pytest.mark.parametrize("corner", [(-2, -1), (1, 2), (3, 4), (9, 9), (-9, 0)])
def test_what_lies_beyond_an_image_is_no_data(corner: tuple[int, int]) -> None:
    image = np.arange(30, dtype=np.float32).reshape(5, 6)
    image[2, 2] = np.inf
    out = cut(image, *corner, (4, 3))
    wide = np.pad(np.where(np.isfinite(image), image, np.nan), 12, constant_values=np.nan)
    np.testing.assert_array_equal(out, wide[corner[0] + 12 : corner[0] + 16, corner[1] + 12 : corner[1] + 15])


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
