"""Lazy stacks: whole pixels, whole passes, honest errors, the same bits whatever the chunks and the scheduler."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pyproj
import pytest
import rasterio
import rioxarray  # noqa: F401  (the accessor .rio)
import xarray as xr
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from made_scenes import make_item, make_scenes, write_image

from ftrack.errors import Retry, Stop
from ftrack.grid import Grid, grid_of
from ftrack.scenes import find_scenes
from ftrack.stac import Scene
from ftrack.stack import GridSettings, MaskSettings, StackSettings, choose_grid, open_stack

CORNER = (560000.0, 7670000.0)
RNG = np.random.default_rng(3)


def polar_grid(size: int, centre: tuple[float, float]) -> Grid:
    x, y = pyproj.Transformer.from_crs(32622, 3413, always_xy=True).transform(*centre)
    left, top = (10.0 * round(v / 10) for v in (x - 5 * size, y + 5 * size))
    return Grid(crs="EPSG:3413", resolution=10.0, left=left, top=top, height=size, width=size)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, ...]:
    """Two passes: one of two neighbouring tiles of different baselines, a later one of a single tile; with gaps and classes."""
    folder = tmp_path_factory.mktemp("scenes")
    items = []
    for name, corner, time, baseline in (
        ("tile-b", (561500.0, 7670000.0), "2020-07-01T15:00:09Z", "05.00"),
        ("tile-a", CORNER, "2020-07-01T15:00:02Z", "03.01"),
        ("later", CORNER, "2020-07-11T15:00:05Z", "05.00"),
    ):
        values = RNG.integers(1001, 20000, (200, 200)).astype("uint16")
        values[:, :4] = 0
        values[90:99, 50:70] = 0
        classes = RNG.choice(np.array([4, 5, 9, 11], "uint8"), (100, 100), p=[0.3, 0.3, 0.1, 0.3])
        files: dict[str, Any] = {
            "nir": write_image(folder / f"{name}.tif", values, corner=corner),
            "scl": write_image(folder / f"{name}-scl.tif", classes, corner=corner, resolution=20.0),
        }
        items.append(make_item(name, files, corner=corner, time=time, **{"s2:processing_baseline": baseline, "sat:relative_orbit": 25}))
    return make_scenes(*items)


def stored(scene: Scene, asset: str = "nir") -> np.ndarray:
    with rasterio.open(scene.assets[asset].href) as file:
        values = file.read(1).astype("float32")
    values[values == 0] = np.nan
    return values


def named(scenes: tuple[Scene, ...], *names: str) -> tuple[Scene, ...]:
    return tuple(scene for scene in scenes if scene.id in names)


def test_real_scenes_are_read_bit_for_bit(data_folder: Path) -> None:
    scenes = find_scenes(data_folder / "perito-moreno" / "collection.json", dates="2020-01")
    stack = open_stack(scenes, asset="visual", chunks=700)
    assert stack.dtype == "float32" and stack.chunks == ((1,) * 4, (700, 531), (700, 700, 331))
    for image, scene in zip(stack.values, scenes, strict=True):
        np.testing.assert_array_equal(image, stored(scene, "visual"))


def test_coordinates_say_what_when_and_where(scenes: tuple[Scene, ...]) -> None:
    stack = open_stack(scenes, asset="nir")
    assert stack.dims == ("time", "y", "x") and stack.attrs == {} and stack.name == "nir"
    assert grid_of(stack) == Grid(crs="EPSG:32622", resolution=10.0, left=CORNER[0], top=CORNER[1], height=200, width=350)
    assert (stack.x[0], stack.y[0]) == (CORNER[0] + 5, CORNER[1] - 5) and stack.rio.crs.to_epsg() == 32622
    assert stack.time.dtype == "datetime64[ns]"
    assert list(stack.time.values) == [np.datetime64("2020-07-01T15:00:02"), np.datetime64("2020-07-11T15:00:05")]
    assert list(stack.image.values) == [scenes[0].image_id, scenes[2].image_id]
    assert list(stack.scene_ids.values) == ["tile-a tile-b", "later"]
    assert list(stack.platform.values) == ["sentinel-2a"] * 2 and list(stack.orbit.values) == ["R025"] * 2
    assert {stack[name].dtype for name in ("image", "platform", "orbit", "scene_ids")} == {np.dtype(object)}


def test_tiles_of_one_pass_become_one_image_with_one_offset(scenes: tuple[Scene, ...]) -> None:
    """Since baseline 04.00 stored values are 1000 higher."""
    first, second = open_stack(scenes, asset="nir").values
    one, other = (stored(scene) for scene in sorted(named(scenes, "tile-a", "tile-b"), key=lambda s: s.id))
    expected = np.full((200, 350), np.nan, "float32")
    expected[:, 150:] = other - 1000
    expected[:, :200] = np.where(np.isnan(one), expected[:, :200], one)
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second[:, :200], stored(named(scenes, "later")[0]))
    assert np.isnan(second[:, 200:]).all()


@pytest.mark.parametrize(
    ("applied", "rescale", "expected"),
    [(False, False, [30.0, 70.0]), (False, True, [-0.1 + 0.003, -0.1 + 0.007]), (True, True, [0.003, 0.007])],
)
def test_scale_and_offset_are_applied_if_asked(tmp_path: Path, applied: bool, rescale: bool, expected: list[float]) -> None:
    path = write_image(tmp_path / "a.tif", np.array([[30, 70]] * 2, "uint16"))
    band = {"nir": {"raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": 0}]}}
    item = make_item("a", {"nir": path}, shape=(2, 2), assets=band, **{"earthsearch:boa_offset_applied": applied})
    found = open_stack(make_scenes(item), asset="nir", settings=StackSettings(rescale=rescale))
    np.testing.assert_allclose(found.values[0, 0], expected, rtol=1e-6)


def test_a_grid_may_reach_beyond_the_scenes(scenes: tuple[Scene, ...]) -> None:
    inside = open_stack(scenes, asset="nir")
    grid = grid_of(inside).window(slice(-30, 210), slice(-50, 100))
    beyond = open_stack(scenes, asset="nir", grid=grid, chunks=64).values
    np.testing.assert_array_equal(beyond[:, 30:230, 50:], inside.values[:, :, :100])
    assert np.isnan(beyond[:, :30]).all() and np.isnan(beyond[:, 230:]).all() and np.isnan(beyond[:, :, :50]).all()
    nowhere = Grid(crs="EPSG:32622", resolution=10.0, left=0.0, top=0.0, height=20, width=30)
    assert open_stack(scenes, asset="nir", grid=nowhere).shape == (2, 20, 30)
    assert np.isnan(open_stack(scenes, asset="nir", grid=nowhere).values).all()


def test_an_area_limits_the_grid(scenes: tuple[Scene, ...]) -> None:
    footprint = scenes[0].footprint
    part = open_stack(scenes, asset="nir", area=footprint.centroid.buffer(0.005))
    whole = open_stack(scenes, asset="nir")
    assert part.sizes["x"] < 60 and part.sizes["y"] < 130
    np.testing.assert_array_equal(part.values, whole.sel(x=part.x, y=part.y).values)


def test_masks_drop_pixels(scenes: tuple[Scene, ...]) -> None:
    later = named(scenes, "later")
    plain = open_stack(later, asset="nir").values[0]
    fine = np.repeat(np.repeat(stored(later[0], "scl"), 2, 0), 2, 1)
    for mask in ("auto", "scl", MaskSettings(asset="scl"), MaskSettings(asset="SCL", values=(9,))):
        found = open_stack(later, asset="nir", mask=mask).values[0]
        np.testing.assert_array_equal(found, np.where(fine == 9, np.nan, plain))
    np.testing.assert_array_equal(
        open_stack(later, asset="nir", mask=MaskSettings(asset="scl", values=(4, 5))).values[0], np.where(fine <= 5, np.nan, plain)
    )
    np.testing.assert_array_equal(
        open_stack(later, asset="nir", mask=MaskSettings(asset="scl", bits=(1,))).values[0], np.where(fine == 11, np.nan, plain)
    )


def test_landsat_bits_drop_clouds_and_keep_snow(tmp_path: Path) -> None:
    clear, cloud, snow, fill = 0b1_0101_0100_0000, 0b10_0010_1000, 0b10_0000, 1
    pixels = np.array([[clear, cloud, snow, fill]], "uint16")
    files: dict[str, Any] = {"nir08": write_image(tmp_path / "a.tif", np.full((1, 4), 9, "uint16")),
                             "qa_pixel": write_image(tmp_path / "qa.tif", pixels, nodata=1)}  # fmt: skip
    scenes = make_scenes(make_item("a", files, shape=(1, 4), platform="landsat-9"))
    np.testing.assert_array_equal(open_stack(scenes, asset="nir08", mask="auto").values[0, 0], [9, np.nan, 9, np.nan])


def test_scenes_without_a_known_mask_are_used_whole_if_the_mask_is_chosen_automatically(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", np.full((2, 2), 9, "uint16"))
    scenes = make_scenes(make_item("a", {"nir": path}, shape=(2, 2)))
    assert (open_stack(scenes, asset="nir", mask="auto").values == 9).all()
    with pytest.raises(Stop, match=r"no asset 'scl'"):
        open_stack(scenes, asset="nir", mask="scl")


@pytest.mark.parametrize("given_", [{"asset": "clouds"}, {"asset": "auto", "values": (1,)}, {"asset": "scl", "bits": (40,)}, {"grow": -1}])
def test_mask_settings_that_mean_nothing_are_refused(given_: dict[str, Any]) -> None:
    with pytest.raises(Stop):
        MaskSettings(**given_)
    assert MaskSettings.model_validate("scl") == MaskSettings(asset="scl")


@settings(max_examples=12)
@given(
    chunks=st.tuples(st.sampled_from([1, -1]), st.integers(17, 400), st.integers(17, 400)),
    row=st.integers(-20, 150), column=st.integers(-20, 300), size=st.integers(2, 120), warp=st.booleans(),
)  # fmt: skip
def test_chunks_and_windows_do_not_change_a_bit(
    scenes: tuple[Scene, ...], chunks: tuple[int, int, int], row: int, column: int, size: int, warp: bool
) -> None:
    grid = polar_grid(300, (561700.0, 7669000.0)) if warp else choose_grid(scenes, "nir")
    mask = MaskSettings(asset="scl", grow=2)
    whole = open_stack(scenes, asset="nir", grid=grid.window(slice(-20, 280), slice(-20, 430)), mask=mask, chunks=-1).values
    window = grid.window(slice(row, row + size), slice(column, column + size))
    part = open_stack(scenes, asset="nir", grid=window, mask=mask, chunks=chunks).values
    expected = np.ascontiguousarray(whole[:, row + 20 : row + 20 + size, column + 20 : column + 20 + size])
    assert np.isfinite(whole).mean() > 0.1
    np.testing.assert_array_equal(part.view("u4"), expected.view("u4"))


def test_an_exact_warp(tmp_path: Path) -> None:
    """From UTM zone 22N to EPSG:3413 a texture known in closed form moves by less than a hundredth of a pixel, in any number of threads."""
    waves = [(RNG.uniform(0, np.pi), RNG.uniform(0, 2 * np.pi), length) for length in np.geomspace(35.0, 600.0, 40)]

    def texture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        phases = [(2 * np.pi / n * (np.cos(a) * (x - CORNER[0]) + np.sin(a) * (y - CORNER[1])) + p, n) for a, p, n in waves]
        return 8000 + 300 * sum((n / 600) ** 0.9 * np.sin(phase) for phase, n in phases)

    x, y = np.meshgrid(CORNER[0] + 10 * np.arange(700) + 5, CORNER[1] - 10 * np.arange(700) - 5)
    path = write_image(tmp_path / "a.tif", np.round(texture(x, y)).astype("uint16"))
    scenes = make_scenes(make_item("a", {"nir": path}, shape=(700, 700)))
    grid = polar_grid(400, (CORNER[0] + 3500, CORNER[1] - 3500))
    stack = open_stack(scenes, asset="nir", grid=grid, chunks=150)
    images = {}
    for threads in (1, 8):
        with dask.config.set(scheduler="threads", num_workers=threads):
            images[threads] = stack.values[0]
    np.testing.assert_array_equal(images[1].view("u4"), images[8].view("u4"))

    def truth(right: float, down: float) -> np.ndarray:
        back = pyproj.Transformer.from_crs(3413, 32622, always_xy=True)
        return texture(*back.transform(*np.meshgrid(grid.x + 10 * right, grid.y - 10 * down)))

    slopes = (truth(0.05, 0) - truth(-0.05, 0)) / 0.1, (truth(0, 0.05) - truth(0, -0.05)) / 0.1
    difference = images[1] - truth(0, 0)
    for rows, columns in np.ndindex(4, 4):
        window = np.s_[100 * rows : 100 * rows + 100, 100 * columns : 100 * columns + 100]
        design = np.column_stack([slope[window].ravel() for slope in slopes])
        shift = np.linalg.lstsq(design, difference[window].ravel(), rcond=None)[0]
        assert np.abs(shift).max() < 0.002
    assert difference.std() < 0.01 * np.sqrt(np.mean(np.square(slopes)))


def test_a_scene_that_cannot_be_read_is_an_error_and_the_rest_is_there(scenes: tuple[Scene, ...], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tif"
    whole = Path(scenes[2].assets["nir"].href).read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    lost = make_item("lost", {"nir": damaged}, corner=CORNER, time="2020-08-01T00:00:00Z")
    gone = make_item("gone", {"nir": tmp_path / "none.tif"}, corner=CORNER, time="2020-09-01T00:00:00Z")
    stack = open_stack((*scenes, *make_scenes(lost, gone)), asset="nir", settings=StackSettings(attempts=1))
    with pytest.raises((Retry, Stop), match=r"scene lost .*damaged\.tif"):
        stack[2].compute()
    with pytest.raises(Stop, match=r"scene gone .*none\.tif.* is not there"):
        stack[3].compute()
    np.testing.assert_array_equal(stack[:2].values, open_stack(scenes, asset="nir").values)


def test_what_cannot_be_stacked_is_told_before_anything_is_read(scenes: tuple[Scene, ...]) -> None:
    with pytest.raises(Stop, match="no scenes"):
        open_stack((), asset="nir")
    with pytest.raises(Stop, match=r"no asset 'red'.*nir, scl"):
        open_stack(scenes, asset="red")
    with pytest.raises(Stop, match="local_files is off"):
        open_stack(scenes, asset="nir", settings=StackSettings(local_files=False))
    with pytest.raises(Stop, match="off the scenes"):
        open_stack(scenes, asset="nir", area=(0, 0, 1, 1))
    odd = Grid(
        crs=pyproj.CRS("+proj=stere +lat_0=80 +lon_0=7 +datum=WGS84").to_wkt(), resolution=10.0, left=0.0, top=0.0, height=9, width=9
    )
    with pytest.raises(Stop, match="no EPSG code"):
        open_stack(scenes, asset="nir", grid=odd)


def test_names_in_the_graph_follow_what_is_read(scenes: tuple[Scene, ...]) -> None:
    """Dask takes arrays of the same name for the same array."""

    def name(**others: Any) -> str:
        return str(open_stack(scenes, asset="nir", **others).data.name)

    variants: list[dict[str, Any]] = [
        {}, {"mask": "scl"}, {"mask": MaskSettings(asset="scl", grow=1)}, {"settings": StackSettings(rescale=True)},
        {"settings": StackSettings(resampling="cubic")}, {"chunks": 100}, {"grid": GridSettings(resolution=20.0)},
    ]  # fmt: skip
    names = [name(**variant) for variant in variants]
    assert len(set(names)) == len(variants)
    assert names == [name(**variant) for variant in variants]


def test_a_stack_goes_to_other_processes_and_to_disk(scenes: tuple[Scene, ...], tmp_path: Path) -> None:
    stack = open_stack(scenes, asset="nir", mask="scl", chunks=100)
    expected = stack.values
    again = pickle.loads(pickle.dumps(stack))
    np.testing.assert_array_equal(again.values, expected)
    with (
        dask.config.set({"distributed.worker.daemon": True}),
        LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        np.testing.assert_array_equal(stack.compute().values, expected)
        gone = make_scenes(make_item("gone", {"nir": tmp_path / "none.tif"}))
        with pytest.raises(Stop, match=r"scene gone .* is not there"):
            open_stack(gone, asset="nir").compute()
    stack.to_dataset().drop_vars(["image", "platform", "orbit", "scene_ids"]).to_zarr(tmp_path / "stack.zarr", consolidated=False)
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "stack.zarr", consolidated=False)["nir"].values, expected)


def test_opening_reads_no_pixels(tmp_path: Path) -> None:
    scenes = make_scenes(make_item("a", {"nir": tmp_path / "none.tif"}), make_item("b", {"nir": "https://no-such-host.invalid/x.tif"}))
    assert open_stack(scenes, asset="nir").shape[1:] == (200, 200)
