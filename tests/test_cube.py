"""The cube: nobody reads half of it, nothing in it is lost or silently wrong, and it opens with plain tools."""

from __future__ import annotations

import json
import math
import shutil
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore, WrapperStore

from ftrack.batches import order_pairs
from ftrack.cube import CubeSpec, create_cube, create_motion, open_cube, publish_cube, read_block, write_block, write_coords
from ftrack.errors import Stop
from ftrack.grid import Grid, grid_of
from ftrack.labels import Image, pair_columns, unique_mid_date
from ftrack.pairs import Pair
from ftrack.schema import CUBE, MOTION, PER_NODE, PER_PAIR, VELOCITY, Status
from ftrack.store import Array, create_array
from ftrack.verify import verify_cube

NODES = Grid(crs="EPSG:3413", resolution=80.0, left=-200040.0, top=-2200040.0, height=10, width=12)
START = datetime(2020, 1, 1, 14, 2, 3, 250000, tzinfo=UTC)


def make_pairs(count: int, step: timedelta = timedelta(days=1)) -> tuple[Pair, ...]:
    times = [START + step * k for k in range(count + 1)]
    return order_pairs(
        [
            Pair(reference=f"S2_{k:04d}", secondary=f"S2_{k + 1:04d}", reference_time=times[k], secondary_time=times[k + 1])
            for k in range(count)
        ]
    )


def make_spec(count: int = 5, nodes: Grid = NODES, chunks: tuple[int, int, int] = (4, 8, 8), **attrs: Any) -> CubeSpec:
    pairs = make_pairs(count)
    images = {name: Image("sentinel-2b", (f"{name}_a", f"{name}_b")) for p in pairs for name in (p.reference, p.secondary)}
    return CubeSpec(nodes=nodes, pairs=pairs, images=images, chunks=chunks, attrs={"run_id": "run-1", **attrs})


def regions(spec: CubeSpec) -> Iterator[tuple[slice, ...]]:
    ranges = [range(0, size, chunk) for size, chunk in zip(spec.shape, spec.chunks, strict=True)]
    for corner in np.array(np.meshgrid(*ranges, indexing="ij")).reshape(3, -1).T.tolist():
        yield tuple(slice(a, min(a + c, n)) for a, c, n in zip(corner, spec.chunks, spec.shape, strict=True))


def values_of(spec: CubeSpec, seed: int = 0) -> dict[str, np.ndarray]:
    """Values that fit together, with all kinds of gaps."""
    rng = np.random.default_rng(seed)
    status = rng.choice([s for s in Status if s != Status.NOT_COMPUTED], spec.shape).astype("uint8")
    gap = np.where(status <= Status.FILLED, 1.0, np.nan)
    floats = {v.name: (rng.standard_normal(spec.shape) * 300 * gap).astype("float32") for v in VELOCITY if v.dtype == "float32"}
    values = {**floats, "status": status, "interp_mask": (status == Status.FILLED).astype("uint8")}
    values["v"] = np.hypot(values["vx"], values["vy"])
    values |= {name: np.abs(values[name]) for name in ("vx_error", "vy_error", "v_error")}
    values["chip_size"] = rng.choice([16, 32, 64], spec.shape).astype("uint16")
    return {v.name: values[v.name] for v in VELOCITY}


def write_cube(url: str, spec: CubeSpec, values: dict[str, np.ndarray], storage_options: Any = None, publish: bool = True) -> None:
    create_cube(url, spec, storage_options)
    for region in regions(spec):
        write_block(url, {name: value[region] for name, value in values.items()}, region, storage_options)
    write_coords(url, spec, {"roi_valid_percentage": share(values)}, {"stable": np.ones(spec.shape[1:])}, storage_options)
    if publish:
        publish_cube(url, spec, {"status_counts": count(values)}, storage_options)


def share(values: dict[str, np.ndarray]) -> np.ndarray:
    return 100 * (values["status"] == Status.MEASURED).mean(axis=(1, 2))


def count(values: dict[str, np.ndarray]) -> dict[str, int]:
    found = Counter(values["status"].ravel().tolist())
    return {s.name.lower(): found[s] for s in Status if found[s]}


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def whole_cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "cube.zarr"
    write_cube(str(folder), make_spec(), values_of(make_spec()))
    return folder


