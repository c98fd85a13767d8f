"""The scenes of the benchmarks are what they say, and the commands run on small images."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from benchmarks import accuracy, efficiency, glacier, kernel, peers, report, rock, scale, scenes
from benchmarks.engines import BASELINE, FULL, autorift_core, available_engines, in_threads, scene_each
from benchmarks.memory import write_archive
from benchmarks.suite import season, tiles
from ftrack.cluster import open_client
from ftrack.config import ClusterSettings
from ftrack.cube import open_cube
from ftrack.plan import make_plan


def test_nodes_keep_away_from_the_edges() -> None:
    rows = scenes.nodes(1024)
    assert rows.size == 115
    assert rows[0] >= 50 and rows[-1] <= 1024 - 50
    assert (np.diff(rows) == 8).all()


def test_the_bound_is_that_of_a_plane_wave() -> None:
    """A wave of wavelength L along x has a mean square gradient of 2 (pi / L)^2 and none along y."""
    size, chip, noise, length = 128, 32, 0.1, 16.0
    y, x = np.mgrid[0.5:size, 0.5:size]
    texture = np.sin(2 * np.pi * x / length) + np.sin(2 * np.pi * y / (length / 2))
    scene = scenes.pure_shift(noise, size=size)._replace(texture=texture)
    rows = scenes.nodes(size)
    dx, dy = scenes.shift_bound(scene, chip, rows, rows)
    least = noise * np.sqrt(2) / (chip * np.sqrt(2) * np.pi / length)
    np.testing.assert_allclose(dx, least, rtol=1e-3)
    np.testing.assert_allclose(dy, least / 2, rtol=1e-2)


def test_a_shift_is_measured_against_the_texture_itself() -> None:
    scene = scenes.pure_shift(0.0, (3.0, -2.0), size=128)
    assert np.abs(scene.texture - scene.pair.reference).max() < 1e-6
    assert np.abs(np.roll(scene.texture, (-2, 3), (0, 1)) - scene.pair.secondary).max() < 1e-5
    noisy = scenes.pure_shift(0.3, (3.0, -2.0), size=256)
    assert np.std(noisy.pair.reference - noisy.texture) == pytest.approx(0.3, rel=0.02)


def test_sheared_flow_is_as_described() -> None:
    scene = scenes.sheared_flow(512)
    rows = scenes.nodes(512)
    speed = np.hypot(*scenes.truth_at(scene, rows, rows))
    assert speed.min() < 0.1 and 11.5 < speed.max() <= 12.0
    assert scenes.good_ground(scene, np.arange(512), np.arange(512)).mean() == pytest.approx(0.94, abs=0.02)


def test_real_texture_moves_as_its_truth_says(data_folder: Path) -> None:
    """Read back at the true places, the noise-free secondary lies on the reference to far below 0.01 px, piece by piece."""
    scene = scenes.real_texture(data_folder, noise=0.0)
    size, piece = scene.texture.shape[0], 100
    inner = slice(68, size - 68)
    y, x = (part[inner, inner] for part in np.mgrid[0.5:size, 0.5:size])
    dx, dy = scene.pair.truth(x, y)
    back = map_coordinates(scene.pair.secondary.astype(float), [y + dy - 0.5, x + dx - 0.5], order=5)
    gx, gy = (part[inner, inner] for part in scenes.gradient(scene.texture))
    for top, left in np.ndindex(5, 5):
        at = (slice(top * piece, (top + 1) * piece), slice(left * piece, (left + 1) * piece))
        slopes = np.stack([gx[at].ravel(), gy[at].ravel(), np.ones(piece**2)], 1)
        left_over = np.linalg.lstsq(slopes, (back - scene.texture[inner, inner])[at].ravel(), rcond=None)[0]
        assert np.abs(left_over[:2]).max() < 0.002
    everywhere = scene.pair.truth(*np.meshgrid(np.arange(0.5, size), np.arange(0.5, size)))
    assert np.hypot(*everywhere).max() == pytest.approx(scenes.FASTEST, abs=0.1)


def test_a_figure_is_judged_by_its_limits() -> None:
    assert report.Figure("a", 1.0, at_least=0.9, at_most=1.1).holds is True
    assert report.Figure("a", 1.2, at_least=0.9, at_most=1.1).holds is False
    assert report.Figure("a", 0.8, at_least=0.9).holds is False
    assert report.Figure("a", np.nan, at_most=1.0).holds is False
    assert report.Figure("a", 5.0).holds is None
    assert report.exit_code([report.Figure("a", 5.0), report.Figure("b", 5.0, at_most=6)]) == 0
    assert report.exit_code([report.Figure("b", 7.0, at_most=6)]) == 1


def test_errors_are_counted_against_the_truth() -> None:
    """Vectors made from the truth have no error; moved by 0.5 px they are off by that, and by 2 px they are wrong."""
    scene = scenes.sheared_flow(256)
    rows = scenes.nodes(256)
    motion = np.zeros((8, rows.size, rows.size), np.float32)
    motion[:2] = scenes.truth_at(scene, rows, rows)
    motion[0, 0, 0] += 0.5
    motion[1, 1, 1] -= 2.0
    motion[7, 2, 2] = 4
    errors = accuracy.compare(scene, rows, motion)
    assert errors.dx[0, 0] == pytest.approx(0.5, abs=1e-5)
    assert errors.dy[1, 1] == pytest.approx(-2.0, abs=1e-5)
    assert np.isnan(errors.length[2, 2])
    assert not errors.right[1, 1] and not errors.right[2, 2]
    assert errors.right.sum() == errors.right.size - 2


def test_accuracy_of_a_small_shift_has_all_figures() -> None:
    figures = accuracy.shift_figures(0.1, 32, [(2.4, -1.6)], 256)
    ratio, low, high, measured, wrong = (figure.measured for figure in figures)
    assert 0.5 < ratio < 3.0
    assert 0.5 < low <= high < 2.0
    assert measured == 100.0 and wrong == 0.0


def test_engines_agree_on_sign_and_place() -> None:
    """Every engine finds a shift by (+3, -2) px wherever bands of rows begin; phase correlation without a window is that coarse."""
    pair = scenes.pure_shift(0.05, (3.0, -2.0), size=256).pair
    rows, columns = scenes.nodes(256)[:3], scenes.nodes(256)[1:]
    engines, missing = available_engines()
    assert FULL in engines and "ftrack, parabola" in engines
    for name, engine in engines.items():
        one, two = (in_threads(engine, n, (pair.reference, pair.secondary), rows, columns, (64, 6)) for n in (1, 2))
        assert one.shape == (2, rows.size, columns.size)
        np.testing.assert_array_equal(one, two, err_msg=name)
        np.testing.assert_array_equal(one, scene_each(engine, 2, (pair.reference, pair.secondary), rows, columns, (64, 6)), err_msg=name)
        np.testing.assert_allclose(np.nanmedian(one, axis=(1, 2)), (3.0, -2.0), atol=0.5 if "phase" in name else 0.02, err_msg=name)
    assert set(missing).isdisjoint(engines)


def test_autorift_is_asked_as_it_wants_to_be() -> None:
    """Its grid lies half a pixel before the corner, its first image is the one that is searched, and up is positive."""
    asked: dict[str, object] = {}

    def core(i1, i2, x, y, chip_x, chip_y, limit_x, limit_y, dx0, dy0, fine, steps):  # type: ignore[no-untyped-def]
        asked.update(i1=i1, i2=i2, x=x, y=y, fine=fine)
        assert all(part.dtype == np.float32 for part in (x, y, chip_x, chip_y, limit_x, limit_y, dx0, dy0))
        return np.full(x.shape, 3.0, np.float32), np.full(x.shape, 2.0, np.float32)

    reference, secondary = np.zeros((64, 64), np.float32), np.ones((64, 64), np.float32)
    rows, columns = np.array([24, 32]), np.array([24, 32, 40])
    dx, dy = autorift_core(SimpleNamespace(arImgDisp_s=core), reference, secondary, rows, columns, 16, 4)
    assert asked["i1"] is secondary and asked["i2"] is reference and asked["fine"] is True
    np.testing.assert_array_equal(asked["x"], np.broadcast_to(columns - 0.5, (2, 3)))
    assert (dx == 3.0).all() and (dy == -2.0).all()


def test_a_result_counts_wrong_and_missing_vectors() -> None:
    scene = scenes.pure_shift(0.1, (1.0, 2.0), size=256)
    rows = scenes.nodes(256)
    vectors = np.stack(scenes.truth_at(scene, rows, rows))
    vectors[0] += 0.25
    vectors[1, 0, :4] += 3.0
    vectors[:, 1, :2] = np.nan
    result = peers.judge("x", scene, 32, vectors, {1: 2.0})
    total = rows.size**2
    assert result.rate() == total / 2.0
    assert result.rmse == pytest.approx((0.25, 0.0))
    assert result.measured == pytest.approx((total - 2) / total)
    assert result.wrong == pytest.approx(4 / (total - 2))
    assert peers.share_alike(vectors, vectors) == 1.0
    moved = vectors.copy()
    moved[0, 3, 3] += 0.06
    moved[:, 1, 0] = 1.0
    assert peers.share_alike(vectors, moved) == pytest.approx(1 - 2 / total)


def test_figures_of_speed_are_ratios_in_the_same_run() -> None:
    scene = scenes.pure_shift(0.1, size=256)
    vectors = np.stack(scenes.truth_at(scene, scenes.nodes(256), scenes.nodes(256)))
    seconds: dict[str, peers.Seconds] = {FULL: {1: 1.0, 2: 0.5, peers.SHARED: 0.8}, BASELINE: {1: 9.0, 2: 5.0}}
    results = [peers.judge(name, scene, chip, vectors, seconds[name]) for name in seconds for chip in (32, 64)]
    found = {figure.what: figure for figure in peers.speed_figures(results, {32: {FULL: vectors}})}
    assert [f.measured for f in found.values() if "chip 32, one thread" in f.what and "guided" not in f.what] == [9.0]
    assert [f.holds for f in found.values() if "a scene each" in f.what] == [True, True]
    assert [f.measured for f in found.values() if "one scene shared" in f.what] == [1.25, 1.25]
    assert [f.holds for f in found.values() if "guided" in f.what] == [False, False]


def test_the_timed_loop_forms_the_products_it_counts() -> None:
    """The last band of offsets of the last row of blocks, against plain sums in double precision."""
    side, blocks = kernel.SIDE, 3
    panels, vectors, bands, rows = offsets = kernel.offsets_for(41, 41)
    lanes = vectors * kernel.LANES
    width, reach = blocks * side, blocks * side + panels * lanes
    rng = np.random.default_rng(0)
    r, s = rng.normal(size=(width, width)).astype(np.float32), rng.normal(size=(width + bands * rows, reach)).astype(np.float32)
    sums = np.full(blocks * rows * lanes, np.nan, np.float32)
    kernel._all_products(r.ravel(), s.ravel(), width, reach, side, blocks, offsets, sums)
    assert panels == 1 and bands * rows >= 41 and lanes >= 41
    top, down = (blocks - 1) * side, (bands - 1) * rows
    for j, g, d in np.ndindex(blocks, rows, lanes):
        block, y, x = r[top:, j * side : (j + 1) * side], top + down + g, j * side + d
        plain = (block.astype(float) * s[y : y + side, x : x + side]).sum()
        assert abs(sums.reshape(blocks, rows, lanes)[j, g, d] - plain) < 1e-4


def test_the_loop_by_pairs_of_rows_forms_the_same() -> None:
    side, blocks = kernel.SIDE, 3
    _, vectors, bands, rows = kernel.paired_offsets_for(41, 41)
    lanes, width, top, down = vectors * kernel.LANES, blocks * side, (blocks - 1) * side, (bands - 1) * rows
    rng = np.random.default_rng(0)
    r, s = (rng.normal(size=shape).astype(np.float32) for shape in ((width, width), (width + bands * rows + 1, width + lanes)))
    multiply, sums = kernel.pairs_of(r, s, blocks, 41)
    multiply()
    for j, g, d in np.ndindex(blocks, rows, lanes):
        block, y, x = r[top:, j * side : (j + 1) * side], top + down + g, j * side + d
        plain = (block.astype(float) * s[y : y + side, x : x + side]).sum()
        assert abs(sums.reshape(blocks, rows, lanes)[j, g, d] - plain) < 1e-4


def test_costs_are_per_node() -> None:
    scene = scenes.sheared_flow(256)
    action, count = kernel.measurement(scene, kernel.Variant(spacing=16, radius=5), "parabola")
    assert count == scenes.nodes(256, 16, 56).size ** 2
    assert np.shape(action())[1:] == (scenes.nodes(256, 16, 56).size,) * 2
    costs = {kernel.ALONE: {"parabola": 2.0, "least_squares": 4.0}, kernel.THREE: {"parabola": 3.0, "least_squares": 7.0}}
    ratio, search = kernel.cost_figures(costs)
    assert (ratio.measured, ratio.holds) == (1.75, False)
    assert (search.measured, search.holds) == (1.5, None)


def test_rise_of_memory_is_what_was_allocated() -> None:
    """Also where as much was freed shortly before and the allocator still holds it."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of memory can only be measured on Linux")

    def small_arrays() -> list[np.ndarray]:
        return [np.ones(12_500) for _ in range(2000)]

    assert kernel.rise_of_memory(lambda: np.ones(25_000_000)) == pytest.approx(200, rel=0.03)
    last = small_arrays()[-1]  # keeps the allocator from giving back what lies before it
    assert kernel.rise_of_memory(small_arrays) == pytest.approx(200, rel=0.05)
    assert kernel.rise_of_memory(lambda: None) < 5
    assert last.size


