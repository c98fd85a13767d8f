"""What contradicts the rest counts less, and baselines that have lost the ice are found."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.errors import Stop
from ftrack.weights import TUKEY, check_longest, longest_of, trust_of, variance_of


def test_vectors_without_an_error_count_like_the_median_of_their_place() -> None:
    values = np.array([[1.0, 2.0, 3.0, np.nan], [1.0, 1.0, 1.0, 1.0]])
    errors = np.array([[1.0, 3.0, np.nan, 2.0], [np.nan, np.nan, 0.0, -1.0]])
    np.testing.assert_array_equal(variance_of(values, errors), [[1.0, 9.0, 4.0, np.nan], [1.0] * 4])


def test_errors_of_pairs_are_those_of_all_places() -> None:
    np.testing.assert_array_equal(variance_of(np.ones((2, 3)), np.array([[1.0, 2.0, 3.0]])), [[1.0, 4.0, 9.0]] * 2)


def test_trust_falls_from_one_to_nothing_by_what_is_usual_at_the_place() -> None:
    off = np.array([[0.0, 1.0, 1.0, 1.0, 20.0], [0.0, 0.1, 0.1, 0.1, 5.0]])
    trust = trust_of(off, np.ones(off.shape, bool))
    assert (trust[:, 0] == 1).all() and (trust[:, 4] == 0).all()
    # The scatter of the first place is larger than its errors say; at the second one the errors hold.
    np.testing.assert_allclose(trust[:, 1], [(1 - (1 / (TUKEY * 1.4826)) ** 2) ** 2, (1 - (0.1 / TUKEY) ** 2) ** 2])


@pytest.mark.parametrize(("slow", "found"), [(20.0, 64.0), (400.0, np.inf)])
def test_baselines_on_which_the_ice_is_lost_are_found(slow: float, found: float) -> None:
    days = np.repeat([10.0, 40.0, 100.0], 60)
    vx = np.where(days < 64, 400.0, slow) + np.random.default_rng(0).normal(0, 5, (3, days.size))
    assert longest_of(vx, 0 * vx, days, "auto").tolist() == [found] * 3
    assert longest_of(vx, 0 * vx, days, 33).tolist() == [33.0] * 3


@pytest.mark.parametrize("wrong", ["long", 0, -1.0])
def test_what_is_no_baseline_is_refused(wrong: float | str) -> None:
    with pytest.raises(Stop, match="give days above 0, or 'auto'"):
        check_longest(wrong)
