"""What a run leaves behind while it goes on: one small JSON file per finished block, written after the block's chunks."""

from __future__ import annotations

import json
import os
import re
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import fsspec

from ftrack.errors import Stop

Phase = Literal["match", "velocity"]
Outcome = Literal["ok", "empty", "failed"]

SECRET = re.compile(r"(https?://[^\s?'\"]+|/vsicurl/[^\s?'\"]+)\?[^\s'\"]*")


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
    reason : str
        Why the block failed.
    seconds : float
        Time the task took to write, and measure, the block.
    """

    phase: Phase
    block: str
    run_id: str
    status: Outcome
    measured: tuple[int, ...] = ()
    digests: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """True if the block need not be taken up again."""
        return self.status != "failed"


def failure(phase: Phase, block: str, run_id: str, error: BaseException) -> Record:
    """Return the record of a block that could not be finished; its reason carries no signed addresses."""
    return Record(phase=phase, block=block, run_id=run_id, status="failed", reason=describe_error(error))


def describe_error(error: BaseException, limit: int = 800) -> str:
    """Return the error and its causes as one line without the query part of addresses, which may hold signatures."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(parts) < 4:
        text = f"{type(cause).__name__}: {cause}".strip().rstrip(":")
        if not any(text in part for part in parts):
            parts.append(text)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    line = SECRET.sub(r"\1", " | caused by ".join(" ".join(part.split()) for part in parts))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def write_text(url: str, text: str) -> None:
    """Write a small file so that readers see all of it or nothing of it."""
    files, path = fsspec.core.url_to_fs(url)
    if "file" not in _protocols(files):
        files.pipe_file(path, text.encode())
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = f"{path}.{uuid.uuid4().hex[:8]}.part"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read_text(url: str) -> str | None:
    """Return the text of a small file, or None if there is no such file."""
    files, path = fsspec.core.url_to_fs(url)
    files.invalidate_cache()
    try:
        return str(files.cat_file(path).decode())
    except FileNotFoundError:
        return None


def remove_folder(url: str) -> None:
    """Remove a folder and all that is in it; nothing happens if there is none."""
    files, path = fsspec.core.url_to_fs(url)
    files.invalidate_cache()
    if files.exists(path):
        files.rm(path, recursive=True)


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def write_record(folder: str, record: Record) -> None:
    """Write a record as ``<folder>/blocks/<phase>-<batch>-<row>-<column>.json``."""
    write_text(f"{folder}/blocks/{record.phase}-{record.block}.json", json.dumps(asdict(record), sort_keys=True))


def read_records(folder: str, run_id: str) -> dict[tuple[str, str], Record]:
    """Return the records of a run by phase and block.

    Raises
    ------
    Stop
        A record belongs to another run, or is not a record.
    """
    files, path = fsspec.core.url_to_fs(f"{folder}/blocks")
    files.invalidate_cache()
    if not files.exists(path):
        return {}
    names = [name for name in files.ls(path, detail=False) if str(name).endswith(".json")]
    contents = files.cat(names) if names else {}
    contents = contents if isinstance(contents, dict) else {names[0]: contents}
    found = [_parse(str(name), content) for name, content in sorted(contents.items())]
    strange = [record.run_id for record in found if record.run_id != run_id]
    if strange:
        raise Stop(f"{folder} holds blocks of another run ({strange[0]}); choose another output, or remove that folder")
    return {(record.phase, record.block): record for record in found}


def _parse(name: str, content: bytes) -> Record:
    try:
        values = json.loads(content)
        return Record(**{**values, "measured": tuple(values["measured"])})
    except (ValueError, TypeError, KeyError) as error:
        raise Stop(f"{name} is not the record of a block ({error}); remove it, and the block is done again") from None
