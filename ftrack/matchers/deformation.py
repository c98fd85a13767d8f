"""Displacement below one pixel of a whole tile at once: one image is drawn back along the field that the peaks give.

Image deformation as in particle image velocimetry (Scarano 2002): the field follows shear inside the chips, and every
chip is solved from shared sums. A node needs neighbours on all sides, as many as ``scales_of`` says.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ftrack.kernels.choose import solve_nodes
from ftrack.kernels.deform import KEPT_BETWEEN, TABLE
from ftrack.kernels.layout import Layout
from ftrack.kernels.normal import PLANES, sum_blocks
from ftrack.kernels.planes import ALIGNED
from ftrack.kernels.smooth import bell, keep_coherent, smooth
from ftrack.kernels.solve import FEWER, FIELDS
from ftrack.matchers.unbend import reach_of, unbend
from ftrack.schema import Status

Box = tuple[slice, slice]
"""Rows and columns of nodes."""

WIDTH, RADIUS = 0.25, 0.25
"""Width of the Gaussian that smooths peaks or solutions into a field, and its radius for solutions, in smallest chips; that for peaks is
half the largest chip."""

SHARPER = 2.5
"""By how much the second field is bent further, in what smoothing takes from it once more."""

EVEN = (np.inf, 0.4)
"""Change of either field within a block from which this is drawn back in parts, px."""

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
    def ring(self) -> int:
        """Outermost nodes whose peaks matter, but not their pixels."""
        return 1 + self.first + self.apron

    @property
    def margin(self) -> int:
        """Nodes that a node needs on every side."""
        return self.ring + self.inside + self.follow

    @property
    def inside(self) -> int:
        """Nodes around those that are solved along the second field, which have a say in it."""
        return 2 * self.second + self.apron


def scales_of(chip_sizes: tuple[int, ...], spacing: int) -> Scales:
    """Return how far neighbours matter."""
    smallest, largest = min(chip_sizes), max(chip_sizes)
    lengths = (0.5 * largest, 0.5 * largest, RADIUS * smallest)
    apron, first, second = (math.ceil(length / spacing) for length in lengths)
    return Scales(apron, first, second, reach_of(chip_sizes, spacing).margin)


class Peaked(NamedTuple):
    """What the search has found: fitted peaks (dx, dy) float64 (2, row, column), the chips and why some failed; see ``choose``."""

    fitted: np.ndarray
    peaks: tuple[np.ndarray, np.ndarray, np.ndarray]
    status: np.ndarray
    chosen: np.ndarray


class Images(NamedTuple):
    """Both images float32 (y, x), and the row and column of the first pixel of the blocks of a layout.

    What is not a finite number or lies beyond the images is no data.
    """

    reference: np.ndarray
    secondary: np.ndarray
    corner: tuple[int, int]


class Solution(NamedTuple):
    """What one drawing-back gives: the sums of the blocks, what is solved, and of which chips."""

    sums: np.ndarray
    solved: np.ndarray
    usable: np.ndarray
    found: Peaked


def solve_tile(images: Images, layout: Layout, found: Peaked, limits: tuple[float, float]) -> np.ndarray:
    """Solve for the displacement of every node that has the margin of ``Scales`` around it.

    Parameters
    ----------
    images : Images
        Of the nodes inside the ring of ``Scales``.
    layout : Layout
        All nodes, and the chips.
    found : Peaked
        What the search has found; ``status`` and ``chosen`` are changed to what the solution says.
    limits : (float, float)
        Least share of valid pixels in a chip, largest error, px.

    Returns
    -------
    float64 (FIELDS, row, column)
        See ``ftrack.kernels.solve``; NaN in the margin.
    """
    spacing, smallest = layout.step * layout.side, int(layout.counts[0]) * layout.side
    scales, width = scales_of(tuple(int(c) * layout.side for c in layout.counts), spacing), WIDTH * smallest / spacing
    solved = np.full((FIELDS, *found.chosen.shape), np.nan)
    may, apron = ((found.status == Status.MEASURED) | (found.status == Status.AMBIGUOUS)).any(0), scales.apron
    wide, inner = _box(may, scales.ring, 2 * apron), _box(may, scales.ring + scales.inside, apron)
    if min(along.stop - along.start for along in inner) <= 0:
        return solved
    field = _field_of_peaks(_within(found, _grown(wide, scales.ring)), spacing, bell(width, scales.first))
    there, around = _whole(field), scales.ring - apron
    field, along = _taken(field, _grown(there, -scales.ring)), _taken(field, _grown(there, -around))
    rough = _begun(images, wide, scales.ring, spacing)
    room = np.empty(math.prod(_sized(layout, wide).shape) * PLANES + ALIGNED)
    first = _solve(rough, _sized(layout, wide), _within(found, wide), (along, EVEN[0], room), apron, limits)
    _sharpen(first.solved[:2].copy(), first.usable, bell(width, scales.second), field)
    part, layout, given = _inside(inner, wide), _sized(layout, inner), _within(found, inner)
    along = _taken(field, _grown(part, apron))
    last = _solve(_begun(images, inner, scales.ring, spacing), layout, given, (along, EVEN[1], room), apron, limits)
    together = last.usable & ~(np.abs(last.solved[:2] - _taken(first.solved[:2], part)).max(0) > AGREED)
    _forget(last.found, last.usable & ~together, Status.DIVERGED)
    unbend(last.sums, layout, _taken(field, part), last.found.chosen, together, last.solved)
    _forget(last.found, together & (last.solved[2:4].max(0) > limits[1]), Status.ERROR_TOO_LARGE)
    for whole, own in ((solved, last.solved), (found.status, last.found.status), (found.chosen, last.found.chosen)):
        whole[..., *inner] = own
    return solved


def _box(may: np.ndarray, margin: int, beyond: int) -> Box:
    """Return the nodes that have a margin and lie near to some that may be solved."""
    spans = (np.flatnonzero(may.any(axis)) for axis in (1, 0))
    rows, columns = (
        slice(max(margin, int(at[0]) - beyond), min(count - margin, int(at[-1]) + 1 + beyond)) if at.size else slice(0, 0)
        for at, count in zip(spans, may.shape, strict=True)
    )
    return rows, columns


def _inside(box: Box, whole: Box) -> Box:
    """Return where a box lies in one that holds it."""
    rows, columns = (slice(one.start - all_of.start, one.stop - all_of.start) for one, all_of in zip(box, whole, strict=True))
    return rows, columns


def _begun(images: Images, box: Box, ring: int, spacing: int) -> Images:
    """Return the images with the corner of the blocks of a box of nodes."""
    top, left = (first + (along.start - ring) * spacing for first, along in zip(images.corner, box, strict=True))
    return images._replace(corner=(top, left))


def _field_of_peaks(found: Peaked, spacing: int, weights: np.ndarray) -> np.ndarray:
    """Smooth the peaks that agree with their neighbours."""
    usable, field = np.empty_like(found.chosen, np.bool_), np.empty_like(found.fitted)
    keep_coherent(found.fitted, found.chosen >= 0, max(1.0, STEEP * spacing), SHARE, usable)
    smooth(found.fitted, usable, weights, field)
    return field


def _solve(
    images: Images, layout: Layout, found: Peaked, along: tuple[np.ndarray, float, np.ndarray], apron: int, limits: tuple[float, float]
) -> Solution:
    """Draw the secondary back along a field that is known ``apron`` nodes around those of the layout, and solve every node.

    ``along`` is the field, its change from which blocks are drawn back in parts, and room for their sums.
    """
    field, even, room = along
    spacing = layout.step * layout.side
    start = int(layout.counts.max()) * layout.side // 2 - apron * spacing
    sums = room[: math.prod(layout.shape) * PLANES].reshape(*layout.shape, PLANES)
    usable = np.empty(found.chosen.shape, np.bool_)
    solved = np.empty((FIELDS if even < np.inf else FEWER, *found.chosen.shape))
    # Of nodes after the last ones nothing is taken, but they are read.
    wide = np.zeros((2, field.shape[1] + 1, field.shape[2] + 1), np.float32)
    wide[:, :-1, :-1], inside = np.nan_to_num(field), _grown(_whole(field), -apron)
    used = (_used(layout, layout.rows), _used(layout, layout.columns))
    place, tables = (start, start, spacing), (TABLE.reshape(-1), KEPT_BETWEEN)
    sum_blocks(images[:2], images.corner, wide, place, tables, used, even, layout.side, sums)
    own = found._replace(status=found.status.copy(), chosen=found.chosen.copy())
    solve_nodes(sums, layout.blocks, _taken(field, inside), own.peaks, limits, own.status, own.chosen, usable, solved)
    return Solution(sums, solved, usable, own)


def _whole(field: np.ndarray) -> Box:
    return slice(0, field.shape[-2]), slice(0, field.shape[-1])


def _grown(box: Box, count: int) -> Box:
    """Add rows and columns on every side of a box, or leave them out."""
    rows, columns = (slice(along.start - count, along.stop + count) for along in box)
    return rows, columns


def _taken(array: np.ndarray, box: Box) -> np.ndarray:
    return np.ascontiguousarray(array[..., *box])


def _sized(layout: Layout, box: Box) -> Layout:
    rows, columns = (along.stop - along.start for along in box)
    return layout._replace(rows=rows, columns=columns)


def _within(found: Peaked, box: Box) -> Peaked:
    fitted, peaks, status, chosen = found
    peak, dy, dx = (_taken(part, box) for part in peaks)
    return Peaked(_taken(fitted, box), (peak, dy, dx), _taken(status, box), _taken(chosen, box))


def _sharpen(values: np.ndarray, usable: np.ndarray, weights: np.ndarray, field: np.ndarray) -> None:
    """Make the second field of solutions, bent further in what smoothing takes from it; where there are none, the first one stays."""
    smoothed, smoother = np.empty_like(field), np.empty_like(field)
    smooth(values, usable, weights, smoothed)
    there = np.isfinite(smoothed[0])
    smooth(smoothed, there, weights, smoother)
    np.copyto(field, smoothed + SHARPER * (smoothed - smoother), where=there)


def _forget(found: Peaked, where: np.ndarray, why: Status) -> None:
    """Take the chip from nodes whose solution cannot be kept."""
    for chip, status in enumerate(found.status):
        status[where & (found.chosen == chip)] = why
    found.status[-1][where] = why
    found.chosen[where] = -1


def _used(layout: Layout, nodes: int) -> np.ndarray:
    """Return which rows or columns of blocks lie in any chip of so many nodes."""
    used = np.zeros((nodes - 1) * layout.step + int(layout.counts.max()), np.bool_)
    for count, start in zip(layout.counts, layout.starts, strict=True):
        for k in range(start, start + count):
            used[k : k + (nodes - 1) * layout.step + 1 : layout.step] = True
    return used
