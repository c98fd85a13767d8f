"""What a pass over a strip of nodes is told: how it is cut, where things are, and what is to be done."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ftrack.kernels.compiled import inner
from ftrack.kernels.lanes import LANES

LINE, MASK, BACK, RING, PLANE, CHIP, START = range(6, 13)
"""Further columns of a chain: first line of sums and how many (less one) are kept along x, how many rows a merge along
y looks back and where they begin, place of the differences of means, chip that is this box, -1 = none, and where it begins."""


class Shape(NamedTuple):
    """How a cell is cut: sides and steps of blocks, its rows and columns, and the parts of its offsets."""

    side: int
    step: int
    rows: int
    columns: int
    panels: int
    vectors: int
    bands: int
    group: int
    dy: int
    dx: int


class Places(NamedTuple):
    """Where things are in the one array of numbers: places and lengths of a row."""

    r: int
    r_step: int
    s: int
    s_step: int
    mean: int
    inverse: int
    height: int
    pitch: int
    lines: int
    ring: int
    surface: int
    highest: int
    room: int
    blocks: int
    rims: int


class Nodes(NamedTuple):
    """What is to be done in a cell.

    ``needed`` are the boxes that chips are made of, bool (box, block row, block column), ``todo`` the chips, bool (chip,
    row, column), ``span`` the first and last row and first and last column of each node's window among the cell's
    offsets, int64 (row, 4, column). ``levels`` is taken out of the blocks of both images, float64 (2, block row, block
    column) or empty; ``weight`` goes with it, see ``ftrack.kernels.moments.Chips``, as do ``total`` and ``scale``; chips with gaps
    have there the mean levels of the secondary and of the reference. ``rims`` are the chips that the rim of the imagery
    cuts, see ``ftrack.kernels.rectangles``.
    """

    needed: np.ndarray
    todo: np.ndarray
    span: np.ndarray
    levels: np.ndarray
    weight: np.ndarray
    total: np.ndarray
    scale: np.ndarray
    rims: np.ndarray


class Gaps(NamedTuple):
    """Where the images have pixels, the least share of pairs, and room for sums in double precision, float64 (n,).

    ``r`` and ``s`` are how far behind each pixel of the images stands whether it is valid, 1 or 0, and twice as far its square;
    ``ring`` is the place of the rows that are looked back on. ``far``, bool (chip, row, column), is set where single
    precision is not enough.
    """

    r: int
    s: int
    least: float
    sums: np.ndarray
    ring: int
    far: np.ndarray


@inner
def factors_of(shape, places, nodes, chip, at, offset):
    """Return what turns sums of products into coefficients: places of means and inverses, length of a row, total and scale."""
    c, n, m = chip
    if nodes.rims[c, n, m, 1] > 0:
        height, pitch = shape.bands * shape.group, shape.panels * shape.vectors * LANES
        mean = places.rims + (2 * (c * nodes.todo.shape[2] + m) * height + offset[0]) * pitch + offset[1]
        return mean, mean + height * pitch, pitch, np.float32(1), np.float32(1)
    place = (c * places.height + at[0] + offset[0]) * places.pitch + at[1] + offset[1]
    return places.mean + place, places.inverse + place, places.pitch, nodes.total[c, n, m], nodes.scale[c, n, m]
