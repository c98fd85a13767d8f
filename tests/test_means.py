"""Means over pairs: of components, by error, without what lies far off, and no more certain than the images allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from ftrack.errors import Stop
from ftrack.means import average, components, pair_index, within
from ftrack.schema import Status

START = np.datetime64("2020-01-01", "us")
DAY = np.timedelta64(1, "D").astype("timedelta64[us]")


def make_pairs(vx: Any, vy: Any, error: Any = 1.0, *, apart: bool = True) -> xr.Dataset:
    """Return vectors of one place; pairs that are ``apart`` share no image."""
    vx, vy = np.asarray(vx, float), np.asarray(vy, float)
    count = len(vx)
    first = START + np.arange(count) * 10 * DAY
    errors = np.broadcast_to(np.asarray(error, float), vx.shape)
    data = xr.Dataset(
        {
            n: (("mid_date",) if vx.ndim == 1 else ("mid_date", "y", "x"), v)
            for n, v in (("vx", vx), ("vy", vy), ("vx_error", errors), ("vy_error", errors))
        },
        {"mid_date": first + 2 * DAY},
    )
    data["acquisition_date_img1"] = ("mid_date", first)
    data["acquisition_date_img2"] = ("mid_date", first + (4 if apart else 10) * DAY)
    return data


def test_the_mean_is_that_of_the_components_and_not_biased_by_noise() -> None:
    noise = np.random.default_rng(1).normal(0, 50, (2, 4000))
    made = average(make_pairs(*noise, error=50.0))
    assert float(made["v"]) < 4
    assert np.hypot(*noise).mean() > 50
    assert float(made["v"]) == pytest.approx(np.hypot(float(made["vx"]), float(made["vy"])), rel=1e-6)


def test_precise_pairs_count_more() -> None:
    made = average(make_pairs([100.0, 101.0], [0.0, 0.0], error=[0.5, 5.0]))
    weights = np.array([4.0, 0.04])
    assert float(made["vx"]) == pytest.approx((weights * [100, 101]).sum() / weights.sum(), rel=1e-6)
    assert float(made["vx_error"]) == pytest.approx(np.sqrt(1 / weights.sum()), rel=1e-6)


@pytest.mark.parametrize("method", ["weighted", "median"])
def test_the_error_is_that_of_the_mean(method: Any) -> None:
    """Many means of independent pairs scatter as much as their errors say."""
    draws = np.random.default_rng(2).normal(0, 10, (2, 40, 60, 50))
    made = average(make_pairs(*draws, error=10.0), method=method)
    assert 0.88 < float(made["vx"].std() / made["vx_error"].mean()) < 1.05


def test_pairs_that_scatter_more_than_they_say_make_the_mean_less_certain() -> None:
    draws = np.random.default_rng(3).normal(0, 10, (2, 200))
    made = average(make_pairs(*draws, error=1.0))
    assert float(made["vx_error"]) == pytest.approx(10 / np.sqrt(200), rel=0.2)


def test_a_wrong_match_is_left_out() -> None:
    made = average(make_pairs([100.0, 102.0, 98.0, 101.0, 9000.0], [0.0, 1.0, -1.0, 0.5, -4000.0]))
    assert int(made["count"]) == 4 and float(made["vx"]) == pytest.approx(100.25)


def test_a_network_has_no_more_displacements_than_images_allow() -> None:
    """Six pairs of four images are three independent ones."""
    days = [(0, 10), (10, 20), (20, 30), (0, 20), (10, 30), (0, 30)]
    data = make_pairs(np.full(6, 50.0), np.zeros(6))
    data["acquisition_date_img1"] = ("mid_date", START + np.array([a for a, _ in days]) * DAY)
    data["acquisition_date_img2"] = ("mid_date", START + np.array([b for _, b in days]) * DAY)
    assert float(average(data)["vx_error"]) == pytest.approx(1 / np.sqrt(3), rel=1e-6)


def test_errors_may_be_given_per_pair_or_not_at_all() -> None:
    data = make_pairs(np.random.default_rng(4).normal(10, 2, (4, 3, 5)), np.zeros((4, 3, 5)), np.ones((4, 3, 5)))
    per_pair = data.assign({name: data[name].isel(y=0, x=0, drop=True) for name in ("vx_error", "vy_error")})
    xr.testing.assert_allclose(average(per_pair), average(data))
    bare = average(data.drop_vars(["vx_error", "vy_error"]))
    np.testing.assert_allclose(bare["vx"], data["vx"].mean("mid_date"), rtol=1e-5)
    np.testing.assert_allclose(bare["vx_error"], data["vx"].std("mid_date", ddof=1) / 2, rtol=1e-4)
    alone = average(data.drop_vars(["vx_error", "vy_error"]).isel(mid_date=[0]))
    assert np.isnan(alone["vx_error"]).all() and np.isfinite(alone["vx"]).all()


def test_only_measured_vectors_are_used_unless_asked() -> None:
    data = make_pairs([10.0, 20.0, 30.0], [0.0, 0.0, 0.0])
    data["status"] = ("mid_date", np.array([Status.MEASURED, Status.FILLED, Status.OUTLIER], np.uint8))
    np.testing.assert_array_equal(np.isfinite(components(data, False)["vx"]), [True, False, False])
    assert float(average(data)["vx"]) == 10.0 and int(average(data)["count"]) == 1
    assert int(average(data, filled=True)["count"]) == 2


def test_where_nothing_was_measured_there_is_no_mean() -> None:
    values = np.full((3, 2, 2), 5.0)
    values[:, 0, 0] = np.nan
    made = average(make_pairs(values, values))
    assert np.isnan(made["v"][0, 0]) and np.isnan(made["v_error"][0, 0]) and made["count"][0, 0] == 0
    assert np.isfinite(made["v"].values[1]).all()


def test_a_lazy_cube_is_averaged_in_strips_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).normal(100, 5, (2, 6, 11, 7))
    data = make_pairs(*values, error=np.full((6, 11, 7), 2.0)).assign_coords(y=np.arange(11.0), x=np.arange(7.0))
    whole = average(data)
    monkeypatch.setattr("ftrack.means.ROWS", 4)
    xr.testing.assert_identical(average(data.chunk(mid_date=2, y=3)), whole)


def test_a_span_of_time_chooses_pairs_by_their_middle() -> None:
    data = make_pairs(np.arange(6.0), np.zeros(6))
    assert within(data, None) is data
    assert within(data, "2020-01-10/2020-01-31").sizes["mid_date"] == 2
    assert within(data, ("2020-02", None)).sizes["mid_date"] == 3
    with pytest.raises(Stop, match="2020-01-03 to 2020-02-22"):
        within(data, "2021")
    assert average(data, dates="2020-01").attrs["pairs"] == 3


@pytest.mark.parametrize(("asked", "found"), [(None, None), (0, 0), ("-1", 2), ("2020-01-14", 1)])
def test_a_pair_is_found(asked: Any, found: int | None) -> None:
    assert pair_index(make_pairs(np.zeros(3), np.zeros(3)), asked) == found


def test_what_cannot_be_averaged_is_refused() -> None:
    data = make_pairs(np.zeros(3), np.zeros(3))
    with pytest.raises(Stop, match="weighted"):
        average(data, method="mode")  # type: ignore[arg-type]
    with pytest.raises(Stop, match="vx and vy"):
        average(data.drop_vars("vy"))
    with pytest.raises(Stop, match="no pair"):
        pair_index(data.isel(mid_date=[]), None)
