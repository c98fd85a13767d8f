"""A run that goes on when the notebook is closed: submit, find, watch, cancel, take up again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr
from distributed import Client

from ftrack.addresses import shown
from ftrack.cluster import join_cluster, open_client
from ftrack.config import ClusterSettings, Workflow, cluster_changes, read_workflow
from ftrack.cube import open_cube
from ftrack.errors import FtrackError, Retry, Stop
from ftrack.gateway import start_cluster, stop_cluster
from ftrack.inputs import carry_inputs
from ftrack.jobfiles import (
    EVERY,
    Beat,
    State,
    Submission,
    ask_to_stop,
    find_outputs,
    folder_of,
    new_id,
    read_beat,
    read_logs,
    read_submission,
    write_beat,
    write_submission,
)
from ftrack.jobstatus import JobStatus, display_of, html_of, status_of, submission_of
from ftrack.launch import start_here, start_there
from ftrack.plan import Plan, make_plan, write_plan
from ftrack.refuse import published_run, write_plan_of

STOPPED = 30.0
"""Seconds that a driver may take to stop."""


@dataclass(frozen=True)
class Job:
    """A submitted run, found by its cube; all that is known of it lies in the store.

    Attributes
    ----------
    output : str
        The cube.
    submission : Submission
        What was asked for when this object was made.
    """

    output: str
    submission: Submission

    @property
    def folder(self) -> str:
        """Where the run keeps its records."""
        return folder_of(self.output)

    def status(self) -> JobStatus:
        """Return how the job goes. A driver that seems to be dead is given some seconds to show that it is not.

        Raises
        ------
        Retry
            The store cannot be reached.
        """
        return status_of(self.folder, submission_of(self.output))

    def wait(self, timeout: float | None = None) -> JobStatus:
        """Wait until the job has ended, and return how.

        Raises
        ------
        Retry
            It has not ended after ``timeout`` seconds; it goes on.
        """
        for status in self.follow(timeout):
            if status.ended:
                return status
        raise Retry(f"{shown(self.output)} has not ended after {timeout:g} s; it goes on")

    def follow(self, timeout: float | None = None) -> Iterator[JobStatus]:
        """Yield how the job goes, about once a heartbeat, until it has ended or the time is over."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            status = self.status()
            yield status
            if status.ended or (end is not None and time.monotonic() >= end):
                return
            time.sleep(EVERY / 2 if end is None else max(0.0, min(EVERY / 2, end - time.monotonic())))

    def watch(self) -> JobStatus:
        """Show how the job goes until it has ended: in a notebook as a bar that moves, else line by line."""
        show = display_of(self.submission)
        status = self.status()
        for status in self.follow():
            show(status)
        return status

    def logs(self) -> str:
        """Return what the drivers of this job have said, the oldest first."""
        return "".join(read_logs(self.folder).values())

    def cancel(self, timeout: float = STOPPED) -> JobStatus:
        """Stop the job, and wait until it has stopped. What is finished stays, and ``resume`` goes on from it.

        Raises
        ------
        Retry
            The driver does not stop in time.
        """
        status = self.status()
        if status.ended:
            return status
        beat = read_beat(self.folder)
        submission = submission_of(self.output)
        begun = status.state != "waiting" and beat is not None
        ask_to_stop(self.folder, beat.submission if begun and beat is not None else submission.id)
        if not begun:
            self.stop_clusters()
            _end(self.folder, submission, "cancelled", "cancelled before it had begun")
            return self.status()
        return self.wait(timeout)

    def resume(self, cluster: ClusterSettings | str | None = None) -> Job:
        """Take the job up again; what is finished is not done again. Nothing happens if it is under way or done.

        Parameters
        ----------
        cluster : ClusterSettings or str, optional
            Another cluster than before; a text as ``ftrack submit --cluster`` takes it.
        """
        if published_run(self.output) == self.submission.run_id or not self.status().ended:
            return self
        old = submission_of(self.output)
        settings = cluster if isinstance(cluster, ClusterSettings) else _changed(old.cluster, cluster)
        self.stop_clusters(quiet=True)
        return _start(replace(old, id=new_id(), submitted=_now(), cluster_name="", cluster=settings.model_dump(mode="json")), settings)

    def reap(self) -> tuple[str, ...]:
        """Stop the clusters that a dead driver has left, and return their names.

        Raises
        ------
        Stop
            The job is under way.
        """
        status = self.status()
        if not status.ended:
            raise Stop(f"{shown(self.output)} is under way ({status.state}); `ftrack cancel` stops it")
        stopped = self.stop_clusters()
        if status.state == "dead" or stopped:
            beat = read_beat(self.folder)
            state: State = beat.state if beat is not None and beat.ended else "failed"
            clusters = f"its cluster {', '.join(stopped)} was left running, and has been stopped" if stopped else ""
            _end(self.folder, submission_of(self.output), state, "; ".join(filter(None, (status.reason, clusters))))
        return stopped

    def stop_clusters(self, quiet: bool = False) -> tuple[str, ...]:
        """Stop what was started for this job at a gateway and is still there, and return the names.

        Parameters
        ----------
        quiet : bool
            Do not mind if the gateway cannot be reached.
        """
        submission, beat = submission_of(self.output), read_beat(self.folder)
        names = {submission.cluster_name, "" if beat is None else beat.cluster_name} - {""}
        settings = ClusterSettings(**submission.cluster)
        try:
            return tuple(name for name in sorted(names) if stop_cluster(settings, name))
        except FtrackError:
            if not quiet:
                raise
            return ()

    def open(self) -> xr.Dataset:
        """Open the cube."""
        return open_cube(self.output)

    def __repr__(self) -> str:
        """Return which job it is and how it goes."""
        return f"<Job {self.submission.name!r} {shown(self.output)}: {self.status()}>"

    def _repr_html_(self) -> str:
        return html_of(self.submission, self.status())


