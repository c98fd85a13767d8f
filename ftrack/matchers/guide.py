"""Where to search closely: peaks of large chips on decimated images, as far as they are distinct and neighbours agree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ftrack.kernels.cells import cut_cells
from ftrack.kernels.coarse import CHIP, find_coarse, level, measure
from ftrack.kernels.decimate import decimate
from ftrack.kernels.find import Ground, search
from ftrack.kernels.layout import Windows
from ftrack.kernels.smooth import keep_coherent
from ftrack.kernels.tiles import Extent, Search

FACTORS = (4, 3, 2)
"""Sides of the squares whose means are the pixels of the decimated images, px; the first that divides the spacing is taken."""

AVERAGED = 4
"""Decimated pixels on every side of one whose mean is taken out of it."""

RADIUS = 3
"""Radius of the windows that are searched closely, px."""

AROUND = 1
"""Nodes around a node with which its peak is compared."""

DISTINCT, SHARE = 1.3, 0.6
"""Least peak ratio of a peak that guides, and least share of its neighbours that agree to a decimated pixel."""

LIKELY = 0.35
"""Least correlation of a coarse peak that guides."""

CLEAR = 0.5
"""Least correlation of a peak that is taken from a small window: a lower one may be surpassed elsewhere."""

CUT, CUT_SMALL = 1.75, 1.35
"""How many times higher a second peak is expected to be where a chip lacks pixels: fewer are compared with it far from the first.

The second number is for chips smaller than the coarse ones, whose second peaks are lower than chance makes of those.
"""

QUARTER, RAISED = 4, 1.05
"""How many times smaller than the coarse ones chips are whose second peaks chance is taken to raise this much more."""


class Sight(NamedTuple):
    """What guides the search: windows inside those that are allowed, and where they can be relied upon, bool (row, column).

    ``second`` (row, column) is the second-highest coefficient of the coarse chips, times their ``side`` in px: what chance makes
    of a chip falls with its side.
    """

    windows: Windows
    sure: np.ndarray
    second: np.ndarray
    side: int


def factor_of(spacing: int, radius: int) -> int:
    """Return by how much images are decimated, 1 where a guided search has nothing to offer."""
    return next((f for f in FACTORS if spacing % f == 0), 1) if radius > 2 * RADIUS else 1


def reach_of(spacing: int, radius: int) -> int:
    """Return the pixels of the secondary that are needed on every side of a node."""
    return factor_of(spacing, radius) * (CHIP // 2 + AVERAGED + 1) + radius + AROUND * spacing


def look_ahead(
    images: tuple[np.ndarray, np.ndarray], corner: tuple[int, int], spacing: int, radius: int, allowed: Windows, min_valid: float
) -> Sight:
    """Choose a small window for every node.

    Parameters
    ----------
    images : float32 (y, x), float32 (v, u)
        Reference and secondary; NaN = no data.
    corner : (int, int)
        Pixel corner of the first node.
    spacing, radius : int
        Distance between nodes, search radius, px.
    allowed : Windows
        All offsets that each node may have.
    min_valid : float
        Least share of valid pixels.
    """
    factor, shape = factor_of(spacing, radius), allowed.dy.shape
    span = _spans(allowed, radius, factor)
    far = int(np.abs(span).max())
    size = tuple((n - 1) * (spacing // factor) + CHIP for n in shape)
    chips, own = _levelled(images[0], corner, factor, size, min_valid * CHIP * CHIP)
    searched, others = _levelled(images[1], tuple(at - factor * far for at in corner), factor, tuple(n + 2 * far for n in size), 0.0)
    found = np.zeros((6, *shape))
    mode = np.ones((1, *shape), np.uint8)
    edges = span.min((0, 2)).tolist(), span.max((0, 2)).tolist()
    for cell, union in cut_cells(Search(span, mode, mode, Extent(*edges, int((span[:, 1] - span[:, 0]).max())))):
        alike = bool((span[cell[0] : cell[1], :, cell[2] : cell[3]] == union[:, None]).all())
        find_coarse((chips, searched), (own, others), spacing // factor, far, cell, tuple(union.tolist()), span, alike, found)
    offsets, sure = _trusted(found, factor)
    room = radius - RADIUS
    centre_y, centre_x = (
        np.clip(np.rint(np.where(sure, part, 0.0)).astype(np.int64), middle - room, middle + room)
        for part, middle in zip(offsets, (allowed.dy, allowed.dx), strict=True)
    )
    return Sight(Windows(centre_y, centre_x, np.full(shape, RADIUS)), sure, CHIP * factor * np.maximum(found[1], 0.0), CHIP * factor)


def _spans(allowed: Windows, radius: int, factor: int) -> np.ndarray:
    """Return first and last row and first and last column of the windows, decimated px, which hold all that is allowed."""
    rows, columns = allowed.dy.shape
    span = np.empty((rows, 4, columns), np.int64)
    for k, part in enumerate((allowed.dy, allowed.dx)):
        np.floor_divide(part - radius, factor, out=span[:, 2 * k])
        np.subtract(1, (-radius - part) // factor, out=span[:, 2 * k + 1])
    return span


def _levelled(
    image: np.ndarray, corner: tuple[int, ...], factor: int, size: tuple[int, ...], least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Decimate and level as many pixels as are wanted, from the chip of the corner on; measure the chips."""
    top, left = (at - factor * (CHIP // 2 + AVERAGED) for at in corner)
    wide = np.empty([n + 2 * AVERAGED for n in size], np.float32)
    decimate(np.require(image, np.float32, ["C", "W"]), top, left, factor, wide)
    out, there = np.empty((2, *size), np.float32)
    level(wide, AVERAGED, out, there)
    inverse = np.empty([n - CHIP + 1 for n in size], np.float32)
    measure(out, there, CHIP, least, inverse)
    return out, inverse


def _trusted(found: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where peaks lie, (dy, dx) in px of the images, and which of them are distinct and agree with their neighbours."""
    peak, second, offsets = found[0], found[1], factor * found[4:]
    distinct = np.isfinite(offsets).all(0) & (peak >= LIKELY) & (peak >= DISTINCT * second)
    sure = np.empty(peak.shape, np.bool_)
    keep_coherent(offsets, distinct, float(factor), SHARE, sure)
    return offsets, sure


def search_closely(
    ground: Ground, windows: tuple[Windows, Sight], min_ratio: float, wanted: np.ndarray, found: np.ndarray, limits: tuple[float, float]
) -> None:
    """Find peaks in small windows where that is safe, and in all that is allowed elsewhere; see ``ftrack.kernels.find.search``.

    ``windows`` are those that are allowed, and the small ones; ``min_ratio`` is the least peak ratio that must be expected among all
    that is allowed.
    """
    (allowed, sight), layout, chips = windows, ground.tile.layout, ground.tile.chips
    search(ground, sight.windows, sight.sure & wanted, found)
    sides = (layout.counts * layout.side)[:, None, None]
    cut = np.where(chips.valid < 1, np.where(sides < sight.side, CUT_SMALL, CUT), 1.0)
    chance = min_ratio * cut * np.where(QUARTER * sides <= sight.side, RAISED, 1.0) / sides
    certain = (found[..., 4] == 0) & (found[..., 0] >= np.maximum(CLEAR, chance * sight.second))
    again = wanted & ~(sight.sure & certain) & ~((chips.valid < ground.tile.min_valid) | chips.flat)
    if again.any():
        search(ground, allowed, again, found, limits)
