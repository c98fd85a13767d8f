"""A kernel that does nothing and a reader that reads nothing: what is left of a run is what running it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterio.windows import Window

from ftrack.matchers import NCC, Prior
from ftrack.schema import MOTION, Status


class NullMatcher(NCC):
    """Says at once that nothing moves, and needs no pixels around a node."""

    @property
    def margin(self) -> int:
        """Nodes around those that are asked for."""
        return 0

    @property
    def halo(self) -> int:
        """Pixels needed on every side of a node."""
        return 0

    def measure(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, prior: Prior) -> np.ndarray:
        """Return zeros: measured, no displacement."""
        assert int(Status.MEASURED) == 0
        return np.zeros((len(MOTION), rows.size, columns.size), np.float32)


class NullReader:
    """Stands where ``ftrack.reader.ExactWarpReader`` does and returns no data."""

    def __init__(self, *, url: Any, spec: Any, dtype: np.dtype[Any], **others: Any) -> None:
        self.dtype = dtype

    def read(self, window: Window) -> np.ndarray:
        """Return NaN."""
        return np.broadcast_to(self.dtype.type(np.nan), (int(window.height), int(window.width)))

    def close(self) -> None:
        """Nothing is held."""
