"""Blocks partition the nodes; waves give every tile its halo."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ftrack.grid import Bounds, Grid, node_grid, nodes_on
from ftrack.tiling import BATCH, Tiling, batch_pairs, blocks_of, region_of, snap_to_nodes, wave_pixels, wave_window, waves_of

tilings = st.builds(
    Tiling,
    spacing=st.integers(1, 12),
    rows=st.integers(1, 60),
    columns=st.integers(1, 60),
    tile=st.integers(3, 20),
    pairs=st.integers(1, 200),
    parts=st.just(()),
    joined=st.integers(1, 3),
)


@given(tilings)
def test_blocks_partition_the_nodes_and_equal_whole_chunks(tiling: Tiling) -> None:
    seen = np.zeros((tiling.pairs, tiling.rows, tiling.columns), int)
    for block in blocks_of(tiling):
        region = region_of(tiling, block)
        seen[tuple(region)] += 1
        for part, chunk, size in zip(region, tiling.chunks, seen.shape, strict=True):
            assert part.start % chunk == 0
            assert part.stop == min(part.start + chunk, size)
    assert (seen == 1).all()


@given(tilings, st.integers(1, 5))
def test_waves_are_about_as_large_and_hold_every_block_once(tiling: Tiling, side: int) -> None:
    side = max(side, tiling.joined)
    waves = waves_of(tiling, side)
    for starts, lengths in (
        ([wave.row for wave in waves], [wave.height for wave in waves]),
        ([wave.column for wave in waves], [wave.width for wave in waves]),
    ):
        assert max(lengths) <= side
        assert max(lengths) - min(lengths) <= 2 * tiling.joined - 1
        assert all(start % tiling.joined == 0 for start in starts)
    blocks = [block for wave in waves for block in wave.blocks]
    assert len(blocks) == len(set(blocks))
    assert set(blocks) == set(blocks_of(tiling))


@given(tilings, st.integers(1, 4), st.integers(0, 70), st.integers(0, 6))
def test_a_wave_window_gives_every_tile_its_halo(tiling: Tiling, side: int, reach: int, margin: int) -> None:
    s = tiling.spacing
    for wave in waves_of(tiling, side):
        window = wave_window(tiling, wave, reach, margin)
        assert sum(window.chunks[0]) == window.rows.stop - window.rows.start
        assert sum(window.chunks[1]) == window.columns.stop - window.columns.start
        node_rows = (window.rows.start + window.nodes.rows) // s
        assert ((window.rows.start + window.nodes.rows) % s == 0).all()
        assert window.nodes.row >= reach
        assert sum(window.chunks[0]) - 1 - window.nodes.rows[-1] >= reach - 1
        ends = np.cumsum(window.chunks[0])
        parts = [
            range(row, min(row + tiling.joined, wave.row + wave.height)) for row in range(wave.row, wave.row + wave.height, tiling.joined)
        ]
        for number, (part, end) in enumerate(zip(parts, ends, strict=True)):
            own = [region_of(tiling, blocks_of(tiling)[0]._replace(row=row)).rows for row in part]
            start = end - window.chunks[0][number]
            inside = [n for n, p in zip(node_rows, window.nodes.rows, strict=True) if start <= p < end]
            first = own[0].start - (margin if number == 0 else 0)
            last = own[-1].stop + (margin if number == len(parts) - 1 else 0)
            assert inside == list(range(first, last))
        own = [region_of(tiling, block).rows for block in wave.blocks if block.column == wave.column]
        assert window.tiles[0] == tuple(part.stop - part.start for part in own)


@given(tilings, st.integers(1, 4), st.integers(0, 70), st.integers(0, 6))
def test_no_wave_reads_more_than_predicted(tiling: Tiling, side: int, reach: int, margin: int) -> None:
    windows = [wave_window(tiling, wave, reach, margin) for wave in waves_of(tiling, side)]
    largest = max(sum(w.chunks[0]) * sum(w.chunks[1]) for w in windows)
    assert largest == wave_pixels(tiling, side, reach, margin)


@given(st.integers(-500, 500), st.integers(-500, 500), st.integers(1, 16), st.sampled_from([10.0, 15.0]), st.sampled_from([0.0, 7.5]))
def test_a_snapped_grid_starts_with_a_node_and_covers_the_area(
    column: int, row: int, spacing: int, resolution: float, phase: float
) -> None:
    grid = Grid(
        crs="EPSG:32622", resolution=resolution, left=phase + column * resolution, top=phase + row * resolution, height=33, width=47
    )
    snapped = snap_to_nodes(grid, spacing)
    nodes = nodes_on(snapped, spacing)
    assert (nodes.row, nodes.column) == (0, 0)
    assert (nodes.height * spacing, nodes.width * spacing) == (snapped.height, snapped.width)
    outer, inner = snapped.bounds, grid.bounds
    assert outer.left <= inner.left and outer.bottom <= inner.bottom and outer.right >= inner.right and outer.top >= inner.top
    assert isinstance(node_grid(snapped, nodes).bounds, Bounds)


def test_a_batch_is_one_chunk_of_the_cube() -> None:
    assert Tiling(8, 10, 10, 4, 65).batches == 2
    assert Tiling(8, 10, 10, 4, 65).chunks[0] == BATCH


@given(tilings, st.lists(st.integers(1, 200), max_size=4))
def test_pairs_that_are_appended_begin_with_a_batch_of_their_own(tiling: Tiling, parts: list[int]) -> None:
    longer = tiling._replace(pairs=tiling.pairs + sum(parts), parts=tuple(parts))
    blocks = [block for block in blocks_of(longer) if (block.row, block.column) == (0, 0)]
    assert [number for b in blocks for number in range(longer.pairs)[batch_pairs(longer, b.batch)]] == list(range(sum(parts), longer.pairs))
    places = [place for b in blocks for place in range(*region_of(longer, b).pairs.indices(10**6))]
    assert places == list(range(*longer.ranges[-1]))
    assert places[0] % BATCH == 0 and places[0] >= sum(parts)
    assert {block for wave in waves_of(longer, 2) for block in wave.blocks} == set(blocks_of(longer))
