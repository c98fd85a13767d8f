"""Remote files: faults on the way change no pixel, and what cannot be read is an error, never an image."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import numpy as np
import pytest
import rasterio
from fault_proxy import FAULTS, fault_proxy
from file_server import FileServer, serving
from made_scenes import make_item, make_scenes, write_image
from moto.server import ThreadedMotoServer

import ftrack.rasters as rasters
import ftrack.transport as transport
from ftrack.errors import Retry, Stop
from ftrack.rasters import File, use_file
from ftrack.remote import PAGE, RemoteFile
from ftrack.sources import Access
from ftrack.stack import open_stack
from ftrack.transport import Failure, Part

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(1, 60000, (1200, 1200)).astype("uint16")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasters, "FIRST_WAIT", 0.002)
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.002)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    with serving() as running:
        running.files["/a.tif"] = write_image(tmp_path / "a.tif", PIXELS).read_bytes()
        yield running


def read(href: str, window: Any = None, attempts: int = 4) -> np.ndarray:
    return np.asarray(use_file(File(scene="s", asset="nir", href=href), Access(attempts), lambda d: d.read(1, window=window)))


def read_all(href: str, side: int = 150) -> np.ndarray:
    """Read a file in windows, from a fresh header every time."""
    out = np.zeros_like(PIXELS)
    for number, (i, j) in enumerate((i, j) for i in range(0, 1200, side) for j in range(0, 1200, side)):
        out[i : i + side, j : j + side] = read(f"{href}?{number}", ((i, i + side), (j, j + side)))
    return out


@pytest.mark.parametrize("seed", [1, 2])
def test_with_every_tenth_request_spoiled_pixels_are_the_same(server: FileServer, seed: int) -> None:
    with fault_proxy(server.url, rate=0.1, seed=seed) as proxy:
        assert np.array_equal(read_all(f"{proxy.url}/a.tif"), PIXELS)
        assert proxy.count() > 10 and {one.fault for one in proxy.asked} >= set(FAULTS)


def test_the_same_in_front_of_an_object_store(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    try:
        with fault_proxy(f"http://{host}:{port}", rate=0.2, seed=3) as proxy:
            values = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_S3_ENDPOINT": proxy.address, "AWS_HTTPS": "NO"}
            for name, value in {**values, "AWS_REGION": "us-east-1"}.items():
                monkeypatch.setenv(name, value)
            store = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
            store.create_bucket(Bucket="scenes")
            for name in range(4):
                store.put_object(Bucket="scenes", Key=f"{name}.tif", Body=server.files["/a.tif"])
            for name in range(4):
                assert np.array_equal(read(f"s3://scenes/{name}.tif", ((100, 700), (0, 900))), PIXELS[100:700, :900])
            assert proxy.count() > 2
    finally:
        moto.stop()


@pytest.mark.parametrize("fault", [*FAULTS, "redirect"])
def test_with_every_request_spoiled_a_stack_is_an_error(server: FileServer, fault: str) -> None:
    with fault_proxy(server.url, rate=1.0, faults=(fault,), elsewhere=server.url) as proxy:
        item = make_item("S2A_1", {"nir": f"{proxy.url}/a.tif"}, shape=PIXELS.shape)
        with pytest.raises(Stop if fault == "redirect" else Retry) as caught:
            open_stack(make_scenes(item), asset="nir", chunks=1200).compute()
        assert caught.value.scene == "S2A_1" and proxy.count() == len(proxy.asked) == (1 if fault == "redirect" else 12)


def test_a_server_that_asks_to_wait_is_left_alone_for_so_long(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(transport, "time", SimpleNamespace(sleep=waits.append, monotonic=time.monotonic, time=time.time))
    with fault_proxy(server.url, next=["429", "429"], retry_after="7") as proxy:
        assert np.array_equal(read(f"{proxy.url}/a.tif"), PIXELS)
        assert waits == [7.0, 7.0]
        proxy.next += ["429"]
        proxy.retry_after = "86400"
        read(f"{proxy.url}/a.tif?again")
        assert waits[2:] == [transport.LONGEST_WAIT]


def test_each_byte_is_asked_for_once(server: FileServer) -> None:
    with fault_proxy(server.url) as proxy:
        read(f"{proxy.url}/a.tif")
        asked = sum(one.size for one in proxy.asked)
        assert asked <= len(server.files["/a.tif"]) + 2 * PAGE and len(proxy.asked) <= 6


@pytest.mark.parametrize("compress", ["deflate", "lzw", "zstd", "lerc", None])
@pytest.mark.parametrize("tiled", [True, False])
def test_a_file_that_is_cut_short_where_it_lies_is_an_error(server: FileServer, tmp_path: Path, compress: str | None, tiled: bool) -> None:
    path = tmp_path / "b.tif"
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256} if tiled else {"blockysize": 64}
    with rasterio.open(path, "w", driver="GTiff", count=1, height=1200, width=1200, dtype="uint16", crs="EPSG:32622",
                       transform=rasterio.Affine(10, 0, 560000, 0, -10, 7670000), compress=compress, **layout) as file:  # fmt: skip
        file.write(PIXELS, 1)
    body = path.read_bytes()
    server.files["/b.tif"] = body
    assert np.array_equal(read(f"{server.url}/b.tif"), PIXELS)
    for number, length in enumerate((len(body) // 3, len(body) - 5000, len(body) - 1)):
        server.files["/b.tif"] = body[:length]
        with pytest.raises((Retry, Stop)):
            read(f"{server.url}/b.tif?{number}", attempts=1)


def test_a_file_that_changes_while_it_is_read_is_read_afresh(server: FileServer, tmp_path: Path) -> None:
    other = write_image(tmp_path / "other.tif", PIXELS // 2).read_bytes()
    other += bytes(len(server.files["/a.tif"]) - len(other))
    read(f"{server.url}/a.tif", ((0, 64), (0, 64)))
    server.files["/a.tif"], before = other, len(server.asked)
    assert np.array_equal(read(f"{server.url}/a.tif", ((600, 700), (0, 1200))), PIXELS[600:700] // 2)
    # What does not fit is thrown away, and the header is read again.
    assert len(server.asked) - before >= 3


def test_jpeg_2000(server: FileServer, tmp_path: Path) -> None:
    path = tmp_path / "c.jp2"
    with rasterio.open(path, "w", driver="JP2OpenJPEG", count=1, height=1200, width=1200, dtype="uint16", crs="EPSG:32622",
                       transform=rasterio.Affine(10, 0, 560000, 0, -10, 7670000), QUALITY=100, REVERSIBLE="YES") as file:  # fmt: skip
        file.write(PIXELS, 1)
    server.files["/c.jp2"] = path.read_bytes()
    assert np.array_equal(read(f"{server.url}/c.jp2", ((100, 500), (300, 900))), PIXELS[100:500, 300:900])
    for number, cut in enumerate((1, 5000, path.stat().st_size // 2)):
        server.files["/c.jp2"] = path.read_bytes()[:-cut]
        with pytest.raises(Retry, match="ends before it is complete"):
            read(f"{server.url}/c.jp2?{number}", attempts=1)


def test_a_jpeg_2000_file_whose_stream_has_no_length(tmp_path: Path) -> None:
    path = tmp_path / "c.jp2"
    with rasterio.open(path, "w", driver="JP2OpenJPEG", count=1, height=64, width=64, dtype="uint16", crs="EPSG:32622",
                       transform=rasterio.Affine(10, 0, 560000, 0, -10, 7670000)) as file:  # fmt: skip
        file.write(PIXELS[:64, :64], 1)
    body = path.read_bytes()
    at = body.index(b"jp2c") - 4
    for whole in (body[:at] + bytes(4) + body[at + 4 :], body[at + 8 :]):
        assert whole.endswith(b"\xff\xd9")
        assert _remote(whole).is_whole and not _remote(whole[:-7]).is_whole


def _remote(content: bytes) -> RemoteFile:
    return RemoteFile(lambda start, size: Part(content[start : start + size], start, len(content), ""))


def test_a_server_of_whole_files_serves_small_ones(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.parts = False
    assert np.array_equal(read(f"{server.url}/a.tif", ((0, 300), (0, 300))), PIXELS[:300, :300])
    monkeypatch.setattr(transport, "WHOLE", 2**20)
    with pytest.raises(Retry, match="longer than the"):
        read(f"{server.url}/a.tif?large", attempts=1)


def test_pages_and_ranges_are_those_of_the_file() -> None:
    content = RNG.integers(0, 256, 9 * PAGE + 77).astype("uint8").tobytes()
    asked = []

    def part(start: int, size: int) -> Part:
        asked.append((start, size))
        return Part(content[start : start + size], start, len(content), "v")

    file = RemoteFile(part)
    for start, size in [(5, 10), (PAGE - 3, 9), (8 * PAGE, 2 * PAGE), (len(content) - 4, 100), (len(content), 5), (3 * PAGE, 3 * PAGE)]:
        assert file.bytes_at(start, size) == content[start : start + size]
    assert all(start + size <= len(content) for start, size in asked[1:])
    starts, sizes = [70_000, 100, 200_000, 71_000], [900, 50, 3000, 10]
    assert file.ranges(starts, sizes) == [content[a : a + n] for a, n in zip(starts, sizes, strict=True)]
    assert file.failure is None
    assert file.ranges([len(content) - 2], [3]) == [b"\0\0\0"] and isinstance(file.failure, Failure)
    assert file.bytes_at(0, 10) == b""


@pytest.mark.parametrize("change", ["version", "total"])
def test_parts_of_two_versions_are_not_mixed(change: str) -> None:
    content, asked = bytes(5 * PAGE), []

    def part(start: int, size: int) -> Part:
        asked.append(start)
        first = Part(content[start : start + size], start, len(content), "1")
        return first if len(asked) == 1 else first._replace(**{"version": "2"} if change == "version" else {"total": 1})

    file = RemoteFile(part)
    assert file.bytes_at(0, 10) == bytes(10)
    assert file.ranges([2 * PAGE], [4]) == [bytes(4)] and "replaced while it was read" in str(file.failure)
