"""Images made smaller by means over squares."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels.decimate import decimate


@pytest.mark.parametrize("image", [np.arange(48.0), np.where(np.arange(48) < 12, np.nan, np.arange(48.0))])
def test_decimated_pixels_are_means_of_what_is_valid(image: np.ndarray) -> None:
    image = image.reshape(6, 8).astype(np.float32)
    out = np.empty((3, 4), np.float32)
    decimate(image, 0, 0, 2, out)
    squares = image.reshape(3, 2, 4, 2).swapaxes(1, 2).reshape(3, 4, 4)
    enough = np.isfinite(squares).sum(2) >= 2
    np.testing.assert_array_equal(np.isfinite(out), enough)
    np.testing.assert_allclose(out[enough], np.nanmean(squares[enough], 1), rtol=1e-6)


@pytest.mark.parametrize("factor", [3, 4, 5])
def test_squares_may_have_any_side(factor: int) -> None:
    image = np.random.default_rng(factor).normal(size=(4 * factor, 37 * factor)).astype(np.float32)
    image[:factor, : factor // 2 + 1], image[factor, factor] = np.nan, np.nan
    out = np.empty((4, 37), np.float32)
    decimate(image, 0, 0, factor, out)
    squares = image.reshape(4, factor, 37, factor).swapaxes(1, 2).reshape(4, 37, factor * factor)
    enough = 2 * np.isfinite(squares).sum(2) >= factor * factor
    np.testing.assert_array_equal(np.isfinite(out), enough)
    np.testing.assert_allclose(out[enough], np.nanmean(squares[enough], 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("corner", [(-3, -1), (2, 1), (4, 5), (-30, 0), (0, 30)])
def test_what_lies_beyond_an_image_or_is_not_finite_is_no_data(corner: tuple[int, int]) -> None:
    image = np.arange(48, dtype=np.float32).reshape(6, 8)
    image[2, 3], image[5, 5] = np.inf, 1e20
    wide = np.pad(np.where(image < 1e15, image, np.nan), 40, constant_values=np.nan)
    out, expected = np.empty((2, 3, 3), np.float32)
    decimate(image, *corner, 2, out)
    decimate(wide, corner[0] + 40, corner[1] + 40, 2, expected)
    np.testing.assert_array_equal(out, expected)
