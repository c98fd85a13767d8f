"""Where blocks, chips and offsets lie in padded images, and what is searched and found at the nodes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """Where blocks, chips and offsets lie in the padded images.

    ``side`` is the side of a block, ``step`` blocks lie between nodes, ``counts[c]`` blocks make up the side of
    chip ``c``, the smallest of which begin ``starts[c]`` blocks after the largest. The secondary begins ``radius``
    px above and left of the reference.
    """

    side: int
    step: int
    counts: np.ndarray
    starts: np.ndarray
    radius: int
    rows: int
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        most = int(self.counts.max())
        return ((self.rows - 1) * self.step + most, (self.columns - 1) * self.step + most)

    @property
    def blocks(self) -> tuple[int, int, np.ndarray, np.ndarray]:
        """Where the blocks of chips lie: (side, step, counts, starts)."""
        return self.side, self.step, self.counts, self.starts


LARGEST_SIDE = 32
"""Blocks of even side are halved until they are no larger, so that sums in single precision stay short."""


def lay_out(chip_sizes: tuple[int, ...], spacing: int, radius: int, rows: int, columns: int) -> Layout:
    """Return the layout for nodes every ``spacing`` px and chips of the given even sizes, ascending."""
    side = int(np.gcd.reduce([spacing, *(c // 2 for c in chip_sizes)]))
    while side > LARGEST_SIDE and side % 2 == 0:
        side //= 2
    counts = np.array([c // side for c in chip_sizes], np.int64)
    starts = np.array([(max(chip_sizes) - c) // 2 // side for c in chip_sizes], np.int64)
    return Layout(side, spacing // side, counts, starts, radius, rows, columns)


class Windows(NamedTuple):
    """What each node searches: centre, px to the right and down, and radius; integers (row, column)."""

    dy: np.ndarray
    dx: np.ndarray
    radius: np.ndarray


class Peaks(NamedTuple):
    """The peak of every chip size and node, (chip, row, column).

    ``valid`` is the share of valid pixels in the chip, ``flat`` says that it has no texture. ``peak`` is the highest
    coefficient, NaN where there is none, at the offset ``dy, dx``, px; ``ratio`` is peak over second peak. ``bounded``
    is 1 where the peak lies on the rim of the window and 2 where it has a neighbour without value. ``around`` (chip,
    row, column, 3, 3) are the coefficients around the peak, NaN where there is none.
    """

    valid: np.ndarray
    flat: np.ndarray
    peak: np.ndarray
    dy: np.ndarray
    dx: np.ndarray
    ratio: np.ndarray
    bounded: np.ndarray
    around: np.ndarray


def everywhere(layout: Layout, dy: int = 0, dx: int = 0, radius: int | None = None) -> Windows:
    """Return the same window at every node, by default the whole search of the layout."""
    reach = layout.radius if radius is None else radius
    shape = (layout.rows, layout.columns)
    return Windows(np.full(shape, dy), np.full(shape, dx), np.full(shape, reach))
