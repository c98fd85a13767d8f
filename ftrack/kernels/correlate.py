"""The exact zero-normalised correlation surface of every chip, from products that all chips share.

For one offset the two images are multiplied once and summed over small square blocks; chips of every size
and node are then sums of blocks. All sums run in an order that depends on the node alone, so the result does
not depend on the tile. Block means are taken out of the reference before single-precision products are
formed and put back in double precision, so a large mean brightness costs no accuracy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from ftrack.kernels.layout import Layout as Layout
from ftrack.kernels.layout import lay_out as lay_out
from ftrack.kernels.products import GROUP, LANES, WIDEST
from ftrack.kernels.scan import FLAT, NONE, scan


class Surfaces(NamedTuple):
    """Correlation of every chip size ``c`` and node ``(i, j)`` at every offset, and its peak.

    ``values[c, i, j, dy, dx]`` is the coefficient times ``QUANTUM``, with the lowest int16 where there is none;
    ``peak`` is the exact coefficient at ``(peak_dy, peak_dx)``, NaN where the chip has no surface; ``valid`` is
    the share of valid pixels in the chip, ``flat`` says that it has no texture.
    """

    values: np.ndarray
    peak: np.ndarray
    peak_dy: np.ndarray
    peak_dx: np.ndarray
    valid: np.ndarray
    flat: np.ndarray


def pad_for(layout: Layout) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the shapes, in px, that the padded reference and secondary must have.

    The reference begins at the corner of the first node's largest chip, the secondary one search radius before it.
    Beyond what is searched the secondary carries a margin that vectors may read but that is never used.
    """
    ny, nx = layout.shape[0] * layout.side, layout.shape[1] * layout.side
    grow = 2 * layout.radius
    return (ny, nx), (ny + grow + GROUP, nx + grow + WIDEST + LANES)


def correlate(reference: np.ndarray, secondary: np.ndarray, layout: Layout, min_valid: float, wanted: np.ndarray | None = None) -> Surfaces:
    """Correlate every chip with its search window.

    Parameters
    ----------
    reference, secondary : float32 (y, x)
        Images of the shapes that ``pad_for`` gives; NaN = no data.
    layout : Layout
        Nodes, chips and offsets.
    min_valid : float
        Least share of valid pixels in a chip, and of valid pairs at an offset.
    wanted : bool (row, column), optional
        Nodes to work on; the others keep no surface.
    """
    shape = (len(layout.counts), layout.rows, layout.columns)
    width = 2 * layout.radius + 1
    r_valid, s_valid = np.isfinite(reference), np.isfinite(secondary)
    r, s = np.where(r_valid, reference, np.float32(0)), np.where(s_valid, secondary, np.float32(0))
    n, mean, spread, top = _block_moments(r, r_valid, layout.side)
    moments = [_chip_moments(n, mean, spread, top, a, k, layout.step, shape[1:]) for a, k in zip(layout.starts, layout.counts, strict=True)]
    pixels, chip_mean, variance, largest = (np.stack(part) for part in zip(*moments, strict=True))
    side = (layout.counts * layout.side)[:, None, None]
    out = Surfaces(
        np.full((*shape, width, width), NONE),
        np.full(shape, np.nan, np.float32),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int32),
        (pixels / side**2).astype(np.float32),
        ~(np.sqrt(variance) > FLAT * largest),
    )
    usable = (pixels >= min_valid * side**2) & ~out.flat & (True if wanted is None else wanted)
    gaps = _find_gaps(r_valid, s_valid, layout)
    norm = np.stack([chip_mean, 1.0 / np.sqrt(np.maximum(pixels * variance, 1e-300))])
    centred = _centre_blocks(r, r_valid, mean, layout.side)
    if (usable & ~gaps).any():
        sums, inverse = _statistics(s, layout)
        scan(
            False,
            (centred, s, r_valid, s_valid),
            mean,
            _box_sums(s, layout.side),
            (sums, inverse, norm),
            usable & ~gaps,
            layout,
            min_valid,
            out,
        )
    if (usable & gaps).any():
        none = (np.zeros((1, 1, 1)), np.zeros((1, 1, 1), np.float32), norm)
        scan(True, (centred, s, r_valid, s_valid), mean, np.zeros((1, 1)), none, usable & gaps, layout, min_valid, out)
    return out


def _find_gaps(r_valid: np.ndarray, s_valid: np.ndarray, layout: Layout) -> np.ndarray:
    """Return where a chip, or the search window around it, has any invalid pixel: bool (chip, row, column)."""
    gaps = np.zeros((len(layout.counts), layout.rows, layout.columns), np.bool_)
    if r_valid.all() and s_valid.all():
        return gaps
    r_sum, s_sum = _summed(~r_valid), _summed(~s_valid)
    for c, (count, start) in enumerate(zip(layout.counts, layout.starts, strict=True)):
        at = [(start + layout.step * np.arange(n)) * layout.side for n in (layout.rows, layout.columns)]
        size = int(count) * layout.side
        gaps[c] = (_boxes(r_sum, at, size) > 0) | (_boxes(s_sum, at, size + 2 * layout.radius) > 0)
    return gaps


