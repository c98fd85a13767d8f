"""Step 2, what there is: scenes on the map, in a table and over time, quick-looks, and the pairs that they make."""

from __future__ import annotations

from importlib import resources
from typing import Any

import anywidget
import ipyleaflet
import ipywidgets as w
import shapely
import shapely.geometry
from matplotlib.figure import Figure
from traitlets import List, Unicode

from ftrack.errors import FtrackError
from ftrack.lattice import choose_grid, scene_bytes
from ftrack.pairs import PairSettings
from ftrack.passes import group_images
from ftrack.quicklook import read_quicklook
from ftrack.stac import Scene
from ftrack.view.inventory import draw_timeline
from ftrack.view.panel.atlas import AREA, SHADE, STRONG
from ftrack.view.panel.form import fields
from ftrack.view.panel.pieces import Message, heading, labelled, picture
from ftrack.view.panel.state import State
from ftrack.view.plots import plot_network

COLUMNS = ["time (UTC)", "platform", "orbit", "tile", "cloud (%)"]


class SceneTable(anywidget.AnyWidget):
    """A table whose columns sort; rows are picked, and switched on and off."""

    _esm = resources.files(__package__).joinpath("table.js").read_text()
    columns = List(Unicode(), COLUMNS).tag(sync=True)
    rows: Any = List().tag(sync=True)
    off: Any = List().tag(sync=True)
    picked: Any = List().tag(sync=True)


