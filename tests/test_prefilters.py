"""The prefilters are what their definitions say, respect gaps, and do not depend on tiles."""

from __future__ import annotations

import numpy as np
import oracles_clean as oracles
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ftrack.errors import Stop
from ftrack.prefilters import (
    LEAST_SUPPORT,
    NAOF,
    WINDOW,
    HighPass,
    ImageFilter,
    LaplacianOfGaussian,
    NoFilter,
    Orientation,
    Prefilter,
    Wallis,
    filter_image,
)
from ftrack.settings import Settings

FILTERS = [NoFilter(), HighPass(), LaplacianOfGaussian(), Wallis(width=9), NAOF(), NAOF(sigma=0), Orientation(), Orientation(sigma=0)]
NAMES = [f"{f.kind}-{f.halo}" for f in FILTERS]


def image_of(height: int = 60, width: int = 70, *, seed: int = 0, gaps: float = 0.1, offset: float = 10000.0) -> np.ndarray:
    """Return texture with lone gaps, a block of no data and a slanted swath edge."""
    random = np.random.default_rng(seed)
    image = (offset + 100.0 * random.standard_normal((height, width))).astype(np.float32)
    image[random.random(image.shape) < gaps] = np.nan
    image[10:22, 30:45] = np.nan
    image[np.add.outer(np.arange(height), 2 * np.arange(width)) < 40] = np.nan
    return image


def slow(image: np.ndarray, settings: ImageFilter) -> np.ndarray:
    match settings:
        case HighPass():
            return oracles.highpass(image, settings.sigma, settings.halo, LEAST_SUPPORT)
        case LaplacianOfGaussian():
            return oracles.laplacian(image, settings.sigma, settings.halo, LEAST_SUPPORT)
        case Wallis():
            return oracles.wallis(image, settings.width, settings.floor, LEAST_SUPPORT)
        case NAOF():
            return oracles.naof(image, settings.sigma, settings.halo - 1, LEAST_SUPPORT)
        case Orientation():
            radius = settings.halo - 1 - int(4 * WINDOW)
            return oracles.orientation(image, settings.sigma, radius, WINDOW, int(4 * WINDOW), LEAST_SUPPORT)
    return image


@pytest.mark.parametrize("settings", FILTERS, ids=NAMES)
def test_each_filter_equals_its_plain_definition(settings: ImageFilter) -> None:
    image = image_of(36, 50)
    got, expected = filter_image(image, settings), slow(image.astype(np.float64), settings)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5 * np.nanstd(expected))


@settings(max_examples=40)
@given(
    which=st.integers(0, len(FILTERS) - 1),
    top=st.integers(-30, 60),
    left=st.integers(-30, 70),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 3),
    gaps=st.sampled_from([0.0, 0.02, 0.5]),
)
@example(which=1, top=-5, left=-5, height=20, width=20, seed=0, gaps=0.0)
def test_a_window_with_its_halo_has_the_bits_of_the_whole(
    which: int, top: int, left: int, height: int, width: int, seed: int, gaps: float
) -> None:
    chosen, image = FILTERS[which], image_of(seed=seed, gaps=gaps)
    margin = 120
    wide = np.pad(image, margin, constant_values=np.nan)
    whole = np.pad(filter_image(image, chosen), margin, constant_values=np.nan)
    rows, columns = slice(margin + top, margin + top + height), slice(margin + left, margin + left + width)
    h = chosen.halo
    part = filter_image(wide[rows.start - h : rows.stop + h, columns.start - h : columns.stop + h], chosen)
    part = part[h : h + height, h : h + width]
    assert part.tobytes() == whole[rows, columns].tobytes()


@pytest.mark.parametrize("settings", FILTERS, ids=NAMES)
def test_gaps_neither_spread_nor_ring(settings: ImageFilter) -> None:
    full = image_of(120, 130, gaps=0.0)
    full = np.where(np.isnan(full), np.float32(10000.0), full)
    gappy = full.copy()
    gappy[40:70, 50:90] = np.nan
    gappy[20, 20] = np.nan
    got, without = filter_image(gappy, settings), filter_image(full, settings)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(gappy))
    beside = np.zeros(gappy.shape, bool)
    beside[38:72, 48:92] = True
    beside &= np.isfinite(gappy)
    ordinary = np.std(without[90:, :])
    assert np.abs(got[beside] - got[beside].mean()).max() < 5.5 * ordinary
    assert abs(got[beside].mean() - without[beside].mean()) < 0.25 * ordinary
    far = np.zeros(gappy.shape, bool)
    far[70 + settings.halo :, :] = True
    assert got[far].tobytes() == without[far].tobytes()


