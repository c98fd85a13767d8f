"""A Dask client by name: processes or threads of this machine, a cluster of a Dask Gateway, or a scheduler that is already there."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import dask
from distributed import Client, LocalCluster, WorkerPlugin

from ftrack.config import ClusterSettings
from ftrack.errors import FtrackError, Retry, Stop
from ftrack.gateway import close_for_good, open_gateway, start_cluster, stop_cluster, takes_environment
from ftrack.workers import (
    CONFIGURATION,
    UNPROFILED,
    WORKER_ENVIRONMENT,
    Workers,
    far_environment,
    given_environment,
    may_hang,
    size_workers,
)

log = logging.getLogger("ftrack")

PATIENCE = "30s"
"""How long an answer of a scheduler is waited for."""

FIRST_WORKER = 1200.0
"""Seconds that the first worker of a gateway is waited for: a machine may have to be started for it."""

OTHER_WORKERS = 60.0
"""Seconds that the others are waited for once the first has come; the work begins without those that come later."""

ASKED = 5.0
"""Seconds that a worker is waited for where the answer only serves a warning."""

HASTE = 3.0
"""Seconds that workers of this machine may take to end after an interrupt; they may be waiting for a store that is gone."""

LOUD = ("distributed.worker", "distributed.nanny", "distributed.scheduler", "distributed.core", "distributed.batched", "distributed.comm")


@contextmanager
def open_client(settings: ClusterSettings) -> Iterator[Client]:
    """Open a client, and close it and every worker that was started for it at the end.

    Parameters
    ----------
    settings : ClusterSettings
        ``local`` starts processes on this machine, ``threads`` uses threads of this process, ``gateway`` starts a cluster
        of a Dask Gateway, ``scheduler`` connects to ``address``.

    Raises
    ------
    Stop
        More is asked for than there is, the gateway does not allow it, or an address or a login is missing or wrong.
    Retry
        The scheduler or gateway does not answer, or no worker comes.
    """
    with ExitStack() as stack:
        stack.enter_context(_configured())
        if settings.kind == "scheduler":
            client = stack.enter_context(_connect(settings.address))
            _surround(client, given_environment(settings.environment))
            _warn_of_hangs(client)
        elif settings.kind == "gateway":
            name = stack.enter_context(_gateway_cluster(settings))
            client = stack.enter_context(_joined(settings, name))
        else:
            cluster = stack.enter_context(_closed(_local(size_workers(settings), processes=settings.kind == "local")))
            client = stack.enter_context(_current(Client(cluster, set_as_default=False)))  # type: ignore[no-untyped-call]
        yield client


@contextmanager
def join_cluster(settings: ClusterSettings, name: str) -> Iterator[Client]:
    """Join a cluster that was started at a gateway, give it the workers that are asked for, and leave it running at the end.

    Parameters
    ----------
    settings : ClusterSettings
        Which gateway, and how many workers.
    name : str
        What ``ftrack.gateway.start_cluster`` has called it.

    Raises
    ------
    Stop
        The gateway has never heard of such a cluster, or refuses the login.
    Retry
        The cluster has stopped, the gateway does not answer, or no worker comes.
    """
    with _configured(), _joined(settings, name) as client:
        yield client


@contextmanager
def _gateway_cluster(settings: ClusterSettings) -> Iterator[str]:
    """Start a cluster of a gateway and stop it at the end, whatever the end is."""
    name = start_cluster(settings).name
    try:
        yield name
    finally:
        try:
            stop_cluster(settings, name)
        except FtrackError as error:
            log.warning("the cluster %s may still be running: %s; `ftrack reap` stops it, else its idle time-out does", name, error)


@contextmanager
def _joined(settings: ClusterSettings, name: str) -> Iterator[Client]:
    with ExitStack() as stack:
        with open_gateway(settings.address) as gateway:
            cluster = gateway.connect(name)
            stack.callback(close_for_good, cluster)
            if not str(cluster.scheduler_address).startswith(("gateway://", "tls://")):
                raise Retry(f"the cluster {name} has no scheduler any more; start another")
            client = stack.enter_context(_current(cluster.get_client(set_as_default=False)))
            told_environment = takes_environment(gateway.cluster_options())
            number = size_workers(settings).number
            if settings.adaptive:
                cluster.adapt(minimum=1, maximum=number)
            else:
                cluster.scale(number)
        _surround(client, given_environment(settings.environment) if told_environment else far_environment(settings.environment))
        _gather(client, name, 1 if settings.adaptive else number)
        yield client


def _gather(client: Client, name: str, number: int) -> None:
    """Wait for workers: for the first as long as a machine takes to start, for the others a while."""
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER)
    except TimeoutError:
        text = f"no worker of the cluster {name} has come in {FIRST_WORKER:.0f} s: the gateway may have no room"
        raise Retry(f"{text}; try `ftrack doctor`") from None
    with suppress(TimeoutError):
        client.wait_for_workers(number, timeout=OTHER_WORKERS)


class Surroundings(WorkerPlugin):
    """Environment variables that workers get, also those that start later; what they have already stays."""

    name = "ftrack-environment"

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables

    def setup(self, worker: object) -> None:
        """Set what is not set yet."""
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)


def _surround(client: Client, variables: dict[str, str]) -> None:
    if variables:
        client.register_plugin(Surroundings(variables))


def _warn_of_hangs(client: Client) -> None:
    """Say that workers that somebody else has started may hang; one that does not answer soon is not waited for."""
    with suppress(Exception):
        if found := client.submit(may_hang, pure=False).result(ASKED):
            log.warning("workers have %s and Dask's profiler, which can hang them for good; start them with %s", found, UNPROFILED)


@contextmanager
def _connect(address: str) -> Iterator[Client]:
    if not address:
        raise Stop("cluster.kind is 'scheduler' but cluster.address is empty; set it, such as tcp://127.0.0.1:8786")
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError) as error:
        raise Retry(f"no Dask scheduler answers at {address}: {error}; is it running, and reachable from here?") from error
    except TypeError as error:
        raise Stop(f"{address} needs certificates: name them in distributed.comm.tls of Dask's configuration ({error})") from None
    except ValueError as error:
        raise Stop(f"cluster.address {address!r} is not the address of a scheduler: {error}") from None
    with _current(client):
        yield client


@contextmanager
def _current(client: Client) -> Iterator[Client]:
    """Let Dask compute with a client in this thread, and close it at the end.

    It is never the default of the process: one that fails or is interrupted while it connects would stay the default, and
    nothing could be computed any more. Other threads compute as they did.
    """
    with client, client.as_current(), dask.config.set(scheduler=None):
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


@contextmanager
def _closed(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """Close a cluster of this machine at the end; after an interrupt what does not end soon is left to end by itself."""
    try:
        yield cluster
    except KeyboardInterrupt:
        with suppress(TimeoutError):
            cluster.close(timeout=HASTE)
        raise
    except BaseException:
        cluster.close()
        raise
    cluster.close()


def _given() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in WORKER_ENVIRONMENT and name.startswith(("GDAL_", "CPL_"))}


class _Configured:
    """How Dask is set and what it logs while clients are open; they may be opened in several threads and closed in any order."""

    def __init__(self) -> None:
        self.lock, self.clients, self.stack = threading.Lock(), 0, ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if not self.clients:
                self.stack.enter_context(dask.config.set(CONFIGURATION))
                self.stack.enter_context(_quiet())
            self.clients += 1
        try:
            yield
        finally:
            with self.lock:
                self.clients -= 1
                if not self.clients:
                    self.stack.close()


_configured = _Configured()


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