def test_tables_picture_and_json_come_out_of_small_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = scenes.sheared_flow(256)
    engines = {name: engine for name, engine in available_engines()[0].items() if name in (FULL, "ftrack, parabola")}
    vectors, seconds = peers.time_engines(engines, scene, 32, (1, 2), 1)
    results = [peers.judge(name, scene, 32, found, seconds[name]) for name, found in vectors.items()]
    results.append(results[0]._replace(engine=BASELINE))
    peers.show_speed(results, 32)
    peers.show_accuracy(results, scene.name)
    peers.draw(results, tmp_path / "speed.png")
    costs = kernel.cost_table(scene, {kernel.ALONE: kernel.Variant(radius=4), kernel.THREE: kernel.Variant((16, 32), radius=4)}, 1)
    kernel.show_costs(costs)
    figures = [*kernel.arithmetic_figures(blocks=4, rounds=1, order=64), *accuracy.flow_figures(scene)]
    report.show_figures("figures", figures)
    report.write_json(tmp_path / "f.json", {"figures": report.as_records(figures), "results": [peers.as_record(r) for r in results]})
    assert (tmp_path / "speed.png").stat().st_size > 10_000
    kept = json.loads((tmp_path / "f.json").read_text())
    assert kept["versions"]["numpy"] == np.__version__
    assert kept["results"][0]["chips_per_second"]["1"] > 0
    assert len(kept["figures"]) == len(figures)
    assert "over those of sgemm" in capsys.readouterr().out


