"""Sums over the chips of the nodes, whose order the node alone decides."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import filling, inner
from ftrack.kernels.normal import XX, XY, YY, N


def chip_sums(planes: np.ndarray, blocks: tuple[int, int, np.ndarray, np.ndarray], chosen: np.ndarray, out: np.ndarray) -> None:
    """Sum planes of blocks over the chip of every node.

    Parameters
    ----------
    planes : float64 (plane, block row, block column)
        Numbers per block.
    blocks : (side, step, counts, starts)
        See ``ftrack.kernels.layout.Layout``.
    chosen : int8 (row, column)
        The chip of every node, -1 where there is none.
    out : float64 (plane, row, column)
        Result; nodes without a chip are left alone.
    """
    _chip_sums(planes, blocks, chosen, np.empty(planes.shape[2]), np.empty(chosen.shape[1]), out)


@filling
def _chip_sums(planes, blocks, chosen, down, total, out):
    step, counts, starts = blocks[1], blocks[2], blocks[3]
    rows, columns = chosen.shape
    for i in range(rows):
        for c in range(counts.size):
            wanted = False
            for j in range(columns):
                wanted |= chosen[i, j] == c
            if not wanted:
                continue
            top, left = starts[c] + i * step, starts[c]
            for p in range(planes.shape[0]):
                down[:] = 0.0
                for k in range(counts[c]):
                    line = planes[p, top + k]
                    for x in range(down.size):
                        down[x] += line[x]
                total[:] = 0.0
                for k in range(counts[c]):
                    line = down[left + k :]
                    if step == 1:
                        for j in range(columns):
                            total[j] += line[j]
                    else:
                        for j in range(columns):
                            total[j] += line[j * step]
                for j in range(columns):
                    if chosen[i, j] == c:
                        out[p, i, j] = total[j]


@filling
def weigh_blocks(sums, field, place, out):
    """Weigh a field by the squared gradients of every block, and by its pixels.

    Parameters
    ----------
    sums : float64 (block row, block column, PLANES)
        From ``ftrack.kernels.normal.sum_blocks``.
    field : float64 (2, row, column)
        Displacement along x and y at the nodes, px, linear between them; beyond the outermost their value is carried on.
    place : (int, int, int)
        Row and column of the centre of the first block, counted from the first node, and distances between blocks and between nodes,
        in half pixels.
    out : float64 (4, block row, block column)
        Result: squared gradients times displacement along x and y, and pixels times each.
    """
    first, side, spacing = place
    rows, columns = field.shape[1], field.shape[2]
    for i in range(out.shape[1]):
        r, below, s = _between(first + i * side, spacing, rows)
        for j in range(out.shape[2]):
            c, right, t = _between(first + j * side, spacing, columns)
            block, down, across = sums[i, j], (r, below, s), (c, right, t)
            u, v = _inside(field[0], down, across), _inside(field[1], down, across)
            out[0, i, j], out[1, i, j] = block[XX] * u + block[XY] * v, block[XY] * u + block[YY] * v
            out[2, i, j], out[3, i, j] = block[N] * u, block[N] * v


@inner
def _between(at, spacing, count):
    """Return the nodes before and after a place and how far it lies between them."""
    at = min(max(at, 0), (count - 1) * spacing)
    before = min(at // spacing, max(count - 2, 0))
    return before, min(before + 1, count - 1), np.float64(at - before * spacing) / spacing


@inner
def _inside(field, down, across):
    (r, below, s), (c, right, t) = down, across
    above = field[r, c] + t * (field[r, right] - field[r, c])
    under = field[below, c] + t * (field[below, right] - field[below, c])
    return above + s * (under - above)
