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
from panel_server import CHROMIUM, chromium, jupyter_at, new_page, picture_of, write_notebook
from PIL import Image
from playwright.sync_api import Page, expect

from ftrack.grid import Grid, place

if not Path(CHROMIUM).exists():
    pytest.skip("there is no Chromium", allow_module_level=True)

GRID = Grid(crs="EPSG:3413", resolution=240.0, left=-190_000.0, top=-2_240_000.0, height=300, width=400)
SLOW, FAST = 100.0, 1500.0
NODE = (210, 130)
"""Row and column of the middle of a square of fast ice."""

SOURCE = """
import ftrack as ft
panel = ft.Panel('panel.yaml', background='')
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
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("layers")
    write_cube(folder / "cube.zarr")
    for name, grid in POLAR.items():
        write_cube(folder / f"{name[:4]}.zarr", grid)
    write_notebook(folder / "panel.ipynb", SOURCE)
    with jupyter_at(folder) as address, chromium() as browser:
        page = new_page(browser, address)
        page.goto(f"{address}/voila/render/panel.ipynb")
        page.locator(".ftrack-panel .leaflet-container").wait_for()
        page.locator(".ftrack-steps button").nth(4).click()
        page.locator(".leaflet-image-layer").wait_for()
        page.wait_for_load_state("networkidle")
        yield page
        page.close()


def screen_of(page: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def map_box(page: Page) -> dict[str, float]:
    box = page.locator(".ftrack-panel .leaflet-container").bounding_box()
    assert box is not None
    return dict(box)


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
    circle = page.locator("path.leaflet-interactive[stroke='#c8322b']").last.bounding_box()
    assert circle is not None
    expected = np.array([circle["y"] + circle["height"] / 2, circle["x"] + circle["width"] / 2])
    return float(np.hypot(*(middle - expected)))


def test_a_known_point_lies_within_a_pixel_of_its_place_on_the_map(page: Page) -> None:
    assert distance_from_place(page, GRID) < 1
    picture_of(page, "voila-5-see")


def test_a_click_reads_a_series_and_a_line_a_profile(page: Page) -> None:
    box = map_box(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    begun = time.perf_counter()
    page.mouse.click(x, y)
    expect(page.locator(".ftrack-panel")).to_contain_text("median 100 m/yr")
    page.locator("img[alt^='series']").wait_for()
    print(f"a click was answered in {time.perf_counter() - begun:.2f} s")
    page.get_by_role("button", name="Draw a line").click()
    for shift in (-90, 60):
        page.mouse.click(x + shift, y + shift / 3)
        expect(page.locator(".ftrack-panel")).to_contain_text("next point" if shift < 0 else "median of 4 pairs")
    page.locator("img[alt^='profile']").wait_for()
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
    page.locator(".ftrack-steps button").nth(6).click()
    page.get_by_role("button", name="CSV").first.click()
    expect(page.locator(".ftrack-panel")).to_contain_text("panel-series.csv is written")
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
