"""Displacement below one pixel of a whole tile at once: one image is drawn back along the field that the peaks give.

Image deformation as in particle image velocimetry (Scarano 2002): the field follows shear inside the chips, and every
chip is solved from shared sums. A node needs neighbours on all sides, as many as ``scales_of`` says.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ftrack.kernels.choose import solve_nodes
from ftrack.kernels.deform import KEPT_BETWEEN, TABLE
from ftrack.kernels.layout import Layout
from ftrack.kernels.normal import PLANES, sum_blocks
from ftrack.kernels.planes import ALIGNED
from ftrack.kernels.smooth import bell, keep_coherent, sharpen, smooth
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


@lru_cache(maxsize=64)
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
    float64 (4, row, column)
        dx, dy and their one-sigma errors, px; NaN in the margin.
    """
    spacing, smallest = layout.step * layout.side, int(layout.counts[0]) * layout.side
    scales, width = scales_of(tuple(int(c) * layout.side for c in layout.counts), spacing), WIDTH * smallest / spacing
    moved = np.full((4, *found.chosen.shape), np.nan)
    may, apron = ((found.status == Status.MEASURED) | (found.status == Status.AMBIGUOUS)).any(0), scales.apron
    wide, inner = _box(may, scales.ring, 2 * apron), _box(may, scales.ring + scales.inside, apron)
    if min(along.stop - along.start for along in inner) <= 0:
        return moved
    field = _field_of_peaks(found, spacing, bell(width, scales.first))
    first, along, field = _sized(layout, wide), _nodes_around(field, wide, apron), _taken(field, wide)
    room = np.empty(math.prod(first.shape) * PLANES + ALIGNED)
    sums = _sum(_begun(images, wide, scales.ring, spacing), first, along, apron, EVEN[0], room)
    rough, usable = _solve(
        sums, first, (field, field), wide, found._replace(status=found.status.copy(), chosen=found.chosen.copy()), (*limits, np.inf)
    )
    sharpen(rough[:2], usable, bell(width, scales.second), SHARPER, field)
    part, layout = _inside(inner, wide), _sized(layout, inner)
    along, field = _nodes_around(field, part, apron), _taken(field, part)
    sums = _sum(_begun(images, inner, scales.ring, spacing), layout, along, apron, EVEN[1], room)
    solved, together = _solve(sums, layout, (field, _taken(rough[:2], part)), inner, found, (*limits, AGREED), FIELDS)
    unbend(sums, layout, field, _taken(found.chosen, inner), together, solved)
    moved[:, *inner] = solved[:4]
    return moved


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


def _sum(images: Images, layout: Layout, field: np.ndarray, apron: int, even: float, room: np.ndarray) -> np.ndarray:
    """Draw the secondary back along a field that is known ``apron`` nodes around those of the layout, and sum products over blocks.

    Blocks within which the field changes by more than ``even`` px are drawn back in parts.
    """
    spacing = layout.step * layout.side
    start = int(layout.counts.max()) * layout.side // 2 - apron * spacing
    sums = room[: math.prod(layout.shape) * PLANES].reshape(*layout.shape, PLANES)
    used = (_used(layout, layout.rows), _used(layout, layout.columns))
    place, tables = (start, start, spacing), (TABLE.reshape(-1), KEPT_BETWEEN)
    sum_blocks(images[:2], images.corner, field, place, tables, used, even, layout.side, sums)
    return sums


def _solve(
    sums: np.ndarray,
    layout: Layout,
    near: tuple[np.ndarray, np.ndarray],
    box: Box,
    found: Peaked,
    limits: tuple[float, float, float],
    fields: int = FEWER,
) -> tuple[np.ndarray, np.ndarray]:
    """Solve the nodes of a box, which take their chips from what is found, where they lie near to a field and to an earlier solution."""
    solved, together = np.empty((fields, layout.rows, layout.columns)), np.empty((layout.rows, layout.columns), np.bool_)
    at = (box[0].start, box[1].start)
    solve_nodes(sums, layout.blocks, near, (at, *found.peaks), limits, found.status, found.chosen, together, solved)
    return solved, together


def _nodes_around(field: np.ndarray, box: Box, apron: int) -> np.ndarray:
    """Return the field in and around a box in single precision, zero where it is not known.

    Of nodes after the last ones nothing is taken, but they are read.
    """
    part = field[:, *(slice(along.start - apron, along.stop + apron) for along in box)]
    out = np.zeros((2, part.shape[1] + 1, part.shape[2] + 1), np.float32)
    np.copyto(out[:, :-1, :-1], part, "same_kind", part == part)
    return out


def _taken(array: np.ndarray, box: Box) -> np.ndarray:
    return np.ascontiguousarray(array[..., *box])


def _sized(layout: Layout, box: Box) -> Layout:
    rows, columns = (along.stop - along.start for along in box)
    return layout._replace(rows=rows, columns=columns)


def _used(layout: Layout, nodes: int) -> np.ndarray:
    """Return which rows or columns of blocks lie in any chip of so many nodes."""
    used = np.zeros((nodes - 1) * layout.step + int(layout.counts.max()), np.bool_)
    for count, start in zip(layout.counts, layout.starts, strict=True):
        for k in range(start, start + count):
            used[k : k + (nodes - 1) * layout.step + 1 : layout.step] = True
    return used
