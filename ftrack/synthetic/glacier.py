"""The flow of the simulated outlet glacier, with exact paths: every particle stays on its own flow line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Array = np.ndarray

MARGIN = 0.35
"""Half width of the shear margins as a share of the glacier's half width."""


@dataclass(frozen=True)
class Glacier:
    """A winding, narrowing glacier that flows from right to left between still rock.

    Places are pixel corners of the unshifted ground, x to the right and y down. The flow line of a place is its
    distance from the centre line in half widths, ``s``; the flow is free of divergence and keeps ``s`` unchanged,
    so the place after any time follows in closed form.

    Attributes
    ----------
    height, width : int
        Size of the scene in px.
    top_speed : float
        Highest speed anywhere in the scene in px per day, averaged over the seasons.
    """

    height: int
    width: int
    top_speed: float

    def centre(self, x: Array) -> tuple[Array, Array]:
        """Return y of the centre line and its slope."""
        k = 2 * math.pi / (1.3 * self.width)
        size = 0.06 * self.height
        return self.height / 2 + size * np.sin(k * x), size * k * np.cos(k * x)

    @property
    def widening(self) -> tuple[float, float]:
        """Half width at the left edge, and what it gains per px to the right."""
        middle = 0.24 * self.height
        return 0.8 * middle, 0.4 * middle / self.width

    def half_width(self, x: Array) -> Array:
        """Return the distance in px from the centre line to the middle of the shear margin."""
        start, slope = self.widening
        return np.asarray(start + slope * x)

    def flow_line(self, x: Array, y: Array) -> Array:
        """Return ``s``: 0 on the centre line, -1 and 1 in the middle of the margins."""
        return np.asarray((y - self.centre(x)[0]) / self.half_width(x))

    def is_rock(self, x: Array, y: Array) -> Array:
        """Return where nothing ever moves."""
        return np.asarray(np.abs(self.flow_line(x, y)) >= 1 + MARGIN)

    @cached_property
    def flux(self) -> float:
        """Discharge through the half width on the centre line, px^2 per day, that gives the highest speed."""
        y, x = np.mgrid[0 : self.height : 128j, 0 : self.width : 128j]
        return self.top_speed / float(np.hypot(*self._velocity_of_unit_flux(x, y)).max())

    def velocity(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return the velocity averaged over the seasons, px per day to the right and down."""
        u, v = self._velocity_of_unit_flux(x, y)
        return self.flux * u, self.flux * v

    def _velocity_of_unit_flux(self, x: Array, y: Array) -> tuple[Array, Array]:
        s = self.flow_line(x, y)
        u = -profile(s) / self.half_width(x)
        return u, u * (self.centre(x)[1] + s * self.widening[1])

    def carry(self, x: Array, y: Array, days: float) -> tuple[Array, Array]:
        """Return where the ice of (x, y) is after ``days`` of mean flow (before, where negative).

        Along a flow line ``h dx = -flux * profile(s) dt`` with the half width ``h = start + slope * x``, so
        ``start * x + slope * x**2 / 2`` falls linearly in time. NaN where the ice would run more than two widths
        out of the scene, to where the glacier narrows to nothing.
        """
        start, slope = self.widening
        s = self.flow_line(x, y)
        area = start * x + 0.5 * slope * x**2 - self.flux * profile(s) * days
        square = start**2 + 2 * slope * area
        to_x = 2 * area / (start + np.sqrt(np.where(square > 0, square, np.nan)))
        return to_x, self.centre(to_x)[0] + s * self.half_width(to_x)


def profile(s: Array) -> Array:
    """Return the share of the full speed on a flow line: nearly even in the trunk, none on the rock, smooth between."""
    return np.asarray((1 - 0.1 * np.square(s)) * (1 - smooth_step((np.abs(s) - 1 + MARGIN) / (2 * MARGIN))))


def smooth_step(t: Array) -> Array:
    """Return a step from 0 at t = 0 to 1 at t = 1 with continuous second derivatives."""
    t = np.clip(t, 0, 1)
    return np.asarray(t * t * t * (10 + t * (6 * t - 15)))
