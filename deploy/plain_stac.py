"""The STAC API of the tests as a server of its own, over the items of a folder: python deploy/plain_stac.py PORT FOLDER."""

from __future__ import annotations

import json
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from stac_server import StacServer, _handler


class Folder(StacServer):
    """A server whose items are read anew for every search."""

    def search(self, body: dict[str, object]) -> dict[str, object]:
        path = folder / "items.ndjson"
        self.items = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return super().search(body)


port, folder = int(sys.argv[1]), Path(sys.argv[2])
server = Folder([], url=f"http://127.0.0.1:{port}/")
ThreadingHTTPServer(("127.0.0.1", port), _handler(server)).serve_forever()
