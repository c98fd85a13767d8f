"""What a job leaves beside the records of its run: who runs it, its heartbeat, requests to stop it, and its log."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from zarr.core.sync import sync

from ftrack.errors import Stop
from ftrack.store import get, put, store_at, told_apart

State = Literal["starting", "running", "done", "failed", "cancelled"]

EVERY = 3.0
"""Seconds between two heartbeats."""

MISSED = 5
"""Heartbeats that may be missing before a driver counts as dead."""

SUPERSEDED = 3
"""Exit code of a driver that leaves the job to another."""

ENDED: tuple[State, ...] = ("done", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What was asked for, as ``job.json`` keeps it.

    Attributes
    ----------
    id : str
        Of this submission; taking a job up again makes a new one.
    run_id, name, output : str
        The run, its title and its cube.
    cluster : dict
        Settings of the cluster.
    cluster_name : str
        The cluster that was started for it; empty if none was.
    inputs : tuple of str
        Files that were copied beside the cube, relative to the folder of the run.
    submitted : str
        When, UTC.
    """

    id: str
    run_id: str
    name: str
    output: str
    cluster: dict[str, Any]
    cluster_name: str = ""
    inputs: tuple[str, ...] = ()
    submitted: str = ""


@dataclass(frozen=True, kw_only=True)
class Beat:
    """A sign of life of a driver, as ``heartbeat.json`` keeps it.

    Attributes
    ----------
    driver, submission : str
        Who gives it, and for which submission.
    number : int
        Counted from the start of the driver.
    time, started : float
        Seconds since 1970, by the clock of the driver: of this beat, and of the first.
    every : float
        Seconds until the next.
    state : str
        ``starting``, ``running``, ``done``, ``failed`` or ``cancelled``.
    phase : str
        What the run is at.
    begun : tuple of str
        The phases that have begun so far, for people.
    done, total : int
        Blocks of this phase.
    rate, seconds_left : float or None
        Blocks per second, and seconds until the end of this phase.
    measured : int
        Measured vectors, once the run has ended.
    failed : int
        Blocks that could not be finished so far.
    reason : str
        Why it failed, or was stopped.
    host, pid : str, int
        The machine of the driver, and its process there.
    cluster_name : str
        The cluster that was started for it.
    """

    driver: str
    submission: str
    number: int = 0
    time: float = 0.0
    started: float = 0.0
    every: float = EVERY
    state: State = "starting"
    phase: str = ""
    begun: tuple[str, ...] = ()
    done: int = 0
    total: int = 0
    rate: float | None = None
    seconds_left: float | None = None
    measured: int = 0
    failed: int = 0
    reason: str = ""
    host: str = ""
    pid: int = 0
    cluster_name: str = ""

    @property
    def ended(self) -> bool:
        """True if the driver has said that it is at its end."""
        return self.state in ENDED


Kept = TypeVar("Kept", Submission, Beat)


def folder_of(output: str) -> str:
    """Return where the run of a cube keeps its records."""
    return f"{output.rstrip('/')}.run"


def new_id() -> str:
    """Return a name that nothing else has; names sort by the time at which they were made."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def write_submission(folder: str, submission: Submission) -> None:
    """Write ``job.json``."""
    put(folder, "job.json", _text(asdict(submission)))


def read_submission(folder: str) -> Submission | None:
    """Return what ``job.json`` says, or None if there is none.

    Raises
    ------
    Stop
        It cannot be understood.
    """
    return _read(folder, "job.json", Submission)


def write_beat(folder: str, beat: Beat) -> None:
    """Write ``heartbeat.json``."""
    put(folder, "heartbeat.json", _text(asdict(beat)))


def read_beat(folder: str) -> Beat | None:
    """Return the last sign of life, or None if there was none."""
    return _read(folder, "heartbeat.json", Beat)


def is_alive(folder: str, beat: Beat | None) -> bool:
    """Return whether the driver that gave a sign of life is still there.

    Clocks of two machines may differ: a beat that looks old, or comes from the future, is looked at again to see whether
    another follows. That takes a few seconds.
    """
    if beat is None or beat.ended or _is_gone(beat):
        return False
    if -beat.every <= time.time() - beat.time <= MISSED * beat.every:
        return True
    end = time.monotonic() + 3 * beat.every
    while time.monotonic() < end:
        time.sleep(beat.every / 3)
        later = read_beat(folder)
        if later is not None and (later.driver, later.number) != (beat.driver, beat.number):
            return not later.ended
    return False


def _is_gone(beat: Beat) -> bool:
    """Return whether the process of a driver is known to have ended, because it was one of this machine."""
    if not beat.pid or beat.host != socket.gethostname():
        return False
    try:
        os.kill(beat.pid, 0)
        state = Path(f"/proc/{beat.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return state == "Z"


def ask_to_stop(folder: str, submission: str) -> None:
    """Ask the driver of a submission to stop; it looks at every heartbeat."""
    put(folder, "cancel.json", _text({"submission": submission}))


def is_to_stop(folder: str, submission: str) -> bool:
    """Return whether the driver of a submission is asked to stop."""
    content = get(folder, "cancel.json")
    return content is not None and _parse(f"{folder}/cancel.json", content).get("submission") == submission


def write_log(folder: str, name: str, text: str) -> None:
    """Write one part of the log."""
    put(folder, f"logs/{name}.txt", text.encode())


def read_logs(folder: str) -> dict[str, str]:
    """Return the parts of the log by name, the oldest first."""
    names = sorted(name for name in names_in(folder, "logs") if name.endswith(".txt"))
    return {name: (get(folder, f"logs/{name}") or b"").decode(errors="replace") for name in names}


def find_outputs(prefix: str, depth: int = 2) -> tuple[str, ...]:
    """Return the cubes below a path or an address for which a job was submitted.

    Parameters
    ----------
    prefix : str
        A folder or prefix, or the cube itself.
    depth : int
        How many folders deep to look.
    """
    top = prefix.rstrip("/")
    if read_submission(folder_of(top)) is not None:
        return (top,)
    found: list[str] = []
    folders = [top]
    for _ in range(depth):
        inside = [(folder, name.rstrip("/")) for folder in folders for name in sorted(names_in(folder, ""))]
        runs = [f"{folder}/{name}" for folder, name in inside if name.endswith(".run")]
        found += [run.removesuffix(".run") for run in runs if read_submission(run) is not None]
        folders = [f"{folder}/{name}" for folder, name in inside if "." not in name]
    return tuple(found)


def names_in(folder: str, below: str) -> list[str]:
    """Return the names of what lies directly in a folder; none if it is not there."""
    store = store_at(folder, read_only=True)

    async def collect() -> list[str]:
        names: AsyncIterator[str] = store.list_dir(below)
        try:
            return [name async for name in names]
        except (FileNotFoundError, NotADirectoryError):
            return []

    with told_apart(folder):
        return [name for name in sync(collect()) if name]


def _text(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, allow_nan=False).encode()


def _read(folder: str, name: str, kind: type[Kept]) -> Kept | None:
    content = get(folder, name)
    if content is None:
        return None
    where = f"{folder}/{name}"
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in _parse(where, content).items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise Stop(f"{where} is of another version of ftrack ({error})") from None


def _parse(where: str, content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except ValueError as error:
        raise Stop(f"{where} is not JSON ({error}); remove it") from None
    if not isinstance(values, dict):
        raise Stop(f"{where} is not what ftrack writes there; remove it")
    return values
