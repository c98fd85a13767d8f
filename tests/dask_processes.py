"""A Dask scheduler and workers in processes of their own, as on a cluster, which can be killed one by one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from distributed import Client


class Processes(NamedTuple):
    """The address of the scheduler, its process, and those of the workers."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def dask_processes(folder: Path, workers: int = 2) -> Iterator[Processes]:
    """Start a scheduler on loopback and workers with one thread each; end them all at the end."""
    said = folder / "scheduler.json"
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    scheduler = subprocess.Popen([*command, "--scheduler-file", str(said)], **quiet)  # type: ignore[call-overload]
    started: list[subprocess.Popen[bytes]] = []
    try:
        while not said.exists():
            time.sleep(0.05)
        options = ["--scheduler-file", str(said), "--nthreads", "1", "--no-dashboard", "--memory-limit", "2GB", "--death-timeout", "20"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        for _ in range(workers):
            command = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", *options]
            started.append(subprocess.Popen(command, env=environment, **quiet))  # type: ignore[call-overload]
        with Client(scheduler_file=str(said)) as client:
            client.wait_for_workers(workers, timeout=60)
            address = client.scheduler.address
        yield Processes(address, scheduler, started)
    finally:
        for process in (*started, scheduler):
            process.kill()
            process.wait()
