"""All offsets of all chips of a tile: products of blocks, sums of blocks into chips, normalisation, peak."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from ftrack.kernels.products import GROUP, LANES, WIDEST, block_products

QUANTUM = np.float32(32000.0)
"""Steps of the stored surface per unit of correlation."""

NONE = np.int16(-32768)
"""Stored where an offset has no coefficient."""

PANEL = 24
"""Node columns that are worked on together, so that their sums stay in the processor's cache."""

FLAT = 1e-6
"""Texture is missing where the standard deviation is below this share of the brightness."""

PLANES = 6
"""Sums that a chip with gaps needs (Padfield 2012): products, valid pairs, first and second moments of both images."""


def scan(
    gappy: bool,
    images: Any,
    mean: np.ndarray,
    block_sums: np.ndarray,
    statistics: Any,
    wanted: np.ndarray,
    layout: Any,
    min_valid: float,
    out: Any,
) -> None:
    """Fill the surfaces and peaks of the wanted chips (chip, row, column); see ``ftrack.kernels.correlate``."""
    needed = np.zeros(layout.shape, np.bool_)
    _mark_needed(wanted, layout.counts, layout.starts, layout.step, needed)
    rings = np.zeros((len(layout.counts), 2, 10), np.int64)
    for c, count in enumerate(layout.counts):
        rings[c] = _ring_plan(int(count))
    geometry = (layout.side, layout.step, layout.radius, layout.counts.astype(np.int64), layout.starts.astype(np.int64), rings)
    for first in range(0, layout.columns, PANEL):
        last = min(first + PANEL, layout.columns)
        if wanted[:, :, first:last].any():
            _scan_panel(gappy, images, mean, block_sums, statistics, wanted, needed, geometry, first, last, min_valid, tuple(out[:4]))


def _ring_plan(count: int) -> np.ndarray:
    """Return, for each doubling level, how many rows are remembered and where the level enters the sum of ``count`` rows (-1: not)."""
    plan = np.zeros((2, 10), np.int64)
    plan[1] = -1
    taken = 0
    for p in reversed(range(count.bit_length())):
        plan[0, p] = 2**p
        if count >> p & 1:
            plan[0, p] = max(2**p, taken + 1)
            plan[1, p] = taken
            taken += 2**p
    return plan


@njit(nogil=True, cache=True, error_model="numpy")
def _mark_needed(wanted: np.ndarray, counts: np.ndarray, starts: np.ndarray, step: int, needed: np.ndarray) -> None:
    for c in range(wanted.shape[0]):
        for i in range(wanted.shape[1]):
            for j in range(wanted.shape[2]):
                if wanted[c, i, j]:
                    y, x = starts[c] + i * step, starts[c] + j * step
                    for v in range(y, y + counts[c]):
                        for u in range(x, x + counts[c]):
                            needed[v, u] = True


