"""Whether a run can work: the cluster's address, login and encryption, what is installed there, and the store for the cube."""

from __future__ import annotations

import ipaddress
import os
import platform
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import dask
from dask.utils import format_bytes
from distributed import Client

from ftrack.addresses import shown, shown_text
from ftrack.cluster import open_client
from ftrack.config import ClusterSettings, Workflow
from ftrack.errors import FtrackError
from ftrack.forecast import PROCESS, SHARE
from ftrack.gateway import open_gateway
from ftrack.records import remove
from ftrack.store import get, put
from ftrack.workers import UNPROFILED, Workers, may_hang, size_workers

PACKAGES = ("ftrack", "dask", "distributed", "numpy", "numba", "rasterio", "stackstac", "xarray", "zarr", "fsspec", "s3fs")
"""What must be of one version everywhere, or a run may fail in the middle or give other numbers."""

PATIENCE = 10.0
"""Seconds that an address is waited for."""

LEAST_DISK = 2 * 2**30
LEAST_MEMORY = PROCESS / SHARE + 0.75 * 2**30
SHORTEST_IDLE, LONGEST_IDLE = 300, 6 * 3600

State = Literal["ok", "warning", "failed", "skipped"]


class Check(NamedTuple):
    """What has been looked at, how it is, what was found, and what to do if it is not as it should be."""

    name: str
    state: State
    found: str
    advice: str = ""


def _ok(found: str) -> Check:
    return Check("", "ok", found)


def _beware(found: str, advice: str) -> Check:
    return Check("", "warning", found, advice)


def _bad(found: str, advice: str) -> Check:
    return Check("", "failed", found, advice)


def checks(workflow: Workflow) -> Iterator[Check]:
    """Look at everything that a run of a workflow needs before it begins; one check after the other, as they are made.

    A cluster is started for it if the workflow says so, with one worker, and stopped again.

    Parameters
    ----------
    workflow : Workflow
        Its ``cluster`` and ``output`` are looked at.

    Yields
    ------
    Check
        None raises: what cannot be found out is ``failed``, with the reason.
    """
    settings = workflow.cluster
    yield from _checked("output", lambda: _output(workflow.output))
    if settings.kind in ("gateway", "scheduler"):
        first = list(_address(settings))
        yield from first
        if any(check.state == "failed" for check in first):
            yield Check("cluster", "skipped", "not tried: the address above does not work")
            return
    if settings.kind == "gateway":
        login = list(_checked("login", lambda: _login(settings)))
        yield from login
        if login[-1].state == "failed":
            yield Check("cluster", "skipped", "not tried: the login above does not work")
            return
    one = settings.model_copy(update={"workers": 1, "adaptive": False})
    with ExitStack() as stack:
        try:
            client = stack.enter_context(open_client(one))
        except (FtrackError, OSError) as error:
            yield Check("cluster", "failed", shown_text(str(error)), "read the reason; no worker came")
            return
        yield Check("cluster", "ok", f"{settings.kind}: a worker came and answers")
        yield from _cluster(client, workflow)


def _cluster(client: Client, workflow: Workflow) -> Iterator[Check]:
    settings = workflow.cluster
    if settings.kind == "gateway":
        yield from _checked("idle time-out", lambda: _idle(client))
    if settings.kind in ("gateway", "scheduler"):
        yield from _checked("versions", lambda: _versions(client))
        yield from _checked("profiler", lambda: _profiler(client))
        yield from _checked("output from a worker", lambda: _output(workflow.output, client))
    yield from _checked("memory of a worker", lambda: _memory(client, size_workers(settings)))
    yield from _checked("disk of a worker", lambda: _disk(client))


def _checked(name: str, look: Callable[[], Check]) -> Iterator[Check]:
    """Make a check; one that cannot be made has failed."""
    try:
        yield look()._replace(name=name)
    except Exception as error:
        yield Check(name, "failed", shown_text(f"{type(error).__name__}: {error}"), "read the reason; the check could not be made")


