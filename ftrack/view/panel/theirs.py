"""Step 6, ITS_LIVE: the public cubes and mosaics of the same area, beside ours."""

from __future__ import annotations

from typing import Any

import ipywidgets as w
import numpy as np
import xarray as xr

from ftrack.axes import warp_to
from ftrack.errors import Stop
from ftrack.grid import grid_of
from ftrack.itslive import CATALOG, find_itslive, open_itslive, open_mosaic
from ftrack.layers import box_of
from ftrack.means import velocity_of
from ftrack.view.panel.pieces import Message, button, heading, labelled, wide
from ftrack.view.panel.state import State

TITLE = "ITS_LIVE"


class Theirs(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Look for cubes, open one or a mosaic, and say how much it differs from ours."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.found_said, self.mosaic_said, self.said = Message(), Message(), Message()
        self.catalog = w.Text(value=CATALOG, continuous_update=False, layout=wide())
        self.cubes = w.Dropdown(options=[("", "")], layout=wide())
        self.vx, self.vy = (
            w.Text(placeholder=f"path or address of the {c}.tif", continuous_update=False, layout=wide()) for c in ("vx", "vy")
        )
        versions = [("as its name says", None), ("1: ground metres", 1), ("2: map metres", 2)]
        self.version = w.Dropdown(options=versions, index=0, layout=wide())
        own = state.limits.own_files
        mosaic = [
            heading("A mosaic"), labelled("vx", self.vx), labelled("vy", self.vy), labelled("version", self.version),
            w.HBox([button("Open the mosaic", self.open_mosaic)]), self.mosaic_said,
        ]  # fmt: skip
        super().__init__(
            [
                heading("Cubes of image pairs"), *([labelled("catalogue", self.catalog)] if own else []),
                w.HBox([button("Look for cubes of the area", self.find, primary=True)]), self.found_said, labelled("cube", self.cubes),
                w.HBox([button("Open the cube", self.open_cube)]), *(mosaic if own else []), heading("Beside ours"), self.said,
            ]
        )  # fmt: skip
        self.said.say("Nothing is open. What is opened here stands beside ours in step 5: in series, in profiles, and behind the slider.")

    def find(self) -> None:
        """Look for cubes of the area of the workflow, else of the cube that is shown."""
        area = self.state.value("scenes", "area")
        if area is None and self.state.cube is not None:
            area = tuple(box_of(grid_of(self.state.cube)))
        if area is None:
            return self.found_said.say("draw an area in step 1, or make a cube, so that it is known where to look", "error")
        catalog = self.catalog.value.strip() or CATALOG
        self.found_said.say("looking ...", "busy")

        def show(table: Any) -> None:
            names = [url.rstrip("/").split("/")[-1].removesuffix(".zarr").removeprefix("ITS_LIVE_vel_") for url in table["url"]]
            said = [f"{name}: {share:.0f} % of the area" for name, share in zip(names, table["share"], strict=True)]
            self.cubes.options = rows = list(zip(said, table["url"], strict=True))
            self.found_said.say(f"{len(rows)} cubes cover the area", "ok")

        return self.state.later(lambda: find_itslive(area, catalog), show, self.found_said)

    def open_cube(self) -> None:
        """Open the cube that was chosen."""
        url = self.cubes.value
        if not url:
            return self.found_said.say("look for cubes first, then choose one", "error")
        self.found_said.say("opening ...", "busy")
        return self.state.later(lambda: open_itslive(url), lambda cube: self._use(cube, self.found_said), self.found_said)

    def open_mosaic(self) -> None:
        """Open the mosaic that was named, where our cube lies."""
        vx, vy, version, cube = self.vx.value.strip(), self.vy.value.strip(), self.version.value, self.state.cube
        if not vx or not vy:
            return self.mosaic_said.say("name both components, two GeoTIFFs", "error")
        nodes = None if cube is None else grid_of(cube)
        self.mosaic_said.say("reading ...", "busy")
        return self.state.later(
            lambda: open_mosaic(vx, vy, nodes=nodes, version=version), lambda made: self._use(made, self.mosaic_said), self.mosaic_said
        )

    def _use(self, data: xr.Dataset, said: Message) -> None:
        self.state.other = data
        pairs = f"{data.sizes['mid_date']:,} pairs" if "mid_date" in data.dims else "one map"
        said.say(f"{data.attrs['title']} is open: {pairs}, ground metres per year", "ok")
        cube = self.state.cube
        if cube is None:
            return self.said.say("There is no cube of ours yet to compare it with.")
        if "mid_date" in data.dims:
            clicked = bool(self.state.series)
            return self.said.say("Step 5 shows both at your point." if clicked else "Click a point in step 5: its series shows both.", "ok")
        pair = self.state.pair
        return self.state.later(lambda: difference(cube, data, pair), lambda text: self.said.say(text, "ok"), self.said)


def difference(cube: xr.Dataset, other: xr.Dataset, pair: str) -> str:
    """Return in words how much our velocity differs from a map of others, along our axes.

    Raises
    ------
    Stop
        They have no node in common.
    """
    ours, theirs = velocity_of(cube, pair), warp_to(other, grid_of(cube))
    parts = []
    for name, towards in (("vx", "east"), ("vy", "north")):
        away = (ours[name] - theirs[name]).values
        known = away[np.isfinite(away)]
        if known.size == 0:
            raise Stop("ours and ITS_LIVE have no node with a vector in common")
        scatter = 1.4826 * float(np.median(np.abs(known - np.median(known))))
        parts.append(f"{np.median(known):+,.0f} m/yr to grid {towards} (scatter {scatter:,.0f})")
    return f"Ours ({ours.attrs['shown']}) minus ITS_LIVE, median of {known.size:,} nodes: {', '.join(parts)}."
