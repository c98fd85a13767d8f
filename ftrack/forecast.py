"""What a run will need: memory of a block, bytes to write, vectors to measure."""

from __future__ import annotations

from typing import NamedTuple

from ftrack.schema import MOTION, VELOCITY
from ftrack.tiling import BATCH, Tiling, wave_pixels
from ftrack.workers import Workers

PIXEL = 4
"""Bytes of a pixel in memory (float32)."""

COPIES = 2.5
"""How often the pixels of a block, with halo, are in memory while it is measured."""

SCRATCH = 80
"""Bytes that the matcher takes for every pixel of the two images of a pair."""

HELD = 2.5
"""How often the pixels of a wave of several tiles are in the memory of all workers together, beside those of the blocks in work."""

PROCESS = 500 * 2**20
"""Bytes of a worker that hold its modules, compiled kernels and the raster cache."""

WAVE_BYTES = 2**30
"""Bytes of a wave that a worker may hold, however large it is."""

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
        Bytes in memory while a block is measured, and of a wave of several tiles in the memory of all workers beside that.
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


def forecast(tiling: Tiling, images: int, side: int, around: tuple[int, int], found: tuple[int, int] = (0, 0)) -> Forecast:
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
    found : (int, int)
        Numbers that the first stage of the matcher gives for a node, and nodes around a tile at which the second needs them.
    """
    reach, margin = around
    s = tiling.spacing
    pad = -(-reach // s) * s
    tile = min(tiling.tile, max(tiling.rows, tiling.columns)) * s
    chunk = tile + 2 * (margin * s + pad)
    nodes = (tile // s + 2 * margin) ** 2
    pixels = chunk**2 * (COPIES * images * PIXEL + SCRATCH)
    pairs = min(BATCH, tiling.pairs)
    results = 3 * nodes * pairs * 4 * len(MOTION) + (tile // s + 2 * (margin + found[1])) ** 2 * pairs * 4 * found[0]
    vectors = tiling.rows * tiling.columns * (tiling.pairs - sum(tiling.parts))
    return Forecast(
        images=images,
        block_memory=int(pixels + results),
        wave_memory=_held(tiling, images, side, around, found),
        vectors=vectors,
        stored=vectors * sum(_size(variable.dtype) for variable in (*MOTION, *VELOCITY)),
        tasks=(tiling.batches - tiling.first_batch) * tiling.tile_rows * tiling.tile_columns,
    )


def _size(dtype: str) -> int:
    return {"float32": 4, "uint16": 2, "uint8": 1}[dtype]


def _held(tiling: Tiling, images: int, side: int, around: tuple[int, int], found: tuple[int, int]) -> int:
    nodes = (side * tiling.tile + 2 * (around[1] + found[1])) ** 2
    return (
        int(HELD * images * wave_pixels(tiling, side, *around) * PIXEL) + nodes * min(BATCH, tiling.pairs) * 4 * found[0] if side > 1 else 0
    )


def worker_memory(ahead: Forecast, number: int, threads: int) -> int:
    """Return the bytes that each of so many workers needs: for itself, for a block in each of its threads, and its part of a wave."""
    return PROCESS + threads * ahead.block_memory + ahead.wave_memory // number


def wave_side(tiling: Tiling, images: int, around: tuple[int, int], workers: Workers, found: tuple[int, int] = (0, 0)) -> int:
    """Return the largest side of a wave, in tiles, that fits into the workers' memory beside the blocks in work."""
    for side in range(LARGEST_SIDE, 1, -1):
        ahead = forecast(tiling, images, side, around, found)
        fits = worker_memory(ahead, workers.number, workers.threads) <= SHARE * workers.memory
        if fits and ahead.wave_memory <= workers.number * WAVE_BYTES:
            return side
    return 1