@pytest.fixture
def cube(whole_cube: Path, tmp_path: Path) -> tuple[str, CubeSpec, dict[str, np.ndarray]]:
    shutil.copytree(whole_cube, tmp_path / "cube.zarr")
    return str(tmp_path / "cube.zarr"), make_spec(), values_of(make_spec())


# what was written is what is read


def test_everything_that_was_written_is_read_back(cube: Any) -> None:
    url, spec, values = cube
    opened = open_cube(url)
    for variable in VELOCITY:
        np.testing.assert_array_equal(opened[variable.name].values, values[variable.name])
        assert opened[variable.name].dtype == variable.dtype
        assert opened[variable.name].dims == variable.dims
        assert opened[variable.name].data.chunksize == spec.chunks
    assert {v.name for v in (*PER_PAIR, *PER_NODE)} <= set(opened.data_vars)
    np.testing.assert_array_equal(opened.mid_date.values, spec.mid_date)
    assert opened.mid_date.dtype == "datetime64[us]"
    np.testing.assert_array_equal(opened.x.values, NODES.x)
    np.testing.assert_array_equal(opened.y.values, NODES.y)
    for name, column in pair_columns(spec.pairs, spec.images).items():
        np.testing.assert_array_equal(opened[name].values, column)
    np.testing.assert_allclose(opened.roi_valid_percentage, share(values), rtol=1e-6)
    assert opened.stable.dtype == "uint8"
    assert opened.satellite_img1.values.tolist() == ["2B"] * 5
    assert opened.scene_ids_img2.values[0] == f"{opened.image_id_img2.values[0]}_a {opened.image_id_img2.values[0]}_b"
    assert np.isnan(opened.vx_stable_shift.values).all()
    assert opened.stable_shift_flag.values.tolist() == [255] * 5


@pytest.mark.parametrize("consolidated", [True, False, None])
def test_plain_xarray_opens_it_with_the_same_types_and_no_warning(cube: Any, consolidated: bool | None) -> None:
    url, _, values = cube
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("default", category=PendingDeprecationWarning)
        opened = xr.open_zarr(url, consolidated=consolidated)
        opened.load()
    types = {
        name: str(opened[name].dtype) for name in ("vx", "v_error", "status", "interp_mask", "chip_size", "stable", "stable_shift_flag")
    }
    assert types == {
        "vx": "float32",
        "v_error": "float32",
        "status": "uint8",
        "interp_mask": "uint8",
        "chip_size": "uint16",
        "stable": "uint8",
        "stable_shift_flag": "uint8",
    }
    np.testing.assert_array_equal(opened.status.values, values["status"])
    assert np.issubdtype(opened.mid_date.dtype, np.datetime64)
    assert np.issubdtype(opened.acquisition_date_img1.dtype, np.datetime64)
    assert opened.image_id_img1.values[0] == "S2_0000"


def test_the_crs_is_found_and_survives_arithmetic(cube: Any) -> None:
    opened = open_cube(cube[0])
    for array in (opened, opened.vx, opened.vx * 2, opened.v.mean("mid_date")):
        assert array.rio.crs.to_epsg() == 3413
    assert opened.rio.transform() == NODES.transform
    assert grid_of(opened) == NODES
    plain = xr.open_zarr(cube[0])
    assert plain.mapping.attrs["spatial_epsg"] == 3413
    assert "+proj=stere" in plain.mapping.attrs["proj4text"]
    assert plain.mapping.attrs["grid_mapping_name"] == "polar_stereographic"
    assert plain.vx.attrs["grid_mapping"] == "mapping"


def test_the_whole_cube_can_be_masked_and_tabulated(cube: Any) -> None:
    opened = open_cube(cube[0])
    kept = opened.where(opened.date_dt > 0.5)
    np.testing.assert_array_equal(kept.vx.values, opened.vx.values)
    assert kept.image_id_img1.values.tolist() == opened.image_id_img1.values.tolist()
    table = opened.isel(x=3, y=4).drop_dims("bnds").to_dataframe()
    assert table.satellite_img1.tolist() == ["2B"] * 5


