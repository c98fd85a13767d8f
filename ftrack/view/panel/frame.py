"""The panel itself: the steps from left to right, and the map beside them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import ipywidgets as w
import shapely

import ftrack.view.panel.found as found
import ftrack.view.panel.how as how
import ftrack.view.panel.running as running
import ftrack.view.panel.save as save
import ftrack.view.panel.see as see
import ftrack.view.panel.theirs as theirs
import ftrack.view.panel.where as where
from ftrack.extent import read_area
from ftrack.grid import grid_of
from ftrack.layers import box_of
from ftrack.view.panel.atlas import View, drawn, new_map, view_of
from ftrack.view.panel.pieces import Message, Step, button
from ftrack.view.panel.state import PanelLimits, State

STEPS: tuple[Step, ...] = (
    Step(where.TITLE, where.Where),
    Step(found.TITLE, found.Found),
    Step(how.TITLE, how.How),
    Step(running.TITLE, running.Running),
    Step(see.TITLE, see.See),
    Step(theirs.TITLE, theirs.Theirs),
    Step(save.TITLE, save.Save),
)


class Panel(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Map ice flow without writing code: choose area and images, try parameters, run, look, save.

    Parameters
    ----------
    file : path
        The workflow file in which settings are remembered; ``ftrack run FILE`` repeats what was clicked. It is read if it is there.
    background : str
        What lies behind the map: ``satellite`` and addresses of tiles need the internet, empty does not.
    outlines, flowlines : optional
        Outlines of glaciers and lines along which they flow, as ``ftrack.extent.read_area`` takes them, or files of lines.
    limits : PanelLimits, optional
        What may be asked for.
    """

    def __init__(
        self,
        file: str | Path = "panel.yaml",
        *,
        background: str = "satellite",
        outlines: Any = None,
        flowlines: Any = None,
        limits: PanelLimits | None = None,
    ) -> None:
        self.state = State(Path(file), limits)
        self.background = background
        self.notice = Message()
        self._built: dict[str, w.Widget] = {}
        self._buttons = {step.title: button(f"{n}  {step.title}", self._goes_to(step)) for n, step in enumerate(STEPS, 1)}
        self._left = w.Box(layout=w.Layout(flex="0 0 46%", min_width="400px", overflow="auto"))
        self._right = w.VBox(layout=w.Layout(flex="1 1 auto", min_width="360px", overflow="hidden"))
        self.state.aside.add_class("ftrack-aside")
        self._left.add_class("ftrack-step")
        for name, given in (("outlines", outlines), ("flowlines", flowlines)):
            self.state.layer(name).layers = () if given is None else (drawn(name, read_area(given)),)
        self.change_map()
        self.state.observe(lambda _: self._tell_run(), ["status", "step"])
        self.state.observe(lambda _: self.change_map(self._home()), "projection")
        self.state.observe(lambda change: self.change_map(change["new"]), "view")
        bar = w.HBox(list(self._buttons.values()), layout=w.Layout(flex_flow="row wrap"))
        bar.add_class("ftrack-steps")
        style = w.HTML(f"<style>{resources.files(__package__).joinpath('panel.css').read_text()}</style>")
        body = w.HBox([self._left, self._right], layout=w.Layout(height="640px"))
        super().__init__([style, bar, self.notice, body])
        self.add_class("ftrack-panel")
        self.open_step(STEPS[0].title)

    def _goes_to(self, step: Step) -> Any:
        return lambda: self.open_step(step.title)

    def open_step(self, title: str) -> None:
        """Show a step; it is built when it is shown for the first time."""
        step = next(step for step in STEPS if step.title == title)
        if title not in self._built:
            self._built[title] = step.build(self.state)
        self._left.children = [self._built[title]]
        for name, one in self._buttons.items():
            one.button_style = "primary" if name == title else ""
        before = self.state.aside.children
        self.state.aside.children = ()
        self.state.step = title
        if before or self.state.aside.children:
            lat, lon = self.state.map.center
            self.change_map(View(lat, lon, self.state.map.zoom))

    def change_map(self, view: View | None = None) -> None:
        """Draw the map in the projection that was chosen, showing what was asked for; its layers move along."""
        state = self.state
        made = new_map(state.projection, self.background, view, tuple(state.layers.values()))
        made.on_interaction(self._heed_click)
        state.map = made
        self._right.children = [state.map, state.aside]

    def _home(self) -> View | None:
        """Return the view of the area, or else of the scenes, or of the cube."""
        area, found, cube = self.state.value("scenes", "area"), self.state.found, self.state.cube
        if area is not None:
            return view_of(self.state.projection, read_area(area).bounds)
        if found:
            return view_of(self.state.projection, shapely.union_all([scene.footprint for scene in found]).bounds)
        return None if cube is None else view_of(self.state.projection, box_of(grid_of(cube)))

    def _tell_run(self) -> None:
        """Say in every step but its own how a run goes that is under way."""
        status = self.state.status
        away = status is not None and not status.ended and self.state.step != running.TITLE
        self.notice.say(f"run: {status}" if away else "", "busy")

    def _heed_click(self, **event: Any) -> None:
        if event.get("type") == "click":
            lat, lon = event["coordinates"]
            self.state.place = (lon, lat)
