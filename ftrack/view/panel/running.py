"""Step 4, run: what it will take, where it is done, how it goes, and finding it again."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as w
import shapely
from filelock import FileLock

from ftrack.config import ClusterSettings, Workflow
from ftrack.errors import FtrackError, Stop
from ftrack.gateway import open_gateway
from ftrack.jobs import Job, list_jobs, open_job, submit
from ftrack.plan import Plan, describe, make_plan
from ftrack.progress import Sketch, plan_of, progress_of, sketch_of
from ftrack.trial import seconds_of
from ftrack.view.panel.atlas import view_of
from ftrack.view.panel.form import fields
from ftrack.view.panel.pieces import Message, button, heading, labelled
from ftrack.view.panel.state import PanelLimits, State
from ftrack.view.panel.tiles import CELLS, Seen, layers_of, top_of

TITLE = "Run"
EVERY = 1.0
"""Seconds between two looks at a run; more where looking takes long."""


class Running(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Estimate, start, watch, pause, cancel and find a run."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.estimate_said, self.where_said, self.said = Message(), Message(), Message()
        self.table = w.HTML()
        self.bar = w.IntProgress(layout=w.Layout(width="98%", display="none"))
        self.journal = w.HTML()
        self.known = w.Dropdown(options=[("", None)], layout=w.Layout(width="330px"))
        self.options: Any = None
        self.far = w.VBox()
        self.start_button = button("Start", self.start, primary=True)
        self.pause_button = button("Pause", self.pause, tip="stop; what is finished is kept, Resume goes on from it")
        self.resume_button = button("Resume", self.resume)
        self.cancel_button = button("Cancel", self.cancel, tip="stop, and be free to change settings; what is finished is kept")
        self.plan: Plan | None = None
        self._sketches: dict[tuple[int, int], Sketch] = {}
        self._shown = False
        self._stopping = ""  # what is said of the run once it has stopped because somebody asked for it
        self._watch: asyncio.Task[None] | None = None
        super().__init__(self._rows())
        state.observe(lambda _: self.estimate(), "step")
        state.observe(lambda _: self._place_gateway(), "values")
        self.known.observe(lambda change: self._open(change["new"]), "value")
        self._place_gateway()
        self._buttons()
        self.find(quiet=True)

    def _rows(self) -> list[w.Widget]:
        state = self.state
        output = fields(state, (), Workflow, ("output",)) if state.limits.own_files else [labelled("name of the run", self._name_box())]
        kinds = [("this computer, processes", "local"), ("this computer, one process", "threads")]
        more = [("a Dask Gateway", "gateway"), ("a Dask scheduler", "scheduler")] if state.limits.gateway else []
        self.kind = w.Dropdown(options=[*kinds, *more], value=state.value("cluster", "kind", default="local"))
        self.kind.observe(lambda change: state.put("cluster", "kind", value=change["new"]), "value")
        buttons = w.HBox([self.start_button, self.pause_button, self.resume_button, self.cancel_button, button("Log", self.show_log)])
        return [
            heading("What it will take"), self.estimate_said, self.table,
            heading("Where"), *output, labelled("worked on by", self.kind),
            *fields(state, ("cluster",), ClusterSettings, ("workers",)), self.far, self.where_said,
            heading("The run"), buttons, self.bar, self.said, self.journal,
            w.HBox([labelled("runs here", self.known), button("Look", self.find, tip="look for runs beside the output")]),
        ]  # fmt: skip

    def _name_box(self) -> w.Widget:
        """Return where a visitor names a run, which is all that they decide of where it goes."""
        box = w.Text(self.state.value("name", default="velocity"), continuous_update=False, layout=w.Layout(width="170px"))

        def name(change: Any) -> None:
            box.value = re.sub(r"[^A-Za-z0-9_-]+", "-", change["new"])[:60] or "velocity"
            self.state.put("name", value=box.value)
            self.state.put("output", value=f"{box.value}.zarr")

        box.observe(name, "value")
        return box

    def estimate(self) -> None:
        """Plan the run, and say what it will take."""
        state = self.state
        if state.step != TITLE or state.plan is not None or self._busy():
            return None
        try:
            workflow = state.workflow
        except Stop as error:
            return self.estimate_said.say(f"{error}\nGo back to steps 1 to 3.", "error")
        self.estimate_said.say("planning ...", "busy")
        scenes = state.scenes or None

        def work() -> tuple[Plan, float]:
            plan = make_plan(workflow, scenes)
            return plan, seconds_of(plan)

        return state.later(work, lambda found: self._estimated(*found), self.estimate_said)

    def _estimated(self, plan: Plan, seconds: float) -> None:
        self.state.plan = plan
        said = describe(plan)
        workers = said["workers"]["number"] * said["workers"]["threads"]
        if too_much := _beyond(plan, self.state.limits):
            return self.estimate_said.say(too_much, "error")
        lines = {
            "pairs": f"{said['pairs']:,} of {said['images']:,} images, {said['first_date']} to {said['last_date']}",
            "nodes": f"{said['grid']['nodes'][0]:,} × {said['grid']['nodes'][1]:,}, every {said['grid']['node_spacing']:g} m",
            "blocks": f"{said['blocks']:,} in {said['tiles']:,} tiles",
            "to read, to write": f"{said['bytes_to_read'] / 1e6:,.0f} MB, {said['bytes_to_write'] / 1e6:,.0f} MB before compression",
            "memory of a worker": f"{said['memory']['worker'] / 1e9:.1f} GB, of which there are {said['workers']['number']}",
            "time": f"about {_span(seconds / workers)} of matching on {workers} cores as fast as this one, and reading",
        }
        rows = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in lines.items())
        self.table.value = f'<table class="ftrack-facts">{rows}</table>'
        return self.estimate_said.say(f"It can start. Mind: {said['warnings'][0]}." if said["warnings"] else "It can start.", "ok")

    def _place_gateway(self) -> None:
        kind = self.state.value("cluster", "kind", default="local")
        self.kind.value = kind
        if kind in ("gateway", "scheduler") and not self.far.children:
            rows = fields(self.state, ("cluster",), ClusterSettings, ("address", "memory"))
            connect = button("Connect", self.connect, tip="ask the gateway what its clusters may be asked for")
            self.far.children = [*rows, w.HBox([connect])]
        elif kind not in ("gateway", "scheduler"):
            self.far.children = ()

    def connect(self) -> None:
        """Ask a gateway what its clusters may be asked for, and show that as it shows it itself."""
        address = self.state.value("cluster", "address", default="")
        self.where_said.say("asking ...", "busy")

        def ask() -> Any:
            with open_gateway(address) as gateway:
                return gateway.cluster_options()

        def show(options: Any) -> None:
            for name, value in self.state.value("cluster", "options", default={}).items():
                if name in options:
                    options[name] = value
            self.options = options
            self.far.children = [*self.far.children[:3], options._widget()]
            self.where_said.say("connected", "ok")

        self.state.later(ask, show, self.where_said)

    def _busy(self) -> bool:
        status = self.state.status
        return self.state.job is not None and (status is None or not status.ended)

    def start(self) -> None:
        """Submit the run; the page stays free."""
        state = self.state
        if self._busy():
            return self.said.say("a run is under way: wait for it, or cancel it", "error")
        if self.options is not None and state.value("cluster", "kind") == "gateway":
            state.put("cluster", "options", value=dict(self.options))
        try:
            workflow = state.workflow
        except Stop as error:
            return self.said.say(str(error), "error")
        self.start_button.disabled = True
        self.said.say("starting ...", "busy")
        self.journal.value = ""
        plan, scenes = state.plan, state.scenes or None
        return state.later(lambda: _submit(plan or make_plan(workflow, scenes), state.limits), self._take, self._not_started)

    def _not_started(self, error: FtrackError) -> None:
        self.start_button.disabled = False
        self.said.say(str(error), "error")

    def _take(self, job: Job) -> None:
        """Show a run from now on."""
        state = self.state
        if state.job is None or state.job.output != job.output:
            self._sketches, self.plan, self._shown = {}, None, False
        state.job, state.status, state.output, self._stopping = job, None, job.output, ""
        self.bar.layout.display = ""
        self._buttons()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return self.look()
        if self._watch is None or self._watch.done():
            self._watch = loop.create_task(self._follow())
        return None

    async def _follow(self) -> None:
        """Look at the run again and again until it has ended."""
        loop = asyncio.get_running_loop()
        while self.state.job is not None:
            begun, job = time.monotonic(), self.state.job
            try:
                seen = await loop.run_in_executor(None, self._look, job)
            except Exception as error:
                self.said.say(f"the run cannot be looked at just now: {error}", "error")
            else:
                if self.state.job is job:
                    self._show(seen)
                    if seen.status.ended:
                        return
            await asyncio.sleep(max(EVERY, 3 * (time.monotonic() - begun)))

    def look(self) -> None:
        """Look at the run once."""
        if self.state.job is not None:
            self._show(self._look(self.state.job))

    def _look(self, job: Job) -> Seen:
        status = job.status()
        if self.plan is None or self.plan.folder != job.folder:
            self.plan = plan_of(job.folder)
        if self.plan is None or status.state == "done" or self.plan.run_id != job.submission.run_id:
            return Seen(status, (), {})  # nothing to draw, or the run of another version of ftrack
        tiles = progress_of(self.plan)
        side = max(1, min(8, int((CELLS / len(tiles)) ** 0.5)))
        for tile in tiles:
            place = (tile.row, tile.column)
            if tile.done and place not in self._sketches and (sketch := sketch_of(self.plan, *place, side)):
                self._sketches[place] = sketch
        return Seen(status, tiles, dict(self._sketches))

    def _show(self, seen: Seen) -> None:
        status = seen.status
        self.state.status = status
        self.bar.max, self.bar.value = max(status.total, 1), status.done
        finished = sum(tile.whole for tile in seen.tiles)
        text = f"{finished} of {len(seen.tiles)} tiles are measured" if seen.tiles else ""
        if seen.sketches:
            text += f"; colours from dark to bright: 0 to {top_of(seen):,.0f} m/yr at first sight"
        kind = "ok" if status.state == "done" else "error" if status.state in ("failed", "dead") else "busy"
        said = str(status)
        if self._stopping:
            said = self._stopping if status.state == "cancelled" else said if status.ended else "stopping ..."
        self.said.say(f"{said}\n{text}".strip(), kind if status.state != "cancelled" else "info")
        if seen.tiles and not self._shown:
            self._shown = True
            if not self.state.found:
                bounds = shapely.union_all([tile.outline for tile in seen.tiles]).bounds
                self.state.view = view_of(self.state.projection, bounds)
        self.state.layer("run").layers = tuple(layers_of(seen)) if seen.tiles else ()
        self._buttons()
        if status.state == "done":
            self._opened()
        elif status.state in ("failed", "dead"):
            self.show_log()

    def _opened(self) -> None:
        job = self.state.job
        self.bar.value = self.bar.max

        def use(cube: Any) -> None:
            self.state.cube = cube
            self.said.say(f"{self.state.status}. Look at the map in step 5.", "ok")

        self.state.later(job.open, use, self.said)

    def _buttons(self) -> None:
        """Switch on what can be pressed now."""
        status, busy = self.state.status, self._busy()
        self.start_button.disabled = busy
        self.pause_button.disabled = self.cancel_button.disabled = not busy or bool(self._stopping)
        self.resume_button.disabled = status is None or status.state not in ("cancelled", "failed", "dead")

    def pause(self) -> None:
        """Stop the run; what is finished is kept."""
        self._stop("paused; Resume goes on from what is finished")

    def cancel(self) -> None:
        """Stop the run, and let go of it."""
        self._stop("cancelled; what is finished is kept beside the output")

    def _stop(self, text: str) -> None:
        job = self.state.job
        if job is None:
            return
        self._stopping = text
        self._buttons()
        self.said.say("stopping ...", "busy")

        def work() -> Seen:
            job.cancel()
            return self._look(job)

        self.state.later(work, self._show, self._not_stopped)

    def _not_stopped(self, error: FtrackError) -> None:
        self._stopping = ""
        self._buttons()
        self.said.say(str(error), "error")

    def resume(self) -> None:
        """Take the run up again."""
        job = self.state.job
        self.resume_button.disabled = True
        self.said.say("taking it up again ...", "busy")
        self.state.later(job.resume, self._take, self._not_stopped)

    def show_log(self) -> None:
        """Show the end of what the drivers of the run have said."""
        job = self.state.job
        if job is None:
            return self.said.say("there is no run yet; Start begins one", "error")

        def show(text: str) -> None:
            shown = Message()
            shown.say("\n".join(text.splitlines()[-15:]) or "the log is empty")
            self.journal.value = f'<div class="ftrack-log">{shown.value}</div>'

        return self.state.later(job.logs, show, self.said)

    def find(self, quiet: bool = False) -> None:
        """Find the runs beside the output, and show the one of this workflow if there is one."""
        try:
            output = self.state.workflow.output
        except Stop as error:
            return None if quiet else self.said.say(str(error), "error")
        folder = output.rstrip("/").rpartition("/")[0]

        def listed(jobs: Sequence[Job]) -> None:
            self.known.options = [(f"{len(jobs)} found" if jobs else "none found", None), *((j.output.split("/")[-1], j) for j in jobs)]
            same = [job for job in jobs if job.output == output]
            if same and self.state.job is None:
                self._take(same[0])

        return self.state.later(lambda: list_jobs(folder), listed, None if quiet else self.said)

    def _open(self, job: Job | None) -> None:
        if job is None:
            return None
        if self._busy():
            return self.said.say("a run is under way: pause or cancel it first", "error")
        return self.state.later(lambda: open_job(job.output), self._take, self.said)


def _beyond(plan: Plan, limits: PanelLimits) -> str:
    """Return what of a plan is more than is allowed, and what to do about it; empty if nothing is."""
    pairs, size = len(plan.pairs), plan.grid.height * plan.grid.width * plan.grid.resolution**2 / 1e6
    if pairs > limits.pairs:
        return f"{pairs:,} pairs, at most {limits.pairs:,} are allowed: prune them in step 2"
    if size > limits.area:
        return f"the run covers {size:,.0f} km², at most {limits.area:,.0f} km² are allowed: draw a smaller area in step 1"
    return ""


def _submit(plan: Plan, limits: PanelLimits) -> Job:
    """Start a run, unless it is more than is allowed, or has to be the only one beside its output and another is under way."""
    if too_much := _beyond(plan, limits):
        raise Stop(too_much)
    if not limits.one_run:
        return submit(plan.workflow)
    folder = plan.workflow.output.rpartition("/")[0]
    Path(folder).mkdir(parents=True, exist_ok=True)
    with FileLock(Path(folder) / ".starting"):  # one visitor may have the page open twice
        busy = [job.submission.name for job in list_jobs(folder) if not job.status().ended]
        if busy:
            raise Stop(f"the run {busy[0]!r} is under way: wait for it, or cancel it (choose it under 'runs here')")
        return submit(plan.workflow)


def _span(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if not hours else f"{hours} h {minutes} min"
