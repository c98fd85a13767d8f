"""What one map shows: a pair of the cube or its median, thinned to the screen, and the frame drawn around it."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyproj
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ftrack.errors import Stop
from ftrack.grid import Grid, grid_of
from ftrack.means import pair_index
from ftrack.schema import Status

LARGEST_SIDE = 1500
"""Nodes along the longer side of a map; larger cubes are thinned to this."""

STRIP = 64
"""Rows of nodes read at once while a median over all pairs is formed."""

NO_DATA_COLOUR = "0.82"


class Frame(NamedTuple):
    """The values of one map, ``(y, x)`` each, the grid they lie on, and what to call them."""

    values: dict[str, np.ndarray]
    grid: Grid
    title: str
    pairs: int
    extent: tuple[float, float, float, float]


def choose_frame(cube: xr.Dataset, names: tuple[str, ...], pair: int | str | Any | None = None, largest: int = LARGEST_SIDE) -> Frame:
    """Read the variables of one pair, or their median over all pairs (of ``status``: the share of pairs that are measured).

    Parameters
    ----------
    cube : Dataset
        Variables over ``(mid_date, y, x)``, or ``(y, x)`` for a single map.
    names : tuple of str
        Variables to read; those that the cube does not have raise ``Stop``.
    pair : int, str, datetime or None
        Position in the cube (negative from the end), a date (the pair whose ``mid_date`` is nearest), or ``"median"``.
        None is the only pair where there is one, else the median.
    largest : int
        Nodes along the longer side; larger cubes are thinned to this.
    """
    missing = [name for name in names if name not in cube]
    if missing:
        raise Stop(f"the cube has no variable {missing[0]!r}; it has {', '.join(map(str, cube.data_vars))}")
    grid = grid_of(cube)
    stride = max(1, math.ceil(max(grid.height, grid.width) / largest))
    thin = cube[list(names)].isel(y=slice(None, None, stride), x=slice(None, None, stride))
    step = grid.resolution * stride
    height, width = thin.sizes["y"], thin.sizes["x"]
    left, top = float(thin["x"][0]) - step / 2, float(thin["y"][0]) + step / 2
    shown = Grid(crs=grid.crs, resolution=step, left=left, top=top, height=height, width=width)
    extent = (left / 1000, (left + width * step) / 1000, (top - height * step) / 1000, top / 1000)
    if "mid_date" not in thin.dims:
        return Frame({n: thin[n].values for n in names}, shown, str(cube.attrs.get("shown", "")), 1, extent)
    index = pair_index(cube, pair)
    if index is None:
        values = {name: _share_measured(thin[name]) if name == "status" else _median_over_pairs(thin[name]) for name in names}
        return Frame(values, shown, _title_of_all(cube), cube.sizes["mid_date"], extent)
    one = thin.isel(mid_date=index)
    return Frame({n: one[n].values for n in names}, shown, title_of_pair(cube, index), 1, extent)


def title_of_pair(cube: xr.Dataset, index: int) -> str:
    """Return the two dates of a pair and the days between them; the middle where the cube does not tell them."""
    one = cube.isel(mid_date=index)
    if "acquisition_date_img1" not in one:
        return f"{day(one['mid_date'].values)} (middle of the pair)"
    first, second = one["acquisition_date_img1"].values, one["acquisition_date_img2"].values
    days = (second - first) / np.timedelta64(1, "D")
    return f"{day(first)} to {day(second)} ({days:.0f} days)"


def _title_of_all(cube: xr.Dataset) -> str:
    first = cube.get("acquisition_date_img1", cube["mid_date"]).values.min()
    last = cube.get("acquisition_date_img2", cube["mid_date"]).values.max()
    return f"median of {cube.sizes['mid_date']} pairs, {day(first)} to {day(last)}"


def heading(cube: xr.Dataset, otherwise: str, frame: Frame) -> str:
    """Return the title of a map: what the cube is called, and what of it is shown."""
    name = textwrap.shorten(str(cube.attrs.get("title", "")), 50, placeholder=" ...") or otherwise
    return f"{name}, {frame.title}" if frame.title else name


def day(time: Any) -> str:
    """Return the calendar day (UTC) of a time."""
    return pd.Timestamp(time).strftime("%Y-%m-%d")


def _median_over_pairs(array: xr.DataArray) -> np.ndarray:
    out = np.full((array.sizes["y"], array.sizes["x"]), np.nan, np.float32)
    for start in range(0, array.sizes["y"], STRIP):
        strip = array.isel(y=slice(start, start + STRIP)).transpose("mid_date", "y", "x").values
        known = np.isfinite(strip).any(axis=0)
        out[start : start + STRIP][known] = np.nanmedian(strip[:, known], axis=0)
    return out


def _share_measured(status: xr.DataArray) -> np.ndarray:
    strips = [status.isel(y=slice(s, s + STRIP)).values == int(Status.MEASURED) for s in range(0, status.sizes["y"], STRIP)]
    axis = status.get_axis_num("mid_date")
    return np.concatenate([strip.mean(axis=axis, dtype=np.float32) for strip in strips])


def new_map(frame: Frame, *, width: float = 8.5, sides: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure whose shape fits the map, and its ``sides`` by ``sides`` axes in reading order."""
    ratio = min(max(frame.grid.height / frame.grid.width, 0.5), 1.3)
    panel = width / sides - (1.6 if sides == 1 else 1.15)
    figure = Figure(figsize=(width, sides * (panel * ratio + 0.85) + 0.35), dpi=150, layout="constrained")
    return figure, list(figure.subplots(sides, sides, squeeze=False).flat)


def dress_map(ax: Axes, frame: Frame, *, label_y: bool = True) -> None:
    """Label the axes of a map in kilometres of its CRS and fix its aspect."""
    ax.set_aspect("equal")
    ax.set_xlim(frame.extent[:2])
    ax.set_ylim(frame.extent[2:])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        axis.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]
    ax.set_xlabel(f"x (km), {short_crs(frame.grid.crs)}")
    if label_y:
        ax.set_ylabel("y (km)")
        ax.tick_params(axis="y", labelrotation=90)
        for label in ax.get_yticklabels():
            label.set_verticalalignment("center")


def beside(ax: Axes) -> Axes:
    """Return axes for a colour bar as high as the map, whatever its aspect."""
    return ax.inset_axes((1.03, 0.0, 0.035, 1.0))


def short_crs(crs: str) -> str:
    """Return a name of a CRS that fits under an axis, such as ``UTM 18S (EPSG:32718)``."""
    known = pyproj.CRS(crs)
    code = f"EPSG:{known.to_epsg()}" if known.to_epsg() else ""
    zone = known.utm_zone
    name = f"UTM {zone}" if zone else known.name.split(" / ")[-1]
    return f"{name} ({code})" if code and name != code else name


def round_number(value: float) -> float:
    """Return the largest of 1, 2, 5 times a power of ten that does not exceed a positive number."""
    power = 10.0 ** math.floor(math.log10(value))
    return float(max(m * power for m in (1, 2, 5) if m * power <= value * (1 + 1e-9)))


def save_picture(drawn: Axes | Figure, path: str | Path) -> Path:
    """Write what was drawn into a file and return its path; the folder is made if need be.

    Raises
    ------
    Stop
        The file cannot be written, or its suffix is not that of a picture.
    """
    path = Path(path)
    figure = drawn.get_figure(root=True) if isinstance(drawn, Axes) else drawn
    assert figure is not None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, bbox_inches="tight", pad_inches=0.12)
    except (OSError, ValueError) as error:
        raise Stop(f"the picture {path} cannot be written: {error}") from None
    return path
