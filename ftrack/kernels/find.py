"""The peaks of the exact correlation surfaces of all chips of a tile.

For one offset the two images are multiplied once and summed over small square blocks; chips of every size and node
are then sums of blocks. All sums run in an order that depends on the node alone, so the result does not depend on
the tile, nor on which nodes are worked on together.
"""

from __future__ import annotations

import numpy as np

from ftrack.kernels.cells import measure_cells
from ftrack.kernels.chain import chain_for, chain_of_pixels
from ftrack.kernels.correlate import correlate, pad_for
from ftrack.kernels.layout import Layout, Peaks, Windows, everywhere
from ftrack.kernels.moments import copy_valid, measure_chips
from ftrack.kernels.peaks import second_peaks
from ftrack.kernels.scan import NONE, QUANTUM
from ftrack.kernels.sweep import GAPPY, LEVELLED, PLAIN

__all__ = ["Peaks", "Windows", "everywhere", "find_peaks"]

MARGIN = 96
"""Pixels beyond the last offset that vectors may read."""


def find_peaks(
    reference: np.ndarray,
    secondary: np.ndarray,
    layout: Layout,
    windows: Windows,
    min_valid: float,
    wanted: np.ndarray,
    keep: np.ndarray | None = None,
) -> Peaks:
    """Find the peak of every wanted chip in the window of its node.

    Parameters
    ----------
    reference, secondary : float32 (y, x)
        Images, NaN = no data. The reference begins at the corner of the first node's largest chip and holds the
        blocks of the layout; the secondary begins ``layout.radius`` px before it, and what lies beyond is no data.
    layout : Layout
        Nodes and chips.
    windows : Windows
        Offsets that each node searches.
    min_valid : float
        Least share of valid pixels in a chip, and of valid pairs at an offset.
    wanted : bool (row, column) or (chip, row, column)
        Chips to work on.
    keep : float32 (chip, row, column, offset, offset), optional
        Filled with the coefficients at all offsets of the windows, NaN where there is none.
    """
    shape = (len(layout.counts), layout.rows, layout.columns)
    search = tuple(np.ascontiguousarray(np.broadcast_to(w, shape[1:]), np.int64) for w in windows)
    chain, of_chip = chain_for(layout.counts)
    size = (layout.shape[0] * layout.side, layout.shape[1] * layout.side)
    r, r_valid = np.zeros(size, np.float32), np.zeros(size, np.bool_)
    r_count = copy_valid(reference, 0, 0, r, r_valid)
    chips = measure_chips(r, r_valid, layout, chain, of_chip)
    usable = (chips.valid >= min_valid) & ~chips.flat & wanted & _reaches(secondary.shape, layout, search)
    out = Peaks(
        chips.valid,
        chips.flat,
        np.full(shape, np.nan, np.float32),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int32),
        np.full(shape, np.nan, np.float32),
        np.zeros(shape, np.uint8),
        np.full((*shape, 3, 3), np.nan, np.float32),
    )
    if not usable.any():
        return out
    used = usable.any(0)
    far = int(max((np.abs(search[k]) + search[2])[used].max() for k in (0, 1)))
    s = np.zeros((size[0] + 2 * far + MARGIN, size[1] + 2 * far + MARGIN), np.float32)
    s_valid = np.zeros(s.shape, np.bool_)
    copy_valid(secondary, far - layout.radius, far - layout.radius, s, s_valid)
    gaps = _find_gaps(r_valid, s_valid, layout, search, far)
    if (usable & gaps).any():
        rest = _find_with_gaps(reference, secondary, layout, windows, min_valid, usable & gaps, keep)
        for mine, other in zip(out[2:], rest[2:], strict=True):
            mine[usable & gaps] = other[usable & gaps]
    usable &= ~gaps
    mode = np.where(gaps, GAPPY, np.where(chips.far, LEVELLED, PLAIN)) * usable
    pixels, of_box = chain_of_pixels(chain, layout.side)
    geometry = (layout.side, layout.step, layout.counts, layout.starts, chain, of_chip, pixels, of_box)
    images = (r.ravel(), r.shape[1], s.ravel(), s.shape[1], far)
    tile = (images, geometry, (chips.level, chips.weight, chips.total, chips.scale))
    room = np.zeros((0, 0, 0, 0, 0), np.float32) if keep is None else keep
    measure_cells(tile, (*search, mode.astype(np.uint8)), (*out[2:], room))
    return out


