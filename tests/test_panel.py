"""The steps of the control panel, without a browser: what is clicked and typed becomes settings, scenes, pairs and runs."""

from __future__ import annotations

import html
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import shapely
import shapely.geometry

import ftrack as ft
from ftrack.config import read_workflow
from ftrack.jobstatus import JobStatus
from ftrack.synthetic import Archive
from ftrack.view.panel import Panel, PanelLimits
from ftrack.view.panel.atlas import PROJECTIONS, view_of
from ftrack.view.panel.where import OWN

SIZE = 256


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    settings = ft.ArchiveSettings(shape=(SIZE, SIZE), scenes=4, max_speed=600.0, cloud=0.0, swath_edges=0.0)
    return ft.simulate_archive(tmp_path_factory.mktemp("panel") / "archive", settings)


@pytest.fixture
def panel(archive: Archive, tmp_path: Path) -> Panel:
    """Return a panel that has found the scenes of the archive."""
    values = {
        "scenes": {"catalog": str(archive.collection), "asset": "nir", "mask": "auto"},
        "pairs": {"max_days": 10},
        "matcher": {"chip_sizes": [32], "search_radius": 6},
        "cluster": {"kind": "threads", "threads": 2},
        "output": str(tmp_path / "velocity.zarr"),
    }
    (tmp_path / "panel.yaml").write_text(json.dumps(values))
    made = Panel(tmp_path / "panel.yaml", background="")
    step(made, "Where and when").search()
    return made


def step(panel: Panel, title: str) -> Any:
    panel.open_step(title)
    return panel._built[title]


def field(widget: Any, name: str) -> Any:
    """Return the form field of a setting, however deep it lies in a step."""
    if getattr(widget, "name", None) == name:
        return widget
    return next((found for child in getattr(widget, "children", ()) if (found := field(child, name)) is not None), None)


def field_of_kind(widget: Any) -> Any:
    """Return the section of a step that may be of several kinds."""
    if hasattr(widget, "by_kind"):
        return widget
    return next((found for child in getattr(widget, "children", ()) if (found := field_of_kind(child)) is not None), None)


def test_a_search_finds_the_scenes_of_a_local_catalogue_and_their_pairs(archive: Archive, tmp_path: Path) -> None:
    made = Panel(tmp_path / "new.yaml", background="")
    where = step(made, "Where and when")
    where.catalog.value, where.address.value = OWN, str(archive.collection)
    where.search()
    assert "4 scenes" in where.search_said.text
    assert len(made.state.found) == 4
    assert len(made.state.pairs) == 6


def test_what_is_clicked_is_a_workflow_file_that_the_command_line_reads(panel: Panel) -> None:
    where = step(panel, "Where and when")
    where.box.value = "-50.0, 69.19, -49.93, 69.21"
    field(where, "max_cloud").input.value = "80"
    found = step(panel, "What there is")
    found.table.off = [panel.state.found[1].id]
    written = read_workflow(panel.state.file)
    assert written == panel.state.workflow
    assert written.scenes.area == pytest.approx((-50.0, 69.19, -49.93, 69.21))
    assert written.scenes.max_cloud == 80
    assert written.scenes.leave_out == (panel.state.found[1].id,)
    assert ft.make_plan(written).scenes == ft.make_plan(written, panel.state.scenes).scenes


def test_a_panel_opened_again_shows_what_was_chosen(panel: Panel) -> None:
    where = step(panel, "Where and when")
    where.box.value = "-50.0, 69.19, -49.93, 69.21"
    again = Panel(panel.state.file, background="")
    where = step(again, "Where and when")
    assert where.box.value == "-50, 69.19, -49.93, 69.21"
    assert where.address.value == panel.state.value("scenes", "catalog")
    assert field(step(again, "How"), "search_radius").input.value == "6"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("-50, 69, -49", "these are 3 numbers"),
        ("here.gpkg", "no area file"),
        ("0, 0, 90, 60", "draw a smaller one"),
        ("-50, 70, -49, 69", "not a box in degrees"),
    ],
)
def test_a_bad_area_is_told_where_it_was_typed_and_changes_nothing(panel: Panel, text: str, told: str) -> None:
    where = step(panel, "Where and when")
    where.box.value = text
    assert where.area_said.kind == "error"
    assert told in where.area_said.text
    assert panel.state.value("scenes", "area") is None


