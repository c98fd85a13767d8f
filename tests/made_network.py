"""Velocities of pairs of images of ice whose motion is known, as a cube holds them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

START = np.datetime64("2020-01-01", "us")
DAY = np.timedelta64(86_400_000_000, "us")


class Glacier(NamedTuple):
    """Ice whose velocity is ``speed`` m/yr and ``trend`` m/yr^2 more every year, and by ``season`` more on a ``day`` of the year."""

    speed: float = 500.0
    season: float = 100.0
    trend: float = 0.0
    day: float = 0.0

    def position(self, days: np.ndarray) -> np.ndarray:
        years = days / 365.25
        wave = self.season / (2 * np.pi) * np.sin(2 * np.pi * (days - self.day) / 365.25)
        return self.speed * years + self.trend * years**2 / 2 + wave

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the mean velocity between dates, m/yr."""
        a, b = ((date - START) / DAY for date in (first, second))
        return (self.position(b) - self.position(a)) / (b - a) * 365.25


STEADY = Glacier()


def make_network(
    *,
    common: float = 0.5,
    noise: float = 1.0,
    outliers: float = 0.0,
    places: int = 24,
    years: float = 2.0,
    longest: int = 60,
    seed: int = 0,
    glacier: Glacier = STEADY,
) -> xr.Dataset:
    """Return all pairs of up to ``longest`` days of images of a glacier, every component and place with errors of its own.

    A displacement is off by ``noise`` metres, of whose variance images bring the share ``common``. vy is -0.3 vx.
    """
    rng = np.random.default_rng(seed)
    days = np.cumsum(rng.integers(4, 16, int(years * 365.25 / 9.5))).astype(float)
    i, j = np.array([(i, j) for i in range(len(days)) for j in range(i + 1, len(days)) if days[j] - days[i] <= longest]).T
    first, second = (START + (days[n] * DAY.astype(int)).astype("timedelta64[us]") for n in (i, j))
    images = rng.normal(0, noise * np.sqrt(common / 2), (2, len(days), places))
    off = images[:, j] - images[:, i] + rng.normal(0, noise * np.sqrt(1 - common), (2, len(i), places))
    wrong = np.where(rng.random(off.shape) < outliers, rng.normal(0, 2000, off.shape), 0.0)
    truth = np.stack([1.0, -0.3])[:, None, None] * glacier.between(first, second)[:, None]
    per_year = 365.25 / (days[j] - days[i])[:, None]
    values = truth + off * per_year + wrong
    error = np.broadcast_to(noise * per_year, values.shape[1:])
    dims = ("mid_date", "place")
    made = xr.Dataset({"vx": (dims, values[0]), "vy": (dims, values[1]), "vx_error": (dims, error), "vy_error": (dims, error)})
    made["acquisition_date_img1"], made["acquisition_date_img2"] = ("mid_date", first), ("mid_date", second)
    return made.assign_coords(mid_date=first + (second - first) // 2)


def truth_of(made: xr.Dataset) -> np.ndarray:
    """Return what ``vx`` of intervals or pairs should be, ``(mid_date, 1)``."""
    return STEADY.between(made["acquisition_date_img1"].values, made["acquisition_date_img2"].values)[:, None]
