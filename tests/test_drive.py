"""Tasks are sent a few at a time; every outcome comes back, also errors and dead workers; nothing is left running."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import dask
import pytest
from dask.delayed import delayed
from distributed import Client

from ftrack.cluster import open_client
from ftrack.config import ClusterSettings
from ftrack.drive import Outcome, drive, must, refuse_workers
from ftrack.errors import Retry, Skip, Stop
from ftrack.forecast import Forecast


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with open_client(ClusterSettings(kind="threads", threads=2)) as opened:
        yield opened


def square(number: int) -> int:
    return number * number


def groups_of(count: int, size: int, made: list[int]) -> Iterator[dict[str, Any]]:
    for start in range(0, count, size):
        made.append(start)
        yield {str(n): delayed(square, pure=False)(n) for n in range(start, start + size)}


def test_every_task_comes_back_once_under_its_name(client: Client) -> None:
    outcomes = list(drive(client, groups_of(30, 5, []), 7))
    assert sorted((int(o.name), o.value) for o in outcomes) == [(n, n * n) for n in range(30)]
    assert list(drive(client, [], 3)) == []


def test_groups_are_made_only_when_they_are_needed(client: Client) -> None:
    made: list[int] = []
    for done, _ in enumerate(drive(client, groups_of(60, 3, made), 4), 1):
        assert 3 * len(made) - done <= 4 + 3
    assert len(made) == 20


def test_an_error_is_an_outcome_and_the_others_go_on(client: Client) -> None:
    def fail() -> None:
        raise Retry("the server is tired")

    outcomes = {o.name: o for o in drive(client, [{"bad": delayed(fail)(), "good": delayed(square)(3)}], 2)}
    assert outcomes["good"].value == 9
    assert isinstance(outcomes["bad"].error, Retry) and "tired" in str(outcomes["bad"].error)


def test_nothing_is_left_running_after_an_interruption(client: Client) -> None:
    outcomes = drive(client, [{str(n): delayed(time.sleep, pure=False)(0.2) for n in range(20)}], 1)
    next(outcomes)
    outcomes.close()
    deadline = time.monotonic() + 10
    while any(client.processing().values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(client.processing().values())


def test_a_task_that_kills_its_worker_fails_with_advice() -> None:
    settings = ClusterSettings(kind="local", workers=1, memory="1GB")
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), open_client(settings) as opened:
        (outcome,) = drive(opened, [{"poison": delayed(os._exit)(1)}], 1)
        assert isinstance(outcome.error, Retry)
        assert "2 workers died" in str(outcome.error) and "run.tile" in str(outcome.error)
        assert [o.value for o in drive(opened, [{"next": delayed(square)(4)}], 1)] == [16]


def test_workers_that_are_too_small_are_refused(client: Client) -> None:
    small = Forecast(images=1, block_memory=2**20, wave_memory=0, tile_memory=0, tiles=0, vectors=0, stored=0, tasks=0)
    assert refuse_workers(client, small) == 2
    with pytest.raises(Stop, match=r"take larger workers, fewer threads, or a smaller run\.tile"):
        refuse_workers(client, small._replace(block_memory=2**50))


@pytest.mark.parametrize(("error", "kind"), [(Stop("no"), Stop), (Skip("none"), Skip), (KeyError("x"), Retry)])
def test_an_outcome_that_must_be_there_raises_its_error(error: Exception, kind: type[Exception]) -> None:
    assert must(Outcome("a", 3, None)) == 3
    with pytest.raises(kind):
        must(Outcome("a", None, error))
