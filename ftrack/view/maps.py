"""Maps of velocity and of its quality, drawn from a cube."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import LogFormatter, MaxNLocator
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar  # type: ignore[import-untyped]

from ftrack.errors import Stop
from ftrack.means import pair_index
from ftrack.schema import STATUS_TEXT, Status
from ftrack.view.frames import NO_DATA_COLOUR, STRIP, Frame, beside, choose_frame, dress_map, heading, new_map, round_number

STATUS_COLOUR: dict[Status, str] = {
    Status.MEASURED: "#2f6f9f",
    Status.FILLED: "#9cc4e0",
    Status.NO_DATA: "#e4e4e4",
    Status.EDGE: "#b9b9b9",
    Status.NO_TEXTURE: "#f0e2b6",
    Status.LOW_CORRELATION: "#e8a33d",
    Status.AMBIGUOUS: "#b5651d",
    Status.SEARCH_LIMIT: "#7a3b8f",
    Status.DIVERGED: "#d678b0",
    Status.ERROR_TOO_LARGE: "#4f9d69",
    Status.OUTLIER: "#c8322b",
    Status.NOT_COMPUTED: "#303030",
}


def plot_velocity(
    cube: xr.Dataset,
    pair: int | str | Any | None = None,
    *,
    arrows: int = 22,
    log: bool = False,
    limit: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the speed as a map, with arrows for the direction.

    Parameters
    ----------
    cube : Dataset
        ``vx`` and ``vy`` in m/yr over ``(mid_date, y, x)`` or ``(y, x)``.
    pair : int, str, datetime or None
        Position, date, or ``"median"`` of every component over all pairs; None is the only pair, else the median.
    arrows : int
        Arrows along the longer side; 0 draws none. An arrow is the median of the nodes around its middle.
    log : bool
        Colour the logarithm of the speed: slow and fast ice in one map.
    limit : float, optional
        Speed in m/yr at the end of the colour bar; the 99.5th percentile, rounded, if not given.
    ax : Axes, optional
        Where to draw. Without it a new figure of its own is made; it is ``ax.figure``, and is not registered with pyplot.

    Returns
    -------
    Axes

    Raises
    ------
    Stop
        The cube lacks ``vx``, ``vy`` or a CRS, or there is no such pair.
    """
    frame = choose_frame(cube, ("vx", "vy"), pair)
    speed = np.hypot(frame.values["vx"], frame.values["vy"])
    ax = new_map(frame)[1][0] if ax is None else ax
    norm = _speed_scale(speed, log, limit)
    image = ax.imshow(speed, extent=frame.extent, origin="upper", cmap=_colours("viridis"), norm=norm, interpolation="nearest")
    dress_map(ax, frame)
    known = speed[np.isfinite(speed)]
    extend = _extend(known, norm)
    bar = _figure_of(ax).colorbar(image, cax=beside(ax), label="speed (m/yr)", extend=extend)
    if log:
        bar.formatter = LogFormatter(labelOnlyBase=False, minor_thresholds=(3, 0.5))
        bar.update_ticks()
    if known.size == 0:
        ax.text(0.5, 0.5, "no vectors", transform=ax.transAxes, ha="center", va="center", fontsize="large")
    elif arrows:
        _draw_arrows(ax, frame, arrows)
    _draw_scale(ax, frame)
    ax.text(1.0, 1.01, _unshifted(cube, pair), transform=ax.transAxes, ha="right", va="bottom", fontsize="small", color="#b2182b")
    ax.set_title(heading(cube, "Ice velocity", frame), pad=26 if arrows and known.size else 8)
    return ax


def _unshifted(cube: xr.Dataset, pair: int | str | Any | None) -> str:
    """Return of how many of the pairs that are shown misregistration was not taken off; nothing if there are none, or it is not known."""
    if "stable_shift_flag" not in cube:
        return ""
    index = pair_index(cube, pair) if "mid_date" in cube.dims else None
    flags = np.atleast_1d(cube["stable_shift_flag"].values)
    left = (flags if index is None else flags[[index]]) == 0
    several = f" in {np.count_nonzero(left)} of {left.size} pairs" if left.size > 1 else ""
    return f"misregistration not taken off{several}" if left.any() else ""


