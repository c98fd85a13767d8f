"""Cubes are judged and compared: scatter, errors and closure that are known beforehand come out, and cubes of other grids meet."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import xarray as xr

from ftrack import compare
from ftrack.compare import compare_cubes, judge_cube
from ftrack.errors import Stop
from ftrack.grid import Grid, place
from ftrack.schema import DAYS_PER_YEAR, Status

GRID = Grid(crs="EPSG:32622", resolution=100.0, left=500_000.0, top=7_700_000.0, height=60, width=80)
DAYS = (0, 10, 20, 40)
PAIRS = tuple(combinations(range(len(DAYS)), 2))
BASELINES = np.array([DAYS[j] - DAYS[i] for i, j in PAIRS], "float32")


def make_cube(displacement: np.ndarray, error: float = 2.0, grid: Grid = GRID) -> xr.Dataset:
    """Return a cube of all pairs of four images: displacement float (2, pair, y, x), east and north, and its error, ground metres."""
    per_year = DAYS_PER_YEAR / BASELINES[:, None, None]
    shape = displacement.shape[1:]
    values = {"vx": displacement[0] * per_year, "vy": displacement[1] * per_year}
    values |= {f"{c}_error": np.broadcast_to(error * per_year, shape) for c in ("vx", "vy")}
    cube = xr.Dataset({n: (("mid_date", "y", "x"), v.astype("float32")) for n, v in values.items()})
    cube["status"] = (("mid_date", "y", "x"), np.zeros(shape, np.uint8))
    first, second = (np.array([DAYS[pair[k]] for pair in PAIRS]) for k in (0, 1))
    begin = np.datetime64("2021-05-01", "us")
    for name, days in (("img1", first), ("img2", second)):
        cube[f"acquisition_date_{name}"] = ("mid_date", begin + days * np.timedelta64(1, "D"))
        cube[f"image_id_{name}"] = ("mid_date", np.array([f"image-{day}" for day in days]))
    cube["date_dt"] = ("mid_date", BASELINES)
    cube["stable"] = (("y", "x"), np.where(np.arange(shape[2]) < shape[2] // 2, 1, 0) * np.ones(shape[1:], np.uint8))
    middle = begin + ((first + second) * 12 * 3600).astype("timedelta64[s]")
    return place(cube.assign_coords(mid_date=middle + np.arange(len(PAIRS)) * np.timedelta64(1, "us")), grid)


def noise(sigma: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma, (2, len(PAIRS), GRID.height, GRID.width))


def test_scatter_errors_and_closure_are_those_of_the_noise() -> None:
    moving = (np.arange(GRID.width) >= GRID.width // 2) * 10.0 * BASELINES[:, None, None]
    cube = make_cube(noise(3.0) + moving, error=2.0)
    cube["status"][0, :30] = int(Status.LOW_CORRELATION)
    found = judge_cube(cube)
    assert found.pairs == 6 and found.measured == pytest.approx(11 / 12)
    assert found.error == pytest.approx((2.0, 2.0), rel=1e-4)
    assert found.stable == 11 * 30 * 40
    assert found.scatter == pytest.approx((3.0, 3.0), rel=0.03)
    assert found.ratio == pytest.approx((1.5, 1.5), rel=0.03)
    assert found.far == pytest.approx(1 - 0.9545**2, abs=0.01)
    assert found.triangles == 4
    assert found.closure == pytest.approx((3.0 * 3**0.5,) * 2, rel=0.05) and found.closure_ratio == pytest.approx((1.5, 1.5), rel=0.05)
    assert found.lines["their scatter about zero"].endswith(" m")


def test_noise_of_the_images_closes() -> None:
    of_image = np.random.default_rng(1).normal(0, 3.0, (2, len(DAYS), GRID.height, GRID.width))
    found = judge_cube(make_cube(np.stack([of_image[:, j] - of_image[:, i] for i, j in PAIRS], 1) * 1e-3))
    assert found.closure == pytest.approx((0, 0), abs=1e-4) and found.scatter[0] > 1e-3


@pytest.mark.parametrize("axis", [0, 1])
def test_a_triangle_follows_the_ice(axis: int) -> None:
    rows, columns = np.indices((GRID.height, GRID.width))
    place_along = GRID.resolution * (columns if axis == 0 else -rows)
    displacement = np.zeros((2, len(PAIRS), GRID.height, GRID.width))
    displacement[axis] = place_along * np.expm1(0.01 * BASELINES[:, None, None])
    assert np.abs(displacement).max() > 15 * GRID.resolution
    assert judge_cube(make_cube(displacement)).closure == pytest.approx((0, 0), abs=0.01)


def test_a_difference_is_told_of_the_pairs_that_both_hold() -> None:
    given = noise(2.0)
    first, second = make_cube(given), make_cube(given + np.array([5.0, -1.0])[:, None, None, None] + noise(1.0, seed=2))
    first["status"][:, :6] = int(Status.NO_DATA)
    second["status"][:, -3:] = int(Status.NO_DATA)
    found = compare_cubes(first, second.isel(mid_date=[4, 1]))
    assert found.pairs == 2 and found.unit == "m"
    assert (found.first, found.second, found.both) == pytest.approx((0.05, 0.1, 0.85))
    assert found.middle == pytest.approx((5.0, -1.0), abs=0.06) and found.scatter == pytest.approx((1.0, 1.0), rel=0.05)
    assert found.ratio[0] == pytest.approx(5.0 / 8**0.5 * compare.NORMAL, rel=0.05)
    assert found.lines["difference, median"].startswith("+") and found.lines["difference, median"].endswith(" m")


def test_cubes_of_other_images_and_nodes_are_compared_by_their_medians() -> None:
    first = make_cube(noise(0.1) + 20.0)
    finer = Grid(crs=GRID.crs, resolution=50.0, left=GRID.left, top=GRID.top, height=40, width=40)
    shape = (2, len(PAIRS), finer.height, finer.width)
    second = make_cube(np.broadcast_to(20.0 + 0.1 * BASELINES[None, :, None, None], shape), grid=finer)
    found = compare_cubes(first, second.drop_vars(["image_id_img1", "image_id_img2"]))
    assert found.pairs == 0 and found.unit == "m/yr" and "medians" in found.lines["pairs of both"]
    assert found.both == pytest.approx(20 * 20 / (60 * 80)) and found.middle[0] == pytest.approx(0.1 * DAYS_PER_YEAR, rel=0.02)


def test_of_a_very_large_cube_some_nodes_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    cube = make_cube(noise(3.0))
    whole = judge_cube(cube)
    monkeypatch.setattr(compare, "MOST", cube["vx"].size // 4)
    some = judge_cube(cube)
    assert some.stable == whole.stable // 4 and some.scatter == pytest.approx(whole.scatter, rel=0.06)


def test_where_there_is_nothing_to_tell_from_it_says_so() -> None:
    cube = make_cube(noise(1.0)).isel(mid_date=[0]).drop_vars("stable")
    found = judge_cube(cube)
    assert found.triangles == 0 and found.stable == 0 and np.isnan([*found.scatter, *found.closure, found.far]).all()
    assert found.lines["what does not close"] == "-" and found.lines["beyond three stated errors"] == "-"
    with pytest.raises(Stop, match="nothing to judge"):
        judge_cube(cube.isel(mid_date=0))
    missing = cube.assign(status=cube["status"] * 0 + np.uint8(Status.OUTLIER))
    with pytest.raises(Stop, match="no node in common"):
        compare_cubes(cube, missing)
    with pytest.raises(Stop, match="no pair has its middle"):
        judge_cube(cube, dates="2020-01-01/2020-02-01")
