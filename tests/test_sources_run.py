"""Whole runs whose scenes lie elsewhere: faults and short-lived tokens change no byte, and no token stays anywhere."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client
from fault_proxy import fault_proxy
from file_server import FileServer, serving
from small_run import bytes_of, list_at, make_archive, make_workflow

from ftrack.cluster import open_client
from ftrack.config import ClusterSettings, Workflow
from ftrack.plan import make_plan
from ftrack.run import Report, run_plan
from ftrack.signing import forget_tokens
from ftrack.tasks import job_of, match_tasks


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with open_client(ClusterSettings(kind="threads", threads=2)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every tile read for itself, so that much is asked for."""
    monkeypatch.setattr("ftrack.cutting.LARGEST_SIDE", 1)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("archive"), shape=(384, 512))


@pytest.fixture(scope="module")
def reference(archive: Path, client: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The chunks of a cube whose scenes lie on this machine."""
    output = tmp_path_factory.mktemp("reference") / "cube.zarr"
    assert run_plan(make_plan(make_workflow(archive, output)), client).published
    return chunks_of(output)


@pytest.fixture
def server(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr("ftrack.rasters.FIRST_WAIT", 0.002)
    monkeypatch.setattr("ftrack.transport.FIRST_WAIT", 0.002)
    forget_tokens()
    with serving() as running:
        running.files = {f"/scenes/{path.name}": path.read_bytes() for path in archive.parent.glob("*.tif")}
        yield running
    forget_tokens()


def chunks_of(cube: Path) -> dict[str, str]:
    return {name: value for name, value in bytes_of(cube).items() if not name.endswith("zarr.json")}


def workflow_of(archive: Path, url: str, output: Path, **source: object) -> Workflow:
    """Return the workflow with a list of items whose files lie at a server."""
    return make_workflow(list_at(archive, url, output.parent / "items.json"), output, source=source)


def test_every_tenth_request_spoiled_changes_no_byte(
    archive: Path, reference: dict[str, str], server: FileServer, client: Client, tmp_path: Path
) -> None:
    with fault_proxy(server.url, rate=0.1, seed=7) as proxy:
        report = run_plan(make_plan(workflow_of(archive, proxy.url, tmp_path / "cube.zarr")), client)
        assert report.published and proxy.count() > 3
    assert chunks_of(tmp_path / "cube.zarr") == reference


def test_every_request_spoiled_fails_every_block(archive: Path, server: FileServer, client: Client, tmp_path: Path) -> None:
    with fault_proxy(server.url, rate=1.0) as proxy:
        report: Report = run_plan(make_plan(workflow_of(archive, proxy.url, tmp_path / "cube.zarr", attempts=2)), client)
        assert proxy.count() == len(proxy.asked) > 0
    assert not report.published and len(report.failed) == report.blocks
    assert all("could not be read in 2 attempts" in r.reason or "may not be read" in r.reason for r in report.failed)
    assert all(sum(record.measured) == 0 for record in report.failed)


def test_tokens_of_two_seconds_last_for_a_run_of_twenty(
    archive: Path, reference: dict[str, str], server: FileServer, client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.life, server.delay = 2.0, 0.9
    tokens = {"127.0.0.1": f"{server.url}/token/{{collection}}"}
    plan = make_plan(workflow_of(archive, server.url, tmp_path / "cube.zarr", tokens=tokens, attempts=1))
    jobs = {block: job_of(plan, block) for block in plan.waves[0].blocks}
    began = time.monotonic()
    report = run_plan(plan, client)
    took = time.monotonic() - began
    assert report.published and took > 20 and len(server.tokens) >= 8, (took, len(server.tokens))
    assert server.refused == 0 and chunks_of(tmp_path / "cube.zarr") == reference
    graph = pickle.dumps([dict(task.__dask_graph__()) for task in match_tasks(plan, plan.waves[0], jobs).values()])
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"SECRET" not in graph + kept + caplog.text.encode() + pickle.dumps(plan) and b"/scenes/image_0.tif" in graph
