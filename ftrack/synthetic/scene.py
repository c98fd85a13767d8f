"""One scene of the simulated archive: what was drawn for it, and its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import numpy as np

from ftrack.settings import Settings, option
from ftrack.synthetic.glacier import Glacier, smooth_step
from ftrack.synthetic.ground import Ground, Layer, look_at, make_ground
from ftrack.synthetic.texture import Array, sample, smooth_noise, spline_of

YEAR = 365.25
MIDSUMMER = 200
"""Day of the year on which the ice is fastest."""
THIN, VISIBLE, DENSE = 0.02, 0.12, 0.35
"""Opacity from which there is cloud at all, from which the mask knows, and from which the mask is sure."""
NODATA, BARE, CLOUD_MEDIUM, CLOUD_HIGH, ICE = 0, 5, 8, 9, 11
"""Classes of the Sentinel-2 scene classification that occur."""
BAND = 512
"""Rows that are drawn at a time."""


class ArchiveSettings(Settings):
    """A simulated archive: size, dates, flow, and what disturbs the images."""

    shape: tuple[int, int] = option((1024, 1024), "rows and columns of every scene; even", unit="px")
    scenes: int = option(8, "number of scenes", ge=1)
    days: float = option(5.0, "time from one scene to the next", unit="days", gt=0)
    start: date = option(date(2021, 5, 3), "date of the first scene")
    seed: int = option(0, "same seed, same archive", ge=0)
    max_speed: float = option(2500.0, "highest speed on the map, averaged over the seasons", unit="m/yr", ge=0)
    season: float = option(0.3, "amplitude of the seasonal speed as a share of the mean; fastest in July", ge=0, lt=1)
    memory: float | None = option(180.0, "time after which the ice looks entirely different; null = never", unit="days", gt=0)
    blur: float = option(0.8, "width (sigma) of the sensor's point spread", unit="px", ge=0.6)
    noise: float = option(20.0, "standard deviation of the sensor's noise", unit="digital numbers", ge=0)
    illumination: float = option(0.08, "largest change of gain between scenes; offset and brightness ramp go with it", ge=0, lt=0.5)
    cloud: float = option(0.1, "share of the scenes that is cloudy, on average", ge=0, le=0.6)
    swath_edges: float = option(0.25, "share of the scenes that a swath edge cuts", ge=0, le=1)
    shift: float = option(0.7, "largest error of the geolocation along x and along y", unit="px", ge=0, le=20)
    orbits: tuple[int, ...] = option((25,), "relative orbits, in turn", min_length=1)
    epsg: int = option(32622, "projected CRS")
    left: float = option(540000.0, "left edge on the map", unit="m")
    top: float = option(7680000.0, "top edge on the map", unit="m")
    resolution: float = option(10.0, "pixel size on the map", unit="m", gt=0)


TINY = ArchiveSettings(shape=(256, 256), scenes=4, max_speed=700.0)
"""A small archive for tests."""


@dataclass(frozen=True, kw_only=True)
class SceneFacts:
    """What was drawn for one scene.

    Attributes
    ----------
    id, image_id : str
        The STAC item, and the pass of the sensor as pairs and cubes name it.
    platform, orbit, time
        Identity; the time is UTC.
    day, flow_day : float
        Days since the first scene, and the days of mean flow that bring the ice as far.
    shift : (float, float)
        Geolocation error (dx, dy) in px: what is truly at p shows at p + shift.
    gain, offset, ramp
        Brightness is ``gain * (1 + ramp_x * X + ramp_y * Y) * ground + offset``, X and Y from -0.5 to 0.5 over the scene.
    cloud : float
        Share of the scene with any cloud.
    edge : (float, float) or None
        Angle (rad) and distance from the middle (px) of the swath edge; beyond it there are no data.
    """

    index: int
    id: str
    image_id: str
    platform: str
    orbit: int
    time: datetime
    day: float
    flow_day: float
    shift: tuple[float, float]
    gain: float
    offset: float
    ramp: tuple[float, float]
    cloud: float
    edge: tuple[float, float] | None


def draw_scenes(settings: ArchiveSettings) -> tuple[SceneFacts, ...]:
    """Return the facts of every scene, by time."""
    rng = np.random.default_rng((settings.seed, 1))
    count = settings.scenes
    clouds = rng.exponential(size=count)
    clouds = np.minimum(settings.cloud * clouds / clouds.mean(), 0.9)
    cut = set(rng.permutation(count)[: round(settings.swath_edges * count)].tolist())
    return tuple(_draw_scene(settings, i, float(clouds[i]), i in cut) for i in range(count))


def _draw_scene(settings: ArchiveSettings, index: int, cloud: float, cut: bool) -> SceneFacts:
    rng = np.random.default_rng((settings.seed, 2, index))
    shift, gain, offset, ramp = rng.uniform(-1, 1, 2), rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(-1, 1, 2)
    angle, distance = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.4) * min(settings.shape)
    day = index * settings.days
    time = datetime(settings.start.year, settings.start.month, settings.start.day, 15, 5, 19, tzinfo=UTC) + timedelta(days=day)
    letter, orbit = "ab"[index % 2], settings.orbits[index % len(settings.orbits)]
    name = f"S2{letter.upper()}_{time:%Y%m%dT%H%M%S}"
    return SceneFacts(
        index=index,
        id=f"SIM_{name}",
        image_id=f"{name}_R{orbit:03d}",
        platform=f"sentinel-2{letter}",
        orbit=orbit,
        time=time,
        day=day,
        flow_day=flow_days(settings, day),
        shift=(settings.shift * float(shift[0]), settings.shift * float(shift[1])),
        gain=1 + settings.illumination * float(gain),
        offset=1500 * settings.illumination * float(offset),
        ramp=(settings.illumination * float(ramp[0]), settings.illumination * float(ramp[1])),
        cloud=cloud,
        edge=(float(angle), float(distance)) if cut else None,
    )


def season_at(settings: ArchiveSettings, day: float) -> float:
    """Return the speed as a share of the mean speed."""
    return 1 + settings.season * math.cos(_season_angle(settings, day))


def flow_days(settings: ArchiveSettings, day: float) -> float:
    """Return the days of mean flow that bring the ice as far as it comes from the first scene to ``day``."""
    swing = math.sin(_season_angle(settings, day)) - math.sin(_season_angle(settings, 0))
    return day + settings.season * swing * YEAR / (2 * math.pi)


def _season_angle(settings: ArchiveSettings, day: float) -> float:
    return 2 * math.pi * (day + settings.start.timetuple().tm_yday - MIDSUMMER) / YEAR


def make_glacier(settings: ArchiveSettings) -> Glacier:
    """Return the flow of an archive."""
    return Glacier(*settings.shape, settings.max_speed / settings.resolution / YEAR)


def layers_at(settings: ArchiveSettings, day: float) -> tuple[Layer, ...]:
    """Return the textures of the ice on a day: one fades into the next, with constant contrast, over the memory."""
    if settings.memory is None:
        return (Layer(0, 1.0, flow_days(settings, day)),)
    first = math.floor(day / settings.memory)
    weights = ((i, math.cos(0.5 * math.pi * (day / settings.memory - i))) for i in (first, first + 1))
    now = flow_days(settings, day)
    return tuple(Layer(i, weight, now - flow_days(settings, i * settings.memory)) for i, weight in weights if weight > 1e-12)


@lru_cache(maxsize=2)
def ground_of(settings: ArchiveSettings) -> Ground:
    """Return the flow and the textures of an archive."""
    return make_ground(make_glacier(settings), settings.blur, settings.seed)


@lru_cache(maxsize=8)
def cloud_spline(settings: ArchiveSettings, index: int) -> tuple[Array, float]:
    """Return the clouds of a scene, a spline on every fourth pixel, and the value from which there is cloud."""
    shape = (max(16, -(-settings.shape[0] // 4)), max(16, -(-settings.shape[1] // 4)))
    side = min(shape)
    field = smooth_noise(shape, 0.09 * side, (settings.seed, 3, index)) + 0.3 * smooth_noise(shape, 0.02 * side, (settings.seed, 4, index))
    return spline_of(field, 3), float(np.quantile(field, 1 - draw_scenes(settings)[index].cloud))


def opacity_at(settings: ArchiveSettings, scene: SceneFacts, x: Array, y: Array) -> Array:
    """Return how opaque the cloud is (0 to 1) at pixel corners of the scene."""
    if scene.cloud <= 0:
        return np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)))
    spline, limit = cloud_spline(settings, scene.index)
    x, y = np.broadcast_arrays(x, y)
    return 0.95 * smooth_step((sample(spline, x / 4, y / 4, 3) - limit) / 0.6)


def has_data(settings: ArchiveSettings, scene: SceneFacts, x: Array, y: Array) -> Array:
    """Return whether pixel corners of the scene lie within it and on the near side of its swath edge."""
    height, width = settings.shape
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    if scene.edge is None:
        return np.asarray(inside)
    angle, distance = scene.edge
    return np.asarray(inside & ((x - width / 2) * math.cos(angle) + (y - height / 2) * math.sin(angle) < distance))


def draw_image(settings: ArchiveSettings, scene: SceneFacts) -> tuple[Array, Array]:
    """Return the pixels of a scene.

    Returns
    -------
    nir : ndarray
        (y, x) uint16 digital numbers, 0 = no data.
    classes : ndarray
        (y/2, x/2) uint8, classes of the Sentinel-2 scene classification.
    """
    height, width = settings.shape
    rng = np.random.default_rng((settings.seed, 5, scene.index))
    nir = np.zeros((height, width), np.uint16)
    classes = np.zeros((height // 2, width // 2), np.uint8)
    for top in range(0, height, BAND):
        bottom = min(top + BAND, height)
        y, x = np.ogrid[top + 0.5 : bottom, 0.5:width]
        opacity = opacity_at(settings, scene, x, y)
        valid = has_data(settings, scene, x, y)
        seen = _brightness(settings, scene, x, y, opacity) + settings.noise * rng.standard_normal(valid.shape)
        nir[top:bottom] = np.where(valid, np.clip(np.rint(seen), 1, 65535), 0)
        rock = ground_of(settings).glacier.is_rock(x - scene.shift[0], y - scene.shift[1])
        classes[top // 2 : bottom // 2] = _classes(opacity, valid, rock)
    return nir, classes


def _brightness(settings: ArchiveSettings, scene: SceneFacts, x: Array, y: Array, opacity: Array) -> Array:
    height, width = settings.shape
    ground = look_at(ground_of(settings), x - scene.shift[0], y - scene.shift[1], layers_at(settings, scene.day))
    light = 1 + scene.ramp[0] * (x / width - 0.5) + scene.ramp[1] * (y / height - 0.5)
    lit = scene.gain * light * ground + scene.offset
    return np.asarray(lit + opacity * (7500 + 1500 * opacity - lit))


def _classes(opacity: Array, valid: Array, rock: Array) -> Array:
    rows, columns = opacity.shape[0] // 2, opacity.shape[1] // 2

    def blocks(array: Array) -> Array:
        return array.reshape(rows, 2, columns, 2).transpose(0, 2, 1, 3).reshape(rows, columns, 4)

    cover = blocks(opacity).max(axis=2)
    classes = np.where(blocks(rock).mean(axis=2) > 0.5, BARE, ICE)
    classes[cover > VISIBLE] = CLOUD_MEDIUM
    classes[cover > DENSE] = CLOUD_HIGH
    classes[~blocks(valid).all(axis=2)] = NODATA
    return classes.astype(np.uint8)
