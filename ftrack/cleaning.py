"""Take out vectors that do not agree with their neighbours, then fill small holes: nodes in, nodes out."""

from __future__ import annotations

import numpy as np
from pydantic import field_validator

from ftrack.errors import Stop
from ftrack.kernels.fill import fill_holes
from ftrack.kernels.outliers import find_uncertain, judge
from ftrack.schema import MOTION, Status
from ftrack.settings import Settings, option

ROW = {variable.name: row for row, variable in enumerate(MOTION)}
VECTOR = [ROW[name] for name in ("dx", "dy", "dx_error", "dy_error")]

FILLABLE = (
    Status.OUTLIER,
    Status.LOW_CORRELATION,
    Status.AMBIGUOUS,
    Status.DIVERGED,
    Status.ERROR_TOO_LARGE,
    Status.SEARCH_LIMIT,
    Status.NO_TEXTURE,
)
"""Why a node may have no vector although both images have data there: such holes may be filled."""


UNCERTAIN_RADIUS, BETTER = 4, 0.3
"""Reach, in nodes, of the window in which errors are compared, and the share of its nodes that counts as better."""

CERTAIN = 0.03
"""Errors are compared with this at the least, px: where hardly anything is uncertain, a little more is no sign of change."""


def _odd(width: int) -> int:
    if width % 2 == 0:
        raise ValueError("the width must be odd")
    return width


