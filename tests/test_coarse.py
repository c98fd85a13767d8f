"""Peaks on small images against their plain definition, and the same numbers in any cell."""

from __future__ import annotations

import numpy as np
import pytest

from ftrack.kernels.coarse import BAND, CHIP, EXCLUSION, find_coarse, level, measure

FAR = 7
NODES = (5, 19)


def images(spacing: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a reference and a secondary that shows it again, moved by (2, -1) px, with noise and gaps."""
    rng = np.random.default_rng(seed)
    height, width = (spacing * (n - 1) + CHIP for n in NODES)
    world = rng.normal(size=(height + 2 * FAR, width + 2 * FAR)).astype(np.float32)
    reference = world[FAR - 1 : FAR - 1 + height, FAR - 2 : FAR - 2 + width].copy()
    world += 0.3 * rng.normal(size=world.shape).astype(np.float32)
    reference[3:7, 5:30], world[-20:, :9] = 0.0, 0.0
    return reference, world


def inverses(parts: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for image in parts:
        found.append(np.empty((image.shape[0] - CHIP + 1, image.shape[1] - CHIP + 1), np.float32))
        measure(image, (image != 0).astype(np.float32), CHIP, 20.0, found[-1])
    return found[0], found[1]


def search(spacing: int, span: np.ndarray, cell: tuple[int, int, int, int]) -> np.ndarray:
    pair, found = images(spacing), np.full((6, *NODES), -9.0)
    part = span[cell[0] : cell[1], :, cell[2] : cell[3]]
    union = tuple(int(f(part[:, k])) for k, f in enumerate((np.min, np.max, np.min, np.max)))
    alike = bool((part == np.array(union)[:, None]).all())
    find_coarse(pair, inverses(pair), spacing, FAR, cell, union, span, alike, found)
    return found


def windows(alike: bool) -> np.ndarray:
    span = np.tile(np.array([-5, 6, -6, 7])[:, None], (NODES[0], 1, NODES[1]))
    if not alike:
        moved = np.random.default_rng(1).integers(-2, 2, (NODES[0], 2, NODES[1]))
        span += np.repeat(moved, 2, 1)
        span[:, ::2] += 2
    return np.clip(span, -FAR, FAR)


@pytest.mark.parametrize("spacing", [1, 2, 3, 4, 10, 16])
@pytest.mark.parametrize("alike", [True, False])
def test_peaks_are_those_of_the_definition(spacing: int, alike: bool) -> None:
    span = windows(alike)
    (reference, secondary), found = images(spacing), search(spacing, span, (0, NODES[0], 0, NODES[1]))
    for n, m in np.ndindex(NODES):
        first, last, left, right = span[n, :, m]
        chip = reference[n * spacing : n * spacing + CHIP, m * spacing : m * spacing + CHIP]
        y, x = n * spacing + FAR + first, m * spacing + FAR + left
        parts = np.lib.stride_tricks.sliding_window_view(
            secondary[y : y + last - first + CHIP - 1, x : x + right - left + CHIP - 1], chip.shape
        ).astype(float)
        surface = (parts * chip).sum((2, 3)) / np.sqrt((chip.astype(float) ** 2).sum() * (parts**2).sum((2, 3)))
        peak, (v, u) = surface.max(), np.unravel_index(surface.argmax(), surface.shape)
        rows, columns = np.ogrid[: surface.shape[0], : surface.shape[1]]
        second = surface[(abs(rows - v) > EXCLUSION) | (abs(columns - u) > EXCLUSION)].max()
        np.testing.assert_allclose(found[:2, n, m], (peak, second), atol=2e-6)
        assert tuple(found[2:4, n, m]) == (first + v, left + u)
        if 0 < v < surface.shape[0] - 1 and 0 < u < surface.shape[1] - 1:
            a, b, c = surface[v - 1 : v + 2, u]
            np.testing.assert_allclose(found[4, n, m], first + v + 0.5 * (c - a) / (2 * b - a - c), atol=1e-4)
            a, b, c = surface[v, u - 1 : u + 2]
            np.testing.assert_allclose(found[5, n, m], left + u + 0.5 * (c - a) / (2 * b - a - c), atol=1e-4)
        else:
            assert np.isnan(found[4:, n, m]).all()


@pytest.mark.parametrize("spacing", [2, 3])
def test_the_bits_of_a_node_do_not_depend_on_its_cell(spacing: int) -> None:
    span = windows(alike=False)
    whole = search(spacing, span, (0, NODES[0], 0, NODES[1]))
    for cell in ((0, 2, 0, 1), (1, 5, 3, 19), (4, 5, 18, 19)):
        part = (slice(None), slice(cell[0], cell[1]), slice(cell[2], cell[3]))
        np.testing.assert_array_equal(search(spacing, span, cell)[part], whole[part])


def test_a_levelled_pixel_is_what_it_is_above_the_valid_pixels_around_it() -> None:
    image = np.random.default_rng(2).normal(50.0, 3.0, (14, 17)).astype(np.float32)
    image[4:7, 5] = np.nan
    out, there = np.empty((2, 10, 13), np.float32)
    level(image, 2, out, there)
    around = np.lib.stride_tricks.sliding_window_view(image, (5, 5))
    inner = image[2:-2, 2:-2]
    np.testing.assert_array_equal(there, np.isfinite(inner))
    np.testing.assert_allclose(out, np.where(there > 0, inner - np.nanmean(around, (2, 3)), 0.0), atol=1e-5)


def test_rows_of_several_bands_are_levelled_as_each_by_itself() -> None:
    image = np.random.default_rng(4).normal(50.0, 3.0, (2 * BAND + 13, 40)).astype(np.float32)
    image[BAND - 2 : BAND + 5, 9:14] = np.nan
    out, there = np.empty((2, 2 * BAND + 5, 32), np.float32)
    level(image, 4, out, there)
    for y in range(len(out)):
        alone, flags = np.empty((2, 1, 32), np.float32)
        level(image[y : y + 9], 4, alone, flags)
        np.testing.assert_array_equal((out[y], there[y]), (alone[0], flags[0]))


def test_an_even_image_has_no_texture_and_a_chip_with_few_pixels_is_left_out() -> None:
    out, there = np.empty((2, 20, 20), np.float32)
    level(np.full((24, 24), 0.1, np.float32), 2, out, there)
    inverse = np.empty((5, 5), np.float32)
    measure(out, there, CHIP, 0.0, inverse)
    assert (inverse == 0).all()
    out[:], there[:, 8:] = np.random.default_rng(3).normal(size=out.shape), 0.0
    measure(out, there, CHIP, 100.0, inverse)
    np.testing.assert_array_equal(inverse > 0, np.tile([True, True, False, False, False], (5, 1)))
