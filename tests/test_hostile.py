"""What a hostile catalogue may try: no file of this machine is read, and no host inside the network is reached."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from file_server import FileServer, serving
from made_scenes import make_item, write_image

import ftrack.rasters as rasters
import ftrack.transport as transport
from ftrack.errors import Stop
from ftrack.rasters import File, use_file
from ftrack.scenes import find_scenes
from ftrack.sources import Access
from ftrack.stack import StackSettings, open_stack

PIXELS = np.random.default_rng(0).integers(1, 60000, (128, 128)).astype("uint16")
PUBLIC = Access(attempts=1, local_files=False, private_hosts=False, schemes=("https", "http", "s3"))
"""How the files of a public catalogue are read, by a user who allows http."""

HOSTILE = "hostile.example.org"
"""A host of the public internet, which stands on this machine for once."""

IN_OPEN = 0x20


class Watch:
    """Counts how often a file is opened by whatever part of this machine."""

    def __init__(self, path: Path) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.queue = self.libc.inotify_init1(os.O_NONBLOCK)
        assert self.queue >= 0 and self.libc.inotify_add_watch(self.queue, os.fsencode(path), IN_OPEN) >= 0

    def count(self) -> int:
        try:
            return len(os.read(self.queue, 2**16)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0


class Canaries:
    """A file and a server that nobody may touch, and a hostile server, which may be asked."""

    def __init__(self, folder: Path, outside: FileServer, inside: FileServer) -> None:
        self.secret, self.outside, self.inside = write_image(folder / "secret.tif", PIXELS), outside, inside
        body = self.secret.read_bytes()
        inside.files["/secret.tif"] = body
        far = f"/vsicurl/{inside.url}/secret.tif"
        outside.files |= {"/good.tif": body, "/huge.tif": _huge(folder / "huge.tif"), "/lump.tif": _lump(folder / "lump.tif")}
        outside.files |= {"/near.vrt.tif": _vrt(self.secret), "/far.vrt.tif": _vrt(far), "/near.mrf.tif": _mrf(self.secret)}
        outside.files |= {"/far.mrf.tif": _mrf(far), "/text.tif": b"root:x:0:0", "/empty.tif": b""}
        outside.redirects |= {"/in.tif": f"{inside.url}/secret.tif", "/file.tif": f"file://{self.secret}", "/loop.tif": "/loop.tif"}
        self.watch = Watch(self.secret)

    def address(self, href: str) -> str:
        port, own = (server.url.rpartition(":")[2] for server in (self.inside, self.outside))
        return href.format(secret=self.secret, outside=f"http://{HOSTILE}:{own}", inside=self.inside.url, port=port)


def _vrt(source: object) -> bytes:
    return f"""<VRTDataset rasterXSize="128" rasterYSize="128"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>
        <SourceFilename>{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>""".encode()


def _mrf(source: object) -> bytes:
    return f"""<MRF_META><CachedSource><Source>{source}</Source></CachedSource><Raster><Size x="128" y="128" c="1"/>
        <DataType>UInt16</DataType></Raster></MRF_META>""".encode()


def _huge(path: Path) -> bytes:
    """Return a small file that says that it has a million times a million pixels."""
    return _sparse(path, 10**6, 8192)


def _lump(path: Path) -> bytes:
    """Return a small file that has to be decoded as one block of 2 GB."""
    return _sparse(path, 2**15, 2**15)


def _sparse(path: Path, side: int, block: int) -> bytes:
    with rasterio.open(path, "w", driver="GTiff", count=1, height=side, width=side, dtype="uint16", tiled=True, blockxsize=block,
                       blockysize=block, SPARSE_OK=True, BIGTIFF="YES", crs="EPSG:32622",
                       transform=rasterio.Affine(10, 0, 0, 0, -10, 0)):  # fmt: skip
        pass
    return path.read_bytes()


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaries]:
    with serving() as outside, serving() as inside:
        yield Canaries(tmp_path_factory.mktemp("canaries"), outside, inside)


@pytest.fixture(autouse=True)
def _internet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two names of the public internet lead to this machine, and one of them be reached although it does."""
    monkeypatch.setattr(rasters, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.01)
    really, refuse = socket.getaddrinfo, transport.peer_refusal

    def found(host: Any, *others: Any, **named: Any) -> Any:
        return really("127.0.0.1" if str(host).endswith("example.org") else host, *others, **named)

    def refused(host: str, address: str, access: Access) -> str:
        return "" if host == HOSTILE else refuse(host, address, access)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(transport, "peer_refusal", refused)


HREFS = (
    "{secret}",
    "file://{secret}",
    "FILE://{secret}",
    "../../../../../../../../../../../../..{secret}",
    "/vsicurl/{inside}/secret.tif",
    "/vsizip/{secret}",
    "/vsimem/x.tif",
    "/vsisubfile/0_100,{secret}",
    "vrt://{secret}",
    "GTIFF_DIR:1:{secret}",
    "zip+file://{secret}",
    "{outside}/near.vrt.tif",
    "{outside}/far.vrt.tif",
    "{outside}/near.mrf.tif",
    "{outside}/far.mrf.tif",
    "http://169.254.169.254/latest/meta-data/iam.tif",
    "http://[::ffff:169.254.169.254]/x.tif",
    "http://metadata.google.internal/x.tif",
    "http://user:word@127.0.0.1:{port}/secret.tif",
    "http://127.0.0.1:{port}/secret.tif",
    "http://localhost:{port}/secret.tif",
    "http://2130706433:{port}/secret.tif",
    "http://0x7f.1:{port}/secret.tif",
    "http://[::1]:{port}/secret.tif",
    "http://0.0.0.0:{port}/secret.tif",
    "http://inner.example.org:{port}/secret.tif",
    "{outside}/in.tif",
    "{outside}/file.tif",
    "{outside}/loop.tif",
    "s3://../{secret}",
    "s3://127.0.0.1:{port}/secret.tif",
    "ftp://127.0.0.1:{port}/secret.tif",
    "{outside}/huge.tif",
    "{outside}/lump.tif",
    "{outside}/text.tif",
    "{outside}/empty.tif",
)


@pytest.mark.parametrize("href", HREFS)
def test_no_file_is_read_and_no_inner_host_reached(canaries: Canaries, href: str) -> None:
    file = File(scene="s", asset="nir", href=canaries.address(href))
    with pytest.raises(Stop):
        use_file(file, PUBLIC, lambda dataset: dataset.read(1))
    assert canaries.watch.count() == 0
    assert canaries.inside.asked == []


def test_the_canaries_sing(canaries: Canaries) -> None:
    def read(href: str, access: Access) -> np.ndarray:
        return use_file(File(scene="s", asset="nir", href=canaries.address(href)), access, lambda dataset: dataset.read(1))

    assert np.array_equal(read("{outside}/good.tif", PUBLIC), PIXELS)
    assert canaries.watch.count() == 0 and canaries.inside.asked == []
    for href in ("{secret}", "{inside}/secret.tif"):
        assert np.array_equal(read(href, Access()), PIXELS)
    assert canaries.watch.count() > 0 and canaries.inside.asked
    canaries.inside.asked.clear()


def test_redirects_to_a_host_that_the_user_names_are_followed(canaries: Canaries) -> None:
    file = File(scene="s", asset="nir", href=canaries.address("{outside}/in.tif"))
    access = Access(attempts=1, hosts=(HOSTILE, "127.0.0.1"))
    assert np.array_equal(use_file(file, access, lambda dataset: dataset.read(1)), PIXELS)
    canaries.inside.asked.clear()
    with pytest.raises(Stop, match=r"redirects to http://127\.0\.0\.1.*source\.hosts can allow 127\.0\.0\.1"):
        use_file(file, access._replace(hosts=(HOSTILE,)), lambda dataset: dataset.read(1))
    assert canaries.inside.asked == []


def test_a_hostile_catalogue_leaves_nothing_to_read(canaries: Canaries) -> None:
    assets = {f"a{number}": canaries.address(href) for number, href in enumerate(HREFS)}
    item = make_item("S2A_1", {key: str(href) for key, href in assets.items()}, shape=PIXELS.shape)
    canaries.outside.files["/items.json"] = json.dumps({"type": "FeatureCollection", "features": [item]}).encode()
    scenes = find_scenes(canaries.address("{outside}/items.json"))
    settings = StackSettings(attempts=1, local_files=False, private_hosts=False, schemes=("https", "http", "s3"))
    reached = 0
    for key in scenes[0].assets:
        with pytest.raises(Stop):
            open_stack(scenes, asset=key, settings=settings).compute()
        reached += 1
    assert 0 < reached < len(HREFS)
    assert canaries.watch.count() == 0 and canaries.inside.asked == []
