from __future__ import annotations

import functools
import json
import socket
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from file_server import serving
from stac_server import item

from ftrack.catalogue import Access, absolute_href, api_io, plain_item, read_document, walk_items
from ftrack.errors import Retry, Stop
from ftrack.scenes import find_scenes

HERE = "https://e.org/a/b/item.json"


def catalogue(*hrefs: str, rel: str = "child") -> dict[str, Any]:
    links = [{"rel": rel, "href": href} for href in hrefs]
    return {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "-", "links": [{"rel": "root", "href": "/"}, *links]}


def write(folder: Path, documents: dict[str, Any]) -> Path:
    for name, document in documents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(document))
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A catalogue of two collections, one of which points back to the root, with three items."""
    asset = {"pan": {"href": "./pan.tif"}}
    return write(
        tmp_path / "tree",
        {
            "catalog.json": catalogue("x/collection.json", "y/collection.json"),
            "x/collection.json": catalogue("i1.json", "i2.json", rel="item"),
            "x/i1.json": item("i1", datetime="2020-01-01T00:00:00Z", assets=asset),
            "x/i2.json": item("i2", datetime="2020-01-02T00:00:00Z", assets=asset),
            "y/collection.json": catalogue("deep/i3.json", "../x/i1.json", "../catalog.json", rel="item"),
            "y/deep/i3.json": item("i3", datetime="2020-01-03T00:00:00Z", assets=asset),
        },
    )


@pytest.fixture
def web(tree: Path) -> Iterator[str]:
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tree)
    handler.func.log_message = lambda *_: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def test_a_tree_on_disk_is_walked_once(tree: Path) -> None:
    scenes = find_scenes(tree)
    assert [scene.id for scene in scenes] == ["i1", "i2", "i3"]
    root = tree.resolve()
    hrefs = [Path(scene.assets["pan"].href).relative_to(root).as_posix() for scene in scenes]
    assert hrefs == ["x/pan.tif", "x/pan.tif", "y/deep/pan.tif"]


def test_the_same_tree_on_the_web_and_in_a_store(tree: Path, web: str) -> None:
    scenes = find_scenes(f"{web}/catalog.json")
    assert [scene.assets["pan"].href.removeprefix(web) for scene in scenes] == ["/x/pan.tif", "/x/pan.tif", "/y/deep/pan.tif"]
    store = fsspec.filesystem("memory")
    store.put(str(tree), "/bucket/tree", recursive=True)
    place = next(name for name in store.find("/bucket") if name.endswith("/catalog.json"))
    found = find_scenes(f"memory:/{place}")
    assert [scene.id for scene in found] == ["i1", "i2", "i3"]
    assert found[2].assets["pan"].href == f"memory:/{place}".replace("catalog.json", "y/deep/pan.tif")


def test_one_broken_document_stops_the_walk(tree: Path) -> None:
    (tree / "x" / "i2.json").unlink()
    with pytest.raises(Stop, match=r"the catalogue .*i2\.json is not there"):
        find_scenes(tree)


def test_pages_of_a_list_on_the_web_are_followed(tree: Path, web: str) -> None:
    for page in range(3):
        links = [{"rel": "next", "href": f"page{page + 1}.json"}] if page < 2 else []
        document = {"type": "FeatureCollection", "features": [item(f"p{page}", datetime=f"2020-01-0{page + 1}T00:00:00Z")], "links": links}
        write(tree, {f"page{page}.json": document})
    assert [scene.id for scene in find_scenes(f"{web}/page0.json")] == ["p0", "p1", "p2"]


def test_a_missing_page_on_the_web(web: str) -> None:
    with pytest.raises(Stop, match=f"{web}/none.json does not exist"):
        find_scenes(f"{web}/none.json?sig=x")


def test_a_catalogue_without_an_end_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {f"c{n}.json": catalogue(f"c{n + 1}.json") for n in range(20)})
    with pytest.raises(Stop, match="nested deeper than 12 levels"):
        list(walk_items(str(tmp_path / "c0.json"), catalogue("c1.json"), api_io(Access(0))))


@pytest.mark.parametrize("address", ["http://", "http://[x", "nowhere://x/c.json"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(Stop, match=r"is not (there|an address of a catalogue)"):
        read_document(address, api_io(Access(0, 1.0)))


def test_a_failing_store_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("connection lost")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "_open", fail)
    with pytest.raises(Retry, match=r"memory://c\.json does not answer as it should: OSError: connection lost; try again later"):
        read_document("memory://c.json", api_io(Access(0)))


@pytest.mark.parametrize(
    ("href", "absolute"),
    [
        ("./x.tif", "https://e.org/a/b/x.tif"),
        ("../x.tif?sig=1#f", "https://e.org/a/x.tif"),
        ("/x.tif", "https://e.org/x.tif"),
        ("//other.org/x.tif", "https://other.org/x.tif"),
        ("https://user:pass@f.org/x.tif?st=1&sig=2", "https://f.org/x.tif"),
        ("S3://bucket/x.tif", "s3://bucket/x.tif"),
        ("file:///etc/passwd", ""),
        ("/vsicurl/http://169.254.169.254/", ""),
        ("vrt://x.tif", ""),
        ("http://169.254.169.254/latest/meta-data", ""),
        ("https://127.0.0.1/x.tif", ""),
        ("http://[::1]/x.tif", ""),
        ("http://10.0.0.8/x.tif", ""),
        ("//127.0.0.1/x.tif", ""),
        ("https://localhost:8080/x.tif", ""),
        ("https://localhost./x.tif", ""),
        ("https://service.internal/x.tif", ""),
        ("http://2130706433/x.tif", ""),
        ("http://127.1/x.tif", ""),
        ("http://0x7f.0x1/x.tif", ""),
        ("http://[bad/x.tif", ""),
        ("a\x00b", ""),
        ("", ""),
    ],
)
def test_hrefs_of_a_remote_catalogue(href: str, absolute: str) -> None:
    assert absolute_href(href, HERE, local=False) == absolute


@pytest.mark.parametrize(
    ("href", "absolute"),
    [
        ("./x.tif", "/data/b/x.tif"),
        ("../x y.tif", "/data/x y.tif"),
        ("/abs/x.tif", "/abs/x.tif"),
        ("file:///abs/x%20y.tif", "/abs/x y.tif"),
        ("http://127.0.0.1/x.tif", "http://127.0.0.1/x.tif"),
        ("/vsizip/x.zip/x.tif", ""),
    ],
)
def test_hrefs_of_a_local_catalogue(href: str, absolute: str) -> None:
    assert absolute_href(href, "/data/b/item.json", local=True) == absolute


def test_a_private_catalogue_may_name_private_hosts_but_not_the_metadata_service() -> None:
    for base in ("http://10.0.0.8:81/stac", "http://stac:8080/", "http://169.254.1.1/stac"):
        assert absolute_href("http://10.0.0.8/x.tif", base, local=False) == "http://10.0.0.8/x.tif"
        assert absolute_href("http://store:9000/x.tif", base, local=False) == "http://store:9000/x.tif"
        assert absolute_href("http://169.254.169.254/x", base, local=False) == ""


def test_an_item_of_an_object_store() -> None:
    assert absolute_href("../x.tif", "s3://bucket/a/b/item.json", local=False) == "s3://bucket/a/x.tif"
    assert absolute_href("../../../../x.tif", "s3://bucket/a/item.json", local=False) == "s3://bucket/x.tif"


def test_no_secret_survives_in_an_item() -> None:
    signed = "https://e.org/x?sig=SECRET"
    made = item(assets={"pan": {"href": signed, "alternate": {"s3": {"href": "s3://b/x?sig=SECRET"}}}, "bad": {"href": "file:///x"}})
    made["links"] = [{"rel": "self", "href": signed}]
    plain = plain_item(made, signed, local=False)
    assert "SECRET" not in json.dumps(plain) and list(plain["assets"]) == ["pan"]
    assert "SECRET" in json.dumps(made)


@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/inside.json", "http://169.254.169.254/latest/", "http://10.1.2.3/"])
def test_a_public_catalogue_cannot_send_the_reader_inside(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    really = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *others, **named: really("127.0.0.1", *others, **named))
    with serving() as outside, serving() as inside:
        inside.files["/inside.json"] = b"{}"
        outside.redirects["/catalog.json"] = target.format(port=inside.url.rpartition(":")[2])
        outside.redirects["/moved.json"] = "/here.json"
        outside.files["/here.json"] = b'{"type": "Catalog", "links": []}'
        public = f"http://hostile.example.org:{outside.url.rpartition(':')[2]}"
        with pytest.raises(Stop, match=r"redirects to http://.*, which is not followed"):
            read_document(f"{public}/catalog.json", api_io(Access(0, 2.0)))
        assert inside.asked == []
        assert read_document(f"{public}/moved.json", api_io(Access(0, 2.0)))["type"] == "Catalog"
        outside.redirects["/catalog.json"] = f"{inside.url}/inside.json"
        assert read_document(f"{outside.url}/catalog.json", api_io(Access(0, 2.0))) == {}
