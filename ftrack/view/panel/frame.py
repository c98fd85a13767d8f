"""The panel itself: the steps from left to right, and the map beside them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import ipywidgets as w

from ftrack.view.panel.atlas import PROJECTIONS, new_map
from ftrack.view.panel.pieces import Message, Step, button
from ftrack.view.panel.state import State


def _soon(state: State) -> w.Widget:
    return w.HTML(f"{state.file.name}")


STEPS: tuple[Step, ...] = (Step("Where and when", _soon), Step("What there is", _soon), Step("How", _soon), Step("Run", _soon))


class Panel(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Map ice flow without writing code: choose area and images, try parameters, run, look, save.

    Parameters
    ----------
    file : path
        The workflow file in which settings are remembered; ``ftrack run FILE`` repeats what was clicked. It is read if it is there.
    background : str
        What lies behind the map: ``satellite`` and addresses of tiles need the internet, empty does not.
    """

    def __init__(self, file: str | Path = "panel.yaml", *, background: str = "satellite") -> None:
        self.state = State(Path(file))
        self.background, self.projection = background, "mercator"
        self.notice = Message()
        self._built: dict[str, w.Widget] = {}
        self._buttons = {step.title: button(f"{n}  {step.title}", self._goes_to(step)) for n, step in enumerate(STEPS, 1)}
        self._left = w.Box(layout=w.Layout(flex="0 0 46%", min_width="400px", overflow="auto"))
        self._right = w.Box(layout=w.Layout(flex="1 1 auto", min_width="360px"))
        self._left.add_class("ftrack-step")
        self.change_map(self.projection)
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
        self.state.step = title

    def change_map(self, projection: str) -> None:
        """Draw the map in another projection; its layers move along."""
        state = self.state
        self.projection = projection
        state.map = new_map(projection, self.background, tuple(state.layers.values()))
        state.map.on_interaction(self._heed_click)
        self._right.children = [state.map]

    def _heed_click(self, **event: Any) -> None:
        if event.get("type") == "click":
            lat, lon = event["coordinates"]
            self.state.place = (lon, lat)


__all__ = ["PROJECTIONS", "Panel"]
