"""Mean, trend and annual wave: a pair tells the mean of the model over its days, and what the vectors cannot bear is not told."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.sinusoid import RESULTS, Lack, Model, fit_places, model_of


def model_at(middles: np.ndarray, days: float | np.ndarray = 16.0, at: float | None = None) -> Model:
    """Return the model of pairs that share no image."""
    middles, half = np.asarray(middles, float), np.broadcast_to(np.asarray(days) / 730.5, len(middles))
    centre = float((middles - half).min() + (middles + half).max()) / 2
    return model_of(middles - half, middles + half, np.arange(2 * len(middles)).reshape(2, -1), centre if at is None else at)


def fit(model: Model, speed: np.ndarray, error: float = 1.0) -> dict[str, float]:
    """Fit ice that flows to the east."""
    vx = np.asarray(speed, np.float32)[:, None]
    given = {"vx": vx, "vy": 0 * vx, "vx_error": np.full_like(vx, error), "vy_error": np.full_like(vx, error)}
    return dict(zip(RESULTS, fit_places(given, model, "auto", 0)[:, 0].tolist(), strict=True))


def test_a_row_is_the_mean_over_the_days_of_the_pair() -> None:
    first, second = np.array([0.1, 3.3, 7.75]), np.array([0.12, 3.8, 9.0])
    model = model_of(first, second, np.array([[0, 1, 2], [1, 2, 3]]), 4.0)
    centre, half = (0.1 + 9.0) / 2, (9.0 - 0.1) / 2
    for row, a, b in zip(model.design, first, second, strict=True):
        t = a + (np.arange(20_000) + 0.5) / 20_000 * (b - a)
        means = [1.0, ((t - centre) / half).mean(), np.cos(2 * np.pi * t).mean(), np.sin(2 * np.pi * t).mean()]
        np.testing.assert_allclose(row, means, atol=1e-6)


@pytest.mark.parametrize("days", [6.0, 60.0, 200.0])
def test_exact_velocities_give_the_truth_whatever_the_baseline(days: float) -> None:
    model = model_at(np.linspace(20.0, 24.0, 80), days)
    found = fit(model, model.design @ [300.0, -40.0 * model.half, 60.0, -80.0])
    expected = {"v": 300.0, "dv_dt": -40.0, "v_amp": 100.0, "v_phase": 365.25 * (1 - np.arctan2(80, 60) / (2 * np.pi)), "fit_flag": 0}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=0.02), name


def test_velocity_is_told_for_the_date_that_is_asked_for() -> None:
    middles = np.linspace(20.0, 24.0, 80)
    speed = model_at(middles).design @ [300.0, -40.0 * model_at(middles).half, 0.0, 0.0]
    late, middle = fit(model_at(middles, at=25.0), speed), fit(model_at(middles), speed)
    assert late["v"] == pytest.approx(300 - 3 * 40, abs=0.05) and late["v_error"] > 1.5 * middle["v_error"]


EVEN = np.linspace(20.0, 24.0, 80)


@pytest.mark.parametrize(
    ("middles", "days", "lack"),
    [
        (EVEN[:4], 16.0, Lack.FEW_VECTORS | Lack.SPARSE | Lack.UNDER_TWO_YEARS | Lack.UNDER_A_YEAR),
        (EVEN[::3], 16.0, Lack.SPARSE),
        (np.linspace(20.0, 21.5, 80), 16.0, Lack.UNDER_TWO_YEARS),
        (np.linspace(20.0, 20.9, 80), 16.0, Lack.UNDER_TWO_YEARS | Lack.UNDER_A_YEAR),
        (EVEN[(EVEN % 1 > 0.3) & (EVEN % 1 < 0.9)], 16.0, Lack.GAP_IN_YEAR),
        (EVEN, 300.0, Lack.LONG_BASELINES),
    ],
)
def test_what_cannot_be_borne_is_not_told_and_why(middles: np.ndarray, days: float, lack: Lack) -> None:
    found = fit(model_at(middles, days), model_at(middles, days).design @ [300.0, 0.0, 60.0, -80.0])
    told = Lack(int(found["fit_flag"]))
    assert lack in told
    assert np.isnan(found["v"]) == (Lack.FEW_VECTORS in told)
    assert np.isnan(found["dv_dt"]) == bool(told & (Lack.SPARSE | Lack.UNDER_TWO_YEARS))
    assert np.isnan(found["v_amp"]) == (lack != Lack.UNDER_TWO_YEARS)
    assert np.isnan(found["v_phase"]) == np.isnan(found["v_amp"]) == np.isnan(found["v_amp_error"])


def test_a_trend_within_a_year_and_a_half_is_not_taken_for_a_season() -> None:
    model = model_at(np.linspace(20.0, 21.5, 80))
    found = fit(model, model.design @ [300.0, 200.0 * model.half, 0.0, 0.0])
    assert found["v_amp"] < 1.0 and np.isnan(found["dv_dt"])


def test_what_cannot_be_told_apart_is_not_told() -> None:
    # All that four unknowns have to be told from are three moments.
    middles = np.repeat([20.04, 20.38, 21.71], 20) + np.linspace(0, 1e-3, 60)
    found = fit(model_at(middles), 300 + np.random.default_rng(0).normal(0, 1, 60))
    assert Lack(int(found["fit_flag"])) == Lack.NOT_TOLD_APART | Lack.UNDER_TWO_YEARS
    assert np.isfinite(found["v"]) and np.isnan(found["v_amp"]) and np.isnan(found["v_phase"])


def test_a_season_that_is_noise_has_no_day() -> None:
    found = fit(model_at(EVEN), 300 + np.random.default_rng(3).normal(0, 10, EVEN.size), 10.0)
    assert Lack(int(found["fit_flag"])) == Lack.FAINT_SEASON
    assert np.isfinite(found["v_amp"]) and np.isnan(found["v_phase"])


def test_ice_that_stands_has_neither_direction_nor_trouble() -> None:
    found = fit(model_at(EVEN), EVEN * 0)
    assert found["v"] == 0 and found["v_error"] > 0 and found["dv_dt"] == 0
