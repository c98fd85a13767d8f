"""Local files that a run needs (outlines, maps) travel with its job: copied beside the cube, and fetched by the driver."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dask.utils import format_bytes

from ftrack.config import PATHS
from ftrack.errors import Stop
from ftrack.store import get, put

CARRIED = tuple(key for key in PATHS if key not in ("scenes.catalog", "output"))
"""Settings that name files which a driver reads. Scenes are in the plan, so their catalogue is not needed any more."""

LARGEST = 2**30
"""Bytes of a file that is copied."""


def carry_inputs(workflow: Mapping[str, Any], folder: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Copy the local files that a workflow names to the folder of its run.

    Parameters
    ----------
    workflow : mapping
        Settings as JSON values.
    folder : str
        Where the run keeps its records.

    Returns
    -------
    workflow : dict
        The same, naming the copies relative to the folder.
    names : tuple of str
        The copies, relative to the folder.

    Raises
    ------
    Stop
        A file is too large to be copied, or cannot be read.
    """
    changed = copy.deepcopy(dict(workflow))
    names: list[str] = []
    for key in CARRIED:
        section, _, name = key.partition(".")
        inside = changed.get(section)
        if not inside or inside.get(name) is None:
            continue
        value = inside[name]
        several = value if isinstance(value, list) else [value]
        carried = [_carry(place, f"inputs/{key}/{number}", folder, names) for number, place in enumerate(several)]
        inside[name] = carried if isinstance(value, list) else carried[0]
    return changed, tuple(names)


def _carry(place: Any, below: str, folder: str, names: list[str]) -> Any:
    """Copy one file, with those beside it that share its stem (shapefiles), and return its new name."""
    if not isinstance(place, str) or "://" in place or not Path(place).is_file():
        return place
    path = Path(place)
    parts = sorted(path.parent.glob(f"{path.stem}.*")) if path.suffix.lower() == ".shp" else [path]
    for part in parts:
        size = part.stat().st_size
        if size > LARGEST:
            raise Stop(
                f"{part} has {format_bytes(size)}, too much to be copied with the job; put it where the cluster can read it, such as s3://"
            )
        put(folder, f"{below}/{part.name}", part.read_bytes())
        names.append(f"{below}/{part.name}")
    return f"{below}/{path.name}"


def fetch_inputs(folder: str, names: Iterable[str], into: Path) -> None:
    """Fetch the files of a job.

    Raises
    ------
    Stop
        A file is missing, or its name leads out of the folder.
    """
    root = into.resolve()
    for name in names:
        target = (root / name).resolve()
        if not target.is_relative_to(root / "inputs"):
            raise Stop(f"{folder}/job.json names {name!r}, which is not one of its inputs; submit the workflow again")
        content = get(folder, name)
        if content is None:
            raise Stop(f"{folder}/{name} is missing; submit the workflow again")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
