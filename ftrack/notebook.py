"""A notebook that repeats what was done: search, run, open, look, and read at a point and along a line."""

from __future__ import annotations

import json
import pprint
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftrack.config import Workflow
from ftrack.errors import Stop


def write_notebook(
    workflow: Workflow,
    path: str | Path,
    *,
    pair: str = "median",
    place: tuple[float, float] | None = None,
    line: Sequence[tuple[float, float]] = (),
    far: bool | None = None,
) -> Path:
    """Write a notebook that repeats a workflow and what was looked at, and return its path.

    Parameters
    ----------
    workflow : Workflow
        The settings; what has its default is left out.
    path : str or path
        The ``.ipynb``.
    pair : str
        Number or date of a pair, or ``median``.
    place : (float, float), optional
        Longitude and latitude of the series.
    line : sequence of (float, float)
        Longitudes and latitudes of the profile.
    far : bool, optional
        Submit the run as a job instead of doing it in the notebook; if not given, where its cluster is elsewhere.

    Raises
    ------
    Stop
        The file cannot be written.
    """
    path = Path(path)
    far = workflow.cluster.kind in ("gateway", "scheduler") if far is None else far
    cells = [*_begin(workflow), *_run(far), *_look(pair, place, line)]
    document = {
        "cells": [_cell(number, kind, text) for number, (kind, text) in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise Stop(f"the notebook {path} cannot be written: {error.strerror}") from None
    return path


Cell = tuple[str, str]


def _begin(workflow: Workflow) -> list[Cell]:
    values = pprint.pformat(workflow.model_dump(mode="json", exclude_defaults=True), width=110, sort_dicts=False)
    values = values.replace("\n", "\n    ")
    name = workflow.name or "Ice velocity"
    return [
        ("markdown", f"# {name}\n\nWhat was done in the control panel, step by step. Run all cells to repeat it."),
        (
            "code",
            f"%matplotlib inline\nimport ftrack as ft\n\nworkflow = ft.Workflow.read(\n    {values}\n)",
        ),
        ("markdown", "## What there is"),
        ("code", "plan = ft.make_plan(workflow)  # searches, and chooses pairs\nft.scenes_table(plan.scenes)"),
        ("code", "ft.plot_scenes(plan.scenes)"),
        ("code", "ft.plot_network(plan.pairs).figure"),
    ]


def _run(far: bool) -> list[Cell]:
    if far:
        return [
            ("markdown", "## The run\n\nA job that goes on when this notebook is closed. Given again, it takes up what is missing."),
            ("code", "job = ft.submit(workflow)\njob.watch()"),
            ("code", "cube = job.open()\ncube"),
        ]
    run = "with ft.open_client(workflow.cluster) as client:\n    report = ft.run_plan(plan, client)\nreport"
    return [
        ("markdown", "## The run\n\nGiven again, it takes up what is missing."),
        ("code", run),
        ("code", "cube = ft.open_cube(workflow.output)\ncube"),
    ]


def _look(pair: str, place: tuple[float, float] | None, line: Sequence[tuple[float, float]]) -> list[Cell]:
    cells = [
        ("markdown", "## What came out"),
        ("code", f"ft.plot_velocity(cube, {pair!r}).figure"),
        ("code", f"ft.plot_quality(cube, {pair!r})"),
    ]
    if place is not None:
        lon, lat = (round(float(part), 6) for part in place)
        read = f"series = ft.point_series(cube, lon={lon}, lat={lat}, filled=True)\nft.plot_series(series).figure"
        cells += [("code", read), ("code", 'ft.write_series(series, "series.csv")\nft.average(series)')]
    if len(line) > 1:
        places = [tuple(round(float(part), 6) for part in point) for point in line]
        cells.append(("code", f"along = ft.profile(cube, {places}, pair={pair!r})\nft.plot_profile(along).figure"))
    return [*cells, ("code", f'ft.write_map(cube, "velocity.tif", {pair!r})')]


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    source = text.splitlines(keepends=True)
    common: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": source}
    return common if kind == "markdown" else {**common, "execution_count": None, "outputs": []}