def test_a_drawn_polygon_is_kept_in_a_file_beside_the_workflow(panel: Panel) -> None:
    where = step(panel, "Where and when")
    ring = [[-50.0, 69.19], [-49.9, 69.19], [-49.95, 69.22], [-50.0, 69.19]]
    where._drawn(None, "created", {"geometry": {"type": "Polygon", "coordinates": [ring]}})
    area = ft.scenes.read_area(panel.state.workflow.scenes.area)
    assert area.equals(shapely.Polygon(ring))
    where._drawn(None, "deleted", {"geometry": None})
    assert panel.state.value("scenes", "area") is None


def test_no_scenes_and_wrong_addresses_say_what_to_do_beside_the_button(panel: Panel) -> None:
    where = step(panel, "Where and when")
    panel.state.put("scenes", "dates", value="1999-01-01/1999-02-01")
    where.search()
    assert where.search_said.kind == "error"
    assert "no scenes" in where.search_said.text and "dates there" in where.search_said.text
    where.catalog.value, where.address.value = OWN, "/no/such/catalogue.json"
    where.search()
    assert where.search_said.kind == "error" and "catalogue" in where.search_said.text


def test_scenes_are_switched_off_by_hand_and_picked_on_the_map(panel: Panel) -> None:
    found = step(panel, "What there is")
    assert [row["cells"][0] for row in found.table.rows] == [f"{scene.time:%Y-%m-%d %H:%M}" for scene in panel.state.found]
    before = len(panel.state.pairs)
    found.table.off = [panel.state.found[0].id]
    assert len(panel.state.scenes) == 3 and len(panel.state.pairs) < before
    assert "3 of 4 scenes" in found.counts.text and "MB" in found.counts.text
    centre = panel.state.found[0].footprint.centroid
    panel.state.place = (centre.x, centre.y)
    assert found.table.picked == [scene.id for scene in panel.state.found]
    panel.state.place = (0.0, 0.0)
    assert found.table.picked == []
    found.table.picked = [panel.state.found[2].id]
    assert "<img" in found.look.value and panel.state.found[2].id in found.look.value
    assert [part["properties"]["id"] for part in found.prints.data["features"] if part["properties"]["picked"]] == found.table.picked


def test_pairs_are_pruned_and_no_pairs_say_why(panel: Panel) -> None:
    found = step(panel, "What there is")
    found.days.value = (4.0, 6.0)
    assert len(panel.state.pairs) == 3 and "3 pairs" in found.pairs_said.text
    found.days.value = (1.0, 2.0)
    assert panel.state.pairs == ()
    assert found.pairs_said.kind == "error" and "longer than 2 days" in found.pairs_said.text
    assert "longer than 2 days" in step(panel, "How").said.text


def test_a_form_has_label_unit_bounds_and_help_and_refuses_what_is_out_of_bounds(panel: Panel) -> None:
    how = step(panel, "How")
    radius = field(how, "search_radius")
    text = "".join(getattr(part, "value", "") for part in (*radius.children[0].children, radius.children[1]))
    assert radius.input.description == "search radius"
    assert "px, ≥ 1, ≤ 256" in text and "largest displacement" in text
    radius.input.value = "0"
    assert radius.message.kind == "error" and "greater than or equal to 1" in radius.message.text
    assert panel.state.value("matcher", "search_radius") == 6
    radius.input.value = "9"
    assert radius.message.text == "" and panel.state.workflow.matcher.search_radius == 9


def test_a_filter_is_chosen_by_kind_with_its_own_form(panel: Panel) -> None:
    how = step(panel, "How")
    kinds = field_of_kind(how)
    kinds.choice.value = "wallis"
    assert panel.state.workflow.prefilter.kind == "wallis"
    field(kinds, "width").input.value = "31"
    assert panel.state.workflow.prefilter.width == 31
    field(kinds, "width").input.value = "30"
    assert "must be odd" in field(kinds, "width").message.text