class Outliers(Settings):
    """What makes a vector an outlier: too few neighbours alike, or too far from what they imply."""

    width: int = option(5, "side of the window of neighbours, odd", unit="nodes", ge=3, le=15)
    tolerance: float = option(2.0, "neighbours within this distance are alike, per component", unit="px", gt=0.0)
    share: float = option(0.5, "least share of the measured neighbours that are alike; 0 = do not test", unit="1", ge=0.0, le=1.0)
    noise: float = option(0.1, "deviation that is always allowed for, besides the vector's own error", unit="px", gt=0.0)
    threshold: float = option(3.0, "largest normalised deviation from what the neighbours imply; 0 = do not test", unit="1", ge=0.0)
    passes: int = option(2, "how often both tests are made; 0 = keep every vector", ge=0, le=10)
    error_ratio: float = option(3.5, "largest error of a vector against the better third within 4 nodes; 0 = do not test", unit="1", ge=0.0)

    _check = field_validator("width")(_odd)

    @property
    def halo(self) -> int:
        """Nodes needed on every side of a node."""
        tested = self.share > 0.0 or self.threshold > 0.0
        compared = UNCERTAIN_RADIUS if self.error_ratio > 0.0 and self.passes else 0
        return compared + (self.passes * (self.width // 2) if tested else 0)


class Fill(Settings):
    """Which holes are filled from the nodes around them."""

    width: int = option(5, "side of the window of neighbours, odd", unit="nodes", ge=3, le=15)
    min_neighbours: int = option(12, "least number of neighbours with a vector; 0 = fill nothing", unit="nodes", ge=0)
    max_scatter: float = option(0.5, "largest robust scatter of the neighbours, per component", unit="px", gt=0.0)
    passes: int = option(1, "how often holes are filled; filled nodes serve the next pass", ge=0, le=10)
    no_data: bool = option(False, "fill also where an image has no data (cloud, gap)")

    _check = field_validator("width")(_odd)

    @property
    def halo(self) -> int:
        """Nodes needed on every side of a node."""
        return self.passes * (self.width // 2) if self.min_neighbours else 0


def clean_halo(outliers: Outliers | None = None, fill: Fill | None = None) -> int:
    """Return how many nodes are needed on every side of a node by ``clean_nodes`` with the same settings."""
    return (outliers or Outliers()).halo + (fill or Fill()).halo


def clean_nodes(motion: np.ndarray, outliers: Outliers | None = None, fill: Fill | None = None) -> np.ndarray:
    """Take out outliers and fill small holes.

    Parameters
    ----------
    motion : float32 (8, y, x)
        Vectors of the nodes, in the order of ``ftrack.schema.MOTION``. Nodes that are not part of the grid have
        status NaN or ``Status.NOT_COMPUTED``.
    outliers, fill : Outliers, Fill
        Settings; the defaults if left out.

    Returns
    -------
    float32 (8, y, x)
        Outliers have status ``OUTLIER`` and no values; filled nodes have status ``FILLED``, a vector with its error,
        and no correlation, peak ratio and chip size. A node that is ``clean_halo`` or more nodes from the edge
        has the same bits whatever lies beyond.

    Raises
    ------
    Stop
        The array does not have the eight variables of a motion.
    """
    if motion.ndim != 3 or motion.shape[0] != len(MOTION):
        raise Stop(f"a motion has shape ({len(MOTION)}, y, x); this array has {motion.shape}")
    cleaned = np.array(motion, np.float32)
    _take_out(cleaned, outliers or Outliers())
    _fill_in(cleaned, fill or Fill())
    return cleaned


def _usable(motion: np.ndarray, *states: Status) -> np.ndarray:
    return np.asarray(np.isin(motion[ROW["status"]], states) & np.isfinite(motion[ROW["dx"]]) & np.isfinite(motion[ROW["dy"]]))


def _take_out(motion: np.ndarray, settings: Outliers) -> None:
    """Find outliers and write them into the motion; both tests of a pass see what the pass before has left."""
    if not settings.halo:
        return
    vectors = tuple(motion[row] for row in VECTOR)
    limits = (settings.tolerance, settings.share, settings.noise, settings.threshold)
    measured = _usable(motion, Status.MEASURED)
    usable, changed = measured & ~_uncertain(motion, measured, settings.error_ratio), np.ones_like(measured)
    for _ in range(settings.passes if settings.share > 0.0 or settings.threshold > 0.0 else 0):
        kept = np.empty_like(usable)
        judge(vectors, usable, changed, settings.width // 2, limits, kept)
        usable, changed = kept, usable & ~kept
    _forget(motion, measured & ~usable)
    motion[ROW["status"]][measured & ~usable] = Status.OUTLIER


def _uncertain(motion: np.ndarray, measured: np.ndarray, ratio: float) -> np.ndarray:
    """Return which vectors are much less certain than the better ones around them."""
    uncertain = np.zeros_like(measured)
    if ratio > 0.0:
        errors = np.hypot(motion[ROW["dx_error"]].astype(float), motion[ROW["dy_error"]].astype(float))
        find_uncertain(errors, measured, UNCERTAIN_RADIUS, BETTER, ratio, uncertain)
        uncertain &= errors > ratio * CERTAIN
    return uncertain


def _fill_in(motion: np.ndarray, settings: Fill) -> None:
    """Fill holes and write them into the motion."""
    if not settings.min_neighbours:
        return
    states = (*FILLABLE, Status.NO_DATA) if settings.no_data else FILLABLE
    wanted = np.isin(motion[ROW["status"]], states)
    usable = _usable(motion, Status.MEASURED)
    for _ in range(settings.passes):
        vectors = tuple(motion[row] for row in VECTOR)
        filled = tuple(np.empty_like(vector) for vector in vectors)
        fill_holes(vectors, usable, wanted, settings.width // 2, settings.min_neighbours, settings.max_scatter, filled)
        found = np.isfinite(filled[0])
        _forget(motion, found)
        for row, values in zip(VECTOR, filled, strict=True):
            motion[row][found] = values[found]
        motion[ROW["status"]][found] = Status.FILLED
        wanted, usable = wanted & ~found, usable | found


def _forget(motion: np.ndarray, where: np.ndarray) -> None:
    """Take the measurement out of nodes, but leave their status."""
    for name, row in ROW.items():
        if name != "status":
            motion[row][where] = 0 if name == "chip_size" else np.nan
