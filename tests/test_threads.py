"""Several things are done at a time; an error waits for those under way, an interrupt does not."""

from __future__ import annotations

import threading
import time

import pytest

from ftrack.threads import THREADS, at_once


def test_results_come_in_the_order_of_the_items_and_at_the_same_time() -> None:
    together = threading.Barrier(THREADS)

    def work(number: int) -> int:
        together.wait(60)
        return number * number

    assert at_once(work, range(THREADS)) == [number * number for number in range(THREADS)]
    assert at_once(lambda number: threading.current_thread(), [1]) == [threading.current_thread()]


def test_an_error_comes_when_all_that_was_under_way_has_ended() -> None:
    ended, begun = [], threading.Barrier(4)

    def work(number: int) -> None:
        begun.wait(60)
        if number == 0:
            raise ValueError("the first")
        time.sleep(0.05)
        ended.append(number)

    with pytest.raises(ValueError, match="the first"):
        at_once(work, range(4))
    assert sorted(ended) == [1, 2, 3]


def test_an_interrupt_waits_for_nothing() -> None:
    begun, release, left = threading.Event(), threading.Event(), threading.Event()

    def work(number: int) -> None:
        if number == 0:
            assert begun.wait(60)
            raise KeyboardInterrupt
        begun.set()
        release.wait(60)
        left.set()

    with pytest.raises(KeyboardInterrupt):
        at_once(work, range(2))
    assert not left.is_set()
    release.set()
    assert left.wait(60)
