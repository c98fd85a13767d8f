"""Sums over the chips of the nodes, whose order the node alone decides."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import compiled


@compiled
def chip_sums(planes, blocks, chosen, out):
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
    step, counts, starts = blocks[1], blocks[2], blocks[3]
    rows, columns = chosen.shape
    down, total = np.empty(planes.shape[2]), np.empty(columns)
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
                    for j in range(columns):
                        total[j] += line[j * step]
                for j in range(columns):
                    if chosen[i, j] == c:
                        out[p, i, j] = total[j]
