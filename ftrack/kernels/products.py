"""The products of a block with its shifted blocks, whatever its side."""

from __future__ import annotations

from ftrack.kernels.compiled import shared
from ftrack.kernels.vectors import GROUPS, LANES, WIDEST, make_products

_8x1, _8x2, _8x3 = (make_products(8, vectors) for vectors in (1, 2, 3))
_4x1, _4x2, _4x3 = (make_products(4, vectors) for vectors in (1, 2, 3))
_1x1, _1x2, _1x3 = (make_products(1, vectors) for vectors in (1, 2, 3))


def offsets_for(height: int, width: int) -> tuple[int, int, int, int]:
    """Return how offsets are cut into parts: panels along x, vectors of a panel, bands along y, rows of a band."""
    panels = -(-width // WIDEST)
    vectors = -(-width // (panels * LANES))
    return panels, vectors, -(-height // GROUPS[vectors]), GROUPS[vectors]


@shared
def block_products(r, r_at, r_step, s, s_at, s_step, side, vectors, sums, sums_at):
    """Sum the products of a block of ``r`` with ``GROUPS[vectors]`` times ``16 * vectors`` shifted blocks of ``s``.

    Images are float32, row after row; ``*_at`` index the block's first pixel and ``*_step`` are the lengths of a row.
    How many rows of a block are worked on together decides the order of the sums, so it may depend on the side alone.
    """
    if side % 8 == 0:
        if vectors == 1:
            _8x1(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
        elif vectors == 2:
            _8x2(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
        else:
            _8x3(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
    elif side % 4 == 0:
        if vectors == 1:
            _4x1(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
        elif vectors == 2:
            _4x2(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
        else:
            _4x3(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
    elif vectors == 1:
        _1x1(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
    elif vectors == 2:
        _1x2(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
    else:
        _1x3(r, r_at, r_step, s, s_at, s_step, side, sums, sums_at)
