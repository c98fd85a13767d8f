"""The command line: every command on a small simulated archive, and every bad request as one clear message."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from pyproj import Transformer
from typer.testing import CliRunner, Result

from ftrack import console
from ftrack.cli import app
from ftrack.cube import open_cube
from ftrack.demo import demo_workflow
from ftrack.grid import grid_of
from ftrack.run import Event
from ftrack.synthetic import TINY, Archive, simulate_archive

COMMANDS = (
    "init",
    "search",
    "plan",
    "run",
    "show",
    "verify",
    "compare",
    "demo",
    "submit",
    "jobs",
    "status",
    "logs",
    "cancel",
    "resume",
    "reap",
    "doctor",
)


def ftrack(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result) -> str:
    """Return the message of a command that refused its request: one message, no traceback, code 2."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert result.output.count("error:") == 1
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return simulate_archive(tmp_path_factory.mktemp("archive"), TINY)


@pytest.fixture(scope="module")
def made(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Result]:
    """Return a workflow file, its cube, and what the run said."""
    folder = tmp_path_factory.mktemp("run")
    file = demo_workflow(archive, folder)
    result = ftrack("run", file, "--cluster", "threads", "--set", "run.tile=128")
    return file, folder / "velocity.zarr", result


@pytest.fixture
def file(archive: Archive, tmp_path: Path) -> Path:
    return demo_workflow(archive, tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command: str) -> None:
    result = ftrack(command, "--help")
    assert result.exit_code == 0
    assert f"Example: ftrack {command}" in " ".join(result.output.split())


def test_init_writes_a_workflow_that_can_be_read_and_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    assert ftrack("init", path).exit_code == 0
    assert "#" in path.read_text()
    assert "already there" in refused(ftrack("init", path))
    assert ftrack("init", path, "--force").exit_code == 0


def test_search_lists_every_scene_in_full(archive: Archive, file: Path, tmp_path: Path) -> None:
    result = ftrack("search", file, "--map", tmp_path / "map.png")
    assert result.exit_code == 0, result.output
    for scene in archive.scenes:
        assert any(scene.id in line and f"{scene.time:%Y-%m-%d %H:%M}" in line for line in result.output.splitlines())
    assert "4 scenes (2 sentinel-2a, 2 sentinel-2b) of 4 passes" in result.output
    assert (tmp_path / "map.png").stat().st_size > 10_000


def test_search_works_without_a_workflow(archive: Archive) -> None:
    by_option = ftrack("search", "--catalog", archive.collection, "--dates", "2021-05-01/2021-05-10")
    assert by_option.exit_code == 0 and "2 scenes" in by_option.output
    assert "4 scenes" in ftrack("search", archive.collection).output


def test_search_options_come_before_the_workflow(file: Path) -> None:
    assert "1 scene (" in ftrack("search", file, "--dates", "2021-05-03").output
    assert "2 scenes" in ftrack("search", file, "--set", "scenes.dates=2021-05-01/2021-05-10").output


def test_a_search_that_finds_nothing_says_which_condition_left_nothing(archive: Archive) -> None:
    assert "dates" in refused(ftrack("search", archive.collection, "--dates", "1999"))
    assert "area" in refused(ftrack("search", archive.collection, "--area", "10,10,11,11"))
    assert "--catalog" in refused(ftrack("search"))


def test_a_plan_names_pairs_blocks_memory_and_bytes(file: Path, tmp_path: Path) -> None:
    result = ftrack("plan", file, "--network", tmp_path / "network.png")
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    for expected in (
        "pairs",
        "5 to 10 days",
        "256 x 256 pixels of 10 m, EPSG:32622",
        "every 80 m (8 px)",
        "blocks",
        "memory",
        "to read",
        "to write",
    ):
        assert expected in words
    assert (tmp_path / "network.png").stat().st_size > 10_000
    assert not (tmp_path / "velocity.zarr").exists() and not (tmp_path / "velocity.zarr.run").exists()


def test_a_plan_as_json_can_be_read_by_a_program(file: Path) -> None:
    result = ftrack("plan", file, "--json", "--set", "pairs.max_days=5")
    plan = json.loads(result.stdout)
    assert plan["pairs"] == 3 and plan["blocks"] >= 1 and plan["memory"]["block"] > 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("matcher.spacin=16", "did you mean 'spacing'"),
        ("matcher.spacing", "key.sub=value"),
        ("matcher.spacing=-3", "matcher.spacing"),
        ("scenes.asset=red", "nir"),
        ("scenes.area=[10, 10, 11, 11]", "area"),
        ("scenes.dates=2021-05-03", "pair"),
        ("scenes.catalog=/nowhere/at/all.json", "/nowhere/at/all.json"),
        ("matcher.chip_sizes=[512]", "chip"),
        ("cluster.memory=300MB", "memory"),
    ],
)
def test_an_impossible_request_is_refused_before_anything_starts(file: Path, change: str, expected: str) -> None:
    for command in ("plan", "run"):
        assert expected in refused(ftrack(command, file, "--set", change))
    assert not list(file.parent.glob("velocity.zarr*"))