@njit(nogil=True, cache=True, error_model="numpy")
def _scan_panel(gappy, images, mean, block_sums, statistics, wanted, needed, geometry, first, last, min_valid, out):
    """Work through all offsets of the node columns ``first`` to ``last``, a few rows of offsets at a time."""
    side, step, radius, counts, starts, rings = geometry
    n_chips, columns, most = counts.size, last - first, counts[-1]
    blocks, block0 = (columns - 1) * step + most, first * step
    width = 2 * radius + 1
    panels = (width + WIDEST - 1) // WIDEST
    vectors = ((width + panels - 1) // panels + LANES - 1) // LANES
    reach = vectors * LANES
    line = reach * GROUP * (PLANES if gappy else 1)
    levels = 0
    while 2**levels <= most:
        levels += 1
    across, fresh = np.zeros((levels, blocks * line)), np.zeros((levels, columns * line))
    ring_at = np.zeros((n_chips, levels), np.int64)
    kept = 0
    for c in range(n_chips):
        for p in range(levels):
            ring_at[c, p] = kept
            kept += rings[c, 0, p]
    ring = np.zeros((kept, columns * line))
    block, window, sums = (
        np.zeros((3, side * side), np.float32),
        np.zeros((3, (side + GROUP) * (side + reach + LANES)), np.float32),
        np.zeros(GROUP * reach, np.float32),
    )
    for dy0 in range(0, width, GROUP):
        for dx0 in range(0, width, reach):
            for i in range(needed.shape[0]):
                if not _any(needed[i, block0 : block0 + blocks]):
                    continue
                for j in range(blocks):
                    if not needed[i, block0 + j]:
                        continue
                    at = (i, block0 + j, side, dy0, dx0, vectors, radius)
                    target = across[0, j * line : (j + 1) * line]
                    if gappy:
                        _gappy_block(images, mean, at, block, window, sums, target)
                    else:
                        _whole_block(images, mean, block_sums, at, block, window, sums, target)
                _double_across(across, blocks, line)
                for c in range(n_chips):
                    _gather(across, counts[c], starts[c], step, line, fresh[0])
                    top = _push_row(fresh, ring, ring_at[c], rings[c], i)
                    above = i + 1 - counts[c] - starts[c]
                    if above < 0 or above % step != 0 or above // step >= wanted.shape[1]:
                        continue
                    node = above // step
                    if gappy:
                        _score_gappy(
                            top, counts[c] * side, wanted[c, node], (first, last), (dy0, dx0, width, reach), min_valid, (c, node), out
                        )
                    else:
                        corner = ((starts[c] + node * step) * side, starts[c] * side, step * side)
                        _score_whole(top, statistics, wanted[c, node], (first, last), (dy0, dx0, width, reach), corner, (c, node), out)


@njit(nogil=True, cache=True, error_model="numpy")
def _whole_block(images, mean, block_sums, at, block, window, sums, out):
    """Sum the products of one block at ``GROUP`` rows of offsets, and put the block's mean back."""
    r, s = images[0], images[1]
    i, j, side, dy0, dx0, vectors, radius = at
    reach = vectors * LANES
    y0, x0, across = i * side + dy0, j * side + dx0, side + reach
    level = np.float32(block_sums[i * side + radius, j * side + radius] / (side * side))
    shifted, pixels = window[0], block[0]
    for y in range(side + GROUP - 1):
        source, target = s[y0 + y, x0 : x0 + across], shifted[y * across : (y + 1) * across]
        for x in range(across):
            target[x] = source[x] - level
    for y in range(side):
        _copy(r[i * side + y, j * side : (j + 1) * side], pixels[y * side : (y + 1) * side])
    block_products(pixels, 0, side, shifted, 0, across, side, vectors, sums)
    m = mean[i, j]
    for g in range(GROUP):
        target64, box, product = out[g * reach : (g + 1) * reach], block_sums[y0 + g, x0 : x0 + reach], sums[g * reach : (g + 1) * reach]
        for d in range(reach):
            target64[d] = product[d] + m * box[d]


@njit(nogil=True, cache=True, error_model="numpy")
def _gappy_block(images, mean, at, block, window, sums, out):
    """Sum the six planes of one block; both images are centred first, and put back in double precision."""
    r, s, r_valid, s_valid = images
    i, j, side, dy0, dx0, vectors, radius = at
    reach = vectors * LANES
    across = side + reach
    level = _window_mean(s, s_valid, i * side, j * side, side + 2 * radius)
    shifted, squared, present = window[0], window[1], window[2]
    for y in range(side + GROUP - 1):
        for x in range(across):
            valid = s_valid[i * side + dy0 + y, j * side + dx0 + x]
            value = np.float32(s[i * side + dy0 + y, j * side + dx0 + x] - level) if valid else np.float32(0)
            shifted[y * across + x] = value
            squared[y * across + x] = value * value
            present[y * across + x] = np.float32(1) if valid else np.float32(0)
    for y in range(side):
        for x in range(side):
            value = r[i * side + y, j * side + x]
            block[0, y * side + x] = value
            block[1, y * side + x] = value * value
            block[2, y * side + x] = np.float32(1) if r_valid[i * side + y, j * side + x] else np.float32(0)
    planes = ((0, 0), (2, 2), (0, 2), (1, 2), (2, 0), (2, 1))
    for p in range(PLANES):
        which, other = planes[p]
        block_products(block[which], 0, side, window[other], 0, across, side, vectors, sums)
        _copy(sums, out[p * GROUP * reach : (p + 1) * GROUP * reach])
    _put_back(out, GROUP * reach, mean[i, j], level)


@njit(nogil=True, cache=True, error_model="numpy")
def _window_mean(s: np.ndarray, valid: np.ndarray, y0: int, x0: int, size: int) -> float:
    total, count = 0.0, 0
    for y in range(y0, y0 + size):
        for x in range(x0, x0 + size):
            if valid[y, x]:
                total += s[y, x]
                count += 1
    return total / count if count else 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def _put_back(out: np.ndarray, n: int, a: float, b: float) -> None:
    """Turn the six sums of centred values into those of the values themselves; ``a`` and ``b`` are what was taken out."""
    rs, both, rm, rrm, ms, mss = out[:n], out[n : 2 * n], out[2 * n : 3 * n], out[3 * n : 4 * n], out[4 * n : 5 * n], out[5 * n : 6 * n]
    for d in range(n):
        rs[d] += a * ms[d] + b * rm[d] + a * b * both[d]
        rrm[d] += 2.0 * a * rm[d] + a * a * both[d]
        rm[d] += a * both[d]
        mss[d] += 2.0 * b * ms[d] + b * b * both[d]
        ms[d] += b * both[d]


@njit(nogil=True, cache=True, error_model="numpy")
def _copy(a: np.ndarray, out: np.ndarray) -> None:
    for d in range(out.size):
        out[d] = a[d]


@njit(nogil=True, cache=True, error_model="numpy")
def _any(flags: np.ndarray) -> bool:
    found = False
    for flag in flags:
        found |= flag
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _add(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    for d in range(out.size):
        out[d] = a[d] + b[d]


@njit(nogil=True, cache=True, error_model="numpy")
def _double_across(across: np.ndarray, blocks: int, line: int) -> None:
    """Sum 2, 4, 8, ... neighbouring blocks along x."""
    for p in range(1, across.shape[0]):
        half = 2 ** (p - 1)
        n = (blocks - 2 * half + 1) * line
        _add(across[p - 1, :n], across[p - 1, half * line : half * line + n], across[p, :n])


@njit(nogil=True, cache=True, error_model="numpy")
def _gather(across: np.ndarray, count: int, start: int, step: int, line: int, out: np.ndarray) -> None:
    """Put together the sums of ``count`` blocks along x that begin at each node column's chip."""
    columns = out.size // line
    at, first = start, True
    for p in range(across.shape[0] - 1, -1, -1):
        if not count >> p & 1:
            continue
        for v in range(columns if step > 1 else 1):
            n = line if step > 1 else out.size
            source, target = across[p, (at + v * step) * line : (at + v * step) * line + n], out[v * line : v * line + n]
            if first:
                _copy(source, target)
            else:
                _add(target, source, target)
        first = False
        at += 2**p


@njit(nogil=True, cache=True, error_model="numpy")
def _push_row(fresh, ring, ring_at, plan, i):
    """Take in one row of blocks and return the sums of the last ``count`` rows, by doubling along y."""
    top = 0
    while plan[0, top + 1] > 0:
        top += 1
    for p in range(top):
        size = plan[0, p]
        _add(fresh[p], ring[ring_at[p] + (i - 2**p) % size], fresh[p + 1])
        _copy(fresh[p], ring[ring_at[p] + i % size])
    for p in range(top):
        if plan[1, p] >= 0:
            _add(fresh[top], ring[ring_at[p] + (i - plan[1, p]) % plan[0, p]], fresh[top])
    return fresh[top]


@njit(nogil=True, cache=True, error_model="numpy")
def _score_whole(sums, statistics, wanted, span, offsets, corner, where, out):
    """Normalise the sums of one row of nodes and keep the highest coefficient of each."""
    dy0, dx0, width, reach = offsets
    s_sums, s_inverse, norm = statistics
    c, node = where
    top, left, step = corner
    end = min(reach, width - dx0)
    scores = np.empty(reach, np.float32)[:end]
    for column in range(span[0], span[1]):
        if not wanted[column]:
            continue
        mean, scale = norm[0, c, node, column], np.float32(norm[1, c, node, column])
        x = left + column * step + dx0
        for g in range(min(GROUP, width - dy0)):
            at = ((column - span[0]) * GROUP + g) * reach
            y = top + dy0 + g
            best = _normalise(sums[at : at + end], s_sums[c, y, x : x + end], s_inverse[c, y, x : x + end], mean, scale, scores)
            _keep(scores, best, dy0 + g, dx0, (c, node, column), out)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"nnan", "ninf", "nsz"})
