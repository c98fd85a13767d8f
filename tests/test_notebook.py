"""The notebook that repeats what was clicked: it runs from the first cell to the last, and makes the same cube."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
import rasterio
from nbclient import NotebookClient
from small_run import make_archive, make_workflow

import ftrack as ft
from ftrack.errors import Stop
from ftrack.notebook import write_notebook


def code_of(path: Path) -> str:
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")


@pytest.fixture
def workflow(tmp_path: Path) -> ft.Workflow:
    return make_workflow(make_archive(tmp_path / "archive"), tmp_path / "velocity.zarr")


def test_it_runs_and_makes_the_cube_the_series_and_the_map(workflow: ft.Workflow, tmp_path: Path) -> None:
    grid = ft.make_plan(workflow).grid
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    middle = to_degrees.transform((grid.bounds.left + grid.bounds.right) / 2, (grid.bounds.bottom + grid.bounds.top) / 2)
    end = to_degrees.transform(grid.bounds.left + 400, grid.bounds.top - 400)
    path = write_notebook(workflow, tmp_path / "again.ipynb", pair="0", place=middle, line=[end, middle])
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    drawn = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(drawn) == 6
    cube = ft.open_cube(workflow.output)
    assert cube.sizes["mid_date"] == len(ft.make_plan(workflow).pairs)
    assert (tmp_path / "series.csv").read_text().startswith("mid_date,lat,lon,v [m/yr]")
    with rasterio.open(tmp_path / "velocity.tif") as made:
        assert made.shape == (cube.sizes["y"], cube.sizes["x"])


def test_a_run_elsewhere_is_submitted(workflow: ft.Workflow, tmp_path: Path) -> None:
    here = code_of(write_notebook(workflow, tmp_path / "here.ipynb"))
    there = code_of(write_notebook(workflow, tmp_path / "there.ipynb", far=True))
    assert "run_plan" in here and "ft.submit" not in here and "profile" not in here and "series" not in here
    assert "job = ft.submit(workflow)" in there and "run_plan" not in there
    gateway = make_workflow(tmp_path / "a.json", "s3://b/c.zarr", cluster={"kind": "gateway", "address": "https://hub", "threads": None})
    assert "ft.submit" in code_of(write_notebook(gateway, tmp_path / "gateway.ipynb"))


def test_the_settings_in_it_are_those_of_the_workflow(workflow: ft.Workflow, tmp_path: Path) -> None:
    code = code_of(write_notebook(workflow, tmp_path / "one.ipynb"))
    names: dict[str, object] = {}
    exec(code[code.index("import ftrack") : code.index("plan =")], names)
    assert names["workflow"] == workflow


def test_a_place_where_nothing_can_be_written_is_named(workflow: ft.Workflow, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Stop, match="cannot be written"):
        write_notebook(workflow, tmp_path / "file" / "x.ipynb")
