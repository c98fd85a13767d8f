"""What the steps of the panel share: settings, scenes, pairs, plan, job, cube and map."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import ipyleaflet
import ipywidgets
from traitlets import Any as AnyTrait
from traitlets import Dict, HasTraits, Tuple, Unicode, observe

from ftrack.config import Workflow, parse_workflow, read_workflow, write_workflow
from ftrack.errors import FtrackError
from ftrack.pairs import Pair, PairSettings, choose_pairs
from ftrack.settings import Settings, option
from ftrack.stac import Scene


class PanelLimits(Settings):
    """What may be asked of the panel."""

    area: float = option(200_000.0, "largest area", unit="km²", gt=0)
    pairs: int = option(5_000, "most pairs of a run", ge=1)
    catalogues: tuple[str, ...] = option((), "the only catalogues that may be searched; empty = any")
    own_files: bool = option(True, "files of this machine may be named")
    one_run: bool = option(False, "one run at a time")
    gateway: bool = option(True, "runs may go to a Dask Gateway")


class Told(Protocol):
    """Where something is said: beside what was typed."""

    def say(self, text: str, kind: str = "info") -> None: ...


Place = Told | Callable[[FtrackError], None] | None
"""Where, or how, it is told that something failed; None lets it rise."""


class Same(AnyTrait):
    """Anything; it has changed if it is another object. Datasets, compared value by value, would pass for None."""

    def set(self, obj: Any, value: Any) -> None:
        """Take over a value, and tell those who watch."""
        assert self.name is not None
        before = obj._trait_values.get(self.name)
        obj._trait_values[self.name] = value
        if before is not value:
            obj._notify_trait(self.name, before, value)


class State(HasTraits):
    """What the steps share.

    Attributes
    ----------
    file : Path
        The workflow file that remembers the settings; written whenever they are complete.
    values : dict
        Settings as they stand in a workflow file, nested; complete or not. Change them with ``put``.
    found : tuple of Scene
        What the last search found; ``scenes`` are those of them that are switched on.
    pairs, fault : tuple of Pair, str
        Pairs of ``scenes`` as the settings allow them; empty if there are none, and ``fault`` says why.
    plan : Plan or None
        What a run would do, unless settings have changed since it was made.
    job, status : Job, JobStatus or None
        The run that is shown, and how it went when it was last looked at.
    output, cube : str, Dataset or None
        Where the cube that is shown lies, and the cube, opened.
    pair : str
        Which pair of the cube is shown: its number, or ``median``.
    series, profile : tuple of Dataset, Dataset or None
        What was read at the last point and along the last line; ours comes first.
    other : Dataset or None
        Velocity of others (ITS_LIVE) in ground metres, to be shown beside ours.
    place : (float, float)
        Longitude and latitude of the last click on the map; empty before.
    step : str
        Title of the step that is shown.
    projection : str
        How the map is drawn, one of ``atlas.PROJECTIONS``.
    aside : ipywidgets.VBox
        The place below the map, empty when a step is opened, for what is best seen together with it.
    view : atlas.View
        What the map was asked to show last; setting it moves the map there.
    map : ipyleaflet.Map
        The map that is shown now.
    limits : PanelLimits
        What may be asked for.
    """

    values = Dict()
    found: Any = Tuple()
    pairs: Any = Tuple()
    fault = Unicode("")
    plan = AnyTrait(None, allow_none=True)
    job = AnyTrait(None, allow_none=True)
    status = AnyTrait(None, allow_none=True)
    output = Unicode("")
    cube = Same(None, allow_none=True)
    pair = Unicode("median")
    series: Any = Same(())
    profile = Same(None, allow_none=True)
    other = Same(None, allow_none=True)
    place: Any = Tuple()
    step = Unicode("")
    projection = Unicode("mercator")
    view = AnyTrait(None, allow_none=True)
    map = AnyTrait(None, allow_none=True)

    def __init__(self, file: Path, limits: PanelLimits | None = None) -> None:
        super().__init__()
        self.file, self.limits = file, limits or PanelLimits()
        self._threads = ThreadPoolExecutor(4, "ftrack-panel")
        self._tasks: set[asyncio.Future[Any]] = set()
        self._paired = ""
        self.aside = ipywidgets.VBox()
        self.layers: dict[str, ipyleaflet.LayerGroup] = {}
        if file.is_file():
            self.values = read_workflow(file).model_dump(mode="json", exclude_unset=True)

    @property
    def workflow(self) -> Workflow:
        """The settings.

        Raises
        ------
        Stop
            Something is missing or out of bounds.
        """
        return parse_workflow(json.dumps(self.values), "", self.file.absolute().parent)

    @observe("values")
    def _forget_plan(self, _: Any) -> None:
        self.plan = None

    @observe("found", "values")
    def _pair_up(self, _: Any) -> None:
        """Choose pairs anew where scenes, or what pairs have to be, have changed."""
        scenes, area = self.scenes, self.value("scenes", "area")
        decisive = repr([[scene.id for scene in scenes], area, self.value("pairs")])
        if decisive == self._paired:
            return
        self._paired = decisive
        settings = dict(self.value("pairs", default={}))

        def fail(error: FtrackError) -> None:
            self.fault, self.pairs = str(error) if self.found else "", ()

        def keep(pairs: tuple[Pair, ...]) -> None:
            if decisive == self._paired:
                self.fault, self.pairs = "", pairs

        self.later(lambda: choose_pairs(scenes, PairSettings.read(settings), area=area), keep, fail)

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """The scenes that are switched on."""
        off = set(self.value("scenes", "leave_out", default=()))
        return tuple(scene for scene in self.found if scene.id not in off)

    def short(self, place: str) -> str:
        """Return a path relative to the workflow file, which is how it is read, if it lies below the file's folder."""
        folder = self.file.absolute().parent
        return str(Path(place).relative_to(folder)) if place.startswith(f"{folder}/") else place

    def value(self, *path: str, default: Any = None) -> Any:
        """Return a setting, such as ``value("scenes", "area")``, or what stands for it where it is not set."""
        inside: Any = self.values
        for name in path:
            if not isinstance(inside, Mapping) or name not in inside:
                return default
            inside = inside[name]
        return inside

    def put(self, *path: str, value: Any) -> None:
        """Set a setting; None takes it away. The workflow file follows if the settings are complete."""
        values = deepcopy(self.values)
        inside = values
        for name in path[:-1]:
            inside = inside.setdefault(name, {})
        inside.pop(path[-1], None)
        if value is not None:
            inside[path[-1]] = value
        self.values = values
        self.save()

    def save(self) -> bool:
        """Write the workflow file and return True, unless the settings are not complete yet."""
        try:
            text = write_workflow(self.workflow)
        except FtrackError:
            return False
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text, encoding="utf-8")
        return True

    def layer(self, name: str) -> ipyleaflet.LayerGroup:
        """Return a group of layers of the map; it is made when it is first asked for."""
        if name not in self.layers:
            self.layers[name] = ipyleaflet.LayerGroup(name=name)
            if self.map is not None:
                self.map.add(self.layers[name])
        return self.layers[name]

    def later(self, work: Callable[[], Any], then: Callable[[Any], None], place: Place = None) -> None:
        """Do slow work in a thread and hand its result over where widgets may be changed; tell at ``place`` why it failed."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            try:
                found = work()
            except FtrackError as error:
                tell(place, error)
            else:
                then(found)
            return
        task = loop.create_task(self._in_thread(work, then, place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def teller(self, place: Told) -> Callable[[str], None]:
        """Return what tells at a place how far slow work is; it may be called in the thread that does the work."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return lambda text: place.say(text, "busy")

        def say(text: str) -> None:
            loop.call_soon_threadsafe(place.say, text, "busy")

        return say

    async def _in_thread(self, work: Callable[[], Any], then: Callable[[Any], None], place: Place) -> None:
        try:
            then(await asyncio.get_running_loop().run_in_executor(self._threads, work))
        except FtrackError as error:
            tell(place, error)
        except Exception as error:
            tell(place, FtrackError(f"{type(error).__name__}: {error}"))


def tell(place: Place, error: FtrackError) -> None:
    """Say what went wrong where it was caused; without such a place it is raised."""
    if place is None:
        raise error
    if callable(place):
        place(error)
    else:
        place.say(str(error), "error")
