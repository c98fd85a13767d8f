"""Find vectors that do not agree with their neighbours, within windows of nodes of fixed size.

All functions read one state and write another, so the result does not depend on the order of nodes, and a node
depends on nodes within the window's radius only. Nodes outside the arrays count as not measured.
"""

from __future__ import annotations

import math

import numpy as np

from ftrack.kernels.compiled import filling, inner, shared

LEAST_NEIGHBOURS = 4
"""Fewer measured neighbours than this say nothing about a vector, and a vector that nothing confirms is not kept."""

LEAST_STEPS = 6
"""Fewer steps between neighbouring nodes than this say nothing about the slope of the field."""


@shared
def median(values: np.ndarray, count: int) -> float:
    """Return the median of the first ``count`` values, which are sorted in place; NaN if there are none."""
    if count == 0:
        return np.nan
    for i in range(1, count):
        value, j = values[i], i - 1
        while j >= 0 and values[j] > value:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = value
    middle = count // 2
    return float(values[middle]) if count % 2 else 0.5 * (values[middle - 1] + values[middle])


@shared
def slope(field: np.ndarray, usable: np.ndarray, box: tuple[int, int, int, int], down: int, across: int, scratch: np.ndarray) -> float:
    """Return the median step between neighbouring usable nodes of a window, along y (1, 0) or x (0, 1); 0 if there are few.

    Each blunder makes one step up and one down, so the median step stays that of the field.
    """
    top, bottom, left, right = box
    count = 0
    for y in range(top, bottom - down):
        for x in range(left, right - across):
            if usable[y, x] and usable[y + down, x + across]:
                scratch[count] = field[y + down, x + across] - field[y, x]
                count += 1
    return median(scratch, count) if count >= LEAST_STEPS else 0.0


@shared
def bring(field: np.ndarray, usable: np.ndarray, y: int, x: int, box: tuple[int, int, int, int], implied: np.ndarray) -> int:
    """Write what each usable neighbour implies for a node, given the slope of the field, and return their number.

    Shear is not scatter: the neighbours are brought to the node along the slope. They come in row-major order;
    ``implied`` needs room for twice the nodes of the window.
    """
    none, one = np.int64(0), np.int64(1)
    down, across = slope(field, usable, box, one, none, implied), slope(field, usable, box, none, one, implied)
    top, bottom, left, right = box
    count = 0
    for row in range(top, bottom):
        for column in range(left, right):
            if usable[row, column] and not (row == y and column == x):
                implied[count] = field[row, column] - down * (row - y) - across * (column - x)
                count += 1
    return count


