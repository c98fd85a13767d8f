"""The commands for jobs: submit, jobs, status, logs, cancel, resume, reap; and doctor, which looks at what they need."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import ftrack
from ftrack import console
from ftrack.command import FAILED, OK, Changes, ClusterChoice, WorkflowFile, changes_of, told

if TYPE_CHECKING:
    import ftrack.doctor
    import ftrack.jobfiles
    import ftrack.threads

app = typer.Typer()

Place = Annotated[
    str, typer.Argument(metavar="CUBE", help="the cube of the job: a path, an address such as s3://bucket/name.zarr, or its workflow file")
]
Watch = Annotated[bool, typer.Option("--watch", help="stay and show how it goes; Ctrl-C ends the showing, not the job")]


def _open(place: str) -> ftrack.Job:
    """Find a job by its cube or its workflow file."""
    return ftrack.open_job(ftrack.read_workflow(place).output if Path(place).suffix in (".yaml", ".yml") else place)


def _begun(job: ftrack.Job, watch: bool) -> None:
    """Say how a job that has been sent goes, and show it or say how to see it."""
    status = job.status()
    console.out.print(f"{job.output}: {status}")
    if watch:
        _watch(job)
    if not status.ended:
        console.out.print(f"look again with: ftrack status {job.output}")


def _watch(job: ftrack.Job) -> None:
    """Show how a job goes; leave with code 1 if it does not end well."""
    try:
        status = console.watch_status(job.follow())
    except KeyboardInterrupt:
        console.out.print(f"the job goes on; look again with: ftrack status {job.output}")
        raise typer.Exit(OK) from None
    console.show_status(job, status)
    raise typer.Exit(OK if status.state == "done" else FAILED)


@app.command(epilog="Example: ftrack submit jakobshavn.yaml --cluster gateway --set output=s3://bucket/jakobshavn.zarr")
@told
def submit(file: WorkflowFile, changes: Changes = None, cluster: ClusterChoice = None, watch: Watch = False) -> None:
    """Start the run on the cluster and return: close the laptop, and look again from anywhere with ftrack status CUBE.

    On a gateway a cluster is started for the job, kept while it works, and stopped when it ends. With local the run goes on
    in a process of this machine.
    """
    workflow = ftrack.read_workflow(file, [*(changes or ()), *changes_of(cluster)])
    _begun(ftrack.submit(workflow), watch)


@app.command(epilog="Example: ftrack jobs s3://bucket/glaciers")
@told
def jobs(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="a folder or an address; up to two levels below it are looked at")] = ".",
) -> None:
    """List the jobs whose cubes lie below a folder or an address, and how they go."""
    found = ftrack.threads.at_once(lambda job: (job, job.status()), ftrack.list_jobs(prefix))
    if not console.show_jobs(found):
        console.out.print(f"no jobs below {prefix}; ftrack submit FILE starts one")


@app.command(epilog="Example: ftrack status s3://bucket/jakobshavn.zarr --watch")
@told
def status(
    cube: Place,
    watch: Watch = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the status as JSON")] = False,
) -> None:
    """Say how a job goes, from any machine that can read its cube. A driver that died is told as dead."""
    job = _open(cube)
    if watch:
        _watch(job)
    now = job.status()
    if as_json:
        console.out.print_json(json.dumps({"output": job.output, "run_id": job.submission.run_id, **asdict(now)}))
    else:
        console.show_status(job, now)


@app.command(epilog="Example: ftrack logs s3://bucket/jakobshavn.zarr -f")
@told
def logs(
    cube: Place,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the job has ended")] = False,
) -> None:
    """Print what the drivers of a job have said; times are UTC."""
    job = _open(cube)
    printed: dict[str, int] = {}
    while True:
        ended = not follow or job.status().ended
        for name, text in ftrack.jobfiles.read_logs(job.folder).items():
            console.out.print(text[printed.get(name, 0) :], end="", markup=False)
            printed[name] = len(text)
        if ended:
            return
        time.sleep(ftrack.jobfiles.EVERY)


@app.command(epilog="Example: ftrack cancel s3://bucket/jakobshavn.zarr")
@told
def cancel(cube: Place) -> None:
    """Stop a job. What is finished stays, and ftrack resume goes on from there."""
    job = _open(cube)
    console.out.print(f"{job.output}: {job.cancel()}")


@app.command(epilog="Example: ftrack resume s3://bucket/jakobshavn.zarr --cluster gateway")
@told
def resume(cube: Place, cluster: ClusterChoice = None, watch: Watch = False) -> None:
    """Take up a job that failed, was cancelled, or whose driver died. What is finished is not done again; no workflow file is needed."""
    _begun(_open(cube).resume(cluster), watch)


@app.command(epilog="Example: ftrack reap s3://bucket/jakobshavn.zarr")
@told
def reap(cube: Place) -> None:
    """Stop the clusters that a job has left behind because its driver died."""
    job = _open(cube)
    stopped = job.reap()
    console.out.print(f"stopped: {', '.join(stopped)}" if stopped else f"{job.output} has left nothing behind")


@app.command(epilog="Example: ftrack doctor jakobshavn.yaml --cluster gateway")
@told
def doctor(file: WorkflowFile, changes: Changes = None, cluster: ClusterChoice = None) -> None:
    """Look at what a run needs before it begins: address, TLS, login, versions, store, memory, disk. Code 1 if it cannot run."""
    workflow = ftrack.read_workflow(file, [*(changes or ()), *changes_of(cluster)])
    failed = [console.show_check(check) for check in ftrack.doctor.checks(workflow)].count("failed")
    raise typer.Exit(FAILED if failed else OK)
