"""Send a plan to a client; record what finished, failed, was empty; publish the cube when all of it is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
from ftrack.errors import FtrackError, Full, Retry
from ftrack.labels import images_of
from ftrack.patience import outlast
from ftrack.plan import Plan, write_plan
from ftrack.records import Phase, Record, each_record, failure, motion_of, refuse_replaced, remove, write_record
from ftrack.refuse import published_run, refuse_other_output, write_plan_of
from ftrack.stable import stable_nodes
from ftrack.tally import Tally
from ftrack.tasks import NO_FIT, Fit, Job, fit_tasks, job_of, layout_of, match_tasks, read_fits, velocity_tasks, write_fits
from ftrack.tiling import Block, Wave
from ftrack.velocity import point_scale, shift_columns

PHASES = {
    "match": "measuring displacement",
    "again": "trying again what failed",
    "shift": "looking at stable ground",
    "velocity": "making velocity",
}


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
    unshifted : int
        Pairs of which too little stable ground was measured, so that their misregistration is not taken off.
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
    unshifted: int = 0


Listener = Callable[[Event], None]


class _Session(NamedTuple):
    """What all phases share."""

    plan: Plan
    client: Client
    threads: int
    tell: Listener
    tally: Tally


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
    threads = refuse_workers(client, plan.forecast)
    try:
        return _make(_Session(plan, client, threads, on_event, _tally(plan)), begun)
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
    tally = session.tally
    resumed = sum(tally.has("match", block) for block in plan.blocks)
    _match(session)
    fits = _fit(session, ground)
    _convert(session, fits)
    if all(tally.has("velocity", block) for block in plan.blocks):
        if outlast(lambda: published_run(output)) == plan.run_id:
            return _finished(plan, begun, session.tell, f"{output} has been finished by another run of this plan")
        outlast(lambda: _publish(session, spec, [fit for batch in sorted(fits) for fit in fits[batch]], ground))
        session.tell(Event("published", done=len(plan.blocks), total=len(plan.blocks), message=f"{output} is finished"))
    unshifted = 0 if ground is None else sum(fit.shift.flag == 0 for batch in fits.values() for fit in batch)
    return _report(plan, tally, resumed, begun)._replace(unshifted=unshifted)


def _finished(plan: Plan, begun: float, tell: Listener, message: str) -> Report:
    """Report a cube that is published already."""
    _tidy(plan)
    tell(Event("unchanged", message=message))
    return _report(plan, _tally(plan), len(plan.blocks), begun)


def _tally(plan: Plan) -> Tally:
    return Tally(plan, each_record(plan.folder, plan.run_id, {part.run_id for part in plan.earlier}))


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
    if plan.earlier:
        keep_plan(plan.folder, plan.run_id)
    write_plan_of(plan.workflow.output, plan.folder, plan.run_id, write_plan(plan))
    create_motion(motion_of(plan.folder, part), spec)
    layout = layout_of(plan.folder, part)
    if layout is None:
        create_cube(plan.workflow.output, spec)
    else:
        stage_cube(plan.workflow.output, layout, spec)


def _match(session: _Session) -> None:
    """Measure what has not been measured yet: wave by wave, then again block by block what has failed, as long as that may help."""
    plan, tally = session.plan, session.tally
    partial = {b: job for b in plan.blocks if (r := tally.record_of("match", b)) is not None and not is_whole(job := first_job(plan, b, r))}
    whole = {b for b in plan.blocks if not tally.has("match", b) and b not in partial}
    waves = ((wave, {block: job_of(plan, block) for block in wave.blocks if block in whole}) for wave in plan.waves)
    _work(session, "match", (match_tasks(plan, wave, some) for wave, some in waves if some), len(whole))
    alone = {wave.blocks[0] for wave in plan.waves if len(wave.blocks) == 1}
    todo = partial | _next_jobs(session, {b: job_of(plan, b) for b in whole if not tally.has("match", b)}, alone)
    while todo:
        tried = {block.id: _Tried(job.attempt, lost_with(plan, block, job)) for block, job in todo.items()}
        single = (match_tasks(plan, Wave(b.batch, b.row, b.column, 1, 1), {b: job}) for b, job in todo.items())
        _work(session, "match", single, len(todo), tried)
        todo = _next_jobs(session, todo, set(todo))


def _next_jobs(session: _Session, tried: Mapping[Block, Job], alone: Collection[Block]) -> dict[Block, Job]:
    """Return what to try after some jobs; those that are in ``alone`` have been tried alone."""
    failed = ((block, job, session.tally.record_of("match", block)) for block, job in tried.items())
    found = ((b, next_job(session.plan, b, job, record, alone=b in alone)) for b, job, record in failed if record is not None)
    return {block: job for block, job in found if job is not None}


def _fit(session: _Session, stable: np.ndarray | None) -> dict[int, list[Fit]]:
    """Return what stable ground says of the pairs of every batch that has been measured as a whole."""
    plan, tally = session.plan, session.tally
    missing = {block.batch for block in plan.blocks if not tally.has("match", block)}
    whole = [batch for batch in range(plan.tiling.first_batch, plan.tiling.batches) if batch not in missing]
    if stable is None:
        return {batch: [NO_FIT] * len(plan.pairs_of(batch)) for batch in whole}
    fits = {batch: known for batch in whole if (known := read_fits(plan.folder, batch)) is not None}
    count = plan.tiling.batches - plan.tiling.first_batch
    session.tell(Event("phase", "shift", len(fits), count, message=PHASES["shift"]))
    for batch, fitted in _fit_batches(session, [batch for batch in whole if batch not in fits], delayed(stable, pure=True)):
        fits[batch] = fitted
        outlast(partial(write_fits, plan.folder, batch, fitted))
        session.tell(Event("block", "shift", len(fits), count))
    return fits


def _fit_batches(session: _Session, batches: Sequence[int], ground: Any) -> Iterator[tuple[int, list[Fit]]]:
    """Fit the shifts of batches and give each when it is whole; what fails for reasons that may pass is done again."""
    parts: dict[int, dict[str, list[Fit]]] = {batch: {} for batch in batches}
    wanted: dict[int, int] = {}

    def tasks_of(batch: int) -> dict[str, Any]:
        tasks = fit_tasks(session.plan, batch, ground)
        wanted[batch] = len(tasks)
        return {f"{batch} {first}": task for first, task in tasks.items() if first not in parts[batch]}

    for attempt in range(1, ATTEMPTS + 1):
        groups = (tasks_of(batch) for batch in list(parts))
        with closing(drive(session.client, groups, 2 * session.threads)) as outcomes:
            for outcome in outcomes:
                if attempt < ATTEMPTS and isinstance(outcome.error, Retry):
                    continue
                batch, first = outcome.name.split()
                found = parts[int(batch)]
                found[first] = must(outcome)
                if len(found) == wanted[int(batch)]:
                    yield int(batch), [fit for part in sorted(found, key=int) for fit in found[part]]
                    del parts[int(batch)]


def _convert(session: _Session, fits: Mapping[int, list[Fit]]) -> None:
    """Turn displacement into velocity where it is known what stable ground says of all pairs of a batch."""
    plan, tally = session.plan, session.tally
    todo = [block for block in plan.blocks if block.batch in fits and not tally.has("velocity", block)]
    for attempt in range(1, ATTEMPTS + 1):
        if not todo:
            break
        tried = {block.id: _Tried(attempt) for block in todo} if attempt > 1 else None
        _work(session, "velocity", (velocity_tasks(plan, b, fits[b.batch], attempt) for b in todo), len(todo), tried)
        todo = [block for block in todo if (record := tally.record_of("velocity", block)) is not None and record.passing]


def _work(
    session: _Session, phase: Phase, groups: Iterable[Mapping[str, Any]], count: int, tried: Mapping[str, _Tried] | None = None
) -> None:
    """Compute blocks, tell of each, count it, and record those that failed (the others record themselves)."""
    plan, client, _, tell, tally = session
    total = len(plan.blocks)
    done, begun = total - count, time.monotonic()
    tell(Event("phase", phase, done, total, message=PHASES["again" if tried else phase]))
    with closing(drive(client, groups, _waiting(session, phase, tried))) as outcomes:
        for number, outcome in enumerate(outcomes, 1):
            record = outcome.value if outcome.error is None else _failed(plan, phase, outcome, (tried or {}).get(outcome.name, _Tried()))
            tally.add(record)
            done += record.done
            rate = number / max(time.monotonic() - begun, 1e-6)
            message = "" if record.done else f"block {record.block} failed: {record.reason}"
            tell(Event("block", phase, done, total, record, rate, (count - number) / rate, message))


def _waiting(session: _Session, phase: Phase, tried: Mapping[str, _Tried] | None) -> int:
    """Return under how many blocks under way more are sent."""
    # A block that has failed twice may be what kills the workers: nothing else is then under way with it.
    if tried and min(block.attempt for block in tried.values()) > 2:
        return 1
    enough = 2 * session.threads
    # Workers that wait for the last tiles of a wave read the next one meanwhile.
    return enough if tried or phase != "match" else max(enough, 1 + max(wave.height * wave.width for wave in session.plan.waves))


def _failed(plan: Plan, phase: Phase, outcome: Outcome, tried: _Tried) -> Record:
    """Record that a block has failed, unless another run of the plan has published the cube meanwhile."""
    assert outcome.error is not None
    if isinstance(outcome.error, Full):
        raise outcome.error
    if outlast(lambda: published_run(plan.workflow.output)) == plan.run_id:
        raise Retry(f"{plan.workflow.output} has been published by another run") from outcome.error
    outlast(lambda: refuse_replaced(plan.folder, plan.run_id))
    record = replace(failure(phase, outcome.name, plan.run_id, outcome.error, tried.lost), attempts=tried.attempt)
    outlast(lambda: write_record(plan.folder, record))
    return record


def _publish(session: _Session, spec: CubeSpec, fits: list[Fit], stable: np.ndarray | None) -> None:
    """Write what describes pairs and nodes, then the root, and remove what is no longer needed."""
    plan = session.plan
    output, nodes = plan.workflow.output, plan.nodes
    scale = point_scale(nodes)
    layout = layout_of(plan.folder, len(plan.earlier))
    days = np.array([pair.temporal_baseline for pair in plan.pairs[sum(plan.parts) :]])
    centre = float(scale[nodes.height // 2, nodes.width // 2])
    per_pair = shift_columns([fit.shift for fit in fits], days, plan.grid.resolution, centre)
    per_pair["roi_valid_percentage"] = 100 * session.tally.measured / (nodes.height * nodes.width)
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


def _report(plan: Plan, tally: Tally, resumed: int, begun: float) -> Report:
    phases: tuple[Phase, ...] = ("match", "velocity")
    return Report(
        run_id=plan.run_id,
        output=plan.workflow.output,
        published=published_run(plan.workflow.output) == plan.run_id,
        blocks=len(plan.blocks),
        resumed=resumed,
        empty=tally.empty,
        failed=tuple(record for block in plan.blocks for phase in phases if (record := tally.record_of(phase, block)) is not None),
        measured=int(tally.measured.sum()),
        seconds=time.monotonic() - begun,
    )
