"""Strain rates of fields whose gradients are known: signs, units, axes, errors, gaps and chunks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from ftrack.errors import Stop
from ftrack.grid import Grid, place
from ftrack.matchers.unbend import widening_of
from ftrack.schema import Status
from ftrack.strain import LONG_NAMES, strain_rates
from ftrack.velocity import point_scale

GRID = Grid(crs="EPSG:32622", resolution=80.0, left=500_000.0, top=7_700_000.0, width=24, height=20)
WHERE = {"y": slice(4, -4), "x": slice(4, -4)}


def field(
    gradient: tuple[tuple[float, float], tuple[float, float]], at: tuple[float, float] = (100.0, 0.0), grid: Grid = GRID
) -> xr.Dataset:
    """Return a velocity with gradients ((du/dx, du/dy), (dv/dx, dv/dy)) in 1/yr, per ground metre, x to the east and y to the north."""
    x, y = np.meshgrid(grid.x - grid.x.mean(), grid.y - grid.y.mean())
    scale = float(point_scale(grid).mean())
    values = {name: (("y", "x"), v + (g[0] * x + g[1] * y) / scale) for name, v, g in zip(("vx", "vy"), at, gradient, strict=True)}
    return place(xr.Dataset(values), grid)


def value(strain: xr.Dataset, name: str) -> float:
    part = strain[name].isel(WHERE)
    assert float(part.max() - part.min()) < 1e-2 * max(1e-2, float(np.abs(part).max()))
    return float(part.mean())


@settings(max_examples=30)
@given(gradient=st.tuples(*[st.tuples(*[st.floats(-0.5, 0.5)] * 2)] * 2), window=st.sampled_from([3, 5, 9]))
def test_gradients_along_the_grid_have_the_right_sign_and_unit(
    gradient: tuple[tuple[float, float], tuple[float, float]], window: int
) -> None:
    strain = strain_rates(field(gradient, at=(1000.0, 400.0)), window).isel(WHERE)
    (a, b), (c, d) = gradient
    for name, expected in {"strain_xx": a, "strain_yy": d, "strain_xy": (b + c) / 2, "rotation": (c - b) / 2}.items():
        np.testing.assert_allclose(strain[name], expected, atol=2e-5)
    np.testing.assert_allclose(strain["strain_effective"], np.sqrt(a**2 + d**2 + a * d + (b + c) ** 2 / 4), atol=1e-4)


@pytest.mark.parametrize("direction", [0.0, 35.0, 90.0, 200.0, 305.0])
def test_along_the_flow_they_do_not_depend_on_its_direction(direction: float) -> None:
    turn = np.deg2rad(direction)
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, -s], [s, c]])
    local = np.array([[0.02, 0.1], [0.0, -0.01]])  # faster to the left of the flow, stretched along it
    turned = rotation @ local @ rotation.T
    strain = strain_rates(field(tuple(map(tuple, turned)), at=(1e5 * c, 1e5 * s)))
    assert value(strain, "strain_longitudinal") == pytest.approx(0.02, abs=1e-3)
    assert value(strain, "strain_transverse") == pytest.approx(-0.01, abs=1e-3)
    assert value(strain, "strain_shear") == pytest.approx(0.05, abs=1e-3)


def test_the_scale_of_the_projection_is_taken_off() -> None:
    grid = Grid(crs="EPSG:3413", resolution=80.0, left=400_000.0, top=-3_300_000.0, width=24, height=20)
    assert abs(float(point_scale(grid).mean()) - 1) > 0.01
    assert value(strain_rates(field(((0.1, 0.0), (0.0, 0.0)), grid=grid)), "strain_xx") == pytest.approx(0.1, rel=1e-3)


def test_how_far_nodes_share_noise_is_read_from_the_cube() -> None:
    velocity = field(((0.0, 0.0), (0.0, 0.0)))
    velocity["vx_error"], velocity["vy_error"] = xr.full_like(velocity["vx"], 7.0), xr.full_like(velocity["vx"], 7.0)
    for subpixel, chip in (("parabola", 4.0), ("least_squares", 4.0 * widening_of((32,), 8))):
        velocity.attrs["workflow"] = json.dumps({"matcher": {"chip_sizes": [32], "spacing": 8, "subpixel": subpixel}})
        np.testing.assert_array_equal(strain_rates(velocity)["strain_xx_error"], strain_rates(velocity, chip=chip)["strain_xx_error"])
    assert widening_of((32,), 8) > 1.2


def test_errors_are_those_of_noise_that_chips_share() -> None:
    rng, chip, window = np.random.default_rng(0), 4, 5
    found, stated = [], []
    for _ in range(60):
        noise = rng.normal(size=(2, GRID.height + chip - 1, GRID.width + chip - 1))
        shared = np.lib.stride_tricks.sliding_window_view(noise, (chip, chip), axis=(1, 2)).mean((3, 4)) * chip * 7.0
        velocity = field(((0.0, 0.0), (0.0, 0.0)))
        velocity["vx"], velocity["vy"] = velocity["vx"] + shared[0], velocity["vy"] + shared[1]
        velocity["vx_error"], velocity["vy_error"] = xr.full_like(velocity["vx"], 7.0), xr.full_like(velocity["vx"], 7.0)
        strain = strain_rates(velocity, window, chip=chip).isel(WHERE)
        found += [float(np.square(strain[name]).mean()) for name in ("strain_xx", "strain_yy", "strain_xy")]
        stated += [float(np.square(strain[f"{name}_error"]).mean()) for name in ("strain_xx", "strain_yy", "strain_xy")]
    ratio = np.sqrt(np.reshape(found, (-1, 3)).mean(0) / np.reshape(stated, (-1, 3)).mean(0))
    assert (np.abs(ratio - 1) < 0.1).all()


def test_few_neighbours_give_no_strain_and_gaps_do_not_bend_it() -> None:
    velocity = field(((0.1, 0.02), (0.03, -0.2)))
    gap = np.random.default_rng(1).random(velocity["vx"].shape) < 0.3
    gap[:8, :8] = True
    strain = strain_rates(velocity.where(~xr.DataArray(gap, dims=("y", "x"))), 5)
    assert np.isnan(strain["strain_xx"][:6, :6]).all()
    known = np.isfinite(strain["strain_xx"].values)
    assert known[10:-2, 10:-2].mean() > 0.9
    np.testing.assert_allclose(strain["strain_yy"].values[known], -0.2, atol=1e-4)


def test_only_measured_vectors_count_unless_filled_ones_are_wanted() -> None:
    velocity = field(((0.1, 0.0), (0.0, 0.0)))
    status = np.full(velocity["vx"].shape, int(Status.MEASURED), "uint8")
    status[:, 12:] = Status.FILLED
    velocity = velocity.assign(status=(("y", "x"), status))
    assert np.isnan(strain_rates(velocity)["strain_xx"][:, 16:]).all()
    assert np.isfinite(strain_rates(velocity, filled=True)["strain_xx"][:, 16:-2]).all()


@settings(max_examples=10)
@given(rows=st.integers(4, 20), columns=st.integers(4, 24))
def test_lazy_and_eager_agree_in_any_chunks(rows: int, columns: int) -> None:
    rng = np.random.default_rng(2)
    velocity = field(((0.1, 0.0), (0.05, 0.2))).expand_dims(mid_date=2) + 10 * rng.normal(size=(2, GRID.height, GRID.width))
    velocity["vx_error"] = xr.full_like(velocity["vx"], 3.0)
    eager, lazy = strain_rates(velocity), strain_rates(velocity.chunk(y=rows, x=columns))
    assert lazy["strain_xx"].chunks is not None
    for name in LONG_NAMES:
        np.testing.assert_allclose(lazy[name], eager[name], rtol=1e-5, atol=1e-9)


def test_a_request_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(Stop, match="odd number"):
        strain_rates(field(((0.0, 0.0), (0.0, 0.0))), 4)
    with pytest.raises(Stop, match="need vx and vy"):
        strain_rates(field(((0.0, 0.0), (0.0, 0.0))).drop_vars("vy"))
