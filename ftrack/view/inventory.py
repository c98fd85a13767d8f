"""What a search found: footprints on a map, and cloud over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from shapely import get_coordinates, union_all

from ftrack.errors import Stop
from ftrack.view.dates import as_dates, dress_dates
from ftrack.view.frames import beside

CLOUD_SCALE = Normalize(0, 100)
MARKERS = "osD^vP*X"


class FoundScene(Protocol):
    """What the inventory reads from a scene."""

    @property
    def platform(self) -> str: ...
    @property
    def time(self) -> datetime: ...
    @property
    def orbit(self) -> str: ...
    @property
    def tile(self) -> str: ...
    @property
    def cloud_cover(self) -> float | None: ...
    @property
    def footprint(self) -> Any: ...


class _Place(NamedTuple):
    """The scenes of one tile and orbit."""

    label: str
    outline: Any
    cloud: float


def plot_scenes(scenes: Sequence[FoundScene], *, area: Any = None) -> Figure:
    """Draw where scenes lie, coloured by their cloud, and when they were taken.

    Parameters
    ----------
    scenes : sequence of Scene
        Scenes with footprints in degrees, as `ftrack.find_scenes` returns them. Scenes of one tile and orbit
        share an outline, whose colour is their median cloud.
    area : shapely geometry, optional
        Outline of the area that was asked for, in degrees.

    Returns
    -------
    Figure
        Not registered with pyplot; save it with ``figure.savefig``.

    Raises
    ------
    Stop
        There are no scenes.
    """
    if not scenes:
        raise Stop("there are no scenes to draw")
    figure = Figure(figsize=(8.5, 8.0), dpi=150, layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(2.4, 1.0))
    _draw_places(upper, _places(scenes), area)
    draw_timeline(lower, scenes)
    colours = ScalarMappable(CLOUD_SCALE, colormaps["viridis"])
    figure.colorbar(colours, cax=beside(upper), label="cloud cover (%), median of the scenes")
    times = sorted(s.time for s in scenes)
    plural = "scene" if len(scenes) == 1 else "scenes"
    figure.suptitle(f"{len(scenes)} {plural}, {times[0]:%Y-%m-%d} to {times[-1]:%Y-%m-%d}")
    return figure


def _places(scenes: Sequence[FoundScene]) -> list[_Place]:
    groups: dict[tuple[str, ...], list[FoundScene]] = {}
    for scene in scenes:
        centre = scene.footprint.centroid
        where = scene.tile or f"{centre.x:.1f} {centre.y:.1f}"
        groups.setdefault((scene.orbit, where), []).append(scene)
    return [_place(members) for _, members in sorted(groups.items())]


def _place(members: list[FoundScene]) -> _Place:
    clouds = [s.cloud_cover for s in members if s.cloud_cover is not None]
    name = " ".join(part for part in (members[0].orbit, members[0].tile) if part)
    count = f"{len(members)} scene{'s' if len(members) > 1 else ''}"
    outline = union_all([s.footprint for s in members])
    return _Place(f"{name}\n{count}" if name else count, outline, float(np.median(clouds)) if clouds else float("nan"))


def _draw_places(ax: Axes, places: list[_Place], area: Any) -> None:
    for place in places:
        colour = "0.6" if np.isnan(place.cloud) else colormaps["viridis"](CLOUD_SCALE(place.cloud))
        ax.add_patch(PathPatch(_path(place.outline), facecolor=(*to_rgb(colour), 0.25), edgecolor=colour, linewidth=1.8))
    shapes = [p.outline for p in places] + ([area] if area is not None else [])
    if area is not None:
        ax.add_patch(PathPatch(_path(area), facecolor="none", edgecolor="#c8322b", linewidth=1.8, linestyle="--", label="area"))
        ax.legend(loc="lower left", fontsize="small")
    _label_places(ax, places, area)
    west, south, east, north = union_all(shapes).bounds
    margin = 0.06 * max(east - west, north - south)
    ax.set_xlim(west - margin, east + margin)
    ax.set_ylim(south - margin, north + margin)
    ax.set_aspect(1 / max(np.cos(np.radians((south + north) / 2)), 0.05))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    ax.set_xlabel("longitude (degrees)")
    ax.set_ylabel("latitude (degrees)")


def _label_places(ax: Axes, places: list[_Place], area: Any) -> None:
    """Name the outlines at their middle; where several share it, one label lists them."""
    labels: dict[tuple[float, float], list[str]] = {}
    span = max(max(p.outline.bounds[2] - p.outline.bounds[0] for p in places), 1e-9)
    for place in places:
        middle = _free_middle(place, [p for p in places if p is not place], area)
        near = next((at for at in labels if np.hypot(at[0] - middle.x, at[1] - middle.y) < 0.15 * span), (middle.x, middle.y))
        labels.setdefault(near, []).append(place.label.replace("\n", ", "))
    for (x, y), texts in labels.items():
        shown = texts if len(texts) <= 6 else [*texts[:5], f"and {len(texts) - 5} more"]
        box = {"boxstyle": "round,pad=0.25", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
        ax.text(x, y, "\n".join(shown), ha="center", va="center", fontsize="small", bbox=box)


def _free_middle(place: _Place, others: list[_Place], area: Any) -> Any:
    """Return a point inside an outline, where possible away from the other outlines and the area."""
    taken = union_all([p.outline for p in others] + ([area] if area is not None else []))
    free = place.outline.difference(taken)
    return (free if free.area > 0.2 * place.outline.area else place.outline).representative_point()


def _path(shape: Any) -> Path:
    rings = [ring for part in getattr(shape, "geoms", [shape]) for ring in (part.exterior, *part.interiors)]
    return Path.make_compound_path(*(Path(get_coordinates(ring), closed=True) for ring in rings))


def draw_timeline(ax: Axes, scenes: Sequence[FoundScene]) -> None:
    """Draw the cloud of scenes over time; every platform has a marker of its own."""
    platforms = sorted({s.platform for s in scenes})
    for platform, marker in zip(platforms, MARKERS * len(platforms), strict=False):
        known = [s for s in scenes if s.platform == platform and s.cloud_cover is not None]
        clouds = np.array([s.cloud_cover for s in known], float)
        style: dict[str, Any] = {"marker": marker, "s": 36, "cmap": "viridis", "norm": CLOUD_SCALE, "edgecolor": "0.25", "linewidth": 0.6}
        ax.scatter(as_dates([s.time for s in known]), clouds, c=clouds, clip_on=False, zorder=3, **style)
        ax.plot([], [], marker, color="0.6", mec="0.25", label=platform or "unknown platform")
    unknown = [s.time for s in scenes if s.cloud_cover is None]
    if unknown:
        ax.plot(as_dates(unknown), np.zeros(len(unknown)), "|", ms=12, color="0.4", clip_on=False, label="cloud not given")
    times = as_dates([s.time for s in scenes])
    dress_dates(ax, times.min(), times.max())
    ax.set_ylim(0, 100)
    ax.set_ylabel("cloud cover (%)")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, fontsize="small", frameon=False, borderpad=0)
