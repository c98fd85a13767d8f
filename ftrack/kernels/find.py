"""The peaks of the exact correlation surfaces of all chips of a tile."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.correlate import correlate, pad_for
from ftrack.kernels.layout import Layout, Peaks, Windows, everywhere
from ftrack.kernels.peaks import second_peaks
from ftrack.kernels.scan import NONE, QUANTUM

__all__ = ["Peaks", "Windows", "everywhere", "find_peaks"]


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
