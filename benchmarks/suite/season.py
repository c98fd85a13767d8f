"""Mean, trend and season of every node of a small cube of many pairs; time grows with nodes times pairs."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ftrack.season import seasonal_fit

PAIRS, SIDE = 1000, 50


def make_velocities() -> xr.Dataset:
    """Return pairs of 6 to 120 days of five years, a tenth of their components wrong; 1,000 pairs of 50 x 50 nodes."""
    rng, day = np.random.default_rng(0), np.timedelta64(1, "D")
    dates = np.datetime64("2018-01-01", "us") + np.arange(0, 5 * 365, 6) * day
    first = rng.integers(0, len(dates) - 20, PAIRS)
    second = first + rng.integers(1, 21, PAIRS)
    before, after = dates[first], dates[second]
    turns = [2 * np.pi * (date - dates[0]) / (365.25 * day) for date in (before, after)]
    speed = (500 + 100 * (np.sin(turns[1]) - np.sin(turns[0])) / (turns[1] - turns[0]))[:, None, None]
    error = (300 / ((after - before) / day))[:, None, None]
    made = xr.Dataset(coords={"mid_date": before + (after - before) // 2, "y": np.arange(SIDE), "x": np.arange(SIDE)})
    for name, share in (("vx", 1.0), ("vy", -0.3)):
        noise = error * rng.normal(size=(PAIRS, SIDE, SIDE)) + np.where(rng.random((PAIRS, SIDE, SIDE)) < 0.1, 2000.0, 0.0)
        made[name] = ("mid_date", "y", "x"), (share * speed + noise).astype(np.float32)
        made[f"{name}_error"] = ("mid_date", "y", "x"), np.broadcast_to(error, noise.shape).astype(np.float32)
    made["acquisition_date_img1"], made["acquisition_date_img2"] = ("mid_date", before), ("mid_date", after)
    return made


class Season:
    """The fit of all nodes."""

    def setup(self) -> None:
        """Make the velocities."""
        self.velocities = make_velocities()

    def time_fit(self) -> None:
        """Fit, in the threads of this machine."""
        seasonal_fit(self.velocities).compute()
