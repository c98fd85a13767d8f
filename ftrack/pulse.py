"""The heartbeat of a driver: says how the run goes, keeps its log, and hears when it is to stop."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from ftrack.addresses import shown_text
from ftrack.errors import FtrackError, Full, Retry
from ftrack.jobfiles import EVERY, Beat, State, is_to_stop, read_beat, write_beat, write_log
from ftrack.patience import outlast
from ftrack.run import Event

PART = 2**16
"""Characters of a part of the log."""

ORPHANED = 5.0
"""Seconds in which a driver whose worker is gone finds out by itself that the scheduler is gone too."""

LONG = 20.0
"""Seconds after which a driver that was told to stop, and has not, is ended."""

ORPHAN = "the worker that held the driver is gone"
CANCELLED = "on request; ftrack resume goes on from what is finished"

log = logging.getLogger("ftrack")

_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD", re.IGNORECASE)


class Pulse:
    """Gives signs of life in a thread of its own, and interrupts the main thread when the driver is to stop.

    Parameters
    ----------
    folder : str
        Where the run keeps its records.
    beat : Beat
        Who gives the signs.
    orphaned : callable, optional
        Returns True if what held the driver is gone.
    last : callable
        What is done before the process is ended because it does not end by itself.
    """

    def __init__(
        self, folder: str, beat: Beat, orphaned: Callable[[], bool] | None = None, last: Callable[[], None] = lambda: None
    ) -> None:
        now = time.time()
        self.folder, self.orphaned, self.last = folder, orphaned, last
        self.beat = replace(beat, time=now, started=now, host=socket.gethostname(), pid=os.getpid())
        self.why = ""
        self.superseded = False
        self._lines = ""
        self._part = 0
        self._written = ""
        self._lock = threading.RLock()
        self.quit = threading.Event()
        self._thread = threading.Thread(target=self._live, name="heartbeat", daemon=True)
        self._secrets = [value for name, value in os.environ.items() if _SECRET.search(name) and len(value) >= 8]

    def start(self) -> None:
        """Take the job, and begin to give signs of life.

        Raises
        ------
        FtrackError
            The store cannot be written to.
        """
        write_beat(self.folder, self.beat)
        self._thread.start()

    def say(self, text: str) -> None:
        """Put a line into the log, without what is secret."""
        with self._lock:
            self._lines += f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} {self._fit(text)}\n"

    def _fit(self, text: str) -> str:
        """Return a text without queries of addresses and without the values of secret variables."""
        line = shown_text(text)
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line

    def hear(self, event: Event) -> None:
        """Take note of what happens in the run."""
        record = event.record
        with self._lock:
            failed = self.beat.failed + (record is not None and not record.done)
            if event.kind in ("phase", "block"):
                left = None if math.isnan(event.seconds_left) else round(event.seconds_left, 1)
                rate = round(event.rate, 4) if event.rate else None
                failed = 0 if event.kind == "phase" else failed
                new = event.kind == "phase" and event.message not in self.beat.begun
                self.beat = replace(
                    self.beat,
                    state="running",
                    phase=event.phase,
                    begun=(*self.beat.begun, event.message) if new else self.beat.begun,
                    done=event.done,
                    total=event.total,
                    rate=rate,
                    seconds_left=left,
                    failed=failed,
                )
        tenth = event.total and 10 * event.done // event.total > 10 * (event.done - 1) // event.total
        if event.message:
            self.say(event.message)
        elif event.kind == "block" and tenth:
            self.say(f"{event.phase}: {event.done} of {event.total}")

    def end(self, state: State, reason: str = "", measured: int = 0) -> None:
        """Say how the driver ended, unless another has taken the job, and give no more signs of life."""
        self.say(f"{state}: {reason}" if reason else state)
        self._be_quiet()
        with self._lock:
            self.beat = replace(self.beat, state=state, reason=self._fit(reason), measured=measured)
        # Why a run has failed may be that nothing can be written: it is said as soon as something can.
        outlast(self._last_words, (Retry, Full))

    def leave(self) -> None:
        """Give no more signs of life, without a word on how it ended."""
        self._be_quiet()
        self._flush()

    def _be_quiet(self) -> None:
        self.quit.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(LONG)

    def _last_words(self) -> None:
        self._flush()
        if not self._others():
            self._write()

    def interrupt(self, why: str) -> None:
        """Stop the main thread as Ctrl-C does, and end the process if it does not follow."""
        if self.why:
            return
        self.why = why
        self.say(f"stopping: {why}")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        self.end_at_last(1)

    def end_at_last(self, code: int) -> None:
        """End the process with a code if it has not ended by itself after a while."""

        def insist() -> None:
            time.sleep(LONG)
            if not self.quit.is_set():
                self.end("cancelled" if self.why == CANCELLED else "failed", self.why)
            self.last()
            os._exit(code)

        threading.Thread(target=insist, daemon=True).start()

    def _live(self) -> None:
        while not self.quit.wait(EVERY):
            try:
                self._look()
                self._flush()
                # A look may have taken seconds, in which a driver elsewhere has taken over from this one.
                if self.why != ORPHAN and not self._others():
                    self._write()
            except FtrackError as error:
                log.debug("no heartbeat: %s", error)

    def _look(self) -> None:
        if self._others():
            self.interrupt("another driver has taken the job")
        elif is_to_stop(self.folder, self.beat.submission):
            self.interrupt(CANCELLED)
        elif self.orphaned is not None and self.orphaned() and not self.quit.wait(ORPHANED):
            self.interrupt(ORPHAN)

    def _others(self) -> bool:
        """Return whether another driver has taken the job since; of two drivers of one submission the later one has it."""
        latest = read_beat(self.folder)
        if latest is not None and latest.driver != self.beat.driver:
            earlier = latest.submission == self.beat.submission and latest.started < self.beat.started
            self.superseded |= not earlier
        return self.superseded

    def _write(self) -> None:
        with self._lock:
            self.beat = replace(self.beat, number=self.beat.number + 1, time=time.time())
            beat = self.beat
        write_beat(self.folder, beat)

    def _flush(self) -> None:
        """Write the log as far as it goes; a store has no way to append, so it is written in parts."""
        with self._lock:
            lines = self._lines
        if lines == self._written:
            return
        write_log(self.folder, f"{self.beat.driver}-{self._part:04d}", lines)
        self._written = lines
        if len(lines) > PART:
            self._part, self._written = self._part + 1, ""
            with self._lock:
                self._lines = self._lines[len(lines) :]


class LogToPulse(logging.Handler):
    """Hands the messages of the program to the log of the job."""

    def __init__(self, pulse: Pulse) -> None:
        super().__init__(logging.INFO)
        self.pulse = pulse

    def emit(self, record: logging.LogRecord) -> None:
        """Put a message into the log."""
        self.pulse.say(f"{record.levelname.lower()}: {record.getMessage()}")
