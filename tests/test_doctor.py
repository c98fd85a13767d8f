"""The doctor finds what would stop a run, says what to do, and leaves nothing behind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import LocalCluster
from gateway_server import GatewayServer, free_ports, gateway_server
from moto.server import ThreadedMotoServer

import ftrack.doctor
from ftrack.config import Workflow
from ftrack.doctor import Check, checks, installed
from ftrack.gateway import running_clusters


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    with gateway_server(tmp_path_factory.mktemp("gateway"), IDLE_SECONDS="0") as running:
        yield running


def workflow(output: Path | str, **cluster: Any) -> Workflow:
    return Workflow.read({"scenes": {"catalog": "x.json", "asset": "nir"}, "output": str(output), "cluster": cluster})


def looked(output: Path | str, **cluster: Any) -> dict[str, Check]:
    found = list(checks(workflow(output, **cluster)))
    assert all(check.advice for check in found if check.state in ("failed", "warning"))
    return {check.name: check for check in found}


def states(found: dict[str, Check]) -> dict[str, str]:
    return {name: check.state for name, check in found.items()}


def test_a_healthy_machine_is_healthy_and_left_as_it_was(tmp_path: Path) -> None:
    found = looked(tmp_path / "cube.zarr", kind="threads", threads=1)
    assert states(found) == {"output": "ok", "cluster": "ok", "memory of a worker": "ok", "disk of a worker": "ok"}
    assert list(tmp_path.iterdir()) == []


def test_a_gateway_is_looked_at_from_its_address_to_the_disks_of_its_workers(server: GatewayServer, tmp_path: Path) -> None:
    found = looked(tmp_path / "cube.zarr", kind="gateway", memory="2GiB")
    assert states(found) == {
        "output": "ok",
        "address": "ok",
        "encryption": "ok",
        "login": "ok",
        "cluster": "ok",
        "idle time-out": "failed",
        "versions": "ok",
        "profiler": "ok",
        "output from a worker": "ok",
        "memory of a worker": "ok",
        "disk of a worker": "ok",
    }
    assert "idle_timeout = 1800" in found["idle time-out"].advice
    assert "worker_memory=4.0" in found["login"].found
    assert running_clusters(workflow(tmp_path, kind="gateway").cluster) == ()


@pytest.mark.parametrize(
    ("change", "name", "state", "text"),
    [
        ({"gateway.auth.kwargs": {"username": "tester", "password": "wrong"}}, "login", "failed", "refuses the login"),
        ({"gateway.address": None}, "address", "failed", "there is none"),
    ],
)
def test_a_gateway_that_cannot_be_used_ends_the_search(
    server: GatewayServer, tmp_path: Path, change: dict[str, Any], name: str, state: str, text: str
) -> None:
    with dask.config.set(change):
        found = looked(tmp_path / "cube.zarr", kind="gateway")
    assert found[name].state == state
    assert text in found[name].found
    assert found["cluster"].state == "skipped"


def test_an_address_at_which_nothing_answers_is_told_without_its_secrets(tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    found = looked(tmp_path / "cube.zarr", kind="scheduler", address=f"tcp://me:sesame@127.0.0.1:{nobody}?key=sesame")
    assert found["address"].state == "failed"
    assert "sesame" not in str(found)


def test_addresses_elsewhere_must_be_encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: socket.socket())
    for kind, address in (("gateway", "http://hub.example.org/gateway"), ("scheduler", "tcp://10.1.2.3:8786")):
        found = looked(tmp_path / "cube.zarr", kind=kind, address=address)
        assert found["encryption"].state == "failed"
        assert "not encrypted" in found["encryption"].found
        assert found["cluster"].state == "skipped"
    assert ftrack.doctor._encryption("tls", "10.1.2.3", 8786).state == "ok"


def test_other_versions_on_workers_and_what_may_hang_them_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, memory_limit="1.1GB", dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        here = installed()
        monkeypatch.setattr(ftrack.doctor, "version", lambda name: "0.0.1" if name == "numba" else here[name])
        monkeypatch.setattr(ftrack.doctor, "may_hang", lambda: "Python 3.11.7")
        found = looked(tmp_path / "cube.zarr", kind="scheduler", address=cluster.scheduler_address)
    assert found["versions"].state == "failed"
    assert f"numba is {here['numba']} on worker" in found["versions"].found
    assert found["versions"].found.count("0.0.1 here") == 1
    assert found["memory of a worker"].state == "failed"
    assert found["profiler"].state == "warning"
    assert "1 workers have Python 3.11.7" in found["profiler"].found


def test_a_bucket_that_is_not_there_is_told_and_one_that_is_is_left_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    boto3 = pytest.importorskip("boto3")
    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    try:
        host, port = s3.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="here")
        assert looked("s3://here/some/cube.zarr", kind="threads", threads=1)["output"].state == "ok"
        assert client.list_objects_v2(Bucket="here")["KeyCount"] == 0
        absent = looked("s3://nowhere/cube.zarr", kind="threads", threads=1)["output"]
        assert absent.state == "failed"
        assert "s3-policy.json" in absent.advice
        client.close()
    finally:
        s3.stop()
