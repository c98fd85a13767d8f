"""How many workers a machine has room for, and how much memory each of them may use."""

from __future__ import annotations

from typing import NamedTuple

from dask.system import CPU_COUNT
from dask.utils import format_bytes, parse_bytes
from distributed.system import MEMORY_LIMIT

from ftrack.config import ClusterSettings
from ftrack.errors import Stop

FAR_MEMORY = 4 * 2**30
"""Bytes that a worker of a scheduler elsewhere is taken to have where ``cluster.memory`` does not say."""


class Workers(NamedTuple):
    """How many workers there are, threads of each, and bytes that each may use."""

    number: int
    threads: int
    memory: int


def size_workers(settings: ClusterSettings) -> Workers:
    """Return the workers that settings ask for, or that this machine has room for.

    Raises
    ------
    Stop
        The memory cannot be read as a number of bytes, or is more than the machine has.
    """
    cores = max(1, int(CPU_COUNT))
    if settings.kind == "scheduler":
        return Workers(settings.workers or 1, settings.threads or 1, _bytes(settings.memory) or FAR_MEMORY)
    if settings.kind == "threads":
        count, threads = 1, settings.threads or cores
    else:
        count, threads = settings.workers or max(1, cores // (settings.threads or 1)), settings.threads or 1
    share = int(MEMORY_LIMIT) // count
    memory = _bytes(settings.memory)
    if memory > share:
        raise Stop(
            f"cluster.memory: {count} workers of {settings.memory} need {format_bytes(memory * count)}, this machine has "
            f"{format_bytes(MEMORY_LIMIT)}; take at most {format_bytes(share)}, or fewer workers"
        )
    return Workers(count, threads, memory or share)


def _bytes(text: str) -> int:
    if not text:
        return 0
    try:
        return int(parse_bytes(text))
    except ValueError:
        raise Stop(f"cluster.memory is {text!r}; write a number of bytes with its unit, such as 4GB") from None
