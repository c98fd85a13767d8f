"""Smooth fields over nodes, with gaps: weighted means of near nodes, whose sums run in an order that the node alone decides."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import filling


def bell(width: float, radius: int) -> np.ndarray:
    """Return the weights of a Gaussian of ``width`` nodes at -radius to radius, float64 (2 * radius + 1,)."""
    weights: np.ndarray = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(width, 1e-3)) ** 2)
    return weights


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
    rooms = np.zeros((3, rows, columns)), np.zeros((3, columns + weights.size // 2 * 2)), np.empty((3, columns))
    _smooth(values, known, weights, *rooms, out)


@filling
def _smooth(values, known, weights, across, line, total, out):
    (rows, columns), radius = known.shape, weights.size // 2
    for i in range(rows):
        for j in range(columns):
            there = known[i, j]
            line[0, j + radius] = values[0, i, j] if there else 0.0
            line[1, j + radius] = values[1, i, j] if there else 0.0
            line[2, j + radius] = 1.0 if there else 0.0
        for p in range(3):
            along = across[p, i]
            for k in range(weights.size):
                part, weight = line[p, k : k + columns], weights[k]
                for j in range(columns):
                    along[j] += weight * part[j]
    for i in range(rows):
        for p in range(3):
            down = total[p]
            down[:] = 0.0
            for k in range(max(0, i - radius), min(rows, i + radius + 1)):
                part, weight = across[p, k], weights[k - i + radius]
                for j in range(columns):
                    down[j] += weight * part[j]
        for j in range(columns):
            some = total[2, j] > 0.0
            out[0, i, j] = total[0, j] / total[2, j] if some else np.nan
            out[1, i, j] = total[1, j] / total[2, j] if some else np.nan


@filling
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
