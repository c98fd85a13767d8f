"""One map out of a cube of ITS_LIVE: the pairs near ours in time, where ours lies, and no more bytes than are allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from file_server import FileServer, serving
from made_itslive import LEFT, PAIRS, SIZE, STEP, TOP, make_itslive
from test_series import make_cube

from ftrack.errors import Stop
from ftrack.grid import Grid, grid_of
from ftrack.itslive import open_itslive
from ftrack.means import DATES
from ftrack.nearby import near_map
from ftrack.sources import SourceSettings

DAYS = np.random.default_rng(1).permutation(PAIRS)
"""Steps of eleven days from the first pair, in the order in which `make_itslive` stores pairs."""


def ours_of(grid: Grid, days: int) -> xr.Dataset:
    """Return a cube of ours whose pairs span 50 days that end so many days after 2020-06-06."""
    cube = make_cube(3, grid)
    moved = {name: cube[name] + np.timedelta64(days, "D") for name in (*DATES, "mid_date")}
    return cube.assign_coords(mid_date=moved.pop("mid_date").values).assign(
        {name: ("mid_date", part.values) for name, part in moved.items()}
    )


WHOLE = Grid(crs="EPSG:3413", resolution=STEP, left=LEFT, top=TOP, height=SIZE, width=SIZE)


def test_the_median_is_that_of_the_pairs_near_ours_where_ours_lies(tmp_path: Path) -> None:
    theirs = open_itslive(make_itslive(tmp_path / "cube.zarr", vx=100.0 * DAYS[:, None, None], attrs={"map_scale_corrected": 1}))
    part = Grid(crs="EPSG:3413", resolution=STEP, left=LEFT + 6 * STEP, top=TOP - 4 * STEP, height=8, width=10)
    told: list[str] = []
    made = near_map(theirs, ours_of(part, 365), told=told.append)
    np.testing.assert_allclose(made["vx"], 550.0)  # the last two: 2021-04-25 and 2021-05-06
    np.testing.assert_array_equal(made["count"], 2)
    assert made.attrs["shown"] == "median of 2 of 7 pairs, 2021-04-25 to 2021-05-06"
    assert grid_of(made) == WHOLE.window(slice(3, 13), slice(5, 17))
    assert told == ["reading ITS_LIVE, 2 pairs: row 0 of 10"]


def test_where_no_pair_is_near_in_time_the_nearest_are_taken(tmp_path: Path) -> None:
    theirs = open_itslive(make_itslive(tmp_path / "cube.zarr", vx=100.0 * DAYS[:, None, None], attrs={"map_scale_corrected": 1}))
    made = near_map(theirs, ours_of(WHOLE, 0))
    assert made.attrs["shown"].startswith("median of 7 of 7 pairs, 2021-03-01")
    np.testing.assert_allclose(made["vx"][8:, 8:], 300.0)


def test_no_more_is_read_than_is_allowed_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    make_itslive(tmp_path / "cube.zarr")
    files = {f"/{p.relative_to(tmp_path)}": p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    chunk = 4.0 * PAIRS * 10 * 10
    with serving(FileServer(files)) as server:
        theirs = open_itslive(f"{server.url}/cube.zarr", source=SourceSettings(hosts=("127.0.0.1",), private_hosts=False), version=1)
        server.asked.clear()
        made = near_map(theirs, ours_of(WHOLE, 365), most=4 * chunk)
        assert 1 <= sum("/vx/" in path for path in server.asked) <= 4
        assert not any("/v_error/" in path or "/interp_mask/" in path for path in server.asked)
    assert "a node every 2.4 km; all would be 0.0 MB" in made.attrs["shown"]
    np.testing.assert_allclose(made["vx"], 300.0)
    x, y = float(made.x[0]), float(made.y[0])
    assert (x, y) == (float(theirs.x[10]), float(theirs.y[10]))


def test_a_cube_elsewhere_is_refused(tmp_path: Path) -> None:
    theirs = open_itslive(make_itslive(tmp_path / "cube.zarr"))
    with pytest.raises(Stop, match="does not cover"):
        near_map(theirs, ours_of(Grid(crs="EPSG:32622", resolution=120.0, left=500_000.0, top=7_000_000.0, height=20, width=20), 0))
