"""A small STAC API on this machine, with faults that can be switched on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cql2
import shapely
import shapely.geometry

CORE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/collections",
]
QUERY = ["https://api.stacspec.org/v1.0.0/item-search#query"]
FILTER = [
    "https://api.stacspec.org/v1.0.0-rc.3/item-search#filter",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
    "http://www.opengis.net/spec/cql2/1.0/conf/basic-cql2",
]


@dataclass
class StacServer:
    """What the server holds, how it behaves, and what it has been asked."""

    items: list[dict[str, Any]]
    conforms: list[str] = field(default_factory=lambda: CORE + QUERY + FILTER)
    counts: bool = True
    claims_more: int = 0
    drops_page: int | None = None
    drops: int = 1_000_000
    status: int = 200
    failures: int = 0
    only_get: bool = False
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    def landing(self) -> dict[str, Any]:
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "here",
            "description": "a test",
            "conformsTo": self.conforms,
            "links": [
                {"rel": "root", "href": self.url},
                {"rel": "self", "href": self.url},
                {"rel": "data", "href": f"{self.url}collections"},
                *({"rel": "search", "href": f"{self.url}search", "method": m} for m in (["GET"] if self.only_get else ["GET", "POST"])),
            ],
        }

    def collections(self) -> dict[str, Any]:
        extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
        common = {"type": "Collection", "stac_version": "1.0.0", "description": "-", "license": "-", "extent": extent, "links": []}
        return {"collections": [{**common, "id": name} for name in sorted({item["collection"] for item in self.items})], "links": []}

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        found = [item for item in self.items if self.matches(item, body)]
        start, limit = int(body.get("token", 0)), int(body.get("limit", 10))
        page = found[start : start + limit]
        if self.drops_page is not None and self.drops > 0 and start == self.drops_page * limit:
            self.drops -= 1
            page = page[:-1]
        answer: dict[str, Any] = {"type": "FeatureCollection", "features": page, "links": []}
        if self.counts:
            answer["numberMatched"] = len(found) + self.claims_more
        if start + limit < len(found):
            answer["links"] = [{"rel": "next", "href": f"{self.url}search", "method": "POST", "body": {**body, "token": start + limit}}]
        return answer

    def matches(self, item: dict[str, Any], body: dict[str, Any]) -> bool:
        properties = item["properties"]
        if body.get("collections") and item["collection"] not in body["collections"]:
            return False
        if "intersects" in body and not shapely.geometry.shape(item["geometry"]).intersects(shapely.geometry.shape(body["intersects"])):
            return False
        if "datetime" in body:
            start, end = body["datetime"].split("/")
            if (start != ".." and properties["datetime"] < start) or (end != ".." and properties["datetime"] > end):
                return False
        if "query" in body and QUERY[0] in self.conforms:
            for name, test in body["query"].items():
                if not (name in properties and properties[name] <= test["lte"]):
                    return False
        if "filter" in body and FILTER[0] in self.conforms:
            return bool(cql2.Expr(body["filter"]).matches(item))
        return True


def _handler(server: StacServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            if parts.path == "/search":
                body: dict[str, Any] = {**query, "collections": query["collections"].split(",")} if "collections" in query else dict(query)
                body |= {"intersects": json.loads(query["intersects"])} if "intersects" in query else {}
                self.answer(server.search(body))
            elif parts.path == "/collections":
                self.answer(server.collections())
            else:
                self.answer(server.landing())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if server.only_get:
                self.send_error(405)
            else:
                self.answer(server.search(body))

        def answer(self, document: dict[str, Any]) -> None:
            failing = server.failures > 0 or server.status != 200
            status = 503 if server.failures > 0 else server.status
            server.failures -= 1
            text = json.dumps({"detail": "no"} if failing else document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler


@contextmanager
def running(server: StacServer) -> Iterator[StacServer]:
    """Run the server on a free port of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(server)) as http:
        server.url = f"http://127.0.0.1:{http.server_address[1]}/"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def item(name: str = "a", **properties: Any) -> dict[str, Any]:
    """Return an item of a 1 degree square at longitude ``west`` and latitude ``south``."""
    west, south = properties.pop("west", 0.0), properties.pop("south", 0.0)
    collection, assets = properties.pop("collection", "things"), properties.pop("assets", {"pan": {"href": "https://example.org/pan.tif"}})
    box = shapely.box(west, south, west + 1, south + 1)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "geometry": shapely.geometry.mapping(box),
        "bbox": list(box.bounds),
        "properties": {"datetime": "2020-01-01T12:00:00Z", "platform": "sentinel-2a", "eo:cloud_cover": 10, **properties},
        "links": [],
        "assets": assets,
    }
