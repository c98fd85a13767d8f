"""A Dask Gateway: what its clusters may be asked for, and clusters that are started, found and stopped by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import dask
from aiohttp import ClientConnectorCertificateError, ClientError, ClientResponseError

from ftrack.addresses import shown, shown_text
from ftrack.config import ClusterSettings
from ftrack.errors import FtrackError, Retry, Stop
from ftrack.settings import nearest
from ftrack.workers import far_environment, read_bytes

THREADS = ("worker_threads", "worker_cores", "threads", "cores")
MEMORY = ("worker_memory", "memory")
ENVIRONMENT = ("environment", "env", "environment_vars")
"""What gateways call the options that ``cluster.threads``, ``memory`` and ``environment`` stand for, best first."""

GIB = 2**30
REFUSED = (401, 403)


class Started(NamedTuple):
    """A cluster of a gateway: its name there, and the gateway's address."""

    name: str
    address: str


@contextmanager
def open_gateway(address: str = "") -> Iterator[Any]:
    """Connect to a gateway, with the login that Dask's own configuration says (``gateway.auth``).

    Parameters
    ----------
    address : str
        Its address; empty = the one of Dask's configuration (``gateway.address``, ``DASK_GATEWAY__ADDRESS``).

    Raises
    ------
    Stop
        The address is missing or malformed, the login is refused, or what is asked for is not allowed there.
    Retry
        The gateway does not answer, or fails.
    """
    library = _library()
    place = address or dask.config.get("gateway.address", None) or ""
    if not place:
        raise Stop("no Dask Gateway is known: set cluster.address, or DASK_GATEWAY__ADDRESS, such as https://hub.example.org/gateway")
    with _told(place, library):
        gateway = library.Gateway(address=address or None)
        try:
            yield gateway
        finally:
            close_for_good(gateway)


def close_for_good(opened: Any) -> None:
    """Close a gateway, or a cluster of one that goes on running; neither is closed again when Python forgets it, which would fail."""
    opened.close()
    getattr(opened, "gateway", opened).close = lambda: None


def _library() -> Any:
    try:
        import dask_gateway
    except ImportError:
        raise Stop("a Dask Gateway needs the package dask-gateway: pip install 'ftrack[gateway]'") from None
    return dask_gateway


@contextmanager
def _told(address: str, library: Any) -> Iterator[None]:
    """Turn failures of a gateway into ``Stop`` and ``Retry``; nothing that is secret in its address is told."""
    place = f"the Dask Gateway at {shown(address)}"
    try:
        yield
    except FtrackError:
        raise
    except ClientResponseError as error:
        if error.status in REFUSED:
            raise Stop(
                f"{place} refuses the login ({error.status}): check gateway.auth of Dask's configuration, such as DASK_GATEWAY__AUTH__TYPE"
            ) from None
        raise Retry(f"{place} answers {error.status} {error.message}") from None
    except ClientConnectorCertificateError as error:
        text = f"{place} has a certificate that is not trusted here: {error.certificate_error}"
        raise Stop(f"{text}; name a file with that of its authority in SSL_CERT_FILE") from None
    except (ClientError, OSError, TimeoutError) as error:
        raise Retry(f"{place} does not answer: {shown_text(str(error))}; is it running, and reachable from here?") from error
    except (library.GatewayServerError, library.GatewayClusterError) as error:
        raise Retry(f"{place} could not do it: {shown_text(str(error))}") from error
    except (ValueError, TypeError) as error:
        raise Stop(f"{place}: {shown_text(str(error))}") from error


def choose_options(options: Any, settings: ClusterSettings, environment: Mapping[str, str]) -> Any:
    """Fill in the options of a gateway's clusters from what it says that they are.

    Parameters
    ----------
    options : dask_gateway.Options
        What there is to choose, with types and bounds; changed in place.
    settings : ClusterSettings
        What is wanted.
    environment : mapping of str to str
        Variables for scheduler and workers; left out where the gateway lets nobody set any.

    Returns
    -------
    dask_gateway.Options

    Raises
    ------
    Stop
        The gateway has no such option, or does not allow the value.
    """
    wanted = {name: value for name, value in (("threads", settings.threads), ("memory", settings.memory)) if value}
    for name, value in wanted.items():
        option = next((known for known in (THREADS if name == "threads" else MEMORY) if known in options), None)
        if option is None:
            raise Stop(f"cluster.{name}: this gateway does not let it be chosen; leave it out ({_listed(options)})")
        if option not in settings.options:
            _choose(options, option, _in_unit(value, options[option]))
    option = next((known for known in ENVIRONMENT if isinstance(options.get(known), Mapping)), None)
    if option is not None:
        options[option] = {**options[option], **environment}
    for name, value in settings.options.items():
        if name not in options:
            raise Stop(
                f"cluster.options.{name}: this gateway has no such option; {nearest(name, options) if len(options) else 'it has none'}"
            )
        _choose(options, name, {**options[name], **value} if isinstance(options[name], Mapping) and isinstance(value, Mapping) else value)
    return options


def _choose(options: Any, name: str, value: object) -> None:
    try:
        options[name] = value
    except (ValueError, TypeError) as error:
        raise Stop(f"this gateway does not allow {name} = {value}: {error}; {_listed(options)}") from None


def _listed(options: Any) -> str:
    return "its options: " + (", ".join(f"{name}={options[name]!r}" for name in options) or "none")


def _in_unit(value: int | str, default: object) -> object:
    """Return a value as an option wants it: memory as text, in GiB, or in bytes where the default is that large."""
    if not isinstance(value, str) or isinstance(default, str):
        return value
    size = read_bytes(value)
    if isinstance(default, int | float) and default >= 2**20:
        return size
    return size / GIB if isinstance(default, float) else -(-size // GIB)


def takes_environment(options: Any) -> bool:
    """Return whether a gateway lets the environment of its clusters be set."""
    return any(isinstance(options.get(name), Mapping) for name in ENVIRONMENT)


def start_cluster(settings: ClusterSettings) -> Started:
    """Start a cluster that goes on when this process ends; it has no workers yet, see ``ftrack.cluster.join_cluster``.

    An interrupt while it is asked for does not leave it behind.

    Raises
    ------
    Stop, Retry
        As ``open_gateway``.
    """
    environment = far_environment(settings.environment)
    with open_gateway(settings.address) as gateway:
        options = choose_options(gateway.cluster_options(), settings, environment)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(gateway.submit, options)
            try:
                return Started(asked.result(), gateway.address)
            except KeyboardInterrupt:
                if asked.exception() is None:
                    gateway.stop_cluster(asked.result())
                raise


def running_clusters(settings: ClusterSettings) -> tuple[str, ...]:
    """Return the names of one's clusters that start or run at a gateway.

    Raises
    ------
    Stop, Retry
        As ``open_gateway``.
    """
    with open_gateway(settings.address) as gateway:
        return tuple(sorted(report.name for report in gateway.list_clusters()))


def stop_cluster(settings: ClusterSettings, name: str) -> bool:
    """Stop a cluster of a gateway by its name; return False if it is not there.

    Raises
    ------
    Stop, Retry
        As ``open_gateway``.
    """
    with open_gateway(settings.address) as gateway:
        if name not in {report.name for report in gateway.list_clusters()}:
            return False
        gateway.stop_cluster(name)
        return True
