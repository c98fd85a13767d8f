"""The same done with several things at a time, in threads that an interrupt does not wait for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

THREADS = 8
"""Things that are done at the same time."""

Given = TypeVar("Given")
Result = TypeVar("Result")


def at_once(work: Callable[[Given], Result], items: Collection[Given]) -> list[Result]:
    """Do the same with several things without waiting for one after the other.

    After an error what is under way comes to its end first; after an interrupt it is left alone, as it may be waiting long for a store
    that is gone.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    pool, patient = ThreadPoolExecutor(min(len(items), THREADS)), True
    try:
        return list(pool.map(work, items))
    except KeyboardInterrupt:
        patient = False
        raise
    finally:
        pool.shutdown(wait=patient, cancel_futures=not patient)
