"""A store that is gone for a while is waited for, and one that stays away is told with what to do."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
import xarray as xr
from distributed import Client
from fault_proxy import fault_proxy
from moto.server import ThreadedMotoServer
from small_run import bytes_of, make_archive, make_workflow

from ftrack import patience, tasks
from ftrack.cluster import open_client
from ftrack.config import ClusterSettings, write_workflow
from ftrack.cube import open_cube
from ftrack.errors import Full, Retry, Stop
from ftrack.patience import outlast
from ftrack.plan import make_plan
from ftrack.run import Event, run_plan


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.001)


def failing(*errors: Exception) -> Callable[[], str]:
    """Return a function that raises these errors, one at a call, and then answers."""
    left = list(errors)

    def ask() -> str:
        if left:
            raise left.pop(0)
        return "there"

    return ask


def test_what_comes_back_is_waited_for_and_both_ends_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "ftrack")
    assert outlast(failing(Retry("s3://ice does not answer"), Retry("again"), Retry("again"))) == "there"
    first, last = caplog.messages
    assert first == "s3://ice does not answer; the run waits up to 15 minutes for that" and "answers again" in last


def test_what_stays_away_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "OUTAGE", 0.0)
    with pytest.raises(Retry, match=r"gone \(waited for 0 minutes\); what is finished is kept, and running again goes on from it"):
        outlast(failing(Retry("gone")))


def test_what_waiting_cannot_change_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Stop, match="forbidden"):
        outlast(failing(Stop("forbidden")))
    assert caplog.messages == []
    assert outlast(failing(Full("no room")), (Retry, Full)) == "there"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Path, Path]]:
    """Give a client, the scenes of a run, and the cube that it makes if nothing disturbs it."""
    listing, output = make_archive(tmp_path_factory.mktemp("archive")), tmp_path_factory.mktemp("reference") / "cube.zarr"
    with open_client(ClusterSettings(kind="threads", threads=2)) as client:
        assert run_plan(make_plan(make_workflow(listing, output)), client).published
        yield client, listing, output


def chunks_of(cube: Path) -> dict[str, str]:
    return {name: digest for name, digest in bytes_of(cube).items() if "/c" in name}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the address of an S3 server with a bucket ``runs``."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    given = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "ENDPOINT_URL": f"http://{host}:{port}", "DEFAULT_REGION": "us-east-1"}
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    boto3.client("s3").create_bucket(Bucket="runs")
    yield given["ENDPOINT_URL"]
    server.stop()


def test_a_store_that_is_gone_for_a_while_in_the_middle_is_waited_for(
    undisturbed: tuple[Client, Path, Path], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone from the first block on, until the run says that it waits."""
    (client, listing, reference), said = undisturbed, list[str]()
    with fault_proxy(bucket, faults=("503",)) as proxy, monkeypatch.context() as patch:

        class Mends(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                said.append(record.getMessage())
                proxy.rate = 0.0

        def listen(event: Event) -> None:
            if event.kind == "block" and not said:
                proxy.rate = 1.0

        for name, value in (("store.REQUEST_ATTEMPTS", 3), ("store.LONGEST_WAIT", 0.01)):
            patch.setattr(f"ftrack.{name}", value)
        patch.setattr(tasks, "retry_storage", lambda function: function)
        patch.setattr(logging.getLogger("ftrack"), "handlers", [Mends(logging.WARNING)])
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        plan = make_plan(make_workflow(listing, "s3://runs/cube.zarr"))
        report = run_plan(plan, client, listen)
        assert proxy.count("503") > 2 and report.published
    assert "does not answer as it should" in said[0] and "the run waits up to 15 minutes" in said[0] and "answers again" in said[1]
    xr.testing.assert_equal(
        open_cube("s3://runs/cube.zarr", chunks=None)[["vx", "vy_error", "status"]],
        open_cube(reference, chunks=None)[["vx", "vy_error", "status"]],
    )


FULL = """
mount -t tmpfs -o size=450k tmpfs {disk}
{python} -c "$MAIN" run {file} && exit 9
mount -o remount,size=50m {disk}
{python} -c "$MAIN" run {file} || exit 8
cp -r {disk}/cube.zarr {kept}
"""


def test_a_full_disk_ends_a_run_at_once_and_with_room_it_goes_on(undisturbed: tuple[Client, Path, Path], tmp_path: Path) -> None:
    _, listing, reference = undisturbed
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*alone, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    disk, kept, file = tmp_path / "disk", tmp_path / "kept.zarr", tmp_path / "w.yaml"
    disk.mkdir()
    plan = make_plan(make_workflow(listing, disk / "cube.zarr"))
    file.write_text(write_workflow(plan.workflow))
    script = FULL.format(disk=disk, kept=kept, python=sys.executable, file=file)
    main = {**os.environ, "MAIN": "from ftrack.cli import main; main()"}
    ended = subprocess.run([*alone, "sh", "-c", script], capture_output=True, text=True, check=False, env=main)
    assert ended.returncode == 0, ended.stderr
    assert "No space left on device; make room there" in ended.stderr and "what is finished is kept" in ended.stderr
    assert chunks_of(kept) == chunks_of(reference)