def test_it_says_what_it_is(cube: Any) -> None:
    opened = open_cube(cube[0])
    attrs = opened.attrs
    assert attrs["Conventions"] == "CF-1.11"
    assert (attrs["map_scale_corrected"], attrs["days_per_year"], attrs["projection"], attrs["run_id"]) == (1, 365.25, "3413", "run-1")
    assert {"author", "title", "institution", "url", "source", "ftrack_version", "algorithm_version"} <= set(attrs)
    assert attrs["spatial:transform"] == list(NODES.transform)[:6]
    assert attrs["spatial:shape"] == [10, 12]
    assert attrs["spatial:bbox"] == list(NODES.bounds)
    assert attrs["proj:code"] == "EPSG:3413"
    assert [c["name"] for c in attrs["zarr_conventions"]] == ["proj", "spatial"]
    assert 69 < attrs["latitude"] < 70.5 and -51 < attrs["longitude"] < -50
    assert opened.vx.attrs["units"] == "meter/year"
    assert opened.vx.attrs["standard_name"] == "land_ice_surface_x_velocity"
    assert "standard_name" not in opened.v.attrs
    meanings = dict(zip(opened.status.attrs["flag_values"], opened.status.attrs["flag_meanings"].split(), strict=True))
    assert meanings == {int(s): s.name.lower() for s in Status}
    assert opened.mid_date.encoding["bounds"] == "time_bnds"
    np.testing.assert_array_equal(opened.time_bnds.values[:, 1], opened.acquisition_date_img2.values)


def test_the_users_words_win_in_the_attributes(tmp_path: Path) -> None:
    spec = make_spec(1, author="A. Glaciologist", workflow="name: test\n")
    write_cube(str(tmp_path / "c.zarr"), spec, values_of(spec))
    attrs = open_cube(str(tmp_path / "c.zarr")).attrs
    assert (attrs["author"], attrs["workflow"]) == ("A. Glaciologist", "name: test\n")


def test_xarray_can_write_it_again(cube: Any, tmp_path: Path) -> None:
    opened = open_cube(cube[0])
    opened.to_zarr(tmp_path / "again.zarr")
    assert open_cube(str(tmp_path / "again.zarr")).identical(opened)


# writing


def test_writing_twice_in_any_order_gives_the_same_bytes(tmp_path: Path) -> None:
    spec = make_spec()
    values = values_of(spec)
    write_cube(str(tmp_path / "a"), spec, values)
    before = files_below(tmp_path / "a")
    write_cube(str(tmp_path / "a"), spec, values)
    assert files_below(tmp_path / "a") == before
    create_cube(str(tmp_path / "b"), spec)
    for region in reversed(list(regions(spec))):
        write_block(str(tmp_path / "b"), {name: value[region] for name, value in reversed(values.items())}, region)
    for key, content in files_below(tmp_path / "b").items():
        assert before[key] == content