def test_the_suite_of_small_timings_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "SIZE", 160)
    monkeypatch.setattr(tiles, "NODES", np.arange(64, 97, 8))
    match, clean, prefilter, tile = tiles.Match(), tiles.Clean(), tiles.Prefilter(), tiles.Tile()
    match.setup("32")
    clean.setup()
    for kind in tiles.FILTERS:
        prefilter.setup(kind)
    tile.setup()
    assert match.reference.shape == prefilter.image.shape == tile.images[0].shape == (160, 160)
    assert match.solve.chip_sizes == (32,) and np.isfinite(clean.motion[:2]).all()
    monkeypatch.setattr(season, "SIDE", 3)
    fitted = season.Season()
    fitted.setup()
    fitted.time_fit()
    assert season.seasonal_fit(fitted.velocities)["v_amp"].median() == pytest.approx(100 * np.hypot(1, 0.3), rel=0.05)


def test_a_null_run_is_planned_and_driven_for_real(tmp_path: Path) -> None:
    area = glacier.Area(11.0, 6.0, 0.4)
    listing, output = tmp_path / "items.json", tmp_path / "cube.zarr"
    assert glacier.write_items(listing, area, glacier.NODE) == 2 * 2 * 14
    plan = make_plan(glacier.make_workflow(listing, f"file://{output}", area, null=True))
    assert (len(plan.pairs), plan.tiling.tile_rows, plan.tiling.tile_columns) == (2 * 91, 2, 3)
    assert scale.reads_of(plan)[0] == 1.0 and scale.build_seconds(plan) > 0
    with open_client(ClusterSettings(kind="threads", threads=2)) as client:
        run = scale.drive_null(plan, client, 0)
    assert run["blocks"] == 2 * len(plan.blocks) and 0 < run["tasks"] < 1000
    cube = open_cube(str(output))
    assert int((cube["status"] == 0).sum()) == cube["status"].size
    assert all(count > 8 for count in scale.requests_of_block(plan))


