"""The package gives everything it promises, and imports it only when it is asked for."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import ftrack

HEAVY = {
    "aiohttp",
    "dask",
    "distributed",
    "geopandas",
    "matplotlib",
    "numba",
    "numpy",
    "pandas",
    "pydantic",
    "rasterio",
    "scipy",
    "xarray",
    "zarr",
}


def modules_after(code: str) -> set[str]:
    """Return the packages that a new process has imported after some code."""
    program = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    told = subprocess.run(program, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in told.stdout.split()}


def test_every_exported_name_is_that_of_its_module() -> None:
    assert sorted(ftrack._HOMES) == sorted(ftrack.__all__)
    for name, module in ftrack._HOMES.items():
        assert getattr(ftrack, name) is getattr(import_module(f"ftrack.{module}"), name)


def test_type_checkers_are_told_the_same() -> None:
    tree = ast.parse(Path(ftrack.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ftrack.")]
    assert {str(node.module).removeprefix("ftrack."): tuple(a.name for a in node.names) for node in imports} == ftrack._EXPORTS


def test_no_module_hides_behind_a_name() -> None:
    assert not {module.name for module in pkgutil.iter_modules(ftrack.__path__)} & set(ftrack.__all__)


def test_names_are_listed_and_others_are_refused() -> None:
    assert set(ftrack.__all__) < set(dir(ftrack))
    for name in ("nothing", "_private", "__nothing__"):
        with pytest.raises(AttributeError, match=name):
            getattr(ftrack, name)


@pytest.mark.parametrize("code", ["import ftrack", "import ftrack.cli", "import ftrack; ftrack.Stop"])
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    assert "ftrack" in modules_after(code) and not modules_after(code) & HEAVY


def test_help_is_answered_without_the_numerics() -> None:
    code = "import sys; sys.argv = ['ftrack', 'plan', '--help']; from ftrack.cli import main\ntry: main()\nexcept SystemExit: pass"
    # For the options of a command typer imports pydantic itself.
    assert not modules_after(code) & (HEAVY - {"pydantic"})


def test_modules_are_found_by_name() -> None:
    assert "matplotlib" in modules_after("import ftrack; ftrack.view.plots.name_above")
