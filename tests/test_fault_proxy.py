"""The proxy that spoils answers: what it lets through is unchanged, and the same seed spoils the same requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import urllib3
from fault_proxy import FAULTS, fault_proxy
from moto.server import ThreadedMotoServer
from urllib3.exceptions import HTTPError

BODY = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3 = client(f"http://{host}:{port}")
    s3.create_bucket(Bucket="things")
    s3.put_object(Bucket="things", Key="open", Body=BODY, ACL="public-read")
    yield f"http://{host}:{port}"
    server.stop()


def client(url: str, attempts: int = 12) -> Any:
    config = boto3.session.Config(retries={"max_attempts": attempts, "mode": "standard"}, s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1", config=config)


def test_an_object_store_behind_the_proxy_is_the_same(store: str) -> None:
    with fault_proxy(store) as proxy:
        s3 = client(proxy.url)
        s3.put_object(Bucket="things", Key="a", Body=BODY)
        assert s3.get_object(Bucket="things", Key="a")["Body"].read() == BODY
        assert s3.get_object(Bucket="things", Key="a", Range="bytes=5-9")["Body"].read() == BODY[5:10]
        assert [one["Key"] for one in s3.list_objects_v2(Bucket="things")["Contents"]] == ["a", "open"]
        assert {one.fault for one in proxy.asked} == {""} and {"PUT", "GET"} <= {one.method for one in proxy.asked}


def test_a_client_that_tries_again_gets_what_it_wants(store: str) -> None:
    with fault_proxy(store, rate=0.3, seed=1, faults=("503", "429", "reset")) as proxy:
        s3 = client(proxy.url)
        for number in range(4):
            s3.put_object(Bucket="things", Key=f"b{number}", Body=BODY)
            assert s3.get_object(Bucket="things", Key=f"b{number}")["Body"].read() == BODY
        assert proxy.count() > 2


@pytest.mark.parametrize("fault", [*FAULTS, "lost", "redirect"])
def test_every_fault(store: str, fault: str) -> None:
    with fault_proxy(store, next=[fault], elsewhere="http://127.0.0.1:9/") as proxy:
        pool = urllib3.PoolManager(retries=False)
        try:
            answer = pool.request("GET", f"{proxy.url}/things/open")
            seen = str(answer.status)
        except HTTPError:
            seen = "broken"
        assert seen == {"redirect": "302"}.get(fault, fault if fault.isdigit() else "broken")
        assert proxy.count(fault) == 1


def test_the_same_seed_spoils_the_same_requests(store: str) -> None:
    seen = []
    for seed in (3, 3, 4):
        with fault_proxy(store, rate=0.5, seed=seed, faults=("503",)) as proxy:
            pool = urllib3.PoolManager(retries=False)
            seen.append([pool.request("GET", f"{proxy.url}/things/a{n}").status for n in range(20)])
    assert seen[0] == seen[1] != seen[2]
