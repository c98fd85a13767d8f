"""The score of the demonstration: what it counts, on cubes whose errors are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from ftrack.demo import draw_demo, score_cube
from ftrack.errors import Stop
from ftrack.grid import Grid, place
from ftrack.schema import DAYS_PER_YEAR, Status
from ftrack.synthetic import TINY, Archive, simulate_archive

STEP = 80.0
NODES = 30


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate_archive(tmp_path_factory.mktemp("archive"), TINY)


def true_cube(archive: Archive, error_px: float = 0.0, seed: int = 0) -> xr.Dataset:
    """Return a cube of the true velocity with normal errors of a known size in pixels; every node is measured."""
    scenes = archive.scenes
    pairs = [(scenes[a], scenes[b]) for a, b in ((0, 1), (1, 2), (0, 2))]
    grid = Grid(
        crs=archive.crs, resolution=STEP, left=archive.settings.left + STEP, top=archive.settings.top - STEP, height=NODES, width=NODES
    )
    x, y = np.meshgrid(grid.x, grid.y)
    random = np.random.default_rng(seed)
    velocity = np.array([archive.true_pair_velocity(a.id, b.id, x, y) for a, b in pairs])
    years = np.array([b.day - a.day for a, b in pairs])[:, None, None, None] / DAYS_PER_YEAR
    scale = 0.9996
    velocity += random.normal(0, error_px, velocity.shape) * archive.settings.resolution / years / scale
    dims = ("mid_date", "y", "x")
    first = np.array([a.time.replace(tzinfo=None) for a, _ in pairs], "datetime64[us]")
    last = np.array([b.time.replace(tzinfo=None) for _, b in pairs], "datetime64[us]")
    names = {"vx": velocity[:, 0], "vy": velocity[:, 1], "v": np.hypot(velocity[:, 0], velocity[:, 1])}
    cube = xr.Dataset({name: (dims, values.astype("float32")) for name, values in names.items()})
    stated = np.broadcast_to(max(error_px, 0.01) * archive.settings.resolution / years[:, 0] / scale, velocity[:, 0].shape)
    cube["vx_error"], cube["vy_error"] = ((dims, stated.astype("float32")) for _ in range(2))
    cube["status"] = (dims, np.full(velocity[:, 0].shape, int(Status.MEASURED), "uint8"))
    cube["v_error"], cube["correlation"] = cube["v"] * 0 + 1, cube["v"] * 0 + 0.9
    cube["scale_factor"] = (("y", "x"), np.full(x.shape, scale, "float32"))
    cube["scene_ids_img1"], cube["scene_ids_img2"] = ("mid_date", [a.id for a, _ in pairs]), ("mid_date", [b.id for _, b in pairs])
    cube["acquisition_date_img1"], cube["acquisition_date_img2"] = ("mid_date", first), ("mid_date", last)
    return place(cube.assign_coords(mid_date=first + (last - first) / 2), grid)


def test_the_truth_scores_without_error(archive: Archive) -> None:
    score = score_cube(true_cube(archive), archive)
    assert score.pairs == 3 and score.vectors == 3 * NODES**2 and score.valid == 1.0
    assert score.rmse < 1e-4 and score.wrong == 0.0 and score.ice_error < 1e-4 and score.stable_error < 1e-4


def test_errors_are_counted_in_pixels_and_metres(archive: Archive) -> None:
    score = score_cube(true_cube(archive, 0.1), archive)
    assert score.rmse == pytest.approx(0.1, rel=0.03)
    # The length of a vector of two normal errors has the median sigma * sqrt(2 ln 2).
    for error in (score.stable_error, score.ice_error):
        assert error == pytest.approx(0.1 * np.sqrt(2 * np.log(2)), rel=0.08)
    for within in (score.stable_within, score.ice_within):
        assert within == pytest.approx((0.683, 0.954), abs=0.03)
    per_year = archive.settings.resolution * DAYS_PER_YEAR / archive.settings.days
    assert 0.5 * per_year < score.ice_error_velocity / score.ice_error < 1.01 * per_year


def test_wrong_vectors_are_counted_and_filled_ones_are_not(archive: Archive) -> None:
    cube = true_cube(archive)
    per_px = archive.settings.resolution * DAYS_PER_YEAR / archive.settings.days
    cube["vx"][0, :3] += 1.2 * per_px
    cube["vx"][0, 3:6] += 0.9 * per_px
    cube["vx"][1, :10] += 50 * per_px
    cube["status"][1, :10] = int(Status.FILLED)
    score = score_cube(cube, archive)
    assert score.vectors == 3 * NODES**2 - 10 * NODES
    assert score.wrong == pytest.approx(3 * NODES / score.vectors)


def test_nodes_under_cloud_need_not_be_measured(archive: Archive) -> None:
    cube = true_cube(archive)
    x, y = np.meshgrid(cube["x"], cube["y"])
    for index in range(3):
        first, second = (str(cube[f"scene_ids_img{i}"].values[index]) for i in (1, 2))
        hidden = ~(archive.clear(first, x, y, 6) & archive.clear(second, x, y, 6))
        cube["status"][index] = np.where(hidden, int(Status.NO_DATA), int(Status.MEASURED))
    assert int((cube["status"] == int(Status.NO_DATA)).sum()) > 0
    assert score_cube(cube, archive, reach=32).valid == 1.0
    assert score_cube(cube, archive, reach=0).valid < 1.0


def test_missing_vectors_on_clear_nodes_are_held_against_the_cube(archive: Archive) -> None:
    cube = true_cube(archive)
    cube["status"][:] = np.where(np.random.default_rng(1).random(cube["status"].shape) < 0.2, int(Status.OUTLIER), int(Status.MEASURED))
    assert score_cube(cube, archive, reach=8).valid == pytest.approx(0.8, abs=0.04)


def test_a_cube_without_vectors_has_no_score(archive: Archive, tmp_path: Path) -> None:
    cube = true_cube(archive)
    cube["status"][:] = int(Status.NO_DATA)
    with pytest.raises(Stop, match="no measured vector"):
        score_cube(cube, archive)
    cube["vx"][:] = np.nan
    with pytest.raises(Stop, match="no measured vector"):
        draw_demo(cube, archive, (), tmp_path)
