"""The fit of mean, trend and season: the truth comes back with errors that hold, from ours, from ITS_LIVE and from a series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from made_itslive import make_itslive
from made_network import DAY, START, Glacier, make_network

from ftrack.errors import Stop
from ftrack.itslive import open_itslive
from ftrack.season import lacking, seasonal_fit
from ftrack.sinusoid import Lack

ICE = Glacier(season=150.0, trend=-20.0, day=160.0)
DATES = ("acquisition_date_img1", "acquisition_date_img2")
ALONG = float(np.hypot(1.0, 0.3))


def network(places: int = 400, pairs: int = 500, **given: Any) -> xr.Dataset:
    """Return pairs of 6 to 120 days of five years."""
    data = make_network(places=places, years=5.0, longest=120, noise=3.0, glacier=ICE, **given)
    chosen = np.random.default_rng(1).choice(data.sizes["mid_date"], pairs, replace=False)
    return data.isel(mid_date=np.sort(chosen))


def truth_at(made: xr.Dataset) -> dict[str, float]:
    """Return what the fit should be."""
    years = float((np.datetime64(made.attrs["reference_date"], "us") - START) / DAY / 365.25)
    found = {"v": ICE.speed + ICE.trend * years, "dv_dt": ICE.trend, "v_amp": ICE.season}
    return {**{name: value * ALONG for name, value in found.items()}, "v_phase": ICE.day}


def by_mid_dates(data: xr.Dataset) -> float:
    """Return the amplitude of a weighted fit of a sine to the middles of pairs, median of the places."""
    years = (data["mid_date"].values - START) / DAY / 365.25
    design = np.stack([years**0, years, np.cos(2 * np.pi * years), np.sin(2 * np.pi * years)], axis=1)
    size = 1 / data["vx_error"].values[:, :1]
    found = [np.linalg.lstsq(design * size, data[name].values * size)[0] for name in ("vx", "vy")]
    return float(np.median(np.sqrt(sum((part[2:] ** 2).sum(axis=0) for part in found))))


@pytest.mark.parametrize(("common", "outliers"), [(0.0, 0.0), (0.5, 0.1), (1.0, 0.2)])
def test_the_truth_comes_back_and_errors_hold(common: float, outliers: float) -> None:
    made = seasonal_fit(network(common=common, outliers=outliers))
    assert (made["fit_flag"] == 0).all()
    for name, value in truth_at(made).items():
        off, error = made[name].values - value, made[f"{name}_error"].values
        within = [np.mean(abs(off) < n * error) for n in (1, 2)]
        print(f"{name}: {value:.1f}, bias {off.mean():.2f}, RMSE {off.std():.2f}, {within[0]:.0%}, {within[1]:.0%} within one, two sigma")
        assert abs(off.mean()) < 0.1 * error.mean()
        assert abs(within[0] - 0.68) < 0.06 and abs(within[1] - 0.95) < 0.05


def test_long_baselines_do_not_damp_the_amplitude() -> None:
    data = network(places=100)
    true, naive, made = ICE.season * ALONG, by_mid_dates(data), float(seasonal_fit(data)["v_amp"].mean())
    print(f"amplitude {true:.1f} m/yr: {made:.1f}, fitted to the middles of pairs {naive:.1f}")
    assert abs(made / true - 1) < 0.01 and naive < 0.95 * true


def test_pairs_that_are_left_out_are_counted() -> None:
    made = seasonal_fit(network(places=100, outliers=0.15))
    # A vector is wrong if one of its components is.
    assert float(made["outlier_percent"].mean()) == pytest.approx(100 * (1 - 0.85**2), abs=2)
    assert (made["count"] / 500 + made["outlier_percent"] / 100).values == pytest.approx(1.0, abs=1e-3)


def test_errors_that_are_stated_too_small_are_raised() -> None:
    data = network(common=0.0)
    made = seasonal_fit(data.assign(vx_error=data["vx_error"] / 4, vy_error=data["vy_error"] / 4))
    off = np.abs(made["v_amp"].values - ICE.season * ALONG) / made["v_amp_error"].values
    assert np.mean(off < 1) > 0.62


def test_long_pairs_that_lost_the_ice_are_left_out() -> None:
    data = network(places=5, pairs=900)
    days = (data[DATES[1]] - data[DATES[0]]) / DAY
    stuck = data.assign({name: data[name].where(days < 64, 20.0) for name in ("vx", "vy")})
    off = [float(abs(seasonal_fit(stuck, max_days=limit)["v_amp"] - ICE.season * ALONG).max()) for limit in ("auto", 1000.0)]
    assert off[0] < 15 < off[1]


def cube_of(data: xr.Dataset) -> xr.Dataset:
    """Return the places of a network as rows and columns."""
    shaped = {name: (("mid_date", "y", "x"), data[name].values.reshape(-1, 4, 5)) for name in data if "place" in data[name].dims}
    return data.drop_dims("place").assign(shaped).assign_coords(y=range(4), x=range(5))


@pytest.mark.parametrize("chunks", [{"y": 4, "x": 5, "mid_date": 300}, {"y": 1, "x": 2, "mid_date": 7}, {"y": 3, "x": 5, "mid_date": 64}])
def test_lazy_is_eager_whatever_the_chunks(chunks: dict[str, int]) -> None:
    data = cube_of(network(places=20, pairs=300, outliers=0.1))
    data["status"] = (data["vx"].dims, (np.random.default_rng(0).random(data["vx"].shape) < 0.1).astype(np.uint8))
    lazy = seasonal_fit(data.chunk(chunks))
    assert lazy["v_amp"].chunks is not None and lazy["v"].dims == ("y", "x")
    xr.testing.assert_allclose(lazy.compute(), seasonal_fit(data), rtol=1e-5)
    one = seasonal_fit(data.isel(y=2, x=3))
    assert float(one["v_phase"]) == pytest.approx(float(lazy["v_phase"][2, 3]), rel=1e-5)


def test_what_is_not_measured_is_not_used() -> None:
    data = cube_of(network(places=20, pairs=300))
    made = seasonal_fit(data.assign(vx=data["vx"].where(data["x"] != 1)))
    # What few vectors lack, none lack too: shares of what is lacking then are of all places.
    without = ~(Lack.NOT_TOLD_APART | Lack.FAINT_SEASON)
    assert (made["fit_flag"][:, 1] == int(without)).all() and (made["count"][:, 1] == 0).all()
    assert made["v"][:, 1].isnull().all() and made["v"][:, 0].notnull().all()
    assert lacking(made)["fewer than 5 vectors: nothing"] == pytest.approx(0.2)
    filled = data.assign(status=xr.ones_like(data["vx"], np.uint8))
    assert (seasonal_fit(filled)["count"] == 0).all() and (seasonal_fit(filled, filled=True)["count"] > 290).all()


def test_a_cube_of_its_live_is_fitted_with_errors_of_pairs(tmp_path: Path) -> None:
    made = seasonal_fit(open_itslive(make_itslive(tmp_path / "cube.zarr"))).compute()
    assert made["v"].shape == (24, 24) and float(made["v"].median()) == pytest.approx(500, rel=0.05)
    assert (made["fit_flag"].values & int(Lack.SPARSE) > 0).all() and made["dv_dt"].isnull().all()
    assert made["v"].attrs["units"] == "meter/year" and made["v_phase"].attrs["units"] == "day of year"
    assert len(made["fit_flag"].attrs["flag_masks"]) == len(made["fit_flag"].attrs["flag_meanings"].split()) == 8
    assert made.rio.crs.to_epsg() == 3413


def test_velocity_is_told_for_a_date() -> None:
    data = network(places=2)
    assert seasonal_fit(data, at="2018-01-01").attrs["reference_date"] == "2018-01-01"
    made = seasonal_fit(data, at="2024-01-01")
    assert float(made["v"].mean()) == pytest.approx((ICE.speed + 4 * ICE.trend) * ALONG, abs=3)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"at": "someday"}, "is not a date"),
        ({"max_days": 0}, "give days above 0"),
        ({"dates": "1990-01-01/1991-01-01"}, "no pair has its middle"),
    ],
)
def test_what_cannot_be_is_said(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(Stop, match=told):
        seasonal_fit(network(places=1, pairs=50), **wrong)


def test_what_has_no_pairs_is_refused() -> None:
    data = network(places=1, pairs=50)
    with pytest.raises(Stop, match="there is nothing to fit"):
        seasonal_fit(data.drop_vars(DATES[0]))
    with pytest.raises(Stop, match="has to be the earlier one"):
        seasonal_fit(data.assign(acquisition_date_img2=data[DATES[0]]))
