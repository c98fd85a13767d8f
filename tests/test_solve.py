"""Displacement of one chip below one pixel: known shifts, brightness that changed, chips without texture, calibrated errors."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import summed

from ftrack.kernels.normal import N
from ftrack.kernels.solve import BLOCK, CENTRE, FIELDS, FOUND, KNOWN, SOLVED, look_at_blocks, solve_chips
from ftrack.synthetic import shifted_pair

SIDE, COUNT = 8, 4
CHIP = SIDE * COUNT


def sums_of(reference: np.ndarray, secondary: np.ndarray, field: tuple[float, float], first: int = 40, blocks: int = COUNT) -> np.ndarray:
    """Return the sums of ``blocks`` x ``blocks`` blocks from pixel ``first`` on, drawn back by one displacement."""
    nodes, used = np.empty((2, 3, 3)), np.ones(blocks, np.bool_)
    nodes[0], nodes[1] = field
    extent = blocks * SIDE
    return summed((reference, secondary), (first, first), nodes, (-extent, -extent, 2 * extent), SIDE, (used, used))


def solved(sums: np.ndarray, centre: tuple[float, float]) -> tuple[bool, np.ndarray]:
    planes = np.full((KNOWN, 1), np.nan)
    planes[:BLOCK, 0], planes[BLOCK:CENTRE, 0], planes[CENTRE:FOUND, 0] = sums.sum((0, 1)), sums[0, 0], centre
    with np.errstate(invalid="ignore", divide="ignore"):
        solve_chips(planes)
        look_at_blocks(planes)
    return bool(planes[SOLVED, 0]), planes[FOUND : FOUND + FIELDS, 0]


@pytest.mark.parametrize("field", [(0.0, 0.0), (3.0, -2.0), (2.7, -2.4)])
@pytest.mark.parametrize("rest", [(0.0, 0.0), (0.3, -0.2), (-0.4, 0.35)])
def test_a_known_shift_is_found(field: tuple[float, float], rest: tuple[float, float]) -> None:
    shift = (field[0] + rest[0], field[1] + rest[1])
    pair = shifted_pair((128, 128), shift, noise=0.0, sigma=2.0)
    there, found = solved(sums_of(pair.reference, pair.secondary, field), field)
    assert there
    assert abs(found[0] - shift[0]) < 0.01 + 0.03 * abs(rest[0])
    assert abs(found[1] - shift[1]) < 0.01 + 0.03 * abs(rest[1])
    assert found[4] > 0.99


def test_the_place_from_which_displacement_is_counted_hardly_matters() -> None:
    pair = shifted_pair((128, 128), (0.3, -0.2), noise=0.1)
    sums = sums_of(pair.reference, pair.secondary, (0.0, 0.0))
    np.testing.assert_allclose(solved(sums, (0.4, -0.6))[1], solved(sums, (0.0, 0.0))[1], rtol=0.0, atol=0.006)


@pytest.mark.parametrize("offset", [20.0, -40.0, 500.0])
def test_an_offset_does_not_matter(offset: float) -> None:
    pair = shifted_pair((128, 128), (0.3, -0.2), noise=0.0, sigma=2.0)
    _, found = solved(sums_of(pair.reference, pair.secondary + offset, (0.0, 0.0)), (0.0, 0.0))
    assert np.abs(found[:2] - (0.3, -0.2)).max() < 0.01


@pytest.mark.parametrize("gain", [0.5, 2.0, 300.0])
def test_a_gain_does_not_matter_where_the_field_is_right(gain: float) -> None:
    pair = shifted_pair((128, 128), (0.3, -0.2), noise=0.0, sigma=2.0)
    _, found = solved(sums_of(pair.reference, gain * pair.secondary - 40.0, (0.3, -0.2)), (0.3, -0.2))
    assert np.abs(found[:2] - (0.3, -0.2)).max() < 0.01


@pytest.mark.parametrize("gain", [0.5, 0.8, 1.25, 2.0])
def test_a_gain_does_not_matter(gain: float) -> None:
    pair = shifted_pair((128, 128), (0.3, -0.2), noise=0.0, sigma=2.0)
    _, found = solved(sums_of(pair.reference, gain * pair.secondary, (0.0, 0.0)), (0.0, 0.0))
    assert np.abs(found[:2] - (0.3, -0.2)).max() < 0.01


def test_both_images_bright_change_nothing() -> None:
    pair = shifted_pair((128, 128), (0.3, -0.2), noise=0.1)
    plain = solved(sums_of(pair.reference, pair.secondary, (0.0, 0.0)), (0.0, 0.0))[1]
    bright = solved(sums_of(pair.reference * 300 + 60000, pair.secondary * 300 + 60000, (0.0, 0.0)), (0.0, 0.0))[1]
    np.testing.assert_allclose(bright[:5], plain[:5], atol=2e-4)


@pytest.mark.parametrize("brightness", [0.0, 0.1, 1.0, 1234.5, 60000.0])
def test_a_flat_chip_has_no_displacement_that_anything_would_believe(brightness: float) -> None:
    texture = shifted_pair((128, 128)).reference
    flat = np.full((128, 128), brightness, np.float32)
    assert not solved(sums_of(flat, flat, (0.0, 0.0)), (0.0, 0.0))[0]
    assert not solved(sums_of(texture, np.zeros_like(flat), (0.0, 0.0)), (0.0, 0.0))[0]
    for reference, secondary in ((texture, flat), (texture + brightness, flat), (flat, texture), (flat, texture + brightness)):
        there, found = solved(sums_of(reference, secondary, (0.0, 0.0)), (0.0, 0.0))
        assert not there or found[4] < 0.001


def test_nothing_and_a_negative_have_no_displacement() -> None:
    nothing = np.full((128, 128), np.nan, np.float32)
    sums = sums_of(nothing, nothing, (0.0, 0.0))
    assert (sums[..., N] == 0).all()
    assert not solved(sums, (0.0, 0.0))[0]
    texture = shifted_pair((128, 128)).reference
    assert not solved(sums_of(texture, -texture, (0.0, 0.0)), (0.0, 0.0))[0]


def test_a_block_that_was_drawn_back_by_another_displacement_counts_with_it() -> None:
    pair = shifted_pair((128, 128), (0.3, -0.2), noise=0.0, sigma=2.0)
    near, far = (sums_of(pair.reference, pair.secondary, field) for field in ((0.25, -0.15), (0.55, -0.45)))
    mixed = near.copy()
    mixed[:, 2:] = far[:, 2:]
    _, found = solved(mixed, (0.0, 0.0))
    assert abs(found[0] - 0.3) < 0.015
    assert abs(found[1] + 0.2) < 0.015


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_errors_are_as_large_as_the_scatter(noise: float) -> None:
    clean, blocks = shifted_pair((160, 160), (0.2, -0.15), noise=0.0), 12
    rng, off, errors = np.random.default_rng(7), [], []
    for _ in range(25):
        reference = clean.reference + rng.normal(0, noise, clean.reference.shape)
        secondary = clean.secondary + rng.normal(0, noise, clean.reference.shape)
        sums = sums_of(reference, secondary, (0.2, -0.15), 32, blocks)
        for i in range(0, blocks, COUNT):
            for j in range(0, blocks, COUNT):
                there, found = solved(sums[i : i + COUNT, j : j + COUNT], (0.2, -0.15))
                assert there
                off.append(found[:2] - (0.2, -0.15))
                errors.append(found[2:4])
    scatter, said = np.sqrt(np.mean(np.square(off))), np.sqrt(np.mean(np.square(errors)))
    assert len(off) >= 200
    assert said == pytest.approx(scatter, rel=0.2)
    assert np.abs(np.mean(off, 0)).max() < 0.2 * scatter
