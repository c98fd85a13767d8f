"""The panel in a real browser, through JupyterLab and through Voila, without the internet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api")
import shapely
import shapely.geometry
from gateway_server import PASSWORD, GatewayServer, gateway_server
from panel_server import (
    CHROMIUM,
    box_of,
    centre_of_map,
    chromium,
    click_map,
    draw_rectangle,
    jupyter_at,
    new_page,
    picture_of,
    write_notebook,
)
from playwright.sync_api import Browser, Page, expect

import ftrack as ft
from ftrack.view.panel.where import OWN

if not Path(CHROMIUM).exists():
    pytest.skip("there is no Chromium", allow_module_level=True)

BASIC = {"pairs": {"max_days": 10}, "matcher": {"chip_sizes": [32], "search_radius": 8}, "cluster": {"kind": "threads", "threads": 2}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a simulated archive, and a notebook for each way to look at the panel."""
    place = tmp_path_factory.mktemp("browser")
    settings = ft.ArchiveSettings(shape=(320, 320), scenes=5, max_speed=700.0, cloud=0.02, swath_edges=0.0)
    ft.simulate_archive(place / "archive", settings)
    for name in ("lab", "voila", "runs", "keys", "files", "far"):
        lines = ", outlines='outlines.geojson', flowlines='flowlines.geojson'" if name == "files" else ""
        write_notebook(place / f"{name}.ipynb", f"import ftrack as ft\npanel = ft.Panel('{name}.yaml', background=''{lines})\npanel")
        values: dict[str, Any] = {**BASIC, "output": f"{name}.zarr"}
        (place / f"{name}.yaml").write_text(
            json.dumps({**values, "scenes": {"catalog": "archive/collection.json", "asset": "nir", "mask": "auto"}})
        )
    return place


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    with gateway_server(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def server(folder: Path, gateway: GatewayServer) -> Iterator[str]:
    login = {"TYPE": "basic", "KWARGS__USERNAME": "tester", "KWARGS__PASSWORD": PASSWORD}
    known = {"DASK_GATEWAY__ADDRESS": gateway.address, **{f"DASK_GATEWAY__AUTH__{name}": value for name, value in login.items()}}
    with jupyter_at(folder, known) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


def open_panel(browser: Browser, server: str, name: str, through: str) -> Page:
    """Open the panel of a notebook and wait until it is there."""
    page = new_page(browser, server)
    if through == "voila":
        page.goto(f"{server}/voila/render/{name}.ipynb")
    else:
        page.goto(f"{server}/lab/tree/{name}.ipynb?reset")
        page.get_by_text("| Idle").wait_for()  # a cell that is run before the kernel is ready is never run
        page.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
        page.keyboard.press("Control+Enter")
    page.locator(".ftrack-panel .leaflet-container").wait_for()
    return page


def to_step(page: Page, number: int) -> None:
    page.locator(".ftrack-steps button").nth(number - 1).click()


def time_to_step(page: Page, number: int) -> float:
    """Press the button of a step that has been opened before, and return the seconds until it is shown."""
    begun = time.perf_counter()
    to_step(page, number)
    page.get_by_role("button", name={1: "Search", 4: "Start"}[number], exact=True).wait_for()
    return time.perf_counter() - begun


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def said(page: Page, text: str, seconds: float = 120) -> None:
    expect(page.locator(".ftrack-panel")).to_contain_text(text, timeout=1000 * seconds)


@pytest.mark.parametrize("through", ["voila", "lab"])
def test_from_a_rectangle_to_a_velocity_map(browser: Browser, server: str, folder: Path, through: str) -> None:
    page = open_panel(browser, server, through, through)
    press(page, "Search")
    said(page, "5 scenes from")
    expect(page.locator(".leaflet-control-scale")).not_to_contain_text("500 km")  # the map has moved to the scenes
    draw_rectangle(page, page.get_by_text("km², from"))
    picture_of(page, f"{through}-where")
    to_step(page, 2)
    said(page, "5 of 5 scenes are used")
    page.get_by_label("use SIM_").nth(1).uncheck()
    said(page, "4 of 5 scenes are used")
    page.locator(".ftrack-table tbody tr").nth(2).click()
    page.locator(".ftrack-step img[alt^='quick-look']").wait_for()
    picture_of(page, f"{through}-found")
    to_step(page, 3)
    said(page, "Click a point of the ice")
    click_map(page, page.get_by_text("m/yr towards"))
    expect(page.locator(".ftrack-panel")).not_to_contain_text("being refined")
    picture_of(page, f"{through}-how")
    to_step(page, 4)
    said(page, "It can start")
    press(page, "Start")
    said(page, "vectors. Look at the map")
    picture_of(page, f"{through}-done")
    written = ft.read_workflow(folder / f"{through}.yaml")
    assert written.scenes.leave_out and written.scenes.area is not None
    cube = ft.open_cube(written.output)
    assert cube.sizes["mid_date"] == len(ft.make_plan(written).pairs)
    to_step(page, 5)
    page.locator(".leaflet-image-layer").wait_for()
    click_map(page, page.locator(".ftrack-step img[alt^='series']"))
    said(page, "m/yr, ")
    picture_of(page, f"{through}-see")
    to_step(page, 7)
    page.get_by_role("button", name="CSV", exact=True).first.click()
    said(page, "is written")
    picture_of(page, f"{through}-save")
    page.close()


def test_a_first_map_takes_less_than_a_minute_and_eight_clicks(browser: Browser, server: str, folder: Path) -> None:
    write_notebook(folder / "first.ipynb", "import ftrack as ft\npanel = ft.Panel('first.yaml', background='')\npanel")
    begun = time.perf_counter()
    page = open_panel(browser, server, "first", "voila")
    page.get_by_label("catalogue").select_option(label=OWN)  # two clicks, which the page does not see
    page.get_by_label("address").click()
    page.keyboard.type(str(folder / "archive"))
    press(page, "Search")
    said(page, "5 scenes from")
    to_step(page, 4)
    said(page, "It can start")
    press(page, "Start")
    said(page, "vectors. Look at the map")
    to_step(page, 5)
    page.locator(".leaflet-image-layer").wait_for()
    seconds, clicks = time.perf_counter() - begun, 2 + page.evaluate("window.clicks")
    page.close()
    print(f"a first map after {seconds:.0f} s and {clicks} clicks")
    assert clicks <= 8 and seconds < 60


def test_a_run_is_paused_found_again_after_a_reload_and_cancelled(browser: Browser, server: str, folder: Path) -> None:
    slow = {**json.loads((folder / "runs.yaml").read_text()), "run": {"tile": 64}}
    slow["matcher"] = {"chip_sizes": [16, 32], "search_radius": 120, "search": "full"}
    slow["pairs"] = {"max_days": 60}
    (folder / "runs.yaml").write_text(json.dumps(slow))
    page = open_panel(browser, server, "runs", "voila")
    to_step(page, 4)
    said(page, "It can start")
    press(page, "Start")
    said(page, "tiles are measured")
    answers = [time_to_step(page, number) for number in (1, 4, 1, 4, 1)]
    page.reload()
    page.locator(".ftrack-panel .leaflet-container").wait_for()
    to_step(page, 4)
    said(page, "running, measuring displacement")
    press(page, "Pause")
    said(page, "paused; Resume goes on")
    assert ft.open_job(str(folder / "runs.zarr")).status().state == "cancelled"
    press(page, "Resume")
    said(page, "at first sight")
    picture_of(page, "voila-run")
    press(page, "Cancel")
    said(page, "cancelled; what is finished is kept")
    assert ft.open_job(str(folder / "runs.zarr")).status().state == "cancelled"
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    page.close()
    print(f"while a run went on a button answered in {', '.join(f'{a:.2f}' for a in answers)} s")
    assert min(answers) < 0.5  # the run takes all cores of a small machine, so not every press is as quick as on one of its own


def test_lines_areas_and_places_come_from_files_and_coordinates(browser: Browser, server: str, folder: Path) -> None:
    scene = ft.find_scenes(folder / "archive")[0].footprint
    lon, lat = scene.centroid.coords[0]
    triangle = shapely.Polygon([(lon - 0.01, lat - 0.004), (lon + 0.01, lat - 0.004), (lon, lat + 0.004)])
    along = shapely.LineString([(lon - 0.01, lat), (lon, lat + 0.002), (lon + 0.01, lat)])
    for name, shape in (("outlines", scene), ("flowlines", along), ("triangle", triangle)):
        feature = {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)}
        (folder / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    (folder / "words.geojson").write_text("not a map")
    page = open_panel(browser, server, "files", "voila")
    place = page.get_by_label("go to")
    place.fill("the glacier")
    press(page, "Go")
    said(page, "write latitude and longitude in degrees")
    place.fill(f"{lat:.4f}, {lon:.4f}")
    press(page, "Go")
    expect(page.locator(".leaflet-control-scale")).not_to_contain_text("500 km")
    for name, answer in (("words", "words.geojson is not GeoJSON"), ("triangle", "km², from")):
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="GeoJSON").click()
        chooser.value.set_files(folder / f"{name}.geojson")
        said(page, answer)
    for colour in ("#1f4e79", "#c8322b"):
        assert page.locator(f".leaflet-overlay-pane path[stroke='{colour}']").count()
    picture_of(page, "voila-files")
    page.close()
    area = ft.read_workflow(folder / "files.yaml").scenes.area
    assert isinstance(area, str) and ft.extent.read_area(area).equals(triangle)