def test_blocks_are_written_by_threads_at_once(tmp_path: Path) -> None:
    spec, url = make_spec(5, chunks=(4, 4, 4)), str(tmp_path / "c.zarr")
    values = values_of(spec)
    create_cube(url, spec)
    parts = list(regions(spec))
    workers = [
        threading.Thread(target=lambda mine: [write_block(url, {n: v[r] for n, v in values.items()}, r) for r in mine], args=(parts[k::4],))
        for k in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    whole = tuple(slice(0, n) for n in spec.shape)
    read = read_block(url, list(values), whole)
    for name, value in values.items():
        np.testing.assert_array_equal(read[name], value)


def test_a_block_of_nothing_but_gaps_is_written(tmp_path: Path) -> None:
    spec, url = make_spec(), str(tmp_path / "c.zarr")
    create_cube(url, spec)
    region = next(regions(spec))
    write_block(url, {"vx": np.full((4, 8, 8), np.nan, "float32"), "status": np.full((4, 8, 8), 255, "uint8")}, region)
    assert (tmp_path / "c.zarr/vx/c/0/0/0").exists()
    assert (tmp_path / "c.zarr/status/c/0/0/0").exists()


@settings(max_examples=40)
@given(st.tuples(*[st.tuples(st.sampled_from([0, 4, 8, -1, 3]), st.sampled_from([4, 5, 8, 10, 12, 7, 13])) for _ in range(3)]))
@example(((0, 3), (0, 8), (0, 8)))
@example(((0, 4), (0, 8), (8, 11)))
@example(((4, 5), (8, 10), (8, 12)))
def test_only_whole_chunks_can_be_written(tmp_path_factory: pytest.TempPathFactory, edges: tuple[tuple[int, int], ...]) -> None:
    spec, url = make_spec(), str(tmp_path_factory.mktemp("motion"))
    create_array(url, Array("vx", CUBE, spec.shape, spec.chunks, "float32", float("nan"), {}))
    region = tuple(slice(a, b) for a, b in edges)
    whole = all(
        0 <= s.start < s.stop <= n and s.start % c == 0 and (s.stop % c == 0 or s.stop == n)
        for s, c, n in zip(region, spec.chunks, spec.shape, strict=True)
    )
    values = {"vx": np.zeros([max(0, s.stop - s.start) for s in region], "float32")}
    if whole:
        write_block(url, values, region)
        np.testing.assert_array_equal(read_block(url, ["vx"], region)["vx"], values["vx"])
        return
    with pytest.raises(Stop, match="whole chunks"):
        write_block(url, values, region)
    assert not list(Path(url).glob("vx/c/**/*"))


def test_a_block_that_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    spec, url = make_spec(), str(tmp_path / "c.zarr")
    create_cube(url, spec)
    region = next(regions(spec))
    good = np.zeros((4, 8, 8), "float32")
    for bad, text in ((good.astype("float64"), "takes float32"), (good[:3], "of shape")):
        with pytest.raises(Stop, match=text):
            write_block(url, {"vx": good, "vy": bad}, region)
    with pytest.raises(Stop, match="is not there"):
        write_block(url, {"vx": good, "speed": good}, region)
    assert not list(Path(url).glob("*/c/**/*"))
    with pytest.raises(Stop, match="known: "):
        write_coords(url, spec, {"vx_shift": np.zeros(5)})
    with pytest.raises(Stop, match="of shape"):
        write_coords(url, spec, {"vx_stable_shift": np.zeros(4)})


def test_motion_is_kept_between_matching_and_velocity(tmp_path: Path) -> None:
    spec, url = make_spec(), str(tmp_path / "motion")
    create_motion(url, spec)
    rng = np.random.default_rng(0)
    values = {v.name: rng.uniform(0, 9, spec.shape).astype(v.dtype) for v in MOTION}
    parts = list(regions(spec))
    for region in parts[:-1]:
        write_block(url, {name: value[region] for name, value in values.items()}, region)
    some = (slice(1, 3), slice(3, 10), slice(0, 12))
    for name, value in read_block(url, list(values), some).items():
        np.testing.assert_array_equal(value, values[name][some])
    missing = (slice(0, 5), slice(0, 10), slice(0, 12))
    with pytest.raises(Stop, match="1 chunks were never written, the first is c/1/1/1"):
        read_block(url, ["dx"], missing)
    read = read_block(url, ["dx", "status"], missing, allow_missing=True)
    assert np.isnan(read["dx"][4, 8:, 8:]).all()
    assert (read["status"][4, 8:, 8:] == Status.NOT_COMPUTED).all()


def test_a_place_that_holds_another_cube_is_refused(cube: Any) -> None:
    url, spec, _ = cube
    create_cube(url, spec)
    with pytest.raises(Stop, match="another run"):
        create_cube(url, replace(spec, attrs={"run_id": "run-2"}))
    Path(url, "zarr.json").unlink()
    with pytest.raises(Stop, match="holds another"):
        create_cube(url, make_spec(6))


def test_impossible_cubes_are_refused() -> None:
    with pytest.raises(Stop, match="holds nothing"):
        make_spec(0)
    with pytest.raises(Stop, match="there twice"):
        CubeSpec(nodes=NODES, pairs=make_pairs(2) + make_pairs(2))


def test_pairs_may_be_stored_in_any_order_and_are_read_in_that_of_their_dates(tmp_path: Path) -> None:
    spec, url = replace(make_spec(), pairs=make_pairs(5)[::-1]), str(tmp_path / "c.zarr")
    values = values_of(spec)
    write_cube(url, spec, values)
    opened, stored = open_cube(url), open_cube(url, in_order=False)
    np.testing.assert_array_equal(opened["mid_date"], np.sort(spec.mid_date))
    np.testing.assert_array_equal(opened["vx"], values["vx"][::-1])
    np.testing.assert_array_equal(stored["mid_date"], spec.mid_date)
    np.testing.assert_array_equal(stored["vx"], values["vx"])
    xr.testing.assert_identical(stored.isel(x=3).sortby("mid_date").load(), opened.isel(x=3).load())
    assert verify_cube(url).problems == ()


# publishing


def test_before_publication_nobody_can_open_it(tmp_path: Path) -> None:
    spec, url = make_spec(), str(tmp_path / "c.zarr")
    with pytest.raises(Stop, match="not a published cube"):
        open_cube(url)
    write_cube(url, spec, values_of(spec), publish=False)
    for consolidated in (True, False, None):
        with pytest.raises(FileNotFoundError):
            xr.open_zarr(url, consolidated=consolidated)
        with pytest.raises(Stop, match="not a published cube"):
            open_cube(url, consolidated=consolidated)
    for asked in (open_cube, verify_cube):
        with pytest.raises(Stop, match="not a published cube"):
            asked(tmp_path / "c.zarr")
    assert not (tmp_path / "c.zarr/zarr.json").exists()


def test_another_zarr_store_is_told_apart(tmp_path: Path) -> None:
    xr.Dataset({"vx": ("x", np.zeros(3))}).to_zarr(tmp_path / "other.zarr")
    with pytest.raises(Stop, match="not a cube of ftrack"):
        open_cube(str(tmp_path / "other.zarr"))


def test_publishing_needs_every_array_and_attributes_that_are_json(cube: Any) -> None:
    url, spec, _ = cube
    for bad in (np.array([1.0]), float("nan")):
        with pytest.raises(Stop, match="JSON"):
            publish_cube(url, spec, {"mean": bad})
    Path(url, "vy/zarr.json").unlink()
    with pytest.raises(Stop, match="no array 'vy'"):
        publish_cube(url, spec)


def test_a_reader_sees_an_error_or_the_whole_cube(tmp_path: Path) -> None:
    spec, url = make_spec(), str(tmp_path / "c.zarr")
    values = values_of(spec)
    writer = threading.Thread(target=write_cube, args=(url, spec, values))
    writer.start()
    errors, seen = 0, 0
    while writer.is_alive() or not seen:
        try:
            opened = open_cube(url)
        except Stop:
            errors += 1
            continue
        seen += 1
        for name, value in values.items():
            np.testing.assert_array_equal(opened[name].values, value)
        break
    writer.join()
    assert errors and seen


# reading


class Counting(WrapperStore[Any]):
    """Counts the objects that are read."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.keys: list[str] = []

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        self.keys.append(key)
        return await self._store.get(key, prototype, byte_range)


def test_a_point_series_touches_few_chunks(tmp_path: Path) -> None:
    spec, url = make_spec(200, replace(NODES, height=16, width=16), chunks=(64, 8, 8)), str(tmp_path / "c.zarr")
    values = values_of(spec)
    create_cube(url, spec)
    for region in regions(spec):
        write_block(url, {name: values[name][region] for name in ("vx", "vy", "v_error", "status")}, region)
    write_coords(url, spec)
    publish_cube(url, spec)
    store = Counting(LocalStore(url, read_only=True))
    opened = xr.open_zarr(store, chunks={})
    store.keys.clear()
    point = opened[["vx", "vy", "v_error", "status"]].isel(x=13, y=7).compute()
    touched = Counter(key.split("/")[0] for key in store.keys)
    assert {name: touched[name] for name in point.data_vars} == dict.fromkeys(point.data_vars, math.ceil(200 / 64))
    np.testing.assert_array_equal(point.vx, values["vx"][:, 7, 13])


# verification


def test_a_whole_cube_has_no_problems(cube: Any) -> None:
    url, spec, values = cube
    report = verify_cube(url)
    assert report.problems == ()
    assert report.ok
    assert report.shape == spec.shape
    assert report.counts == count(values)
    assert report.chunks == 8 * len(VELOCITY) + len(PER_PAIR) + 4 * len(PER_NODE) + 5


def test_every_flipped_bit_is_found(cube: Any) -> None:
    url, _, _ = cube
    rng = np.random.default_rng(1)
    chunks = [p for p in sorted(Path(url).rglob("*")) if p.is_file() and p.name != "zarr.json"]
    missed = []
    for _ in range(200):
        path = chunks[rng.integers(len(chunks))]
        good = path.read_bytes()
        bit = int(rng.integers(8 * len(good)))
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        name, _, key = str(path.relative_to(url)).partition("/c")
        path.write_bytes(bytes(bad))
        with pytest.raises(Stop, match="damaged"):
            region = tuple(slice(0, n) for n in json.loads(Path(url, name, "zarr.json").read_text())["shape"])
            missed.append(read_block(url, [name], region) and (name, key, bit))
        path.write_bytes(good)
    assert missed == []
    assert verify_cube(url).ok


def test_verification_names_the_damaged_chunk(cube: Any) -> None:
    url, _, _ = cube
    for name in ("vx/c/1/0/1", "mid_date/c/0", "scene_ids_img1/c/0", "scale_factor/c/0/0", "mapping/c"):
        path = Path(url, name)
        good = path.read_bytes()
        path.write_bytes(good[:-5] + bytes([good[-5] ^ 16]) + good[-4:])
        problems = verify_cube(url).problems
        assert any(problem.startswith(f"{name.split('/')[0]}:") and "damaged" in problem for problem in problems), problems
        path.write_bytes(good[: len(good) // 2])
        assert not verify_cube(url).ok
        path.write_bytes(good)
    assert verify_cube(url).ok


def test_verification_finds_missing_and_strange_objects(cube: Any) -> None:
    url, _, _ = cube
    chunk = Path(url, "vy/c/0/1/0")
    content = chunk.read_bytes()
    chunk.unlink()
    assert verify_cube(url).problems[0] == "vy: 1 of 8 chunks are missing, the first is c/0/1/0"
    chunk.write_bytes(content)
    Path(url, "vy/c/0/1/0.0123.partial").write_bytes(b"a writer that was killed")
    assert verify_cube(url).ok
    Path(url, "vy/c/2/0").mkdir(parents=True)
    Path(url, "vy/c/2/0/0").write_bytes(content)
    assert any("do not belong" in problem for problem in verify_cube(url).problems)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda v, b: v["vx"].__setitem__(b["gap"], 1.0), "vx: a value where status says there is none"),
        (lambda v, b: v["vy"].__setitem__(b["measured"], np.nan), "vy: a value where"),
        (lambda v, b: v["v"].__setitem__(b["measured"], 1e6), "not the length"),
        (lambda v, b: v["status"].__setitem__(b["gap"], 77), "number without a meaning"),
        (lambda v, b: v["interp_mask"].__setitem__(b["measured"], 1), "interp_mask"),
        (lambda v, b: v["vx_error"].__setitem__(b["measured"], -1), "negative"),
        (lambda v, b: [v["status"].__setitem__(b["gap"], 255), v["interp_mask"].__setitem__(b["gap"], 255)], "never computed"),
        (lambda v, b: v["status"].__setitem__(b["gap"], Status.EDGE), "status_counts says"),
    ],
)
def test_verification_finds_contradictions(tmp_path: Path, change: Any, text: str) -> None:
    spec, url = make_spec(2, replace(NODES, height=8, width=8)), str(tmp_path / "c.zarr")
    values = values_of(spec)
    values["status"][0, 0, 0] = Status.OUTLIER
    for name in ("vx", "vy", "v", "vx_error", "vy_error", "v_error"):
        values[name][0, 0, 0] = np.nan
    values["interp_mask"][0, 0, 0] = 0
    attrs = {"status_counts": count(values)}
    change(values, {"gap": (0, 0, 0), "measured": tuple(np.argwhere(values["status"] == Status.MEASURED)[0])})
    write_cube(url, spec, values, publish=False)
    publish_cube(url, spec, attrs)
    problems = verify_cube(url).problems
    assert any(text in problem for problem in problems), problems


def test_verification_finds_dates_and_metadata_that_do_not_fit(cube: Any) -> None:
    url, spec, _ = cube
    dates = spec.mid_date.astype("int64")
    for wrong, text in (
        (dates[::-1], "not in the middle"),
        (dates[[0, 0, 2, 3, 4]], "there twice"),
        (dates + 5 * 10**6, "not in the middle"),
    ):
        write_block(url, {"mid_date": wrong.copy()}, (slice(0, 5),))
        assert any(text in problem for problem in verify_cube(url).problems)
    write_block(url, {"mid_date": dates}, (slice(0, 5),))
    assert verify_cube(url).ok
    root = json.loads(Path(url, "zarr.json").read_text())
    del root["consolidated_metadata"]["metadata"]["v_error"]
    Path(url, "zarr.json").write_text(json.dumps(root))
    assert "v_error: missing in the root metadata" in verify_cube(url).problems


# dates


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), min_size=1, max_size=30, unique=True), st.randoms())
def test_dates_are_unique_and_do_not_depend_on_the_order(spans: list[tuple[int, int]], random: Any) -> None:
    pairs = [
        Pair(
            reference=f"i{a}",
            secondary=f"i{a + b}",
            reference_time=START + timedelta(days=a),
            secondary_time=START + timedelta(days=a + b),
        )
        for a, b in spans
    ]
    dates = unique_mid_date(pairs)
    assert dates.dtype == "datetime64[us]"
    assert np.unique(dates).size == len(pairs)
    shuffled = random.sample(range(len(pairs)), len(pairs))
    np.testing.assert_array_equal(unique_mid_date([pairs[k] for k in shuffled]), dates[shuffled])
    true = np.array([p.mid_date.replace(tzinfo=None) for p in pairs], "datetime64[us]")
    assert np.all(np.abs(dates - true) < np.timedelta64(1, "s"))
    assert np.all(np.diff(unique_mid_date(order_pairs(pairs))) > np.timedelta64(0, "us"))


def test_dates_are_the_same_in_every_process_and_collisions_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_pairs(1)
    assert str(unique_mid_date(pair)[0]) == "2020-01-02T02:02:03.608145"
    monkeypatch.setattr("ftrack.labels.TOKENS", 4)
    same = [replace(pair[0], reference=name) for name in "dcba"]
    dates = unique_mid_date(same)
    assert np.unique(dates).size == 4
    for order in permutations(range(4)):
        np.testing.assert_array_equal(unique_mid_date([same[k] for k in order]), dates[list(order)])


# object storage


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, Any]]:
    s3fs = pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "key": "test",
        "secret": "test",
        "client_kwargs": {"endpoint_url": f"http://{host}:{port}", "region_name": "us-west-2"},
        "skip_instance_cache": True,
    }
    s3fs.S3FileSystem(**options).mkdir("cubes")
    yield {k: v for k, v in options.items() if k != "skip_instance_cache"}
    server.stop()


def test_the_same_cube_on_object_storage(tmp_path: Path, bucket: dict[str, Any]) -> None:
    local, spec = str(tmp_path / "c.zarr"), make_spec(2, replace(NODES, height=8, width=10))
    values = values_of(spec)
    write_cube(local, spec, values)
    url = "s3://cubes/a/cube.zarr"
    write_cube(url, spec, values, bucket, publish=False)
    with pytest.raises(Stop, match="not a published cube"):
        open_cube(url, bucket)
    publish_cube(url, spec, {"status_counts": count(values)}, bucket)
    opened = open_cube(url, bucket)
    assert opened.identical(open_cube(local))
    assert opened.rio.crs.to_epsg() == 3413
    xr.testing.assert_identical(xr.open_zarr(url, storage_options=bucket).load(), xr.open_zarr(local).load())
    report = verify_cube(url, bucket)
    assert report.ok and report.counts == count(values)


def test_object_storage_that_cannot_be_used_is_told(bucket: dict[str, Any]) -> None:
    with pytest.raises(Stop, match="not a published cube"):
        open_cube("s3://cubes/nothing.zarr", bucket)
    with pytest.raises(Stop):
        create_cube("s3://no-such-bucket/c.zarr", make_spec(), bucket)
