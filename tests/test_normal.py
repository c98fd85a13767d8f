"""Sums over blocks: against the plain sum in double precision, pixel by pixel."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from oracles import factors_of_block, summed
from scipy import ndimage

from ftrack.kernels.deform import AFTER, BEFORE, FRACTIONS, KEPT_BETWEEN, REACH
from ftrack.kernels.normal import (
    KEPT,
    MD,
    NARROWEST,
    ND,
    PLANES,
    RR,
    RW,
    RX,
    RY,
    WIDEST,
    WW,
    XD,
    XW,
    XX,
    XY,
    YD,
    YW,
    YY,
    N,
    R,
    W,
    X,
    Y,
)
from ftrack.synthetic.texture import smooth_noise

PRODUCTS = dict(
    zip(
        (N, R, X, Y, W, RR, RX, RY, RW, XX, XY, YY, XW, YW, WW),
        ("1", "r", "x", "y", "w", "rr", "rx", "ry", "rw", "xx", "xy", "yy", "xw", "yw", "ww"),
        strict=True,
    )
)
"""Which factors each sum is of."""

EVEN = 1.5
"""Change of displacement from which blocks are drawn back in parts, px: some of them are."""

CORNER, SPACING, ROOM = (22, 25), 16, 24
"""First pixel of the blocks, pixels between nodes, and how far these begin before it."""

Images = tuple[np.ndarray, np.ndarray]


def some_images(brightness: float = 0.0, gaps: float = 0.0, shape: tuple[int, int] = (120, 130)) -> Images:
    rng = np.random.default_rng(5)
    images = tuple(rng.normal(size=shape).astype(np.float32) + np.float32(brightness) for _ in range(2))
    for image in images:
        image[rng.random(shape) < gaps] = np.nan
    return images[0], images[1]


def some_field(peak: float = 5.0) -> np.ndarray:
    """Return displacement at nodes that reach around all blocks, float64 (2, row, column)."""
    return np.random.default_rng(4).uniform(-peak, peak, (2, 11, 11))


def sums_of(
    images: Images,
    field: np.ndarray,
    side: int,
    shape: tuple[int, int],
    corner: tuple[int, int] = CORNER,
    used: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    used = used or (np.ones(shape[0], np.bool_), np.ones(shape[1], np.bool_))
    return summed(images, corner, field, (-ROOM, -ROOM, SPACING), side, used, before=7.0, even=EVEN)


def at(field: np.ndarray, y: float, x: float) -> tuple[float, float]:
    """Interpolate a field linearly, y and x px after the first pixel of the blocks."""
    place = [[(y + ROOM) / SPACING], [(x + ROOM) / SPACING]]
    dx, dy = (float(ndimage.map_coordinates(part, place, order=1)[0]) for part in field.astype(np.float32).astype(float))
    return dx, dy


def cuts_of(side: int, change: np.ndarray) -> list[int]:
    """Return where the parts of a block begin and end along an axis, from half the change of displacement per pixel."""
    parts = -(-side // WIDEST)
    if 2 * np.abs(change).max() * side > EVEN * parts and side >= 2 * parts * NARROWEST:
        parts *= 2
    return [k * side // parts for k in range(parts + 1)]


def plain_block(images: Images, field: np.ndarray, side: int, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum one block in double precision, and say how large each sum could be: the root of the sums of squared factors."""
    out, size = np.zeros((2, PLANES))
    corners = np.array([[at(field, (i + y) * side, (j + x) * side) for x in (0, 1)] for y in (0, 1)])
    along, down = (0.5 * np.diff(corners, axis=axis).mean((0, 1)) / side for axis in (1, 0))
    for top, bottom in pairwise(cuts_of(side, down)):
        for left, right in pairwise(cuts_of(side, along)):
            moved = at(field, i * side + (top + bottom) / 2, j * side + (left + right) / 2)
            steps = [round(part * FRACTIONS) for part in moved]
            extent = max(bottom - top, right - left)
            factors = factors_of_block(images, CORNER[0] + i * side + top, CORNER[1] + j * side + left, extent, moved)
            factors = {name: part[: bottom - top, : right - left] for name, part in factors.items()}
            x, y = factors["x"], factors["y"]
            factors["x"], factors["y"] = x + along[0] * x + along[1] * y, y + down[0] * x + down[1] * y
            known = np.isfinite(factors["r"])
            factors["1"] = np.ones(known.shape)
            bright = np.abs(np.nan_to_num(factors["r"])).max()
            norms = {name: np.linalg.norm(np.nan_to_num(part)) + bright * len(known) for name, part in factors.items()}
            total = np.zeros(PLANES)
            for p, names in PRODUCTS.items():
                total[p] = np.prod([factors[name][known] for name in names], axis=0).sum()
                a, b = names if len(names) > 1 else names + "1"
                size[p] += norms[a] * norms[b]
            dx, dy = (step / FRACTIONS for step in steps)
            total[XD], total[YD] = total[XX] * dx + total[XY] * dy, total[XY] * dx + total[YY] * dy
            total[ND], total[MD] = total[N] * dx, total[N] * dy
            total[KEPT] = total[N] * np.prod([KEPT_BETWEEN[step % FRACTIONS] for step in steps])
            out += total
    size[[XD, YD]] = 10.0 * (size[XX] + size[YY])
    size[[ND, MD, KEPT]] = 10.0 * side**2
    return out, size


