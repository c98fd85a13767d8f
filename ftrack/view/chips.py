"""One trial as a picture: the chip, where it was found, and the correlation at every offset."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ftrack.trial import Trial

FOUND = "#e8a33d"


def plot_surface(trial: Trial) -> Figure:
    """Draw the chip of the reference, what was searched in the secondary, and the correlation surface.

    The dashed square shows where the chip was before, the whole one where it was found; the cross is the peak.

    Parameters
    ----------
    trial : Trial
        From ``ftrack.trial.Trials``.

    Returns
    -------
    Figure
        Not registered with pyplot.
    """
    figure = Figure(figsize=(6.3, 2.55), dpi=100, layout="constrained")
    first, second, third = figure.subplots(1, 3, width_ratios=(1.0, 1.0, 1.3))
    dx, dy = (trial.surface[name].values for name in ("dx", "dy"))
    size = trial.chip.shape[0]
    shown = np.concatenate([trial.chip.ravel(), trial.window.ravel()])
    limits = np.nanpercentile(shown, (2, 98)) if np.isfinite(shown).any() else (0, 1)
    gray: dict[str, Any] = {"cmap": "gray", "vmin": limits[0], "vmax": limits[1], "interpolation": "nearest"}
    middle = (dx[0] + dx[-1]) / 2, (dy[0] + dy[-1]) / 2
    first.imshow(trial.chip, extent=(-size / 2, size / 2, size / 2, -size / 2), **gray)
    half = trial.window.shape[0] / 2
    second.imshow(trial.window, extent=(middle[0] - half, middle[0] + half, middle[1] + half, middle[1] - half), **gray)
    second.add_patch(_square((0, 0), size, linestyle="--", edgecolor="white", linewidth=1.0))
    if trial.measured:
        at = trial.motion["dx"], trial.motion["dy"]
        second.add_patch(_square(at, size, edgecolor=FOUND, linewidth=1.6))
        second.annotate("", at, (0, 0), arrowprops={"arrowstyle": "-|>", "color": FOUND, "shrinkA": 0, "shrinkB": 0})
    draw_surface(third, trial)
    for ax, date, what in ((first, trial.pair.reference_time, "chip"), (second, trial.pair.secondary_time, "search")):
        ax.set_title(f"{what}, {date:%Y-%m-%d}", fontsize="small")
        ax.tick_params(labelsize="x-small")
        ax.set_xlabel("px", fontsize="small")
    return figure


def draw_surface(ax: Axes, trial: Trial) -> None:
    """Draw the correlation surface of a trial with its peak."""
    surface = trial.surface
    dx, dy = surface["dx"].values, surface["dy"].values
    extent = (dx[0] - 0.5, dx[-1] + 0.5, dy[-1] + 0.5, dy[0] - 0.5)
    image = ax.imshow(surface.values, extent=extent, cmap="viridis", vmax=1.0, interpolation="nearest")
    bar = ax.figure.colorbar(image, ax=ax)
    bar.set_label("correlation", fontsize="small")
    bar.ax.tick_params(labelsize="x-small")
    if trial.measured:
        ax.plot(trial.motion["dx"], trial.motion["dy"], "+", color="#c8322b", ms=12, mew=1.8)
    ax.set_title("correlation", fontsize="small")
    ax.set_xlabel("dx (px, + right)", fontsize="small")
    ax.set_ylabel("dy (px, + down)", fontsize="small")
    ax.tick_params(labelsize="x-small")


def _square(middle: tuple[float, float], side: int, **style: Any) -> Rectangle:
    return Rectangle((middle[0] - side / 2, middle[1] - side / 2), side, side, facecolor="none", **style)