def test_a_missing_or_malformed_workflow_is_refused(file: Path) -> None:
    assert "ftrack init" in refused(ftrack("plan", file.with_name("none.yaml")))
    file.write_text("scenes: [1, 2\nname: x\n")
    assert "line 2" in refused(ftrack("plan", file))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in refused(ftrack("demo", "--folder", tmp_path / "file" / "below", "--size", "256", "--scenes", "2"))
    assert "cannot be written" in refused(ftrack("init", tmp_path / "none" / "w.yaml"))


def test_debug_shows_where_an_error_arose(file: Path) -> None:
    result = ftrack("--debug", "plan", file.with_name("none.yaml"))
    assert result.exit_code == 1 and isinstance(result.exception, ValueError)


def test_a_run_makes_a_cube_and_runs_again_without_work(made: tuple[Path, Path, Result]) -> None:
    file, cube, result = made
    assert result.exit_code == 0, result.output
    assert f"cube: {cube}" in result.output and "of 4 blocks" in result.output and "blocks/" in result.stderr
    assert np.isfinite(open_cube(str(cube))["v"].values).mean() > 0.5
    again = ftrack("run", file, "--cluster", "threads", "--set", "run.tile=128")
    assert again.exit_code == 0 and "nothing to do" in again.output


def test_an_output_that_holds_another_plan_is_left_alone(made: tuple[Path, Path, Result]) -> None:
    file, cube, _ = made
    before = (cube / "zarr.json").read_bytes()
    assert "another" in refused(ftrack("run", file, "--cluster", "threads", "--set", "matcher.search_radius=10"))
    assert (cube / "zarr.json").read_bytes() == before


def test_an_unknown_cluster_is_refused(file: Path) -> None:
    assert "'moon': give local, threads, gateway" in refused(ftrack("run", file, "--cluster", "moon"))


def test_show_draws_map_series_and_quality(made: tuple[Path, Path, Result], tmp_path: Path) -> None:
    opened = open_cube(str(made[1]))
    x, y = float(opened.x[16]), float(opened.y[16])
    result = ftrack("show", made[1], "--point", f"{x},{y}", "--pair", "0", "--quality", "--log", "--out", tmp_path / "v.png")
    assert result.exit_code == 0, result.output
    for name in ("v.png", "v-series.png", "v-quality.png"):
        assert (tmp_path / name).stat().st_size > 10_000


def test_the_season_is_drawn_and_written_and_what_is_lacking_is_told(made: tuple[Path, Path, Result], tmp_path: Path) -> None:
    result = ftrack("season", made[1], tmp_path / "season.png", tmp_path / "season.tif")
    assert result.exit_code == 0, result.output
    assert "no trend, no season" in result.output
    for name in ("season.png", "season.tif"):
        assert (tmp_path / name).stat().st_size > 10_000
    assert "written as .tif, or drawn as .png" in refused(ftrack("season", made[1], tmp_path / "season.csv"))


