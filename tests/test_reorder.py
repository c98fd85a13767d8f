"""Another order along the first axis, lazily: the same entries, and no more of the source than they need."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest

from ftrack.reorder import take_first

VALUES = np.arange(23 * 6 * 4).reshape(23, 6, 4)
ORDER = np.random.default_rng(5).permutation(23)


@pytest.mark.parametrize("order", [ORDER, ORDER[:9], np.arange(23)[::-1], np.repeat(ORDER, 2)])
def test_entries_come_in_the_order_asked_for(order: np.ndarray) -> None:
    source = da.from_array(VALUES, (5, 3, 2))
    taken = take_first(source, order)
    assert taken.chunks[1:] == source.chunks[1:] and max(taken.chunks[0]) == 5
    np.testing.assert_array_equal(taken.compute(scheduler="sync"), VALUES[order])
    np.testing.assert_array_equal((taken[3:8, 1] + 1).compute(scheduler="sync"), VALUES[order][3:8, 1] + 1)
    both = dask.compute(taken[0], take_first(source + 1, order)[:, 2], scheduler="sync")
    np.testing.assert_array_equal(both[0], VALUES[order][0])
    np.testing.assert_array_equal(both[1], VALUES[order][:, 2] + 1)
    np.testing.assert_array_equal(taken.rechunk((-1, 6, 4)).compute(scheduler="sync"), VALUES[order])


def test_one_axis_and_an_uneven_source() -> None:
    source = da.from_array(VALUES[:, 0, 0], ((4, 9, 10),))
    np.testing.assert_array_equal(take_first(source, ORDER).compute(scheduler="sync"), VALUES[ORDER, 0, 0])


def test_nothing_is_made_before_it_is_asked_for() -> None:
    read: list[int] = []

    def load(block: np.ndarray, block_id: tuple[int, ...] = ()) -> np.ndarray:
        read.append(block_id[0])
        return block

    source = da.from_array(VALUES, (5, 3, 2)).map_blocks(load, dtype=VALUES.dtype, meta=np.empty((0, 0, 0), VALUES.dtype))
    taken = take_first(source, np.arange(23)[::-1])
    layer = taken.dask.layers[taken.name]
    assert not layer.is_materialized() and len(layer) == 5 * 2 * 2
    (some,) = dask.optimize(taken[:3, 0, 0])
    assert len(some.dask) < 10 and not layer.is_materialized()
    np.testing.assert_array_equal(some.compute(scheduler="sync"), VALUES[::-1][:3, 0, 0])
    assert sorted(read) == [3, 4]
    assert set(dict(layer)) == layer.get_output_keys() and layer.is_materialized()