@pytest.mark.parametrize("side", [1, 3, 8, 10, 16, 25])
@pytest.mark.parametrize(("brightness", "gaps"), [(0.0, 0.0), (1e4, 0.0), (1e4, 0.004), (-3.0, 0.01)])
def test_sums_are_those_of_double_precision(side: int, brightness: float, gaps: float) -> None:
    images, field, shape = some_images(brightness, gaps), some_field(), (3, 3)
    sums = sums_of(images, field, side, shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            expected, size = plain_block(images, field, side, i, j)
            assert sums[i, j, N] == expected[N]
            np.testing.assert_array_less(np.abs(sums[i, j] - expected), 1e-6 * size + 1e-5, err_msg=f"{i} {j}")


@pytest.mark.parametrize("side", [4, 8, 16])
def test_brightness_takes_nothing_from_the_variance(side: int) -> None:
    images, field = some_images(1e4), some_field()
    sums, (expected, _) = sums_of(images, field, side, (3, 3)), plain_block(images, field, side, 0, 0)
    for p, a, b in ((RR, R, R), (RW, R, W), (WW, W, W), (RX, R, X), (RY, R, Y), (XW, X, W), (YW, Y, W)):
        found = sums[0, 0, p] - sums[0, 0, a] * sums[0, 0, b] / side**2
        assert found == pytest.approx(expected[p] - expected[a] * expected[b] / side**2, abs=2e-3 * side**2)


def test_a_block_without_data_is_all_zero() -> None:
    images, field = some_images(5.0), np.zeros((2, 11, 11))
    images[0][CORNER[0] : CORNER[0] + 8, CORNER[1] + 8 : CORNER[1] + 16] = np.nan
    images[1][CORNER[0] + 8 : CORNER[0] + 16, CORNER[1] : CORNER[1] + 8] = np.inf
    sums = sums_of(images, field, 8, (2, 3))
    assert (sums[0, 1] == 0.0).all()
    assert (sums[1, 0] == 0.0).all()
    assert sums[0, 0, N] == (8 - REACH) * (8 - AFTER)
    assert sums[0, 2, N] == (8 - REACH) * 8


def test_rows_and_columns_that_are_not_used_are_left_alone() -> None:
    images, field = some_images(), some_field()
    rows, columns = np.array([True, False, False, True]), np.array([False, True, True])
    whole, sums = sums_of(images, field, 8, (4, 3)), sums_of(images, field, 8, (4, 3), used=(rows, columns))
    np.testing.assert_array_equal(sums[np.ix_(rows, columns)], whole[np.ix_(rows, columns)])
    assert (sums[~rows] == 7.0).all()
    assert (sums[:, ~columns] == 7.0).all()


@pytest.mark.parametrize("side", [3, 8, 16])
def test_a_block_does_not_depend_on_those_around_it_nor_on_pixels_that_it_does_not_need(side: int) -> None:
    images, field = some_images(5.0, 0.002), some_field()
    whole = sums_of(images, field, side, (3, 4))
    top, left = CORNER[0] + side, CORNER[1] + 2 * side
    far = 5 + REACH + AFTER + 1
    cut = (slice(top - far, top + side + far), slice(left - far, left + side + far))
    place = (-ROOM - side, -ROOM - 2 * side, SPACING)
    one = np.ones(1, np.bool_)
    part = summed((images[0][cut], images[1][cut]), (far, far), field, place, side, (one, one), even=EVEN)
    np.testing.assert_array_equal(part[0, 0], whole[1, 2])


@pytest.mark.parametrize("corner", [(-10, -5), (100, 105), (-1000, 0), (0, 1000)])
def test_what_lies_beyond_the_images_is_missing(corner: tuple[int, int]) -> None:
    images, field = some_images(), some_field(2.0)
    room = 60
    wide = tuple(np.pad(image, room, constant_values=np.nan) for image in images)
    sums = sums_of(images, field, 8, (4, 4), corner)
    inside = max(map(abs, corner)) < 500
    expected = sums_of((wide[0], wide[1]), field, 8, (4, 4), (corner[0] + room, corner[1] + room)) if inside else np.zeros_like(sums)
    np.testing.assert_array_equal(sums, expected)
    assert (sums[..., N] > 0).any() == inside


def test_a_shifted_texture_that_is_drawn_back_agrees_with_the_reference() -> None:
    texture, field = smooth_noise((120, 120), 2.0, 3), np.empty((2, 11, 11))
    field[0], field[1] = 3.5, -2.25
    sums = sums_of((texture, ndimage.shift(texture, (-2.25, 3.5), order=5, mode="nearest")), field, 8, (8, 8))
    off = (sums[..., WW] - 2 * sums[..., RW] + sums[..., RR]).sum() / sums[..., N].sum()
    assert np.sqrt(off) < 0.01
    np.testing.assert_array_equal(sums[..., ND], 3.5 * sums[..., N])
    np.testing.assert_array_equal(sums[..., MD], -2.25 * sums[..., N])


def test_a_missing_pixel_is_missing_wherever_it_is_needed_and_nowhere_else() -> None:
    still = np.zeros((2, 11, 11))
    images = some_images()
    images[0][60, 60] = np.nan
    assert 64 * 36 - sums_of(images, still, 8, (6, 6))[..., N].sum() == 1 + 4 * REACH
    images = some_images()
    images[1][60, 60] = np.nan
    wide = BEFORE + AFTER + 1
    assert 64 * 36 - sums_of(images, still, 8, (6, 6))[..., N].sum() == wide**2
