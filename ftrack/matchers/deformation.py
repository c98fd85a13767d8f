"""Displacement below one pixel of a whole tile at once: one image is drawn back along the field that the peaks give.

Image deformation as in particle image velocimetry (Scarano 2002): the field follows shear inside the chips, and every
chip is solved from shared sums. A node needs neighbours on all sides, as many as ``scales_of`` says.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ftrack.kernels.choose import find_bends, solve_nodes
from ftrack.kernels.deform import REACH, WEIGHTS
from ftrack.kernels.layout import Layout
from ftrack.kernels.normal import PLANES, sum_drawn_back
from ftrack.kernels.smooth import at_blocks, bell, keep_coherent, smooth
from ftrack.kernels.solve import FIELDS
from ftrack.schema import Status

FIRST_WIDTH, FIRST_RADIUS = 0.25, 0.5
"""Width and radius of the Gaussian that smooths the peaks into a first field, in smallest chips."""

BEND_WIDTH, BEND_RADIUS = 0.35, 0.7
"""Width and radius of the Gaussian that smooths the solved field, from which its bend inside a chip is taken."""

BEND_LEFT = 1.0 / 1.2
"""What that smoothing, and the mean over the chip, leave of a bend two chips wide."""

POOL_WIDTH, POOL_RADIUS = 0.25, 0.5
"""Width and radius of the Gaussian within which bends are compared with their noise."""

BEND_NOISE = 0.18
"""Bends are believed as far as their mean square exceeds this share of that of the errors: twice what noise alone makes."""

AGREED = 0.2
"""Two solutions, the second along the field of the first, differ by no more than this where the chip has found its match, px."""

SHARE, STEEP = 0.6, 0.15
"""A peak counts for the field where this share of its neighbours agrees, to a pixel or this change per pixel."""


SETTLE_WIDTH, SETTLE_RADIUS = 0.2, 0.4
"""Width and radius of the Gaussian to which a solution is drawn where it differs by no more than its error."""

DOUBT = 2.0
"""Differences are believed as far as their mean square exceeds this many times that which errors alone make."""


class Scales(NamedTuple):
    """Lengths of the smoothing in nodes: how far chips reach around a node, and the radii of the Gaussians."""

    apron: int
    first: int
    bend: int
    pool: int
    settle: int

    @property
    def margin(self) -> int:
        """Nodes that a node needs on every side."""
        return 3 * self.apron + 2 * self.first + self.bend + self.settle + 2 * self.pool + 1


def scales_of(chip_sizes: tuple[int, ...], spacing: int) -> Scales:
    """Return how far neighbours matter."""
    smallest, largest = min(chip_sizes), max(chip_sizes)
    first = max(FIRST_RADIUS * smallest, 0.5 * largest)
    lengths = (0.5 * largest + REACH, first, BEND_RADIUS * smallest, POOL_RADIUS * smallest, SETTLE_RADIUS * smallest)
    return Scales(*(math.ceil(length / spacing) for length in lengths))


class Peaked(NamedTuple):
    """What the search has found: fitted peaks (dx, dy) float64 (2, row, column), the chips and why some failed; see ``choose``."""

    fitted: np.ndarray
    peaks: tuple[np.ndarray, np.ndarray, np.ndarray]
    status: np.ndarray
    chosen: np.ndarray


def solve_tile(
    reference: np.ndarray, secondary: np.ndarray, corner: tuple[int, int], layout: Layout, found: Peaked, limits: tuple[float, float]
) -> np.ndarray:
    """Solve for the displacement of every node.

    Parameters
    ----------
    reference : float32 (y, x)
        The blocks of the layout and ``REACH`` px more on every side; NaN = no data.
    secondary : float32 (v, u)
        Image; NaN = no data.
    corner : (int, int)
        Pixel of the secondary that lies under the first pixel of the layout's blocks.
    layout : Layout
        Nodes and chips.
    found : Peaked
        What the search has found; ``status`` and ``chosen`` are changed to what the solution says.
    limits : (float, float)
        Least share of valid pixels in a chip, largest error, px.

    Returns
    -------
    float64 (FIELDS, row, column)
        See ``ftrack.kernels.solve``.
    """
    spacing, sizes = layout.step * layout.side, tuple(int(c) * layout.side for c in layout.counts)
    scales, known = scales_of(sizes, spacing), found.chosen >= 0
    values, usable = found.fitted, np.empty_like(known)
    keep_coherent(values, known, max(1.0, STEEP * spacing), SHARE, usable)
    start = max(sizes) // 2 - scales.apron * spacing
    sums, used = np.zeros((*layout.shape, PLANES)), _used_rows(layout)
    blocks = (layout.side, layout.step, layout.counts.astype(np.int64), layout.starts.astype(np.int64))
    field, solutions = np.empty_like(values), []
    for _ in range(2):
        smooth(values, usable, bell(FIRST_WIDTH * sizes[0] / spacing, scales.first), field)
        wide, place = _widened(field, scales.apron), (start, start, spacing)
        sum_drawn_back(reference, secondary, corner, wide, place, WEIGHTS, used, layout.side, sums)
        status, chosen, usable, solved = found.status.copy(), found.chosen.copy(), np.empty_like(known), np.empty((FIELDS, *known.shape))
        solve_nodes(sums, blocks, field, found.peaks, limits, status, chosen, usable, solved)
        values = solved[:2].copy()
        solutions.append(values)
    together = usable & ~(np.abs(solutions[1] - solutions[0]).max(0) > AGREED)
    found.status[:], found.chosen[:] = status, chosen
    _forget(found, usable & ~together)
    _unbend(sums, layout, (blocks, scales, max(sizes)), field, found.chosen, together, solved)
    _settle(layout, scales, together, solved)
    return solved


def _widened(field: np.ndarray, count: int) -> np.ndarray:
    """Carry the outermost nodes of a field on, float32; zero where nothing is known."""
    return np.pad(np.nan_to_num(field), ((0, 0), (count, count), (count, count)), mode="edge").astype(np.float32)


def _forget(found: Peaked, where: np.ndarray) -> None:
    """Take the chip from nodes whose solution has not settled."""
    chip = np.maximum(found.chosen, 0).astype(np.int64)[None]
    said = np.take_along_axis(found.status, chip, 0)
    np.put_along_axis(found.status, chip, np.where(where, Status.DIVERGED, said).astype(np.uint8), 0)
    found.status[-1][where] = Status.DIVERGED
    found.chosen[where] = -1


def _unbend(
    sums: np.ndarray, layout: Layout, geometry: Any, field: np.ndarray, chosen: np.ndarray, together: np.ndarray, solved: np.ndarray
) -> None:
    """Move solutions from the mean over their chip to its centre, where the field bends by more than noise would."""
    blocks, scales, largest = geometry
    spacing, smallest = layout.step * layout.side, float(layout.counts[0]) * layout.side
    smoothed, bent, bends = np.empty_like(field), np.empty((2, *layout.shape)), np.empty_like(field)
    smooth(solved[:2], together, bell(BEND_WIDTH * smallest / spacing, scales.bend), smoothed)
    smoothed = np.where(np.isnan(smoothed), np.nan_to_num(field), smoothed)
    at_blocks(smoothed, (0.5 * layout.side - largest // 2) / spacing, layout.side / spacing, bent)
    find_bends(sums, blocks, smoothed, bent, chosen, together, solved[5], bends)
    believed = _believe(bends, solved, together, BEND_NOISE, bell(POOL_WIDTH * smallest / spacing, scales.pool))
    solved[:2] += believed * bends / BEND_LEFT


def _settle(layout: Layout, scales: Scales, together: np.ndarray, solved: np.ndarray) -> None:
    """Draw solutions to the mean of their neighbourhood where they differ by no more than their errors make them.

    Chips that overlap share noise; the shares follow from the overlap, as does the error that is left.
    """
    spacing, smallest = layout.step * layout.side, float(layout.counts[0]) * layout.side
    weights = bell(SETTLE_WIDTH * smallest / spacing, scales.settle)
    around = np.empty_like(solved[:2])
    smooth(solved[:2], together, weights, around)
    own, mean = _shared_noise(weights / weights.sum(), spacing / smallest)
    apart = np.where(together, solved[:2] - around, 0.0)
    believed = _believe(apart, solved, together, DOUBT * (1.0 - 2.0 * own + mean), bell(POOL_WIDTH * smallest / spacing, scales.pool))
    solved[:2] -= (1.0 - believed) * apart
    solved[2:4] *= np.where(together, believed + (1.0 - believed) * math.sqrt(mean), 1.0)


def _shared_noise(weights: np.ndarray, step: float) -> tuple[float, float]:
    """Return the covariance of a node's error with that of the mean around it, and the variance of that mean, of its own variance.

    ``weights`` are those of the mean along one axis, ``step`` is the distance between nodes in chips.
    """
    at = np.arange(weights.size) * step
    overlap = np.clip(1.0 - np.abs(at[:, None] - at[None, :]), 0.0, None)
    own, mean = overlap[weights.size // 2] @ weights, weights @ overlap @ weights
    return float(own**2), float(mean**2)


def _believe(signal: np.ndarray, solved: np.ndarray, together: np.ndarray, share: float, pool: np.ndarray) -> np.ndarray:
    """Return how far a signal is believed, 0 to 1: the part of its mean square that exceeds ``share`` of the squared errors."""
    powers = np.empty_like(signal)
    smooth(np.stack([np.square(signal).sum(0), np.square(solved[2:4]).sum(0)]), together, pool, powers)
    with np.errstate(divide="ignore", invalid="ignore"):
        believed = np.clip(1.0 - share * powers[1] / powers[0], 0.0, 1.0)
    return np.where(together, np.nan_to_num(believed), 1.0)


def _used_rows(layout: Layout) -> np.ndarray:
    """Return which rows of blocks lie in any chip."""
    used = np.zeros(layout.shape[0], np.bool_)
    for count, start in zip(layout.counts, layout.starts, strict=True):
        for row in range(layout.rows):
            used[start + row * layout.step : start + row * layout.step + count] = True
    return used
