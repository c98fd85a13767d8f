"""How a job goes, told from what lies in the store: for programs, as a line, as HTML, and as a bar that moves in a notebook."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any, Literal

from ftrack.addresses import shown
from ftrack.errors import Stop
from ftrack.jobfiles import Beat, Submission, folder_of, is_alive, read_beat, read_submission
from ftrack.run import PHASES

WAITING = 600.0
"""Seconds after which a driver of this machine that has not begun counts as lost."""

LEAST_ROOM = 2**16
"""Bytes on a disk that a driver needs to say how it goes."""

Condition = Literal["waiting", "starting", "running", "done", "failed", "cancelled", "dead"]
"""``waiting``: the cluster has not begun; ``dead``: the driver gives no sign of life any more."""


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """How a job goes.

    Attributes
    ----------
    state : str
        ``waiting``, ``starting``, ``running``, ``done``, ``failed``, ``cancelled`` or ``dead``.
    phase : str
        What the run is at, for people.
    begun : tuple of str
        The phases that have begun so far.
    done, total : int
        Blocks of this phase.
    failed : int
        Blocks of this phase that could not be finished.
    rate, seconds_left : float or None
        Blocks per second; seconds until the end of this phase.
    seconds : float
        How long the driver has worked.
    measured : int
        Measured vectors, once it has ended.
    reason : str
        Why it failed, and what to do.
    host : str
        The machine of the driver.
    """

    state: Condition
    phase: str = ""
    begun: tuple[str, ...] = ()
    done: int = 0
    total: int = 0
    failed: int = 0
    rate: float | None = None
    seconds_left: float | None = None
    seconds: float = 0.0
    measured: int = 0
    reason: str = ""
    host: str = ""

    @property
    def ended(self) -> bool:
        """True if nothing goes on any more."""
        return self.state in ("done", "failed", "cancelled", "dead")

    def news(self, last: JobStatus | None) -> list[str]:
        """Return as lines what has happened since an earlier look: phases that came and went, and the status if a tenth more is done."""
        known = 0 if last is None or self.begun[: len(last.begun)] != last.begun else len(last.begun)
        under_way = self.phase if self.state == "running" else ""
        passed = [phase for phase in self.begun[known:] if phase != under_way]
        return passed + ([str(self)] if last is None or last._tenth() != self._tenth() else [])

    def _tenth(self) -> tuple[str, str, int]:
        return self.state, self.phase, 10 * self.done // max(1, self.total)

    def __str__(self) -> str:
        """Return the status as one line."""
        parts: list[str] = [self.state]
        if self.state == "running" and self.phase:
            parts.append(f"{self.phase}: {self.done} of {self.total} blocks")
        if self.state == "running" and self.seconds_left is not None:
            parts.append(f"{timedelta(seconds=round(self.seconds_left))} left")
        if self.failed and not self.ended:
            parts.append(f"{self.failed} failed so far")
        if self.measured:
            parts.append(f"{self.measured:,} vectors")
        return ", ".join(parts) + (f": {self.reason}" if self.reason else "")


def submission_of(output: str) -> Submission:
    """Return what was submitted for a cube.

    Raises
    ------
    Stop
        Nothing was.
    """
    found = read_submission(folder_of(output))
    if found is None:
        raise Stop(f"no job was submitted for {shown(output)}; `ftrack jobs` lists those below a folder or an address")
    return found


def status_of(folder: str, submission: Submission) -> JobStatus:
    """Return how a job goes; a driver that seems to be dead is given some seconds to show that it is not."""
    beat = read_beat(folder)
    if beat is None or (beat.submission != submission.id and not is_alive(folder, beat)):
        return _not_begun(submission)
    state: Condition = beat.state if beat.ended or is_alive(folder, beat) else "dead"
    return JobStatus(
        state=state,
        phase=PHASES.get(beat.phase, beat.phase),
        begun=beat.begun,
        done=beat.done,
        total=beat.total,
        failed=beat.failed,
        rate=beat.rate,
        seconds_left=beat.seconds_left,
        seconds=beat.time - beat.started,
        measured=beat.measured,
        reason=_last_words(beat) + _no_room(folder) if state == "dead" else beat.reason,
        host=beat.host,
    )


def _last_words(beat: Beat) -> str:
    last = datetime.fromtimestamp(beat.time, UTC)
    return f"the driver gave its last sign of life at {last:%Y-%m-%d %H:%M:%S} UTC; `ftrack resume` takes up its work"


def _no_room(folder: str) -> str:
    """Return a word on the disk of a run if it is so full that a driver could not say why it ended."""
    if "://" in folder or shutil.disk_usage(folder).free > LEAST_ROOM:
        return ""
    return f"; the disk of {folder} is full, which may be why: make room first"


def _not_begun(submission: Submission) -> JobStatus:
    """Return the status of a job whose driver has given no sign of life."""
    seconds = time.time() - datetime.fromisoformat(submission.submitted).timestamp()
    if seconds > WAITING and submission.cluster.get("kind") in ("local", "threads"):
        return JobStatus(state="dead", reason="the driver never began; `ftrack resume` starts it again")
    return JobStatus(state="waiting", reason=f"submitted {submission.submitted}, not begun yet")


def html_of(submission: Submission, status: JobStatus) -> str:
    """Return a job and how it goes as HTML."""
    bar = f'<progress value="{status.done}" max="{status.total}" style="width: 20em"></progress> ' if status.total else ""
    name, cube = escape(submission.name), escape(shown(submission.output))
    return f"<div><b>{name}</b> <code>{cube}</code><br>{bar}{escape(str(status))}</div>"


def display_of(submission: Submission) -> Callable[[JobStatus], None]:
    """Return what shows a status: in a notebook one place that changes, else lines whenever something is new."""
    notebook = _notebook()
    if notebook is not None:
        html, display = notebook
        place = display(html(""), display_id=True)
        return lambda status: place.update(html(html_of(submission, status)))
    told: list[JobStatus] = []

    def show_lines(status: JobStatus) -> None:
        for line in status.news(told[-1] if told else None):
            print(line, flush=True)
        told[:] = [status]

    return show_lines


def _notebook() -> tuple[Any, Any] | None:
    """Return what shows HTML in a notebook, or None if this is not one."""
    try:
        from IPython.core.getipython import get_ipython
        from IPython.display import HTML, display
    except ImportError:
        return None
    shell: Any = get_ipython()
    return (HTML, display) if "zmqshell" in type(shell).__module__ else None
