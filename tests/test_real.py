"""The whole line on real images: flowing ice, still ground, clouds, swath edges, and a shift that is known."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr

import ftrack as ft
from ftrack.grid import Grid, grid_of, place
from ftrack.matchers import Prior

CLEAR = ("20200101", "20200131", "20200207", "20200210", "20200220")
CLOUDY = ("20200106", "20200118")


class Ice(NamedTuple):
    """What one pair says of Perito Moreno, less the shift off the ice; displacement in px, speed in px a day."""

    measured: float
    speed: float
    off_ice: float
    wild: float


@pytest.fixture(scope="module")
def perito(data_folder: Path) -> tuple[tuple[ft.Scene, ...], xr.DataArray, shapely.Geometry]:
    folder = data_folder / "perito-moreno"
    scenes = ft.find_scenes(str(folder / "collection.json"))
    stack = ft.prefilter(ft.open_stack(scenes, asset="visual")).compute()
    return scenes, stack.chunk({"y": 512, "x": 512}), gpd.read_file(folder / "glacier.geojson").to_crs("EPSG:32718").union_all()


def measure(perito: tuple[tuple[ft.Scene, ...], xr.DataArray, shapely.Geometry], first: str, second: str) -> Ice:
    scenes, stack, outline = perito
    pairs = [p for p in ft.choose_pairs(scenes, min_days=5, max_days=60) if first in p.reference and second in p.secondary]
    motion = ft.clean(ft.match_stack(stack, pairs, ft.NCC(chip_sizes=(32,), spacing=8, search_radius=28))).isel(pair=0).compute()
    nodes = grid_of(motion)
    ice = shapely.contains_xy(outline, *np.meshgrid(nodes.x, nodes.y))
    vector, filled = (motion.status.values == s for s in (ft.Status.MEASURED, ft.Status.FILLED))
    off = vector & ~ice
    shift = [float(np.median(part.values[off])) for part in (motion.dx, motion.dy)]
    speed = np.hypot(motion.dx.values - shift[0], motion.dy.values - shift[1])
    days = pairs[0].temporal_baseline
    return Ice(
        (vector & ice).sum() / ice.sum(), float(np.median(speed[(vector | filled) & ice])) / days, float(np.median(speed[off])),
        float((speed[vector] > 0.8 * days + 2).mean()),
    )  # fmt: skip


@pytest.mark.timeout(900)
def test_perito_moreno_flows_at_one_speed_in_every_clear_pair(perito: tuple[tuple[ft.Scene, ...], xr.DataArray, shapely.Geometry]) -> None:
    found = {}
    for first, second in combinations(CLEAR, 2):
        days = (datetime.strptime(second, "%Y%m%d") - datetime.strptime(first, "%Y%m%d")).days
        if 13 <= days <= 50:
            found[first, second] = measure(perito, first, second)
    for pair, ice in found.items():
        print(*pair, f"{ice.measured:.3f} of the ice measured, {ice.speed:.4f} px/day, {ice.off_ice:.3f} px off the ice")
    main = found["20200101", "20200131"]
    assert main.measured >= 0.90
    assert main.speed == pytest.approx(0.22, abs=0.02)
    assert main.off_ice < 0.3
    middle = np.median([ice.speed for ice in found.values()])
    assert all(abs(ice.speed / middle - 1) < 0.10 for ice in found.values())


def test_cloudy_scenes_give_few_vectors_and_no_wild_ones(perito: tuple[tuple[ft.Scene, ...], xr.DataArray, shapely.Geometry]) -> None:
    for cloudy in CLOUDY:
        ice = measure(perito, cloudy, "20200131")
        print(cloudy, f"{ice.measured:.3f} of the ice measured, {100 * ice.wild:.2f} % of the vectors wild")
        assert ice.measured < 0.5
        assert ice.wild < 0.005


def test_a_guided_search_finds_what_the_full_one_finds(perito: tuple[tuple[ft.Scene, ...], xr.DataArray, shapely.Geometry]) -> None:
    """Also along the edges of the imagery, where chips are cut and second peaks are high."""
    scenes, stack, _ = perito
    images = [stack[[day in scene.id for scene in scenes].index(True)].values for day in ("20200101", "20200210")]
    nodes = [np.arange(0, size + 1, 8) for size in stack.shape[1:]]
    full, guided = (
        ft.NCC(chip_sizes=(32, 64), search_radius=24, search=search).measure(*images, *nodes, Prior()) for search in ("full", "guided")
    )
    one, other = (np.where(out[7] == ft.Status.MEASURED, out[:2], np.nan) for out in (full, guided))
    same = (np.hypot(*(one - other)) <= 0.05) | (np.isnan(one[0]) & np.isnan(other[0]))
    print(f"{100 * same.mean():.2f} % of nodes alike")
    assert np.isfinite(one[0]).mean() > 0.4
    assert same.mean() >= 0.995


def test_still_ground_shows_the_known_shift_of_its_scenes(data_folder: Path) -> None:
    images = []
    for day in ("20160608", "20160529"):
        with rasterio.open(data_folder / "t33uuu" / f"{day}.tif") as source:
            image, transform = source.read(1).astype(np.float32), source.transform
        images.append(np.where(image == 0, np.nan, image))
    grid = Grid(crs="EPSG:32633", resolution=10.0, left=transform.c, top=transform.f, height=images[0].shape[0], width=images[0].shape[1])
    names = {"image": ("time", np.array(["20160608", "20160529"], object))}
    stack = place(xr.DataArray(np.stack(images), dims=("time", "y", "x"), coords=names), grid)
    # Time runs the other way here: the reference is the later image, so the pair's dates only keep the order.
    pair = ft.Pair(
        reference="20160608",
        secondary="20160529",
        reference_time=datetime(2016, 5, 29, tzinfo=UTC),
        secondary_time=datetime(2016, 6, 8, tzinfo=UTC),
    )
    motion = ft.clean(ft.match_stack(ft.prefilter(stack.chunk({"y": 512, "x": 512})), [pair], ft.NCC(search_radius=10))).compute()
    kept = motion.status.values[0] == ft.Status.MEASURED
    dx, dy = motion.dx.values[0][kept], motion.dy.values[0][kept]
    shift = np.median(dx), np.median(dy)
    off = np.hypot(dx - shift[0], dy - shift[1])
    print(f"shift {shift[0]:+.3f}, {shift[1]:+.3f} px, {100 * kept.mean():.1f} % measured, {100 * (off > 1).mean():.2f} % off by over 1 px")
    assert shift == pytest.approx((0.67, -1.89), abs=0.1)
    assert (off > 1).mean() <= 0.005
