"""Start the driver of a job where it can stay: a process of this machine, or a process that a worker of the cluster holds."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from distributed import Client, fire_and_forget, get_worker, secede

from ftrack.addresses import shown_text
from ftrack.errors import Retry, Stop
from ftrack.jobfiles import SUPERSEDED, Submission, folder_of, read_beat

STARTED = 60
"""Seconds that a driver of this machine may take to give its first sign of life."""

HELD = 30
"""Seconds for which the first sign of life of a driver on a cluster is waited for; it comes when there are workers."""

RESOURCE = "DRIVER"
"""Workers that offer this resource of Dask hold drivers, if there are any."""

TAIL = 1500

_started: list[subprocess.Popen[bytes]] = []


@atexit.register
def _leave_running() -> None:
    """Keep Python from complaining of drivers that outlive it, as they shall."""
    for child in _started:
        if child.poll() is None:
            child.returncode = 0


def start_here(job: Submission) -> None:
    """Start the driver as a process of this machine that outlives its parent, and wait until it gives a sign of life.

    Raises
    ------
    Stop
        It ended before.
    Retry
        It gave none in time.
    """
    with tempfile.TemporaryFile() as errors:
        command = [sys.executable, "-m", "ftrack.driver", job.output, job.id]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        _started.append(child)
        end = time.monotonic() + STARTED
        while time.monotonic() < end:
            code = child.poll()
            if _has_begun(job) or code == SUPERSEDED:
                return
            if code is not None:
                raise Stop(f"the driver ended at once (code {code}): {_tail(errors)}")
            time.sleep(0.2)
    raise Retry(f"the driver gave no sign of life in {STARTED} s; see `ftrack status {shown_text(job.output)}`")


def start_there(job: Submission, client: Client) -> bool:
    """Let a worker of a cluster hold the driver, and return whether it has given a sign of life.

    Raises
    ------
    Stop
        The driver cannot run there.
    """
    info: Mapping[str, Any] = client.scheduler_info(n_workers=-1)
    if str(info["address"]).startswith("inproc"):
        raise Stop(
            "the cluster lives in threads of another process, which a job would not outlive; take cluster.kind local, gateway or scheduler"
        )
    resources = {RESOURCE: 1} if any(RESOURCE in worker.get("resources", {}) for worker in info["workers"].values()) else None
    future = client.submit(hold, job.output, job.id, job.cluster_name, key=f"ftrack-driver-{job.id}", pure=False, resources=resources)
    fire_and_forget(future)  # type: ignore[no-untyped-call]
    end = time.monotonic() + HELD
    while time.monotonic() < end:
        if _has_begun(job):
            return True
        if future.status == "error":
            raise Stop(f"the driver could not be started on the cluster: {shown_text(_error_of(future))}; has every worker this ftrack?")
        if future.status == "finished" and not _has_begun(job):
            code, said = future.result()
            if code == SUPERSEDED:
                return True
            raise Stop(f"the driver ended at once (code {code}): {said}")
        time.sleep(0.2)
    return False


def hold(output: str, submission: str, cluster_name: str = "") -> tuple[int, str]:
    """Run the driver as a child of a worker until it ends; return its exit code and the end of what it wrote.

    The task leaves the worker's threads to the blocks of the run. As long as it is there, the cluster is not idle; if the
    worker dies, the scheduler gives it to another, and the driver goes on from the records. The child hears at its standard
    input when the worker is gone.
    """
    worker = get_worker()
    address, environment = worker.scheduler.address, {**os.environ, **_certificates(worker.security)}
    secede()  # type: ignore[no-untyped-call]
    command = [sys.executable, "-m", "ftrack.driver", output, submission, address, cluster_name]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=environment) as child,
    ):
        code = child.wait()
        return code, _tail(errors)


def _certificates(security: Any) -> dict[str, str]:
    """Return the environment that lets a child of a worker speak to the scheduler as the worker does."""
    parts = {"CA_FILE": security.tls_ca_file, "CLIENT__CERT": security.tls_worker_cert, "CLIENT__KEY": security.tls_worker_key}
    return {f"DASK_DISTRIBUTED__COMM__TLS__{name}": value for name, value in parts.items() if value}


def _error_of(future: Any) -> str:
    return str(future.exception())


def _has_begun(job: Submission) -> bool:
    with suppress(Retry):
        beat = read_beat(folder_of(job.output))
        return beat is not None and beat.submission == job.id
    return False


def _tail(errors: Any) -> str:
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - TAIL))
    return shown_text(errors.read().decode(errors="replace").strip())
