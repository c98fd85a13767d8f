"""Jobs go on without the process that submitted them, are found again from the store, and lose nothing when something dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from dask_processes import Processes, dask_processes
from distributed import LocalCluster
from file_server import FileServer, serving
from gateway_server import gateway_server
from moto.server import ThreadedMotoServer
from small_run import bytes_of, list_at, make_archive, make_workflow

from ftrack.cluster import open_client
from ftrack.config import Workflow
from ftrack.cube import open_cube
from ftrack.errors import Retry, Stop
from ftrack.gateway import running_clusters
from ftrack.jobfiles import Beat, Submission, folder_of, read_beat
from ftrack.jobs import Job, list_jobs, open_job, submit
from ftrack.launch import start_here
from ftrack.plan import make_plan
from ftrack.run import run_plan
from ftrack.verify import verify_cube

LONG_ENOUGH = 300


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("archive"), days=(1, 6, 11, 16, 21))


def workflow_of(listing: Path, output: Path | str, **cluster: object) -> Workflow:
    """Return a workflow of many small blocks."""
    return make_workflow(listing, output, pairs={"max_days": 6}, run={"tile": 48}, cluster={"kind": "local", "workers": 1, **cluster})


@pytest.fixture(scope="module")
def reference(listing: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the digests of the chunks that a run without jobs makes."""
    output = tmp_path_factory.mktemp("reference") / "cube.zarr"
    plan = make_plan(workflow_of(listing, output, kind="threads", threads=1, workers=None))
    with open_client(plan.workflow.cluster) as client:
        assert run_plan(plan, client).published
    return chunks_of(output)


def chunks_of(cube: Path) -> dict[str, str]:
    return {name: digest for name, digest in bytes_of(cube).items() if not name.endswith("zarr.json")}


def records_of(job: Job) -> int:
    return len(list(Path(job.folder, "blocks").glob("*.json")))


def until(condition: Callable[[], bool], seconds: float = LONG_ENOUGH) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to this"
        time.sleep(0.05)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Processes]:
    with dask_processes(tmp_path) as processes:
        yield processes


@pytest.fixture
def slow(listing: Path, tmp_path: Path) -> Iterator[tuple[Path, FileServer]]:
    """The scenes at a server that takes its time, so that a run lasts."""
    with serving() as server:
        server.files = {f"/scenes/{path.name}": path.read_bytes() for path in listing.parent.glob("*.tif")}
        server.delay = 1.0
        yield list_at(listing, server.url, tmp_path / "items.json"), server


def test_what_was_never_submitted_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="no job was submitted"):
        open_job(tmp_path / "cube.zarr")
    assert list_jobs(tmp_path) == ()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def beat_of(job: Job) -> Beat:
    beat = read_beat(job.folder)
    assert beat is not None
    return beat


def test_a_job_on_a_cluster_survives_its_worker_and_tells_of_its_scheduler(
    slow: tuple[Path, FileServer], reference: dict[str, str], cluster: Processes, tmp_path: Path
) -> None:
    job = submit(workflow_of(slow[0], tmp_path / "cube.zarr", kind="scheduler", address=cluster.address))
    until(lambda: beat_of(job).state == "running")
    first = beat_of(job)
    (holder,) = [worker for worker in cluster.workers if worker.pid == parent_of(first.pid)]
    holder.kill()
    until(lambda: beat_of(job).driver != first.driver and records_of(job) >= 1)
    assert beat_of(job).submission == first.submission
    cluster.scheduler.kill()
    status = job.wait(LONG_ENOUGH)
    assert status.state == "failed" and "scheduler was lost" in status.reason
    assert "scheduler was lost" in job.logs()
    done = records_of(job)
    with pytest.raises(Stop, match="not a published cube"):
        open_cube(job.output)
    slow[1].delay = 0.0
    assert open_job(job.output).resume("local").wait(LONG_ENOUGH).state == "done"
    assert chunks_of(tmp_path / "cube.zarr") == reference
    assert done < records_of(job)