def _normalise(line, box, inverse, mean, scale, scores):
    best = np.float32(-2.0)
    for d in range(scores.size):
        score = np.float32(line[d] - mean * box[d]) * inverse[d] * scale
        scores[d] = score
        best = max(best, score)
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def _score_gappy(sums, size, wanted, span, offsets, min_valid, where, out):
    """Normalise with the moments of the pixels that both images have (Padfield 2012, eq. 27)."""
    dy0, dx0, width, reach = offsets
    c, node = where
    end = min(reach, width - dx0)
    scores = np.empty(reach, np.float32)[:end]
    plane = GROUP * reach
    for column in range(span[0], span[1]):
        if not wanted[column]:
            continue
        for g in range(min(GROUP, width - dy0)):
            at = (column - span[0]) * PLANES * plane + g * reach
            best = np.float32(-2.0)
            for d in range(end):
                k = at + d
                n = sums[k + plane]
                scores[d] = np.nan
                if n < min_valid * size * size:
                    continue
                rm, rrm, ms, mss = sums[k + 2 * plane], sums[k + 3 * plane], sums[k + 4 * plane], sums[k + 5 * plane]
                r_spread, s_spread = rrm - rm * rm / n, mss - ms * ms / n
                if r_spread > FLAT * FLAT * rrm and s_spread > FLAT * FLAT * mss:
                    scores[d] = np.float32((sums[k] - rm * ms / n) / np.sqrt(r_spread * s_spread))
                    best = max(best, scores[d])
            _keep(scores, best, dy0 + g, dx0, (c, node, column), out)


@njit(nogil=True, cache=True, error_model="numpy")
def _keep(scores, best, dy, dx0, where, out):
    """Store a row of coefficients; the peak is the highest, in ties the first in row-major order."""
    values, peak, peak_dy, peak_dx = out
    c, i, j = where
    row = values[c, i, j, dy, dx0 : dx0 + scores.size]
    for d in range(scores.size):
        score = scores[d]
        row[d] = np.int16(score * QUANTUM) if score == score else NONE
    before = peak[c, i, j]
    if best < before or best == np.float32(-2.0):
        return
    d = 0
    while scores[d] != best:
        d += 1
    if best == before and (peak_dy[c, i, j], peak_dx[c, i, j]) < (dy, dx0 + d):
        return
    peak[c, i, j], peak_dy[c, i, j], peak_dx[c, i, j] = best, dy, dx0 + d