def _reaches(shape: tuple[int, int], layout: Layout, search: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return where the window of a node reaches the secondary at all: bool (row, column)."""
    fine = np.ones((layout.rows, layout.columns), np.bool_)
    largest = int(layout.counts.max()) * layout.side
    for axis, nodes in enumerate((layout.rows, layout.columns)):
        first = layout.radius + layout.step * layout.side * np.arange(nodes)
        first = first[:, None] if axis == 0 else first
        low, high = first + search[axis] - search[2], first + search[axis] + search[2] + largest
        fine &= (high > 0) & (low < shape[axis])
    return fine


def _find_with_gaps(reference, secondary, layout, windows, min_valid, wanted, keep=None):
    shape = (len(layout.counts), layout.rows, layout.columns)
    wanted = np.broadcast_to(wanted, shape)
    far = int(max((abs(w) + windows.radius).max() for w in (windows.dy, windows.dx)))
    extra = max(0, far - layout.radius)
    layout = layout._replace(radius=layout.radius + extra)
    padded = np.full(pad_for(layout)[1], np.nan, np.float32)
    part = secondary[: padded.shape[0] - extra, : padded.shape[1] - extra]
    padded[extra : extra + part.shape[0], extra : extra + part.shape[1]] = part
    found = correlate(np.ascontiguousarray(reference, np.float32), padded, layout, min_valid, wanted.any(0))
    none = np.full((2, *shape), np.nan, np.float32)
    zero = np.zeros((2, *shape), np.int32)
    around = np.full((*shape, 3, 3), np.nan, np.float32)
    out = Peaks(found.valid, found.flat, none[0], zero[0], zero[1], none[1], np.zeros(shape, np.uint8), around)
    for c, i, j in zip(*np.nonzero(wanted & ~np.isnan(found.peak)), strict=True):
        window = (int(windows.dy[i, j]), int(windows.dx[i, j]), int(windows.radius[i, j]))
        _judge_node(found.values[c, i, j], window, layout.radius, (c, i, j), out, keep)
    return out


def _judge_node(
    values: np.ndarray, window: tuple[int, int, int], reach: int, at: tuple[int, ...], out: Peaks, keep: np.ndarray | None
) -> None:
    dy, dx, radius = window
    top, left = reach + dy - radius, reach + dx - radius
    part = np.ascontiguousarray(values[top : top + 2 * radius + 1, left : left + 2 * radius + 1])
    if part.max() == NONE:
        return
    y, x = np.unravel_index(part.argmax(), part.shape)
    real = np.where(part == NONE, np.nan, part / QUANTUM).astype(np.float32)
    peak = np.array([real[y, x]])
    ratio, bounded = np.empty(1, np.float32), np.empty(1, np.uint8)
    second_peaks(part[None], peak, np.array([y], np.int32), np.array([x], np.int32), ratio, bounded)
    out.peak[at], out.ratio[at], out.bounded[at] = peak[0], ratio[0], bounded[0]
    out.dy[at], out.dx[at] = dy + y - radius, dx + x - radius
    out.around[at] = np.pad(real, 1, constant_values=np.nan)[y : y + 3, x : x + 3]
    if keep is not None:
        keep[at][: part.shape[0], : part.shape[1]] = real


def _find_gaps(r_valid: np.ndarray, s_valid: np.ndarray, layout: Layout, search: tuple[np.ndarray, ...], far: int) -> np.ndarray:
    """Return where a chip, or the search window around it, has any invalid pixel: bool (chip, row, column)."""
    gaps = np.zeros((len(layout.counts), layout.rows, layout.columns), np.bool_)
    r_sum, s_sum = _summed(~r_valid), _summed(~s_valid)
    for c, (count, start) in enumerate(zip(layout.counts, layout.starts, strict=True)):
        y = (start + layout.step * np.arange(layout.rows))[:, None] * layout.side
        x = (start + layout.step * np.arange(layout.columns))[None, :] * layout.side
        size = int(count) * layout.side
        dy, dx, radius = search
        top, left = (np.clip(v, 0, s_valid.shape[0]) for v in (y + far + dy - radius, x + far + dx - radius))
        gaps[c] = (_boxes(r_sum, y, x, size) > 0) | (_boxes(s_sum, top, left, size + 2 * radius) > 0)
    return gaps


def _summed(flags: np.ndarray) -> np.ndarray:
    total = np.zeros((flags.shape[0] + 1, flags.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(flags, 0, dtype=np.int64), 1, out=total[1:, 1:])
    return total


def _boxes(total: np.ndarray, y: np.ndarray, x: np.ndarray, size: np.ndarray | int) -> np.ndarray:
    bottom, right = np.minimum(y + size, total.shape[0] - 1), np.minimum(x + size, total.shape[1] - 1)
    return np.asarray(total[bottom, right] - total[y, right] - total[bottom, x] + total[y, x])