def test_a_job_that_is_cancelled_or_whose_driver_is_killed_is_taken_up(
    slow: tuple[Path, FileServer], reference: dict[str, str], tmp_path: Path
) -> None:
    job = submit(workflow_of(slow[0], tmp_path / "cube.zarr"))
    with pytest.raises(Stop, match="under way"):
        job.reap()
    until(lambda: beat_of(job).state == "running")
    begun = time.monotonic()
    status = open_job(job.output).cancel()
    assert status.state == "cancelled" and "resume" in status.reason
    assert time.monotonic() - begun < 20
    first = beat_of(job).pid
    until(lambda: not is_running(first))

    job = open_job(job.output).resume()
    until(lambda: records_of(job) >= 1)
    second = beat_of(job).pid
    os.kill(second, signal.SIGKILL)
    until(lambda: not is_running(second))
    status = job.status()
    assert status.state == "dead" and "last sign of life" in status.reason
    assert job.reap() == ()
    assert job.status().state == "failed"
    slow[1].delay = 0.0
    assert job.resume().wait(LONG_ENOUGH).state == "done"
    assert chunks_of(tmp_path / "cube.zarr") == reference


SUBMIT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_jobs import workflow_of
from ftrack.jobs import submit
submit(workflow_of(Path({listing!r}), {output!r}, kind="threads", threads=1, workers=None))
"""


def test_two_submits_at_once_make_one_cube_which_is_found_from_elsewhere(
    listing: Path, reference: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "cube.zarr"
    code = SUBMIT.format(tests=str(Path(__file__).parent), listing=str(listing), output=str(output))
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(LONG_ENOUGH) for process in both] == [0, 0]
    job = open_job(str(output))
    assert job.watch().state == "done"
    assert chunks_of(output) == reference
    assert verify_cube(job.output).problems == ()
    assert job.logs().count(f"{output} is finished") == 1
    assert [found.output for found in list_jobs(str(tmp_path))] == [job.output]
    assert list_jobs(job.output) == (job,)
    assert "done" in repr(job) and "<progress" in job._repr_html_() and "vectors" in capsys.readouterr().out
    assert job.open().sizes == open_cube(job.output).sizes
    before = bytes_of(tmp_path)
    again = submit(workflow_of(listing, output, kind="threads", threads=1, workers=None))
    assert again.status().state == job.resume().status().state == job.cancel().state == "done"
    assert bytes_of(tmp_path) == before


def test_a_submit_that_reaches_no_cluster_leaves_nothing_behind(listing: Path, tmp_path: Path) -> None:
    output = tmp_path / "cube.zarr"
    with pytest.raises(Retry, match=r"http://127\.0\.0\.1:1"):
        submit(workflow_of(listing, output, kind="gateway", address="http://127.0.0.1:1"))
    assert list(tmp_path.iterdir()) == []


def test_a_job_whose_driver_cannot_be_started_has_failed(listing: Path, tmp_path: Path) -> None:
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as threads:
        workflow = workflow_of(listing, tmp_path / "cube.zarr", kind="scheduler", address=threads.scheduler_address)
        for _ in range(2):
            with pytest.raises(Stop, match="lives in threads of another process"):
                submit(workflow)
            status = open_job(workflow.output).status()
            assert status.state == "failed" and "lives in threads" in status.reason


def test_other_settings_take_the_place_of_a_plan_of_which_nothing_was_made(
    listing: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "cube.zarr"
    with LocalCluster(n_workers=1, processes=False, dashboard_address=None) as threads, pytest.raises(Stop, match="lives in threads"):
        submit(workflow_of(listing, output, kind="scheduler", address=threads.scheduler_address))
    refused = open_job(output).submission
    other = workflow_of(listing, output, kind="threads", threads=1, workers=None)
    other = other.model_copy(update={"pairs": other.pairs.model_copy(update={"max_days": 11})})
    with caplog.at_level("WARNING", "ftrack"):
        job = submit(other)
    assert f"nothing was made yet of the plan that was here ({refused.run_id})" in caplog.text
    assert job.submission.run_id == make_plan(other).run_id != refused.run_id
    assert job.wait(LONG_ENOUGH).state == "done" and open_cube(output).sizes["mid_date"] == len(make_plan(other).pairs)
    with pytest.raises(Stop, match="finished cube of another run"):
        submit(workflow_of(listing, output, kind="threads", threads=1, workers=None))


def test_other_settings_take_the_place_of_arrays_in_which_no_block_is(
    slow: tuple[Path, FileServer], listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, output = slow[1], tmp_path / "cube.zarr"
    server.delay = 0.0

    def start_while_nothing_can_be_read(job: Submission) -> None:
        server.delay = 10 * LONG_ENOUGH
        start_here(job)

    with monkeypatch.context() as patch:
        patch.setattr("ftrack.jobs.start_here", start_while_nothing_can_be_read)
        job = submit(workflow_of(slow[0], output, kind="threads", threads=1, workers=None))
    other = workflow_of(listing, output, kind="threads", threads=1, workers=None)
    other = other.model_copy(update={"matcher": other.matcher.model_copy(update={"spacing": 12})})
    until(lambda: beat_of(job).phase == "match")
    with pytest.raises(Stop, match="is under way, and will write to"):
        submit(other)
    pid = beat_of(job).pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_running(pid))
    assert (output / "vx" / "zarr.json").exists() and records_of(job) == 0
    with caplog.at_level("WARNING", "ftrack"):
        again = submit(other)
    assert f"nothing was made yet of the plan that was here ({job.submission.run_id})" in caplog.text
    assert again.wait(LONG_ENOUGH).state == "done"
    assert verify_cube(str(output)).problems == () and open_cube(output).attrs["run_id"] == make_plan(other).run_id


def test_a_job_on_a_gateway_leaves_no_cluster_behind(listing: Path, reference: dict[str, str], tmp_path: Path) -> None:
    with gateway_server(tmp_path / "gateway"):
        workflow = workflow_of(listing, tmp_path / "cube.zarr", kind="gateway", workers=1)
        job = submit(workflow)
        first = job.submission.cluster_name
        assert running_clusters(workflow.cluster) == (first,)
        until(lambda: beat_of(job).state == "running")
        os.kill(beat_of(job).pid, signal.SIGKILL)
        until(lambda: job.status().state == "dead")
        assert open_job(job.output).reap() == (first,)
        assert job.status().state == "failed" and f"its cluster {first} was left running, and has been stopped" in job.status().reason
        assert open_job(job.output).reap() == ()
        begun = time.monotonic()
        until(lambda: running_clusters(workflow.cluster) == ())
        assert time.monotonic() - begun < 60

        again = open_job(job.output).resume()
        assert again.submission.cluster_name not in ("", first)
        assert again.wait(LONG_ENOUGH).state == "done"
        until(lambda: running_clusters(workflow.cluster) == (), 60)
    assert chunks_of(tmp_path / "cube.zarr") == reference


def test_a_job_in_an_object_store_takes_its_files_with_it_and_keeps_secrets_out(
    listing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    given = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "not-to-be-told", "ENDPOINT_URL": f"http://{host}:{port}"}
    for name, value in {**given, "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    try:
        boto3.client("s3").create_bucket(Bucket="ice")
        rock = tmp_path / "rock.geojson"
        ring = [[560000, 7670000], [561280, 7670000], [561280, 7667000], [560000, 7667000], [560000, 7670000]]
        crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32622"}}
        feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        rock.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
        changes = {"stable": {"area": str(rock)}, "run": {"tile": 192}, "pairs": {"max_days": 6}}
        workflow = make_workflow(listing, "s3://ice/small/cube.zarr", cluster={"kind": "threads", "threads": 1}, **changes)
        job = submit(workflow)
        rock.unlink()
        status = job.wait(LONG_ENOUGH)
        assert status.state == "done", job.logs()
        (found,) = list_jobs("s3://ice/small")
        assert found.output == job.output
        assert set(job.open()["stable_shift_flag"].values.tolist()) == {1} and job.submission.inputs
        keys = [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket="ice")["Contents"]]
        assert f"small/cube.zarr.run/inputs/stable.area/0/{rock.name}" in keys
        for key in keys:
            assert b"not-to-be-told" not in boto3.client("s3").get_object(Bucket="ice", Key=key)["Body"].read()
    finally:
        server.stop()


def test_folder_of_is_that_of_the_plan(listing: Path, tmp_path: Path) -> None:
    plan = make_plan(workflow_of(listing, tmp_path / "cube.zarr"))
    assert plan.folder == folder_of(plan.workflow.output)
