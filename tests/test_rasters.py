"""Raster files: what may be read, what is tried again, and what an error says."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import tblib.pickling_support
from made_scenes import write_image
from moto.server import ThreadedMotoServer

import ftrack.rasters as rasters
import ftrack.transport as transport
from ftrack.errors import Retry, Stop
from ftrack.rasters import File, check_href, read_header, use_file
from ftrack.sources import Access

PIXELS = np.random.default_rng(0).integers(1, 60000, (300, 300)).astype("uint16")


class Faulty:
    """A file behind HTTP, whose server answers as planned: a status, ``reset``, ``short``, or well."""

    def __init__(self, body: bytes) -> None:
        self.body, self.plan, self.forever, self.requests = body, [], None, 0  # type: ignore[var-annotated]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                outer.answer(self, False)

            def do_GET(self) -> None:
                outer.answer(self, True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.href = f"http://127.0.0.1:{self.server.server_port}/{id(self)}/image.tif"

    def answer(self, handler: Any, with_body: bool) -> None:
        self.requests += 1
        act = self.plan.pop(0) if self.plan else self.forever
        handler.close_connection = act is not None
        if act == "reset":
            handler.connection.shutdown(2)
            return
        if isinstance(act, int):
            handler.send_response(act)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        part = self.body
        if wanted := handler.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last or len(self.body)), len(self.body) - 1)
            part = self.body[int(first) : end + 1]
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {first}-{end}/{len(self.body)}")
        else:
            handler.send_response(200)
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Content-Length", str(len(part)))
        handler.end_headers()
        if with_body:
            handler.wfile.write(part[: len(part) // 2] if act == "short" else part)
            if act == "short":
                handler.wfile.flush()
                handler.connection.shutdown(2)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasters, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Faulty]:
    faulty = Faulty(write_image(tmp_path / "image.tif", PIXELS).read_bytes())
    yield faulty
    faulty.server.shutdown()
    faulty.server.server_close()


def file_at(href: object) -> File:
    return File(scene="scene-1", asset="nir", href=str(href))


def read(href: object, attempts: int = 4) -> np.ndarray:
    return use_file(file_at(href), Access(attempts), lambda dataset: dataset.read(1))


@pytest.mark.parametrize("fault", [503, 429, 403, "reset"])
def test_a_failed_open_is_tried_again_and_reaches_the_server(server: Faulty, fault: int | str) -> None:
    server.plan = [fault] * 3
    assert np.array_equal(read(server.href), PIXELS)
    assert server.requests > 3


@pytest.mark.parametrize("fault", [503, "reset", "short"])
def test_a_read_that_fails_after_the_header_is_tried_again(server: Faulty, fault: int | str) -> None:
    def read_faulty(dataset: Any) -> np.ndarray:
        server.forever = fault if not tries else None
        tries.append(1)
        try:
            return np.asarray(dataset.read(1))
        finally:
            server.forever = None

    tries: list[int] = []
    assert np.array_equal(use_file(file_at(server.href), Access(), read_faulty), PIXELS)
    assert len(tries) == 2


@pytest.mark.parametrize("fault", [503, "reset", "short", 403])
def test_what_keeps_failing_is_an_error_that_names_the_scene_and_hides_the_signature(server: Faulty, fault: int | str) -> None:
    server.forever = fault
    with pytest.raises(Retry) as caught:
        read(f"{server.href}?sig=SECRET", attempts=2)
    assert "scene-1" in str(caught.value) and "'nir'" in str(caught.value) and server.href in str(caught.value)
    assert "SECRET" not in str(caught.value) and caught.value.__cause__ is None and caught.value.__context__ is None
    tblib.pickling_support.install(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    server.forever = None
    assert np.array_equal(read(f"{server.href}?sig=SECRET", attempts=1), PIXELS)


def test_a_file_that_is_not_there_is_not_tried_again(server: Faulty, tmp_path: Path) -> None:
    server.forever = 404
    with pytest.raises(Stop, match="is not there"):
        read(server.href)
    assert server.requests <= 2
    with pytest.raises(Stop, match=r"is not there.*No such file"):
        read(tmp_path / "none.tif")


def test_no_server_is_a_passing_failure() -> None:
    with pytest.raises(Retry, match=r"could not be read in 2 attempts.*connect"):
        read("http://127.0.0.1:9/x.tif", attempts=2)


def test_files_that_point_at_other_files_are_not_opened(server: Faulty, tmp_path: Path) -> None:
    secret = write_image(tmp_path / "secret.tif", PIXELS)
    body = f"""<VRTDataset rasterXSize="300" rasterYSize="300"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>
        <SourceFilename>{secret}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""
    server.body = body.encode()
    (tmp_path / "local.tif").write_text(body)
    for href in (server.href, tmp_path / "local.tif"):
        with pytest.raises(Stop, match="neither a GeoTIFF nor a JPEG 2000"):
            read(href, attempts=1)


