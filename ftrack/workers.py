"""How many workers there is room for, how much memory each may use, and what their processes start with."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from typing import NamedTuple

import dask
from dask.system import CPU_COUNT
from dask.utils import format_bytes, parse_bytes
from distributed.system import MEMORY_LIMIT

from ftrack.config import ClusterSettings
from ftrack.errors import Stop
from ftrack.rasters import GDAL_SETTINGS

BEFORE_START: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # With the 64 kB of Dask, glibc fetches the pages of every array anew from the system.
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
    "MALLOC_MMAP_THRESHOLD_": str(2**26),
}
"""What has to be set when a worker process starts: later it is not read any more."""

WORKER_ENVIRONMENT: Mapping[str, str] = {
    **BEFORE_START,
    "NUMBA_NUM_THREADS": "1",
    **{name: str(value) for name, value in GDAL_SETTINGS.items()},
}
"""What every worker process has: Dask owns the threads, GDAL asks again and remembers no failure."""

CONFIGURATION: Mapping[str, object] = {
    "distributed.scheduler.worker-saturation": 1.1,
    "distributed.comm.timeouts.connect": "30s",
    # The profiler calls sys._current_frames, which hangs a worker for good in Python before 3.11.9 (python/cpython#106883).
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ": dict(BEFORE_START),
    "distributed.admin.large-graph-warning-threshold": "64MB",
    # A cluster of this machine gives up a worker that is not there this long after it was lost, even if it has been there meanwhile and
    # is only starting again; its nanny does that as often as it takes.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}
"""How Dask is set, here and in clusters that are started elsewhere."""

SAFE_PYTHON = (3, 11, 9)
UNPROFILED = "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED=False"

FAR_WORKERS = 4
"""Workers that a gateway is asked for where ``cluster.workers`` does not say."""

FAR_MEMORY = 4 * 2**30
"""Bytes that a worker of a scheduler elsewhere is taken to have where ``cluster.memory`` does not say."""


class Workers(NamedTuple):
    """How many workers there are, threads of each, and bytes that each may use."""

    number: int
    threads: int
    memory: int


def size_workers(settings: ClusterSettings) -> Workers:
    """Return the workers that settings ask for, or that this machine has room for.

    Raises
    ------
    Stop
        The memory cannot be read as a number of bytes, or is more than the machine has.
    """
    cores = max(1, int(CPU_COUNT))
    if settings.kind in ("scheduler", "gateway"):
        return Workers(
            settings.workers or (1 if settings.kind == "scheduler" else FAR_WORKERS),
            settings.threads or 1,
            read_bytes(settings.memory) or FAR_MEMORY,
        )
    if settings.kind == "threads":
        count, threads = 1, settings.threads or cores
    else:
        count, threads = settings.workers or max(1, cores // (settings.threads or 1)), settings.threads or 1
    share = int(MEMORY_LIMIT) // count
    memory = read_bytes(settings.memory)
    if memory > share:
        raise Stop(
            f"cluster.memory: {count} workers of {settings.memory} need {format_bytes(memory * count)}, this machine has "
            f"{format_bytes(MEMORY_LIMIT)}; take at most {format_bytes(share)}, or fewer workers"
        )
    return Workers(count, threads, memory or share)


def may_hang() -> str:
    """Return which Python this worker has if Dask's profiler can hang it (see ``CONFIGURATION``), else nothing."""
    profiled = dask.config.get("distributed.worker.profile.enabled", True)
    return f"Python {platform.python_version()}" if profiled and sys.version_info < SAFE_PYTHON else ""


def given_environment(names: tuple[str, ...]) -> dict[str, str]:
    """Return the values that environment variables have here.

    Raises
    ------
    Stop
        A variable is not set.
    """
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise Stop(f"cluster.environment names {', '.join(missing)}, not set here; set it, or take it out of the list")
    return {name: os.environ[name] for name in names}


def far_environment(names: tuple[str, ...]) -> dict[str, str]:
    """Return the environment of a scheduler and workers that are started elsewhere, with Dask's settings as its variables.

    Parameters
    ----------
    names : tuple of str
        Variables whose values here are wanted there too.
    """
    dask = {"DASK_" + key.upper().replace(".", "__").replace("-", "_"): str(value) for key, value in CONFIGURATION.items()}
    return {**WORKER_ENVIRONMENT, **dask, **given_environment(names)}


def read_bytes(text: str) -> int:
    """Return the number of bytes that ``cluster.memory`` says, 0 if it is empty.

    Raises
    ------
    Stop
        It is not a number of bytes.
    """
    if not text:
        return 0
    try:
        return int(parse_bytes(text))
    except ValueError:
        raise Stop(f"cluster.memory is {text!r}; write a number of bytes with its unit, such as 4GB") from None
