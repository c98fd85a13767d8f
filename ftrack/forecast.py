"""What a run will need: memory of a block, bytes to write, vectors to measure."""

from __future__ import annotations

from typing import NamedTuple

from ftrack.schema import MOTION, VELOCITY
from ftrack.tiling import BATCH, Tiling, wave_pixels, wave_tiles

PIXEL = 4
"""Bytes of a pixel in memory (float32)."""

COPIES = 2.75
"""How often the pixels of a task that reads for itself are in memory while they are read and filtered."""

SCRATCH = 80
"""Bytes that the matcher takes for every pixel of the two images of a pair."""

HELD = 2.45
"""How many waves of several tasks are in memory: one in work, one that is read ahead, and what the allocator keeps of those before."""

PROCESS = 660 * 2**20
"""Bytes of a worker that hold its modules, compiled kernels, what compiling them takes, and the raster cache."""

SHARE = 0.6
"""Share of a worker's memory that may be planned with."""


class Forecast(NamedTuple):
    """What a run will need.

    Attributes
    ----------
    images : int
        Most images that are in memory together.
    block_memory : int
        Bytes in memory while what a task measures is measured.
    wave_memory, tile_memory, tiles : int
        Bytes of what belongs to a wave of several tasks, of the pixels of one of these, and how many they are; 0 where tasks read for
        themselves.
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
    tile_memory: int
    tiles: int
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
    tile = min(tiling.joined * tiling.tile, max(tiling.rows, tiling.columns)) * s
    pixels = images * PIXEL * (tile + 2 * (margin * s + pad)) ** 2
    pairs = min(BATCH, tiling.pairs)
    results = 3 * (tile // s + 2 * margin) ** 2 * pairs * 4 * len(MOTION)
    tiles = wave_tiles(tiling, side)
    kept = (tile // s + 2 * (margin + found[1])) ** 2 * pairs * 4 * found[0] if tiles > 1 else 0
    measured = pixels + SCRATCH * pixels / (images * PIXEL) + results + kept
    vectors = tiling.rows * tiling.columns * (tiling.pairs - sum(tiling.parts))
    return Forecast(
        images=images,
        block_memory=int(measured if tiles > 1 else max(COPIES * pixels, measured)),
        wave_memory=_wave_memory(tiling, images, side, around, found) if tiles > 1 else 0,
        tile_memory=pixels if tiles > 1 else 0,
        tiles=tiles if tiles > 1 else 0,
        vectors=vectors,
        stored=vectors * sum(_size(variable.dtype) for variable in (*MOTION, *VELOCITY)),
        tasks=(tiling.batches - tiling.first_batch) * tiling.tile_rows * tiling.tile_columns,
    )


def _size(dtype: str) -> int:
    return {"float32": 4, "uint16": 2, "uint8": 1}[dtype]


def _wave_memory(tiling: Tiling, images: int, side: int, around: tuple[int, int], found: tuple[int, int]) -> int:
    nodes = (side * tiling.tile + 2 * (around[1] + found[1])) ** 2
    return images * wave_pixels(tiling, side, *around) * PIXEL + nodes * min(BATCH, tiling.pairs) * 4 * found[0]


def worker_memory(ahead: Forecast, number: int, threads: int) -> int:
    """Return the bytes that each of so many workers needs: for itself, for a block in each of its threads, and its part of waves.

    Its part is what it has read, and what others have read of the tiles that it measures.
    """
    fetched = (1 - 1 / number) * max(1.0, ahead.tiles / number) * ahead.tile_memory
    return int(PROCESS + threads * ahead.block_memory + HELD * (ahead.wave_memory / number + fetched))
