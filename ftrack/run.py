"""Send a plan to a client; record what finished, failed, was empty; publish the cube when all of it is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from dask.delayed import delayed
from distributed import Client

from ftrack.append import keep_plan
from ftrack.attempts import ATTEMPTS, first_job, is_whole, lost_with, next_job
from ftrack.cube import CubeSpec, create_cube, create_motion, publish_cube, stage_cube, write_coords
from ftrack.drive import Outcome, drive, must, refuse_workers
from ftrack.errors import FtrackError, Retry
from ftrack.labels import images_of
from ftrack.plan import Plan, write_plan
from ftrack.records import Phase, Record, failure, read_records, remove, write_record
from ftrack.refuse import published_run, refuse_other_output
from ftrack.stable import stable_nodes
from ftrack.store import put
from ftrack.tasks import NO_FIT, Fit, fit_tasks, layout_of, match_tasks, motion_of, read_fits, velocity_tasks, write_fits
from ftrack.tiling import Wave, region_of
from ftrack.velocity import point_scale, shift_columns

PHASES = {
    "match": "measuring displacement",
    "again": "trying again what failed",
    "shift": "looking at stable ground",
    "velocity": "making velocity",
}

Records = dict[tuple[str, str], Record]


class _Tried(NamedTuple):
    """What is known of a block before it is tried: which attempt it is, and the pairs that are missing if it fails."""

    attempt: int = 1
    lost: tuple[int, ...] = ()


class Event(NamedTuple):
    """Something that happened in a run.

    Attributes
    ----------
    kind : str
        ``phase`` begins; ``block`` has ended; ``published``; ``unchanged``: everything was there already.
    phase : str
        ``match``, ``shift`` or ``velocity``.
    done, total : int
        Blocks of the phase that need not be done again, and all of them; batches of pairs in ``shift``.
    record : Record or None
        How the block ended.
    rate : float
        Blocks per second since the phase began.
    seconds_left : float
        Until the end of the phase; NaN if not known.
    message : str
        For people.
    """

    kind: Literal["phase", "block", "published", "unchanged"]
    phase: str = ""
    done: int = 0
    total: int = 0
    record: Record | None = None
    rate: float = 0.0
    seconds_left: float = float("nan")
    message: str = ""


class Report(NamedTuple):
    """How a run ended.

    Attributes
    ----------
    run_id, output : str
        Which run, and its cube.
    published : bool
        True if the cube can be opened.
    blocks : int
        Blocks of the plan.
    resumed : int
        Blocks that an earlier run had measured.
    empty : int
        Blocks in which nothing could be measured.
    failed : tuple of Record
        Blocks that are missing, and why. Running again takes them up.
    measured : int
        Measured vectors.
    seconds : float
        Time it took.
    """

    run_id: str
    output: str
    published: bool
    blocks: int
    resumed: int
    empty: int
    failed: tuple[Record, ...]
    measured: int
    seconds: float


Listener = Callable[[Event], None]


class _Session(NamedTuple):
    """What all phases share."""

    plan: Plan
    client: Client
    threads: int
    tell: Listener


def run_plan(plan: Plan, client: Client, on_event: Listener = lambda event: None) -> Report:
    """Make the cube of a plan, or what is still missing of it.

    Every block writes its chunks and then its record, so the run can be stopped at any moment and started again. The cube
    can be opened once all its blocks are there. A block that fails is recorded, and the others go on.

    Parameters
    ----------
    plan : Plan
        What to do.
    client : Client
        Who does it.
    on_event : callable
        Told of every block that ends.

    Raises
    ------
    Stop
        The output holds something else, workers are too small, or stable ground cannot be read.
    Retry
        Storage or scheduler cannot be reached. What has been written stays.
    """
    begun = time.monotonic()
    output = plan.workflow.output
    if published_run(output) == plan.run_id:
        return _finished(plan, begun, on_event, f"{output} is finished; there is nothing to do")
    refuse_other_output(output, plan.folder, plan.run_id, plan.earlier[-1].run_id if plan.earlier else None)
    session = _Session(plan, client, refuse_workers(client, plan.forecast), on_event)
    try:
        return _make(session, begun)
    except FtrackError:
        # Another run of this plan, which was quicker, has removed what this one needs.
        if published_run(output) != plan.run_id:
            raise
    return _finished(plan, begun, on_event, f"{output} has been finished by another run of this plan")


def _make(session: _Session, begun: float) -> Report:
    """Make what is missing of a cube, and publish it if all of it is there then."""
    plan, output = session.plan, session.plan.workflow.output
    ground = stable_nodes(plan.workflow.stable, plan.nodes).stable
    spec = spec_of(plan)
    _prepare(plan, spec)
    records = _records(plan)
    resumed = sum(_done(records, "match", block.id) for block in plan.blocks)
    records |= _match(session, records)
    fits = _fit(session, records, ground)
    records |= _convert(session, records, fits)
    if all(_done(records, "velocity", block.id) for block in plan.blocks):
        if published_run(output) == plan.run_id:
            return _finished(plan, begun, session.tell, f"{output} has been finished by another run of this plan")
        _publish(plan, spec, [fit for batch in sorted(fits) for fit in fits[batch]], records, ground)
        session.tell(Event("published", done=len(plan.blocks), total=len(plan.blocks), message=f"{output} is finished"))
    return _report(plan, records, resumed, begun)


def _finished(plan: Plan, begun: float, tell: Listener, message: str) -> Report:
    """Report a cube that is published already."""
    _tidy(plan)
    tell(Event("unchanged", message=message))
    return _report(plan, _records(plan), len(plan.blocks), begun)


def _records(plan: Plan) -> Records:
    return read_records(plan.folder, plan.run_id, {part.run_id for part in plan.earlier})


def spec_of(plan: Plan) -> CubeSpec:
    """Return the cube that a plan makes, with where it comes from."""
    return CubeSpec(
        nodes=plan.nodes,
        pairs=plan.pairs,
        images=images_of(plan.scenes),
        chunks=plan.tiling.chunks,
        attrs=plan.provenance,
        parts=plan.parts,
    )


def _prepare(plan: Plan, spec: CubeSpec) -> None:
    """Write the plan and the metadata of all arrays, but not the root of the cube."""
    part = len(plan.earlier)
    keep_plan(plan.folder, plan.run_id)
    put(plan.folder, "plan.json", write_plan(plan).encode())
    create_motion(motion_of(plan.folder, part), spec)
    layout = layout_of(plan.folder, part)
    if layout is None:
        create_cube(plan.workflow.output, spec)
    else:
        stage_cube(plan.workflow.output, layout, spec)


def _match(session: _Session, records: Records) -> Records:
    """Measure what has not been measured yet: wave by wave, then again block by block what has failed, as long as that may help."""
    plan = session.plan
    jobs = {b: first_job(plan, b, records.get(("match", b.id))) for b in plan.blocks if not _done(records, "match", b.id)}
    whole = {block: job for block, job in jobs.items() if is_whole(job)}
    waves = [(wave, {block: whole[block] for block in wave.blocks if block in whole}) for wave in plan.waves]
    found = _work(session, "match", (match_tasks(plan, wave, some) for wave, some in waves if some), len(whole))
    alone = {wave.blocks[0] for wave in plan.waves if len(wave.blocks) == 1}
    again = {b: n for b, j in whole.items() if (n := next_job(plan, b, j, found["match", b.id], alone=b in alone)) is not None}
    todo = {block: job for block, job in jobs.items() if block not in whole} | again
    while todo:
        tried = {block.id: _Tried(job.attempt, lost_with(plan, block, job)) for block, job in todo.items()}
        single = (match_tasks(plan, Wave(b.batch, b.row, b.column, 1, 1), {b: job}) for b, job in todo.items())
        found |= _work(session, "match", single, len(todo), tried)
        todo = {b: n for b, j in todo.items() if (n := next_job(plan, b, j, found["match", b.id], alone=True)) is not None}
    return found


def _fit(session: _Session, records: Records, stable: np.ndarray | None) -> dict[int, list[Fit]]:
    """Return what stable ground says of the pairs of every batch that has been measured as a whole."""
    plan, tell = session.plan, session.tell
    missing = {block.batch for block in plan.blocks if not _done(records, "match", block.id)}
    whole = [batch for batch in range(plan.tiling.first_batch, plan.tiling.batches) if batch not in missing]
    if stable is None:
        return {batch: [NO_FIT] * len(plan.pairs_of(batch)) for batch in whole}
    fits = {batch: known for batch in whole if (known := read_fits(plan.folder, batch)) is not None}
    count = plan.tiling.batches - plan.tiling.first_batch
    tell(Event("phase", "shift", len(fits), count, message=PHASES["shift"]))
    ground = delayed(stable, pure=True)
    for batch in [batch for batch in whole if batch not in fits]:
        parts = _must_all(session, partial(fit_tasks, plan, batch, ground))
        fits[batch] = [fit for first in sorted(parts, key=int) for fit in parts[first]]
        write_fits(plan.folder, batch, fits[batch])
        session.tell(Event("block", "shift", len(fits), count))
    return fits


def _must_all(session: _Session, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the results of tasks that all have to be there; those that fail for reasons that may pass are done again."""
    results: dict[str, Any] = {}
    for attempt in range(1, ATTEMPTS + 1):
        group = {name: task for name, task in make().items() if name not in results}
        with closing(drive(session.client, [group] if group else [], 1)) as outcomes:
            for outcome in outcomes:
                if attempt == ATTEMPTS or not isinstance(outcome.error, Retry):
                    results[outcome.name] = must(outcome)
    return results


