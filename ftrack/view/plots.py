"""Plots over time: the series of one place, and the network of pairs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ftrack.errors import Stop
from ftrack.schema import STATUS_TEXT
from ftrack.series import is_measured, point_series
from ftrack.settings import nearest
from ftrack.view.dates import as_dates, dress_dates

SERIES_LABEL = {"v": "speed (m/yr)", "vx": "velocity towards grid east (m/yr)", "vy": "velocity towards grid north (m/yr)"}

STYLES = (("#1f4e79", "o", "-"), ("#b5651d", "s", "--"), ("#4f7d3a", "^", "-."))
"""Colour, marker and line of what is drawn first, second, ... into the same axes."""


class TimedPair(Protocol):
    """What the network plot reads from a pair."""

    @property
    def reference(self) -> str: ...
    @property
    def secondary(self) -> str: ...
    @property
    def reference_time(self) -> datetime: ...
    @property
    def secondary_time(self) -> datetime: ...


def plot_series(
    data: xr.Dataset,
    *,
    x: float | None = None,
    y: float | None = None,
    lon: float | None = None,
    lat: float | None = None,
    variable: str = "v",
    ax: Axes | None = None,
) -> Axes:
    """Draw the velocity of one place over time: a point per pair, its error, and the two dates it spans.

    Parameters
    ----------
    data : Dataset
        A cube, of which the node nearest to the place is drawn, or what `ftrack.point_series` has read of one.
    x, y : float
        The place in metres of the cube's CRS.
    lon, lat : float
        The place in degrees, instead of ``x`` and ``y``.
    variable : str
        ``v``, ``vx`` or ``vy``.
    ax : Axes, optional
        Where to draw, also beside another series; without it a new figure of its own is made, not registered with pyplot.

    Returns
    -------
    Axes

    Raises
    ------
    Stop
        The place is not given, given twice, or outside the cube; or the cube has no such variable.
    """
    if variable not in SERIES_LABEL or variable not in data:
        raise Stop(f"no series can be drawn of {variable!r}; {nearest(variable, SERIES_LABEL)}")
    series = point_series(data, x=x, y=y, lon=lon, lat=lat, filled=True) if "x" in data.dims else data
    ax = Figure(figsize=(8.5, 4.6), dpi=150, layout="constrained").subplots() if ax is None else ax
    style = _style_in(ax, series)
    values, errors = series[variable].values, series[f"{variable}_error"].values
    known, measured, times = np.isfinite(values), is_measured(series), _times(series)
    if not known.any() and style.name:
        return ax
    _draw_bars(ax, times, values, errors, known)
    for chosen, face, label in ((measured, style.colour, "measured"), (known & ~measured, "white", "filled from its neighbours")):
        if chosen.any():
            label = f"{style.name}{label}"
            ax.plot(times[1][chosen], values[chosen], style.marker, ms=4.5, mfc=face, mec=style.colour, mew=1.0, label=label, zorder=3)
    first, last = ax.get_xlim() if style.name else (np.inf, -np.inf)
    dress_dates(ax, min(first, times[0].min()), max(last, times[2].max()))
    ax.set_ylabel(SERIES_LABEL[variable])
    if not style.name:
        ax.set_title(_title_of_place(series, known), fontsize="medium", loc="left", pad=24)
    if not known.any():
        ax.set_yticks([])
        ax.text(0.5, 0.5, _why_empty(series), transform=ax.transAxes, ha="center", va="center")
        return ax
    lowest, highest = ax.get_ylim()
    if variable == "v" and lowest < 0.4 * highest:
        ax.set_ylim(bottom=0)
    name_above(ax)
    return ax


class _Style(NamedTuple):
    """How one series or profile is told from others in the same axes: by its name, and by more than its colour."""

    name: str
    colour: str
    marker: str
    line: str


def _style_in(ax: Axes, data: xr.Dataset) -> _Style:
    """Return the style of what is drawn next; the first in an axes needs no name."""
    drawn = getattr(ax, "_ftrack_drawn", 0)
    ax._ftrack_drawn = drawn + 1  # type: ignore[attr-defined]
    colour, marker, line = STYLES[drawn % len(STYLES)]
    return _Style(f"{data.attrs.get('title') or f'number {drawn + 1}'}: " if drawn else "", colour, marker, line)


def plot_profile(data: xr.Dataset, *, variable: str = "v", ax: Axes | None = None) -> Axes:
    """Draw the velocity along a line, with its error.

    Parameters
    ----------
    data : Dataset
        What `ftrack.profile` has read.
    variable : str
        ``v``, ``vx`` or ``vy``.
    ax : Axes, optional
        Where to draw, also beside another profile; without it a new figure of its own is made, not registered with pyplot.

    Returns
    -------
    Axes

    Raises
    ------
    Stop
        There is no such variable, or the data are not along a line.
    """
    if variable not in SERIES_LABEL or variable not in data or "distance" not in data.dims:
        raise Stop(f"no profile can be drawn of {variable!r}; read one with ftrack.profile, {nearest(variable, SERIES_LABEL)}")
    ax = Figure(figsize=(8.5, 4.2), dpi=150, layout="constrained").subplots() if ax is None else ax
    style = _style_in(ax, data)
    along, values, error = (data[name].values.astype(float) for name in ("distance", variable, f"{variable}_error"))
    shown = f"{style.name}{data.attrs.get('shown', '')}" or "velocity"
    ax.fill_between(along, values - error, values + error, color=style.colour, alpha=0.25, linewidth=0, label="one-sigma error")
    ax.plot(along, values, style.line, color=style.colour, linewidth=1.4, label=shown)
    ax.set_xlabel("distance along the line, on the ground (km)")
    ax.set_ylabel(SERIES_LABEL[variable])
    ax.margins(x=0.01)
    if variable == "v":
        ax.set_ylim(bottom=0)
    if not np.isfinite(values).any():
        ax.text(0.5, 0.5, "no vectors along this line", transform=ax.transAxes, ha="center", va="center")
    name_above(ax)
    return ax


def _times(cube: xr.Dataset) -> np.ndarray:
    """Return reference, middle and secondary time of every pair as matplotlib dates, ``(3, pair)``."""
    middle = cube["mid_date"].values
    ends = [cube[n].values if n in cube else middle for n in ("acquisition_date_img1", "acquisition_date_img2")]
    first, last = (as_dates(end) for end in ends)
    return np.stack([first, (first + last) / 2, last])


def _draw_bars(ax: Axes, times: np.ndarray, values: np.ndarray, errors: np.ndarray, known: np.ndarray) -> None:
    fade = float(np.clip(12 / max(known.sum(), 1), 0.5, 0.9))
    across = [[(a, v), (b, v)] for a, b, v in zip(times[0][known], times[2][known], values[known], strict=True)]
    ax.add_collection(LineCollection(across, colors="#7f8c99", linewidths=1.0, alpha=fade, label="from first to second date"))
    style: dict[str, Any] = {
        "fmt": "none",
        "ecolor": "#c0504d",
        "elinewidth": 1.0,
        "capsize": 2.0,
        "alpha": fade,
        "label": "one-sigma error",
    }
    measured = known & np.isfinite(errors)
    if measured.any():
        ax.errorbar(times[1][measured], values[measured], yerr=errors[measured], **style)


def name_above(ax: Axes) -> None:
    """Put the legend of a series between title and plot, what was measured first, and everything once."""
    handles, labels = ax.get_legend_handles_labels()
    once = [i for i, label in enumerate(labels) if label not in labels[:i]]
    order = sorted(once, key=lambda i: (not labels[i].endswith("measured"), not labels[i].startswith("filled")))
    place: dict[str, Any] = {
        "loc": "lower left",
        "bbox_to_anchor": (0.0, 1.0),
        "ncols": len(order),
        "fontsize": "small",
        "frameon": False,
        "borderpad": 0,
    }
    ax.legend([handles[i] for i in order], [labels[i] for i in order], **place)


def _title_of_place(series: xr.Dataset, known: np.ndarray) -> str:
    lon, lat = float(series["lon"]), float(series["lat"])
    metres = f"x {float(series['x']):.0f}, y {float(series['y']):.0f} m"
    radius = float(series.attrs.get("radius", 0))
    around = f", mean within {radius:g} m" if radius else ""
    place = f"{abs(lat):.4f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.4f}° {'E' if lon >= 0 else 'W'} ({metres}){around}"
    return f"{place}: a vector in {int(known.sum())} of {known.size} pairs"


def _why_empty(series: xr.Dataset) -> str:
    if "status" not in series:
        return "no vector at this node"
    codes, counts = np.unique(series["status"].values, return_counts=True)
    reasons = {int(code): text for code, text in STATUS_TEXT.items()}
    lines = [f"{count} pairs: {reasons.get(int(code), 'unknown status')}" for code, count in zip(codes, counts, strict=True)]
    return "no vector at this node\n" + "\n".join(lines)


def plot_network(pairs: Iterable[TimedPair], *, ax: Axes | None = None) -> Axes:
    """Draw which images are paired: date against temporal baseline.

    Images stand on the lower axis. Every pair is a point at its middle date and its baseline, from which two lines
    go down to its two images.

    Parameters
    ----------
    pairs : iterable of Pair
        Pairs with image ids and times, as `ftrack.choose_pairs` returns them.
    ax : Axes, optional
        Where to draw; without it a new figure of its own is made, not registered with pyplot.

    Returns
    -------
    Axes

    Raises
    ------
    Stop
        There are no pairs.
    """
    pairs = tuple(pairs)
    if not pairs:
        raise Stop("there are no pairs to draw; widen min_days and max_days, or allow other orbits")
    ax = Figure(figsize=(8.5, 4.6), dpi=150, layout="constrained").subplots() if ax is None else ax
    first = as_dates([p.reference_time for p in pairs])
    last = as_dates([p.secondary_time for p in pairs])
    middle, days = (first + last) / 2, last - first
    fade = float(np.clip(40 / len(pairs), 0.12, 0.7))
    legs = [[(a, 0.0), (m, d), (b, 0.0)] for a, m, d, b in zip(first, middle, days, last, strict=True)]
    ax.add_collection(LineCollection(legs, colors="#6c7a89", linewidths=0.9, alpha=fade))
    ax.plot(middle, days, "o", ms=5, color="#1f4e79", label="pair", zorder=3)
    ends = np.concatenate([first, last])
    ax.plot(np.unique(ends), np.zeros(np.unique(ends).size), "^", ms=7, color="#c8322b", clip_on=False, label="image", zorder=4)
    dress_dates(ax, first.min(), last.max())
    ax.set_ylim(0, 1.08 * days.max())
    ax.set_ylabel("temporal baseline (days)")
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize="small", frameon=False, borderpad=0)
    images, groups = _count_groups(pairs)
    apart = "" if groups == 1 else f", in {groups} groups that no pair connects"
    ax.set_title(f"{len(pairs)} pairs of {images} images, {_span(days)} days{apart}", fontsize="medium", loc="left")
    return ax


def _span(days: np.ndarray) -> str:
    shortest, longest = f"{days.min():.0f}", f"{days.max():.0f}"
    return shortest if shortest == longest else f"{shortest} to {longest}"


def _count_groups(pairs: tuple[TimedPair, ...]) -> tuple[int, int]:
    names = sorted({name for p in pairs for name in (p.reference, p.secondary)})
    place = {name: i for i, name in enumerate(names)}
    ends = np.array([[place[p.reference], place[p.secondary]] for p in pairs])
    links = coo_array((np.ones(len(pairs)), (ends[:, 0], ends[:, 1])), shape=(len(names), len(names)))
    groups, _ = connected_components(links, directed=False)
    return len(names), int(groups)
