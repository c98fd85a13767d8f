"""Means of fields over the chips of the nodes, from sums whose order the node alone decides."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import inner, shared
from ftrack.kernels.normal import XX, XY, YY, N
from ftrack.kernels.planes import add_lines


@shared
def chip_sums(planes, blocks, ones, chosen, room, out, where):
    """Sum planes of blocks over the chip of every node.

    Parameters
    ----------
    planes : float64 (plane, block row, block column)
        Numbers per block; as many columns as make a multiple of ``ALIGNED``.
    blocks : (side, step, counts, starts)
        See ``ftrack.kernels.layout.Layout``.
    ones : float64 (largest count,)
        Ones.
    chosen : int8 (row, column)
        The chip of every node, -1 where there is none.
    room : float64
        Room for three rows of blocks.
    out : float64
        Result, (row, column); nodes without a chip are left alone.
    where : (int, int)
        Where in ``out`` the first plane begins, and how far apart they lie.
    """
    step, counts, starts, (_, height, width) = blocks[1], blocks[2], blocks[3], planes.shape
    (rows, columns), flat = chosen.shape, planes.reshape(-1)
    for i in range(rows):
        for c in range(counts.size):
            wanted = False
            for j in range(columns):
                wanted |= chosen[i, j] == c
            if not wanted:
                continue
            top, left, reach = starts[c] + i * step, starts[c], (columns - 1) * step + 1
            for p in range(planes.shape[0]):
                add_lines(flat, (p * height + top) * width, width, ones, counts[c], room, 0, width)
                add_lines(room, left, 1, ones, counts[c], room, 2 * width, reach)
                added, row = room[2 * width :], out[where[0] + p * where[1] + i * columns :]
                for j in range(columns):
                    if chosen[i, j] == c:
                        row[j] = added[j * step]


@shared
def weigh_blocks(sums, field, where, shape, place, room, out):
    """Weigh a field by the squared gradients of every block, and by its pixels.

    Parameters
    ----------
    sums : float64 (block row, block column, PLANES)
        From ``ftrack.kernels.normal.sum_blocks``.
    field : float64
        Displacement along x and y at the nodes (row, column), px, linear between them; beyond the outermost their value is carried on.
    where : (int, int)
        Where in ``field`` that along x begins, and how far behind that along y does.
    shape : (int, int)
        Rows and columns of nodes.
    place : (int, int, int)
        Row and column of the centre of the first block, counted from the first node, and distances between blocks and between nodes,
        in half pixels.
    room : float64
        Room for three rows of blocks.
    out : float64 (4, block row, at least as many columns as blocks)
        Result: squared gradients times displacement along x and y, and pixels times each.
    """
    (first, side, spacing), (rows, columns), count = place, shape, sums.shape[1]
    for j in range(count):
        c, right, t = _between(first + j * side, spacing, columns)
        room[j], room[count + j], room[2 * count + j] = c, right, t
    for i in range(sums.shape[0]):
        r, below, s = _between(first + i * side, spacing, rows)
        x_above, x_under = field[where[0] + r * columns :], field[where[0] + below * columns :]
        y_above, y_under = x_above[where[1] :], x_under[where[1] :]
        for j in range(count):
            block, across = sums[i, j], (int(room[j]), int(room[count + j]), room[2 * count + j])
            u, v = _inside(x_above, x_under, s, across), _inside(y_above, y_under, s, across)
            out[0, i, j], out[1, i, j] = block[XX] * u + block[XY] * v, block[XY] * u + block[YY] * v
            out[2, i, j], out[3, i, j] = block[N] * u, block[N] * v


@inner
def _between(at, spacing, count):
    """Return the nodes before and after a place and how far it lies between them."""
    at = min(max(at, 0), (count - 1) * spacing)
    before = min(at // spacing, max(count - 2, 0))
    return before, min(before + 1, count - 1), np.float64(at - before * spacing) / spacing


@inner
def _inside(above, under, s, across):
    left, right, t = across
    first = above[left] + t * (above[right] - above[left])
    return first + s * (under[left] + t * (under[right] - under[left]) - first)