def test_a_point_may_be_given_in_degrees(made: tuple[Path, Path, Result], tmp_path: Path) -> None:
    opened = open_cube(str(made[1]))
    lon, lat = Transformer.from_crs(grid_of(opened).crs, "EPSG:4326", always_xy=True).transform(float(opened.x[16]), float(opened.y[16]))
    result = ftrack("show", made[1], "--point", f"{lon},{lat}", "--every", "5", "--out", tmp_path / "v.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "v-series.png").exists()


def test_what_cannot_be_shown_is_refused(made: tuple[Path, Path, Result], tmp_path: Path) -> None:
    cube = made[1]
    assert "there is no pair 99" in refused(ftrack("show", cube, "--pair", "99"))
    assert "outside the cube" in refused(ftrack("show", cube, "--point", "0,0"))
    assert "x,y" in refused(ftrack("show", cube, "--point", "somewhere"))
    assert "of which place" in refused(ftrack("show", cube, "--every", "month"))
    assert "of which place" in refused(ftrack("export", cube, tmp_path / "v.tif", "--every", "month"))
    assert "cannot be written" in refused(ftrack("show", cube, "--out", tmp_path / "v.xyz"))
    assert "not a published cube" in refused(ftrack("show", tmp_path))


def test_compare_judges_cubes_and_says_how_far_they_differ(made: tuple[Path, Path, Result]) -> None:
    result = ftrack("compare", made[1], made[1])
    assert result.exit_code == 0, result.output
    assert "vectors on stable ground" in result.output and "what does not close" in result.output
    assert f"Less {made[1]}" in " ".join(result.output.split()) and "+0.00, +0.00 m" in result.output
    assert "Less" not in ftrack("compare", made[1]).output
    assert "not a published cube" in refused(ftrack("compare", made[1], made[1].with_name("none.zarr")))


def test_verify_finds_a_whole_cube_whole_and_a_damaged_one_damaged(made: tuple[Path, Path, Result], tmp_path: Path) -> None:
    whole = ftrack("verify", made[1])
    assert whole.exit_code == 0 and "the cube is whole" in whole.output and "measured" in whole.output
    copy = tmp_path / "copy.zarr"
    shutil.copytree(made[1], copy)
    chunk = next(path for path in sorted((copy / "vx" / "c").rglob("*")) if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(bytes(content))
    damaged = ftrack("verify", copy)
    assert damaged.exit_code == 1 and "vx" in damaged.output
    chunk.unlink()
    assert "missing" in ftrack("verify", copy).output


def test_an_unreadable_scene_fails_its_blocks_and_a_second_run_takes_them_up(tmp_path: Path) -> None:
    archive = simulate_archive(tmp_path / "archive", TINY)
    file = demo_workflow(archive, tmp_path)
    image = archive.folder / f"{archive.scenes[1].id}_nir.tif"
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    broken = ftrack("run", file, "--cluster", "threads")
    assert broken.exit_code == 1, broken.output
    assert "failed:" in broken.output and archive.scenes[1].id in broken.output and "Traceback" not in broken.output
    assert "not a published cube" in refused(ftrack("verify", tmp_path / "velocity.zarr"))
    image.write_bytes(content)
    mended = ftrack("run", file, "--cluster", "threads")
    assert mended.exit_code == 0, mended.output
    assert ftrack("verify", tmp_path / "velocity.zarr").exit_code == 0


def test_the_demo_compares_with_the_truth_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("demo")
    result = ftrack("demo", "--folder", folder, "--size", "256", "--scenes", "3", "--cluster", "threads")
    assert result.exit_code == 0, result.output
    for expected in ("median error on stable ground", "median error on ice", "RMSE", "m/yr", "wrong by over 1 px"):
        assert expected in result.output
    assert {path.name for path in folder.glob("*.png")} == {"velocity.png", "quality.png", "series.png", "scenes.png"}
    assert isinstance(open_cube(str(folder / "velocity.zarr")), xr.Dataset)


def test_a_job_is_submitted_watched_and_found(archive: Archive, tmp_path: Path) -> None:
    file, cube = demo_workflow(archive, tmp_path), tmp_path / "velocity.zarr"
    assert "no jobs below" in ftrack("jobs", tmp_path).output
    assert "no job was submitted" in refused(ftrack("status", cube))
    submitted = ftrack("submit", file, "--cluster", "threads", "--set", "pairs.max_days=5", "--watch")
    assert submitted.exit_code == 0, submitted.output
    assert "measuring displacement" in submitted.output and "done" in submitted.output
    assert json.loads(ftrack("status", file, "--json").stdout)["state"] == "done"
    for command in ("status", "cancel", "resume"):
        found = ftrack(command, cube)
        assert found.exit_code == 0 and "done" in found.output
    listed = ftrack("jobs", tmp_path)
    assert "done" in listed.output and str(cube) in listed.output
    assert f"{cube} is finished" in ftrack("logs", cube, "-f").output
    assert "nothing behind" in ftrack("reap", cube).output


def test_progress_tells_of_every_tenth_once_and_of_few_failures(capsys: pytest.CaptureFixture[str]) -> None:
    with console.show_progress() as listen:
        listen(Event("phase", "match", 0, 1000, message="measuring"))
        for done in range(1, 501):
            listen(Event("block", "match", done, 1000))
        for number in range(200):
            listen(Event("block", "match", 500, 1000, message=f"block {number} failed"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "measuring" and len(lines) == 1 + 5 + console.FAILURES + 1
    assert lines[5] == "match: 500 of 1000" and "counted at the end" in lines[-1]


def test_an_interrupted_run_says_how_much_of_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), console.show_progress() as listen:
        listen(Event("phase", "match", 3, 40))
        for done in (4, 5):
            listen(Event("block", "match", done, 40))
        listen(Event("block", "match", 5, 40, message="block 0-0-1 failed: the store does not answer"))
        raise KeyboardInterrupt
    assert capsys.readouterr().err.splitlines()[-1] == "5 of 40 blocks measured and written"
    with pytest.raises(KeyboardInterrupt), console.show_progress() as listen:
        listen(Event("block", "match", 40, 40))
        listen(Event("phase", "shift", 1, 1))
        listen(Event("phase", "velocity", 0, 40))
        raise KeyboardInterrupt
    assert capsys.readouterr().err.splitlines()[-1] == "40 of 40 blocks measured and 0 of 40 blocks turned into velocity and written"
    with pytest.raises(KeyboardInterrupt), console.show_progress():
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


INTERRUPTED = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from ftrack.cli import app, main
from ftrack.command import told

@app.command()
@told
def wait():
    ThreadPoolExecutor(1).submit(threading.Event().wait, 1000)
    raise KeyboardInterrupt

sys.argv = ["ftrack", "wait"]
main()
"""


def test_an_interrupt_ends_the_process_though_a_thread_waits_for_a_store() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=100)
    assert done.returncode == 130
    assert "what is finished is kept" in " ".join(done.stderr.split())
