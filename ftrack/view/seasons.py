"""What the ice does in a year as four maps: mean velocity, trend, seasonal amplitude, and the day of the maximum."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from ftrack.errors import Stop
from ftrack.schema import DAYS_PER_YEAR
from ftrack.view.frames import choose_frame, heading, new_map
from ftrack.view.maps import Panel, ceiling_of, draw_panel

SHOWN = ("v", "dv_dt", "v_amp", "v_phase")

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

LIMIT = 99.0
"""Percentile of what is shown at the end of a colour bar."""


def plot_season(fit: xr.Dataset) -> Figure:
    """Draw mean velocity, trend, seasonal amplitude and the day of the maximum as maps.

    Parameters
    ----------
    fit : Dataset (y, x)
        What `ftrack.seasonal_fit` has found of a cube.

    Returns
    -------
    Figure
        Not registered with pyplot; save it with ``figure.savefig``. Grey where the pairs of a node cannot bear it, see ``fit_flag``.

    Raises
    ------
    Stop
        It is something else, or has no CRS.
    """
    if not set(SHOWN) <= set(fit.data_vars) or fit["v"].dims != ("y", "x"):
        raise Stop("there is no season to be drawn: give what ftrack.seasonal_fit has found of a cube")
    fit = fit[list(SHOWN)].compute()
    frame = choose_frame(fit, SHOWN)
    figure, axes = new_map(frame, sides=2)
    v, trend, amplitude, day = (frame.values[name] for name in SHOWN)
    steepest = ceiling_of(np.abs(trend[np.isfinite(trend)]), LIMIT)
    highest, largest = (ceiling_of(part[np.isfinite(part)], LIMIT) for part in (v, amplitude))
    draw_panel(axes[0], frame, v, Panel("mean velocity (m/yr)", "viridis", highest))
    draw_panel(axes[1], frame, trend, Panel("trend along the flow (m/yr²)", "RdBu_r", steepest, -steepest))
    draw_panel(axes[2], frame, amplitude, Panel("seasonal amplitude along the flow (m/yr)", "magma", largest))
    bar = draw_panel(axes[3], frame, day, Panel("day of the maximum", "twilight", DAYS_PER_YEAR))
    bar.set_ticks(list((np.arange(12) + 0.5) * DAYS_PER_YEAR / 12), labels=list(MONTHS))
    for ax, values in zip(axes, (v, trend, amplitude, day), strict=True):
        if not np.isfinite(values).any():
            ax.text(0.5, 0.5, "not told by these pairs", transform=ax.transAxes, ha="center", va="center")
    for ax in (axes[1], axes[3]):
        ax.set_ylabel("")
    told = f"{fit.attrs['pairs']} pairs, mean of {fit.attrs['reference_date']}" if "reference_date" in fit.attrs else ""
    figure.suptitle(heading(fit, "Velocity, trend and season", frame._replace(title=told)))
    return figure
