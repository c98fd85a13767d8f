"""Clients open by name, have what they were asked for, are quiet, and leave nothing behind."""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import dask
import psutil
import pytest
from dask.system import CPU_COUNT
from distributed import LocalCluster
from distributed.system import MEMORY_LIMIT

import ftrack.cluster
import ftrack.workers
from ftrack.cluster import open_client
from ftrack.config import ClusterSettings
from ftrack.errors import Retry, Stop
from ftrack.workers import BEFORE_START, FAR_MEMORY, UNPROFILED, WORKER_ENVIRONMENT, far_environment, may_hang, size_workers


def environment() -> dict[str, str]:
    return dict(os.environ)


def fail(text: str) -> None:
    raise ValueError(text)


def test_local_workers_are_processes_with_one_thread_and_the_right_environment(capfd: pytest.CaptureFixture[str]) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with open_client(ClusterSettings(kind="local", workers=1, memory="1GB")) as client:
        workers = client.scheduler_info()["workers"]
        assert [(w["nthreads"], w["memory_limit"]) for w in workers.values()] == [(1, 10**9)]
        assert all("127.0.0.1" in address for address in workers)
        assert client.submit(os.getpid).result() != os.getpid()
        seen = client.submit(environment).result()
        assert {name: seen.get(name) for name in WORKER_ENVIRONMENT} == dict(WORKER_ENVIRONMENT)
        begun_with = client.submit(lambda: Path("/proc/self/environ").read_text()).result()
        assert all(f"{name}={value}" in begun_with.split("\0") for name, value in BEFORE_START.items())
        assert isinstance(client.submit(fail, "told in the record").exception(), ValueError)
    left = {child.pid for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE}
    trackers = {pid for pid in left - before if "resource_tracker" in " ".join(psutil.Process(pid).cmdline())}
    assert left - before - trackers == set()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_a_worker_that_has_died_comes_back_however_long_its_start_takes() -> None:
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}),
        open_client(ClusterSettings(kind="local", workers=1)) as client,
    ):
        (before,) = client.scheduler_info()["workers"]
        assert client.submit(os._exit, 1, retries=0, pure=False).exception() is not None
        client.wait_for_workers(1, timeout=120)
        (after,) = client.scheduler_info()["workers"]
        assert after != before and client.submit(os.getpid).result() != os.getpid()


def test_threads_stay_in_this_process() -> None:
    level = logging.getLogger("distributed.worker").level
    with open_client(ClusterSettings(kind="threads", threads=3)) as client:
        assert logging.getLogger("distributed.worker").level == logging.CRITICAL
        assert client.submit(os.getpid).result() == os.getpid()
        assert [w["nthreads"] for w in client.scheduler_info()["workers"].values()] == [3]
    assert logging.getLogger("distributed.worker").level == level


def thread_name() -> str:
    return threading.current_thread().name


def test_dask_computes_with_the_client_in_this_thread_and_as_it_did_in_others() -> None:
    task = dask.delayed(thread_name)()
    with ThreadPoolExecutor(1) as other, open_client(ClusterSettings(kind="threads", threads=1)):
        assert "Dask-" in task.compute()
        assert "Dask-" not in other.submit(task.compute).result()
    assert "Dask-" not in task.compute()


def test_clients_may_be_closed_in_any_order() -> None:
    settings = ClusterSettings(kind="threads", threads=1)
    first, second = ExitStack(), ExitStack()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        one.submit(first.enter_context, open_client(settings)).result()
        two.submit(second.enter_context, open_client(settings)).result()
        one.submit(first.close).result()
        assert dask.delayed(sum)([1, 2]).compute() == 3
        two.submit(second.close).result()
    assert dask.delayed(sum)([1, 2]).compute() == 3


def test_two_clusters_on_one_machine_do_not_collide() -> None:
    settings = ClusterSettings(kind="threads", threads=1)
    with open_client(settings) as first, open_client(settings) as second:
        assert first.submit(sum, [1, 2]).result() == second.submit(sum, [1, 2]).result() == 3


