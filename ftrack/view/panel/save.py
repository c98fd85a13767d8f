"""Step 7, save: figures, series, maps, the workflow, and a notebook that repeats what was clicked."""

from __future__ import annotations

import tempfile
from base64 import b64encode
from collections.abc import Callable
from html import escape
from pathlib import Path

import ipywidgets as w
import numpy as np

from ftrack.config import write_workflow
from ftrack.errors import Stop
from ftrack.export import write_map, write_series
from ftrack.notebook import write_notebook
from ftrack.view.frames import save_picture
from ftrack.view.maps import plot_velocity
from ftrack.view.panel.pieces import Message, button, heading, labelled
from ftrack.view.panel.state import State
from ftrack.view.plots import plot_profile, plot_series

TITLE = "Save"
LARGEST_LINK = 4_000_000
"""Bytes of the largest file that the page itself hands out."""

POINTS = 30
"""Points of a line in the notebook, at most."""


class Save(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Buttons that write files, beside the workflow file unless told otherwise, and links to take them along."""

    def __init__(self, state: State) -> None:
        self.state = state
        own = state.limits.own_files
        place, here = state.file.absolute().parent, Path.cwd()
        place = place.relative_to(here) if place.is_relative_to(here) else place
        self.folder = w.Text(value=str(place), continuous_update=False, layout=w.Layout(width="330px"))
        self.name = w.Text(value=state.file.stem, continuous_update=False, layout=w.Layout(width="170px"))
        self.said, self.link = Message(), w.HTML()
        self._hidden = None if own else tempfile.TemporaryDirectory(prefix="ftrack-")

        def row(suffixes: str, write: Callable[[Path], object]) -> w.Widget:
            return w.HBox([button(suffix.upper(), self._writes(f".{suffix}", write)) for suffix in suffixes.split()])

        super().__init__(
            [
                heading("Where"), *([labelled("folder", self.folder)] if own else []), labelled("name", self.name),
                heading("What"), labelled("velocity map", row("png svg tif", self.map)),
                labelled("series", row("png svg csv nc parquet", self.series)), labelled("profile", row("png svg csv nc", self.profile)),
                labelled("workflow", row("yaml", self.workflow)), labelled("notebook", row("ipynb", self.notebook)), self.said, self.link,
            ]
        )  # fmt: skip

    def _writes(self, suffix: str, write: Callable[[Path], object]) -> Callable[[], None]:
        """Return what a button does: write a file, say where it is, and offer it to be taken along."""

        def press() -> None:
            kind = "" if write == self.workflow else f"-{write.__name__}"
            folder = Path(self._hidden.name if self._hidden else self.folder.value).expanduser()
            path = folder / f"{Path(self.name.value.strip() or 'ftrack').name}{kind}{suffix}"
            self.said.say("writing ...", "busy")
            self.state.later(lambda: write(path), lambda _: self._written(path), self.said)

        return press

    def _written(self, path: Path) -> None:
        size = path.stat().st_size
        where = path.name if self._hidden else str(path)
        self.said.say(f"{where} is written, {size / 1e3:,.0f} kB", "ok")
        self.link.value = ""
        if size <= LARGEST_LINK:
            code = b64encode(path.read_bytes()).decode()
            name = escape(path.name)
            address = f"data:application/octet-stream;base64,{code}"
            self.link.value = f'<a style="text-decoration: underline" download="{name}" href="{address}">take {name} along</a>'
        elif self._hidden:
            self.said.say(f"{where} has {size / 1e6:,.0f} MB, more than this page hands out; choose a smaller area", "error")

    def map(self, path: Path) -> None:
        """Write the velocity map that is shown, as a picture or a GeoTIFF."""
        cube, pair = self.state.cube, self.state.pair
        if cube is None:
            raise Stop("there is no cube to save a map of: make one in step 4, or open one in step 5")
        if path.suffix == ".tif":
            write_map(cube, path, pair)
        else:
            save_picture(plot_velocity(cube, pair), path)

    def series(self, path: Path) -> None:
        """Write the series of the last point."""
        if not self.state.series:
            raise Stop("there is no series to save: click a point in step 5")
        ours, *others = self.state.series
        if path.suffix in (".png", ".svg"):
            ax = plot_series(ours)
            for one in others:
                plot_series(one, ax=ax)
            save_picture(ax, path)
        else:
            write_series(ours, path)

    def profile(self, path: Path) -> None:
        """Write the profile along the last line."""
        made = self.state.profile
        if made is None:
            raise Stop("there is no profile to save: draw a line in step 5")
        if path.suffix in (".png", ".svg"):
            save_picture(plot_profile(made), path)
        else:
            write_series(made, path)

    def workflow(self, path: Path) -> None:
        """Write the workflow file, for ``ftrack run``."""
        text = write_workflow(self.state.workflow)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Stop(f"{path} cannot be written: {error.strerror}") from None

    def notebook(self, path: Path) -> None:
        """Write a notebook that repeats what was clicked."""
        state = self.state
        place = (float(state.series[0].lon), float(state.series[0].lat)) if state.series else None
        line: list[tuple[float, float]] = []
        if state.profile is not None:
            lon, lat = (state.profile[name].values for name in ("lon", "lat"))
            chosen = np.unique(np.linspace(0, lon.size - 1, min(lon.size, POINTS)).astype(int))
            line = list(zip(lon[chosen].tolist(), lat[chosen].tolist(), strict=True))
        write_notebook(state.workflow, path, pair=state.pair, place=place, line=line)
