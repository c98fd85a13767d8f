"""Small widgets that all steps are made of: messages, rows, headings, pictures."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable
from html import escape
from typing import Any, NamedTuple

import ipywidgets as w
from matplotlib.figure import Figure

from ftrack.view.panel.state import State

MARKS = {"info": "", "busy": "… ", "ok": "✓ ", "error": "✖ "}
"""What stands before a message, so that its colour is not all that tells its kind."""


LABEL = 112
"""Pixels that labels take."""


class Step(NamedTuple):
    """One step of the panel: its title, and what builds its widget when it is first shown."""

    title: str
    build: Callable[[State], w.Widget]


class Message(w.HTML):  # type: ignore[misc]  # ipywidgets has no types
    """A line that says what happened, or what to do, beside what was typed."""

    kind = "info"

    def say(self, text: str, kind: str = "info") -> None:
        """Show a text; ``kind`` is info, busy, ok or error."""
        self.kind = kind
        role = ' role="alert"' if kind == "error" else ' role="status"'
        lines = "<br>".join(escape(line) for line in text.splitlines())
        self.value = f'<div class="ftrack-message ftrack-{kind}"{role}>{MARKS[kind]}{lines}</div>' if text else ""

    @property
    def text(self) -> str:
        """What is shown, with its mark, as HTML."""
        return str(self.value)


def button(text: str, done: Callable[[], Any], *, tip: str = "", primary: bool = False) -> w.Button:
    """Return a button that calls a function."""
    made = w.Button(description=text, tooltip=tip, button_style="primary" if primary else "", layout=w.Layout(width="auto"))
    made.on_click(lambda _: done())
    return made


def wide() -> w.Layout:
    """Return the layout of a widget that holds a path or a long choice."""
    return w.Layout(width="330px", max_width="70%")


def labelled(text: str, widget: w.Widget, after: str = "") -> w.Widget:
    """Return a widget with its label before it, and its unit or bounds after it; several in a row are named by the row's label."""
    if isinstance(widget, w.Checkbox):
        widget.description = text
    elif isinstance(widget, w.Box):
        widget = w.HBox([w.Label(text, layout=w.Layout(width=f"{LABEL}px", flex="0 0 auto")), widget])
    else:
        widget.description, widget.style.description_width = text, f"{LABEL - 4}px"
        if (width := str(widget.layout.width or "")).endswith("px"):
            widget.layout.width = f"{int(width[:-2]) + LABEL}px"
    return w.HBox([widget, w.HTML(f'<span class="ftrack-unit">{escape(after)}</span>')]) if after else widget


def heading(text: str) -> w.Widget:
    """Return a heading inside a step."""
    return w.HTML(f'<h4 class="ftrack-heading">{escape(text)}</h4>')


def picture(figure: Figure, text: str, dpi: int = 100) -> str:
    """Return a figure as HTML, as wide as there is room, with a text for those who do not see it."""
    into = io.BytesIO()
    figure.savefig(into, format="png", dpi=dpi)
    code = b64encode(into.getvalue()).decode()
    return f'<img class="ftrack-picture" alt="{escape(text)}" src="data:image/png;base64,{code}">'


def lat_lon(lat: float, lon: float, digits: int = 4) -> str:
    """Return a place in words: ``69.2007° N, 49.9199° W``."""
    return f"{abs(lat):.{digits}f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.{digits}f}° {'E' if lon >= 0 else 'W'}"
