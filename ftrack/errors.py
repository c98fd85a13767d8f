"""Failures that a scheduler must tell apart: try again, record and go on, or stop."""

from __future__ import annotations


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
