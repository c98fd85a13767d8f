"""The panel in a real browser, through JupyterLab and through Voila, without the internet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright.sync_api")
from panel_server import CHROMIUM, chromium, jupyter_at, new_page, picture_of, write_notebook
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
    for name in ("lab", "voila", "runs", "keys"):
        write_notebook(place / f"{name}.ipynb", f"import ftrack as ft\npanel = ft.Panel('{name}.yaml', background='')\npanel")
        values: dict[str, Any] = {**BASIC, "output": f"{name}.zarr"}
        (place / f"{name}.yaml").write_text(
            json.dumps({**values, "scenes": {"catalog": "archive/collection.json", "asset": "nir", "mask": "auto"}})
        )
    return place


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with jupyter_at(folder) as address:
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


def centre_of_map(page: Page) -> tuple[float, float]:
    box = page.locator(".ftrack-panel .leaflet-container").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


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
    page.locator(".leaflet-draw-draw-rectangle").click()
    x, y = centre_of_map(page)
    page.mouse.move(x - 100, y - 100)
    page.mouse.down()
    page.mouse.move(x, y, steps=4)
    page.mouse.move(x + 100, y + 100, steps=4)
    page.mouse.up()
    said(page, "km², from")
    picture_of(page, f"{through}-where")
    to_step(page, 2)
    said(page, "5 of 5 scenes are used")
    page.get_by_label("use SIM_").nth(1).uncheck()
    said(page, "4 of 5 scenes are used")
    page.locator(".ftrack-table tbody tr").nth(2).click()
    page.locator(".ftrack-step img[alt^='quick-look']").wait_for()
    picture_of(page, f"{through}-found")
    to_step(page, 3)
    page.mouse.click(*centre_of_map(page))
    said(page, "m/yr towards")
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
    page.mouse.click(*centre_of_map(page))
    said(page, "m/yr, ")
    page.locator(".ftrack-step img[alt^='series']").wait_for()
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
    box, (x, y) = outline.bounding_box(), centre_of_map(page)
    picture_of(page, "voila-polar")
    page.close()
    assert box is not None and 100 < box["height"] < 620
    assert abs(box["x"] + box["width"] / 2 - x) < 10 and abs(box["y"] + box["height"] / 2 - y) < 10