def plot_quality(cube: xr.Dataset, pair: int | str | Any | None = None) -> Figure:
    """Draw error, correlation, and why nodes have, or have not, a vector.

    For the median over all pairs the status map becomes the share of pairs in which a node was measured.

    Parameters
    ----------
    cube : Dataset
        ``v_error`` (m/yr), ``correlation`` and ``status`` over ``(mid_date, y, x)``.
    pair : int, str, datetime or None
        As in `plot_velocity`.

    Returns
    -------
    Figure
        Not registered with pyplot; save it with ``figure.savefig``.

    Raises
    ------
    Stop
        The cube lacks a variable or a CRS, or there is no such pair.
    """
    frame = choose_frame(cube, ("v_error", "correlation", "status"), pair)
    figure, axes = new_map(frame, sides=2)
    error, correlation, status = (frame.values[name] for name in ("v_error", "correlation", "status"))
    known = error[np.isfinite(error)]
    draw_panel(axes[0], frame, error, Panel("error of the speed, one sigma (m/yr)", "magma", ceiling_of(known, 98)))
    draw_panel(axes[1], frame, correlation, Panel("correlation", "viridis", 1.0))
    if frame.pairs > 1:
        draw_panel(axes[2], frame, 100 * status, Panel("pairs with a measured vector (%)", "viridis", 100.0))
    else:
        _draw_status(axes[2], frame, status)
    whole = cube["status"] if frame.pairs > 1 or "mid_date" not in cube.dims else cube["status"].isel(mid_date=pair_index(cube, pair))
    _draw_shares(axes[3], whole)
    axes[1].set_ylabel("")
    figure.suptitle(heading(cube, "Quality", frame))
    return figure


class Panel(NamedTuple):
    """How one of several maps is drawn: its title, and the colours from the smallest to the largest value."""

    label: str
    colours: str
    largest: float
    smallest: float = 0.0


def draw_panel(ax: Axes, frame: Frame, values: np.ndarray, panel: Panel) -> Colorbar:
    """Draw one of several maps, and return its colour bar."""
    norm = Normalize(panel.smallest, panel.largest)
    image = ax.imshow(values, extent=frame.extent, origin="upper", cmap=_colours(panel.colours), norm=norm, interpolation="nearest")
    dress_map(ax, frame)
    known = values[np.isfinite(values)]
    bar = _figure_of(ax).colorbar(image, cax=beside(ax), extend=_extend(known, norm))
    bar.locator = MaxNLocator(nbins=6)
    bar.update_ticks()
    ax.set_title(panel.label, fontsize="medium")
    return bar


def _draw_status(ax: Axes, frame: Frame, status: np.ndarray) -> None:
    order = list(STATUS_COLOUR)
    place = np.full(256, len(order) - 1)
    place[[int(s) for s in order]] = np.arange(len(order))
    colours = ListedColormap([STATUS_COLOUR[s] for s in order])
    norm = BoundaryNorm(np.arange(len(order) + 1) - 0.5, len(order))
    ax.imshow(place[status], extent=frame.extent, origin="upper", cmap=colours, norm=norm, interpolation="nearest")
    dress_map(ax, frame)
    ax.set_title("status", fontsize="medium")


