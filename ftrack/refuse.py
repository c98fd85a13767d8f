"""Requests that cannot be met, told before anything starts."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shapely
from dask.utils import format_bytes

from ftrack.config import Workflow
from ftrack.cube import ARRAYS
from ftrack.errors import Stop
from ftrack.forecast import SHARE, Forecast, worker_memory
from ftrack.grid import Grid
from ftrack.jobfiles import is_alive, names_in, read_beat, read_submission
from ftrack.lattice import frames_of, outline_of
from ftrack.pairs import Pair
from ftrack.passes import group_images
from ftrack.records import REPLACED, keys_in, mark_replaced, motion_of, remove
from ftrack.sources import Access
from ftrack.stac import Scene
from ftrack.store import ROOT, get, put
from ftrack.workers import Workers

log = logging.getLogger("ftrack")

COMPRESSED = 0.5
"""Least share of its size that a cube with many vectors takes on disk."""


BEFORE = frozenset({"plan.json", "job.json", "heartbeat.json", "cancel.json", "logs", "inputs", REPLACED})
"""What the folder of a run holds before anything of its cube is made."""

EMPTY = re.compile(rf"({'|'.join(sorted(ARRAYS))})/zarr\.(json|[0-9a-f]+\.partial)")
"""Keys of a cube whose arrays are made and hold nothing."""


def outlines_of(scenes: Sequence[Scene], asset: str, grid: Grid, access: Access | None = None) -> dict[str, shapely.Geometry]:
    """Return the outline of every scene's file in the CRS of a grid, by scene id."""
    return {scene.id: outline_of(frame, grid.crs) for scene, frame in zip(scenes, frames_of(scenes, asset, access), strict=True)}


def refuse_large_chips(workflow: Workflow, scenes: Sequence[Scene], pairs: Sequence[Pair], grid: Grid) -> None:
    """Raise ``Stop`` if chips are larger than what the images of any pair have in common."""
    chip = max(workflow.matcher.chip_sizes)
    places = outlines_of(scenes, workflow.scenes.asset, grid, workflow.reading.access)
    images = {image: shapely.union_all([places[scene.id] for scene in members]) for image, members in group_images(scenes).items()}
    largest = (0.0, 0.0)
    for pair in pairs:
        common = shapely.intersection(images[pair.reference], images[pair.secondary])
        if common.is_empty:
            continue
        left, bottom, right, top = common.bounds
        size = ((right - left) / grid.resolution, (top - bottom) / grid.resolution)
        if min(size) >= chip:
            return
        largest = max(largest, size, key=min)
    raise Stop(
        f"matcher.chip_sizes: chips of {chip} px are larger than the {largest[0]:.0f} x {largest[1]:.0f} px that the images of any pair "
        f"have in common; take smaller chips, or other scenes"
    )


def refuse_oversize(ahead: Forecast, workers: Workers) -> None:
    """Raise ``Stop`` if the blocks that a worker has at a time do not fit into its memory."""
    need, room = worker_memory(ahead, workers.number, workers.threads), SHARE * workers.memory
    if need <= room:
        return
    raise Stop(
        f"a worker needs {format_bytes(need)} for {workers.threads} blocks of {ahead.images} images at a time, but may use "
        f"{format_bytes(int(room))} ({SHARE:.0%} of {format_bytes(workers.memory)}); make run.tile smaller, take fewer or larger workers "
        f"(cluster.workers, cluster.threads, cluster.memory), or fewer images at a time (pairs.max_days)"
    )


def published_run(output: str) -> str | None:
    """Return the run whose cube can be opened at the output, an empty text if it is somebody else's, None if there is none."""
    root = get(output, ROOT)
    return None if root is None else str(_json(root).get("attributes", {}).get("run_id", ""))


def planned_run(folder: str) -> str | None:
    """Return the run that is under way, an empty text if its plan cannot be read, None if there is none."""
    content = get(folder, "plan.json")
    return None if content is None else str(_json(content).get("run_id", ""))


