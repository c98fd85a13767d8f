"""A server of files in parts on this machine, which can want tokens that live a short time, give them, and redirect."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class FileServer:
    """What is served by path, what is wanted, and what was asked for.

    With ``life`` every path but ``/token/...`` wants a token (``?sig=``), good for that many seconds from when it is given;
    ``delay`` are the seconds that an answer takes.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    life: float = 0.0
    delay: float = 0.0
    parts: bool = True
    url: str = ""
    asked: list[str] = field(default_factory=list)
    refused: int = 0
    tokens: dict[str, float] = field(default_factory=dict)
    token_faults: list[int] = field(default_factory=list)

    def new_token(self) -> dict[str, str]:
        name, end = f"SECRET{len(self.tokens)}", time.time() + self.life
        self.tokens[name] = end
        return {"token": f"sig={name}&se=x", "msft:expiry": datetime.fromtimestamp(end, UTC).isoformat()}

    def opens(self, query: str) -> bool:
        return not self.life or self.tokens.get(parse_qs(query).get("sig", [""])[0], 0.0) > time.time()


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            server.asked.append(self.path)
            if parts.path.startswith("/token/"):
                self.answer(server.token_faults.pop(0), b"") if server.token_faults else self.answer(
                    200, json.dumps(server.new_token()).encode()
                )
            elif parts.path in server.redirects:
                self.answer(302, b"", Location=server.redirects[parts.path])
            elif parts.path not in server.files:
                self.answer(404, b"")
            elif not server.opens(parts.query):
                server.refused += 1
                self.answer(403, b"")
            else:
                time.sleep(server.delay)
                self.give(server.files[parts.path])

        do_HEAD = do_GET

        def give(self, body: bytes) -> None:
            wanted = self.headers.get("Range", "")
            if not wanted or not server.parts:
                self.answer(200, body)
                return
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            if int(first) >= len(body):
                self.answer(416, b"", **{"Content-Range": f"bytes */{len(body)}"})
                return
            end = min(int(last or len(body)), len(body) - 1)
            version = f'"{zlib.crc32(body)}"'
            self.answer(206, body[int(first) : end + 1], **{"Content-Range": f"bytes {first}-{end}/{len(body)}", "ETag": version})

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(server: FileServer | None = None, host: str = "127.0.0.1") -> Iterator[FileServer]:
    """Run a server on a free port of this machine."""
    server = server or FileServer()
    with ThreadingHTTPServer((host, 0), _handler(server)) as http:
        http.daemon_threads = True
        server.url = f"http://{host}:{http.server_address[1]}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
