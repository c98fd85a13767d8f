"""Send tasks to a client a few at a time, hand back each as it ends, and leave nothing behind when it is interrupted."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from dask.utils import format_bytes
from distributed import CancelledError, as_completed
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from ftrack.errors import FtrackError, Retry, Stop
from ftrack.forecast import PROCESS, SHARE, Forecast


class Outcome(NamedTuple):
    """How a task ended: with a value, or with an error."""

    name: str
    value: Any
    error: BaseException | None


def drive(client: Any, groups: Iterable[Mapping[str, Any]], waiting: int) -> Generator[Outcome]:
    """Compute groups of named tasks and yield each outcome as soon as it is there.

    Parameters
    ----------
    client : distributed.Client
        Computes.
    groups : iterable of mapping of str to Delayed
        Tasks that share work; a group is made and sent as one graph, once fewer than ``waiting`` tasks are under way.
    waiting : int
        What keeps every worker busy. Neither graph nor memory grow with the number of groups.

    Raises
    ------
    Retry
        The scheduler is lost. What has been written stays.
    """
    todo = iter(groups)
    running: dict[Any, str] = {}
    ended: Any = as_completed(loop=client.loop)  # type: ignore[no-untyped-call]
    try:
        while True:
            while len(running) < waiting and (group := next(todo, None)) is not None:
                futures = client.compute(list(group.values()))
                running.update(zip(futures, group, strict=True))
                ended.update(futures)
            if not running:
                return
            future = next(ended)
            yield _outcome(client, running.pop(future), future)
    finally:
        # With its scheduler a client loses its futures, and refuses to cancel them: the reason would hide the first error.
        with suppress(CancelledError):
            if left := [future for future in running if not future.cancelled()]:
                client.cancel(left)


def _outcome(client: Any, name: str, future: Any) -> Outcome:
    try:
        return Outcome(name, future.result(), None)
    except (CancelledError, CommClosedError, TimeoutError):
        if client.status != "running":
            text = f"the Dask scheduler was lost while {name} was computed; run again to take up what is missing"
            raise Retry(text) from None
        return Outcome(name, None, Retry("the worker died with the result"))
    except KilledWorker as killed:
        text = f"{killed.allowed_failures + 1} workers died while they had this task, mostly for lack of memory; take a smaller run.tile"
        return Outcome(name, None, Retry(text))
    except Exception as error:
        return Outcome(name, None, error.with_traceback(None))
    finally:
        # A failure that somebody still refers to would be the answer to the same task sent again.
        future.release()


def refuse_workers(client: Any, ahead: Forecast) -> int:
    """Return how many threads the workers of a client have, or raise if a block does not fit into the memory of one of them.

    Raises
    ------
    Stop
        The memory of a worker is too small.
    Retry
        There are no workers.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        raise Retry("the Dask cluster has no workers yet; wait until it has, then run again")
    for worker in workers:
        need, limit = PROCESS + worker["nthreads"] * ahead.block_memory, worker["memory_limit"]
        if limit and need > SHARE * limit:
            raise Stop(
                f"worker {worker.get('name', '')} has {format_bytes(limit)}, of which {SHARE:.0%} may be planned with; blocks of this plan "
                f"need {format_bytes(need)} there: take larger workers, fewer threads, or a smaller run.tile"
            )
    return sum(int(worker["nthreads"]) for worker in workers)


def must(outcome: Outcome) -> Any:
    """Return the value of an outcome, or raise its error."""
    if outcome.error is None:
        return outcome.value
    if isinstance(outcome.error, FtrackError):
        raise outcome.error
    raise Retry(f"{outcome.name} failed: {outcome.error}") from outcome.error
