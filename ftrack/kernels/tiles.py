"""What a search of a tile works on: images, nodes, results and the tables that the compiled loops need."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ftrack.kernels.boxes import Boxes, rows_to_remember
from ftrack.kernels.certain import NEVER
from ftrack.kernels.chain import DOWN, FIRST, HEIGHT, RIGHT, SECOND, chain_for, chain_of_pixels
from ftrack.kernels.layout import Layout
from ftrack.kernels.moments import Chips
from ftrack.kernels.strip import BACK, CHIP, LINE, MASK, RING, START


class Tile(NamedTuple):
    """Images and what is known of them.

    ``numbers`` begins with both images, row after row, zero where there are gaps, and, if there are any, where they are
    valid, 1 or 0, and their squares; the secondary begins ``far`` px above and left of the reference, and the lengths of their
    rows are those of ``r_valid`` and ``s_valid``, bool (y, x). ``boxes`` serve plain sums; behind them is room.
    """

    numbers: np.ndarray
    r_valid: np.ndarray
    s_valid: np.ndarray
    far: int
    layout: Layout
    chips: Chips
    min_valid: float
    boxes: Boxes


class Extent(NamedTuple):
    """The least and the greatest of all first and last rows and columns of windows, px, and how many rows the tallest window has."""

    least: list[int]
    greatest: list[int]
    tallest: int

    @property
    def union(self) -> np.ndarray:
        """First and last row and first and last column of all windows, zeros if there are none."""
        (top, _, left, _), (_, bottom, _, right) = self.least, self.greatest
        return np.array([top, bottom, left, right] if bottom > top else [0] * 4, np.int64)


class Search(NamedTuple):
    """First and last row and column of every window, px, int64 (row, 4, column), and how the sums of every chip are formed.

    ``mode`` is uint8 (chip, row, column), 0 = not at all; ``rims`` are the chips among them that the rim of the imagery cuts, int32 (chip,
    row, column, 8), see ``ftrack.kernels.rectangles``; ``extent`` is that of the windows of all chips. Chips may be left out where a
    smaller one is settled by ``limits``, see ``ftrack.kernels.certain``.
    """

    span: np.ndarray
    mode: np.ndarray
    rims: np.ndarray
    extent: Extent
    limits: tuple[float, float] = NEVER


class Result(NamedTuple):
    """What is found, float32 (chip, row, column, 14), see ``ftrack.kernels.peaks.judge_row``, and room for surfaces or none."""

    found: np.ndarray
    keep: np.ndarray


class Tables(NamedTuple):
    """A layout's chain of blocks and of pixels, as the compiled loops need them; see ``ftrack.kernels.sweep``."""

    blocks: np.ndarray
    pixels: np.ndarray
    of_box: np.ndarray
    of_chip: np.ndarray
    lines: int
    ring: int
    remember: np.ndarray


Cell = tuple[int, int, int, int]


def tables_of(layout: Layout) -> Tables:
    """Return the tables of a layout, which are not to be changed."""
    return _tables_of(layout.side, tuple(layout.counts.tolist()), tuple(layout.starts.tolist()))


@lru_cache(maxsize=64)
def _tables_of(side: int, counts: tuple[int, ...], starts: tuple[int, ...]) -> Tables:
    chain, of_chip = chain_for(np.array(counts))
    table = np.zeros((len(chain), 13), np.int64)
    table[:, : chain.shape[1]] = chain
    along = chain[1:][chain[1:, DOWN] == 0]
    kept = np.ones(len(chain), np.int64)
    for first, right in along[:, [FIRST, RIGHT]]:
        while kept[first] <= right:
            kept[first] *= 2
    table[:, LINE], table[:, MASK] = np.cumsum(kept) - kept, kept - 1
    down = np.where(chain[:, DOWN] > 0, chain[chain[:, SECOND], HEIGHT], 0)
    table[:, BACK], table[:, RING] = np.maximum(down, 1), np.cumsum(down) - down
    table[:, CHIP] = -1
    table[of_chip, CHIP], table[of_chip, START] = np.arange(len(of_chip)), starts
    pixels, of_box = chain_of_pixels(chain, side)
    return Tables(table, pixels, of_box, of_chip, int(kept.sum()), int(down.sum()), rows_to_remember(pixels))


def images_of(tile: Tile) -> int:
    """Return how many numbers both images take; behind them stands whether each pixel is valid, and then its square."""
    return tile.r_valid.size + tile.s_valid.size