def _convert(session: _Session, records: Records, fits: Mapping[int, list[Fit]]) -> Records:
    """Turn displacement into velocity where it is known what stable ground says of all pairs of a batch."""
    plan = session.plan
    todo = [block for block in plan.blocks if block.batch in fits and not _done(records, "velocity", block.id)]
    found: Records = {}
    for attempt in range(1, ATTEMPTS + 1):
        if not todo:
            break
        tried = {block.id: _Tried(attempt) for block in todo} if attempt > 1 else None
        found |= _work(session, "velocity", (velocity_tasks(plan, b, fits[b.batch], attempt) for b in todo), len(todo), tried)
        todo = [block for block in todo if found["velocity", block.id].passing]
    return found


def _work(
    session: _Session, phase: Phase, groups: Iterable[Mapping[str, Any]], count: int, tried: Mapping[str, _Tried] | None = None
) -> Records:
    """Compute blocks, tell of each, and record those that failed (the others record themselves)."""
    plan, client, threads, tell = session
    total = len(plan.blocks)
    done, begun = total - count, time.monotonic()
    found: Records = {}
    tell(Event("phase", phase, done, total, message=PHASES["again" if tried else phase]))
    # A block that has failed twice may be what kills the workers: nothing else is then under way with it.
    waiting = 1 if tried and min(block.attempt for block in tried.values()) > 2 else 2 * threads
    with closing(drive(client, groups, waiting)) as outcomes:
        for number, outcome in enumerate(outcomes, 1):
            record = outcome.value if outcome.error is None else _failed(plan, phase, outcome, (tried or {}).get(outcome.name, _Tried()))
            found[phase, record.block] = record
            done += record.done
            rate = number / max(time.monotonic() - begun, 1e-6)
            message = "" if record.done else f"block {record.block} failed: {record.reason}"
            tell(Event("block", phase, done, total, record, rate, (count - number) / rate, message))
    return found