def test_a_run_goes_to_a_gateway_with_the_options_that_it_offers(browser: Browser, server: str, folder: Path) -> None:
    values = json.loads((folder / "far.yaml").read_text())
    (folder / "far.yaml").write_text(json.dumps({**values, "cluster": {"kind": "gateway", "workers": 1}}))
    page = open_panel(browser, server, "far", "voila")
    to_step(page, 4)
    said(page, "It can start")
    press(page, "Connect")
    said(page, "Memory of a worker (GiB)")
    memory = page.locator(".widget-text input[type=number]").last
    memory.fill("2.5")
    memory.press("Tab")
    picture_of(page, "voila-gateway")
    press(page, "Start")
    said(page, "vectors. Look at the map")
    page.close()
    job = ft.open_job(str(folder / "far.zarr"))
    assert job.submission.cluster["options"]["worker_memory"] == 2.5 and job.submission.cluster_name
    assert job.status().state == "done"


NAME_OF_FOCUS = """() => { const e = document.activeElement;
    return [e.innerText, e.labels?.[0]?.innerText, e.getAttribute('aria-label'), e.title].find((text) => text) || e.tagName }"""


def test_everything_is_reached_with_the_keyboard_and_scenes_lie_in_the_middle_of_a_polar_map(browser: Browser, server: str) -> None:
    page = open_panel(browser, server, "keys", "voila")
    page.locator(".ftrack-steps button").first.focus()
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(NAME_OF_FOCUS))
    for name in ("2 What there is", "Mercator", "go to", "area", "catalogue", "from", "max cloud", "asset", "Search"):
        assert any(name in text for text in reached), (name, reached)
    page.get_by_role("button", name="Search", exact=True).focus()
    page.keyboard.press("Enter")
    said(page, "5 scenes from")
    page.get_by_label("map", exact=True).select_option(label="Arctic (EPSG:3413)")
    to_step(page, 2)
    outline = page.locator(".leaflet-overlay-pane path[stroke='#1f4e79']").first
    outline.wait_for()
    box, (x, y) = box_of(outline), centre_of_map(page)
    picture_of(page, "voila-polar")
    page.close()
    assert 100 < box["height"] < 620
    assert abs(box["x"] + box["width"] / 2 - x) < 10 and abs(box["y"] + box["height"] / 2 - y) < 10
