"""What a web map shows of a cube: a variable of a pair or of the median, its colours, and the bar that explains them."""

from __future__ import annotations

from typing import Any, NamedTuple

import dask
import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure

from ftrack.errors import Stop
from ftrack.grid import place
from ftrack.layers import LEVELS, Field
from ftrack.schema import STATUS_TEXT, Status
from ftrack.view.frames import choose_frame, round_number
from ftrack.view.maps import STATUS_COLOUR

LARGEST = 8192
"""Nodes along the longer side of what is kept of a map; larger ones are thinned."""


class Quantity(NamedTuple):
    """What can be shown: the variables it is made of, its name with the unit, and its colours."""

    names: tuple[str, ...]
    label: str
    colours: str


QUANTITIES = {
    "speed": Quantity(("vx", "vy"), "speed (m/yr)", "viridis"),
    "error": Quantity(("v_error",), "error of the speed, one sigma (m/yr)", "magma"),
    "correlation": Quantity(("correlation",), "correlation", "viridis"),
    "status": Quantity(("status",), "why a node has, or has not, a vector", ""),
    "chip size": Quantity(("chip_size",), "side of the chip (px)", "cividis"),
}
SHOWN_STATUS = [status for status in Status if status != Status.NOT_COMPUTED]


class Overlay(NamedTuple):
    """A field, the velocity it belongs to (None for other quantities), what it is called, and the name of its quantity."""

    field: Field
    velocity: xr.Dataset | None
    title: str
    quantity: str


def read_overlay(cube: xr.Dataset, quantity: str, pair: Any = None, *, log: bool = False, limit: float | None = None) -> Overlay:
    """Read what a web map shows of a cube.

    Parameters
    ----------
    cube : Dataset
        A cube or a single map.
    quantity : str
        One of ``QUANTITIES``.
    pair : int, str or None
        As in `ftrack.plot_velocity`.
    log : bool
        Colour the logarithm.
    limit : float, optional
        Value at the end of the scale; the 99.5th percentile, rounded up, if not given.

    Raises
    ------
    Stop
        The cube lacks the quantity, there is no such pair, or the limit is not above 0.
    """
    chosen = QUANTITIES[quantity]
    with dask.config.set(scheduler="threads"):
        frame = choose_frame(cube, chosen.names, pair, LARGEST)
    values = np.hypot(*frame.values.values()) if quantity == "speed" else next(iter(frame.values.values()))
    if quantity == "status" and frame.pairs == 1:
        palette = np.array([to_rgb(STATUS_COLOUR[status]) for status in SHOWN_STATUS])
        field = Field(np.where(values < len(SHOWN_STATUS), values, np.nan), frame.grid, _bytes(palette), -0.5, len(SHOWN_STATUS) - 0.5)
        return Overlay(field, None, frame.title, quantity)
    values = np.where(values > 0, values, np.nan) if quantity == "chip size" else values
    known = values[np.isfinite(values)]
    high = 1.0 if quantity in ("correlation", "status") else limit or _ceiling(known)
    if not high > 0:
        raise Stop(f"the end of the scale is {limit:g}; give a value above 0")
    palette = colormaps[chosen.colours or "viridis"](np.linspace(0, 1, LEVELS))[:, :3]
    log = log and quantity in ("speed", "error")
    field = Field(values.astype(np.float32), frame.grid, _bytes(palette), high / 1000 if log else 0.0, high, log)
    velocity = place(xr.Dataset({n: (("y", "x"), v) for n, v in frame.values.items()}), frame.grid) if quantity == "speed" else None
    return Overlay(field, velocity, frame.title, quantity)


def _bytes(palette: np.ndarray) -> np.ndarray:
    return np.round(255 * palette).astype(np.uint8)


def _ceiling(known: np.ndarray) -> float:
    value = float(np.percentile(known, 99.5)) if known.size else 1.0
    step = round_number(max(value, 1e-6) / 4)
    return step * float(np.ceil(max(value, 1e-6) / step))


def plot_scale(overlay: Overlay) -> Figure:
    """Draw the colour bar of an overlay, or the legend of status, with its unit."""
    field, quantity = overlay.field, QUANTITIES[overlay.quantity]
    if field.low < 0:
        figure = Figure(figsize=(6.2, 1.55), layout="constrained")
        ax = figure.subplots()
        ax.axis("off")
        for number, status in enumerate(SHOWN_STATUS):
            x, y = number // 6, -(number % 6)
            ax.plot([x], [y], "s", ms=8, mfc=STATUS_COLOUR[status], mec="0.3")
            ax.text(x + 0.05, y, f"{int(status)} {STATUS_TEXT[status]}", va="center", fontsize="small")
        ax.set_xlim(-0.05, 2)
        return figure
    figure = Figure(figsize=(6.2, 0.75), layout="constrained")
    norm = LogNorm(field.low, field.high) if field.log else Normalize(field.low, field.high)
    label = "share of pairs with a measured vector" if overlay.quantity == "status" else quantity.label
    colours = ScalarMappable(norm, colormaps[quantity.colours or "viridis"])
    figure.colorbar(colours, cax=figure.subplots(), orientation="horizontal", label=f"{label}, {overlay.title}".rstrip(", "), extend="max")
    return figure