def _draw_shares(ax: Axes, status: xr.DataArray) -> None:
    """Draw how many nodes have which status: the numbers, and the legend of the status map."""
    counts = np.zeros(256, np.int64)
    for start in range(0, status.sizes["y"], STRIP):
        counts += np.bincount(status.isel(y=slice(start, start + STRIP)).values.ravel(), minlength=256)
    present = [s for s in STATUS_COLOUR if counts[int(s)]]
    for row, one in enumerate(present):
        share = 100 * counts[int(one)] / counts.sum()
        ax.barh(row, share, height=0.36, color=STATUS_COLOUR[one], edgecolor="0.3", linewidth=0.5)
        ax.plot([-2.5], [row], "s", ms=7, mfc=STATUS_COLOUR[one], mec="0.3", mew=0.5, clip_on=False)
        ax.text(0.7, row - 0.24, f"{STATUS_TEXT[one]}, {_percent(share)}", va="bottom", ha="left", fontsize="small")
    ax.set_ylim(max(len(present), 5) - 0.5, -0.9)
    ax.set_xlim(0, 100)
    ax.set_yticks([])
    ax.set_xlabel("share of nodes (%)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.set_title("nodes by status", fontsize="medium")


def _percent(share: float) -> str:
    return "under 0.1 %" if share < 0.1 else f"{share:.1f} %"


def _colours(name: str) -> Colormap:
    return colormaps[name].with_extremes(bad=NO_DATA_COLOUR)


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    if figure is None:
        raise Stop("the axes belong to no figure")
    return figure


def ceiling_of(known: np.ndarray, percentile: float) -> float:
    """Return a round number at or above a percentile, to end a colour bar on."""
    value = float(np.percentile(known, percentile)) if known.size else 0.0
    if value <= 0:
        return 1.0
    step = round_number(value / 4)
    return step * math.ceil(value / step)


def _speed_scale(speed: np.ndarray, log: bool, limit: float | None) -> Normalize:
    known = speed[np.isfinite(speed)]
    largest = ceiling_of(known, 99.5) if limit is None else limit
    if largest <= 0:
        raise Stop(f"the limit of the colour bar is {limit}; give a speed above 0 m/yr")
    if not log:
        return Normalize(0.0, largest)
    positive = known[known > 0]
    smallest = round_number(float(np.percentile(positive, 2))) if positive.size else largest / 1000
    return LogNorm(min(max(smallest, largest / 1000), largest / 10), largest)


def _extend(known: np.ndarray, norm: Normalize) -> str:
    if known.size == 0 or norm.vmin is None or norm.vmax is None:
        return "neither"
    below, above = bool(known.min() < norm.vmin), bool(known.max() > norm.vmax)
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]


def _draw_arrows(ax: Axes, frame: Frame, count: int) -> None:
    """Draw one arrow per square of nodes, its median, and a key that says how long a known speed is."""
    size = max(1, round(max(frame.grid.height, frame.grid.width) / count))
    rows, columns = frame.grid.height // size, frame.grid.width // size
    if rows == 0 or columns == 0:
        return
    squares = [_squares(frame.values[name], size) for name in ("vx", "vy")]
    enough = np.isfinite(squares[0]).mean(axis=-1) >= 0.5
    if not enough.any():
        return
    vx, vy = (np.nanmedian(square[enough], axis=-1) for square in squares)
    x = (frame.grid.left + (np.arange(columns) + 0.5) * size * frame.grid.resolution) / 1000
    y = (frame.grid.top - (np.arange(rows) + 0.5) * size * frame.grid.resolution) / 1000
    x, y = (place[enough] for place in np.meshgrid(x, y))
    speed = np.hypot(vx, vy)
    fastest = float(np.percentile(speed, 98))
    if fastest <= 0:
        return
    shown = speed >= 0.1 * fastest
    spacing = size * frame.grid.resolution / 1000
    length: dict[str, Any] = {"scale_units": "xy", "scale": fastest / (1.15 * spacing), "minlength": 0, "pivot": "mid"}
    style: dict[str, Any] = {"units": "width", "width": 0.0032, "headwidth": 4, "color": "white", "edgecolor": "black", "linewidth": 0.5}
    arrows = ax.quiver(x[shown], y[shown], vx[shown], vy[shown], angles="xy", **length, **style)
    key = round_number(fastest)
    ax.quiverkey(arrows, 0.06, 1.03, key, f"{key:g} m/yr", labelpos="E", coordinates="axes", fontproperties={"size": "small"})


def _squares(values: np.ndarray, size: int) -> np.ndarray:
    rows, columns = values.shape[0] // size, values.shape[1] // size
    cut = values[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return cut.swapaxes(1, 2).reshape(rows, columns, size * size)


def _draw_scale(ax: Axes, frame: Frame) -> None:
    length = round_number((frame.extent[1] - frame.extent[0]) / 4)
    text = f"{length:g} km" if length >= 1 else f"{1000 * length:g} m"
    bar = AnchoredSizeBar(
        ax.transData,
        length,
        text,
        "lower right",
        pad=0.35,
        borderpad=0.5,
        sep=4,
        frameon=True,
        size_vertical=length / 60,
        fill_bar=True,
        fontproperties=FontProperties(size="small"),
    )
    bar.patch.set(alpha=0.8, linewidth=0)
    ax.add_artist(bar)
