"""What a run leaves behind while it goes on: one small JSON file per finished block, written after the block's chunks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from ftrack.addresses import shown_text
from ftrack.errors import FtrackError, Retry, Stop
from ftrack.store import get, put, store_at, told_apart

Phase = Literal["match", "velocity"]
Outcome = Literal["ok", "empty", "failed"]

AT_ONCE = 100
"""Objects that are read or removed at the same time."""

REPLACED = "replaced"
"""Where a folder names the runs whose place another has taken."""


def motion_of(folder: str, part: int) -> str:
    """Return where displacement is kept until the shifts of all pairs are known."""
    return f"{folder}/motion-{part}" if part else f"{folder}/motion"


@dataclass(frozen=True, kw_only=True)
class Record:
    """How one block of one phase ended.

    Attributes
    ----------
    phase, block, run_id : str
        Which block of which run.
    status : str
        ``ok``; ``empty``, nothing could be measured, which is a result; ``failed``, to be taken up again.
    measured : tuple of int
        Measured vectors of every pair of the batch.
    digests : dict
        A digest of the values of every variable that was written.
    lost : tuple of int
        If the block failed although most of it is there: the pairs of the batch that are missing, counted from its first.
    scene : str
        The scene that could not be read, if that is why.
    reason : str
        Why the block failed.
    passing : bool
        True if what failed may succeed later.
    attempts : int
        Times that the block has been tried in this run.
    seconds : float
        Time the task took to write, and measure, the block.
    """

    phase: Phase
    block: str
    run_id: str
    status: Outcome
    measured: tuple[int, ...] = ()
    digests: dict[str, str] = field(default_factory=dict)
    lost: tuple[int, ...] = ()
    scene: str = ""
    reason: str = ""
    passing: bool = False
    attempts: int = 1
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """True if the block need not be taken up again."""
        return self.status != "failed"


def failure(phase: Phase, block: str, run_id: str, error: BaseException, lost: tuple[int, ...] = ()) -> Record:
    """Return the record of a block that could not be finished; its reason carries no signed addresses."""
    scene = error.scene if isinstance(error, FtrackError) else ""
    reason, passing = describe_error(error), isinstance(error, Retry)
    return Record(phase=phase, block=block, run_id=run_id, status="failed", lost=lost, scene=scene, reason=reason, passing=passing)


def describe_error(error: BaseException, limit: int = 800) -> str:
    """Return the error and its causes as one line without what is secret in addresses."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(parts) < 4:
        text = f"{type(cause).__name__}: {cause}".strip().rstrip(":")
        if not any(text in part for part in parts):
            parts.append(text)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    line = " | caused by ".join(shown_text(" ".join(part.split())) for part in parts)
    return line if len(line) <= limit else line[: limit - 3] + "..."


def write_record(folder: str, record: Record) -> None:
    """Write a record as ``<folder>/blocks/<phase>-<batch>-<row>-<column>.json``."""
    put(folder, f"blocks/{record.phase}-{record.block}.json", json.dumps(asdict(record), sort_keys=True).encode())


def mark_replaced(folder: str, old: str, new: str) -> None:
    """Note that a run has taken the place of another, so that workers which the other has left write nothing more."""
    put(folder, f"{REPLACED}/{old}/by.json", json.dumps({"by": new}).encode())
    remove(folder, f"{REPLACED}/{new}")


def refuse_replaced(folder: str, run_id: str) -> None:
    """Raise ``Stop`` if another run has taken the place of this one."""
    if get(folder, f"{REPLACED}/{run_id}/by.json") is not None:
        raise Stop(f"another run has taken the place of this one ({run_id}) in {folder}; nothing more is written for it")


def read_records(folder: str, run_id: str, earlier: Collection[str] = ()) -> dict[tuple[str, str], Record]:
    """Return the records of a run by phase and block; those of ``earlier`` runs are left out.

    Raises
    ------
    Stop
        A record belongs to another run, or is not a record.
    """
    return {(record.phase, record.block): record for record in each_record(folder, run_id, earlier)}


def each_record(folder: str, run_id: str, earlier: Collection[str] = ()) -> Iterator[Record]:
    """Give the records of a run one after the other; see ``read_records``."""
    for name, content in _contents(folder, "blocks/"):
        record = _parse(f"{folder}/{name}", content)
        if record.run_id in earlier:
            continue
        if record.run_id != run_id:
            raise Stop(f"{folder} holds blocks of another run ({record.run_id}); choose another output, or remove that folder")
        yield record


def _contents(folder: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Give names and contents of the JSON files below a prefix, sorted by name."""
    store = store_at(folder, read_only=True)

    async def list_names() -> list[str]:
        return sorted([name async for name in store.list_prefix(prefix) if name.endswith(".json")])

    async def collect(names: list[str]) -> list[bytes]:
        found = await asyncio.gather(*(store.get(name, default_buffer_prototype()) for name in names))
        return [b"" if buffer is None else buffer.to_bytes() for buffer in found]

    with told_apart(folder):
        names = sync(list_names())
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        with told_apart(folder):
            contents = sync(collect(some))
        yield from zip(some, contents, strict=True)


def keys_in(folder: str) -> list[str]:
    """Return the keys of all that is stored in a folder and below it."""
    store = store_at(folder, read_only=True)

    async def collect() -> list[str]:
        return [key async for key in store.list_prefix("")]

    with told_apart(folder):
        return sync(collect())


def remove(folder: str, name: str = "") -> None:
    """Remove what is stored in a folder, or in one folder below it; nothing happens if there is none."""
    store = store_at(folder)

    async def delete() -> None:
        keys = [key async for key in store.list_prefix(f"{name}/" if name else "")]
        for start in range(0, len(keys), AT_ONCE):
            await asyncio.gather(*(store.delete(key) for key in keys[start : start + AT_ONCE]))
        await store.delete_dir(name)

    with told_apart(folder):
        sync(delete())


def _parse(name: str, content: bytes) -> Record:
    try:
        values = json.loads(content)
        return Record(**{**values, "measured": tuple(values["measured"]), "lost": tuple(values["lost"])})
    except (ValueError, TypeError, KeyError) as error:
        raise Stop(f"{name} is not the record of a block ({error}); remove it, and the block is done again") from None
