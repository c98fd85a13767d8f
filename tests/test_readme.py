"""What the README shows can be done as it is written: its Python runs, its YAML is a workflow, its commands and links exist."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

import ftrack as ft
from ftrack.cli import app
from ftrack.config import Workflow
from ftrack.schema import PER_NODE, PER_PAIR, STATUS_TEXT, VELOCITY
from ftrack.synthetic import TINY

PROJECT = Path(__file__).resolve().parent.parent
TEXT = (PROJECT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_the_python_runs_from_the_archive_to_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks("python")[0].replace('simulate_archive("archive")', 'simulate_archive("archive", TINY)')
    names: dict[str, object] = {"TINY": TINY}
    exec(compile(code, "README.md", "exec"), names)
    velocity = names["velocity"]
    assert (tmp_path / "velocity.png").stat().st_size > 10_000
    assert set(velocity.stable_shift_flag.values) == {1}  # type: ignore[attr-defined]
    assert np.isfinite(velocity.vx).mean() > 0.3  # type: ignore[attr-defined]


def test_the_yaml_is_a_workflow() -> None:
    (text,) = blocks("yaml")
    assert Workflow.read(yaml.safe_load(text)).matcher.chip_sizes == (16, 32, 64)


def test_every_name_in_the_python_is_exported() -> None:
    used = {name for block in blocks("python") for name in re.findall(r"\bft\.(\w+)", block)}
    assert used and used <= set(ft.__all__)


def test_the_commands_exist() -> None:
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    told = set(re.findall(r"`ftrack (\w+)", TEXT))
    assert told == commands


def test_every_variable_and_every_reason_is_listed() -> None:
    for variable in (*VELOCITY, *PER_NODE):
        assert f"`{variable.name}`" in TEXT, variable.name
    for variable in PER_PAIR:
        if not variable.name.endswith("_img2"):
            assert f"`{variable.name}`" in TEXT, variable.name
    for status, text in STATUS_TEXT.items():
        assert f"| {int(status)} | {text}" in TEXT


def test_links_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert len(links) >= 6
    assert [link for link in links if not (PROJECT / link).exists()] == []