def test_a_trial_shows_the_vector_and_keeps_another_to_compare(panel: Panel, archive: Archive) -> None:
    how = step(panel, "How")
    centre = panel.state.found[0].footprint.centroid
    panel.state.place = (centre.x, centre.y)
    assert how.shown is not None and how.shown.measured
    assert "m/yr" in how.result.value and "alt=" in how.result.value
    how.hold()
    before = how.shown
    field(how, "search_radius").input.value = "10"
    assert how.shown is not before and how.shown.surface.shape == (21, 21)
    assert "search_radius 6" in how.kept.value
    panel.state.place = (0.0, 0.0)
    assert how.said.kind == "error" and "click inside" in how.said.text


def test_a_run_is_estimated_started_watched_and_found_again(panel: Panel) -> None:
    running = step(panel, "Run")
    assert "It can start" in running.estimate_said.text
    for word in ("blocks", "memory", "time", "MB"):
        assert word in running.table.value
    running.start()
    status = panel.state.job.wait(120)
    assert status.state == "done"
    running.look()
    assert panel.state.cube is not None and panel.state.cube.sizes["mid_date"] == len(panel.state.pairs)
    assert "Look at the map" in running.said.text
    again = Panel(panel.state.file, background="")
    step(again, "Run")
    assert again.state.job.output == panel.state.job.output
    assert again.state.cube is not None
    running.show_log()
    assert "ftrack-log" in running.journal.value


@pytest.mark.parametrize(("stop", "told"), [("pause", "paused; Resume goes on"), ("cancel", "cancelled; what is finished is kept")])
def test_a_run_that_was_stopped_says_so_at_every_later_look(panel: Panel, stop: str, told: str) -> None:
    panel.state.put("matcher", value={"chip_sizes": [16, 32], "search_radius": 120, "search": "full"})
    panel.state.put("run", "tile", value=64)
    running = step(panel, "Run")
    running.start()
    running.look()
    getattr(running, stop)()
    assert told in running.said.text
    running.look()
    assert told in running.said.text
    assert running.pause_button.disabled and not running.start_button.disabled and not running.resume_button.disabled


def test_a_run_that_cannot_be_says_why(panel: Panel) -> None:
    panel.state.limits = PanelLimits(pairs=2)
    running = step(panel, "Run")
    assert running.estimate_said.kind == "error" and "at most 2" in running.estimate_said.text
    running.start()
    assert running.said.kind == "error" and "at most 2" in running.said.text and panel.state.job is None
    panel.state.limits, panel.state.plan = PanelLimits(area=1), None
    panel.open_step("How")
    panel.open_step("Run")
    assert running.estimate_said.kind == "error" and "at most 1 km²" in running.estimate_said.text
    running.start()
    assert "the run covers" in running.said.text and "draw a smaller area" in running.said.text and panel.state.job is None
    panel.state.put("cluster", "kind", value="gateway")
    panel.state.put("cluster", "address", value="http://127.0.0.1:9")
    running.connect()
    assert running.where_said.kind == "error" and "is it running" in running.where_said.text


def test_a_run_that_fails_says_why_and_shows_its_log(panel: Panel, archive: Archive, tmp_path: Path) -> None:
    running = step(panel, "Run")
    copy = shutil.copytree(archive.collection.parent, tmp_path / "copy")
    panel.state.put("scenes", "catalog", value=str(copy / archive.collection.name))
    step(panel, "Where and when").search()
    panel.open_step("Run")
    assert "It can start" in running.estimate_said.text
    for image in copy.rglob("*.tif"):
        image.unlink()
    running.start()
    assert panel.state.job.wait(120).state == "failed"
    running.look()
    assert running.said.kind == "error" and "✖ failed" in running.said.text
    assert panel.state.status.reason.splitlines()[0] in html.unescape(running.said.text)
    assert "failed" in running.journal.value and not running.resume_button.disabled


