"""Smooth fields over nodes, with gaps: weighted means of near nodes, whose sums run in an order that the node alone decides."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import filling, shared
from ftrack.kernels.planes import ALIGNED, add_lines


def bell(width: float, radius: int) -> np.ndarray:
    """Return the weights of a Gaussian of ``width`` nodes at -radius to radius, float64 (2 * radius + 1,)."""
    weights: np.ndarray = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(width, 1e-3)) ** 2)
    return weights


def smooth(values: np.ndarray, known: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """Fill the weighted mean of the known values around every node.

    Parameters
    ----------
    values : float64 (plane, row, column)
        Numbers at every node.
    known : bool (row, column)
        Which of them count.
    weights : float64 (2 * radius + 1,)
        Weights along each axis; see ``bell``.
    out : float64 (plane, row, column)
        Result; NaN where nothing is known within the radius.
    """
    flat = out.reshape(-1)
    _smooth(values, known, weights, 0.0, (np.empty(room_of(values.shape, weights.size)), flat, flat, known), flat)


def sharpen(values: np.ndarray, known: np.ndarray, weights: np.ndarray, sharper: float, field: np.ndarray) -> None:
    """Smooth the known values into a field, bent further in what smoothing takes from it once more; elsewhere the field stays.

    Parameters
    ----------
    values, known, weights
        See ``smooth``.
    sharper : float
        By how many times that the field is bent further.
    field : float64 (plane, row, column)
        Changed where something is known within the radius.
    """
    room, (once, twice), there = np.empty(room_of(values.shape, weights.size)), np.empty((2, field.size)), np.empty_like(known)
    _smooth(values, known, weights, sharper, (room, once, twice, there), field.reshape(-1))


def room_of(shape: tuple[int, ...], taps: int) -> int:
    """Return how many numbers of room planes of a shape need to be smoothed."""
    planes, rows, columns = shape
    return (columns + ALIGNED) * (3 + (planes + 1) * (rows + taps)) + taps


@filling
def _smooth(values, known, weights, sharper, rooms, field):
    (room, once, twice, there), planes, count = rooms, values.shape[0], known.size
    smooth_planes(values.reshape(-1), count, planes, known, weights, room, once)
    if not sharper > 0.0:
        return
    found = there.reshape(-1)
    for m in range(count):
        found[m] = once[m] == once[m]
    smooth_planes(once, count, planes, there, weights, room, twice)
    for p in range(planes):
        for m in range(count):
            k = p * count + m
            if found[m]:
                field[k] = once[k] + sharper * (once[k] - twice[k])


@shared
def smooth_planes(values, pitch, planes, known, weights, room, out):
    """Fill the weighted mean of the known values, as ``smooth`` does.

    Planes of numbers lie ``pitch`` apart in a row; those of the result may be those of the values. ``room`` has ``room_of`` numbers.
    """
    (rows, columns), radius, taps = known.shape, weights.size // 2, weights.size
    width = -(-columns // ALIGNED) * ALIGNED
    size, line, across = (rows + 2 * radius) * width, 2 * width, 3 * width + 2 * radius
    weight, total, inside = room[:width], room[width:line], room[line + radius : across]
    for k in range(line, across):
        room[k] = 0.0
    for p in range(planes + 1):
        begin = across + p * size
        for k in range(radius * width):
            room[begin + k], room[begin + size - 1 - k] = 0.0, 0.0
        for i in range(rows):
            row = values[p % planes * pitch + i * columns :]
            for j in range(columns):
                inside[j] = (row[j] if p < planes else 1.0) if known[i, j] else 0.0
            add_lines(room, line, 1, weights, taps, room, begin + (radius + i) * width, width)
    for i in range(rows):
        add_lines(room, across + planes * size + i * width, width, weights, taps, room, 0, width)
        for p in range(planes):
            add_lines(room, across + p * size + i * width, width, weights, taps, room, width, width)
            row = out[p * pitch + i * columns :]
            for j in range(columns):
                row[j] = total[j] / weight[j] if weight[j] > 0.0 else np.nan


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
