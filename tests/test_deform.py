"""Weights of interpolation and gradients: against splines and polynomials that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial import polynomial
from oracles import factors_of_block
from scipy import ndimage

from ftrack.kernels.deform import BEFORE, FRACTIONS, KEPT_BETWEEN, NOISE_IN_DERIVATIVE, REACH, SLOPES, TAPS, WEIGHTS
from ftrack.synthetic.texture import smooth_noise


def test_weights_sum_to_one_and_take_whole_pixels_as_they_are() -> None:
    np.testing.assert_allclose(WEIGHTS.sum(1), 1.0, atol=1e-6)
    np.testing.assert_allclose(WEIGHTS[0], np.arange(TAPS) == BEFORE, atol=1e-6)
    np.testing.assert_allclose(WEIGHTS[:0:-1, ::-1], WEIGHTS[1:], atol=1e-6)


@pytest.mark.parametrize("brightness", [0.0, 1e4])
@pytest.mark.parametrize("moved", [(1.5, -2.25), (-0.3, 4.7), (3.0, -2.0)])
def test_what_is_drawn_back_is_the_cubic_spline(brightness: float, moved: tuple[float, float]) -> None:
    image = smooth_noise((110, 120), 4.0, 1) + brightness
    found = factors_of_block((image, image), 30, 40, 40, moved)["w"]
    y, x = np.mgrid[:40, :40]
    spline = ndimage.map_coordinates(image, [30 + y + moved[1], 40 + x + moved[0]], order=3)
    np.testing.assert_allclose(found, spline, rtol=0.0, atol=0.02)
    assert np.sqrt(np.mean(np.square(found - spline))) < 0.005


def test_gradients_of_a_polynomial_of_fourth_degree_are_exact() -> None:
    factors = np.random.default_rng(2).uniform(-1, 1, (5, 5)) * (np.add.outer(np.arange(5), np.arange(5)) <= 4)
    at = np.linspace(-1, 1, 40)
    image, side = polynomial.polygrid2d(at, at, factors), 40 - 2 * REACH - 8
    found = factors_of_block((image, image), 7, 7, side, (0.0, 0.0))
    inner = at[7 : 7 + side]
    along_y = polynomial.polygrid2d(inner, inner, polynomial.polyder(factors, axis=0)) * (at[1] - at[0])
    along_x = polynomial.polygrid2d(inner, inner, polynomial.polyder(factors, axis=1)) * (at[1] - at[0])
    np.testing.assert_allclose(found["x"], along_x, atol=1e-9)
    np.testing.assert_allclose(found["y"], along_y, atol=1e-9)


def test_weights_of_gradients_give_those_of_constants_and_slopes_exactly() -> None:
    np.testing.assert_allclose(SLOPES.sum(1), 0.0, atol=1e-12)
    np.testing.assert_allclose(SLOPES @ (np.arange(TAPS) - BEFORE), 1.0, atol=1e-12)
    np.testing.assert_allclose(SLOPES[:0:-1, ::-1], -SLOPES[1:], atol=1e-6)


@pytest.mark.parametrize("moved", [(1.5, -2.25), (-0.3, 4.7), (3.0, -2.0)])
def test_gradients_of_what_is_drawn_back_are_those_of_the_spline(moved: tuple[float, float]) -> None:
    image, step = smooth_noise((110, 120), 3.0, 1), 1e-3
    found = factors_of_block((np.zeros_like(image), image), 30, 40, 40, moved)
    y, x = np.mgrid[:40, :40]
    for name, way in (("x", (0.0, step)), ("y", (step, 0.0))):
        after, before = (
            ndimage.map_coordinates(image, [30 + y + moved[1] + s * way[0], 40 + x + moved[0] + s * way[1]], order=5) for s in (1, -1)
        )
        np.testing.assert_allclose(2 * found[name], (after - before) / (2 * step), rtol=0.0, atol=0.02)


def test_white_noise_keeps_as_much_power_as_told() -> None:
    noise, nothing = np.random.default_rng(0).normal(size=(400, 400)), np.zeros((400, 400))
    for fraction in (0.0, 0.25, 0.5):
        found = factors_of_block((nothing, noise), 20, 20, 360, (fraction, 0.0))
        assert np.mean(found["w"] ** 2) == pytest.approx(KEPT_BETWEEN[round(fraction * FRACTIONS)], rel=0.02)
    assert np.mean(factors_of_block((noise, noise), 20, 20, 360, (0.0, 0.0))["x"] ** 2) == pytest.approx(NOISE_IN_DERIVATIVE, rel=0.02)