class Found(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The scenes of the last search and their pairs."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._counted = ""
        self.table = SceneTable()
        self.counts, self.pairs_said = Message(), Message()
        self.time_line, self.look, self.network = w.HTML(), w.HTML(), w.HTML()
        self.days = w.FloatRangeSlider(
            min=0, max=400, step=1, continuous_update=False, readout_format=".0f", layout=w.Layout(width="330px")
        )
        self.prints = ipyleaflet.GeoJSON(style_callback=self._style, hover_style={"weight": 3})
        limits = ("max_per_image", "same_orbit", "same_sensor", "months", "min_overlap")
        super().__init__(
            [
                heading("Scenes"), self.counts, self.table,
                w.HTML('<div class="ftrack-help">Click a row, or the map. Space switches the row in focus on or off.</div>'),
                self.look, self.time_line, heading("Pairs"), labelled("baseline", self.days, "days"), self.pairs_said, self.network,
                w.Accordion([w.VBox(fields(state, ("pairs",), PairSettings, limits))], titles=("More about pairs",)),
            ]
        )  # fmt: skip
        self.table.observe(self._switched, "off")
        self.table.observe(lambda _: self._picked(), "picked")
        self.days.observe(lambda change: self._chose_days(*change["new"]), "value")
        state.observe(lambda _: self._list(), "found")
        state.observe(lambda _: self._show_pairs(), ["pairs", "fault"])
        state.observe(lambda _: self._count(), "values")
        state.observe(lambda _: self._clicked(), "place")
        state.observe(lambda _: self._place_prints(), "step")
        self._list()
        self._show_pairs()

    def _list(self) -> None:
        """Show what was found."""
        state = self.state
        self.table.rows = [{"id": s.id, "cells": _cells(s)} for s in state.found]
        self.table.off = list(state.value("scenes", "leave_out", default=()))
        self.table.picked, self.look.value = [], ""
        self._place_prints()
        self._count()

    def _count(self) -> None:
        """Show how much is switched on, and which pairs that makes."""
        state = self.state
        decisive = repr([state.value("scenes"), state.value("pairs"), state.value("grid"), [s.id for s in state.found]])
        if decisive == self._counted:
            return
        self._counted = decisive
        longest = max(60.0, state.value("pairs", "max_days", default=60.0))
        self.days.max = max(self.days.max, longest)
        self.days.value = (state.value("pairs", "min_days", default=1.0), state.value("pairs", "max_days", default=60.0))
        if not state.found:
            self.time_line.value = ""
            self.counts.say("No scenes yet: search in step 1.")
            return
        self.prints.data = self._features()
        figure = Figure(figsize=(6.2, 1.9), layout="constrained")
        draw_timeline(figure.subplots(), state.found)
        self.time_line.value = picture(figure, "cloud cover in percent of every scene over time")
        self._pair()

    def _pair(self) -> None:
        state = self.state
        used = state.scenes
        self.counts.say(f"{len(used)} of {len(state.found)} scenes are used ({len(group_images(used))} images).", "ok")
        state.later(lambda: self._megabytes(used), self._say_bytes, self.counts)

    def _megabytes(self, used: tuple[Scene, ...]) -> str:
        """Return how much there is to read; where that cannot be told before files are opened, why."""
        state = self.state
        if not used:
            return f"0 of {len(state.found)} scenes are used: switch at least two on."
        settings = state.workflow
        asset, access = settings.scenes.asset, settings.reading.access
        grid = choose_grid(used, asset, settings.scenes.area, settings.grid, access)
        size = sum(scene_bytes(used, asset, [grid], access).values()) / 1e6
        pixels = f"{grid.width:,} × {grid.height:,} pixels of {grid.resolution:g} m"
        images = len(group_images(used))
        return f"{len(used)} of {len(state.found)} scenes are used ({images} images): {pixels}, {size:,.0f} MB before compression."

    def _say_bytes(self, text: str) -> None:
        self.counts.say(text, "ok" if self.state.scenes else "error")

    def _show_pairs(self) -> None:
        pairs, most = self.state.pairs, self.state.limits.pairs
        if not pairs:
            self.network.value = ""
            return self.pairs_said.say(self.state.fault, "error")
        figure = Figure(figsize=(6.2, 2.6), layout="constrained")
        plot_network(pairs, ax=figure.subplots())
        self.network.value = picture(figure, f"{len(pairs)} pairs: date against days between the two images")
        if len(pairs) > most:
            return self.pairs_said.say(
                f"{len(pairs):,} pairs, at most {most:,} are allowed: take shorter baselines or fewer scenes", "error"
            )
        return self.pairs_said.say(f"{len(pairs):,} pairs", "ok")

    def _switched(self, change: Any) -> None:
        off = [name for name in change["new"] if any(s.id == name for s in self.state.found)]
        if off != list(self.state.value("scenes", "leave_out", default=())):
            self.state.put("scenes", "leave_out", value=off or None)

    def _chose_days(self, shortest: float, longest: float) -> None:
        for name, value in (("min_days", shortest), ("max_days", max(longest, 1.0))):
            if value != self.state.value("pairs", name, default=PairSettings.model_fields[name].default):
                self.state.put("pairs", name, value=value)

    def _clicked(self) -> None:
        if self.state.step == TITLE and self.state.place:
            point = shapely.Point(*self.state.place)
            self.table.picked = [scene.id for scene in self.state.found if scene.footprint.intersects(point)]

    def _picked(self) -> None:
        """Show the scenes that were picked on the map, and a small picture of the only one."""
        self.prints.data = self._features()
        picked = [scene for scene in self.state.found if scene.id in self.table.picked]
        self.look.value = ""
        if len(picked) != 1:
            return
        scene = picked[0]
        said = Message()
        self.look.value = '<div class="ftrack-help">reading a quick-look ...</div>'

        def told(error: FtrackError) -> None:
            said.say(f"no quick-look: {error}", "error")
            self.look.value = said.value

        self.state.later(lambda: self._read(scene), lambda image: self._show_look(scene, image), told)

    def _read(self, scene: Scene) -> Any:
        settings = self.state.workflow
        return read_quicklook(scene, settings.scenes.asset, settings.reading.access)

    def _show_look(self, scene: Scene, image: Any) -> None:
        if self.table.picked != [scene.id]:
            return
        figure = Figure(figsize=(1.6, 1.6 * image.shape[0] / image.shape[1]))
        ax = figure.add_axes((0, 0, 1, 1))
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        ax.axis("off")
        cloud = "cloud not given" if scene.cloud_cover is None else f"cloud {scene.cloud_cover:.0f} %"
        words = f"{scene.id}<br>{scene.time:%Y-%m-%d %H:%M} UTC<br>{cloud}"
        self.look.value = f'<div class="ftrack-look">{picture(figure, f"quick-look of {scene.id}")}<div>{words}</div></div>'

    def _place_prints(self) -> None:
        self.prints.data = self._features()
        shown = self.state.step in ("", TITLE) and bool(self.state.found)
        self.state.layer("scenes").layers = (self.prints,) if shown else ()

    def _features(self) -> dict[str, Any]:
        off, picked = set(self.table.off), set(self.table.picked)
        parts = [
            {
                "type": "Feature",
                "properties": {"id": s.id, "off": s.id in off, "picked": s.id in picked, "style": {}},
                "geometry": shapely.geometry.mapping(s.footprint),
            }
            for s in sorted(self.state.found, key=lambda s: s.id in picked)
        ]
        return {"type": "FeatureCollection", "features": parts}

    @staticmethod
    def _style(feature: dict[str, Any]) -> dict[str, Any]:
        said = feature["properties"]
        if said["picked"]:
            return {"color": AREA, "weight": 4, "fillOpacity": 0.04}
        dashes = "2 6" if said["off"] else ""
        return {"color": SHADE if said["off"] else STRONG, "weight": 1.5, "dashArray": dashes, "fillOpacity": 0.02}


def _cells(scene: Scene) -> list[str | float | None]:
    cloud = None if scene.cloud_cover is None else round(scene.cloud_cover, 1)
    return [f"{scene.time:%Y-%m-%d %H:%M}", scene.platform, scene.orbit, scene.tile, cloud]


TITLE = "What there is"
