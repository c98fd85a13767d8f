"""The products of a block with its shifted blocks, two rows of offsets at a time with a quarter fewer multiplications.

With ``r0, r1`` and ``s0, s1`` the even and the odd rows of block and secondary, an even row of offsets is the sum of
``r0 (s0 - s1)`` and ``(r0 + r1) s1``, the odd row behind it that of ``r1 (s2 - s1)`` and the same ``(r0 + r1) s1``
(Winograd 1980). Even and odd are counted from the offset zero, so the sums do not depend on which offsets are asked for.
"""

from __future__ import annotations

import numpy as np

from ftrack.kernels.compiled import inner, shared
from ftrack.kernels.vectors import LANES, PAIRS, WIDEST, make_pairs

_4x1, _4x2, _4x3 = (make_pairs(4, vectors) for vectors in (1, 2, 3))
_1x1, _1x2, _1x3 = (make_pairs(1, vectors) for vectors in (1, 2, 3))


def paired_offsets_for(height: int, width: int) -> tuple[int, int, int, int]:
    """Return how offsets are cut into parts: panels along x, vectors of a panel, bands along y, rows of a band."""
    panels = -(-width // WIDEST)
    vectors = -(-width // (panels * LANES))
    return panels, vectors, -(-height // (2 * PAIRS[vectors])), 2 * PAIRS[vectors]


@shared
def fold_blocks(numbers, r, r_step, s, s_step, side, across, room):
    """Write what stands for pairs of rows of blocks beside each other, and of all that they are compared with.

    Of the reference, ``side`` rows, it is the sum of every even row and the next, then the odd row less than zero; of the
    secondary every row less the next. ``across`` are the columns of both and the rows of the secondary, ``room`` the
    places of the two results and how far apart their rows lie.
    """
    columns, others, rows = across
    out, out_s, pitch = room
    for y in range(side):
        a, b, to = np.uintp(r + y * r_step), np.uintp(r + (y + 1) * r_step), np.uintp(out + y * pitch)
        if y % 2 == 0:
            for x in range(np.uintp(columns)):
                numbers[to + x] = numbers[a + x] + numbers[b + x]
        else:
            for x in range(np.uintp(columns)):
                numbers[to + x] = -numbers[a + x]
    for y in range(rows):
        a, b, to = np.uintp(s + y * s_step), np.uintp(s + (y + 1) * s_step), np.uintp(out_s + y * pitch)
        for x in range(np.uintp(others)):
            numbers[to + x] = numbers[a + x] - numbers[b + x]


@shared
def pair_products(numbers, r, r_step, s, s_step, folds, side, vectors, room, above, out):
    """Sum the products of a block of even side with ``2 * PAIRS[vectors]`` times ``16 * vectors`` shifted blocks.

    Add them to the sums of the block ``above``, which they take the place of, and write the result to ``out``.

    All are places in one array: of the first pixels, with the lengths of rows, and of what stands for pairs of rows, see
    ``fold_blocks``; of ``room`` for half as many sums, behind as many zeros.
    """
    reach, half = vectors * LANES, PAIRS[vectors] * vectors * LANES
    if _is_empty(numbers, r, r_step, side):
        _take_above(numbers, above, out, 2 * half)
        return
    r_fold, s_fold, pitch = folds
    for turn in range(3):
        r_at, r_line = (r_fold, r, r_fold + pitch)[turn], (pitch, r_step, pitch)[turn]
        s_at, s_line = (s + s_step, s_fold, s_fold + pitch)[turn], (s_step, pitch, pitch)[turn]
        start, last = room + half if turn else room, turn > 0
        to = (room + half, out, out + reach)[turn]
        kept, line = above + (turn - 1) * reach, (1 + last) * reach
        if side % 8 == 0:
            if vectors == 1:
                _4x1(numbers, r_at, 2 * r_line, s_at, 2 * s_line, side, start, last, kept, to, line)
            elif vectors == 2:
                _4x2(numbers, r_at, 2 * r_line, s_at, 2 * s_line, side, start, last, kept, to, line)
            else:
                _4x3(numbers, r_at, 2 * r_line, s_at, 2 * s_line, side, start, last, kept, to, line)
        elif vectors == 1:
            _1x1(numbers, r_at, 2 * r_line, s_at, 2 * s_line, side, start, last, kept, to, line)
        elif vectors == 2:
            _1x2(numbers, r_at, 2 * r_line, s_at, 2 * s_line, side, start, last, kept, to, line)
        else:
            _1x3(numbers, r_at, 2 * r_line, s_at, 2 * s_line, side, start, last, kept, to, line)


@inner
def _is_empty(numbers, at, step, side):
    """Return whether all pixels of a block are zero, as they are beyond the rim of the imagery."""
    for y in range(side):
        for x in range(side):
            if numbers[at + y * step + x] != 0:
                return False
    return True


@inner
def _take_above(numbers, above, out, count):
    """Write the sums of the block above, whose place is taken by zeros."""
    above, out = np.uintp(above), np.uintp(out)
    for x in range(np.uintp(count)):
        value = numbers[above + x]
        numbers[above + x] = np.float32(0)
        numbers[out + x] = value + np.float32(0)
