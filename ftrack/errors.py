"""Failures that a scheduler must tell apart: try again, record and go on, or stop."""

from __future__ import annotations

import errno

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What a disk says that is full, or cannot be written to."""


class FtrackError(Exception):
    """Any failure that ftrack raises on purpose; its text says what, where and what to do.

    ``scene`` is the id of the scene whose file could not be read, if that is what failed.
    """

    scene: str = ""


class Retry(FtrackError):
    """A passing failure (network, throttling, lost worker): the same call may succeed later."""


class Skip(FtrackError):
    """There is nothing to measure here (no overlap, all cloud): a result worth recording, not a fault."""


class Stop(FtrackError, ValueError):
    """The request itself is impossible; trying again cannot help until it is changed."""


class Full(Stop):
    """There is no room for what is written; the same call succeeds once there is."""