def test_the_time_of_a_run_is_told_apart(tmp_path: Path) -> None:
    listing = write_archive(tmp_path / "archive", 2, 256)
    plan = efficiency.make_case(listing, tmp_path / "cube.zarr", 1, 1)
    with open_client(ClusterSettings(kind="threads", threads=1)) as client:
        found = efficiency.measure_run(plan, client, 1)
    assert 0 < found["busy"] < 1 and found["writing"] > 0 and found["vectors_per_second"] > 0
    digest = 32 * "0"
    kinds = {
        "fit_shifts-1": "late",
        f"('overlap-{digest}', 0)": "cutting",
        "('rechunk-merge-1', 0)": "cutting",
        "('_find_block-1', 0)": "compute",
    }
    assert {key: efficiency.kind_of(key) for key in kinds} == kinds


def test_stated_errors_agree_with_real_rock_and_with_triangles(data_folder: Path) -> None:
    folder = data_folder / "perito-moreno"
    judged = rock.judge(rock.measure(folder, ("20200131", "20200210", "20200220")), folder / "glacier.geojson")
    for figure in rock.figures_of(judged):
        print(figure.what, round(figure.measured, 3))
    assert list(judged.pairs) == ["2020-01-31 to 2020-02-10", "2020-01-31 to 2020-02-20", "2020-02-10 to 2020-02-20"]
    assert judged.formal.stable > 600 and judged.formal.triangles == 1
    assert all(0.9 < ratio < 1.75 for ratio in judged.formal.ratio)
    assert all(0.8 < ratio < 1.25 for ratio in judged.calibrated.ratio)
    assert all(ratio < 1.0 for ratio in judged.formal.closure_ratio)
