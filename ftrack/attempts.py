"""What to try again when a block fails, so that one unreadable scene costs nothing but its own pairs."""

from __future__ import annotations

from ftrack.plan import Plan
from ftrack.records import Record
from ftrack.tasks import Job, job_of
from ftrack.tiling import Block

ATTEMPTS = 4
"""Times that a block is tried in one run if what fails may pass, such as workers that die."""

MOST_ATTEMPTS = 8
"""Times that a block is tried in one run where every attempt leaves out one more scene."""

LONGEST = 1000
"""Characters of a reason."""


def first_job(plan: Plan, block: Block, record: Record | None) -> Job:
    """Return the job of a block: all pairs, or those that an earlier run could not measure."""
    job = job_of(plan, block)
    return job._replace(pairs=record.lost) if record is not None and record.lost else job


def is_whole(job: Job) -> bool:
    """Return whether a job is about all pairs of its batch."""
    return bool(len(job.pairs) == job.region.pairs.stop - job.region.pairs.start)


def lost_with(plan: Plan, block: Block, job: Job) -> tuple[int, ...]:
    """Return the pairs that are missing of a block if its job fails; none are named if the whole block is missing."""
    missing = {*job.pairs, *job.lost}
    return () if missing == set(job_of(plan, block).pairs) else tuple(sorted(missing))


def next_job(plan: Plan, block: Block, job: Job, record: Record, alone: bool) -> Job | None:
    """Return what to try after a job has failed, or None if nothing is left to try.

    In a wave a fault spreads to neighbours that share what could not be read, so a block is first tried alone, and then
    without the scene that could not be read.

    Parameters
    ----------
    plan, block : Plan, Block
        What failed.
    job, record : Job, Record
        What was tried, and how it ended.
    alone : bool
        Whether it was tried alone.
    """
    if record.done or record.lost == job.lost != ():
        return None
    if job.attempt >= MOST_ATTEMPTS:
        return None
    job = job._replace(attempt=job.attempt + 1)
    if not alone:
        return job
    if record.passing and not record.scene:
        return job if job.attempt <= ATTEMPTS else None
    images = {scene.image_id for scene in plan.scenes if scene.id == record.scene}
    pairs = plan.pairs_of(block.batch)
    dropped = tuple(k for k in job.pairs if images & {pairs[k].reference, pairs[k].secondary})
    kept = tuple(k for k in job.pairs if k not in dropped)
    if not dropped or not kept:
        return None
    return job._replace(pairs=kept, lost=tuple(sorted({*job.lost, *dropped})), scene=record.scene, reason=_join(job.reason, record.reason))


def _join(*reasons: str) -> str:
    return "; ".join(reason for reason in reasons if reason)[:LONGEST]