def test_a_scheduler_that_is_there_is_joined_and_left_running() -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", host="127.0.0.1", protocol="tcp"
    ) as cluster:
        for _ in range(2):
            with open_client(ClusterSettings(kind="scheduler", address=cluster.scheduler_address)) as client:
                assert client.submit(sum, [1, 2]).result() == 3


def test_workers_of_a_scheduler_that_may_hang_are_told_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", host="127.0.0.1", protocol="tcp"
    ) as cluster:
        settings = ClusterSettings(kind="scheduler", address=cluster.scheduler_address)
        with caplog.at_level(logging.WARNING, "ftrack"):
            with open_client(settings):
                assert "hang" not in caplog.text
            monkeypatch.setattr(ftrack.cluster, "may_hang", lambda: "Python 3.11.7")
            with open_client(settings):
                assert (
                    f"workers have Python 3.11.7 and Dask's profiler, which can hang them for good; start them with {UNPROFILED}"
                    in caplog.text
                )


def test_workers_may_hang_where_python_is_old_and_the_profiler_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ftrack.workers, "SAFE_PYTHON", (99,))
    for profiled in (True, False):
        with dask.config.set({"distributed.worker.profile.enabled": profiled}):
            assert may_hang().startswith("Python 3.") == profiled
    monkeypatch.setattr(ftrack.workers, "SAFE_PYTHON", (3,))
    with dask.config.set({"distributed.worker.profile.enabled": True}):
        assert may_hang() == ""
    name, value = UNPROFILED.split("=")
    assert far_environment(())[name] == value


def test_workers_of_a_scheduler_get_the_variables_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster:
        monkeypatch.setenv("FTRACK_TEST_WORD", "of mine")
        settings = ClusterSettings(kind="scheduler", address=cluster.scheduler_address, environment=("FTRACK_TEST_WORD",))
        with open_client(settings) as client:
            assert client.submit(environment).result()["FTRACK_TEST_WORD"] == "of mine"


def test_an_encrypted_scheduler_needs_certificates_in_dasks_configuration() -> None:
    with pytest.raises(Stop, match=r"distributed\.comm\.tls"), open_client(ClusterSettings(kind="scheduler", address="tls://127.0.0.1:9")):
        pass


def test_a_scheduler_needs_an_address_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Stop, match=r"cluster\.address"), open_client(ClusterSettings(kind="scheduler")):
        pass
    monkeypatch.setattr("ftrack.cluster.PATIENCE", "1s")
    with (
        pytest.raises(Retry, match="no Dask scheduler answers"),
        open_client(ClusterSettings(kind="scheduler", address="tcp://127.0.0.1:9")),
    ):
        pass


def test_workers_fill_the_machine_unless_told_otherwise() -> None:
    cores = int(CPU_COUNT)
    assert size_workers(ClusterSettings()) == (cores, 1, MEMORY_LIMIT // cores)
    assert size_workers(ClusterSettings(kind="threads")) == (1, cores, MEMORY_LIMIT)
    assert size_workers(ClusterSettings(workers=3, threads=2, memory="500MB")) == (3, 2, 500_000_000)
    assert size_workers(ClusterSettings(kind="scheduler", workers=40)) == (40, 1, FAR_MEMORY)


@pytest.mark.parametrize(("memory", "text"), [("a lot", "number of bytes"), ("1000TB", "this machine has")])
def test_memory_that_cannot_be_is_refused(memory: str, text: str) -> None:
    with pytest.raises(Stop, match=text):
        size_workers(ClusterSettings(memory=memory))


BEGUN, RELEASED = threading.Event(), threading.Event()


def wait_for_release() -> bool:
    BEGUN.set()
    return RELEASED.wait(100)


def test_an_interrupt_does_not_wait_for_a_task_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ftrack.cluster, "HASTE", 0.2)
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt), open_client(ClusterSettings(kind="threads", threads=1)) as client:
            waiting = client.submit(wait_for_release, pure=False)
            assert BEGUN.wait(60)
            assert not waiting.done()
            raise KeyboardInterrupt
        # Dask itself waits 30 s for threads that are at work.
        assert time.monotonic() - started < 25
    finally:
        RELEASED.set()