def submit(workflow: Workflow | str | Path, changes: Sequence[str] = ()) -> Job:
    """Start a run that goes on without this process, and return at once what it is found by.

    Everything is planned here, so that a request that cannot be met is refused before anything starts. The driver then
    lives where the work is done: in a process of this machine (``cluster.kind`` local or threads) or on the cluster
    (gateway, scheduler). A cluster of a gateway is started for the job and stopped when it ends.

    Parameters
    ----------
    workflow : Workflow or path
        The settings, or a workflow file.
    changes : sequence of str
        Settings that take the place of the file's, such as ``matcher.spacing=16``.

    Returns
    -------
    Job
        The one that is under way, if this run has been submitted before.

    Raises
    ------
    Stop
        The request cannot be met; see ``make_plan``.
    Retry
        Catalogue, store or cluster cannot be reached.
    """
    settings = workflow if isinstance(workflow, Workflow) else read_workflow(workflow, changes)
    plan = make_plan(settings)
    output, folder = plan.workflow.output, plan.folder
    known = read_submission(folder)
    if known is not None:
        job, published = Job(output, known), published_run(output)
        if known.run_id == plan.run_id and (published == plan.run_id or not job.status().ended):
            return job
        if known.run_id == plan.run_id or published is None:
            job.stop_clusters(quiet=True)
    cluster = plan.workflow.cluster
    submission = Submission(
        id=new_id(),
        run_id=plan.run_id,
        name=plan.workflow.name,
        output=output,
        cluster=cluster.model_dump(mode="json"),
        submitted=_now(),
    )
    return _start(submission, cluster, plan)


def open_job(output: str | Path) -> Job:
    """Find a job by its cube, from any machine that can read it.

    Raises
    ------
    Stop
        No job was submitted for it.
    """
    output = str(output)
    return Job(output, submission_of(output))


def list_jobs(prefix: str | Path) -> tuple[Job, ...]:
    """Find all jobs whose cubes lie below a folder or an address."""
    return tuple(open_job(output) for output in find_outputs(str(prefix)))


def _portable(plan: Plan) -> tuple[str, tuple[str, ...]]:
    """Return a plan as text that a driver elsewhere can use, and the files that were copied for it."""
    text = write_plan(plan)
    if "://" not in plan.workflow.output:
        return text, ()
    values = json.loads(text)
    values["workflow"], names = carry_inputs(values["workflow"], plan.folder)
    return json.dumps(values, sort_keys=True, indent=1, allow_nan=False), names


def _start(submission: Submission, cluster: ClusterSettings, plan: Plan | None = None) -> Job:
    """Start the driver of a submission; what it needs, with a plan that is not kept yet, is written once there is a cluster."""
    if cluster.kind in ("local", "threads"):
        kept = _keep(submission, plan)
        with _told_of_failure(kept):
            start_here(kept)
        return Job(submission.output, kept)
    with _cluster_of(cluster) as (client, name):
        kept = _keep(replace(submission, cluster_name=name), plan)
        with _told_of_failure(kept):
            start_there(kept, client)
    return Job(submission.output, kept)


def _keep(submission: Submission, plan: Plan | None) -> Submission:
    """Write a submission, after the plan and the files that it needs, and return it as it is written."""
    folder, inputs = folder_of(submission.output), submission.inputs
    if plan is not None:
        text, inputs = _portable(plan)
        if published_run(submission.output) != plan.run_id:
            write_plan_of(submission.output, folder, plan.run_id, text)
    kept = replace(submission, inputs=inputs)
    write_submission(folder, kept)
    return kept


@contextmanager
def _told_of_failure(submission: Submission) -> Iterator[None]:
    """Write down that a driver could not be started, so that its job does not seem to wait for a cluster."""
    try:
        yield
    except Stop as error:
        beat = read_beat(folder_of(submission.output))
        if beat is None or beat.ended or beat.submission == submission.id:
            _end(folder_of(submission.output), submission, "failed", str(error))
        raise


def _changed(values: Mapping[str, Any], place: str | None) -> ClusterSettings:
    """Return settings of a cluster, at another place if one is given."""
    changes = [] if place is None else cluster_changes(place)
    given = dict(change.removeprefix("cluster.").split("=", 1) for change in changes)
    return ClusterSettings(**{**values, **({"address": ""} if given else {}), **given})


@contextmanager
def _cluster_of(settings: ClusterSettings) -> Iterator[tuple[Client, str]]:
    """Give the cluster that a job runs on, and its name if it was started for the job; it stays unless something goes wrong."""
    if settings.kind == "scheduler":
        with open_client(settings) as client:
            yield client, ""
        return
    name = start_cluster(settings).name
    try:
        with join_cluster(settings, name) as client:
            yield client, name
    except BaseException:
        stop_cluster(settings, name)
        raise


def _end(folder: str, submission: Submission, state: State, reason: str) -> None:
    """Say for a driver that cannot say it any more how it ended."""
    last = read_beat(folder) or Beat(driver="", submission=submission.id)
    write_beat(folder, replace(last, submission=submission.id, driver=new_id(), time=time.time(), state=state, reason=reason))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
