"""Drawing an image back along a field, and gradients: against splines and polynomials that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial import polynomial
from scipy import ndimage

from ftrack.kernels.deform import AFTER, BEFORE, FRACTIONS, REACH, WEIGHTS, fill_gradients, warp
from ftrack.synthetic.texture import smooth_noise

SPACING, START = 16, (-8, -16)
ROWS, COLUMNS, CORNER = 60, 75, (20, 22)


def field_of(peak: float) -> np.ndarray:
    """Return displacement at nodes that reach around all pixels, float32 (2, row, column)."""
    return np.random.default_rng(4).uniform(-peak, peak, (2, 6, 7)).astype(np.float32)


def at_pixels(field: np.ndarray) -> np.ndarray:
    """Interpolate nodes linearly to pixel centres."""
    y = (np.arange(ROWS) + 0.5 - START[0]) / SPACING
    x = (np.arange(COLUMNS) + 0.5 - START[1]) / SPACING
    at = np.meshgrid(y, x, indexing="ij")
    return np.stack([ndimage.map_coordinates(part.astype(float), at, order=1) for part in field])


def drawn_back(image: np.ndarray, field: np.ndarray, corner: tuple[int, int] = CORNER) -> tuple[np.ndarray, np.ndarray]:
    warped, moved = np.empty((ROWS, COLUMNS), np.float32), np.empty((2, ROWS, COLUMNS), np.float32)
    warp(image, corner, field, (*START, SPACING), WEIGHTS, np.ones(ROWS, np.bool_), warped, moved)
    return warped, moved


def test_weights_sum_to_one_and_take_whole_pixels_as_they_are() -> None:
    np.testing.assert_allclose(WEIGHTS.sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(WEIGHTS[0], np.arange(8) == BEFORE, atol=1e-6)
    np.testing.assert_allclose(WEIGHTS[::-1, ::-1], WEIGHTS, atol=1e-6)


@pytest.mark.parametrize("brightness", [0.0, 1e4])
def test_warp_is_the_cubic_spline_at_the_displacement_it_tells(brightness: float) -> None:
    image = (smooth_noise((110, 120), 4.0, 1) + brightness).astype(np.float32)
    warped, moved = drawn_back(image, field_of(5.0))
    y, x = np.mgrid[:ROWS, :COLUMNS]
    spline = ndimage.map_coordinates(image.astype(float), [CORNER[0] + y + moved[1], CORNER[1] + x + moved[0]], order=3)
    assert np.isfinite(warped).all()
    np.testing.assert_allclose(warped, spline, rtol=0.0, atol=0.01)
    assert np.sqrt(np.mean(np.square(warped - spline))) < 0.003


def test_moved_is_the_field_rounded_to_whole_fractions() -> None:
    field = field_of(5.0)
    _, moved = drawn_back(smooth_noise((110, 120), 2.0, 1).astype(np.float32), field)
    steps = moved * FRACTIONS
    np.testing.assert_array_equal(steps, np.rint(steps))
    assert np.abs(moved - at_pixels(field)).max() <= 0.5 / FRACTIONS + 1e-5
    assert np.unique(moved).size > 500


def test_whole_pixels_copy_the_image() -> None:
    image = smooth_noise((110, 120), 1.0, 1).astype(np.float32)
    field = np.empty((2, 6, 7), np.float32)
    field[0], field[1] = 3.0, -2.0
    warped, _ = drawn_back(image, field)
    expected = image[CORNER[0] - 2 : CORNER[0] - 2 + ROWS, CORNER[1] + 3 : CORNER[1] + 3 + COLUMNS]
    np.testing.assert_allclose(warped, expected, atol=1e-6)


def test_a_missing_pixel_is_missing_wherever_it_is_needed_and_nowhere_else() -> None:
    image = smooth_noise((110, 120), 2.0, 1).astype(np.float32)
    field = field_of(2.0)
    whole, moved = drawn_back(image, field)
    holed = image.copy()
    holed[50, 60] = np.nan
    warped, _ = drawn_back(holed, field)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    row = CORNER[0] + y + np.floor(moved[1])
    column = CORNER[1] + x + np.floor(moved[0])
    needed = (row - BEFORE <= 50) & (row + AFTER >= 50) & (column - BEFORE <= 60) & (column + AFTER >= 60)
    assert needed.sum() > 30
    np.testing.assert_array_equal(np.isnan(warped), needed)
    np.testing.assert_array_equal(warped[~needed], whole[~needed])


@pytest.mark.parametrize("corner", [(-10, -5), (60, 70), (-1000, 0), (0, 1000)])
def test_beyond_the_image_is_missing(corner: tuple[int, int]) -> None:
    image = smooth_noise((110, 120), 2.0, 1).astype(np.float32)
    warped, moved = drawn_back(image, field_of(3.0), corner)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    row, column = corner[0] + y + np.floor(moved[1]), corner[1] + x + np.floor(moved[0])
    inside = (row >= BEFORE) & (row + AFTER < 110) & (column >= BEFORE) & (column + AFTER < 120)
    np.testing.assert_array_equal(np.isfinite(warped), inside)


def test_rows_that_are_not_used_are_left_alone() -> None:
    image, field = smooth_noise((110, 120), 2.0, 1).astype(np.float32), field_of(3.0)
    whole, whole_moved = drawn_back(image, field)
    used = np.zeros(ROWS, np.bool_)
    used[[0, 7, 8, 9, 40, 59]] = True
    warped, moved = np.full((ROWS, COLUMNS), 7.0, np.float32), np.full((2, ROWS, COLUMNS), 7.0, np.float32)
    warp(image, CORNER, field, (*START, SPACING), WEIGHTS, used, warped, moved)
    np.testing.assert_array_equal(warped[used], whole[used])
    np.testing.assert_array_equal(moved[:, used], whole_moved[:, used])
    assert (warped[~used] == 7.0).all()
    assert (moved[:, ~used] == 7.0).all()


def gradients(image: np.ndarray) -> np.ndarray:
    out = np.empty((2, image.shape[0] - 2 * REACH, image.shape[1] - 2 * REACH), np.float32)
    fill_gradients(image.astype(np.float32), out[0], out[1])
    return out


def test_gradients_of_a_polynomial_of_sixth_degree_are_exact() -> None:
    factors = np.random.default_rng(2).uniform(-1, 1, (7, 7)) * (np.add.outer(np.arange(7), np.arange(7)) <= 6)
    y, x = np.linspace(-1, 1, 31), np.linspace(-1, 1, 37)
    found = gradients(polynomial.polygrid2d(y, x, factors))
    inner_y, inner_x = y[REACH:-REACH], x[REACH:-REACH]
    along_y = polynomial.polygrid2d(inner_y, inner_x, polynomial.polyder(factors, axis=0)) * (y[1] - y[0])
    along_x = polynomial.polygrid2d(inner_y, inner_x, polynomial.polyder(factors, axis=1)) * (x[1] - x[0])
    np.testing.assert_allclose(found[0], along_x, atol=3e-6)
    np.testing.assert_allclose(found[1], along_y, atol=3e-6)


def test_a_gradient_that_needs_a_missing_pixel_is_missing() -> None:
    image = smooth_noise((30, 32), 1.5, 3)
    whole = gradients(image)
    image[14, 17] = np.nan
    x_gradient, y_gradient = gradients(image)
    y, x = np.mgrid[:24, :26] + REACH
    for found, before, along, across in ((x_gradient, whole[0], x - 17, y - 14), (y_gradient, whole[1], y - 14, x - 17)):
        needed = (across == 0) & (np.abs(along) <= REACH) & (along != 0)
        np.testing.assert_array_equal(np.isnan(found), needed)
        np.testing.assert_array_equal(found[~needed], before[~needed])
