"""The driver of a submitted job: a process of its own that runs the plan, gives signs of life, and stops the cluster started for it."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

from distributed import Client

from ftrack.addresses import shown_text
from ftrack.cluster import open_client
from ftrack.config import ClusterSettings
from ftrack.errors import FtrackError, Stop
from ftrack.inputs import fetch_inputs
from ftrack.jobfiles import (
    SUPERSEDED,
    Beat,
    Submission,
    folder_of,
    is_alive,
    is_to_stop,
    new_id,
    read_beat,
    read_submission,
    write_submission,
)
from ftrack.plan import Plan, read_plan
from ftrack.pulse import CANCELLED, ORPHAN, LogToPulse, Pulse
from ftrack.records import describe_error
from ftrack.run import run_plan
from ftrack.store import get
from ftrack.workers import size_workers

DONE, FAILED = 0, 1

WORKERS_WAIT = 120
"""Seconds in which the workers that were asked for may come; the run begins with those that are there."""

log = logging.getLogger("ftrack")


def main(output: str, submission_id: str, address: str = "", owned: str = "") -> int:
    """Drive a submitted job to its end.

    Parameters
    ----------
    output : str
        The cube.
    submission_id : str
        Which submission; if there has been another since, nothing is done.
    address : str
        The scheduler, if the driver is held by a worker; else the cluster is opened here.
    owned : str
        The gateway cluster that was started for this submission, and is stopped at the end.

    Returns
    -------
    int
        0 if the cube is published, 1 if not, 3 if another driver has the job.
    """
    folder = folder_of(output)
    job, other = read_submission(folder), read_beat(folder)
    taken = job is not None and other is not None and other.submission != job.id and is_alive(folder, other)
    if job is None or job.id != submission_id or taken:
        if job is not None and other is not None and taken and job.id == submission_id:
            write_submission(folder, replace(job, id=other.submission, cluster_name=other.cluster_name))
        _stop_cluster(owned)
        return SUPERSEDED
    stop = partial(_stop_cluster, owned)
    pulse = Pulse(folder, Beat(driver=new_id(), submission=job.id, cluster_name=owned), _is_orphan if address else None, stop)
    signal.signal(signal.SIGINT, _interruptions(pulse))
    signal.signal(signal.SIGTERM, lambda number, frame: pulse.interrupt("the driver was told to end by its machine"))
    log.setLevel(logging.INFO)
    log.addHandler(LogToPulse(pulse))
    pulse.start()
    try:
        return _drive(job, pulse, address)
    finally:
        if pulse.why != ORPHAN:
            stop()


def _drive(job: Submission, pulse: Pulse, address: str) -> int:
    """Open what the run needs, run it, and say how it ended."""
    try:
        if is_to_stop(pulse.folder, job.id):
            pulse.why = CANCELLED
            raise KeyboardInterrupt
        with tempfile.TemporaryDirectory(prefix="ftrack-") as place:
            os.chdir(place)
            try:
                plan = _plan_of(job, pulse.folder, Path(place))
                settings = ClusterSettings(kind="scheduler", address=address) if address else ClusterSettings(**job.cluster)
                pulse.say(f"run {plan.run_id}: {len(plan.blocks)} blocks of {len(plan.pairs)} pairs, into {shown_text(job.output)}")
                for warning in plan.warnings:
                    pulse.say(f"warning: {warning}")
                with open_client(settings) as client:
                    if address:
                        _await_workers(client, job, pulse)
                    return _run(plan, client, pulse)
            finally:
                os.chdir("/")
    except (Exception, KeyboardInterrupt) as error:
        _fail(pulse, error)
    return FAILED


def _run(plan: Plan, client: Client, pulse: Pulse) -> int:
    """Run a plan and say how it ended; only then is the client closed, which may take long if the scheduler is gone."""
    try:
        report = run_plan(plan, client, pulse.hear)
    except (Exception, KeyboardInterrupt) as error:
        _fail(pulse, error)
        pulse.end_at_last(FAILED)
        return FAILED
    if report.published:
        pulse.end("done", "", report.measured)
    else:
        reasons = sorted({record.reason for record in report.failed})
        text = f"{len(report.failed)} blocks failed, the first because: {reasons[0]}" if reasons else "the cube is not whole"
        pulse.end("failed", text, report.measured)
    code = DONE if report.published else FAILED
    pulse.end_at_last(code)
    return code


def _fail(pulse: Pulse, error: BaseException) -> None:
    """Say why a run did not come to its end, unless that has been said."""
    if pulse.quit.is_set():
        return
    if not isinstance(error, KeyboardInterrupt):
        pulse.end("failed", str(error) if isinstance(error, FtrackError) else describe_error(error))
    elif pulse.why == ORPHAN:
        pulse.leave()
    else:
        asked = pulse.why in ("", CANCELLED)
        pulse.end("cancelled" if asked else "failed", CANCELLED if asked else pulse.why)


def _plan_of(job: Submission, folder: str, place: Path) -> Plan:
    """Return the frozen plan of a job, with the files that it needs beside it."""
    fetch_inputs(folder, job.inputs, place)
    text = get(folder, "plan.json")
    if text is None:
        raise Stop(f"{folder}/plan.json is missing; submit the workflow again")
    plan = read_plan(text.decode(), f"{folder}/plan.json")
    if plan.run_id != job.run_id:
        raise Stop(
            f"{folder}/plan.json is of run {plan.run_id}, the job of run {job.run_id}: files or versions differ; submit the workflow again"
        )
    return plan


def _await_workers(client: Client, job: Submission, pulse: Pulse) -> None:
    """Wait for the workers that were asked for, for a while."""
    settings = ClusterSettings(**job.cluster)
    few = settings.adaptive or settings.kind not in ("gateway", "scheduler")
    wanted = 1 if few else size_workers(settings).number
    try:
        client.wait_for_workers(wanted, timeout=WORKERS_WAIT)
    except TimeoutError:
        pulse.say(f"fewer than {wanted} workers after {WORKERS_WAIT} s; the run begins with those that are there")


def _interruptions(pulse: Pulse) -> Callable[[int, FrameType | None], None]:
    """Return what a signal does: interrupt the run, but not what is said of its end."""

    def handle(number: int, frame: FrameType | None) -> None:
        if not pulse.quit.is_set():
            raise KeyboardInterrupt

    return handle


def _is_orphan() -> bool:
    """Return whether the process at the other end of standard input is gone."""
    ready, _, _ = select.select([0], [], [], 0)
    return bool(ready) and os.read(0, 1) == b""


def _stop_cluster(name: str) -> None:
    """Stop the gateway cluster that this process is part of, with the token that the gateway gives its processes."""
    given = {key: os.environ.get(f"DASK_GATEWAY_{key}", "") for key in ("API_URL", "API_TOKEN", "CLUSTER_NAME")}
    if not name or name != given["CLUSTER_NAME"]:
        return
    token = Path(given["API_TOKEN"]).read_text().strip() if "/" in given["API_TOKEN"] else given["API_TOKEN"]
    address = f"{given['API_URL']}/v1/clusters/{name}"
    request = urllib.request.Request(address, method="DELETE", headers={"Authorization": f"token {token}"})
    for wait in (1, 2, 4, 8, 0):
        try:
            urllib.request.urlopen(request, timeout=10).close()
            return
        except (urllib.error.URLError, OSError) as error:
            log.warning("the gateway did not stop the cluster: %s", error)
            time.sleep(wait)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
