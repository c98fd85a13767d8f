"""Where to search closely: peaks of large chips on decimated images, as far as they are distinct and neighbours agree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ftrack.kernels.choose import fit_peaks
from ftrack.kernels.decimate import decimate
from ftrack.kernels.find import Ground, find_peaks, search
from ftrack.kernels.layout import Peaks, Windows, lay_out
from ftrack.kernels.smooth import keep_coherent
from ftrack.matchers.cut import cut
from ftrack.schema import Status

FACTORS = (4, 3, 2)
"""Sides of the squares whose means are the pixels of the decimated images, px; the first that divides the spacing is taken."""

CHIP = 16
"""Side of the chips, decimated px."""

RADIUS = 4
"""Radius of the windows that are searched closely, px."""

AROUND = 1
"""Nodes around a node with which its peak is compared."""

DISTINCT, SHARE = 1.3, 0.6
"""Least peak ratio of a peak that guides, and least share of its neighbours that agree to a decimated pixel."""

CLEAR = 0.5
"""Least correlation of a peak that is taken from a small window: a lower one may be surpassed elsewhere."""


class Sight(NamedTuple):
    """What guides the search: windows inside those that are allowed, and where they can be relied upon, bool (row, column).

    ``second`` (row, column) is the second-highest coefficient of the coarse chips, times their side in px: what chance makes
    of a chip falls with its side.
    """

    windows: Windows
    sure: np.ndarray
    second: np.ndarray


def factor_of(spacing: int, radius: int) -> int:
    """Return by how much images are decimated, 1 where a guided search has nothing to offer."""
    return next((f for f in FACTORS if spacing % f == 0), 1) if radius > 2 * RADIUS else 1


def reach_of(spacing: int, radius: int) -> int:
    """Return the pixels of the secondary that are needed on every side of a node."""
    factor = factor_of(spacing, radius)
    return factor * (CHIP // 2 + _coarse(radius, factor) + 1) + AROUND * spacing


def _coarse(radius: int, factor: int) -> int:
    """Return a search radius on the decimated images with which no peak of the allowed window lies on the rim."""
    return (radius + factor // 2) // factor + 2


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
    dy, dx = (np.rint(part / factor).astype(np.int64) for part in (allowed.dy, allowed.dx))
    windows = Windows(dy, dx, np.full(shape, _coarse(radius, factor)))
    far = _coarse(radius, factor) + int(max(np.abs(dy).max(), np.abs(dx).max()))
    layout = lay_out((CHIP,), spacing // factor, far, *shape)
    size = layout.shape[0] * layout.side, layout.shape[1] * layout.side
    chips, searched = (_decimated(image, corner, factor, beyond, size) for image, beyond in zip(images, (0, far), strict=True))
    peaks = find_peaks(chips, searched, layout, windows, min_valid, np.ones(shape, np.bool_))
    found, sure = _trusted(peaks, factor)
    room = radius - RADIUS
    centre_y, centre_x = (
        np.clip(np.rint(np.where(sure, part, 0.0)).astype(np.int64), middle - room, middle + room)
        for part, middle in zip(found, (allowed.dy, allowed.dx), strict=True)
    )
    return Sight(Windows(centre_y, centre_x, np.full(shape, RADIUS)), sure, CHIP * factor * peaks.peak[0] / peaks.ratio[0])


def _decimated(image: np.ndarray, corner: tuple[int, int], factor: int, beyond: int, size: tuple[int, int]) -> np.ndarray:
    """Decimate what lies under the chips and some decimated pixels around them."""
    out = np.empty((size[0] + 2 * beyond, size[1] + 2 * beyond), np.float32)
    top, left = (at - factor * (CHIP // 2 + beyond) for at in corner)
    decimate(cut(image, top, left, (out.shape[0] * factor, out.shape[1] * factor)), factor, out)
    return out


def _trusted(peaks: Peaks, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where peaks lie, (dy, dx) in px of the images, and which of them are distinct and agree with their neighbours."""
    distinct = (peaks.bounded == 0) & (peaks.ratio >= DISTINCT) & (peaks.peak >= CLEAR)
    status = np.where(distinct, Status.MEASURED, Status.AMBIGUOUS).astype(np.uint8)
    chosen, found, sure = np.empty(status.shape[1:], np.int8), np.empty((4, *status.shape[1:])), np.empty(status.shape[1:], np.bool_)
    fit_peaks(peaks.around, (peaks.dy, peaks.dx), np.ones(status.shape), False, np.inf, status, chosen, found)
    offsets = factor * found[1::-1]
    keep_coherent(offsets, chosen >= 0, float(factor), SHARE, sure)
    return offsets, sure


def search_closely(ground: Ground, allowed: Windows, sight: Sight, min_ratio: float) -> Peaks:
    """Find peaks in small windows where that is safe, and in all that is allowed elsewhere; see ``ftrack.kernels.find.search``.

    ``min_ratio`` is the least peak ratio that must be expected among all that is allowed.
    """
    layout, min_valid = ground.tile.layout, ground.tile.min_valid
    shape = (len(layout.counts), *sight.sure.shape)
    near = search(ground, sight.windows, sight.sure)
    second = sight.second / (layout.counts * layout.side)[:, None, None]
    certain = (near.bounded == 0) & (near.peak >= np.maximum(CLEAR, min_ratio * second))
    again = ~(sight.sure & certain) & ~((near.valid < min_valid) | near.flat)
    if not again.any():
        return near
    wide = search(ground, allowed, again)
    return Peaks(*(np.where(again.reshape(shape + (1,) * (b.ndim - 3)), b, a) for a, b in zip(near, wide, strict=True)))
