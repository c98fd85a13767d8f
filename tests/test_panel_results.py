"""Steps 5 to 7 of the panel without a browser: what they show, read, save, and say to bad input."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ipyleaflet
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import xarray as xr
from made_itslive import make_catalog, make_itslive, outline_of
from test_series import GRID, make_cube

from ftrack.errors import Stop
from ftrack.grid import Grid
from ftrack.layers import box_of
from ftrack.schema import Status
from ftrack.view.overlay import plot_scale, read_overlay
from ftrack.view.panel import save, see, theirs
from ftrack.view.panel.atlas import new_map
from ftrack.view.panel.state import PanelLimits, State

LON, LAT = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(GRID.x[20], GRID.y[15])


def make_state(tmp_path: Path, cube: xr.Dataset | None = None, **limits: Any) -> State:
    state = State(tmp_path / "panel.yaml", PanelLimits(**limits))
    state.map = new_map("mercator", "")
    state.cube = quality(make_cube()) if cube is None else cube
    return state


def quality(cube: xr.Dataset) -> xr.Dataset:
    shape = cube["vx"].shape
    cube["v_error"] = (cube["vx"].dims, np.full(shape, 5.0, "float32"))
    cube["correlation"] = (cube["vx"].dims, np.full(shape, 0.8, "float32"))
    cube["chip_size"] = (cube["vx"].dims, np.full(shape, 32, "uint16"))
    return cube


def shown(state: State, kind: type) -> list[Any]:
    return [layer for layer in state.layer("velocity").layers if isinstance(layer, kind)]


def test_the_map_of_a_cube_is_drawn_with_its_scale(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    step = see.See(state)
    state.step = see.TITLE
    (image,) = shown(state, ipyleaflet.ImageOverlay)
    box = box_of(GRID)
    assert image.url.startswith("data:image/png") and image.opacity == 0.8
    np.testing.assert_allclose(image.bounds, [(box.south, box.west), (box.north, box.east)], atol=0.01)
    assert "speed (m/yr)" in step.scale.value and "5 pairs" in step.cube_said.text
    step.opacity.value = 30
    assert image.opacity == 0.3
    for quantity in ("error", "correlation", "status", "chip size"):
        step.quantity.value = quantity
        assert step.map_said.text == "" and step.overlays[0].quantity == quantity


@pytest.mark.parametrize("flow", ["arrows", "streamlines"])
def test_arrows_and_streamlines_are_lines_on_the_map(tmp_path: Path, flow: str) -> None:
    state = make_state(tmp_path)
    step = see.See(state)
    state.step = see.TITLE
    step.flow.value = flow
    halo, lines = shown(state, ipyleaflet.GeoJSON)
    assert len(lines.data["geometry"]["coordinates"]) > 20 and halo.data["geometry"] == lines.data["geometry"]


def test_two_pairs_side_by_side_share_a_scale(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    step = see.See(state)
    state.step = see.TITLE
    step.pair.value, step.second.value = "0", "4"
    assert [overlay.field.high for overlay in step.overlays] == [step.overlays[0].field.high] * 2
    assert "left: 2020-05-27 to 2020-06-06" in step.map_said.text
    whole = shown(state, ipyleaflet.ImageOverlay)[0].url
    step.swipe.value = 0
    assert shown(state, ipyleaflet.ImageOverlay)[0].url != whole


def test_a_click_reads_a_series_and_a_line_a_profile(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    step = see.See(state)
    state.place = (LON, LAT)
    assert not state.series
    state.step = see.TITLE
    state.place = (LON, LAT + 1e-5)
    (series,) = state.series
    assert float(series["vy"][0]) == 15 and "5 of 5 pairs" in step.place_said.text and "<img" in step.series.value
    assert step.place.value == f"{LAT + 1e-5:.5f}, {LON:.5f}"
    step.drawing.value = True
    state.place = (LON, LAT)
    assert "next point" in step.place_said.text
    state.place = (LON + 0.01, LAT + 0.01)
    assert state.profile is not None and float(state.profile["distance"][-1]) > 1 and "km" in step.place_said.text
    assert any(isinstance(layer, ipyleaflet.Polyline) for layer in state.layer("places").layers)
    step.clear()
    assert state.profile is None and step.profile.value == ""


def test_a_click_outside_and_words_for_numbers_are_answered_where_they_were_made(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    step = see.See(state)
    state.step = see.TITLE
    state.place = (0.0, 0.0)
    assert "outside the cube" in step.place_said.text and step.place_said.kind == "error"
    step.place.value = "here"
    assert "lat, lon" in step.place_said.text
    step.place.value = f"{LAT}, {LON}"
    assert "pairs" in step.place_said.text
    step.limit.value = "fast"
    assert "not a number" in step.map_said.text
    step.limit.value = "-5"
    assert "above 0" in step.map_said.text
    step.path.value = str(tmp_path / "missing.zarr")
    assert "not a published cube" in step.cube_said.text


def test_without_a_cube_it_says_what_to_do(tmp_path: Path) -> None:
    state = State(tmp_path / "panel.yaml", PanelLimits(own_files=False))
    step = see.See(state)
    state.step = see.TITLE
    assert "step 4" in step.cube_said.text and "open one" not in step.cube_said.text
    saving = save.Save(state)
    saving._writes(".png", saving.map)()
    assert "no cube" in saving.said.text


def test_a_click_of_200_pairs_answers_within_half_a_second(tmp_path: Path) -> None:
    """Reading and drawing; reading of a stored cube is measured for series."""
    state = make_state(tmp_path, quality(make_cube(200)))
    step = see.See(state)
    state.step = see.TITLE
    spent = []
    for number in range(3):
        began = time.process_time()
        state.place = (LON + 1e-5 * number, LAT)
        spent.append(time.process_time() - began)
    assert "of 200 pairs" in step.place_said.text
    assert min(spent) < 0.5


def test_a_mosaic_of_its_live_stands_beside_ours(tmp_path: Path, data_folder: Path) -> None:
    state = make_state(tmp_path)
    step, seeing = theirs.Theirs(state), see.See(state)
    step.open_mosaic()
    assert "both components" in step.mosaic_said.text
    step.vx.value, step.vy.value = (str(data_folder / "itslive" / f"jakobshavn-v{c}.tif") for c in "xy")
    step.open_mosaic()
    assert "version=1" in step.mosaic_said.text and state.other is None
    step.version.value = 1
    step.open_mosaic()
    assert "minus ITS_LIVE" in step.said.text and "grid north" in step.said.text
    state.step = see.TITLE
    seeing.second.value = "other"
    assert len(seeing.overlays) == 2 and len(shown(state, ipyleaflet.ImageOverlay)) == 1
    seeing.drawing.value = True
    for shift in (0.005, 0.01):
        state.place = (LON + shift, LAT)
    assert state.profile is not None


def test_a_cube_of_its_live_is_found_opened_and_drawn_at_a_point(tmp_path: Path) -> None:
    make_itslive(tmp_path / "cube.zarr", attrs={"map_scale_corrected": 1})
    make_catalog(tmp_path / "catalog.json", {"cube.zarr": outline_of()})
    theirs_cube = make_cube(3, Grid(crs="EPSG:32622", resolution=120.0, left=532_000.0, top=7_744_000.0, height=20, width=20))
    state = make_state(tmp_path, quality(theirs_cube))
    step, seeing = theirs.Theirs(state), see.See(state)
    step.open_cube()
    assert "look for cubes first" in step.found_said.text
    step.catalog.value = str(tmp_path / "nothing.json")
    step.find()
    assert step.found_said.kind == "error"
    step.catalog.value = str(tmp_path / "catalog.json")
    step.find()
    assert "1 cubes" in step.found_said.text
    step.open_cube()
    assert "7 pairs" in step.found_said.text
    state.step = see.TITLE
    x, y = float(theirs_cube.x[10]), float(theirs_cube.y[10])
    state.place = pyproj.Transformer.from_crs("EPSG:32622", "EPSG:4326", always_xy=True).transform(x, y)
    ours, other = state.series
    assert other.attrs["turned_to"] == "EPSG:32622" and np.nanmedian(other["v"]) == pytest.approx(500, rel=1e-3)
    assert ours.sizes["mid_date"] == 3 and "<img" in seeing.series.value
    seeing.second.value = "other"
    assert "right: ITS_LIVE, median of 7 of 7 pairs, 2021-03-01 to 2021-05-06" in seeing.map_said.text
    assert float(np.nanmax(seeing.overlays[1].field.values)) == pytest.approx(500, rel=1e-3)
    state.other = None
    assert len(state.series) == 1
    step.open_cube()
    assert len(state.series) == 2 and "at your point" in step.said.text


def test_everything_is_saved_and_can_be_taken_along(tmp_path: Path) -> None:
    state = make_state(tmp_path)
    state.values = {"scenes": {"catalog": str(tmp_path / "items.json"), "asset": "nir"}, "output": str(tmp_path / "v.zarr")}
    seeing, step = see.See(state), save.Save(state)
    step.folder.value, step.name.value = str(tmp_path / "out"), "first"
    step._writes(".csv", step.series)()
    assert "click a point" in step.said.text and step.said.kind == "error"
    step._writes(".csv", step.profile)()
    assert "draw a line" in step.said.text
    state.step = see.TITLE
    state.place = (LON, LAT)
    seeing.drawing.value = True
    for shift in (0.005, 0.01):
        state.place = (LON + shift, LAT)
    kinds = {
        step.map: "png svg tif",
        step.series: "png svg csv nc parquet",
        step.profile: "png csv",
        step.workflow: "yaml",
        step.notebook: "ipynb",
    }
    for write, suffixes in kinds.items():
        for suffix in suffixes.split():
            step._writes(f".{suffix}", write)()
            assert "is written" in step.said.text, step.said.text
            assert f".{suffix}" in step.link.value and "download" in step.link.value
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"first-map.tif", "first-map.svg", "first-series.parquet", "first-profile.csv", "first.yaml", "first-notebook.ipynb"} <= made
    assert len(pd.read_csv(tmp_path / "out" / "first-series.csv")) == 5
    with rasterio.open(tmp_path / "out" / "first-map.tif") as map_:
        assert map_.crs.to_epsg() == 3413
    assert (
        "point_series" in (tmp_path / "out" / "first-notebook.ipynb").read_text()
        and "profile" in (tmp_path / "out" / "first-notebook.ipynb").read_text()
    )


def test_where_files_may_not_be_named_they_are_handed_out(tmp_path: Path) -> None:
    state = make_state(tmp_path, own_files=False)
    see.See(state)
    step = save.Save(state)
    state.step = see.TITLE
    step.name.value = "../../escape"
    step._writes(".png", step.map)()
    assert "escape-map.png is written" in step.said.text and 'download="escape-map.png"' in step.link.value
    assert str(tmp_path) not in step.said.text and not list(tmp_path.rglob("escape*"))


def test_the_legend_names_every_status(tmp_path: Path) -> None:
    cube = quality(make_cube(1))
    cube["status"][0, :5] = int(Status.OUTLIER)
    legend = plot_scale(read_overlay(cube, "status", 0))
    assert any("10 does not agree" in text.get_text() for text in legend.axes[0].texts)
    assert "share of pairs" in plot_scale(read_overlay(quality(make_cube()), "status")).axes[0].get_xlabel()
    with pytest.raises(Stop, match="above 0"):
        read_overlay(cube, "speed", limit=-1.0)
