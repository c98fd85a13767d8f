"""Step 1, where and when: an area on the map, a catalogue, dates, and what scenes have to be."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import ipyleaflet
import ipywidgets as w
import shapely
import shapely.geometry

from ftrack.config import SceneSettings
from ftrack.errors import Stop
from ftrack.extent import ground_area, read_area, read_dates
from ftrack.scenes import SceneQuery, find_scenes
from ftrack.stac import Scene, asset_of
from ftrack.view.panel.atlas import AREA, PROJECTIONS, View, view_of
from ftrack.view.panel.form import fields
from ftrack.view.panel.pieces import Message, button, heading, labelled, lat_lon
from ftrack.view.panel.state import State, tell

PRESETS: dict[str, dict[str, Any]] = {
    "Sentinel-2, 10 m (Earth Search)": {
        "scenes": {"catalog": "https://earth-search.aws.element84.com/v1", "collections": ["sentinel-2-c1-l2a"], "asset": "nir"}
    },
    "Sentinel-2, 10 m (Planetary Computer)": {
        "scenes": {"catalog": "https://planetarycomputer.microsoft.com/api/stac/v1", "collections": ["sentinel-2-l2a"], "asset": "B08"}
    },
    "Landsat 8/9, 15 m (USGS; the reader pays)": {
        "scenes": {"catalog": "https://landsatlook.usgs.gov/stac-server", "collections": ["landsat-c2l1"], "asset": "pan", "prefer": "s3"},
        "source": {"s3": "requester_pays"},
    },
}
OWN = "a folder, file or address"
LARGEST_UPLOAD = 5_000_000


class Where(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Area, catalogue and dates, and the search."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.area_said, self.place_said, self.search_said = Message(), Message(), Message()
        self.box = w.Text(placeholder="west, south, east, north", continuous_update=False, layout=w.Layout(width="260px"))
        self.upload = w.FileUpload(accept=".geojson,.json", description="GeoJSON", layout=w.Layout(width="110px"))
        self.place = w.Text(placeholder="lat, lon", continuous_update=False, layout=w.Layout(width="170px"))
        self.projection = w.Dropdown(options=[(p.name, key) for key, p in PROJECTIONS.items()], value=state.projection)
        self.catalog = w.Dropdown(options=self._catalogues(), layout=w.Layout(width="330px"))
        self.address = w.Text(placeholder="path or https://...", continuous_update=False, layout=w.Layout(width="330px"))
        day = w.Layout(width="140px")
        self.begin, self.end = (
            w.DatePicker(layout=day),
            w.DatePicker(description="to", style={"description_width": "20px"}, layout=w.Layout(width="170px")),
        )
        self._show_settings()
        self.draw = ipyleaflet.DrawControl()
        self.more = w.Accordion([w.VBox(fields(state, ("scenes",), SceneSettings, ("months", "platforms", "orbits", "tiles")))])
        self.more.set_title(0, "Months, platforms, orbits, tiles")
        super().__init__(self._rows())
        self._wire()

    def _rows(self) -> list[w.Widget]:
        state = self.state
        names = ("max_cloud", "asset", "collections")
        return [
            heading("Where"),
            labelled("map", self.projection),
            w.HBox([labelled("go to", self.place), button("Go", self.go), w.HTML('<span class="ftrack-unit">degrees north, east</span>')]),
            self.place_said,
            w.HBox([labelled("area", self.box), self.upload, w.HTML('<span class="ftrack-unit">degrees</span>')]),
            w.HTML('<div class="ftrack-help">Or draw it: the square or the polygon at the left edge of the map.</div>'),
            self.area_said,
            heading("When, and of what"),
            labelled("catalogue", self.catalog),
            self.address_row,
            w.HBox([labelled("from", self.begin), self.end]),
            *fields(state, ("scenes",), SceneSettings, names),
            self.more,
            button("Search", self.search, primary=True, tip="look into the catalogue for scenes of this area and these dates"),
            self.search_said,
        ]

    def _catalogues(self) -> list[str]:
        allowed = self.state.limits.catalogues
        known = [name for name, preset in PRESETS.items() if not allowed or preset["scenes"]["catalog"] in allowed]
        others = [place for place in allowed if place not in {preset["scenes"]["catalog"] for preset in PRESETS.values()}]
        return [*known, *others, *([OWN] if self.state.limits.own_files and not allowed else [])]

    def _show_settings(self) -> None:
        """Show what the workflow file says."""
        said = self.state.value("scenes", "catalog")
        names = [name for name in self.catalog.options if PRESETS.get(name, {}).get("scenes", {}).get("catalog", name) == said]
        self.catalog.value = names[0] if names else OWN if said and OWN in self.catalog.options else self.catalog.options[0]
        self.address.value = self.state.short(said or "")
        self.address_row = labelled("address", self.address)
        self.address_row.layout.display = "" if self.catalog.value == OWN else "none"
        span = read_dates(self.state.value("scenes", "dates"))
        self.begin.value, self.end.value = (end and end.date() for end in span)
        area = self.state.value("scenes", "area")
        self.box.value = ", ".join(f"{side:g}" for side in area) if isinstance(area, list | tuple) else self.state.short(area or "")
        if said is None:
            self._choose_catalogue()

    def _wire(self) -> None:
        state = self.state
        self.draw.polyline, self.draw.circlemarker, self.draw.circle = {}, {}, {}
        self.draw.polygon = self.draw.rectangle = {"shapeOptions": {"color": AREA, "weight": 2, "fillOpacity": 0.08}}
        self.draw.on_draw(self._drawn)
        self.box.observe(lambda change: self._take(lambda: change["new"]), "value")
        self.upload.observe(lambda _: self._take(self._uploaded), "value")
        self.projection.observe(lambda change: setattr(state, "projection", change["new"]), "value")
        self.catalog.observe(lambda _: self._choose_catalogue(), "value")
        self.address.observe(lambda _: self._choose_catalogue(), "value")
        for picker in (self.begin, self.end):
            picker.observe(lambda _: self._choose_dates(), "value")
        state.observe(lambda _: self._place_tools(), ["step", "map"])
        self._place_tools()
        if state.value("scenes", "area") is not None:
            self._take(lambda: state.value("scenes", "area"))

    def _place_tools(self) -> None:
        """Put the tools for drawing on the map while this step is shown; elsewhere the outline of the area stands there."""
        shown, there = self.state.step in ("", TITLE), self.draw in self.state.map.controls
        if shown and not there:
            self.state.map.add(self.draw)
        elif there and not shown:
            self.state.map.remove(self.draw)
        self.state.layer("area").layers = () if shown else self._outline()

    def _outline(self) -> tuple[ipyleaflet.Layer, ...]:
        style = {"color": AREA, "weight": 2, "dashArray": "6 4", "fillOpacity": 0.0, "interactive": False}
        return tuple(ipyleaflet.GeoJSON(data=feature, style=style) for feature in self.draw.data)

    def _drawn(self, _: Any, action: str, geo_json: dict[str, Any]) -> None:
        if action == "deleted":
            self.state.put("scenes", "area", value=None)
            self.draw.data = []
            self.area_said.say("No area: the whole catalogue is searched.")
        else:
            self._take(lambda: geo_json["geometry"], move=False)

    def _uploaded(self) -> Any:
        file = self.upload.value[0]
        if file["size"] > LARGEST_UPLOAD:
            raise Stop(f"{file['name']} has {file['size'] / 1e6:.0f} MB; simplify it to at most {LARGEST_UPLOAD / 1e6:.0f} MB")
        try:
            return json.loads(bytes(file["content"]))
        except ValueError:
            raise Stop(f"{file['name']} is not GeoJSON; save it as GeoJSON in longitude and latitude") from None

    def _take(self, get: Any, move: bool = True) -> None:
        """Take over an area that was typed, drawn or uploaded."""
        try:
            given = get()
            if given in (None, ""):
                return self.state.put("scenes", "area", value=None)
            given = self._placed(given)
            self._keep(read_area(given), given, move)
        except Stop as error:
            tell(self.area_said, error)
        return None

    def _placed(self, given: Any) -> Any:
        """Return an area; text has to be four numbers or, where that is allowed, a path, which is relative to the workflow file."""
        if not isinstance(given, str):
            return given
        numbers = re.findall(r"[^\s,\[\]()]+", given) if re.fullmatch(r"[\s\d.,eE+\-()\[\]]+", given) else None
        if numbers is not None and len(numbers) != 4:
            raise Stop(f"these are {len(numbers)} numbers: write west, south, east, north in degrees, such as -50, 69, -49, 69.4")
        if numbers is None and not self.state.limits.own_files:
            raise Stop("write west, south, east, north in degrees, or upload a GeoJSON file")
        return given if numbers or "://" in given else str(self.state.file.absolute().parent / Path(given).expanduser())

    def _keep(self, area: shapely.Geometry, given: Any, move: bool) -> None:
        size, most = ground_area(area), self.state.limits.area
        if size > most:
            raise Stop(f"the area has {size:,.0f} km², at most {most:,.0f} km² are allowed: draw a smaller one")
        sides = [round(side, 5) for side in area.bounds]
        box = area.equals_exact(area.envelope, 1e-9) or area.normalize().equals_exact(shapely.box(*area.bounds).normalize(), 1e-7)
        if box:
            self.state.put("scenes", "area", value=sides)
        elif not isinstance(given, str):
            path = self.state.file.with_name(f"{self.state.file.stem}-area.geojson")
            path.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(area)}))
            self.state.put("scenes", "area", value=str(path.absolute()))
        else:
            self.state.put("scenes", "area", value=given)
        parts = getattr(area, "geoms", [area])
        style = {"style": {"color": AREA, "weight": 2, "fillOpacity": 0.08}}
        self.draw.data = [{"type": "Feature", "properties": style, "geometry": shapely.geometry.mapping(part)} for part in parts]
        west, south, east, north = area.bounds
        self.area_said.say(f"{size:,.0f} km², from {lat_lon(south, west, 2)} to {lat_lon(north, east, 2)}", "ok")
        self._place_tools()
        if box:
            self.box.value = ", ".join(f"{side:g}" for side in sides)
        if move:
            self.state.view = view_of(self.state.projection, area.bounds)

    def go(self) -> None:
        """Move the map to the place that was typed."""
        try:
            lat, lon = (float(part) for part in re.split(r"[,\s]+", self.place.value.strip()))
            if not (-90 <= lat <= 90 and -180 <= lon <= 180):
                raise ValueError
        except ValueError:
            return self.place_said.say("write latitude and longitude in degrees, such as 69.15, -49.5", "error")
        self.place_said.say("")
        self.state.view = View(lat, lon, 9 if self.state.projection == "mercator" else 5)
        return None

    def _choose_catalogue(self) -> None:
        preset = PRESETS.get(self.catalog.value)
        self.address_row.layout.display = "" if self.catalog.value == OWN else "none"
        if preset is None:
            place = self.address.value.strip() if self.catalog.value == OWN else self.catalog.value
            preset = {
                "scenes": {"catalog": place or None, "collections": None, "asset": self.state.value("scenes", "asset", default="nir")}
            }
        for section, values in {"source": {"s3": None}, **preset}.items():
            for name, value in {**({"prefer": None, "mask": "auto"} if section == "scenes" else {}), **values}.items():
                self.state.put(section, name, value=value)

    def _choose_dates(self) -> None:
        begin, end = self.begin.value, self.end.value
        if begin and end and end < begin:
            return self.search_said.say("the last day is before the first: change one of the dates", "error")
        text = f"{_day(begin)}/{_day(end)}" if begin or end else None
        self.search_said.say("")
        return self.state.put("scenes", "dates", value=text)

    def search(self) -> None:
        """Search the catalogue; what is left out by hand stays in the list."""
        try:
            wanted = self.state.workflow.scenes.model_copy(update={"leave_out": ()})
        except Stop as error:
            return self.search_said.say(
                str(error).replace("scenes.catalog: this setting is needed", "say which catalogue: type its path"), "error"
            )
        self.search_said.say("searching ...", "busy")
        return self.state.later(lambda: _search(wanted), self._found, self.search_said)

    def _found(self, scenes: tuple[Scene, ...]) -> None:
        self.state.found = scenes
        first, last = scenes[0].time, scenes[-1].time
        if self.state.value("scenes", "area") is None:
            bounds = shapely.union_all([scene.footprint for scene in scenes]).bounds
            self.state.view = view_of(self.state.projection, bounds)
        self.search_said.say(f"{len(scenes)} scenes from {first:%Y-%m-%d} to {last:%Y-%m-%d}. Look at them in step 2.", "ok")


def _search(wanted: SceneSettings) -> tuple[Scene, ...]:
    given = {name: getattr(wanted, name) for name in ("area", "dates", "collections", "max_cloud")}
    query = SceneQuery(**{name: getattr(wanted, name) for name in SceneQuery.model_fields if name != "leave_out"})
    scenes = find_scenes(wanted.catalog, **given, query=query)
    asset_of(scenes[0], wanted.asset)
    return scenes


def _day(day: date | None) -> str:
    return f"{day:%Y-%m-%d}" if day else ".."


TITLE = "Where and when"