def _address(settings: ClusterSettings) -> Iterator[Check]:
    """Look whether something answers at the address, and who could listen on the way."""
    given = settings.address or (dask.config.get("gateway.address", None) or "" if settings.kind == "gateway" else "")
    where = "cluster.address" + (" or DASK_GATEWAY__ADDRESS" if settings.kind == "gateway" else "")
    if not given:
        yield Check("address", "failed", f"there is none for kind {settings.kind!r}", f"set {where}")
        return
    parts = urlsplit(given if "://" in given else f"tcp://{given}")
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 8786)
    host = parts.hostname or ""
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except OSError as error:
        yield Check("address", "failed", f"{shown(given)}: {error}", f"is it running, reachable from here, and {where} right?")
        return
    yield Check("address", "ok", f"{shown(given)} answers")
    yield from _checked("encryption", lambda: _encryption(parts.scheme, host, port))


def _encryption(scheme: str, host: str, port: int) -> Check:
    if scheme == "https":
        with socket.create_connection((host, port), PATIENCE) as plain:
            try:
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secure:
                    certificate = secure.getpeercert() or {}
            except ssl.SSLError as error:
                advice = "use a certificate that this machine trusts, or name a file with that of its authority in SSL_CERT_FILE"
                return _bad(f"the certificate of {host} is not accepted: {error}", advice)
        return Check("", "ok", f"https, certificate until {certificate.get('notAfter', 'unknown')}")
    if scheme in ("tls", "wss", "gateway"):
        return Check("", "ok", f"{scheme}: encrypted, and both sides show certificates")
    if _is_loopback(host):
        return Check("", "ok", f"{scheme} is not encrypted, but does not leave this machine")
    what = "passwords and data" if scheme == "http" else "data; whoever reaches the scheduler runs programs as you"
    return Check(
        "",
        "failed",
        f"{scheme}://{host} is not encrypted: others on the way see {what}",
        "use https:// or tls://, or a tunnel to 127.0.0.1",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _login(settings: ClusterSettings) -> Check:
    with open_gateway(settings.address) as gateway:
        running = gateway.list_clusters()
        options = gateway.cluster_options()
    kind = str(dask.config.get("gateway.auth.type", "basic"))
    offers = ", ".join(f"{name}={options[name]!r}" for name in options if not isinstance(options[name], Mapping)) or "none"
    found = f"accepted ({kind}); {len(running)} clusters of yours run; options: {offers}"
    open_to_all = kind == "basic" and not (dask.config.get("gateway.auth.kwargs", None) or {}).get("password")
    if open_to_all:
        advice = "set a password on the gateway (see deploy/README.md) and in DASK_GATEWAY__AUTH__KWARGS__PASSWORD"
        return _beware(f"{found}; without a password: anybody who reaches it runs programs there", advice)
    if running:
        return _beware(found, "if they are not in use: ftrack reap, or dask_gateway.Gateway().stop_cluster(name)")
    return _ok(found)


def _idle(client: Client) -> Check:
    seconds = float(client.run_on_scheduler(_idle_seconds))  # type: ignore[no-untyped-call]
    if seconds <= 0:
        return _bad("none: a cluster that is forgotten runs, and costs, for ever", "set c.ClusterConfig.idle_timeout = 1800 there")
    if not SHORTEST_IDLE <= seconds <= LONGEST_IDLE:
        return _beware(f"{seconds:.0f} s", f"a time between {SHORTEST_IDLE} and {LONGEST_IDLE} s is a good choice")
    return _ok(f"{seconds:.0f} s")


def _idle_seconds(dask_scheduler: Any) -> float:
    """Return after how many idle seconds a gateway's cluster stops itself (runs on the scheduler)."""
    service = dask_scheduler.services.get("gateway")
    return float(getattr(service, "idle_timeout", 0) or 0)


def installed() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter, as they are where this runs."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def _versions(client: Client) -> Check:
    advice = "use the image of deploy/, or install the same versions there: pip install -c constraints.txt"
    here = installed()
    try:
        there = {"the scheduler": client.run_on_scheduler(installed)}  # type: ignore[no-untyped-call]
        there |= {f"worker {address}": found for address, found in client.run(installed).items()}
    except Exception as error:
        if "No module named 'ftrack'" not in f"{error} {error.__cause__}":
            raise
        return _bad("ftrack is not installed there", advice)
    differ = [
        f"{name} is {found.get(name, 'missing')} on {where}, {own} here"
        for where, found in there.items()
        for name, own in here.items()
        if _told_by(name, found.get(name, "missing")) != _told_by(name, own)
    ]
    if differ:
        return _bad("; ".join(differ), advice)
    workers = "a worker" if len(there) == 2 else f"{len(there) - 1} workers"
    return _ok(f"the same here, on the scheduler and on {workers}: ftrack {here['ftrack']}, dask {here['dask']}")


def _told_by(name: str, text: str) -> str:
    """Return the part of a version that must be the same everywhere: of Python, the first two numbers."""
    return ".".join(text.split(".")[:2]) if name == "python" else text


def _profiler(client: Client) -> Check:
    hanging = sorted(found for found in client.run(may_hang).values() if found)
    if hanging:
        text = f"{len(hanging)} workers have {hanging[0]} and Dask's profiler, which can hang them for good"
        return _beware(text, f"start workers with {UNPROFILED}, or with Python 3.11.9 or newer")
    return _ok("cannot hang workers")


def probe_output(output: str) -> str:
    """Write a small object beside a cube, read it back and remove it; return what went wrong, or nothing."""
    folder, place, content = f"{output.rstrip('/')}.run", f"doctor-{uuid4().hex}", b"ftrack doctor was here"
    try:
        put(folder, f"{place}/probe.txt", content)
        found = get(folder, f"{place}/probe.txt")
        remove(folder, place)
    except Exception as error:
        return shown_text(f"{type(error).__name__}: {error}")
    if "://" not in folder:
        with suppress(OSError):
            Path(folder).rmdir()
    return "" if found == content else "what was written does not come back"


def _output(output: str, client: Client | None = None) -> Check:
    place = shown(output)
    fault = probe_output(output) if client is None else client.submit(probe_output, output, pure=False).result()
    if fault and client is not None and "://" not in output:
        return _bad(f"{place}: {fault}", "workers elsewhere need an output that they can reach, such as s3://bucket/name.zarr")
    if fault:
        whose = "" if client is None else " of the workers (a role, or cluster.environment)"
        return _bad(f"{place}: {fault}", f"check the address, and rights and credentials{whose}: see deploy/s3-policy.json")
    if "://" in output or client is not None:
        return _ok(f"{place} can be written, read and cleaned")
    free = _free(output)
    found = f"{place} can be written, read and cleaned; {format_bytes(free)} free"
    return _ok(found) if free >= LEAST_DISK else _beware(found, "make room there, or choose another output")


def _free(path: str) -> int:
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def _memory(client: Client, asked: Workers) -> Check:
    found = [(int(w["memory_limit"]), int(w["nthreads"])) for w in client.scheduler_info(n_workers=-1)["workers"].values()]
    memory, threads = min(found)
    text = f"{format_bytes(memory) if memory else 'no limit'} for {threads} thread{'s' if threads > 1 else ''}"
    if memory and memory < LEAST_MEMORY:
        return _bad(text, f"take workers with {format_bytes(int(LEAST_MEMORY))} or more: cluster.memory")
    if memory and memory < 0.95 * asked.memory:
        return _beware(f"{text}; plans count on {format_bytes(asked.memory)}", "set cluster.memory to what the workers have")
    return _ok(text)


def disk_here() -> int:
    """Return the free bytes where a worker keeps what does not fit into its memory."""
    return shutil.disk_usage(dask.config.get("temporary-directory", None) or os.getcwd()).free


def _disk(client: Client) -> Check:
    free = min(client.run(disk_here).values())
    text = f"{format_bytes(free)} free"
    return _ok(text) if free >= LEAST_DISK else _beware(text, f"give workers {format_bytes(LEAST_DISK)} or more")
