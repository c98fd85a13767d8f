"""Plots: what they show, in which unit and place, and what they refuse."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver, QuiverKey
from matplotlib.text import Text

from ftrack import view
from ftrack.errors import Stop
from ftrack.grid import Grid, place
from ftrack.means import pair_index
from ftrack.schema import STATUS_TEXT, Status
from ftrack.season import seasonal_fit
from ftrack.series import place_of, point_series, profile
from ftrack.view.dates import as_dates, dress_dates
from ftrack.view.frames import choose_frame, round_number, short_crs

HEIGHT, WIDTH, STEP = 60, 80, 80.0
GRID = Grid(crs="EPSG:32718", resolution=STEP, left=620_000.0, top=4_405_000.0, height=HEIGHT, width=WIDTH)
START = np.datetime64("2020-01-01", "ns")


def make_cube(pairs: int = 6, *, seed: int = 1) -> xr.Dataset:
    """Return a glacier that flows to the north-east between rock walls, with a cloud in the first pair."""
    random = np.random.default_rng(seed)
    across = (np.arange(HEIGHT)[:, None] - HEIGHT / 2) / (HEIGHT / 2) + 0.3 * np.sin(np.arange(WIDTH)[None] / 20)
    speed = 900 * np.clip(1 - across**2 / 0.5, 0, None)
    first = START + np.arange(pairs) * np.timedelta64(10, "D")
    days = np.array([10 + 10 * (i % 3) for i in range(pairs)], float)
    last = first + (days * 86400e9).astype("timedelta64[ns]")
    season = 1 + 0.2 * np.sin(np.arange(pairs))[:, None, None]
    noise = random.normal(0, 80 / days[:, None, None], (2, pairs, HEIGHT, WIDTH))
    status = np.where(random.random((pairs, HEIGHT, WIDTH)) < 0.03, int(Status.OUTLIER), 0).astype(np.uint8)
    status[0, 5:20, 10:40] = int(Status.NO_DATA)
    status[:, :2] = int(Status.EDGE)
    status[1:2, 30:33, 30:33] = int(Status.FILLED)
    gone = ~np.isin(status, (0, 1))
    vx, vy = (np.where(gone, np.nan, s * speed * season + n).astype(np.float32) for s, n in zip((0.8, 0.6), noise, strict=True))
    error = np.where(gone, np.nan, 80 / days[:, None, None] * random.uniform(0.7, 1.5, status.shape)).astype(np.float32)
    correlation = np.where(gone, np.nan, random.uniform(0.4, 0.95, status.shape)).astype(np.float32)
    dims = ("mid_date", "y", "x")
    values = {"vx": vx, "vy": vy, "v": np.hypot(vx, vy), "vx_error": error, "vy_error": error, "v_error": error}
    cube = xr.Dataset({name: (dims, v) for name, v in {**values, "correlation": correlation, "status": status}.items()})
    cube["acquisition_date_img1"], cube["acquisition_date_img2"] = ("mid_date", first), ("mid_date", last)
    return place(cube.assign_coords(mid_date=first + (last - first) / 2), GRID)


@dataclass(frozen=True)
class OnePair:
    reference: str
    secondary: str
    reference_time: datetime
    secondary_time: datetime


@dataclass(frozen=True)
class OneScene:
    time: datetime
    cloud_cover: float | None = 10.0
    platform: str = "sentinel-2a"
    orbit: str = "R053"
    tile: str = "18FXJ"
    footprint: Any = field(default_factory=lambda: shapely.box(-74, -50.5, -72.5, -49.5))


def make_pairs(images: int = 8, longest: int = 30, gap: int = 0) -> list[OnePair]:
    times = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=5 * i + (100 if gap and i >= gap else 0)) for i in range(images)]
    chosen = [(a, b) for a in range(images) for b in range(a + 1, images) if (times[b] - times[a]).days <= longest]
    return [OnePair(f"i{a}", f"i{b}", times[a], times[b]) for a, b in chosen]


def texts(figure: Any) -> str:
    keys = [key.text for key in figure.findobj(QuiverKey)]
    return "\n".join(t.get_text() for t in [*figure.findobj(Text), *keys])


def picture_of(drawn: Axes | Figure, folder: Path, name: str) -> Path:
    figure = drawn if isinstance(drawn, Figure) else drawn.get_figure(root=True)
    path = folder / f"{name}.png"
    figure.savefig(path)
    assert path.stat().st_size > 10_000
    return path


def test_a_velocity_map_names_its_dates_units_and_crs() -> None:
    ax = view.plot_velocity(make_cube(), 0)
    figure = ax.get_figure(root=True)
    assert figure is not None
    words = texts(figure)
    for expected in ("2020-01-01 to 2020-01-11 (10 days)", "speed (m/yr)", "x (km), UTM 18S (EPSG:32718)", "500 m/yr", "1 km"):
        assert expected in words
    assert ax.get_xlim() == (620.0, 626.4)
    assert ax.get_ylim() == (4400.2, 4405.0)


def test_the_first_row_of_the_cube_is_drawn_at_the_top() -> None:
    cube = make_cube()
    image = view.plot_velocity(cube, 0).get_images()[0]
    shown = image.get_array()
    assert shown is not None
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), np.isnan(cube["v"].values[0]))
    assert image.origin == "upper"


def test_arrows_point_where_the_ice_flows() -> None:
    ax = view.plot_velocity(make_cube(), 0)
    arrows = next(c for c in ax.collections if isinstance(c, Quiver))
    assert np.median(np.degrees(np.arctan2(arrows.V, arrows.U))) == pytest.approx(np.degrees(np.arctan2(0.6, 0.8)), abs=1)


def test_an_arrow_stands_at_the_middle_of_its_nodes() -> None:
    cube = make_cube(1)
    cube["vx"][:], cube["vy"][:] = np.nan, np.nan
    cube["vx"][0, 8:12, 16:20], cube["vy"][0, 8:12, 16:20] = 100.0, 0.0
    arrows = next(c for c in view.plot_velocity(cube, arrows=20).collections if isinstance(c, Quiver))
    np.testing.assert_allclose([arrows.X[0], arrows.Y[0]], [float(cube.x[16:20].mean()) / 1000, float(cube.y[8:12].mean()) / 1000])


def test_the_median_leaves_out_missing_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftrack.view.frames.STRIP", 17)
    cube = make_cube(3)
    frame = choose_frame(cube, ("vx", "status"), "median")
    np.testing.assert_allclose(frame.values["status"], (cube["status"] == 0).mean("mid_date"), atol=1e-6)
    np.testing.assert_array_equal(np.isnan(frame.values["vx"]), np.isnan(cube["vx"].values).all(axis=0))
    known = ~np.isnan(frame.values["vx"])
    np.testing.assert_array_equal(frame.values["vx"][known], np.nanmedian(cube["vx"].values[:, known], axis=0))
    assert frame.title == "median of 3 pairs, 2020-01-01 to 2020-02-20"


def test_lazy_and_loaded_cubes_give_the_same_map() -> None:
    cube = make_cube(3)
    lazy = choose_frame(cube.chunk(mid_date=1, y=7, x=9), ("vx", "status"), "median")
    for name, values in choose_frame(cube, ("vx", "status"), "median").values.items():
        np.testing.assert_array_equal(lazy.values[name], values)


@pytest.mark.parametrize(
    ("asked", "found"), [(2, 2), (-1, 5), ("3", 3), ("2020-01-06", 0), (np.datetime64("2020-02-01"), 2), ("median", None)]
)
def test_a_pair_is_found_by_position_or_date(asked: Any, found: int | None) -> None:
    assert pair_index(make_cube(), asked) == found


@pytest.mark.parametrize("asked", [6, -7, "99", "yesterdayish"])
def test_a_pair_that_does_not_exist_is_refused(asked: Any) -> None:
    with pytest.raises(Stop, match="pair"):
        pair_index(make_cube(), asked)


def test_one_pair_needs_no_choice_and_a_single_map_no_pairs() -> None:
    cube = make_cube(1)
    assert choose_frame(cube, ("vx",)).title == "2020-01-01 to 2020-01-11 (10 days)"
    assert choose_frame(cube, ("vx", "status"), "median").values["status"].dtype == np.uint8
    assert "status" in texts(view.plot_quality(cube, "median"))
    flat = cube[["vx", "vy"]].isel(mid_date=0).drop_vars("mid_date")
    assert view.plot_velocity(flat).get_title() == "Ice velocity"
    assert view.plot_velocity(cube.assign_attrs(title="Perito Moreno")).get_title() == "Perito Moreno, 2020-01-01 to 2020-01-11 (10 days)"


@pytest.mark.parametrize(
    ("flags", "pair", "said"),
    [
        ((1, 0, 2), 0, ""),
        ((1, 0, 2), 1, "misregistration not taken off"),
        ((1, 0, 2), "median", "misregistration not taken off in 1 of 3 pairs"),
        ((1, 1, 2), "median", ""),
    ],
)
def test_a_map_says_where_misregistration_is_still_in_it(flags: tuple[int, ...], pair: Any, said: str) -> None:
    cube = make_cube(3).assign_coords(stable_shift_flag=("mid_date", np.array(flags, np.uint8)))
    found = [text.get_text() for text in view.plot_velocity(cube, pair).texts if "misregistration" in text.get_text()]
    assert found == ([said] if said else [])


def test_days_of_a_time_axis_tell_their_month() -> None:
    axes = Figure().subplots()
    dress_dates(axes, *as_dates(np.array(["2021-05-03", "2021-06-07"], "datetime64[D]")))
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert "15 May" in labels and "Jun" in labels


def test_large_maps_are_thinned_and_stay_in_place() -> None:
    grid = Grid(crs="EPSG:32718", resolution=10.0, left=0.0, top=0.0, height=4, width=3200)
    cube = place(xr.Dataset({"vx": (("y", "x"), np.broadcast_to(np.arange(3200.0), (4, 3200)))}), grid)
    frame = choose_frame(cube, ("vx",))
    assert frame.values["vx"].shape == (2, 1067)
    centres = frame.extent[0] * 1000 + (np.arange(1067) + 0.5) * frame.grid.resolution
    np.testing.assert_allclose(centres, cube.x.values[frame.values["vx"][0].astype(int)])


def test_a_map_without_any_vector_says_so() -> None:
    cube = make_cube(1)
    cube["vx"][:], cube["vy"][:], cube["v_error"][:], cube["correlation"][:] = np.nan, np.nan, np.nan, np.nan
    cube["status"][:] = int(Status.NO_DATA)
    ax = view.plot_velocity(cube, log=True)
    assert "no vectors" in [t.get_text() for t in ax.texts]
    assert f"{STATUS_TEXT[Status.NO_DATA]}, 100.0 %" in texts(view.plot_quality(cube))


def test_a_cube_without_velocity_is_refused() -> None:
    with pytest.raises(Stop, match="no variable 'vy'"):
        view.plot_velocity(make_cube().drop_vars("vy"))
    with pytest.raises(Stop, match="no CRS"):
        view.plot_velocity(make_cube().drop_vars("spatial_ref"))
    with pytest.raises(Stop, match="limit"):
        view.plot_velocity(make_cube(), limit=-1.0)


def test_quality_names_every_status_with_its_share() -> None:
    cube = make_cube()
    words = texts(view.plot_quality(cube, 0))
    share = 100 * float((cube["status"][0] == int(Status.OUTLIER)).mean())
    assert f"{STATUS_TEXT[Status.OUTLIER]}, {share:.1f} %" in words
    assert "error of the speed, one sigma (m/yr)" in words
    assert "pairs with a measured vector (%)" in texts(view.plot_quality(cube))


def test_a_series_spans_the_two_dates_and_shows_the_error() -> None:
    cube = make_cube()
    ax = view.plot_series(cube, x=623_010.0, y=4_402_610.0)
    node = cube.sel(x=623_010.0, y=4_402_610.0, method="nearest")
    points = next(line for line in ax.lines if line.get_label() == "measured")
    np.testing.assert_allclose(np.sort(points.get_ydata()), np.sort(node["v"].values[(node["status"] == 0).values]))
    across = next(c for c in ax.collections if c.get_label() == "from first to second date")
    lengths = [path.vertices[1, 0] - path.vertices[0, 0] for path in across.get_paths()]
    known = np.isfinite(node["v"].values)
    np.testing.assert_allclose(lengths, [days for days, k in zip([10, 20, 30, 10, 20, 30], known, strict=True) if k])
    upright = ax.containers[0].lines[2][0]
    np.testing.assert_allclose([np.ptp(p.vertices[:, 1]) / 2 for p in upright.get_paths()], node["v_error"].values[known], rtol=1e-4)


def test_filled_vectors_are_told_apart_in_a_series() -> None:
    cube = make_cube()
    x, y = float(cube.x[31]), float(cube.y[31])
    labels = [line.get_label() for line in view.plot_series(cube, x=x, y=y, variable="vx").lines]
    assert "filled from its neighbours" in labels


def test_a_series_without_vectors_says_why() -> None:
    cube = make_cube()
    ax = view.plot_series(cube, x=float(cube.x[5]), y=float(cube.y[0]))
    assert f"6 pairs: {STATUS_TEXT[Status.EDGE]}" in ax.texts[0].get_text()


def test_a_place_is_the_same_in_metres_and_degrees() -> None:
    cube = make_cube()
    title = view.plot_series(cube, x=623_000.0, y=4_402_600.0).get_title(loc="left")
    assert "50.51" in title and "73.26" in title and "° S" in title
    x, y = place_of(cube, lon=-73.2651, lat=-50.5153)
    assert x == pytest.approx(623_000, abs=20) and y == pytest.approx(4_402_640, abs=20)


@pytest.mark.parametrize(
    "where", [{}, {"x": 1.0}, {"x": 623e3, "y": 4402e3, "lon": -73.0, "lat": -50.0}, {"lon": 0.0, "lat": 0.0}, {"x": 623e3, "y": 4.4051e6}]
)
def test_a_place_that_is_missing_double_or_outside_is_refused(where: dict[str, float]) -> None:
    with pytest.raises(Stop, match=r"give the place|outside the cube"):
        view.plot_series(make_cube(), **where)


def test_two_series_in_one_plot_are_told_apart_by_more_than_colour() -> None:
    cube = make_cube()
    ours, theirs = (point_series(cube, x=623_010.0, y=4_402_610.0).assign_attrs(title=title) for title in ("ours", "ITS_LIVE"))
    ax = view.plot_series(theirs, ax=view.plot_series(ours))
    points = {line.get_label(): line.get_marker() for line in ax.lines if str(line.get_label()).endswith("measured")}
    assert points == {"measured": "o", "ITS_LIVE: measured": "s"}
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert len(words) == len(set(words)) == 4
    assert ax.get_title(loc="left") == view.plot_series(ours).get_title(loc="left")


def test_a_profile_shows_errors_and_gaps() -> None:
    cube = make_cube()
    line = [(620_200.0, 4_402_600.0), (626_000.0, 4_402_600.0)]
    along = profile(cube, line, pair=0, crs="EPSG:32718")
    ax = view.plot_profile(along)
    (drawn,) = (line for line in ax.lines if line.get_label() == "2020-01-01 to 2020-01-11")
    np.testing.assert_array_equal(drawn.get_ydata(), along["v"].values.astype(float))
    assert ax.get_xlabel().endswith("(km)") and ax.get_ylabel() == "speed (m/yr)"
    both = view.plot_profile(profile(cube, line, crs="EPSG:32718").assign_attrs(title="all"), ax=ax)
    assert [line.get_linestyle() for line in both.lines] == ["-", "--"]
    assert "all: median of 6 pairs" in texts(both.get_figure(root=True))
    empty = along.assign(v=along["v"] * np.nan)
    assert "no vectors" in view.plot_profile(empty).texts[0].get_text()
    with pytest.raises(Stop, match=r"ftrack\.profile"):
        view.plot_profile(cube)


def test_a_series_of_something_else_is_refused() -> None:
    with pytest.raises(Stop, match="did you mean 'vx'"):
        view.plot_series(make_cube(), x=623e3, y=4402e3, variable="vxx")


def test_a_network_counts_images_and_groups() -> None:
    ax = view.plot_network(make_pairs(12, 20, gap=6))
    assert ax.get_title(loc="left") == "28 pairs of 12 images, 5 to 20 days, in 2 groups that no pair connects"
    points = next(line for line in ax.lines if line.get_label() == "pair")
    assert sorted(set(points.get_ydata())) == pytest.approx([5, 10, 15, 20])
    with pytest.raises(Stop, match="no pairs"):
        view.plot_network([])


def test_a_search_result_shows_tiles_cloud_and_scenes_without_cloud() -> None:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    landsat = {
        "platform": "landsat-8",
        "orbit": "P231",
        "tile": "095",
        "footprint": shapely.box(-73, -51, -71, -49).union(shapely.box(-70, -51, -69, -50)),
    }
    scenes = [OneScene(start + timedelta(days=5 * i), 20.0 * i) for i in range(4)] + [OneScene(start, None, **landsat)]
    figure = view.plot_scenes(scenes, area=shapely.box(-73.5, -50.2, -73.2, -50))
    words = texts(figure)
    for expected in (
        "5 scenes, 2020-01-01 to 2020-01-16",
        "R053 18FXJ, 4 scenes",
        "P231 095, 1 scene",
        "cloud not given",
        "landsat-8",
        "area",
    ):
        assert expected in words
    with pytest.raises(Stop, match="no scenes"):
        view.plot_scenes([])


def test_the_season_is_drawn_as_four_maps(tmp_path: Path) -> None:
    fit = seasonal_fit(make_cube())
    words = texts(view.plot_season(fit))
    assert words.count("not told by these pairs") == 3 and "6 pairs, mean of 2020-02-10" in words
    known = fit.assign({name: xr.full_like(fit[name], value) for name, value in (("dv_dt", -30.0), ("v_amp", 90.0), ("v_phase", 200.0))})
    figure = view.plot_season(known)
    assert "not told" not in texts(figure) and "trend along the flow (m/yr²)" in texts(figure) and "Jul" in texts(figure)
    picture_of(figure, tmp_path, "season")
    with pytest.raises(Stop, match=r"give what ftrack\.seasonal_fit has found"):
        view.plot_season(make_cube())


def test_pictures_can_be_saved_and_pyplot_is_not_touched(tmp_path: Path) -> None:
    cube = make_cube()
    drawn = {
        "velocity": view.plot_velocity(cube, log=True),
        "quality": view.plot_quality(cube, "2020-01-06"),
        "series": view.plot_series(cube, lon=-73.2651, lat=-50.5153),
        "network": view.plot_network(make_pairs()),
        "profile": view.plot_profile(profile(cube, [(620_200.0, 4_402_600.0), (626_000.0, 4_402_600.0)], crs="EPSG:32718")),
        "scenes": view.plot_scenes([OneScene(datetime(2020, 1, 1, tzinfo=UTC))]),
    }
    for name, one in drawn.items():
        picture_of(one, tmp_path, name)
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


def test_plots_draw_into_given_axes() -> None:
    left, right = Figure().subplots(1, 2)
    assert view.plot_velocity(make_cube(), 0, arrows=0, ax=left) is left
    assert view.plot_series(make_cube(), x=623e3, y=4402e3, ax=right) is right


@pytest.mark.parametrize(("value", "rounded"), [(1.0, 1.0), (1.99, 1.0), (4.9, 2.0), (730.0, 500.0), (0.05, 0.05)])
def test_round_numbers(value: float, rounded: float) -> None:
    assert round_number(value) == pytest.approx(rounded)


def test_names_of_crs() -> None:
    assert short_crs("EPSG:32718") == "UTM 18S (EPSG:32718)"
    assert short_crs("EPSG:3413") == "NSIDC Sea Ice Polar Stereographic North (EPSG:3413)"
