"""Map layers: placed to the pixel, small enough to be sent, and pointing where the ice flows."""

from __future__ import annotations

import io

import numpy as np
import pyproj
import pytest
import xarray as xr
from PIL import Image

from ftrack.errors import Stop
from ftrack.grid import Grid, place
from ftrack.layers import Box, Field, Picture, Sheet, arrows, box_of, corners_of, render, streamlines

POLAR = Grid(crs="EPSG:3413", resolution=1000.0, left=-400_000.0, top=-2_000_000.0, height=400, width=500)
GREY = np.stack([np.arange(250, dtype=np.uint8)] * 3, axis=1)
TO_MERCATOR = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True)


def field_of(values: np.ndarray, grid: Grid = POLAR, **more: float) -> Field:
    return Field(values.astype("float32"), grid, GREY, 0.0, 100.0, **more)  # type: ignore[arg-type]


def pixels_of(picture: Picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGBA"))


def place_in(picture: Picture, lon: float, lat: float) -> tuple[float, float]:
    """Return row and column at which a web map draws a place of the picture."""
    x, y = TO_MERCATOR.transform(lon, lat)
    (left, right), (bottom, top) = TO_MERCATOR.transform([picture.box.west, picture.box.east], [picture.box.south, picture.box.north])
    height, width = pixels_of(picture).shape[:2]
    return (top - y) / (top - bottom) * height, (x - left) / (right - left) * width


@pytest.mark.parametrize("node", [(3, 5), (200, 250), (396, 20), (100, 490)])
@pytest.mark.parametrize("zoom", [1.0, 0.1])
def test_a_known_point_of_a_polar_field_lies_within_one_pixel(node: tuple[int, int], zoom: float) -> None:
    """Only one node has a value; its middle on the map is the middle of what is drawn."""
    values = np.full((400, 500), np.nan)
    block = (slice(node[0] - 3, node[0] + 4), slice(node[1] - 3, node[1] + 4))
    values[block] = 50.0
    lon, lat = pyproj.Transformer.from_crs("EPSG:3413", "EPSG:4326", always_xy=True).transform(POLAR.x[node[1]], POLAR.y[node[0]])
    whole = box_of(POLAR)
    reach = zoom * (whole.east - whole.west) / 2, zoom * (whole.north - whole.south) / 2
    picture = render(field_of(values), Box(lon - reach[0], lat - reach[1], lon + reach[0], lat + reach[1]), 1000)
    assert picture is not None
    drawn = np.argwhere(pixels_of(picture)[..., 3] > 0) + 0.5
    expected = place_in(picture, lon, lat)
    assert np.hypot(*(drawn.mean(axis=0) - expected)) < 1


def test_pixels_agree_with_exact_reprojection() -> None:
    rows, columns = np.mgrid[0:400, 0:500]
    values = 50 + 40 * np.sin(rows / 40) * np.cos(columns / 30)
    picture = render(field_of(values), box_of(POLAR), 900)
    assert picture is not None
    pixels = pixels_of(picture)
    (left, right), (bottom, top) = TO_MERCATOR.transform([picture.box.west, picture.box.east], [picture.box.south, picture.box.north])
    height, width = pixels.shape[:2]
    x, y = left + (np.arange(width) + 0.5) * (right - left) / width, top - (np.arange(height) + 0.5) * (top - bottom) / height
    u, v = pyproj.Transformer.from_crs("EPSG:3857", "EPSG:3413", always_xy=True).transform(*np.meshgrid(x, y))
    column, row = (u - POLAR.left) / 1000, (POLAR.top - v) / 1000
    inside = (row >= 0) & (row < 400) & (column >= 0) & (column < 500)
    assert (inside != (pixels[..., 3] > 0)).mean() < 2e-3
    expected = values[np.clip(row, 0, 399).astype(int), np.clip(column, 0, 499).astype(int)]
    both = inside & (pixels[..., 3] > 0)
    assert np.percentile(np.abs(pixels[..., 0][both] / 2.5 - expected[both]), 99.9) < 2


@pytest.mark.parametrize("zoom", [1.0, 0.3, 0.05, 0.002])
def test_a_large_field_is_sent_in_less_than_two_megabytes(zoom: float) -> None:
    """Noise compresses worst; a screen of 2560 px."""
    grid = Grid(crs="EPSG:3413", resolution=120.0, left=-400_000.0, top=-2_000_000.0, height=4000, width=4000)
    values = np.random.default_rng(1).uniform(0, 100, (4000, 4000))
    whole = box_of(grid)
    middle, reach = ((whole.west + whole.east) / 2, (whole.south + whole.north) / 2), (whole.east - whole.west) / 2 * zoom
    picture = render(field_of(values, grid), Box(middle[0] - reach, middle[1] - reach / 3, middle[0] + reach, middle[1] + reach / 3), 2560)
    assert picture is not None
    assert len(picture.url) < 2_000_000


def test_where_nothing_is_seen_nothing_is_drawn() -> None:
    values = np.full((400, 500), 10.0)
    assert render(field_of(values), Box(10.0, 10.0, 20.0, 20.0), 800) is None
    assert render(field_of(values * np.nan), box_of(POLAR), 800) is None
    with pytest.raises(Stop, match="empty"):
        render(field_of(values), Box(10.0, 10.0, 10.0, 20.0), 800)


def test_colours_run_from_low_to_high_also_along_the_logarithm() -> None:
    values = np.full((400, 500), 1000.0)
    values[:, :250] = 10.0
    plain, log = (render(Field(values, POLAR, GREY, 1.0, 1000.0, log), box_of(POLAR), 300) for log in (False, True))
    assert plain is not None and log is not None
    shades = [sorted(set(pixels_of(p)[..., 0][pixels_of(p)[..., 3] > 0].tolist())) for p in (plain, log)]
    assert shades == [[2, 249], [83, 249]]


def test_two_fields_side_by_side_meet_where_they_are_told_to() -> None:
    box = Box(-53.0, 69.5, -49.0, 70.0)
    left, right = (field_of(np.full((400, 500), value)) for value in (20.0, 80.0))
    picture = render(left, box, 600, beside=right, share=0.25)
    assert picture is not None
    pixels = pixels_of(picture)
    row = pixels[pixels.shape[0] // 2]
    known = row[:, 3] > 0
    assert known.mean() > 0.95
    assert place_in(picture, -53.0 + 0.25 * 4, 69.7)[1] == pytest.approx(np.flatnonzero(known & (row[:, 0] > 150)).min(), abs=1.5)
    assert (row[known][:5, 0] < 100).all() and (row[known][-5:, 0] > 150).all()


def flow(vx: np.ndarray | float, vy: np.ndarray | float) -> xr.Dataset:
    shape = (POLAR.height, POLAR.width)
    return place(xr.Dataset({n: (("y", "x"), np.broadcast_to(v, shape).astype("float32")) for n, v in (("vx", vx), ("vy", vy))}), POLAR)


def test_arrows_point_where_the_ice_flows_on_the_ground() -> None:
    data = flow(300.0, -400.0)
    made = arrows(data, box_of(POLAR), 10)
    assert 40 < len(made.lines) <= 100 and np.allclose(made.speed, 500)
    to_polar = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3413", always_xy=True)
    for line in made.lines[:5]:
        (x0, x1), (y0, y1) = to_polar.transform(line[:2, 0], line[:2, 1])
        assert np.arctan2(y1 - y0, x1 - x0) == pytest.approx(np.arctan2(-400, 300), abs=1e-6)
    few = arrows(data, Box(-52.0, 69.5, -51.5, 69.7), 10)
    assert 0 < len(few.lines) <= 144 and len(arrows(flow(np.nan, 0.0), box_of(POLAR)).lines) == 0


def test_streamlines_follow_circles() -> None:
    rows, columns = np.mgrid[0:400, 0:500] - np.array([200, 250])[:, None, None]
    made = streamlines(flow(rows, columns), box_of(POLAR), 12, 200)
    assert len(made.lines) > 50
    to_polar = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3413", always_xy=True)
    for line in made.lines:
        x, y = to_polar.transform(line[:, 0], line[:, 1])
        radius = np.hypot((x - POLAR.left) / 1000 - 250.5, (POLAR.top - y) / 1000 - 200.5)
        if radius[0] > 30:
            assert np.ptp(radius) < 3


def on_a_polar_map(crs: str, lon: float, lat: float) -> tuple[float, float]:
    """Return where a web map draws a place, also one beyond the pole: Snyder (1987), eq. 21-33 and 21-34."""
    axis = pyproj.CRS(crs)
    e, a = np.sqrt(0.00669437999014), axis.ellipsoid.semi_major_metre
    sign, scale_at, along = (1, 70, -45) if crs == "EPSG:3413" else (-1, 71, 0)

    def t(degrees: float) -> float:
        s = e * np.sin(np.radians(degrees))
        return float(np.tan(np.pi / 4 - np.radians(degrees) / 2) / ((1 - s) / (1 + s)) ** (e / 2))

    m = np.cos(np.radians(scale_at)) / np.sqrt(1 - (e * np.sin(np.radians(scale_at))) ** 2)
    rho = a * m * t(sign * lat) / t(scale_at)
    return rho * np.sin(np.radians(lon - along)), -sign * rho * np.cos(np.radians(lon - along))


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031"])
@pytest.mark.parametrize("middle", [(-200e3, -2200e3), (700e3, 1500e3), (-900e3, 300e3), (10e3, -20e3), (1200e3, -5e3)])
def test_corners_of_a_polar_map_are_north_west_and_south_east_also_over_the_pole(crs: str, middle: tuple[float, float]) -> None:
    sheet = Sheet(crs, middle[0] - 80e3, middle[1] - 50e3, middle[0] + 80e3, middle[1] + 50e3)
    box = corners_of(sheet)
    assert box.north > box.south and box.east > box.west
    np.testing.assert_allclose(on_a_polar_map(crs, box.west, box.north), (sheet.left, sheet.top), atol=0.01)
    np.testing.assert_allclose(on_a_polar_map(crs, box.east, box.south), (sheet.right, sheet.bottom), atol=0.01)


def test_a_field_is_drawn_on_a_polar_map_and_not_where_it_does_not_reach() -> None:
    values = np.full((400, 500), 50.0)
    left, bottom, right, top = POLAR.bounds
    whole = render(field_of(values), Sheet("EPSG:3413", left, bottom, right, top), 500)
    assert whole is not None and (pixels_of(whole)[..., 3] > 0).all() and pixels_of(whole).shape[:2] == (400, 500)
    assert render(field_of(values), Sheet("EPSG:3031", -4e6, -4e6, 4e6, 4e6), 500) is None
    assert not arrows(flow(300.0, -400.0), Sheet("EPSG:3413", 1e6, 1e6, 2e6, 2e6)).lines
