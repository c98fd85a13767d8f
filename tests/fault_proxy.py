"""An HTTP proxy on this machine that stands in front of a server (files, S3, tokens) and spoils some of its answers."""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

FAULTS = ("503", "429", "403", "reset", "short")
"""``reset`` breaks the connection before the server is asked, ``short`` breaks it in the middle of the answer, ``lost`` after the
server has done its work and before it can tell, ``redirect`` sends the client to ``FaultProxy.elsewhere``."""

_OWN = ("connection", "keep-alive", "transfer-encoding", "proxy-connection", "te", "trailer", "upgrade", "expect")


class Asked(NamedTuple):
    """One request as the proxy saw it: the fault it met, empty if none, and the bytes of the answer's body."""

    method: str
    path: str
    range: str
    fault: str
    status: int
    size: int


@dataclass
class FaultProxy:
    """What the proxy does and what it has seen.

    ``rate`` of the requests (those of ``methods``, and with ``only`` in their path) meet one of ``faults``. Which ones
    depends on ``seed`` and on what is asked how many times, not on the order in which threads come. ``next`` holds
    faults for the very next requests, whatever the rate; an empty string there lets one pass.
    """

    server: str
    rate: float = 0.0
    seed: int = 0
    faults: tuple[str, ...] = FAULTS
    methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
    only: str = ""
    retry_after: str = "0"
    elsewhere: str = ""
    url: str = ""
    next: list[str] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    _times: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        """Host and port, as GDAL wants them in AWS_S3_ENDPOINT."""
        return urlsplit(self.url).netloc

    def fault_of(self, method: str, path: str, wanted: str) -> str:
        """Return the fault that a request meets, empty if none."""
        with self._lock:
            if self.next:
                return self.next.pop(0)
            if not self.rate or method not in self.methods or self.only not in path:
                return ""
            what = f"{method} {urlsplit(path).path} {wanted}"
            self._times[what] += 1
            dice = random.Random(f"{self.seed} {what} {self._times[what]}")
        return dice.choice(self.faults) if dice.random() < self.rate else ""

    def count(self, fault: str | None = None) -> int:
        """Return how many requests met a fault, or any fault."""
        return sum(bool(one.fault) if fault is None else one.fault == fault for one in self.asked)


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    server = urlsplit(proxy.server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def answer(self) -> None:
            body = self.body()
            fault = proxy.fault_of(self.command, self.path, self.headers.get("Range", ""))
            if fault in ("", "short", "lost"):
                self.forward(body, fault)
            else:
                self.spoil(fault)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def note(self, fault: str, status: int = 0, size: int = 0) -> None:
            proxy.asked.append(Asked(self.command, self.path, self.headers.get("Range", ""), fault, status, size))

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while length := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(length))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)

        def spoil(self, fault: str) -> None:
            status = {"redirect": 302, "reset": 0}.get(fault) or (int(fault) if fault.isdigit() else 0)
            self.note(fault, status)
            if fault == "reset":
                self.cut()
                return
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", proxy.retry_after)
            if status == 302:
                self.send_header("Location", proxy.elsewhere)
            code = {403: "AccessDenied", 429: "SlowDown", 503: "SlowDown"}.get(status, "Fault")
            content = f"<Error><Code>{code}</Code><Message>a fault of the test</Message></Error>".encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if self.command != "HEAD" else b"")

        def cut(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

        def forward(self, body: bytes, fault: str) -> None:
            upstream = http.client.HTTPConnection(server.hostname or "", server.port, timeout=60)
            try:
                headers = {name: value for name, value in self.headers.items() if name.lower() not in (*_OWN, "content-length")}
                if body or self.command in ("PUT", "POST"):
                    headers["Content-Length"] = str(len(body))
                upstream.request(self.command, self.path, body=body or None, headers=headers)
                found = upstream.getresponse()
                content = found.read()
            finally:
                upstream.close()
            sent = {"lost": 0, "short": len(content) // 2}.get(fault, len(content))
            self.note(fault, found.status, sent)
            if fault == "lost":
                self.cut()
                return
            self.send_response_only(found.status, found.reason)
            for name, value in found.getheaders():
                if name.lower() not in (*_OWN, "content-length"):
                    self.send_header(name, value)
            size = found.headers["Content-Length"] if self.command == "HEAD" else str(len(content))
            if size is not None and found.status not in (204, 304):
                self.send_header("Content-Length", size)
            self.end_headers()
            self.wfile.write(content[:sent])
            if fault == "short":
                self.cut()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that went away."""


@contextmanager
def fault_proxy(server: str, **settings: Any) -> Iterator[FaultProxy]:
    """Run a proxy in front of ``server``, such as ``http://127.0.0.1:9000``, on a free port of this machine."""
    proxy = FaultProxy(server, **settings)
    with _Server(("127.0.0.1", 0), _handler(proxy)) as running:
        proxy.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            running.shutdown()
            thread.join()
