"""Tiles with what lies around them: the same pixels whether images come whole or in chunks, and whole ones are not copied."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest

from ftrack.halo import Tiles, depth_of, edges_of, joined, map_tiles, merge_short

IMAGES = np.random.default_rng(3).normal(size=(3, 90, 70)).astype(np.float32)
CHUNKS = ((20, 30, 25, 15), (40, 30))
EDGES = edges_of(CHUNKS)
HALO = 12


def seen(images: Any, found: np.ndarray | None = None, *, block_id: Any) -> np.ndarray:
    """Return sums that tell what was seen, float32 (1, images, 1, 1)."""
    i, j = block_id[-2:]
    rows, columns = (slice(max(0, axis[k] - HALO), axis[k + 1] + HALO) for axis, k in zip(EDGES, (i, j), strict=True))
    for number, image in enumerate(images):
        np.testing.assert_array_equal(image, IMAGES[number, rows, columns])
    if found is not None:
        top, left = (max(0, axis[k] - 5) for axis, k in zip(EDGES, (i, j), strict=True))
        expected = IMAGES[None, :, top : EDGES[0][i + 1] + 5, left : EDGES[1][j + 1] + 5]
        np.testing.assert_array_equal(found, expected)
    return np.full((1, len(images), 1, 1), 10 * i + j, np.float32)


ONES = [(1,), (3,), (1,) * 4, (1,) * 2]
PLACES = 10 * np.arange(4)[:, None] + np.arange(2)


@pytest.mark.parametrize("chunks", [((1, 1, 1), 90, 70), ((2, 1), 90, 70), (3, 90, 70), (3, *CHUNKS)])
def test_a_tile_sees_its_pixels_and_those_around_it(chunks: Any) -> None:
    tiles = Tiles(da.from_array(IMAGES, chunks), EDGES, HALO)
    assert tiles.numbers == (4, 2)
    np.testing.assert_array_equal(map_tiles(seen, tiles, ONES).compute(scheduler="sync")[0, 1], PLACES)
    found = da.from_array(IMAGES[None], (1, 3, *CHUNKS))
    np.testing.assert_array_equal(map_tiles(seen, tiles, ONES, (found, 5)).compute(scheduler="sync")[0, 2], PLACES)


def test_whole_images_are_not_copied() -> None:
    def same(images: Any, *, block_id: Any) -> np.ndarray:
        return np.full((1, 1, 1, 1), all(np.shares_memory(image, IMAGES) for image in images), np.float32)

    def load(block_id: Any = None) -> np.ndarray:
        return IMAGES[block_id[0] : block_id[0] + 1]

    whole = da.map_blocks(load, chunks=((1, 1, 1), (90,), (70,)), dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    assert map_tiles(same, Tiles(whole, EDGES, HALO), ONES).compute(scheduler="sync").all()


def test_one_tile_sees_all() -> None:
    def shape(images: Any, *, block_id: Any) -> np.ndarray:
        return np.array(images[0].shape, np.float32).reshape(1, 2, 1, 1)

    tiles = Tiles(da.from_array(IMAGES, (1, 90, 70)), edges_of(((90,), (70,))), HALO)
    assert map_tiles(shape, tiles, [(1,), (2,), (1,), (1,)]).compute(scheduler="sync").ravel().tolist() == [90, 70]


def test_chunks_are_joined_until_they_are_as_long_as_the_halo() -> None:
    assert joined((8, 8, 8, 8), 12) == (16, 16)
    assert joined((8, 8, 8), 12) == (24,)
    assert joined((20, 4), 12) == (24,)
    array = da.zeros((2, 24, 30), chunks=(1, 8, 15))
    assert merge_short(array, 12).chunks == ((1, 1), (24,), (15, 15))
    assert merge_short(array, 8) is array
    assert depth_of(array, 8) == {0: 0, 1: 8, 2: 8}
    assert depth_of(array.rechunk((2, 24, 15)), 8) == {0: 0, 1: 0, 2: 8}