@shared
def centre_of(values: np.ndarray, count: int) -> tuple[float, float]:
    """Return the median of the first ``count`` values, which are sorted in place, and the median absolute deviation from it."""
    middle = median(values, count)
    low, high = (count - 1) // 2, count // 2
    low -= low == high
    last = before = 0.0
    # Seen from the median the sorted values rise on both sides, so deviations are met in order by merging the sides.
    for _ in range(count // 2 + 1):
        before = last
        if high >= count or (low >= 0 and middle - values[low] <= values[high] - middle):
            last = middle - values[low]
            low -= 1
        else:
            last = values[high] - middle
            high += 1
    return middle, last if count % 2 else 0.5 * (before + last)


@inner
def window(shape: tuple[int, int], y: int, x: int, radius: int) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right of a window of nodes, cut at the edges."""
    return max(0, y - radius), min(shape[0], y + radius + 1), max(0, x - radius), min(shape[1], x + radius + 1)


@inner
def _passes(
    vectors: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    usable: np.ndarray,
    node: tuple[int, int],
    box: tuple[int, int, int, int],
    limits: tuple[float, float, float, float],
    implied: tuple[np.ndarray, np.ndarray],
) -> bool:
    """Tell whether the vector of one node passes both tests of ``judge``."""
    y, x = node
    tolerance, share, noise, threshold = limits
    dx, dy = vectors[0][y, x], vectors[1][y, x]
    count = bring(vectors[0], usable, y, x, box, implied[0])
    bring(vectors[1], usable, y, x, box, implied[1])
    alike = 0
    for i in range(count):
        alike += abs(implied[0][i] - dx) <= tolerance and abs(implied[1][i] - dy) <= tolerance
    if count < LEAST_NEIGHBOURS or (share > 0.0 and alike < max(float(LEAST_NEIGHBOURS), share * count)):
        return False
    if threshold <= 0.0:
        return True
    total = 0.0
    for part in range(2):
        middle, spread = centre_of(implied[part], count)
        value, error = vectors[part][y, x], vectors[part + 2][y, x]
        own = error if math.isfinite(error) else 0.0
        total += ((value - middle) / (spread + math.sqrt(noise * noise + own * own))) ** 2
    return total <= threshold * threshold


def judge(
    vectors: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    usable: np.ndarray,
    changed: np.ndarray,
    radius: int,
    limits: tuple[float, float, float, float],
    kept: np.ndarray,
) -> None:
    """Keep the vectors that agree with their neighbours.

    Two tests, both with the slope of the field removed. *Coherence* (autoRIFT's normalised displacement coherence, in
    pixels): enough measured neighbours are alike. *Normalised median* (Westerweel & Scarano 2005, eq. 2 to 4): the
    deviation from the neighbours' median, over their median deviation plus the noise, both components together,
    is small.

    Parameters
    ----------
    vectors : four float32 (y, x)
        dx, dy and their errors, px.
    usable, changed : bool (y, x)
        Nodes with a vector; nodes that lost theirs in the last pass (all, if there was none). A node without such a
        node in its window is judged as before.
    radius : int
        Radius of the window, nodes.
    limits : four floats
        Tolerance of the coherence, px, and least share of neighbours within it (0 = no test); noise that is always
        allowed for (the paper's epsilon, to which the vector's own error is added in quadrature), px, and largest
        normalised deviation (0 = no test).
    kept : bool (y, x)
        Receives the nodes that pass.
    """
    size = 2 * (2 * radius + 1) * (2 * radius + 1)
    _judge(vectors, usable, changed, radius, limits, (np.empty(size), np.empty(size)), kept)


@filling
def _judge(vectors, usable, changed, radius, limits, implied, kept):
    for y in range(usable.shape[0]):
        for x in range(usable.shape[1]):
            kept[y, x] = usable[y, x]
            if not usable[y, x]:
                continue
            box = window(usable.shape, y, x, radius)
            near = False
            for row in range(box[0], box[1]):
                for column in range(box[2], box[3]):
                    near |= changed[row, column]
            if near:
                kept[y, x] = _passes(vectors, usable, (y, x), box, limits, implied)


@filling
def find_uncertain(errors: np.ndarray, usable: np.ndarray, radius: int, share: float, ratio: float, uncertain: np.ndarray) -> None:
    """Find nodes that are much less certain than the better ones around them: their chip straddles ground that has changed.

    Parameters
    ----------
    errors : float64 (row, column)
        Estimated error of the vectors, px.
    usable : bool (row, column)
        Nodes with a vector.
    radius : int
        Reach of the window of neighbours, nodes.
    share : float
        Which of the neighbours' errors, from the smallest (0) to the largest (1), a node is compared with.
    ratio : float
        How much larger its own error may be.
    uncertain : bool (row, column)
        Result.
    """
    rows, columns = usable.shape
    for i in range(rows):
        for j in range(columns):
            uncertain[i, j] = False
            if not usable[i, j]:
                continue
            limit = errors[i, j] / ratio
            there, below = 0, 0
            for v in range(max(0, i - radius), min(rows, i + radius + 1)):
                for u in range(max(0, j - radius), min(columns, j + radius + 1)):
                    if usable[v, u]:
                        there += 1
                        if errors[v, u] < limit:
                            below += 1
            uncertain[i, j] = below > share * there