def _summed(flags: np.ndarray) -> np.ndarray:
    total = np.zeros((flags.shape[0] + 1, flags.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(flags, 0, dtype=np.int64), 1, out=total[1:, 1:])
    return total


def _boxes(total: np.ndarray, at: list[np.ndarray], size: int) -> np.ndarray:
    y, x = at[0][:, None], at[1][None, :]
    return np.asarray(total[y + size, x + size] - total[y, x + size] - total[y + size, x] + total[y, x])


@njit(nogil=True, cache=True, error_model="numpy")
def _block_moments(image: np.ndarray, valid: np.ndarray, side: int) -> tuple[np.ndarray, ...]:
    """Return count, mean, sum of squared deviations and largest absolute value of the valid pixels of every block."""
    ny, nx = image.shape[0] // side, image.shape[1] // side
    n, mean = np.zeros((ny, nx)), np.zeros((ny, nx))
    spread, top = np.zeros((ny, nx)), np.zeros((ny, nx))
    for i in range(ny):
        for j in range(nx):
            total, count, largest = 0.0, 0, 0.0
            for y in range(i * side, (i + 1) * side):
                for x in range(j * side, (j + 1) * side):
                    if valid[y, x]:
                        total += image[y, x]
                        count += 1
                        largest = max(largest, abs(image[y, x]))
            if count == 0:
                continue
            m = total / count
            q = 0.0
            for y in range(i * side, (i + 1) * side):
                for x in range(j * side, (j + 1) * side):
                    if valid[y, x]:
                        q += (image[y, x] - m) ** 2
            n[i, j], mean[i, j], spread[i, j], top[i, j] = count, m, q, largest
    return n, mean, spread, top


@njit(nogil=True, cache=True, error_model="numpy")
def _chip_moments(
    n: np.ndarray, mean: np.ndarray, spread: np.ndarray, top: np.ndarray, start: int, count: int, step: int, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Merge the moments of blocks into the valid pixels, mean, variance and largest absolute value of chips."""
    valid, average, variance, largest = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            y0, x0 = start + i * step, start + j * step
            total, weighted = 0.0, 0.0
            for y in range(y0, y0 + count):
                for x in range(x0, x0 + count):
                    total += n[y, x]
                    weighted += n[y, x] * mean[y, x]
                    largest[i, j] = max(largest[i, j], top[y, x])
            if total == 0.0:
                continue
            m, q = weighted / total, 0.0
            for y in range(y0, y0 + count):
                for x in range(x0, x0 + count):
                    q += spread[y, x] + n[y, x] * (mean[y, x] - m) ** 2
            valid[i, j], average[i, j], variance[i, j] = total, m, q / total
    return valid, average, variance, largest


@njit(nogil=True, cache=True, error_model="numpy")
def _centre_blocks(image: np.ndarray, valid: np.ndarray, mean: np.ndarray, side: int) -> np.ndarray:
    """Return the image less its block means, zero where it is not valid."""
    out = np.zeros(image.shape, np.float32)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if valid[y, x]:
                out[y, x] = np.float32(image[y, x] - mean[y // side, x // side])
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def _add_lines(line: np.ndarray, size: int, scratch: np.ndarray, out: np.ndarray) -> None:
    """Sum ``size`` neighbours along a line by doubling: out[x] = line[x] + ... + line[x + size - 1]."""
    length = line.size
    for x in range(length):
        scratch[x] = line[x]
    taken, reach, first = 0, 1, True
    while True:
        if size & reach:
            if first:
                for x in range(length):
                    out[x] = scratch[x]
                first = False
            else:
                for x in range(length - taken):
                    out[x] += scratch[x + taken]
            taken += reach
        if 2 * reach > size:
            return
        for x in range(length - reach):
            scratch[x] = scratch[x] + scratch[x + reach]
        reach *= 2


@njit(nogil=True, cache=True, error_model="numpy")
def _add_rows(rows: np.ndarray, size: int) -> np.ndarray:
    """Sum ``size`` rows by doubling; ``rows`` is used up."""
    out = np.zeros_like(rows)
    height, taken, reach = rows.shape[0], 0, 1
    while True:
        if size & reach:
            for y in range(height - taken):
                for x in range(rows.shape[1]):
                    out[y, x] += rows[y + taken, x]
            taken += reach
        if 2 * reach > size:
            return out
        for y in range(height - reach):
            for x in range(rows.shape[1]):
                rows[y, x] = rows[y, x] + rows[y + reach, x]
        reach *= 2


@njit(nogil=True, cache=True, error_model="numpy")
def _box_sums(image: np.ndarray, size: int) -> np.ndarray:
    """Return the sum over the box of ``size`` px that begins at each pixel, float64; boxes that leave the image are short."""
    rows, line = np.empty(image.shape), np.empty(image.shape[1])
    for y in range(image.shape[0]):
        _add_lines(image[y], size, line, rows[y])
    return _add_rows(rows, size)


@njit(nogil=True, cache=True, error_model="numpy")
def _square(image: np.ndarray) -> np.ndarray:
    out = np.empty(image.shape)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = np.float64(image[y, x]) ** 2
    return out


def _statistics(s: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Return sum and inverse root of the summed squared deviations of the box at each pixel, for every chip size."""
    sums = np.empty((len(layout.counts), *s.shape))
    inverse = np.empty(sums.shape, np.float32)
    squares = _square(s)
    for c, count in enumerate(layout.counts):
        size = int(count) * layout.side
        sums[c] = _box_sums(s, size)
        _invert(sums[c], _box_sums(squares, size), size * size, inverse[c])
    return sums, inverse


@njit(nogil=True, cache=True, error_model="numpy")
def _invert(sums: np.ndarray, squares: np.ndarray, n: int, inverse: np.ndarray) -> None:
    for y in range(sums.shape[0]):
        for x in range(sums.shape[1]):
            deviation = squares[y, x] - sums[y, x] * sums[y, x] / n
            flat = deviation <= FLAT * FLAT * squares[y, x]
            inverse[y, x] = np.float32(0) if flat else np.float32(1.0 / np.sqrt(deviation))
