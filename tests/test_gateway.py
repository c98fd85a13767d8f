"""Clusters of a real Dask Gateway: asked for by what the gateway offers, the same cube as anywhere else, and none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from gateway_server import PROJECT, GatewayServer, free_ports, gateway_server
from small_run import bytes_of, make_archive, make_workflow

from ftrack.cluster import join_cluster, open_client
from ftrack.config import ClusterSettings
from ftrack.errors import Retry, Stop
from ftrack.gateway import choose_options, running_clusters, start_cluster, stop_cluster
from ftrack.plan import make_plan
from ftrack.run import run_plan
from ftrack.workers import BEFORE_START, FAR_WORKERS, WORKER_ENVIRONMENT, far_environment, size_workers

ONE = ClusterSettings(kind="gateway", workers=1, memory="2GiB")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    with gateway_server(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def left(server: GatewayServer, seconds: float = 60) -> list[str]:
    """Return what a gateway still runs after some time, as soon as it is nothing."""
    deadline = time.monotonic() + seconds
    while (found := [*running_clusters(ONE), *(p.name() for p in server.processes())]) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def offered(*fields: object) -> object:
    return pytest.importorskip("dask_gateway.options").Options(*fields)


def kinds() -> object:
    return pytest.importorskip("dask_gateway.options")


def test_settings_find_the_options_that_mean_the_same_at_a_gateway() -> None:
    o = kinds()
    one = offered(o.Integer("worker_cores", 1, min=1, max=4), o.Float("worker_memory", 4.0, max=16.0), o.Mapping("environment", {"A": "1"}))
    settings = ClusterSettings(kind="gateway", threads=2, memory="8GiB", options={"environment": {"C": "3"}})
    assert dict(choose_options(one, settings, {"B": "2"})) == {
        "worker_cores": 2,
        "worker_memory": 8.0,
        "environment": {"A": "1", "B": "2", "C": "3"},
    }
    other = offered(o.Integer("memory", 4 * 2**30), o.Select("profile", "small", options=["small", "large"]))
    chosen = choose_options(other, ClusterSettings(kind="gateway", memory="2GiB", options={"profile": "large"}), {"B": "2"})
    assert dict(chosen) == {"memory": 2 * 2**30, "profile": "large"}
    text = offered(o.String("worker_memory", "2 G"))
    assert dict(choose_options(text, ClusterSettings(kind="gateway", memory="8GB"), {})) == {"worker_memory": "8GB"}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"threads": 2}, r"cluster\.threads: this gateway does not let it be chosen"),
        ({"memory": "99GiB"}, r"does not allow worker_memory = 99\.0"),
        ({"options": {"worker_memry": 1}}, "did you mean 'worker_memory'"),
        ({"options": {"worker_memory": "much"}}, "does not allow worker_memory = much"),
    ],
)
def test_what_a_gateway_does_not_offer_is_refused_with_what_it_does(settings: dict[str, object], text: str) -> None:
    with pytest.raises(Stop, match=text):
        choose_options(offered(kinds().Float("worker_memory", 4.0, max=16.0)), ClusterSettings(kind="gateway", **settings), {})


def test_plans_count_on_what_a_gateway_is_asked_for() -> None:
    assert size_workers(ClusterSettings(kind="gateway")).number == FAR_WORKERS
    assert size_workers(ClusterSettings(kind="gateway", workers=40, threads=2, memory="8GB")) == (40, 2, 8 * 10**9)


def test_workers_of_a_gateway_have_what_was_asked_for_and_are_gone_at_the_end(
    server: GatewayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTRACK_TEST_WORD", "of mine")
    settings = ONE.model_copy(update={"environment": ("FTRACK_TEST_WORD",)})
    with open_client(settings) as client:
        (worker,) = client.scheduler_info()["workers"].values()
        assert (worker["nthreads"], worker["memory_limit"]) == (1, 2 * 2**30)
        seen = client.submit(lambda: dict(os.environ)).result()
        assert {name: seen.get(name) for name in WORKER_ENVIRONMENT} == dict(WORKER_ENVIRONMENT)
        begun_with = client.submit(lambda: Path("/proc/self/environ").read_text()).result().split("\0")
        assert all(f"{name}={value}" in begun_with for name, value in BEFORE_START.items())
        assert seen["FTRACK_TEST_WORD"] == "of mine"
        assert seen["DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION"] == "1.1"
        assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.WORKER_SATURATION) == 1.1
        assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.services["gateway"].idle_timeout) == 1800
    assert left(server) == []


@contextmanager
def interrupted_after(seconds: float | None) -> Iterator[None]:
    """Send this process the signal of Ctrl-C after some time, but not after the block has ended."""
    over = threading.Event()

    def interrupt() -> None:
        if not over.wait(seconds):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    timer = threading.Thread(target=interrupt if seconds is not None else over.wait)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # what was started in the background ignores it
    timer.start()
    try:
        yield
    finally:
        over.set()
        timer.join()
        signal.signal(signal.SIGINT, usual)


def fail() -> None:
    raise RuntimeError("something went wrong")


@pytest.mark.parametrize("seconds", [None, 0.5, 2.5])
def test_no_cluster_is_left_after_an_exception_or_an_interrupt_at_any_moment(server: GatewayServer, seconds: float | None) -> None:
    expected: type[BaseException] = RuntimeError if seconds is None else KeyboardInterrupt
    with interrupted_after(seconds), pytest.raises(expected), open_client(ONE):
        fail() if seconds is None else time.sleep(30)
    assert left(server) == []


def test_a_cluster_goes_on_without_its_starter_and_is_found_joined_and_stopped_by_name(server: GatewayServer) -> None:
    started = start_cluster(ONE)
    assert started.address == server.address
    assert running_clusters(ONE) == (started.name,)
    with join_cluster(ONE.model_copy(update={"adaptive": True}), started.name) as client:
        assert client.submit(sum, [1, 2]).result() == 3
    assert running_clusters(ONE) == (started.name,)
    assert stop_cluster(ONE, started.name)
    assert left(server) == []
    assert not stop_cluster(ONE, started.name)
    with pytest.raises(Retry, match="already stopped"), join_cluster(ONE, started.name):
        pass


def test_no_worker_within_the_time_is_told_and_leaves_nothing(server: GatewayServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftrack.cluster.FIRST_WORKER", 0.05)
    with pytest.raises(Retry, match="no worker of the cluster"), open_client(ONE):
        pass
    assert left(server) == []


def test_a_gateway_that_cannot_be_used_is_told_apart(server: GatewayServer) -> None:
    wrong = {"gateway.auth": {"type": "basic", "kwargs": {"username": "tester", "password": "not this one"}}}
    with dask.config.set(wrong), pytest.raises(Stop, match="refuses the login"):
        start_cluster(ONE)
    with dask.config.set({"gateway.address": None}), pytest.raises(Stop, match="no Dask Gateway is known"):
        start_cluster(ONE)
    (nobody,) = free_ports(1)
    with pytest.raises(Retry, match="does not answer") as caught:
        start_cluster(ONE.model_copy(update={"address": f"http://someone:sesame@127.0.0.1:{nobody}/?token=sesame"}))
    assert "sesame" not in str(caught.value)
    with pytest.raises(Stop, match=r"FTRACK_NOT_SET.*not set here"):
        far_environment(("FTRACK_NOT_SET",))


def test_threads_processes_and_a_gateway_make_the_same_bytes(server: GatewayServer, tmp_path: Path) -> None:
    listing = make_archive(tmp_path / "archive")
    found = {}
    for kind, cluster in {
        "threads": {"kind": "threads", "threads": 2},
        "local": {"kind": "local", "workers": 2, "memory": "3GiB"},
        "gateway": {"kind": "gateway", "workers": 2, "memory": "3GiB"},
    }.items():
        workflow = make_workflow(listing, tmp_path / f"{kind}.zarr", cluster=cluster)
        with open_client(workflow.cluster) as client:
            report = run_plan(make_plan(workflow), client)
        assert report.published
        assert not report.failed
        found[kind] = bytes_of(tmp_path / f"{kind}.zarr")
    assert found["threads"] == found["local"] == found["gateway"]
    assert left(server) == []


THROUGH_TLS = """
from ftrack.cluster import open_client
from ftrack.config import ClusterSettings, Workflow
from ftrack.doctor import checks
from ftrack.gateway import running_clusters

