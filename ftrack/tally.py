"""How far a run has come: which blocks are done, what failed and how, and how much was measured of every pair."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ftrack.plan import Plan
from ftrack.records import Phase, Record
from ftrack.tiling import Block, batch_pairs


class Tally:
    """Counts the records of a run without keeping those of blocks that are done, of which there may be hundreds of thousands.

    Attributes
    ----------
    failed : dict
        Records of blocks that have failed and are not done since, by phase and block.
    empty : int
        Blocks in which nothing could be measured.
    measured : int64 (pairs,)
        Measured vectors of every pair of this run, in blocks that are done.
    """

    def __init__(self, plan: Plan, records: Iterable[Record] = ()) -> None:
        self._tiling, self._first = plan.tiling, sum(plan.parts)
        self._done: dict[Phase, set[str]] = {"match": set(), "velocity": set()}
        self.failed: dict[tuple[str, str], Record] = {}
        self.empty = 0
        self.measured = np.zeros(len(plan.pairs) - self._first, np.int64)
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Count a record; that of a block that has been done before changes nothing."""
        key, done = (record.phase, record.block), self._done[record.phase]
        if record.block in done:
            return
        if not record.done:
            self.failed[key] = record
            return
        self.failed.pop(key, None)
        done.add(record.block)
        if record.phase == "match":
            pairs = batch_pairs(self._tiling, int(record.block.split("-")[0]))
            self.measured[pairs.start - self._first : pairs.stop - self._first] += np.array(record.measured, np.int64)
            self.empty += record.status == "empty"

    def has(self, phase: Phase, block: Block) -> bool:
        """Return whether a block need not be taken up again."""
        return block.id in self._done[phase]

    def record_of(self, phase: Phase, block: Block) -> Record | None:
        """Return how a block has failed, None if it has not."""
        return self.failed.get((phase, block.id))