@pytest.mark.parametrize(
    "href",
    ["file:///etc/passwd", "vrt:///data/x.tif", "/vsicurl/http://10.0.0.1/x", "/vsimem/x", "zip+https://a/b.zip", "ftp://a/b.tif",
     "https://user:word@host/x.tif", "gs://bucket/x.tif", "GTIFF_DIR:1:/etc/x", "HTTP+zip://a"],
)  # fmt: skip
def test_hrefs_that_may_not_be_read_are_refused(href: str) -> None:
    with pytest.raises(Stop, match="is refused"):
        check_href(file_at(href), Access(local_files=True))
    with pytest.raises(Stop, match="is refused"):
        read(href)


def test_local_paths_can_be_refused(tmp_path: Path) -> None:
    check_href(file_at(tmp_path / "x.tif"), Access(local_files=True))
    check_href(file_at("s3://bucket/x.tif"), Access(local_files=False))
    check_href(file_at("https://host/x.tif"), Access(local_files=False))
    with pytest.raises(Stop, match="local_files is off"):
        check_href(file_at(tmp_path / "x.tif"), Access(local_files=False))


def test_files_in_an_object_store_are_read_with_the_credentials_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    values = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_S3_ENDPOINT": f"{host}:{port}", "AWS_HTTPS": "NO",
              "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_REGION": "us-east-1"}  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    try:
        store = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        store.create_bucket(Bucket="scenes")
        store.put_object(Bucket="scenes", Key="a.tif", Body=write_image(tmp_path / "a.tif", PIXELS).read_bytes())
        assert np.array_equal(read("s3://scenes/a.tif"), PIXELS)
        with pytest.raises(Stop, match=r"s3://scenes/b\.tif\) is not there"):
            read("s3://scenes/b.tif")
    finally:
        server.stop()


def test_an_asset_of_several_bands_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "rgb.tif", np.ones((3, 64, 64), "uint8"))
    with pytest.raises(Stop, match="has 3 bands"):
        read(path)


def test_a_remote_file_stays_open_between_windows(server: Faulty) -> None:
    read(server.href)
    before = server.requests
    assert use_file(file_at(server.href), Access(), lambda dataset: dataset.shape) == (300, 300)
    assert server.requests == before


def test_few_files_stay_open(tmp_path: Path, server: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasters, "OPEN_FILES", 2)
    for number in range(5):
        read(f"{server.href}?{number}")
    assert len(rasters._threads.kept.files) == 2


def test_open_files_are_closed_quietly_with_their_thread_and_with_the_process(server: Faulty) -> None:
    code = f"""
import contextvars, threading
from ftrack.rasters import File, use_file
from ftrack.sources import Access
def go():
    for _ in range(2):
        contextvars.copy_context().run(read)
def read():
    use_file(File(scene="s", asset="a", href={server.href!r}), Access(), lambda dataset: dataset.read(1))
thread = threading.Thread(target=go)
thread.start()
thread.join()
go()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_header_says_where_the_pixels_lie(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", PIXELS, corner=(500.0, 900.0), resolution=20.0, nodata=None)
    header = read_header(file_at(path), Access())
    assert header.transform == (20.0, 0.0, 500.0, 0.0, -20.0, 900.0) and header.shape == (300, 300)
    assert (header.nodata, header.dtype) == (None, "uint16") and "UTM zone 22N" in header.crs


def test_a_file_without_crs_cannot_be_placed(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", PIXELS, crs=None)
    with pytest.raises(Stop, match="has no CRS"):
        read_header(file_at(path), Access())
    assert read_header(File(scene="s", asset="a", href=str(path), crs="EPSG:3413"), Access()).crs == "EPSG:3413"