if __name__ == "__main__":
    settings = ClusterSettings(kind="gateway", workers=1, memory="2GiB")
    with open_client(settings) as client:
        print(client.submit(sum, [1, 2]).result(), client.scheduler.address.partition(":")[0])
    print(running_clusters(settings))
    workflow = Workflow.read({"scenes": {"catalog": "x.json", "asset": "nir"}, "output": "cube.zarr", "cluster": {"kind": "gateway"}})
    looked = checks(workflow)
    print(*(next(check for check in looked if check.name == name).found for name in ("address", "encryption")), sep=", ")
"""


def test_a_gateway_with_a_certificate_of_its_own_is_used_by_those_who_trust_it(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path, content in zip((certificate, key), pytest.importorskip("dask_gateway_server.tls").new_keypair("localhost"), strict=True):
        path.write_bytes(content)
    with gateway_server(tmp_path / "gateway", TLS_CERT=str(certificate), TLS_KEY=str(key)) as server:
        with pytest.raises(Stop, match=r"certificate that is not trusted here.*SSL_CERT_FILE") as refused:
            start_cluster(ONE)
        assert "Traceback" not in str(refused.value)
        login = dask.config.get("gateway.auth.kwargs")
        trusting = {"SSL_CERT_FILE": str(certificate), "DASK_GATEWAY__ADDRESS": server.address, "PYTHONPATH": str(PROJECT)}
        trusting |= {f"DASK_GATEWAY__AUTH__KWARGS__{name.upper()}": value for name, value in login.items()}
        done = subprocess.run(
            [sys.executable, "-c", THROUGH_TLS], env={**os.environ, **trusting}, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        computed, running, looked = done.stdout.splitlines()
        assert computed == "3 gateway"
        assert running == "()"
        assert looked.startswith(f"{server.address} answers, https, certificate until")
        assert server.processes() == []
