"""Waiting for a store that does not answer for a while, as long as a run can bear it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from ftrack.errors import FtrackError, Retry

OUTAGE = 900.0
"""Seconds that a store may be gone in the middle of a run."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 20.0
"""Seconds between two looks at it; they double."""

T = TypeVar("T")

log = logging.getLogger("ftrack")


def outlast(ask: Callable[[], T], kinds: tuple[type[FtrackError], ...] = (Retry,)) -> T:
    """Return what a function gives, called again for ``OUTAGE`` seconds while it fails for reasons that may pass; both ends are logged.

    Raises
    ------
    FtrackError
        The last failure, once the time is over, or one of another kind.
    """
    pause, end = FIRST_PAUSE, time.monotonic() + OUTAGE
    while True:
        try:
            result = ask()
        except kinds as error:
            if time.monotonic() >= end:
                text = f"{error} (waited for {OUTAGE / 60:.0f} minutes)"
                raise type(error)(f"{text}; what is finished is kept, and running again goes on from it") from error
            if pause == FIRST_PAUSE:
                log.warning("%s; the run waits up to %.0f minutes for that", error, OUTAGE / 60)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            if pause > FIRST_PAUSE:
                log.warning("what did not answer answers again; the run goes on")
            return result
