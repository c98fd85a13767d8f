"""Step 5, see: velocity and its quality on the map, series at points and profiles along lines."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipyleaflet
import ipywidgets as w
import numpy as np
import pyproj
import xarray as xr
from matplotlib.figure import Figure

from ftrack.axes import turn_to
from ftrack.cube import open_cube
from ftrack.errors import FtrackError, Stop
from ftrack.grid import Grid, grid_of
from ftrack.layers import Sheet, Vectors, arrows, box_of, render, streamlines
from ftrack.nearby import near_map
from ftrack.series import point_series, profile
from ftrack.view.frames import title_of_pair
from ftrack.view.overlay import QUANTITIES, Overlay, plot_scale, read_overlay
from ftrack.view.panel.atlas import AREA, PROJECTIONS, sheet_of_map, view_of
from ftrack.view.panel.pieces import Message, button, heading, labelled, picture, wide
from ftrack.view.panel.state import State
from ftrack.view.plots import SERIES_LABEL, plot_profile, plot_series

TITLE = "See"
MEDIAN = "median"
WIDTH = 1000
"""Pixels of the map where the browser has not said how many there are."""


class See(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The map of a cube with its scale, a second one behind a slider, and what is read at points and along lines."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.cube_said, self.map_said, self.place_said = Message(), Message(), Message()
        self.path = w.Text(value=state.output, placeholder="cube.zarr or s3://...", continuous_update=False, layout=wide())
        self.quantity = w.Dropdown(options=list(QUANTITIES), value="speed")
        self.pair, self.second = w.Dropdown(layout=wide()), w.Dropdown(options=[("nothing", "")], layout=wide())
        self.limit = w.Text(placeholder="automatic", continuous_update=False, layout=w.Layout(width="110px"))
        self.logarithmic = w.Checkbox(description="logarithmic", indent=False, layout=w.Layout(width="120px"))
        self.flow = w.ToggleButtons(
            options=["none", "arrows", "streamlines"], style={"button_width": "98px"}, layout=w.Layout(width="320px")
        )
        self.opacity = w.IntSlider(80, 0, 100, 5, continuous_update=False, layout=w.Layout(width="270px"))
        self.swipe = w.IntSlider(50, 0, 100, 2, layout=w.Layout(width="270px"))
        self.scale, self.series, self.profile = w.HTML(), w.HTML(), w.HTML()
        self.place = w.Text(placeholder="lat, lon", continuous_update=False, layout=w.Layout(width="190px"))
        self.radius = w.BoundedFloatText(value=0, min=0, max=50_000, layout=w.Layout(width="90px"))
        self.variable = w.Dropdown(options=[(text, name) for name, text in SERIES_LABEL.items()], layout=wide())
        self.drawing = w.ToggleButton(description="Draw a line", tooltip="then click its points on the map", layout=w.Layout(width="auto"))
        self.overlays: list[Overlay] = []
        self.line: list[tuple[float, float]] = []
        self._drawn = self._asked = 0
        self._near: tuple[xr.Dataset, xr.Dataset, xr.Dataset] | None = None
        self._image: ipyleaflet.ImageOverlay | None = None
        super().__init__(self._rows())
        self._wire()
        self._turn_up()

    def _rows(self) -> list[w.Widget]:
        own = self.state.limits.own_files
        opened = labelled("cube", w.HBox([self.path, button("Open", self.open_path)])) if own else w.VBox()
        line = w.HBox([self.drawing, button("Clear", self.clear, tip="forget the line")])
        return [
            heading("Velocity"), opened, self.cube_said, labelled("show", self.quantity), labelled("of", self.pair),
            labelled("end of the scale", w.HBox([self.limit, self.logarithmic])), labelled("flow", w.HBox([self.flow])),
            labelled("opacity", self.opacity, "%"),
            labelled("beside it", self.second), labelled("where it begins", self.swipe, "% of the map"), self.map_said, self.scale,
            heading("At a point"), labelled("point", self.place, "or click the map"), labelled("mean within", self.radius, "m"),
            labelled("draw", self.variable), self.place_said, self.series, heading("Along a line"), line, self.profile,
        ]  # fmt: skip

    def _wire(self) -> None:
        state = self.state
        for widget in (self.quantity, self.pair, self.second, self.limit, self.logarithmic):
            widget.observe(lambda _: self.read(), "value")
        for widget in (self.flow, self.swipe):
            widget.observe(lambda _: self.draw(), "value")
        self.opacity.observe(lambda _: self._fade(), "value")
        self.path.observe(lambda _: self.open_path(), "value")
        self.place.observe(lambda _: self._typed(), "value")
        for widget in (self.radius, self.variable):
            widget.observe(lambda _: self._plot(), "value")
        state.observe(lambda _: self._turn_up(), "cube")
        state.observe(lambda _: self._beside(), "other")
        state.observe(lambda _: self._clicked(), "place")
        state.observe(lambda _: self._follow_map(), "map")
        state.observe(lambda _: self._step(), "step")
        self._follow_map()

    def _follow_map(self) -> None:
        if self.state.map is not None:
            self.state.map.observe(lambda _: self.draw(), ["pixel_bounds"])

    def _step(self) -> None:
        if self.state.step == TITLE:
            self.path.value = self.path.value or self.state.output
            if self.state.cube is not None and not self.state.series:
                self.state.view = view_of(self.state.projection, box_of(grid_of(self.state.cube)))
            self.draw()

    def open_path(self) -> None:
        """Open the cube that was named."""
        path = self.path.value.strip()
        if not path or (self.state.cube is not None and path == self.state.output):
            return None
        self.cube_said.say("opening ...", "busy")

        def use(cube: xr.Dataset) -> None:
            self.state.output, self.state.cube = path, cube

        return self.state.later(lambda: open_cube(path), use, self.cube_said)

    def _list(self) -> None:
        """Offer the pairs of the cube, and what can stand beside one."""
        cube, other = self.state.cube, self.state.other
        if cube is None:
            return self.cube_said.say("No cube yet: make one in step 4" + (", or open one." if self.state.limits.own_files else "."))
        count = cube.sizes["mid_date"]
        pairs = [(title_of_pair(cube, index), str(index)) for index in range(count)]
        every = [(f"median of {count} pairs", MEDIAN), *pairs]
        self.cube_said.say(f"{self.state.output or cube.attrs.get('title', 'cube')}: {count:,} pairs", "ok")
        _offer(self.pair, every if count > 1 else pairs)
        theirs = [(str(other.attrs.get("title", "ITS_LIVE")), "other")] if other is not None else []
        _offer(self.second, [("nothing", ""), *theirs, *every])
        return self.read()

    def _beside(self) -> None:
        """Offer what others have published, and read it where something was clicked."""
        self._list()
        if self.state.series:
            self._plot()

    def _turn_up(self) -> None:
        """Show a new cube, and move the map to it; what was read of the one before is forgotten."""
        self.overlays, self.state.series, self.series.value = [], (), ""
        self.place_said.say("")
        self._show(None)
        self.clear()
        if self.state.cube is not None and self.state.step == TITLE:
            self.state.view = view_of(self.state.projection, box_of(grid_of(self.state.cube)))
        self._list()

    def read(self) -> None:
        """Read what is to be shown, and draw it."""
        cube, other = self.state.cube, self.state.other
        if cube is None or self.pair.value is None:
            return None
        try:
            limit = float(self.limit.value) if self.limit.value.strip() else None
        except ValueError:
            return self.map_said.say(f"{self.limit.value!r} is not a number: write the end of the scale as 1500, or nothing", "error")
        quantity, pair, second, log = self.quantity.value, self.pair.value, self.second.value, self.logarithmic.value
        self.map_said.say("reading ...", "busy")
        self._asked += 1
        number, told = self._asked, self.state.teller(self.map_said)

        def work() -> list[Overlay]:
            first = read_overlay(cube, quantity, pair, log=log, limit=limit)
            if not second:
                return [first]
            # Side by side, one scale for both.
            data, which = (self._map_of(other, cube, told), None) if second == "other" else (cube, second)
            return [first, read_overlay(data, "speed" if second == "other" else quantity, which, log=log, limit=first.field.high)]

        return self.state.later(work, lambda made: self._use(made) if number == self._asked else None, self.map_said)

    def _map_of(self, other: xr.Dataset, cube: xr.Dataset, told: Callable[[str], None]) -> xr.Dataset:
        """Return the velocity of others as one map; of a cube it is read once."""
        if not _in_time(other):
            return other
        if self._near is None or self._near[0] is not other or self._near[1] is not cube:
            self._near = (other, cube, near_map(other, cube, told=told))
        return self._near[2]

    def _use(self, overlays: list[Overlay]) -> None:
        self.overlays = overlays
        self.state.pair = self.pair.value
        self.scale.value = picture(plot_scale(overlays[0]), f"scale: {QUANTITIES[overlays[0].quantity].label}")
        theirs = "ITS_LIVE, " if self.second.value == "other" else ""
        self.map_said.say(
            "" if len(overlays) == 1 else f"left: {overlays[0].title or 'ours'}; right: {theirs}{overlays[1].title}".rstrip(", ")
        )
        self.draw()

    def draw(self) -> None:
        """Draw what is seen now of what was read."""
        state = self.state
        if not self.overlays or state.step != TITLE:
            return None
        self._drawn += 1
        number, overlays, flow, share = self._drawn, self.overlays, self.flow.value, self.swipe.value / 100
        seen, width = sheet_of_map(state.map, state.projection) or _whole(overlays[0].field.grid, state.projection)

        def work() -> tuple[Any, Vectors | None]:
            beside = overlays[1].field if len(overlays) > 1 else None
            made = render(overlays[0].field, seen, width, beside=beside, share=share)
            velocity = overlays[0].velocity
            lines = None if flow == "none" or velocity is None else (arrows if flow == "arrows" else streamlines)(velocity, seen)
            return made, lines

        def show(found: tuple[Any, Vectors | None]) -> None:
            if number == self._drawn:
                self._show(*found)

        return state.later(work, show, self.map_said)

    def _show(self, made: Any, lines: Vectors | None = None) -> None:
        layers: list[ipyleaflet.Layer] = []
        if made is not None:
            layers.append(ipyleaflet.ImageOverlay(url=made.url, bounds=made.bounds, opacity=self.opacity.value / 100))
        if lines is not None and lines.lines:
            shape = {"type": "MultiLineString", "coordinates": [line.round(5).tolist() for line in lines.lines]}
            style = {"color": "#ffffff", "weight": 1.3, "opacity": 0.95, "interactive": False}
            layers += [
                ipyleaflet.GeoJSON(data={"type": "Feature", "properties": {}, "geometry": shape}, style={**style, **more})
                for more in ({"color": "#202020", "weight": 3.0}, {})
            ]
        self._image = layers[0] if made is not None else None
        self.state.layer("velocity").layers = tuple(layers)

    def _fade(self) -> None:
        if self._image is not None:
            self._image.opacity = self.opacity.value / 100

    def _typed(self) -> None:
        if self.place.value == _written(self.state.place):
            return None
        try:
            lat, lon = (float(part) for part in self.place.value.replace(",", " ").split())
        except ValueError:
            return self.place_said.say("write the point as lat, lon in degrees, such as 69.15, -49.5", "error")
        self.state.place = (lon, lat)
        return None

    def _clicked(self) -> None:
        if self.state.step != TITLE or not self.state.place:
            return
        if self.drawing.value:
            self.line.append(self.state.place)
        else:
            self.place.value = _written(self.state.place)
        self._plot()

    def clear(self) -> None:
        """Forget the line."""
        self.line, self.profile.value, self.state.profile = [], "", None
        self._mark()

    def _mark(self) -> None:
        marks: list[ipyleaflet.Layer] = []
        if self.state.series:
            where = self.state.series[0]
            marks.append(
                ipyleaflet.CircleMarker(location=(float(where.lat), float(where.lon)), radius=7, color=AREA, weight=3, fill_opacity=0.0)
            )
        if self.line:
            places = [(lat, lon) for lon, lat in self.line]
            marks.append(ipyleaflet.Polyline(locations=places, color=AREA, weight=3, fill=False))
        self.state.layer("places").layers = tuple(marks)

    def _plot(self) -> None:
        """Read and plot what was clicked: the point, or the line if one is being drawn."""
        cube, other, variable, pair = self.state.cube, self.state.other, self.variable.value, self.pair.value
        if cube is None or not self.state.place:
            return None
        if self.drawing.value:
            self._mark()
            line = list(self.line)
            if len(line) < 2:
                return self.place_said.say("click the next point of the line")

            def along() -> list[xr.Dataset]:
                ours = profile(cube, line, pair=pair)
                return [ours, *_theirs(other, cube, lambda data: profile(data, line, pair=0 if "mid_date" in data.dims else None))]

            return self.state.later(along, lambda found: self._show_profile(found, variable), self.place_said)
        (lon, lat), radius = self.state.place, self.radius.value

        def at_point() -> list[xr.Dataset]:
            ours = point_series(cube, lon=lon, lat=lat, radius=radius, filled=True)
            more = _theirs(other, cube, lambda data: point_series(data, lon=lon, lat=lat, radius=radius)) if _in_time(other) else []
            return [ours, *more]

        return self.state.later(at_point, lambda found: self._show_series(found, variable), self.place_said)

    def _show_series(self, found: list[xr.Dataset], variable: str) -> None:
        self.state.series = tuple(found)
        ax = Figure(figsize=(7.0, 3.6), layout="constrained").subplots()
        for one in found:
            plot_series(one, variable=variable, ax=ax)
        values = found[0][variable].values
        known = values[np.isfinite(values)]
        said = (
            f"median {np.median(known):,.0f} m/yr, {known.size} of {values.size} pairs"
            if known.size
            else "no vector here; the plot says why"
        )
        self.series.value = picture(ax.get_figure(), f"series: {said}")  # type: ignore[arg-type]
        self.place_said.say(said, "ok" if known.size else "info")
        self._mark()

    def _show_profile(self, found: list[xr.Dataset], variable: str) -> None:
        self.state.profile = found[0]
        ax = Figure(figsize=(7.0, 3.4), layout="constrained").subplots()
        for one in found:
            plot_profile(one, variable=variable, ax=ax)
        length = float(found[0]["distance"][-1])
        self.profile.value = picture(ax.get_figure(), f"profile of {length:.1f} km")  # type: ignore[arg-type]
        self.place_said.say(f"{length:.1f} km, {escape(found[0].attrs['shown'])}", "ok")


def _offer(choice: w.Dropdown, options: list[tuple[str, str]]) -> None:
    """Change what can be chosen; what was chosen stays if it is still there."""
    before = choice.value
    choice.options = options
    choice.value = before if before in [value for _, value in options] else options[0][1]


def _written(place: tuple[float, float] | tuple[()]) -> str:
    """Return a point (longitude, latitude) as it is typed."""
    return f"{place[1]:.5f}, {place[0]:.5f}" if place else ""


def _in_time(data: xr.Dataset | None) -> bool:
    return data is not None and "mid_date" in data.dims


def _theirs(other: xr.Dataset | None, cube: xr.Dataset, read: Any) -> list[xr.Dataset]:
    """Return what is read of the data of others along the axes of our cube; nothing where they have nothing."""
    if other is None:
        return []
    try:
        return [turn_to(read(other), grid_of(cube).crs)]
    except (Stop, FtrackError):
        return []


def _whole(grid: Grid, projection: str) -> tuple[Sheet, int]:
    """Return all of a grid, for a map that has not said yet what it shows."""
    code = PROJECTIONS[projection].code
    return Sheet(code, *pyproj.Transformer.from_crs(grid.crs, code, always_xy=True).transform_bounds(*grid.bounds, densify_pts=51)), WIDTH
