"""Sub-pixel displacement by least squares: noise, shear, gaps, and whether the stated error is true."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels.refine import WEIGHTS, cubic_weights, refine_chip, room_for, warp_patch
from ftrack.synthetic import MovingPair, moving_pair, shifted_pair


def solve(pair: MovingPair, chip: int, step: int = 24, off: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Return the errors (n, 2) of dx and dy, and the stated ones, over a lattice of chips."""
    room = np.empty(room_for(chip))
    errors, stated = [], []
    for y in range(48 + chip // 2, pair.reference.shape[0] - 48 - chip // 2, step):
        for x in range(48 + chip // 2, pair.reference.shape[1] - 48 - chip // 2, step):
            tx, ty = (float(v) for v in pair.truth(np.float64(x), np.float64(y)))
            corner = (y - chip // 2, x - chip // 2)
            dy, dx, sy, sx, _ = refine_chip(pair.reference, pair.secondary, (*corner, *corner), chip, (ty + off, tx - off), room, WEIGHTS)
            errors.append((dx - tx, dy - ty))
            stated.append((sx, sy))
    return np.array(errors), np.array(stated)


def bound(pair: MovingPair, noise: float, chip: int) -> float:
    """Return the Cramer-Rao bound of a shift between two images with white noise."""
    clean = shifted_pair(pair.reference.shape, (0.0, 0.0)).reference
    gradient = np.gradient(clean, axis=1)
    return float(np.sqrt(2 * noise**2 / (np.mean(gradient**2) * chip * chip)))


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 0.99])
def test_interpolation_weights_keep_constants_and_lines(fraction: float) -> None:
    weights = np.empty(6)
    cubic_weights(fraction, weights)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights * np.arange(-2, 4)).sum() == pytest.approx(fraction)
    assert (weights * np.arange(-2, 4) ** 2).sum() == pytest.approx(fraction**2)


def test_a_warp_finds_the_feature_where_it_went() -> None:
    pair = shifted_pair((64, 64), (-2.61, 1.37))
    warped = np.empty(256)
    warp_patch(pair.secondary, 20, 24, 16, np.array([-2.61, 1.37, 0, 0, 0, 0]), WEIGHTS, np.empty(room_for(16)), warped)
    np.testing.assert_allclose(warped.reshape(16, 16), pair.reference[20:36, 24:40], atol=0.03)


def test_a_sheared_warp_finds_the_feature_where_it_went() -> None:
    pair = moving_pair((96, 96), lambda x, y: (3 + 0.08 * (y - 48) - 0.03 * (x - 48), -1.3 + 0.05 * (x - 48) + 0.02 * (y - 48)))
    warped = np.empty(32 * 32)
    warp_patch(pair.secondary, 32, 32, 32, np.array([3, -1.3, -0.03, 0.08, 0.05, 0.02]), WEIGHTS, np.empty(room_for(32)), warped)
    np.testing.assert_allclose(warped.reshape(32, 32), pair.reference[32:64, 32:64], atol=0.06)


@pytest.mark.parametrize("chip", [16, 32, 64])
@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_pure_shifts_reach_the_bound(noise: float, chip: int) -> None:
    pair = shifted_pair((512, 512), (5.37, -3.71), noise=noise)
    errors, _ = solve(pair, chip, step=16)
    assert np.isfinite(errors).mean() > 0.99
    assert np.sqrt(np.nanmean(errors**2)) < 1.25 * bound(pair, noise, chip)


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.5, 0.8])
def test_no_peak_locking(shift: float) -> None:
    errors, _ = solve(shifted_pair((512, 512), (2 + shift, -shift), noise=0.1), 32)
    assert np.abs(np.nanmean(errors, 0)).max() < 0.005


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_the_stated_error_is_true(noise: float) -> None:
    errors, stated = solve(shifted_pair((512, 512), (5.37, -3.71), noise=noise), 32, step=16)
    ratio = errors / stated
    assert 0.85 < 1.4826 * np.nanmedian(np.abs(ratio)) < 1.25


def test_shear_inside_the_chip_does_no_harm() -> None:
    pair = moving_pair((384, 384), lambda x, y: (3 + 0.04 * (y - 192), -1.3 + 0.02 * (x - 192)), noise=0.1)
    errors, _ = solve(pair, 32)
    assert np.sqrt(np.nanmean(errors**2)) < 0.02


def test_gain_and_offset_do_no_harm() -> None:
    pair = shifted_pair((256, 256), (1.4, 0.6), noise=0.05)
    brighter = MovingPair(reference=pair.reference + 3000, secondary=pair.secondary * 0.7 + 1000, truth=pair.truth, changed=pair.changed)
    np.testing.assert_allclose(solve(brighter, 32)[0], solve(pair, 32)[0], atol=2e-3)


def test_gaps_are_left_out() -> None:
    pair = shifted_pair((256, 256), (1.4, 0.6), noise=0.05)
    gaps = np.random.default_rng(1).random(pair.reference.shape) < 0.02
    reference = np.where(gaps, np.nan, pair.reference).astype(np.float32)
    errors, _ = solve(MovingPair(reference=reference, secondary=pair.secondary, truth=pair.truth, changed=pair.changed), 32)
    assert np.isfinite(errors).mean() > 0.9
    assert np.sqrt(np.nanmean(errors**2)) < 0.03


def test_unlike_chips_give_no_solution() -> None:
    one, other = shifted_pair((256, 256), seed=1).reference, shifted_pair((256, 256), seed=2).reference
    errors, _ = solve(MovingPair(reference=one, secondary=other, truth=lambda x, y: (0 * x, 0 * y), changed=lambda x, y: x > 0), 32)
    assert np.isfinite(errors[:, 0]).mean() < 0.1
