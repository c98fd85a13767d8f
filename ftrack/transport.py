"""Parts of remote files over HTTP: from hosts that may be reached only, whole or not at all, asked for again where that can help."""

from __future__ import annotations

import email.utils
import logging
import os
import random
import re
import socket
import time
import urllib.request
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from ftrack.addresses import shown, shown_text
from ftrack.sources import Access, is_listed, peer_refusal, refusal

log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES = 3
"""Times that one part is asked for before what needs it has failed."""

FIRST_WAIT = 0.5
"""Seconds before the second attempt; later waits double."""

LONGEST_WAIT = 30.0
"""Seconds that a server may ask for before it is asked again."""

CONNECT, SILENCE = 10.0, 60.0
"""Seconds in which a connection must stand, and the longest pause in an answer."""

SLOWEST = 20_000
"""Bytes per second below which an answer is given up."""

WHOLE = 8 * 2**20
"""Bytes of the largest file that is taken whole from a server that knows no parts."""

HOPS = 3
"""Redirects in a row, to hosts that the user has named."""

_PASSING = (408, 425, 429, 500, 502, 503, 504)
_DENIED = (401, 403)
_EXPIRED = ("ExpiredToken", "RequestTimeTooSkewed", "TokenRefreshRequired", "AuthorizationHeaderMalformed", "RequestTimeout")
_CODE = re.compile(rb"<Code>(\w{1,60})</Code>")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

Kind = Literal["gone", "forbidden", "denied", "passing"]


class Failure(Exception):
    """A request that failed: ``gone`` (nothing is there), ``forbidden`` (may not be asked), ``denied`` (credentials), ``passing``.

    ``wait`` are the seconds after which the server wants to be asked again, ``region`` where it says that a bucket lies.
    """

    def __init__(self, kind: Kind, text: str, wait: float = 0.0, region: str = "") -> None:
        super().__init__(shown_text(text))
        self.kind: Kind = kind
        self.wait = wait
        self.region = region


class Request(NamedTuple):
    """What is asked for at one attempt: signed address, headers, and whether its host is the user's own choice."""

    address: str
    headers: Mapping[str, str] = {}
    trusted: bool = False


class Part(NamedTuple):
    """Bytes of a file, where they begin, and what the server says of the whole: its size and its version (may be empty)."""

    content: bytes
    start: int
    total: int
    version: str


class Answer(NamedTuple):
    """What a server says: status, headers and body."""

    status: int
    headers: Mapping[str, str]
    content: bytes


Sign = Callable[[Failure | None], Request]
"""Gives the request of an attempt; it is told how the attempt before it failed, and may raise ``Failure`` itself."""


def read_part(sign: Sign, access: Access, start: int, size: int) -> Part:
    """Return ``size`` bytes of a file from ``start`` on, fewer only where the file ends.

    Parameters
    ----------
    sign : callable
        Gives the address and headers, anew for every attempt.
    access : Access
        Which hosts may be reached.
    start, size : int
        What is read, in bytes.

    Raises
    ------
    Failure
        The file is not there, may not be read, or could not be read in ``TRIES`` attempts. An answer that is cut short is a failure too.
    """

    def attempt(before: Failure | None) -> Part:
        request = sign(before)
        wanted = {**request.headers, "Range": f"bytes={start}-{start + size - 1}"}
        answer = ask(request._replace(headers=wanted), access, max(size, WHOLE))
        return _part_of(answer, start, size)

    return keep_trying(attempt)


def keep_trying(attempt: Callable[[Failure | None], T], tries: int | None = None) -> T:
    """Return what a function gives, called again with its last ``Failure``, after growing waits, where that may pass."""
    before: Failure | None = None
    for left in reversed(range(tries or TRIES)):
        try:
            return attempt(before)
        except Failure as failure:
            if failure.kind in ("gone", "forbidden") or not left:
                raise
            before = failure
        wait = max(before.wait, FIRST_WAIT * 2 ** ((tries or TRIES) - left - 1) * random.uniform(0.5, 1.5))
        log.debug("%s; asked again in %.1f s", before, wait)
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def ask(request: Request, access: Access, most: int) -> Answer:
    """Return one answer with a body of at most ``most`` bytes.

    Raises
    ------
    Failure
        The status is neither 200 nor 206, the connection breaks, or the host may not be reached.
    """
    for _ in range(HOPS + 1):
        answer = _ask_once(request, access, most)
        if answer.status not in (301, 302, 303, 307, 308) or request.trusted:
            break
        target = urljoin(request.address, answer.headers.get("Location", ""))
        host = urlsplit(target).hostname or ""
        if not is_listed(host, access) or refusal(target, access):
            raise Failure("forbidden", f"its server redirects to {shown(target)}, which is not followed; source.hosts can allow {host}")
        wanted = {name: value for name, value in request.headers.items() if name == "Range"}
        request = Request(target, wanted)
    if answer.status in (200, 206):
        return answer
    raise _failure_of(answer)


