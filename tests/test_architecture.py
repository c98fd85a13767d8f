"""The plan of the house is kept: floors, sizes, and settings that explain themselves."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ftrack
from ftrack.settings import Settings

PACKAGE = Path(ftrack.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE, LONGEST_BODY, MOST_PARAMETERS = 400, 60, 7

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(file: Path) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, Function))


def body_of(function: Function) -> list[ast.stmt]:
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return function.body[1:] if documented else function.body


def lines_of(function: Function) -> int:
    """Count the lines of a body without those of functions inside, which are counted for themselves."""
    body = body_of(function)
    inner = [node for node in ast.walk(function) if isinstance(node, Function) and node is not function]
    lines = {line for statement in body for line in range(statement.lineno, (statement.end_lineno or 0) + 1)}
    return len(lines - {line for node in inner for line in range(node.lineno, (node.end_lineno or 0) + 1)})


def parameters_of(function: Function) -> list[str]:
    """List what a caller gives: not the object itself, and not what Dask hands over."""
    arguments = function.args
    named = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in named if name not in ("self", "cls", "block_id", "block_info")]


def is_command(function: Function) -> bool:
    """Tell the commands of the command line, whose parameters are its options."""
    return any("command" in ast.unparse(decorator) for decorator in function.decorator_list)


def declarations() -> list[type[Settings]]:
    for module in pkgutil.walk_packages(ftrack.__path__, "ftrack."):
        importlib.import_module(module.name)
    found, new = set(), {Settings}
    while new:
        new = {child for parent in new for child in parent.__subclasses__()}
        found |= new
    return sorted((d for d in found if d.__module__.startswith("ftrack.")), key=lambda d: d.__qualname__)


def test_every_room_imports_only_from_the_floors_below() -> None:
    # In a process of its own: the linter switches off the loggers of the process it runs in.
    program = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]
    done = subprocess.run(program, cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_is_too_long() -> None:
    sizes = {str(file.relative_to(PACKAGE)): len(file.read_text().splitlines()) for file in FILES}
    assert {name: size for name, size in sizes.items() if size > LONGEST_FILE} == {}


def test_no_function_body_is_too_long() -> None:
    long = {}
    for file in FILES:
        for function in functions(file):
            if (lines := lines_of(function)) > LONGEST_BODY:
                long[f"{file.relative_to(PACKAGE)}:{function.name}"] = lines
    assert long == {}


def test_settings_travel_whole_instead_of_as_many_parameters() -> None:
    many = {}
    for file in FILES:
        if file.parent.name == "kernels":
            continue
        for function in functions(file):
            if len(names := parameters_of(function)) > MOST_PARAMETERS and not is_command(function):
                many[f"{file.relative_to(PACKAGE)}:{function.name}"] = names
    assert many == {}


def test_no_import_hides_inside_a_function() -> None:
    hidden = [
        f"{file.relative_to(PACKAGE)}:{inner.lineno}"
        for file in FILES
        for function in functions(file)
        for inner in ast.walk(function)
        if isinstance(inner, ast.ImportFrom) and (inner.module or "").split(".")[0] == "ftrack"
    ]
    assert hidden == []


def test_every_public_function_and_module_says_what_it_is_for() -> None:
    silent = []
    for file in FILES:
        tree = ast.parse(file.read_text())
        if file.read_text().strip() and not ast.get_docstring(tree):
            silent.append(str(file.relative_to(PACKAGE)))
        public = [n for n in tree.body if isinstance(n, Function | ast.ClassDef) and not n.name.startswith("_")]
        silent += [f"{file.relative_to(PACKAGE)}:{node.name}" for node in public if not ast.get_docstring(node)]
    assert silent == []


def test_every_setting_has_its_help() -> None:
    found = declarations()
    assert len(found) > 5
    silent = [f"{d.__name__}.{name}" for d in found for name, field in d.model_fields.items() if not field.description]
    assert silent == []


def test_the_view_stays_small() -> None:
    lines = {file: len(file.read_text().splitlines()) for file in FILES}
    view = sum(size for file, size in lines.items() if "view" in file.relative_to(PACKAGE).parts)
    assert view < 0.15 * sum(lines.values())
