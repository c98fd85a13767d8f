"""Which chip of a node is certain, and the displacement of every node below one pixel."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.certain import AMBIGUOUS, MEASURED, agree, judge_peak
from ftrack.kernels.compiled import filling, inner, shared
from ftrack.kernels.normal import PLANES, N
from ftrack.kernels.planes import ALIGNED, LANES, add_lines, each
from ftrack.kernels.solve import BLOCK, CENTRE, FEWER, FOUND, KNOWN, SOLVED, look_at_blocks, solve_chips

NO_DATA, NO_TEXTURE, DIVERGED, ERROR_TOO_LARGE, NOT_COMPUTED = 2, 4, 8, 9, 255
"""Further codes of ``ftrack.schema.Status``; see ``ftrack.kernels.certain``."""

REACH = 3.0
"""Farthest that a solution may lie from the peak, px: where a chip is sheared, the peak follows its brightest part."""

NEAR, ERRORS = 1.0, 4.0
"""A solution within this many pixels, and this many of its errors, of the peak needs no further proof."""

BETTER = 1.25
"""A solution farther away must lower the variance left unexplained by this factor."""

SLACK = 0.05
"""Share of the variance that interpolation itself may leave unexplained."""

STEP = 0.75
"""A node that is solved with its neighbours lies this near to their field, px."""


@filling
def judge_chips(valid, flat, peaks, quality, limits, whole, status, settled):
    """Say of every chip whether its peak can be trusted, or why not.

    Where a chip is certain and the next larger confirms it, that one needs no peak ratio of its own, and those beyond are not looked at.

    Parameters
    ----------
    valid, flat : (chip, row, column)
        See ``ftrack.kernels.layout.Peaks``; chips ascending.
    peaks : (peak, dy, dx)
        The peaks and where they are, px, (chip, row, column).
    quality : (ratio, bounded)
        Peak ratio and bound of the peaks. A chip that confirms a smaller one is given the ratio of that.
    limits : (min_valid, min_correlation, min_peak_ratio)
        Limits of a measurement.
    whole : bool (row, column)
        Nodes of which all chips are looked at nonetheless.
    status : uint8 (chip, row, column)
        Result: ``MEASURED``, the reason why not, or ``NOT_COMPUTED``.
    settled : int8 (row, column)
        Result: the chip that is certain and confirmed where others were not looked at, else as many as there are.
    """
    peak, dy, dx = peaks
    ratio, bounded = quality
    chips, rows, columns = status.shape
    for i in range(rows):
        for j in range(columns):
            last, settled[i, j] = chips - 1, chips
            for c in range(chips):
                if c > last:
                    said = NOT_COMPUTED
                elif valid[c, i, j] < limits[0]:
                    said = NO_DATA
                elif flat[c, i, j]:
                    said = NO_TEXTURE
                elif np.isnan(peak[c, i, j]):
                    said = NO_DATA
                else:
                    said = judge_peak(peak[c, i, j], ratio[c, i, j], bounded[c, i, j], limits[1:])
                if said == MEASURED and c < last and not np.isnan(peak[c + 1, i, j]):
                    if not agree(dy[c, i, j] - dy[c + 1, i, j], dx[c, i, j] - dx[c + 1, i, j]):
                        said = AMBIGUOUS
                    elif not whole[i, j]:
                        last, settled[i, j], ratio[c + 1, i, j] = c + 1, c, ratio[c, i, j]
                status[c, i, j] = said


@shared
def fit_axis(before: float, centre: float, after: float, gaussian: bool, pixels: float) -> tuple[float, float]:
    """Fit a parabola, or through logarithms a Gaussian, to three coefficients.

    Returns the offset from the middle one and its one-sigma error, px, which follows from the curvature of the peak and
    the noise that a coefficient below one implies; NaN where there is no maximum.
    """
    b, c, a = np.float64(before), np.float64(centre), np.float64(after)
    curvature = 2.0 * c - b - a
    if not (curvature > 0.0 and c > 0.0):
        return np.nan, np.nan
    noise = np.sqrt(max(0.0, 1.0 - c * c) / (c * curvature * pixels))
    if gaussian and b > 0.0 and a > 0.0:
        b, c, a = np.log(b), np.log(c), np.log(a)
        if 2.0 * c - a - b > 0.0:
            return 0.5 * (a - b) / (2.0 * c - a - b), noise
    return 0.5 * (a - b) / curvature, noise


@filling
def fit_peaks(around, offset, pixels, gaussian, max_error, status, chosen, found):
    """Fit the peak of the smallest chip that is certain, at every node.

    Parameters
    ----------
    around : float32 (chip, row, column, 3, 3)
        Coefficients around the peaks.
    offset : (dy, dx)
        Where the peaks are, px, (chip, row, column).
    pixels : float64 (chip, row, column)
        Valid pixels of the chips.
    gaussian : bool
        Fit a Gaussian, not a parabola.
    max_error : float
        Largest estimated error, px; chips whose fit is worse get the status ``ERROR_TOO_LARGE``.
    status : uint8 (chip, row, column)
        From ``judge_chips``; changed.
    chosen : int8 (row, column)
        Result: the chip, -1 where there is none.
    found : float64 (4, row, column)
        Result: dx, dy and their one-sigma errors, px.
    """
    dy, dx = offset
    for i in range(chosen.shape[0]):
        for j in range(chosen.shape[1]):
            chosen[i, j] = -1
            for p in range(4):
                found[p, i, j] = np.nan
            for c in range(status.shape[0]):
                if status[c, i, j] != MEASURED:
                    continue
                near = around[c, i, j]
                x, x_error = fit_axis(near[1, 0], near[1, 1], near[1, 2], gaussian, pixels[c, i, j])
                y, y_error = fit_axis(near[0, 1], near[1, 1], near[2, 1], gaussian, pixels[c, i, j])
                if not (abs(x) <= 1.0 and abs(y) <= 1.0):
                    status[c, i, j] = DIVERGED
                elif not (x_error <= max_error and y_error <= max_error):
                    status[c, i, j] = ERROR_TOO_LARGE
                else:
                    chosen[i, j] = c
                    found[0, i, j], found[1, i, j] = dx[c, i, j] + x, dy[c, i, j] + y
                    found[2, i, j], found[3, i, j] = x_error, y_error
                    break


@shared
def explains(correlation: float, peak: float, far: bool) -> bool:
    """Say whether a solution explains the chip well enough; one that is far from the whole-pixel peak must do so better than the peak."""
    left, left_before = 1.0 - correlation * correlation, 1.0 - peak * peak
    return left_before >= BETTER * left if far else left <= BETTER * left_before + SLACK


@inner
def _trust(known, k, peak, y, x, least, max_error):
    """Say whether the solution of a chip belongs to its peak, or why not."""
    dx, dy = known[FOUND, k], known[FOUND + 1, k]
    moved = max(abs(dx - known[CENTRE, k]), abs(dy - known[CENTRE + 1, k]))
    if not (known[SOLVED, k] > 0.0 and known[N, k] >= least and moved <= STEP):
        return DIVERGED
    x_error, y_error, distance = known[FOUND + 2, k], known[FOUND + 3, k], max(abs(dx - x), abs(dy - y))
    if not (distance <= REACH and explains(known[FOUND + 4, k], peak, distance > NEAR + ERRORS * max(x_error, y_error))):
        return DIVERGED
    return MEASURED if x_error <= max_error and y_error <= max_error else ERROR_TOO_LARGE


def solve_nodes(
    sums: np.ndarray,
    blocks: tuple[int, int, np.ndarray, np.ndarray],
    near: tuple[np.ndarray, np.ndarray],
    peaks: tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray],
    limits: tuple[float, float, float],
    status: np.ndarray,
    chosen: np.ndarray,
    together: np.ndarray,
    found: np.ndarray,
) -> None:
    """Solve every node by the sums of its blocks.

    A peak that is ambiguous by itself is taken where it lies on the field that its neighbours give.

    Parameters
    ----------
    sums : float64 (block row, block column, PLANES)
        From ``ftrack.kernels.normal.sum_blocks``; ``ALIGNED`` numbers behind the last are read.
    blocks : (side, step, counts, starts)
        See ``ftrack.kernels.layout.Layout``.
    near : float64 (2, row, column), (2, row, column)
        Displacement (dx, dy) at the nodes along which the secondary was drawn back, px; NaN where nothing is known. And an earlier
        solution from which this one must not differ, NaN where there is none.
    peaks : (at, peak, dy, dx)
        Row and column of the first node among those of the peaks; these, of every chip (chip, row, column).
    limits : (least share of pixels, largest error, largest difference)
        Limits of a solution.
    status : uint8 (chip, row, column)
        What is known of the chips, as many as peaks; changed where a solution fails.
    chosen : int8 (row, column)
        The chip to begin with, as many as peaks, -1 = none; changed to the chip that was solved, or -1.
    together : bool (row, column)
        Result: the node was solved.
    found : float64 (fields, row, column)
        Result; see ``ftrack.kernels.solve``.
    """
    columns, width = together.shape[1], sums.shape[1] * PLANES + ALIGNED
    known = np.empty((KNOWN, -(-columns // LANES) * LANES))
    rooms = np.ones(int(blocks[2].max())), np.empty((2, width)), known, np.empty(columns, np.int64)
    _solve_nodes(sums, blocks, near, peaks, limits, rooms, status, chosen, together, found)


_solve, _look = each(solve_chips), each(look_at_blocks)


@filling
def _solve_nodes(sums, blocks, near, peaks, limits, rooms, status, chosen, together, found):
    (side, step, counts, starts), (ones, lines, known, nodes), closely = blocks, rooms, found.shape[0] > FEWER
    (rows, columns), width, pitch, field = together.shape, sums.shape[1] * PLANES, known.shape[1], near[0]
    (top, left), peak, dy, dx = peaks
    for i in range(rows):
        for j in range(columns):
            together[i, j] = False
            for p in range(found.shape[0]):
                found[p, i, j] = np.nan
        for c in range(counts.size):
            count = _choose(c, i, field, peaks, status, chosen, together, nodes)
            if count == 0:
                continue
            first, size, middle = starts[c], side * counts[c], starts[c] + counts[c] // 2
            add_lines(sums.reshape(-1), (first + i * step) * width, width, ones, counts[c], lines[0], 0, width)
            add_lines(lines[0], first * PLANES, PLANES, ones, counts[c], lines[1], 0, ((columns - 1) * step + 1) * PLANES)
            for k in range(count):
                j = nodes[k]
                total, block = lines[1, j * step * PLANES :], sums[middle + i * step, middle + j * step]
                for p in range(PLANES):
                    known[p, k] = total[p]
                    if closely:
                        known[BLOCK + p, k] = block[p]
                known[CENTRE, k], known[CENTRE + 1, k] = field[0, i, j], field[1, i, j]
            _solve(known.reshape(-1), pitch, count, ())
            if closely:
                _look(known.reshape(-1), pitch, count, ())
            for k in range(count):
                j = nodes[k]
                v, u = top + i, left + j
                said = _trust(known, k, peak[c, v, u], dy[c, v, u], dx[c, v, u], limits[0] * size * size, limits[1])
                status[c, v, u] = said
                if said == MEASURED:
                    together[i, j], chosen[v, u] = True, c
                    for p in range(found.shape[0]):
                        found[p, i, j] = known[FOUND + p, k]
        for j in range(columns):
            c = chosen[top + i, left + j]
            differs = abs(found[0, i, j] - near[1][0, i, j]) > limits[2] or abs(found[1, i, j] - near[1][1, i, j]) > limits[2]
            if together[i, j] and differs:
                together[i, j], status[c, top + i, left + j], status[-1, top + i, left + j] = False, DIVERGED, DIVERGED
            if not together[i, j]:
                chosen[top + i, left + j] = -1


@inner
def _choose(chip, row, field, peaks, status, chosen, together, nodes):
    """Fill the nodes of a row whose chip of one size is to be solved, and return how many they are."""
    (top, left), _, dy, dx = peaks
    count, v = 0, top + row
    for j in range(together.shape[1]):
        u = left + j
        near = abs(dx[chip, v, u] - field[0, row, j]) <= NEAR and abs(dy[chip, v, u] - field[1, row, j]) <= NEAR
        said = status[chip, v, u]
        if chip >= chosen[v, u] and not together[row, j] and (said == MEASURED or (said == AMBIGUOUS and near)):
            nodes[count] = j
            count += 1
    return count


@filling
def put_together(found, quality, sizes, most, margin, status, chosen, out):
    """Put the measurements together, those of the largest chip that is judged say why there is none.

    Parameters
    ----------
    found : float64 (4, row, column)
        dx, dy and their one-sigma errors, px.
    quality : (peak, ratio)
        Of every chip, (chip, row, column).
    sizes : int64 (chip,)
        Sides of the chips, px.
    most : float
        Largest error, px.
    margin : int
        Nodes on every side that are left out.
    status, chosen : uint8 (chip, row, column), int8 (row, column)
        What is known of the chips, and the one that was taken, -1 = none.
    out : float32 (8, row, column)
        Result, in the order of ``ftrack.schema.MOTION``.
    """
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            v, u = margin + i, margin + j
            c, why = chosen[v, u], status[0, v, u]
            if c >= 0 and max(found[2, v, u], found[3, v, u]) > most:
                c, why = -1, ERROR_TOO_LARGE
            elif c >= 0:
                why = MEASURED
            else:
                for larger in range(1, sizes.size):
                    if status[larger, v, u] != NOT_COMPUTED:
                        why = status[larger, v, u]
            for d in range(2):
                out[d, i, j] = found[d, v, u] if c >= 0 else np.nan
                out[4 + d, i, j] = found[2 + d, v, u] if c >= 0 else np.nan
                out[2 + d, i, j] = quality[d][c, v, u] if c >= 0 else np.nan
            out[6, i, j], out[7, i, j] = sizes[c] if c >= 0 else 0, why