def _ask_once(request: Request, access: Access, most: int) -> Answer:
    parts = urlsplit(request.address)
    why = "" if request.trusted else refusal(request.address, access)
    if why:
        raise Failure("forbidden", why)
    pool = _pool(None if request.trusted else access, _proxy_for(parts.scheme, parts.netloc), os.getpid())
    headers = {"Accept-Encoding": "identity", "User-Agent": "ftrack", **request.headers}
    began = time.monotonic()
    try:
        found = pool.request("GET", request.address, headers=headers, redirect=False, retries=False, preload_content=False)
        try:
            content = bytearray()
            for piece in found.stream(2**18, decode_content=False):
                content += piece
                if len(content) > most:
                    raise Failure("passing", f"the answer is longer than the {most} bytes that were asked for")
                if time.monotonic() - began > SILENCE + len(content) / SLOWEST:
                    raise Failure("passing", "the answer is too slow")
        except BaseException:
            found.close()
            raise
        found.release_conn()
    except Failure:
        raise
    except (HTTPError, OSError) as error:
        raise Failure("passing", f"cannot connect or read: {type(error).__name__}: {error}") from None
    return Answer(found.status, found.headers, bytes(content))


def _part_of(answer: Answer, start: int, size: int) -> Part:
    """Return the part that an answer holds, if it is what was asked for."""
    version = answer.headers.get("ETag", "")
    version = "" if version.startswith("W/") else version
    if answer.status == 200:
        length = len(answer.content)
        if length > WHOLE:
            raise Failure("gone", "its server gives whole files only, not parts of them")
        if str(length) != answer.headers.get("Content-Length", ""):
            raise Failure("passing", "the answer does not say how long it is, so it may be cut short")
        return Part(answer.content, 0, length, version)
    said = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if said is None:
        raise Failure("passing", "the answer does not say which part of the file it is")
    first, last, total = (int(number) for number in said.groups())
    whole = first == start and last == min(start + size, total) - 1 and len(answer.content) == last - first + 1
    if not whole:
        raise Failure("passing", f"the answer is cut short: {len(answer.content)} of {size} bytes from {start}")
    return Part(answer.content, first, total, version)


def _failure_of(answer: Answer) -> Failure:
    found = _CODE.search(answer.content[:4096])
    code = found[1].decode() if found else ""
    text = f"HTTP status {answer.status}{f' {code}' if code else ''}"
    region = answer.headers.get("x-amz-bucket-region", "")
    if answer.status in _DENIED or code in _EXPIRED or (region and answer.status in (301, 307, 400)):
        return Failure("denied", text, region=region)
    if answer.status in _PASSING:
        return Failure("passing", text, _retry_after(answer.headers.get("Retry-After", "")))
    return Failure("gone", text)


def _retry_after(text: str) -> float:
    """Return the seconds that a server asks to wait, at most ``LONGEST_WAIT``."""
    if text.strip().isdigit():
        return min(float(text), LONGEST_WAIT)
    try:
        return min(max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time()), LONGEST_WAIT)
    except ValueError:
        return 0.0


def _proxy_for(scheme: str, host: str) -> str:
    """Return the proxy that the environment names for a host, empty if none."""
    proxy = urllib.request.getproxies().get(scheme, "")
    return "" if not proxy or urllib.request.proxy_bypass(host) else proxy


@lru_cache(maxsize=64)
def _pool(access: Access | None, proxy: str, process: int) -> urllib3.PoolManager:
    """Return the connections of this process that follow the same rules; with None any host may be reached."""
    settings: dict[str, Any] = {
        "num_pools": 64,
        "maxsize": 32,
        "timeout": urllib3.Timeout(connect=CONNECT, read=SILENCE),
        "cert_reqs": "CERT_REQUIRED",
        "ca_certs": os.environ.get("SSL_CERT_FILE") or os.environ.get("CURL_CA_BUNDLE") or certifi.where(),
    }
    if proxy:
        return urllib3.ProxyManager(proxy, **settings)
    pool = urllib3.PoolManager(**settings)
    if access is not None:
        pool.pool_classes_by_scheme = _guarded(access)
    return pool


def _guarded(access: Access) -> dict[str, Any]:
    """Return connection pools whose connections look at the numeric address of a host before they go there."""

    def chosen(host: str, port: int) -> str:
        found = [entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        reasons = {address: peer_refusal(host, str(address), access) for address in found}
        allowed = [address for address, why in reasons.items() if not why]
        if not allowed:
            raise Failure("forbidden", next(iter(reasons.values())))
        return str(allowed[0])

    class Guarded:
        def _new_conn(self: Any) -> socket.socket:
            name = self._dns_host
            try:
                self._dns_host = chosen(name, self.port)
            except socket.gaierror as error:
                raise urllib3.exceptions.NameResolutionError(name, self, error) from None
            try:
                sock: socket.socket = super()._new_conn()  # type: ignore[misc]
                return sock
            finally:
                self._dns_host = name

    http = type("GuardedHTTP", (Guarded, HTTPConnection), {})
    https = type("GuardedHTTPS", (Guarded, HTTPSConnection), {})
    return {
        "http": type("HTTPPool", (HTTPConnectionPool,), {"ConnectionCls": http}),
        "https": type("HTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
    }


class _Redact(logging.Filter):
    """Takes what is secret out of the addresses that urllib3 notes when it is told to note everything."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the arguments of a record; every record passes."""
        if isinstance(record.args, tuple):
            record.args = tuple(shown_text(value) if isinstance(value, str) else value for value in record.args)
        return True


logging.getLogger("urllib3.connectionpool").addFilter(_Redact())
