"""A Dask client by name: processes or threads of this machine, or a scheduler that is already there."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import dask
from distributed import Client, LocalCluster

from ftrack.config import ClusterSettings
from ftrack.errors import Retry, Stop
from ftrack.rasters import GDAL_SETTINGS
from ftrack.workers import Workers, size_workers

WORKER_ENVIRONMENT: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    **{name: str(value) for name, value in GDAL_SETTINGS.items()},
}
"""What every worker process starts with: Dask owns the threads, GDAL asks again and remembers no failure."""

CONFIGURATION: Mapping[str, object] = {
    "distributed.scheduler.worker-saturation": 1.1,
    "distributed.comm.timeouts.connect": "30s",
    # The profiler calls sys._current_frames, which hangs a worker for good in Python before 3.11.9 (python/cpython#106883).
    "distributed.worker.profile.enabled": False,
    "distributed.admin.large-graph-warning-threshold": "64MB",
}

PATIENCE = "30s"
"""How long an answer of a scheduler is waited for."""

LOUD = ("distributed.worker", "distributed.nanny", "distributed.scheduler", "distributed.core", "distributed.batched", "distributed.comm")


@contextmanager
def open_client(settings: ClusterSettings) -> Iterator[Client]:
    """Open a client, and close it and every worker that was started for it at the end.

    Parameters
    ----------
    settings : ClusterSettings
        ``local`` starts processes on this machine, ``threads`` uses threads of this process, ``scheduler``
        connects to ``address``.

    Raises
    ------
    Stop
        More is asked for than there is, or ``scheduler`` without an address.
    Retry
        The scheduler does not answer.
    """
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(CONFIGURATION))
        stack.enter_context(_quiet())
        if settings.kind == "scheduler":
            client = stack.enter_context(_connect(settings.address))
        else:
            cluster = stack.enter_context(_local(size_workers(settings), processes=settings.kind == "local"))
            client = stack.enter_context(Client(cluster))  # type: ignore[no-untyped-call]
        yield client


@contextmanager
def _connect(address: str) -> Iterator[Client]:
    if not address:
        raise Stop("cluster.kind is 'scheduler' but cluster.address is empty; set it, such as tcp://127.0.0.1:8786")
    try:
        client = Client(address, timeout=PATIENCE)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError) as error:
        raise Retry(f"no Dask scheduler answers at {address}: {error}; is it running, and reachable from here?") from error
    except ValueError as error:
        raise Stop(f"cluster.address {address!r} is not the address of a scheduler: {error}") from None
    with client:
        yield client


def _local(workers: Workers, processes: bool) -> LocalCluster:
    extra: dict[str, object] = {"env": {**WORKER_ENVIRONMENT, **_given()}} if processes else {}
    return LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=workers.number,
        threads_per_worker=workers.threads,
        memory_limit=workers.memory,
        processes=processes,
        host="127.0.0.1" if processes else None,
        # The status pages (with bokeh, the dashboard) take any free port: two runs on one machine do not collide.
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address=None,
        silence_logs=logging.CRITICAL,
        **extra,
    )


def _given() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in WORKER_ENVIRONMENT and name.startswith(("GDAL_", "CPL_"))}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the logs of distributed to what a user can act on: the reasons of failures come back in records."""
    loggers = [logging.getLogger(name) for name in LOUD]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