@pytest.mark.parametrize("settings", FILTERS[1:], ids=NAMES[1:])
def test_brightness_does_not_matter_and_keeps_precision(settings: ImageFilter) -> None:
    random = np.random.default_rng(2)
    texture = random.integers(-200, 200, (50, 60)).astype(np.float32)
    dark, bright = filter_image(texture, settings), filter_image(texture + np.float32(30000.0), settings)
    np.testing.assert_allclose(bright, dark, rtol=0, atol=1e-5 * np.std(dark))


@pytest.mark.parametrize("settings", [NAOF(), Orientation(), Wallis()], ids=["naof", "orientation", "wallis"])
def test_contrast_does_not_matter_to_the_directional_filters(settings: ImageFilter) -> None:
    image = image_of(50, 60)
    np.testing.assert_allclose(filter_image(image * np.float32(8.0), settings), filter_image(image, settings), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", FILTERS[1:], ids=NAMES[1:])
@pytest.mark.parametrize("level", [0.0, 0.1, 10000.3])
def test_a_flat_image_has_no_texture(settings: ImageFilter, level: float) -> None:
    image = np.full((40, 50), level, np.float32)
    image[10:20, 10:20] = np.nan
    got = filter_image(image, settings)
    np.testing.assert_array_equal(got[np.isfinite(image)], 0.0)


def test_a_lone_pixel_is_no_data_and_a_corner_is_not() -> None:
    image = np.full((40, 40), np.nan, np.float32)
    image[5, 5] = 3.0
    image[20:, 20:] = np.random.default_rng(0).standard_normal((20, 20))
    for chosen in FILTERS[1:4]:
        got = filter_image(image, chosen)
        assert np.isnan(got[5, 5]) and np.isfinite(got[20:, 20:]).all(), chosen


def test_curvature_and_slope_have_their_units() -> None:
    y, x = np.mgrid[:60, :60].astype(np.float32)
    bowl = filter_image((x - 30) ** 2 + 3 * (y - 30) ** 2, LaplacianOfGaussian(sigma=1.5))
    np.testing.assert_allclose(bowl[20:40, 20:40], 2.0 + 6.0, rtol=1e-5)
    # The unit gradient of a cone points outward everywhere: its divergence is one over the distance.
    radius = np.hypot(x - 30, y - 30)
    cone = filter_image(radius.astype(np.float32), Orientation(sigma=0))
    ring = (radius > 15) & (radius < 20)
    np.testing.assert_allclose(cone[ring] * radius[ring], 1.0, rtol=0.02)


def test_orientation_keeps_polarity() -> None:
    image = image_of(50, 60, gaps=0.0)
    np.testing.assert_allclose(filter_image(-image, Orientation()), -filter_image(image, Orientation()), atol=1e-5)


def test_wallis_floor_keeps_noise_low() -> None:
    noise = np.random.default_rng(0).standard_normal((80, 80)).astype(np.float32)
    assert np.std(filter_image(noise, Wallis())) == pytest.approx(1.0, abs=0.05)
    assert np.std(filter_image(noise, Wallis(floor=10.0))) == pytest.approx(0.1, abs=0.01)


def test_settings_are_read_by_kind_and_refuse_nonsense() -> None:
    union: TypeAdapter[Prefilter] = TypeAdapter(Prefilter)
    for chosen in FILTERS:
        assert isinstance(chosen, Settings)
        assert union.validate_python(chosen.model_dump()) == chosen
    with pytest.raises(Stop, match="odd"):
        Wallis(width=10)
    with pytest.raises(Stop, match="sigmma"):
        HighPass(sigmma=2.0)
    with pytest.raises(Stop, match="image by image"):
        filter_image(np.zeros((2, 3, 4), np.float32), HighPass())


def test_a_filter_of_ones_own_works_and_integers_are_taken() -> None:
    class Double:
        halo = 0

        def filter(self, image: np.ndarray) -> np.ndarray:
            return 2 * image

    np.testing.assert_array_equal(filter_image(np.arange(6, dtype=np.uint8).reshape(2, 3), Double()), [[0, 2, 4], [6, 8, 10]])
    assert filter_image(np.empty((0, 4), np.float32), HighPass()).shape == (0, 4)
