"""The notebooks run from the first cell to the last on a cube that has just been made, and are kept without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import pytest
import rasterio
from nbclient import NotebookClient
from small_run import make_archive, make_workflow
from test_series import make_cube

import ftrack as ft
from ftrack.config import write_workflow
from ftrack.grid import Grid

FOLDER = Path(__file__).resolve().parent.parent / "workflows"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def cube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cube")
    workflow = make_workflow(make_archive(folder / "archive"), folder / "velocity.zarr")
    with ft.open_client(workflow.cluster) as client:
        report = ft.run_plan(ft.make_plan(workflow), client)
    assert report.published
    return Path(report.output)


def run(name: str, folder: Path) -> list[str]:
    """Run a notebook in a folder, and return what it has printed and shown as text; pictures as ``<picture>``."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return ["<picture>" if "image/png" in o.get("data", {}) else o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs]


def test_a_first_map_takes_five_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FTRACK_WORKFLOW", raising=False)
    assert sum(cell.cell_type == "code" for cell in nbformat.read(FOLDER / "first_map.ipynb", as_version=4).cells) == 5
    assert run("first_map", tmp_path).count("<picture>") == 3
    assert ft.open_cube(str(tmp_path / "first.zarr")).sizes["mid_date"] >= 3


def test_a_submitted_run_is_read_month_by_month(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = make_workflow(make_archive(tmp_path / "archive", days=(1, 11, 21, 41)), tmp_path / "velocity.zarr", pairs={"max_days": 21})
    (tmp_path / "year.yaml").write_text(write_workflow(workflow))
    monkeypatch.setenv("FTRACK_WORKFLOW", str(tmp_path / "year.yaml"))
    said = run("a_whole_year", tmp_path)
    assert said.count("<picture>") == 2 and any("2021-06" in text and "2021-07" in text for text in said)
    assert (tmp_path / "series.csv").exists() and (tmp_path / "velocity.tif").exists()


def test_ours_is_compared_with_a_mosaic_of_its_live(tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = make_cube(3, Grid(crs="EPSG:32622", resolution=480.0, left=560_000.0, top=7_690_000.0, height=60, width=80))
    placed = cube.rename(spatial_ref="mapping")
    placed.to_zarr(tmp_path / "cube.zarr", zarr_format=3, consolidated=True)
    values = {"CUBE": tmp_path / "cube.zarr", "ITSLIVE_VERSION": 1}
    values |= {f"ITSLIVE_{c.upper()}": data_folder / "itslive" / f"jakobshavn-{c}.tif" for c in ("vx", "vy")}
    for name, value in values.items():
        monkeypatch.setenv(f"FTRACK_{name}", str(value))
    said = run("compare_with_itslive", tmp_path)
    assert said.count("<picture>") == 2
    assert any(text.startswith("vx: ") and "nodes" in text for text in said)


def test_another_matcher_is_judged_beside_ours(tmp_path: Path) -> None:
    said = run("another_matcher", tmp_path)
    ours, theirs = (float(line.split()[-1]) for line in next(text for text in said if "m/yr" in text).splitlines()[:2])
    assert ours < 0.5 * theirs < 50
    judged = next(text for text in said if "vectors on stable ground" in text)
    assert "by FFT" in judged and " - " not in judged and said[-1] == "<picture>"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert cells and all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_a_cube_is_read_drawn_averaged_and_exported(cube: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTRACK_CUBE", str(cube))
    notebook = nbformat.read(FOLDER / "read_a_cube.ipynb", as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    drawn = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(drawn) == 3
    with rasterio.open(tmp_path / "mean_velocity.tif") as made:
        bands = {name: made.read(number + 1) for number, name in enumerate(made.descriptions)}
        assert made.crs.to_epsg() == 32622
        assert np.isnan(made.nodata)
    known = np.isfinite(bands["vx"])
    assert known.mean() > 0.5
    # The texture of the archive moves by (1.3, -0.7) px of 10 m in 5 days: to the right and up, which is east and north.
    per_year = 10 * 365.25 / 5 / float(np.median(bands["scale_factor"]))
    assert np.median(bands["vx"][known]) == pytest.approx(1.3 * per_year, abs=0.05 * per_year)
    assert np.median(bands["vy"][known]) == pytest.approx(0.7 * per_year, abs=0.05 * per_year)
    assert np.all(bands["vx_error_low"][known] <= bands["vx_error_high"][known] * 1.0001)


def test_the_panel_opens_on_the_scenes_of_its_archive(tmp_path: Path) -> None:
    notebook = nbformat.read(FOLDER / "panel.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace('simulate_archive("archive")', 'simulate_archive("archive", ft.synthetic.TINY)')
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = notebook.cells[-1].outputs[-1]["data"]
    assert "application/vnd.jupyter.widget-view+json" in shown