def _failed(plan: Plan, phase: Phase, outcome: Outcome, tried: _Tried) -> Record:
    """Record that a block has failed, unless another run of the plan has published the cube meanwhile."""
    assert outcome.error is not None
    if published_run(plan.workflow.output) == plan.run_id:
        raise Retry(f"{plan.workflow.output} has been published by another run") from outcome.error
    record = replace(failure(phase, outcome.name, plan.run_id, outcome.error, tried.lost), attempts=tried.attempt)
    write_record(plan.folder, record)
    return record


def _done(records: Records, phase: str, block: str) -> bool:
    record = records.get((phase, block))
    return record is not None and record.done


def _publish(plan: Plan, spec: CubeSpec, fits: list[Fit], records: Records, stable: np.ndarray | None) -> None:
    """Write what describes pairs and nodes, then the root, and remove what is no longer needed."""
    output, nodes = plan.workflow.output, plan.nodes
    scale = point_scale(nodes)
    layout = layout_of(plan.folder, len(plan.earlier))
    days = np.array([pair.temporal_baseline for pair in plan.pairs[sum(plan.parts) :]])
    centre = float(scale[nodes.height // 2, nodes.width // 2])
    per_pair = shift_columns([fit.shift for fit in fits], days, plan.grid.resolution, centre)
    per_pair["roi_valid_percentage"] = 100 * _measured(plan, records) / (nodes.height * nodes.width)
    per_node = {"scale_factor": scale} if stable is None else {"scale_factor": scale, "stable": stable}
    write_coords(output, spec, per_pair, per_node, layout=layout)
    publish_cube(output, spec, layout=layout)
    _tidy(plan)


def _tidy(plan: Plan) -> None:
    """Remove what only a run that is under way needs."""
    if not plan.workflow.run.keep_motion:
        remove(plan.folder, motion_of("", len(plan.earlier)).strip("/"))
    if plan.earlier:
        remove(plan.folder, "layout")


def _measured(plan: Plan, records: Records) -> np.ndarray:
    """Return how many nodes were measured of every pair of this run."""
    first = plan.tiling.ranges[-1][0]
    counts = np.zeros(len(plan.pairs) - sum(plan.parts), int)
    for block in plan.blocks:
        record = records.get(("match", block.id))
        if record is not None and record.done:
            places = region_of(plan.tiling, block).pairs
            counts[places.start - first : places.stop - first] += record.measured
    return counts


def _report(plan: Plan, records: Records, resumed: int, begun: float) -> Report:
    wanted = [records[phase, block.id] for block in plan.blocks for phase in ("match", "velocity") if (phase, block.id) in records]
    return Report(
        run_id=plan.run_id,
        output=plan.workflow.output,
        published=published_run(plan.workflow.output) == plan.run_id,
        blocks=len(plan.blocks),
        resumed=resumed,
        empty=sum(record.status == "empty" for record in wanted if record.phase == "match"),
        failed=tuple(record for record in wanted if record.status == "failed"),
        measured=int(_measured(plan, records).sum()),
        seconds=time.monotonic() - begun,
    )
