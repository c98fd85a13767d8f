"""What one task of a run does on a worker: measure and write pixels, fit the shifts of pairs, turn pixels into velocity."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import tenacity
import xarray as xr
from dask.delayed import delayed

from ftrack.batches import group_pairs
from ftrack.cube import read_block, write_block
from ftrack.errors import Retry
from ftrack.grid import Grid, grid_of, node_grid
from ftrack.ground import Calibration, fit_pair
from ftrack.match import clean_array, margin_of, match_array, prefilter
from ftrack.pairs import Pair
from ftrack.plan import Plan
from ftrack.prior import read_prior
from ftrack.records import Phase, Record, motion_of, refuse_replaced, write_record
from ftrack.schema import MOTION, VELOCITY, Status
from ftrack.stable import NO_SHIFT, Shift, StableSettings
from ftrack.stack import open_stack
from ftrack.store import get, put
from ftrack.tiling import BATCH, Block, Region, Wave, WaveWindow, region_of, wave_window
from ftrack.velocity import correct, point_scale, velocity_block

PAIRS_AT_ONCE = 8
"""Pairs whose velocity is computed at a time, which bounds the memory of a task."""

FIT_BYTES = 2**28
"""Bytes of displacement that a task reads to fit shifts."""

FIT_VARIABLES = ("dx", "dy", "dx_error", "dy_error", "chip_size", "status")
FIT_NODE = 19
"""Bytes of a node in these variables."""

ATTEMPTS = 5

retry_storage = tenacity.retry(
    retry=tenacity.retry_if_exception_type(Retry),
    stop=tenacity.stop_after_attempt(ATTEMPTS),
    wait=tenacity.wait_random_exponential(multiplier=0.5, max=10),
    reraise=True,
)


class Job(NamedTuple):
    """One block of a run as a worker sees it.

    Attributes
    ----------
    run_id, folder, block : str
        The run, where it keeps its records, and the block's name.
    region : Region
        Where the block lies in the arrays.
    pairs : tuple of int
        Pairs that are measured now, counted from the first of the batch.
    lost : tuple of int
        Pairs that will be missing still, for lack of a scene.
    reason, scene : str
        Why they are, and the scene.
    attempt : int
        1 for the first time that the block is tried in this run.
    part : int
        How many runs have published pairs of the cube before.
    """

    run_id: str
    folder: str
    block: str
    region: Region
    pairs: tuple[int, ...]
    lost: tuple[int, ...] = ()
    reason: str = ""
    scene: str = ""
    attempt: int = 1
    part: int = 0


class Fit(NamedTuple):
    """What stable ground says of one pair."""

    shift: Shift
    calibration: Calibration


NO_FIT = Fit(NO_SHIFT, Calibration())
"""Where it is not known what ground is stable."""


class Scale(NamedTuple):
    """What turns pixels into metres: the nodes of the whole grid, map metres of a pixel, and days of every pair of the block."""

    nodes: Grid
    pixel_size: float
    days: np.ndarray


def job_of(plan: Plan, block: Block) -> Job:
    """Return what a worker has to know of a block of which nothing is there yet."""
    pairs, region = tuple(range(len(plan.pairs_of(block.batch)))), region_of(plan.tiling, block)
    return Job(plan.run_id, plan.folder, block.id, region, pairs, part=len(plan.earlier))


def layout_of(folder: str, part: int) -> str | None:
    """Return where the metadata of a cube are that is appended to, None if they are where they belong."""
    return f"{folder}/layout" if part else None


def match_tasks(plan: Plan, wave: Wave, jobs: Mapping[Block, Job]) -> dict[str, Any]:
    """Return the tasks that measure and write some blocks of a wave, all of them the same pairs of its batch, by block."""
    (pairs,) = {job.pairs for job in jobs.values()}
    values = measure_wave(plan, wave, pairs).to_delayed()
    finish = delayed(finish_match, pure=False)
    return {block.id: finish(job, values[0, 0, block.row - wave.row, block.column - wave.column]) for block, job in jobs.items()}


def measure_wave(plan: Plan, wave: Wave, numbers: Sequence[int]) -> da.Array:
    """Measure some pairs of a batch, counted from its first, in the tiles of a wave, lazily.

    Returns
    -------
    Array (8, pairs, y, x)
        In the order of ``schema.MOTION``, one Dask chunk per block.
    """
    window = wave_window(plan.tiling, wave, plan.reach, plan.margin)
    pairs = [plan.pairs_of(wave.batch)[number] for number in numbers]
    groups = group_pairs(pairs, plan.images)
    parts = [_measure(plan, [pairs[k] for k in group], window) for group in groups]
    measured = da.concatenate(parts, axis=1).rechunk({1: -1})
    places = np.argsort(np.concatenate(groups))
    if np.any(np.diff(places) < 0):
        measured = measured.map_blocks(np.take, places, axis=1, dtype=measured.dtype)
    height, width = measured.shape[2:]
    inside: da.Array = measured[:, :, window.margin : height - window.margin, window.margin : width - window.margin]
    inside = inside.rechunk({2: window.tiles[0], 3: window.tiles[1]})
    assert inside.numblocks == (1, 1, wave.height, wave.width), f"wave {wave} has chunks {inside.chunks}"
    return inside


def _measure(plan: Plan, pairs: Sequence[Pair], window: WaveWindow) -> da.Array:
    """Measure pairs whose images are in memory together, on the nodes of a window."""
    workflow = plan.workflow
    filtered = _read(plan, pairs, window)
    prior = read_prior(workflow.prior, node_grid(grid_of(filtered), window.nodes.widened(margin_of(workflow.matcher))))
    motion = match_array(filtered, pairs, workflow.matcher, prior=prior, window=window.nodes, tiles=window.chunks)
    return clean_array(motion, workflow.outliers, workflow.fill)


def _read(plan: Plan, pairs: Sequence[Pair], window: WaveWindow) -> xr.DataArray:
    """Read and filter the images of pairs, lazily.

    Where there are several tiles every image is read in one piece: tiles that read for themselves would fetch the blocks of a file that
    lie in two of them twice.
    """
    workflow = plan.workflow
    alone = all(len(sizes) == 1 for sizes in window.chunks)
    stack = open_stack(
        plan.scenes_in(pairs),
        asset=workflow.scenes.asset,
        grid=plan.grid.window(window.rows, window.columns),
        mask=workflow.scenes.mask,
        chunks=(-1 if alone else 1, -1, -1),
        settings=workflow.reading,
    )
    return prefilter(stack, workflow.prefilter)


def finish_match(job: Job, values: np.ndarray) -> Record:
    """Write the displacement of a block, float32 (8, pairs, y, x) in the order of ``schema.MOTION``, then its record.

    Where only some pairs of the batch are measured now, the others stay as they are.
    """
    begun = time.perf_counter()
    url, region = motion_of(job.folder, job.part), tuple(job.region)
    variables = {v.name: np.ascontiguousarray(a, dtype=v.dtype) for v, a in zip(MOTION, values, strict=True)}
    if len(job.pairs) < job.region.pairs.stop - job.region.pairs.start:
        known = retry_storage(read_block)(url, list(variables), region, allow_missing=True)
        for name, measured in variables.items():
            known[name][list(job.pairs)] = measured
        variables = known
    retry_storage(refuse_replaced)(job.folder, job.run_id)
    retry_storage(write_block)(url, variables, region)
    return _finish(job, "match", variables, begun)


def _finish(job: Job, phase: Phase, variables: Mapping[str, np.ndarray], begun: float) -> Record:
    measured = np.count_nonzero(variables["status"] == Status.MEASURED, axis=(1, 2))
    record = Record(
        phase=phase,
        block=job.block,
        run_id=job.run_id,
        status="failed" if job.lost else "ok" if measured.any() else "empty",
        measured=tuple(int(count) for count in measured),
        digests={name: blake2b(values.tobytes(), digest_size=8).hexdigest() for name, values in variables.items()},
        lost=job.lost,
        scene=job.scene,
        reason=job.reason,
        attempts=job.attempt,
        seconds=round(time.perf_counter() - begun, 3),
    )
    retry_storage(write_record)(job.folder, record)
    return record


def fit_tasks(plan: Plan, batch: int, stable: Any) -> dict[str, Any]:
    """Return the tasks that fit the shifts of the pairs of a batch, a few pairs each, by the number of the first pair.

    Parameters
    ----------
    plan, batch : Plan, int
        Whose pairs.
    stable : Delayed of bool (y, x)
        Stable ground.
    """
    nodes, pairs = plan.nodes, region_of(plan.tiling, Block(batch, 0, 0)).pairs
    step = max(1, min(BATCH, FIT_BYTES // (FIT_NODE * nodes.height * nodes.width)))
    parts = [slice(start, min(start + step, pairs.stop)) for start in range(pairs.start, pairs.stop, step)]
    fit = delayed(fit_shifts, pure=False)
    everywhere = (slice(0, nodes.height), slice(0, nodes.width))
    settings = (plan.workflow.stable, plan.tiling.spacing)
    return {str(part.start): fit(motion_of(plan.folder, len(plan.earlier)), Region(part, *everywhere), stable, *settings) for part in parts}


def fit_shifts(motion: str, region: Region, stable: np.ndarray, settings: StableSettings, spacing: int) -> list[Fit]:
    """Fit the shift of some pairs on all nodes of the grid, and compare formal errors with what is left."""
    found = retry_storage(read_block)(motion, FIT_VARIABLES, tuple(region))
    fits = []
    for number in range(region.pairs.stop - region.pairs.start):
        pair = {name: values[number] for name, values in found.items()}
        fits.append(Fit(*fit_pair(pair, stable, settings, spacing)))
    return fits


def write_fits(folder: str, batch: int, fits: Sequence[Fit]) -> None:
    """Keep what was fitted to the pairs of a batch."""
    values = [{"shift": fit.shift._asdict(), "calibration": fit.calibration._asdict()} for fit in fits]
    retry_storage(put)(folder, f"shifts/{batch}.json", json.dumps(values).encode())


def read_fits(folder: str, batch: int) -> list[Fit] | None:
    """Return what was fitted to the pairs of a batch, or None if that has not been done."""
    content = retry_storage(get)(folder, f"shifts/{batch}.json")
    if content is None:
        return None
    fits = []
    for values in json.loads(content):
        (xx, xy), (yx, yy) = values["shift"].pop("gradient")
        fits.append(Fit(Shift(**values["shift"], gradient=((xx, xy), (yx, yy))), Calibration(**values["calibration"])))
    return fits


def velocity_tasks(plan: Plan, block: Block, fits: Sequence[Fit], attempt: int = 1) -> dict[str, Any]:
    """Return the task that turns the displacement of a block into velocity, by block."""
    job = job_of(plan, block)._replace(attempt=attempt)
    days = np.array([pair.temporal_baseline for pair in plan.pairs_of(block.batch)])
    finish = delayed(finish_velocity, pure=False)
    return {block.id: finish(job, plan.workflow.output, Scale(plan.nodes, plan.grid.resolution, days), list(fits))}


def finish_velocity(job: Job, url: str, scale: Scale, fits: Sequence[Fit]) -> Record:
    """Read the displacement of a block, write its velocity into the cube, then its record."""
    begun = time.perf_counter()
    motion = retry_storage(read_block)(motion_of(job.folder, job.part), [v.name for v in MOTION], tuple(job.region))
    window = (job.region.rows, job.region.columns)
    factor = point_scale(scale.nodes.window(*window))
    shape = (scale.nodes.height, scale.nodes.width)
    variables = {v.name: np.empty(motion["dx"].shape, v.dtype) for v in VELOCITY}
    for start in range(0, scale.days.size, PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        some = {name: values[part] for name, values in motion.items()}
        correction = correct([fit.shift for fit in fits[part]], [fit.calibration for fit in fits[part]], shape, window)
        for name, values in velocity_block(some, scale.days[part], scale.pixel_size, factor, correction).items():
            variables[name][part] = values
    retry_storage(refuse_replaced)(job.folder, job.run_id)
    retry_storage(write_block)(url, variables, tuple(job.region), layout=layout_of(job.folder, job.part))
    return _finish(job, "velocity", variables, begun)
