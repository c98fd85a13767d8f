"""Velocity on the map of a real browser: a known point of a polar field lies where it should; clicks, files and pictures come out."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyproj
import pytest
import xarray as xr

pytest.importorskip("playwright.sync_api")
from made_itslive import LEFT, TOP, make_catalog, make_itslive, outline_of
from panel_server import CHROMIUM, box_of, chromium, click_map, jupyter_at, map_box, new_page, picture_of, write_notebook
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from ftrack.grid import Grid, place

if not Path(CHROMIUM).exists():
    pytest.skip("there is no Chromium", allow_module_level=True)

GRID = Grid(crs="EPSG:3413", resolution=240.0, left=-190_000.0, top=-2_240_000.0, height=300, width=400)
SLOW, FAST = 100.0, 1500.0
NODE = (210, 130)
"""Row and column of the middle of a square of fast ice."""

SOURCE = """
import ftrack as ft
panel = ft.Panel('glacier/panel.yaml', background='')
panel.state.cube = ft.open_cube('cube.zarr')
panel.state.output = 'cube.zarr'
panel
"""


POLAR = {
    "Arctic (EPSG:3413)": Grid(crs="EPSG:3413", resolution=240.0, left=300_000.0, top=700_000.0, height=300, width=400),
    "Antarctic (EPSG:3031)": Grid(crs="EPSG:3031", resolution=240.0, left=300_000.0, top=-700_000.0, height=300, width=400),
}
"""Ice on a map of the Arctic above the pole, and on one of the Antarctic below it: there, up on the map is away from, or to, the pole."""


def write_cube(path: Path, grid: Grid = GRID) -> None:
    """Write a cube in which a square of seven nodes moves fast, and all else slowly."""
    shape = (4, grid.height, grid.width)
    speed = np.full(shape, SLOW, "float32")
    speed[:, NODE[0] - 3 : NODE[0] + 4, NODE[1] - 3 : NODE[1] + 4] = FAST
    season = np.array([0.9, 1.0, 1.1, 1.0], "float32")[:, None, None]
    cube = xr.Dataset({n: (("mid_date", "y", "x"), v) for n, v in (("vx", 0.6 * speed * season), ("vy", 0.8 * speed * season))})
    for name, values in {"v": speed, "vx_error": 0 * speed + 8, "vy_error": 0 * speed + 8, "v_error": 0 * speed + 8}.items():
        cube[name] = (("mid_date", "y", "x"), values)
    cube["status"] = (("mid_date", "y", "x"), np.zeros(shape, "uint8"))
    middle = np.datetime64("2021-04-01", "us") + np.arange(4) * np.timedelta64(20, "D")
    for name, days in (("acquisition_date_img1", -5), ("acquisition_date_img2", 5)):
        cube[name] = ("mid_date", middle + np.timedelta64(days, "D"))
    placed = place(cube.assign_coords(mid_date=middle), grid).rename(spatial_ref="mapping").assign_attrs(title="A square of fast ice")
    placed.to_zarr(path, zarr_format=3, consolidated=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("layers")
    write_cube(place / "cube.zarr")
    for name, grid in POLAR.items():
        write_cube(place / f"{name[:4]}.zarr", grid)
    write_notebook(place / "panel.ipynb", SOURCE)
    return place


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with jupyter_at(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page(server: str, browser: Browser) -> Iterator[Page]:
    page = new_page(browser, server)
    page.goto(f"{server}/voila/render/panel.ipynb")
    page.locator(".ftrack-panel .leaflet-container").wait_for()
    page.locator(".ftrack-steps button").nth(4).click()
    page.locator(".leaflet-image-layer").wait_for()
    yield page
    page.close()


def screen_of(page: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def settled(page: Page) -> np.ndarray:
    """Return the screen when it has stopped changing."""
    before = screen_of(page)
    for _ in range(60):
        time.sleep(0.25)
        after = screen_of(page)
        if np.array_equal(before, after):
            return after
        before = after
    raise AssertionError("the map does not come to rest")


def yellow(screen: np.ndarray, box: dict[str, float]) -> np.ndarray:
    """Return rows and columns (screen pixels) of the bright end of the scale on the map."""
    part = screen[int(box["y"]) : int(box["y"] + box["height"]), int(box["x"]) : int(box["x"] + box["width"])]
    bright = (part[..., 0] > 190) & (part[..., 1] > 180) & (part[..., 2] < 130)
    return np.argwhere(bright) + [int(box["y"]), int(box["x"])] + 0.5


def distance_from_place(page: Page, grid: Grid) -> float:
    """Return pixels between the fast square as it is drawn, and a marker that the map itself puts at its longitude and latitude."""
    scale, image = page.get_by_placeholder("automatic"), page.locator(".leaflet-image-layer")
    image.wait_for()
    if scale.input_value() != "1500":
        before = image.get_attribute("src")
        assert before
        scale.fill("1500")
        scale.press("Enter")
        expect(image).not_to_have_attribute("src", before, timeout=60_000)
    screen, box = settled(page), map_box(page)
    found = yellow(screen, box)
    assert found.size
    middle = found.mean(axis=0)
    lon, lat = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(grid.x[NODE[1]], grid.y[NODE[0]])
    field = page.get_by_placeholder("lat, lon").last
    field.fill(f"{lat:.6f}, {lon:.6f}")
    field.press("Enter")
    page.locator(f"img[alt^='series: median {FAST:,.0f} m/yr']").wait_for()
    circle = box_of(page.locator("path.leaflet-interactive[stroke='#c8322b']").last)
    expected = np.array([circle["y"] + circle["height"] / 2, circle["x"] + circle["width"] / 2])
    return float(np.hypot(*(middle - expected)))


def test_a_known_point_lies_within_a_pixel_of_its_place_on_the_map(page: Page) -> None:
    assert distance_from_place(page, GRID) < 1
    picture_of(page, "voila-5-see")


def test_a_click_reads_a_series_and_a_line_a_profile(page: Page) -> None:
    begun = time.perf_counter()
    click_map(page, page.locator("img[alt^='series: median 100 m/yr']"))
    print(f"a click was answered in {time.perf_counter() - begun:.2f} s")
    page.get_by_role("button", name="Draw a line").click()
    click_map(page, page.get_by_text("next point"), right=-90, down=-30)
    click_map(page, page.locator("img[alt^='profile']"), right=60, down=20)
    expect(page.locator(".ftrack-panel")).to_contain_text("median of 4 pairs")
    assert page.locator("img[alt^='series: median 100 m/yr']").is_visible()
    picture_of(page, "voila-5-profile")
    page.get_by_role("button", name="Draw a line").click()


def test_streamlines_and_quality_are_drawn_and_everything_fits(page: Page) -> None:
    page.get_by_role("button", name="streamlines", exact=True).click()
    page.locator("path[stroke='#ffffff']").first.wait_for()
    settled(page)
    picture_of(page, "voila-5-streamlines")
    wide = page.evaluate("document.querySelector('.ftrack-step').scrollWidth - document.querySelector('.ftrack-step').clientWidth")
    assert wide <= 1


def test_files_are_saved_and_handed_out(page: Page) -> None:
    click_map(page, page.locator("img[alt^='series: median 100 m/yr']"))
    page.locator(".ftrack-steps button").nth(6).click()
    page.get_by_role("button", name="CSV").first.click()
    expect(page.locator(".ftrack-panel")).to_contain_text("✓ glacier/panel-series.csv is written")
    with page.expect_download() as download:
        page.get_by_role("link", name="take panel-series.csv along").click()
    assert Path(download.value.path()).read_text().startswith("mid_date,lat,lon,v [m/yr]")
    picture_of(page, "voila-7-save")
    page.locator(".ftrack-steps button").nth(5).click()
    page.get_by_role("button", name="Open the cube").wait_for()
    picture_of(page, "voila-6-itslive")


@pytest.mark.parametrize("name", POLAR)
def test_a_known_point_lies_within_a_pixel_of_its_place_on_a_polar_map(page: Page, name: str) -> None:
    page.locator(".ftrack-steps button").first.click()
    page.get_by_label("map", exact=True).select_option(label=name)
    page.locator(".ftrack-steps button").nth(4).click()
    page.get_by_role("button", name="none", exact=True).click()  # an arrow would cover the square
    path = page.get_by_placeholder("cube.zarr or s3://")
    path.fill(f"{name[:4]}.zarr")
    path.press("Enter")
    expect(page.locator(".ftrack-panel")).to_contain_text(f"{name[:4]}.zarr: 4 pairs")
    assert distance_from_place(page, POLAR[name]) < 1
    page.get_by_role("button", name="arrows", exact=True).click()
    page.locator("path[stroke='#ffffff']").first.wait_for()
    settled(page)
    picture_of(page, f"voila-5-{name.split()[0].lower()}")


def test_from_the_map_to_its_live_and_files_through_jupyterlab(folder: Path, server: str, browser: Browser) -> None:
    """Two pairs behind a slider, a point, a line, velocity of others beside ours, and what is written."""
    make_itslive(folder / "theirs.zarr", attrs={"map_scale_corrected": 1})
    make_catalog(folder / "catalog.json", {"theirs.zarr": outline_of()})
    write_cube(folder / "ours.zarr", Grid(crs="EPSG:3413", resolution=120.0, left=LEFT - 12_000, top=TOP + 12_000, height=220, width=220))
    write_notebook(folder / "lab.ipynb", SOURCE.replace("cube.zarr", "ours.zarr").replace("panel.yaml", "lab.yaml"))
    page = new_page(browser, server)
    page.goto(f"{server}/lab/tree/lab.ipynb?reset")
    page.get_by_text("| Idle").wait_for()
    page.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
    page.keyboard.press("Control+Enter")
    steps, said = page.locator(".ftrack-steps button"), page.locator(".ftrack-panel")
    steps.nth(4).click()
    image = page.locator(".leaflet-image-layer")
    image.wait_for()
    page.get_by_label("beside it").select_option(label="2021-04-16 to 2021-04-26 (10 days)")
    expect(said).to_contain_text("; right: 2021-04-16 to 2021-04-26")
    before = image.get_attribute("src")
    assert before
    page.get_by_role("slider").last.focus()
    page.keyboard.press("Home")
    expect(image).not_to_have_attribute("src", before)
    click_map(page, page.locator("img[alt^='series: median 100 m/yr']"))
    page.get_by_role("button", name="Draw a line").click()
    click_map(page, page.get_by_text("next point"), right=-60)
    click_map(page, page.locator("img[alt^='profile']"), right=60)
    page.get_by_role("button", name="Draw a line").click()
    steps.nth(5).click()
    page.get_by_label("catalogue").fill("catalog.json")
    page.get_by_label("catalogue").press("Enter")
    page.get_by_role("button", name="Look for cubes of the area").click()
    expect(said).to_contain_text("1 cubes cover the area")
    page.get_by_role("button", name="Open the cube").click()
    expect(said).to_contain_text("7 pairs, ground metres per year")
    steps.nth(4).click()
    page.get_by_label("beside it").select_option(label="ITS_LIVE")
    expect(said).to_contain_text("right: ITS_LIVE, median of 4 of 7 pairs")
    picture_of(page, "lab-5-beside")
    steps.nth(6).click()
    for suffix, answer in (("PNG", "lab-map.png is written"), ("IPYNB", "lab-notebook.ipynb is written")):
        page.get_by_role("button", name=suffix, exact=True).first.click()
        expect(said).to_contain_text(answer)
    assert (folder / "glacier" / "lab-map.png").stat().st_size > 10_000
    page.close()
