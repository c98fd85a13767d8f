"""The simulated images move as their truth says: checked with a plain least-squares measurement of the grey values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from ftrack.errors import Stop
from ftrack.synthetic import moving_pair, sheared_pair, shifted_pair


def measured_offset(reference: np.ndarray, secondary: np.ndarray, rounds: int = 4) -> np.ndarray:
    """Return (dx, dy) between two small images, by least squares on the grey values with gain and offset unknown."""
    rows, columns = np.mgrid[6 : reference.shape[0] - 6, 6 : reference.shape[1] - 6].astype(float)
    inner = reference[6:-6, 6:-6].astype(float).ravel()
    found = np.zeros(2)

    def at(x: float, y: float) -> np.ndarray:
        where = [rows + found[1] + y, columns + found[0] + x]
        return map_coordinates(secondary.astype(float), where, order=5, mode="mirror")

    for _ in range(rounds):
        slope_x, slope_y = (at(0.05, 0) - at(-0.05, 0)) / 0.1, (at(0, 0.05) - at(0, -0.05)) / 0.1
        columns_of_fit = [slope_x.ravel(), slope_y.ravel(), inner, np.ones(inner.size)]
        solved = np.linalg.lstsq(np.stack(columns_of_fit, axis=1), at(0, 0).ravel(), rcond=None)[0]
        found = found - solved[:2]
    return found


def carried_back(secondary: np.ndarray, truth, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the secondary read where the truth says that the features of (x, y) are."""
    dx, dy = truth(x, y)
    return map_coordinates(secondary.astype(float), [y + dy - 0.5, x + dx - 0.5], order=5, mode="mirror")


def test_a_shift_moves_features_right_and_down():
    pair = shifted_pair((96, 128), (3.0, -2.0), seed=4)
    assert np.allclose(pair.secondary[20:60, 30:90], pair.reference[22:62, 27:87], atol=1e-5)


@pytest.mark.parametrize("shift", [(0.37, -0.21), (-0.5, 0.5)])
def test_a_shift_is_exact_between_pixels(shift):
    pair = shifted_pair((128, 128), shift, seed=1)
    assert np.abs(measured_offset(pair.reference, pair.secondary) - shift).max() < 2e-4


def test_noise_is_a_share_of_the_texture_and_differs_between_the_images():
    still = shifted_pair((256, 256), (0, 0), seed=2)
    noisy = shifted_pair((256, 256), (0, 0), noise=0.3, seed=2)
    added = [noisy.reference - still.reference, noisy.secondary - still.secondary]
    assert still.reference.std() == pytest.approx(1, abs=1e-3)
    assert [a.std() for a in added] == pytest.approx([0.3, 0.3], rel=0.02)
    assert abs(np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]) < 0.02


def test_sheared_images_are_one_texture_where_the_truth_carries_it():
    pair = sheared_pair((256, 256), noise=0, changed=0, ramp=0, seed=3)
    y, x = np.mgrid[32.5:224, 32.5:224]
    back = carried_back(pair.secondary, pair.truth, x, y)
    assert np.abs(back - pair.reference[32:224, 32:224]).max() < 1e-2
    assert 11.5 < np.hypot(*pair.truth(128, 128)) < 12.5
    assert np.hypot(*pair.truth(128, 2)) < 0.1
    for top, left in ((8, 8), (68, 88), (118, 28)):
        chip = (slice(top, top + 40), slice(left, left + 40))
        assert np.abs(measured_offset(pair.reference[32:224, 32:224][chip], back[chip])).max() < 1e-3


def test_changed_ground_has_the_asked_share_and_another_texture():
    pair = sheared_pair((512, 512), noise=0, changed=0.06, ramp=0, seed=3)
    y, x = np.mgrid[40.5:472, 40.5:472]
    changed = pair.changed(x, y)
    back, here = carried_back(pair.secondary, pair.truth, x, y), pair.reference[40:472, 40:472]
    assert 0.03 < changed.mean() < 0.09
    assert abs(np.corrcoef(back[changed], here[changed])[0, 1]) < 0.1
    assert np.corrcoef(back[~changed], here[~changed])[0, 1] > 0.99


def test_any_smooth_field_moves_the_ground_and_a_folding_one_is_refused():
    def field(x, y):
        return 2 * np.sin(np.asarray(y) / 20) + 0.02 * np.asarray(x), np.cos(np.asarray(x) / 25) + 0 * np.asarray(y)

    pair = moving_pair((160, 160), field, seed=5)
    y, x = np.mgrid[20.5:140, 20.5:140]
    assert np.abs(carried_back(pair.secondary, pair.truth, x, y) - pair.reference[20:140, 20:140]).max() < 5e-3
    with pytest.raises(Stop, match="folds the ground"):
        moving_pair((64, 64), lambda x, y: (3 * np.sin(x), 0 * y))


def test_the_same_seed_gives_the_same_pair():
    one, two, other = (sheared_pair((64, 64), seed=s) for s in (1, 1, 2))
    assert np.array_equal(one.secondary, two.secondary)
    assert not np.array_equal(one.secondary, other.secondary)
