"""The heartbeat of a driver: who has the job, when a driver counts as dead, and a log that tells no secret."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ftrack.errors import Full, Retry, Stop
from ftrack.inputs import carry_inputs, fetch_inputs
from ftrack.jobfiles import (
    Beat,
    Submission,
    ask_to_stop,
    find_outputs,
    is_alive,
    read_beat,
    read_logs,
    write_beat,
    write_log,
    write_submission,
)
from ftrack.jobstatus import JobStatus, display_of, status_of
from ftrack.pulse import CANCELLED, ORPHAN, Pulse
from ftrack.run import Event
from ftrack.store import put

MINE = Beat(driver="mine", submission="first")
ASKED = Submission(id="first", run_id="r", name="ice", output="ice.zarr", cluster={"kind": "local"}, submitted="2026-01-01T00:00:00+00:00")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for place in ("ftrack.pulse.EVERY", "ftrack.pulse.ORPHANED"):
        monkeypatch.setattr(place, 0.05)
    monkeypatch.setattr(Pulse, "end_at_last", lambda pulse, code: None)
    return str(tmp_path / "ice.zarr.run")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came to this"
        time.sleep(0.02)


def is_logged(folder: str, text: str) -> bool:
    return text in "".join(read_logs(folder).values())


def interrupted(pulse: Pulse, change: Callable[[], None] = lambda: None) -> str:
    """Return why a pulse interrupts this thread after a change."""
    pulse.start()
    change()
    try:
        threading.Event().wait(60)
    except KeyboardInterrupt:
        return pulse.why
    return "nothing"


def test_a_driver_is_interrupted_when_it_is_asked_to_stop(folder: str) -> None:
    pulse = Pulse(folder, MINE)
    assert interrupted(pulse, lambda: ask_to_stop(folder, "first")) == CANCELLED
    pulse.end("cancelled", "why")
    beat = read_beat(folder)
    assert beat is not None and (beat.state, beat.reason, beat.ended) == ("cancelled", "why", True)
    assert "stopping: on request" in "".join(read_logs(folder).values())


def test_a_driver_says_why_it_ended_once_something_can_be_written(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftrack.patience.FIRST_PAUSE", 0.001)
    failures = [Full("no space left"), Retry("does not answer")]

    def write(place: str, name: str, text: str) -> None:
        if failures:
            raise failures.pop(0)
        write_log(place, name, text)

    pulse = Pulse(folder, MINE)
    pulse.start()
    pulse.say("something new")
    monkeypatch.setattr("ftrack.pulse.write_log", write)
    pulse.end("failed", "no space left")
    beat = read_beat(folder)
    assert not failures and beat is not None and (beat.state, beat.reason) == ("failed", "no space left")
    assert is_logged(folder, "something new") and is_logged(folder, "failed: no space left")


def test_a_dead_driver_with_a_full_disk_is_told_so(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_beat(folder, replace(MINE, state="running", time=time.time() - 1000, every=0.01))
    assert "full" not in status_of(folder, ASKED).reason
    usage = type(shutil.disk_usage("/"))(100, 100, 0)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage)
    status = status_of(folder, ASKED)
    assert status.state == "dead" and "ftrack resume" in status.reason and f"the disk of {folder} is full" in status.reason


def test_a_driver_does_not_stop_for_another_submission(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = Pulse(folder, MINE)
    ask_to_stop(folder, "second")
    pulse.start()
    time.sleep(0.3)
    pulse.end("done")
    assert pulse.why == ""


def test_a_driver_that_has_lost_the_job_leaves_without_a_word(folder: str) -> None:
    pulse = Pulse(folder, MINE)
    other = replace(MINE, driver="other", state="running", started=time.time() + 1)
    assert "another driver" in interrupted(pulse, lambda: write_beat(folder, other))
    pulse.end("failed", "superseded")
    assert read_beat(folder) == other


def test_a_late_sign_of_an_earlier_driver_does_not_stop_the_one_that_has_taken_over(folder: str) -> None:
    pulse = Pulse(folder, MINE)
    pulse.start()
    write_beat(folder, replace(MINE, driver="earlier", state="running", started=time.time() - 10))
    until(lambda: (beat := read_beat(folder)) is not None and beat.driver == "mine" and beat.number > 2)
    pulse.end("done")
    assert pulse.why == ""


def test_a_driver_whose_worker_is_gone_gives_no_sign_that_could_hide_its_successor(folder: str) -> None:
    later = replace(MINE, driver="later", state="running", started=time.time() + 1)
    taken_over = iter([True])

    def gone() -> bool:
        if next(taken_over, False):
            write_beat(folder, later)
        return True

    pulse = Pulse(folder, MINE, orphaned=gone)
    assert interrupted(pulse) == ORPHAN
    pulse.leave()
    assert read_beat(folder) == later


def test_a_driver_whose_worker_is_gone_is_interrupted(folder: str) -> None:
    pulse = Pulse(folder, MINE, orphaned=lambda: True)
    assert interrupted(pulse) == ORPHAN
    pulse.leave()
    beat = read_beat(folder)
    assert beat is not None and not beat.ended


def test_logs_and_reasons_keep_secrets_and_grow_in_parts(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setattr("ftrack.pulse.PART", 100)
    pulse = Pulse(folder, MINE)
    pulse.start()
    for number in range(12):
        pulse.say(f"{number} failed: https://me:pass@a.org/b.tif?sig=abc%2Fdef with wJalrXUtnFEMI")
        last = f"{number} failed" if number % 6 == 5 else ""
        until(partial(is_logged, folder, last))
    pulse.end("failed", "s3 said wJalrXUtnFEMI at https://a.org/b?X-Amz-Signature=123")
    beat = read_beat(folder)
    assert beat is not None and beat.reason == "s3 said *** at https://a.org/b"
    parts = read_logs(folder)
    text = "".join(parts.values())
    assert len(parts) > 1 and [line.split()[2] for line in text.splitlines()[:12]] == [str(number) for number in range(12)]
    assert "https://a.org/b.tif with ***" in text
    for secret in ("wJalrXUtnFEMI", "sig=", "abc", "pass", "Signature"):
        assert secret not in text


def test_progress_is_told_with_the_heartbeat(folder: str) -> None:
    pulse = Pulse(folder, MINE)
    pulse.start()
    pulse.hear(Event("phase", "match", 0, 40, message="measuring displacement"))
    pulse.hear(Event("block", "match", 10, 40, rate=2.0, seconds_left=15.0))
    until(lambda: status_of(folder, ASKED).done == 10)
    status = status_of(folder, ASKED)
    assert (status.state, status.phase, status.done, status.total, status.seconds_left) == (
        "running",
        "measuring displacement",
        10,
        40,
        15.0,
    )
    assert str(status) == "running, measuring displacement: 10 of 40 blocks, 0:00:15 left"
    pulse.hear(Event("phase", "shift", 0, 1, message="looking at stable ground"))
    pulse.end("done", measured=1234)
    ended = status_of(folder, ASKED)
    assert str(ended) == "done, 1,234 vectors"
    assert ended.news(status) == ["looking at stable ground", "done, 1,234 vectors"]
    assert ended.news(ended) == []


def test_phases_are_told_however_rarely_one_looks() -> None:
    begun = ("measuring displacement", "making velocity")
    first = JobStatus(state="starting")
    there = JobStatus(state="running", phase=begun[1], begun=begun, done=1, total=9)
    assert first.news(None) == ["starting"]
    assert there.news(first) == [begun[0], "running, making velocity: 1 of 9 blocks"]
    assert replace(there, done=2).news(there) == ["running, making velocity: 2 of 9 blocks"]
    assert JobStatus(state="done", begun=begun).news(first) == [*begun, "done"]
    assert JobStatus(state="done", begun=begun[1:]).news(there) == [begun[1], "done"]


def test_a_beat_that_looks_old_is_looked_at_again(folder: str) -> None:
    now = Beat(driver="far", submission="first", time=time.time(), every=0.1, state="running")
    assert is_alive(folder, now)
    for clock in (-3600, 3600):
        wrong = replace(now, time=time.time() + clock)
        write_beat(folder, wrong)
        assert not is_alive(folder, wrong)
        assert status_of(folder, ASKED).state == "dead"
        threading.Timer(0.1, write_beat, (folder, replace(wrong, number=1))).start()
        patient = replace(wrong, every=2.0)
        assert is_alive(folder, patient)


def test_a_process_of_this_machine_that_has_ended_is_dead_at_once(folder: str) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        pulse = Pulse(folder, MINE)
        beat = replace(pulse.beat, pid=child.pid)
        assert is_alive(folder, beat)
        child.kill()
        until(lambda: not is_alive(folder, beat))
    assert not is_alive(folder, beat)


def test_a_submission_without_a_driver_waits(folder: str) -> None:
    assert status_of(folder, replace(ASKED, cluster={"kind": "gateway"})).state == "waiting"
    assert status_of(folder, ASKED).state == "dead"
    write_beat(folder, replace(MINE, submission="zeroth", state="failed"))
    assert status_of(folder, replace(ASKED, cluster={"kind": "gateway"})).state == "waiting"


def test_jobs_are_found_two_folders_deep(tmp_path: Path) -> None:
    for place in ("a.zarr", "north/b.zarr", "north/east/c.zarr"):
        write_submission(f"{tmp_path}/{place}.run", ASKED)
    (tmp_path / "d.zarr.run").mkdir()
    assert find_outputs(str(tmp_path)) == (f"{tmp_path}/a.zarr", f"{tmp_path}/north/b.zarr")
    assert find_outputs(f"{tmp_path}/a.zarr") == (f"{tmp_path}/a.zarr",)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"unknown": 1}'])
def test_files_that_are_not_those_of_a_job_are_refused(folder: str, content: bytes) -> None:
    put(folder, "heartbeat.json", content)
    with pytest.raises(Stop, match=r"heartbeat\.json"):
        read_beat(folder)


def test_files_travel_with_a_job_and_come_back_the_same(folder: str, tmp_path: Path) -> None:
    rock, outline = tmp_path / "rock.shp", tmp_path / "outline.gpkg"
    for path in (rock, rock.with_suffix(".dbf"), outline):
        path.write_text(path.name)
    given = {"scenes": {"area": str(outline), "catalog": str(outline)}, "stable": {"area": str(rock), "reference": ["s3://a/vx.tif"]}}
    carried, names = carry_inputs(given, folder)
    assert carried["scenes"] == {"area": "inputs/scenes.area/0/outline.gpkg", "catalog": str(outline)}
    assert carried["stable"] == {"area": "inputs/stable.area/0/rock.shp", "reference": ["s3://a/vx.tif"]}
    fetch_inputs(folder, names, tmp_path / "elsewhere")
    found = {
        str(path.relative_to(tmp_path / "elsewhere")): path.read_text() for path in (tmp_path / "elsewhere").rglob("*") if path.is_file()
    }
    assert found == {name: name.rpartition("/")[2] for name in names} and len(found) == 3


@pytest.mark.parametrize("name", ["../secret", "inputs/../../secret", "/etc/passwd", "plan.json"])
def test_files_of_a_job_do_not_lead_out_of_their_folder(folder: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(Stop, match="not one of its inputs"):
        fetch_inputs(folder, [name], tmp_path / "elsewhere")


def test_a_notebook_shows_one_bar_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Place:
        def update(self, text: str) -> None:
            shown.append(text)

    monkeypatch.setattr("ftrack.jobstatus._notebook", lambda: (str, lambda text, display_id: Place()))
    show = display_of(replace(ASKED, name="<ice>"))
    status = JobStatus(state="running", phase="making velocity", done=3, total=9)
    show(status)
    assert len(shown) == 1 and 'value="3" max="9"' in shown[0] and "&lt;ice&gt;" in shown[0] and "making velocity" in shown[0]