def test_a_visitor_has_one_run_also_with_the_page_open_twice(panel: Panel) -> None:
    panel.state.limits = PanelLimits(one_run=True)
    panel.state.put("matcher", value={"chip_sizes": [16, 32], "search_radius": 120, "search": "full"})
    panel.state.put("run", "tile", value=64)
    first = step(panel, "Run")
    twin = Panel(panel.state.file, background="", limits=panel.state.limits)
    step(twin, "Where and when").search()
    second = step(twin, "Run")
    twin.state.put("name", value="other")
    twin.state.put("output", value=str(panel.state.file.with_name("other.zarr")))
    twin.state.put("pairs", "max_days", value=6)
    with ThreadPoolExecutor(2) as threads:
        for pressed in [threads.submit(one.start) for one in (first, second)]:
            pressed.result()
    began = [one for one in (first, second) if one.state.job is not None]
    assert len(began) == 1
    (refused,) = {first, second} - set(began)
    assert refused.said.kind == "error" and "is under way: wait for it, or cancel it" in refused.said.text
    assert not refused.start_button.disabled
    began[0].cancel()


def test_outlines_and_flow_lines_are_on_the_map(archive: Archive, tmp_path: Path) -> None:
    line = shapely.LineString([(-50.0, 69.2), (-49.9, 69.21)])
    made = Panel(tmp_path / "panel.yaml", background="", outlines=archive.glacier_outline, flowlines=line)
    (outline,), (flow,) = made.state.layer("outlines").layers, made.state.layer("flowlines").layers
    assert shapely.geometry.shape(outline.data["geometry"]).equals(ft.scenes.read_area(archive.glacier_outline))
    assert shapely.geometry.shape(flow.data["geometry"]).equals(line)
    assert made.state.layer("outlines") in made.state.map.layers


def test_the_map_changes_its_projection_and_keeps_its_layers(panel: Panel) -> None:
    first = panel.state.map
    group = panel.state.layer("scenes")
    panel.state.projection = "arctic"
    assert panel.state.map is not first
    assert panel.state.map.crs["name"] == "EPSG:3413"
    assert group in panel.state.map.layers and panel._right.children[0] is panel.state.map


@pytest.mark.parametrize(
    ("projection", "bounds"), [("mercator", (-50, 69, -49, 70)), ("arctic", (-50, 69, -49, 70)), ("antarctic", (10, -71, 12, -70))]
)
def test_a_view_fills_the_map_with_an_area(projection: str, bounds: tuple[float, float, float, float]) -> None:
    view = view_of(projection, bounds)
    assert bounds[1] < view.lat < bounds[3] and bounds[0] < view.lon < bounds[2]
    across = 111_000 * (bounds[3] - bounds[1]) / (PROJECTIONS[projection].coarsest / 2**view.zoom)
    assert 100 < across < 1400


def test_a_visitor_names_no_files_and_has_one_run(archive: Archive, tmp_path: Path) -> None:
    limits = PanelLimits(own_files=False, one_run=True, catalogues=(str(archive.collection),), gateway=False)
    made = Panel(tmp_path / "visitor" / "panel.yaml", background="", limits=limits)
    where = step(made, "Where and when")
    assert list(where.catalog.options) == [str(archive.collection)]
    where.box.value = "/etc/hostname"
    assert where.area_said.kind == "error" and made.state.value("scenes", "area") is None
    running = step(made, "Run")
    assert field(running, "output") is None and [value for _, value in running.kind.options] == ["local", "threads"]
    names = [child for child in running.children if getattr(child, "description", "") == "name of the run"]
    names[0].value = "../../elsewhere"
    assert made.state.workflow.output == str(tmp_path / "visitor" / "-elsewhere.zarr")
    assert field(step(made, "How"), "vx") is None


def test_a_run_under_way_is_told_in_the_other_steps(panel: Panel) -> None:
    panel.open_step("Where and when")
    panel.state.status = JobStatus(state="running", phase="measuring displacement", done=3, total=8)
    assert "3 of 8 blocks" in panel.notice.text
    panel.open_step("What there is")
    assert "3 of 8 blocks" in panel.notice.text
    panel.state.status = JobStatus(state="done")
    assert panel.notice.text == ""
