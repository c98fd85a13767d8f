"""One description of a run: YAML in, commented YAML out."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ftrack.document import parse_yaml, write_yaml
from ftrack.errors import Stop
from ftrack.matchers import NCC
from ftrack.pairs import PairSettings
from ftrack.prefilters import HighPass, Prefilter
from ftrack.settings import Settings, kind_of, models_in, nearest, option

PATHS = ("scenes.catalog", "scenes.area", "stable.area", "output")
"""Settings that name a file: relative to the workflow file, and with ``${VARIABLE}`` and ``~`` filled in."""

RESOURCES = {"name": True, "output": True, "cluster": True, "scenes": {"catalog"}}
"""Settings that do not change any number of the cube: where things lie, and what the work is done with."""

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class ClusterSettings(Settings):
    """Where the work is done."""

    kind: Literal["local", "threads", "scheduler"] = option(
        "local", "processes of this machine, threads of this process, or a Dask scheduler that is already there"
    )
    workers: int | None = option(None, "number of workers; null = as many as there are cores", ge=1)
    threads: int | None = option(None, "threads of each worker; null = one, or all cores where the kind is threads", ge=1)
    memory: str = option("", "memory of each worker, such as 4GB; empty = an equal share of the machine's")
    address: str = option("", "address of the scheduler, such as tcp://127.0.0.1:8786")


class RunSettings(Settings):
    """How the work is cut."""

    tile: int = option(512, "side of the area that one task measures, a multiple of the spacing", unit="px", ge=32, le=8192)


class SceneSettings(Settings):
    """Which scenes are used, and which of their pixels."""

    catalog: str = option(..., "a STAC API (URL), a static catalogue or collection, or a file of items (path or URL)", min_length=1)
    collections: tuple[str, ...] = option((), "collections of the catalogue; empty = all")
    area: str | tuple[float, float, float, float] | None = option(None, "west, south, east, north in degrees, or a vector file")
    dates: str | None = option(None, "first and last day, such as 2020-01-01/2020-03-31")
    max_cloud: float | None = option(None, "most cloud in a scene, as its catalogue says", unit="percent", ge=0, le=100)
    asset: str = option(..., "the file of a scene that is matched, such as nir, pan or B08", min_length=1)


class Workflow(Settings):
    """Everything that is needed to make a velocity cube."""

    name: str = option("velocity", "title of the run", min_length=1)
    scenes: SceneSettings = option(..., "which scenes are used")
    pairs: PairSettings = option(PairSettings(), "which images are compared")
    prefilter: Prefilter = option(HighPass(), "how images are enhanced before they are compared")
    matcher: NCC = option(NCC(), "how displacement is measured")
    output: str = option("velocity.zarr", "the cube: a path, or an address such as s3://bucket/name.zarr", min_length=1)
    cluster: ClusterSettings = option(ClusterSettings(), "where the work is done")
    run: RunSettings = option(RunSettings(), "how the work is cut")
