"""Stores elsewhere are opened once, and asked again as often as is said and no more."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_proxy import fault_proxy

from ftrack.errors import Full, Retry, Stop
from ftrack.store import REQUEST_ATTEMPTS, get, put, store_at, told_apart


def test_threads_share_one_store_until_the_credentials_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened() -> int:
        return id(store_at("s3://ice/cube.zarr")._store.fs)

    first = opened()
    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            assert {pool.submit(opened).result() for _ in range(2)} == {first}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert opened() != first


@pytest.mark.parametrize("fault", ["503", "429", "403", "reset"])
def test_a_store_that_only_fails_is_asked_so_often_and_no_more(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr("ftrack.store.LONGEST_WAIT", 0.01)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "DEFAULT_REGION"):
        monkeypatch.setenv(f"AWS_{name}", "us-east-1")
    # Where a connection that was kept open breaks, aiohttp asks once more on a new one.
    most = REQUEST_ATTEMPTS * (2 if fault == "reset" else 1)
    with fault_proxy("http://127.0.0.1:9", rate=1.0, faults=(fault,)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        with pytest.raises(Stop if fault == "403" else Retry):
            put("s3://ice/run", "plan.json", b"{}")
        assert REQUEST_ATTEMPTS <= len(proxy.asked) <= most
        proxy.asked.clear()
        with pytest.raises(Stop if fault == "403" else Retry):
            get("s3://ice/run", "plan.json")
        assert REQUEST_ATTEMPTS <= len(proxy.asked) <= most


ASKS = """
from ftrack.store import get, put
put("s3://ends-quietly/here", "word", b"kept")
print(get("s3://ends-quietly/here", "word"))
"""


def test_a_process_that_has_used_s3_ends_without_a_complaint() -> None:
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        environment = {**os.environ, **keys, "AWS_DEFAULT_REGION": "us-east-1"}
        making = "import boto3; boto3.client('s3').create_bucket(Bucket='ends-quietly')"  # moto shares buckets in a process
        done = subprocess.run([sys.executable, "-c", making + ASKS], env=environment, capture_output=True, text=True, timeout=100)
    finally:
        server.stop()
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'kept'\n", "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_nothing_is_told_as_such(number: int) -> None:
    with pytest.raises(Full, match=r"/ice/run cannot be written: .*; make room there"), told_apart("/ice/run"):
        raise OSError(number, os.strerror(number))
