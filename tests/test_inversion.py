"""Regular series: the truth comes back with errors that hold, whatever the pairs overlap, share and contradict; and a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from made_network import DAY, START, make_network, truth_of
from test_series import make_cube

from ftrack.errors import Stop
from ftrack.inversion import edges_of, regular_series
from ftrack.means import average
from ftrack.series import point_series
from ftrack.view import plot_series

DATES = ("acquisition_date_img1", "acquisition_date_img2")


def off_and_stated(made: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return errors against the truth and errors over stated ones, without the two ends, which pairs cover in part."""
    off = (made["vx"].values - truth_of(made))[1:-1]
    return off, off / made["vx_error"].values[1:-1]


def binned(data: xr.Dataset, made: xr.Dataset) -> np.ndarray:
    """Return the mean of the pairs whose middle lies in each interval: what people do without an inversion."""
    ends = [made[name].values for name in DATES]
    inside = [(data["mid_date"].values >= a) & (data["mid_date"].values < b) for a, b in zip(*ends, strict=True)]
    return np.stack([average(data.isel(mid_date=i))["vx"].values for i in inside])


@pytest.mark.parametrize("common", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("every", ["month", 15])
def test_it_is_closer_to_the_truth_than_means_and_its_errors_hold(common: float, every: float | str) -> None:
    data = make_network(common=common)
    made = regular_series(data, every=every)
    off, over = off_and_stated(made)
    means = binned(data, made)[1:-1] - truth_of(made)[1:-1]
    ours, theirs = (float(np.sqrt((error**2).mean())) for error in (off, means))
    within = [np.mean(abs(over) < n) for n in (1, 2)]
    print(f"RMSE {ours:.2f} m/yr, of means {theirs:.2f}; {within[0]:.0%}, {within[1]:.0%} within one and two sigma")
    assert ours < 1.05 * theirs
    assert 0.66 < within[0] < 0.93 and within[1] > 0.94


def test_wrong_vectors_are_left_out() -> None:
    right, wrong = (np.sqrt((off_and_stated(regular_series(make_network(outliers=share)))[0] ** 2).mean()) for share in (0.0, 0.15))
    assert wrong < 1.25 * right


def test_errors_that_are_stated_too_small_are_raised() -> None:
    data = make_network()
    data = data.assign(vx_error=data["vx_error"] / 3, vy_error=data["vy_error"] / 3)
    assert np.mean(abs(off_and_stated(regular_series(data))[1]) < 1) > 0.6


def test_long_pairs_that_lost_the_ice_are_left_out() -> None:
    data = make_network(longest=120, places=10)
    days = (data[DATES[1]] - data[DATES[0]]) / DAY
    stuck = data.assign({name: data[name].where(days < 64, 20.0) for name in ("vx", "vy")})
    off = {limit: np.abs(off_and_stated(regular_series(stuck, max_days=limit))[0]).mean() for limit in ("auto", 63.9, 1000.0)}
    assert off["auto"] == off[63.9] < 6 and off[1000.0] > 100


@settings(deadline=None, max_examples=15)
@given(st.floats(-3000, 3000), st.floats(-3000, 3000), st.integers(0, 5), st.sampled_from([7.0, 20.0, "month", "year"]))
def test_a_constant_velocity_is_found_exactly_whatever_the_network(vx: float, vy: float, seed: int, every: float | str) -> None:
    data = make_network(seed=seed, places=1, years=1.0)
    data = data.assign(vx=data["vx"] * 0 + vx, vy=data["vy"] * 0 + vy)
    made = regular_series(data.isel(mid_date=np.random.default_rng(seed).permutation(data.sizes["mid_date"])), every=every)
    np.testing.assert_allclose(made["vx"], vx, atol=0.02)
    np.testing.assert_allclose(made["v"], np.hypot(vx, vy), atol=0.03)
    assert (np.diff(made["mid_date"].values) > np.timedelta64(0)).all()


def test_where_no_pair_tells_of_an_interval_there_is_none() -> None:
    data = make_network(places=3)
    gap = (data[DATES[0]].values < START + 400 * DAY) & (data[DATES[1]].values > START + 250 * DAY)
    made = regular_series(data.isel(mid_date=~gap))
    empty = made["count"].values == 0
    assert 3 * 3 <= empty.sum() <= 3 * 5
    assert np.isnan(made["vx"].values[empty]).all() and np.isfinite(made["vx_error"].values[~empty]).all()


def test_a_place_without_vectors_stays_empty_and_does_not_touch_the_others() -> None:
    data = make_network(places=3)
    alone = regular_series(data.isel(place=[0, 2]))
    made = regular_series(data.assign(vx=data["vx"].where(data["place"] != 1)))
    assert np.isnan(made["vx"].values[:, 1]).all()
    np.testing.assert_allclose(made["vx"].values[:, [0, 2]], alone["vx"], rtol=1e-6)


def test_a_cube_becomes_a_cube_whose_places_are_those_of_series() -> None:
    cube = make_cube(pairs=12).isel(y=slice(0, 3), x=slice(0, 4))
    made = regular_series(cube, every=40)
    assert made["vx"].dims == ("mid_date", "y", "x") and made.attrs["pairs"] == 12
    x, y = float(cube.x[2]), float(cube.y[1])
    one = regular_series(point_series(cube, x=x, y=y), every=40)
    np.testing.assert_allclose(made["vx"].sel(x=x, y=y), one["vx"], rtol=1e-5)
    np.testing.assert_allclose(point_series(made, x=x, y=y)["v_error"], one["v_error"], rtol=1e-5)


def test_a_regular_series_is_drawn_over_that_of_pairs() -> None:
    series = point_series(make_cube(pairs=12), x=-189_000.0, y=-2_241_000.0)
    ax = plot_series(series)
    assert plot_series(regular_series(series, every=40).assign_attrs(title="every 40 days"), ax=ax) is ax
    assert any("every 40 days" in text.get_text() for text in ax.get_legend().get_texts())


@pytest.mark.parametrize(
    ("every", "first", "last", "count"),
    [
        ("month", "2020-01-15", "2020-03-02", 3),
        ("year", "2019-12-31", "2021-01-01", 2),
        (10, "2020-01-01", "2020-01-31", 3),
        ("1.5", "2020-01-01", "2020-01-04", 2),
    ],
)
def test_intervals_cover_all_dates(every: Any, first: str, last: str, count: int) -> None:
    begin, end = (np.datetime64(date, "us") for date in (first, last))
    edges = edges_of(begin, end, every)
    assert len(edges) == count + 1 and edges[0] <= begin and edges[-2] < end <= edges[-1]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"every": "fortnight"}, "give a number of days, or 'month' or 'year'"),
        ({"every": 0.01}, "are too many"),
        ({"every": -3}, "give a number of days"),
        ({"smoothness": 0.0}, "smoothness 0"),
        ({"max_days": "long"}, "give days above 0, or 'auto'"),
        ({"dates": "1990-01-01/1991-01-01"}, "no pair has its middle"),
    ],
)
def test_what_cannot_be_is_said(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(Stop, match=told):
        regular_series(make_network(places=1, years=0.5), **wrong)


def test_what_has_no_pairs_is_refused() -> None:
    data = make_network(places=1, years=0.5)
    with pytest.raises(Stop, match="there is nothing to invert"):
        regular_series(data.drop_vars("acquisition_date_img1"))
    with pytest.raises(Stop, match="the earlier one"):
        regular_series(data.assign(acquisition_date_img2=data["acquisition_date_img1"]))


def read_public(data_folder: Path) -> xr.Dataset:
    """Return the point series of Jakobshavn that ITS_LIVE gives."""
    table = pd.read_csv(data_folder / "itslive" / "jakobshavn-point.csv", parse_dates=["mid_date"]).dropna(subset=["vx [m/yr]"])
    half = pd.to_timedelta(table["date_dt [days]"] / 2, unit="D")
    data = xr.Dataset({n: ("mid_date", table[f"{n} [m/yr]"].values) for n in ("vx", "vy", "vx_error", "vy_error")})
    for name, dates in zip(DATES, (table["mid_date"] - half, table["mid_date"] + half), strict=True):
        data[name] = ("mid_date", dates.values.astype("datetime64[us]"))
    return data.assign_coords(mid_date=table["mid_date"].values)


def test_two_halves_of_a_real_network_agree(data_folder: Path) -> None:
    """The public series of Jakobshavn has pairs of 200 to 500 days, all wrong, in great number, and the ice speeds up within weeks."""
    data = read_public(data_folder)
    data = data.isel(mid_date=np.argsort(data["mid_date"].values))
    span = {"dates": "2017-01-01/2020-12-31", "every": "month"}
    one, other = xr.align(*(regular_series(data.isel(mid_date=slice(n, None, 2)), **span) for n in (0, 1)))
    both = np.flatnonzero((np.minimum(one["count"], other["count"]) > 5).values)
    over = ((one["v"] - other["v"]) / np.hypot(one["v_error"], other["v_error"])).values[both]
    speeds, within = one["v"].values[both], [np.mean(abs(over) < n) for n in (1, 2)]
    print(f"{both.size} months, {speeds.min():.0f} to {speeds.max():.0f} m/yr; {within[0]:.0%}, {within[1]:.0%} within one and two sigma")
    assert both.size > 30 and within[1] > 0.7
    assert speeds.min() > 4500 and speeds.max() < 11_000
