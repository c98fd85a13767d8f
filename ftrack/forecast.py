"""What a run will need: memory of a block, bytes to write, vectors to measure."""

from __future__ import annotations

from typing import NamedTuple

from ftrack.schema import MOTION, VELOCITY
from ftrack.tiling import BATCH, Tiling, wave_pixels
from ftrack.workers import Workers

PIXEL = 4
"""Bytes of a pixel in memory (float32)."""

COPIES = 5.5
"""How often the pixels of a block, with halo, are in memory while it is measured."""

SCRATCH = 80
"""Bytes that the matcher takes for every pixel of the two images of a pair."""

HELD = 2.5
"""How often the pixels of a wave are in the memory of all workers together."""

PROCESS = 500 * 2**20
"""Bytes of a worker that hold its modules, compiled kernels and the raster cache."""

WAVE_BYTES = 2**29
"""Pixels of one wave that may be in memory at a time, however large the machine is."""

SHARE = 0.6
"""Share of a worker's memory that may be planned with."""

LARGEST_SIDE = 4


class Forecast(NamedTuple):
    """What a run will need.

    Attributes
    ----------
    images : int
        Most images that are in memory together.
    block_memory, wave_memory : int
        Bytes in memory while a block is measured, and of the pixels of a wave.
    vectors : int
        Nodes times pairs.
    stored : int
        Bytes of the cube and of what the run keeps beside it until it is finished, before compression.
    tasks : int
        Blocks.
    """

    images: int
    block_memory: int
    wave_memory: int
    vectors: int
    stored: int
    tasks: int


def forecast(tiling: Tiling, images: int, side: int, around: tuple[int, int], surfaces: int = 0) -> Forecast:
    """Predict what a run will need.

    Parameters
    ----------
    tiling : Tiling
        The cut.
    images : int
        Most images that are in memory together.
    side : int
        Largest number of tiles along the side of a wave.
    around : (int, int)
        Pixels (reach) and nodes (margin) that are needed around a tile.
    surfaces : int
        Bytes that the matcher takes for the correlation surfaces of a node.
    """
    reach, margin = around
    s = tiling.spacing
    pad = -(-reach // s) * s
    tile = min(tiling.tile, max(tiling.rows, tiling.columns)) * s
    chunk = tile + 2 * (margin * s + pad)
    nodes = (tile // s + 2 * margin) ** 2
    pixels = chunk**2 * (COPIES * images * PIXEL + SCRATCH)
    results = 3 * nodes * min(BATCH, tiling.pairs) * 4 * len(MOTION)
    vectors = tiling.rows * tiling.columns * (tiling.pairs - sum(tiling.parts))
    return Forecast(
        images=images,
        block_memory=int(pixels + results + nodes * surfaces),
        wave_memory=int(HELD * images * wave_pixels(tiling, side, reach, margin) * PIXEL),
        vectors=vectors,
        stored=vectors * sum(_size(variable.dtype) for variable in (*MOTION, *VELOCITY)),
        tasks=(tiling.batches - tiling.first_batch) * tiling.tile_rows * tiling.tile_columns,
    )


def _size(dtype: str) -> int:
    return {"float32": 4, "uint16": 2, "uint8": 1}[dtype]


def wave_side(tiling: Tiling, images: int, around: tuple[int, int], workers: Workers) -> int:
    """Return the largest side of a wave, in tiles, whose pixels fit into a fair part of the workers' memory."""
    limit = min(WAVE_BYTES, SHARE / 2 * workers.number * workers.memory)
    for side in range(LARGEST_SIDE, 1, -1):
        if HELD * images * wave_pixels(tiling, side, *around) * PIXEL <= limit:
            return side
    return 1