def _json(content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def refuse_other_output(output: str, folder: str, run_id: str, before: str | None = None, why: str = "") -> None:
    """Raise ``Stop`` if the output holds anything but what this run, or the one ``before`` it, has made of it so far.

    ``why`` says why the run does not go on with a finished cube that is there.
    """
    published, planned = published_run(output), planned_run(folder)
    if published is not None and published == before:
        if planned in (run_id, before):
            return
        raise Stop(
            f"output: another run ({planned}) has begun to append to {output}; finish it first, with the scenes that it was planned for"
        )
    if published is not None and published != run_id:
        what = f"the finished cube of another run ({published})" if published else "a Zarr store that ftrack did not make"
        what += f", to which this one cannot append: {why}" if why else ""
        raise Stop(f"output: {output} holds {what}; choose another with --set output=PATH, or remove it and {folder}")
    if published is None and planned is not None and planned != run_id:
        _refuse_begun(output, folder, planned or "unreadable")
    if published is None and planned is None and "://" not in output and _occupied(Path(output)):
        raise Stop(f"output: {output} is there already and is not a cube; choose another with --set output=PATH, or remove it")


def _refuse_begun(output: str, folder: str, planned: str) -> None:
    """Raise ``Stop`` if a block of another plan is kept, or may be any moment; a plan of which none is may be replaced."""
    other = f"another plan ({planned}: other settings, scenes or pairs)"
    job, beat = read_submission(folder), read_beat(folder)
    # Only a job tells whether it lives: arrays of a run without one may be those of a process that is about to fill them.
    known = job is not None and job.run_id == planned
    if not _nothing_made(output, folder) and not (known and _nothing_kept(output, folder)):
        raise Stop(
            f"output: {output} holds the unfinished cube of {other}; choose another with --set output=PATH, or remove {output} and {folder}"
        )
    waits = job is not None and (beat is None or beat.submission != job.id)
    if waits or is_alive(folder, beat):
        raise Stop(
            f"output: a job of {other} {'waits to begin' if waits else 'is under way'}, and will write to {output}; choose another with "
            f"--set output=PATH, or stop it with: ftrack cancel {output}"
        )


def _nothing_made(output: str, folder: str) -> bool:
    """Return whether there is no more than a plan."""
    return not names_in(output, "") and not ("://" not in output and _occupied(Path(output))) and not set(names_in(folder, "")) - BEFORE


def _nothing_kept(output: str, folder: str) -> bool:
    """Return whether arrays are there, but no block in them and nothing that is not ftrack's."""
    if set(names_in(folder, "")) - BEFORE - {motion_of("", 0).strip("/")} or ("://" not in output and Path(output).is_file()):
        return False
    return set(names_in(output, "")) <= ARRAYS and all(EMPTY.fullmatch(key) for key in keys_in(output))


def write_plan_of(output: str, folder: str, run_id: str, text: str) -> None:
    """Write the plan of a run, and say so if it takes the place of another of which nothing has been made."""
    planned = planned_run(folder)
    if planned not in (None, run_id) and published_run(output) is None:
        _refuse_begun(output, folder, planned or "unreadable")
        log.warning("nothing was made yet of the plan that was here (%s); this one takes its place", planned or "unreadable")
        if planned:
            mark_replaced(folder, planned, run_id)
        for name in names_in(output, ""):
            remove(output, name)
        remove(folder, motion_of("", 0).strip("/"))
    put(folder, "plan.json", text.encode())


def _occupied(path: Path) -> bool:
    return path.exists() and not (path.is_dir() and not any(path.iterdir()))


def refuse_full_disk(output: str, ahead: Forecast) -> None:
    """Raise ``Stop`` if a local output cannot hold what the run writes."""
    if "://" in output:
        return
    folder = next(parent for parent in Path(output).absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    need = int(COMPRESSED * ahead.stored)
    if need > free:
        raise Stop(
            f"output: the run writes at least {format_bytes(need)}, but {folder} has {format_bytes(free)} left; "
            f"make room, choose another with --set output=PATH, or take a larger matcher.spacing or fewer pairs"
        )
