"""Smooth fields over nodes, with gaps: weighted means of near nodes, whose sums run in an order that the node alone decides."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import compiled


def bell(width: float, radius: int) -> np.ndarray:
    """Return the weights of a Gaussian of ``width`` nodes at -radius to radius, float64 (2 * radius + 1,)."""
    weights: np.ndarray = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(width, 1e-3)) ** 2)
    return weights


@compiled
def smooth(values: np.ndarray, known: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """Fill the weighted mean of the known values around every node.

    Parameters
    ----------
    values : float64 (2, row, column)
        A vector at every node.
    known : bool (row, column)
        Which of them count.
    weights : float64 (2 * radius + 1,)
        Weights along each axis; see ``bell``.
    out : float64 (2, row, column)
        Result; NaN where nothing is known within the radius.
    """
    rows, columns = known.shape
    radius = weights.size // 2
    across = np.zeros((3, rows, columns))
    for i in range(rows):
        for d in range(-radius, radius + 1):
            weight = weights[d + radius]
            for j in range(max(0, -d), min(columns, columns - d)):
                if known[i, j + d]:
                    across[0, i, j] += weight * values[0, i, j + d]
                    across[1, i, j] += weight * values[1, i, j + d]
                    across[2, i, j] += weight
    total = np.zeros((3, columns))
    for i in range(rows):
        for j in range(columns):
            total[0, j], total[1, j], total[2, j] = 0.0, 0.0, 0.0
        for d in range(-radius, radius + 1):
            if i + d < 0 or i + d >= rows:
                continue
            weight = weights[d + radius]
            for p in range(3):
                for j in range(columns):
                    total[p, j] += weight * across[p, i + d, j]
        for j in range(columns):
            some = total[2, j] > 0.0
            out[0, i, j] = total[0, j] / total[2, j] if some else np.nan
            out[1, i, j] = total[1, j] / total[2, j] if some else np.nan


@compiled
def keep_coherent(values: np.ndarray, known: np.ndarray, tolerance: float, share: float, kept: np.ndarray) -> None:
    """Keep the known vectors that agree with a share of their known neighbours, or have none.

    Parameters
    ----------
    values : float64 (2, row, column)
        A vector at every node, px.
    known : bool (row, column)
        Which of them count.
    tolerance : float
        Vectors that differ by no more in both components agree, px.
    share : float
        Least share of the eight neighbours that must agree, of those that are known.
    kept : bool (row, column)
        Result.
    """
    rows, columns = known.shape
    for i in range(rows):
        for j in range(columns):
            kept[i, j] = False
            if not known[i, j]:
                continue
            alike, there = 0, 0
            for v in range(max(0, i - 1), min(rows, i + 2)):
                for u in range(max(0, j - 1), min(columns, j + 2)):
                    if known[v, u] and not (v == i and u == j):
                        there += 1
                        near = abs(values[0, v, u] - values[0, i, j]) <= tolerance and abs(values[1, v, u] - values[1, i, j]) <= tolerance
                        alike += near
            kept[i, j] = alike >= share * there


@compiled
def at_blocks(field: np.ndarray, first: float, step: float, out: np.ndarray) -> None:
    """Interpolate a field of nodes linearly to the centres of blocks.

    Parameters
    ----------
    field : float64 (2, row, column)
        The field at the nodes.
    first, step : float
        Centre of the first block and distance between blocks, in nodes; row and column alike.
    out : float64 (2, block row, block column)
        Result; beyond the outermost nodes their value is carried on.
    """
    rows, columns = field.shape[1], field.shape[2]
    for i in range(out.shape[1]):
        y = min(max(first + i * step, 0.0), rows - 1.0)
        r = min(int(y), max(rows - 2, 0))
        s, below = y - r, min(r + 1, rows - 1)
        for j in range(out.shape[2]):
            x = min(max(first + j * step, 0.0), columns - 1.0)
            c = min(int(x), max(columns - 2, 0))
            t, right = x - c, min(c + 1, columns - 1)
            for d in range(2):
                above = field[d, r, c] + t * (field[d, r, right] - field[d, r, c])
                under = field[d, below, c] + t * (field[d, below, right] - field[d, below, c])
                out[d, i, j] = above + s * (under - above)
