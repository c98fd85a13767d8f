"""Displacement below one pixel of a whole tile at once: one image is drawn back along the field that the peaks give.

Image deformation as in particle image velocimetry (Scarano 2002): the field follows shear inside the chips, and every
chip is solved from shared sums. A node needs neighbours on all sides, as many as ``scales_of`` says.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ftrack.kernels.choose import solve_nodes
from ftrack.kernels.deform import REACH, WEIGHTS
from ftrack.kernels.layout import Layout
from ftrack.kernels.normal import PLANES, sum_drawn_back
from ftrack.kernels.smooth import bell, keep_coherent, smooth
from ftrack.kernels.solve import FIELDS
from ftrack.matchers.unbend import reach_of, unbend
from ftrack.schema import Status

FIRST_WIDTH, FIRST_RADIUS = 0.25, 0.5
"""Width and radius of the Gaussian that smooths the peaks into a first field, in smallest chips."""

SHARPER = 2.5
"""By how much the second field is bent further, in what smoothing takes from it once more."""

AGREED = 0.2
"""Two solutions, the second along the field of the first, differ by no more than this where the chip has found its match, px."""

SHARE, STEEP = 0.6, 0.15
"""A peak counts for the field where this share of its neighbours agrees, to a pixel or this change per pixel."""


class Scales(NamedTuple):
    """Lengths in nodes: how far chips reach around a node, radii of the Gaussians of both fields, and what following needs."""

    apron: int
    first: int
    second: int
    follow: int

    @property
    def margin(self) -> int:
        """Nodes that a node needs on every side."""
        return 2 * self.apron + self.first + 2 * self.second + self.follow + 1


def scales_of(chip_sizes: tuple[int, ...], spacing: int) -> Scales:
    """Return how far neighbours matter."""
    smallest, largest = min(chip_sizes), max(chip_sizes)
    first = max(FIRST_RADIUS * smallest, 0.5 * largest)
    lengths = (0.5 * largest + REACH, first, FIRST_RADIUS * smallest)
    return Scales(*(math.ceil(length / spacing) for length in lengths), reach_of(chip_sizes, spacing).margin)


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
    width = FIRST_WIDTH * sizes[0] / spacing
    smooth(values, usable, bell(width, scales.first), field)
    for again in (False, True):
        if again:
            _sharpen(values, usable, bell(width, scales.second), field)
        wide, place = _widened(field, scales.apron), (start, start, spacing)
        sum_drawn_back(reference, secondary, corner, wide, place, WEIGHTS, used, layout.side, sums)
        status, chosen, usable, solved = found.status.copy(), found.chosen.copy(), np.empty_like(known), np.empty((FIELDS, *known.shape))
        solve_nodes(sums, blocks, field, found.peaks, limits, status, chosen, usable, solved)
        values = solved[:2].copy()
        solutions.append(values)
    together = usable & ~(np.abs(solutions[1] - solutions[0]).max(0) > AGREED)
    found.status[:], found.chosen[:] = status, chosen
    _forget(found, usable & ~together, Status.DIVERGED)
    unbend(sums, layout, field, found.chosen, together, solved)
    _forget(found, together & (solved[2:4].max(0) > limits[1]), Status.ERROR_TOO_LARGE)
    return solved


def _widened(field: np.ndarray, count: int) -> np.ndarray:
    """Carry the outermost nodes of a field on, float32; zero where nothing is known."""
    return np.pad(np.nan_to_num(field), ((0, 0), (count, count), (count, count)), mode="edge").astype(np.float32)


def _sharpen(values: np.ndarray, usable: np.ndarray, weights: np.ndarray, field: np.ndarray) -> None:
    """Make the second field of solutions, bent further in what smoothing takes from it; where there are none, the first one stays."""
    smoothed, smoother = np.empty_like(field), np.empty_like(field)
    smooth(values, usable, weights, smoothed)
    there = np.isfinite(smoothed[0])
    smooth(smoothed, there, weights, smoother)
    np.copyto(field, smoothed + SHARPER * (smoothed - smoother), where=there)


def _forget(found: Peaked, where: np.ndarray, why: Status) -> None:
    """Take the chip from nodes whose solution cannot be kept."""
    chip = np.maximum(found.chosen, 0).astype(np.int64)[None]
    said = np.take_along_axis(found.status, chip, 0)
    np.put_along_axis(found.status, chip, np.where(where, why, said).astype(np.uint8), 0)
    found.status[-1][where] = why
    found.chosen[where] = -1


def _used_rows(layout: Layout) -> np.ndarray:
    """Return which rows of blocks lie in any chip."""
    used = np.zeros(layout.shape[0], np.bool_)
    for count, start in zip(layout.counts, layout.starts, strict=True):
        for row in range(layout.rows):
            used[start + row * layout.step : start + row * layout.step + count] = True
    return used
