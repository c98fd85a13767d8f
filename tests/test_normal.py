"""Sums over blocks: against the plain sum in double precision, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import drawn_back
from scipy import ndimage

from ftrack.kernels.deform import FRACTIONS, REACH, WEIGHTS
from ftrack.kernels.normal import DX, DY, KEPT, LANES, PLANES, RR, RW, RX, RY, WW, XW, XX, XY, YW, YY, N, R, W, X, Y, block_sums
from ftrack.synthetic.texture import smooth_noise

PRODUCTS = dict(
    zip(
        (N, R, X, Y, W, RR, RX, RY, RW, XX, XY, YY, XW, YW, WW),
        ("1", "r", "x", "y", "w", "rr", "rx", "ry", "rw", "xx", "xy", "yy", "xw", "yw", "ww"),
        strict=True,
    )
)
"""Which factors each sum is of."""


def some_planes(side: int, shape: tuple[int, int], brightness: float, gaps: float) -> np.ndarray:
    """Return planes as ``draw_back`` makes them: images of one texture, a field of displacement that changes slowly."""
    rng = np.random.default_rng(side)
    height, width = shape[0] * side, shape[1] * side
    planes = np.zeros((6, height, width + LANES), np.float32)
    inner = planes[:, :, :width]
    inner[:4] = rng.normal(size=(4, height, width))
    inner[0] += brightness
    inner[3] += brightness
    inner[4] = 2.0 + 0.01 * np.arange(width) + rng.normal(0, 0.002, (height, width))
    inner[5] = -3.0 + 0.02 * np.arange(height)[:, None]
    for k in range(4):
        inner[k][rng.random((height, width)) < gaps] = np.nan
    return planes


def plain_block(planes: np.ndarray) -> np.ndarray:
    """Sum one block in double precision; the secondary as if the block were drawn back by the displacement of its middle."""
    r, x, y, w, dx, dy = planes.astype(float)
    middle = (r.shape[0] // 2, r.shape[1] // 2)
    w = w - (x * (dx - dx[middle]) + y * (dy - dy[middle]))
    known = np.isfinite(r + x + y + w)
    factors = {"1": np.ones_like(r), "r": r, "x": x, "y": y, "w": w}
    out = np.empty(PLANES)
    for p, names in PRODUCTS.items():
        out[p] = np.prod([factors[name][known] for name in names], axis=0).sum()
    out[DX], out[DY] = dx[middle], dy[middle]
    kept = [np.square(WEIGHTS[round(moved % 1 * FRACTIONS)], dtype=float).sum() for moved in out[[DX, DY]]]
    out[KEPT] = out[N] * kept[0] * kept[1]
    return out


def sizes(planes: np.ndarray) -> np.ndarray:
    """Return how large each sum could be: the root of the sums of squared factors."""
    r, x, y, w = np.nan_to_num(planes[:4].astype(float))
    size = {"1": np.sqrt(r.size), **{name: max(np.linalg.norm(f), 1e-9) for name, f in zip("rxyw", (r, x, y, w), strict=True)}}
    out = np.ones(PLANES)
    for p, names in PRODUCTS.items():
        out[p] = size[names[0]] * size[names[-1] if len(names) > 1 else "1"]
    return out


@pytest.mark.parametrize("side", [1, 3, 8, 16])
@pytest.mark.parametrize(("brightness", "gaps"), [(0.0, 0.0), (1e4, 0.0), (1e4, 0.05), (-3.0, 0.3)])
def test_sums_are_those_of_double_precision(side: int, brightness: float, gaps: float) -> None:
    shape = (4, 5)
    planes = some_planes(side, shape, brightness, gaps)
    sums = np.empty((*shape, PLANES))
    block_sums(planes, side, np.ones(shape[0], np.bool_), sums)
    for i in range(shape[0]):
        for j in range(shape[1]):
            block = planes[:, i * side : (i + 1) * side, j * side : (j + 1) * side]
            expected = plain_block(block)
            assert sums[i, j, N] == expected[N]
            assert sums[i, j, KEPT] == pytest.approx(expected[KEPT], rel=0.01)
            np.testing.assert_array_less(np.abs(sums[i, j] - expected)[:KEPT], (1e-5 * sizes(block) + 1e-12)[:KEPT], err_msg=f"{i} {j}")


@pytest.mark.parametrize("side", [4, 8, 16])
def test_brightness_takes_nothing_from_the_variance(side: int) -> None:
    planes = some_planes(side, (3, 3), 1e4, 0.0)
    sums = np.empty((3, 3, PLANES))
    block_sums(planes, side, np.ones(3, np.bool_), sums)
    expected = plain_block(planes[:, :side, :side])
    for p, a, b in ((RR, R, R), (RW, R, W), (WW, W, W), (RX, R, X), (YW, Y, W)):
        found = sums[0, 0, p] - sums[0, 0, a] * sums[0, 0, b] / side**2
        assert found == pytest.approx(expected[p] - expected[a] * expected[b] / side**2, abs=2e-3 * side**2)


def test_a_block_without_data_is_all_zero() -> None:
    planes = some_planes(8, (2, 3), 5.0, 0.0)
    planes[3, :8, 8:16] = np.nan
    planes[0, 8:, :8] = np.nan
    sums = np.empty((2, 3, PLANES))
    block_sums(planes, 8, np.ones(2, np.bool_), sums)
    assert (sums[0, 1, :DX] == 0.0).all()
    assert (sums[1, 0, :DX] == 0.0).all()
    assert (sums[..., N] == [[64, 0, 64], [0, 64, 64]]).all()


def test_rows_that_are_not_used_are_skipped() -> None:
    planes, used = some_planes(8, (4, 3), 5.0, 0.0), np.array([True, False, False, True])
    whole, sums = np.empty((4, 3, PLANES)), np.full((4, 3, PLANES), 7.0)
    block_sums(planes, 8, np.ones(4, np.bool_), whole)
    planes[:, 8:24] = np.nan
    block_sums(planes, 8, used, sums)
    np.testing.assert_array_equal(sums[used], whole[used])
    assert (sums[~used] == 7.0).all()


def test_a_block_does_not_depend_on_those_around_it() -> None:
    planes = some_planes(8, (4, 6), 5.0, 0.02)
    whole, part = np.empty((4, 6, PLANES)), np.empty((2, 3, PLANES))
    block_sums(planes, 8, np.ones(4, np.bool_), whole)
    block_sums(np.ascontiguousarray(planes[:, 8:24, 16 : 40 + LANES]), 8, np.ones(2, np.bool_), part)
    np.testing.assert_array_equal(part, whole[1:3, 2:5])


def drawn(reference: np.ndarray, secondary: np.ndarray, moved: tuple[float, float], used: np.ndarray) -> np.ndarray:
    """Draw back the inner 64 x 64 px of two images of 120 x 120 px; without the columns that only fill up vectors."""
    field = np.empty((2, 8, 8), np.float32)
    field[0], field[1] = moved
    area = np.ascontiguousarray(reference[28 - REACH : 92 + REACH, 28 - REACH : 92 + REACH])
    return drawn_back(area, secondary, 28, field, (-16, -16, 16), used)[:, :, :64]


def test_a_shifted_texture_that_is_drawn_back_agrees_with_the_reference() -> None:
    texture = smooth_noise((120, 120), 2.0, 3)
    secondary = ndimage.shift(texture, (-2.25, 3.5), order=5, mode="nearest")
    planes = drawn(texture.astype(np.float32), secondary.astype(np.float32), (3.5, -2.25), np.ones(8, np.bool_))
    reference, x_gradient, y_gradient, warped, dx, dy = planes
    np.testing.assert_array_equal(reference, texture[28:92, 28:92].astype(np.float32))
    assert (dx == 3.5).all()
    assert (dy == -2.25).all()
    assert np.sqrt(np.mean(np.square(warped - reference))) < 0.01
    y, x = np.gradient(texture)
    assert np.corrcoef(x_gradient.ravel(), x[28:92, 28:92].ravel())[0, 1] > 0.99
    assert np.corrcoef(y_gradient.ravel(), y[28:92, 28:92].ravel())[0, 1] > 0.99


def test_rows_of_blocks_that_are_not_used_are_not_drawn() -> None:
    texture = smooth_noise((120, 120), 2.0, 3).astype(np.float32)
    whole = drawn(texture, texture, (0.5, 0.5), np.ones(8, np.bool_))
    used = np.zeros(8, np.bool_)
    used[[0, 3, 4]] = True
    planes = drawn(texture, texture, (0.5, 0.5), used)
    rows = np.repeat(used, 8)
    np.testing.assert_array_equal(planes[:, rows], whole[:, rows])
    assert (planes[:, ~rows] == 7.0).all()


def test_gaps_of_either_image_reach_the_planes() -> None:
    texture = smooth_noise((120, 120), 2.0, 3).astype(np.float32)
    holed = texture.copy()
    holed[60, 50] = np.nan
    planes = drawn(holed, texture, (0.0, 0.0), np.ones(8, np.bool_))
    assert np.isnan(planes[0, 32, 22])
    assert np.isnan(planes[:4]).any(0).sum() == 1 + 4 * REACH
    planes = drawn(texture, holed, (0.0, 0.0), np.ones(8, np.bool_))
    assert np.isnan(planes[3]).sum() == 64
    assert not np.isnan(planes[0]).any()
