"""The time axis that all plots over time share."""

from __future__ import annotations

from typing import Any

import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes


def as_dates(times: Any) -> np.ndarray:
    """Return times (datetimes or datetime64, UTC) as the numbers of days that matplotlib plots."""
    return np.asarray(mdates.date2num(times), np.float64)  # type: ignore[no-untyped-call]


def dress_dates(ax: Axes, first: float, last: float) -> None:
    """Give an axes a readable time axis from one date to another, with a margin."""
    margin = max(0.03 * (last - first), 0.5)
    ax.set_xlim(first - margin, last + margin)
    locator = mdates.AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(locator)
    formatter = mdates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    formatter.formats[2] = "%d %b"
    formatter.offset_formats[1:3] = ["", "%Y"]
    ax.xaxis.set_major_formatter(formatter)
    ax.grid(True, color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
