"""What a terminal shows: tables of scenes, of a plan and of what was checked, and the progress of a run."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from ftrack.schema import STATUS_TEXT

if TYPE_CHECKING:
    from ftrack.doctor import Check
    from ftrack.jobs import Job
    from ftrack.jobstatus import JobStatus
    from ftrack.run import Event, Listener
    from ftrack.run import Report as RunReport
    from ftrack.stac import Scene
    from ftrack.verify import Report as CubeReport

ROWS = 40
"""Scenes that are listed unless all are asked for."""

FAILURES = 10
"""Blocks that fail of which each is told."""

DONE: Mapping[str, str] = {"match": "measured", "velocity": "turned into velocity"}
"""What has been done with the blocks of a phase that are written."""

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def show_error(text: str) -> None:
    """Print what went wrong, and nothing else."""
    err.print(f"[bold red]error:[/bold red] {escape(text)}")


def show_scenes(scenes: Sequence[Scene], *, every: bool = False) -> None:
    """Print scenes as a table, and below it what there is of each platform."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("time (UTC)", "platform", "orbit", "tile", "cloud %", "scene"):
        table.add_column(name, justify="right" if name == "cloud %" else "left", no_wrap=True)
    shown = scenes if every else scenes[:ROWS]
    for scene in shown:
        cloud = "" if scene.cloud_cover is None else f"{scene.cloud_cover:.0f}"
        table.add_row(f"{scene.time:%Y-%m-%d %H:%M}", scene.platform, scene.orbit, scene.tile, cloud, scene.id)
    _print_table(table)
    if len(shown) < len(scenes):
        out.print(f"... and {len(scenes) - len(shown)} more; --all lists them")
    platforms = Counter(scene.platform for scene in scenes)
    images = len({scene.image_id for scene in scenes})
    counts = ", ".join(f"{count} {name}" for name, count in sorted(platforms.items()))
    span = f"{scenes[0].time:%Y-%m-%d} to {scenes[-1].time:%Y-%m-%d}"
    out.print(f"\n{_several(len(scenes), 'scene')} ({counts}) of {_several(images, 'pass', 'passes')}, {span}")


def show_plan(plan: Mapping[str, Any], *, as_json: bool = False) -> None:
    """Print what ``ftrack.plan.describe`` says of a plan."""
    if as_json:
        out.print_json(json.dumps(plan))
        return
    # Imported here, Dask does not delay help and messages.
    from dask.utils import format_bytes

    grid, memory, workers = plan["grid"], plan["memory"], plan["workers"]
    shortest, longest = plan["days"]
    size = f"{grid['width']} x {grid['height']} pixels of {grid['resolution']:g} m, {grid['crs']}"
    rows, columns = grid["nodes"]
    cut = (
        _several(plan["tiles"], "tile"),
        _several(plan["batches"], "batch of pairs", "batches of pairs"),
        _several(plan["waves"], "wave"),
    )
    joined = f", {plan['joined']} x {plan['joined']} at most are measured as one" if plan["joined"] > 1 else ""
    tile = f"a tile is {plan['tile']} px{joined}"
    days = f"{shortest:.4g} days" if shortest == longest else f"{shortest:.4g} to {longest:.4g} days"
    lines = {
        "images": f"{plan['images']} ({_several(plan['scenes'], 'scene')}), {plan['first_date']} to {plan['last_date']}",
        "pairs": f"{plan['pairs']:,}, {days}",
        "area": size,
        "nodes": f"{columns:,} x {rows:,}, every {grid['node_spacing']:g} m ({grid['spacing']} px)",
        "vectors": f"{plan['vectors']:,}",
        "blocks": f"{plan['blocks']:,} ({', '.join(cut)}; {tile})",
        "workers": f"{workers['number']}, each with {_several(workers['threads'], 'thread')} and {format_bytes(workers['memory'])}",
        "memory": f"{format_bytes(memory['block'])} a block, {format_bytes(memory['worker'])} a worker",
        "to read": f"{format_bytes(plan['bytes_to_read'])} of pixels before compression",
        "to write": f"{format_bytes(plan['bytes_to_write'])} before compression",
        "output": plan["output"],
        "run id": plan["run_id"],
    }
    show_facts(lines)
    for warning in plan["warnings"]:
        err.print(f"[yellow]warning:[/yellow] {escape(warning)}")


def show_facts(*columns: Mapping[str, str], heads: Sequence[str] = ()) -> None:
    """Print names and one or several columns of values, which share their names."""
    table = Table(box=None, show_header=bool(heads), header_style="bold", pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    for head in heads or [""] * len(columns):
        table.add_column(escape(head), overflow="fold")
    for name in columns[0]:
        table.add_row(name, *(escape(column[name]) for column in columns))
    _print_table(table)


def _print_table(table: Table) -> None:
    """Print a table without cutting anything off; where no terminal limits the width, each row on one line."""
    needed = table.__rich_measure__(out, out.options.update(max_width=1000)).maximum
    width = out.width if out.is_terminal else max(out.width, needed)
    Console(file=out.file, highlight=False, width=width).print(table)


def _several(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


@contextmanager
def show_progress() -> Iterator[Listener]:
    """Show how a run goes: in a terminal a bar for each phase with rate and time left, else a line at every tenth.

    A run that is interrupted ends with what of it is there.
    """
    last: dict[str, Event] = {}
    try:
        with _shown() as show:

            def listen(event: Event) -> None:
                last[event.phase] = event
                show(event)

            yield listen
    except KeyboardInterrupt:
        if kept := [
            f"{last[phase].done} of {_several(last[phase].total, 'block')} {done}" for phase, done in DONE.items() if phase in last
        ]:
            err.print(f"{' and '.join(kept)} and written")
        raise


@contextmanager
def _shown() -> Iterator[Listener]:
    messages, tenths = _few_failures(), _each_tenth()
    if not err.is_terminal:

        def tell(event: Event) -> None:
            for line in filter(None, (messages(event), tenths(event))):
                err.print(escape(line))

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=err) as progress:
        tasks: dict[str, TaskID] = {}

        def listen(event: Event) -> None:
            message = messages(event)
            if event.kind == "phase":
                tasks[event.phase] = progress.add_task(message or event.phase, total=event.total, completed=event.done, pace="")
                return
            if message:
                progress.console.print(escape(message))
            if event.phase in tasks:
                progress.update(tasks[event.phase], completed=event.done, pace=_pace(event).removeprefix(", "))

        yield listen


def _few_failures() -> Callable[[Event], str]:
    """Return what finds the message of an event: of blocks that fail only the first few, since there may be thousands."""
    number = itertools.count(1)

    def message(event: Event) -> str:
        failed = next(number) if event.kind == "block" and event.message else 0
        if failed == FAILURES + 1:
            return "more blocks fail; they are counted at the end"
        return event.message if failed <= FAILURES else ""

    return message


def _each_tenth() -> Callable[[Event], str]:
    """Return what makes a line of an event when another tenth of its phase is done."""
    told: dict[str, int] = {}

    def line(event: Event) -> str:
        tenth = 10 * event.done // max(event.total, 1)
        more = event.kind == "block" and tenth > told.get(event.phase, 0)
        if more or event.kind == "phase":
            told[event.phase] = tenth
        return f"{event.phase}: {event.done} of {event.total}{_pace(event)}" if more else ""

    return line


def _pace(event: Event) -> str:
    if not event.rate:
        return ""
    rate = f", {event.rate:.1f} blocks/s" if event.rate >= 1 else f", {60 * event.rate:.1f} blocks/min"
    return rate if math.isnan(event.seconds_left) else f"{rate}, {timedelta(seconds=round(event.seconds_left))} left"


def show_run_report(report: RunReport) -> None:
    """Print how a run ended, and what to do about blocks that failed."""
    seconds = timedelta(seconds=round(report.seconds))
    done = report.blocks - len(report.failed)
    parts = [f"{done} of {_several(report.blocks, 'block')} in {seconds}", _several(report.measured, "vector")]
    parts += [f"{_several(report.resumed, 'block')} finished before"] if report.resumed else []
    parts += [f"{_several(report.empty, 'block')} with nothing to measure"] if report.empty else []
    out.print(", ".join(parts))
    for reason, count in Counter(record.reason for record in report.failed).most_common(5):
        err.print(f"[red]{_several(count, 'block')} failed:[/red] {escape(reason)}")
    if report.failed:
        err.print("The cube is not published yet. The same command takes up the blocks that failed.")
    elif report.published:
        out.print(f"cube: {report.output}")
    if report.unshifted:
        err.print(
            f"[yellow]warning:[/yellow] {_several(report.unshifted, 'pair')} had too little stable ground: misregistration stays in them "
            f"(stable_shift_flag 0)"
        )


def show_cube_report(report: CubeReport) -> None:
    """Print what was found out about a cube."""
    total = sum(report.counts.values())
    texts = {status.name.lower(): text for status, text in STATUS_TEXT.items()}
    if report.shape:
        pairs, rows, columns = report.shape
        out.print(f"{report.url}: {_several(pairs, 'pair')}, {columns} x {rows} nodes, {_several(report.chunks, 'chunk')}")
    for name, count in report.counts.items():
        out.print(f"  {100 * count / total:5.1f} %  {texts.get(name, name)}")
    for problem in report.problems:
        out.print(f"[red]problem:[/red] {escape(problem)}")
    out.print("[green]the cube is whole[/green]" if report.ok else f"[red]{_several(len(report.problems), 'problem')}[/red]")


STATE_COLOURS = {"ok": "green", "warning": "yellow", "done": "green", "failed": "red", "dead": "red", "cancelled": "yellow"}


def show_jobs(found: Iterable[tuple[Job, JobStatus]]) -> int:
    """Print jobs as a table and return how many there are."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("submitted (UTC)", "name", "state", "blocks", "cube"):
        table.add_column(name, justify="right" if name == "blocks" else "left", no_wrap=True)
    for job, status in found:
        colour = STATE_COLOURS.get(status.state, "default")
        blocks = f"{status.done} of {status.total}" if status.total else ""
        submitted = job.submission.submitted[:16].replace("T", " ")
        table.add_row(submitted, escape(job.submission.name), f"[{colour}]{status.state}[/{colour}]", blocks, escape(job.output))
    if table.rows:
        _print_table(table)
    return len(table.rows)


def show_status(job: Job, status: JobStatus) -> None:
    """Print how a job goes."""
    blocks = f"{status.done} of {status.total}" + (f", {status.failed} failed" if status.failed else "") if status.total else ""
    cluster = job.submission.cluster
    lines = {
        "job": job.submission.name,
        "state": status.state,
        "reason": status.reason,
        "phase": status.phase,
        "blocks": blocks,
        "left": "" if status.seconds_left is None or status.ended else f"{timedelta(seconds=round(status.seconds_left))} of this phase",
        "worked": f"{timedelta(seconds=round(status.seconds))}" if status.seconds else "",
        "vectors": f"{status.measured:,}" if status.measured else "",
        "cluster": " ".join(str(part) for part in (cluster.get("kind"), cluster.get("address"), job.submission.cluster_name) if part),
        "driver": status.host,
        "submitted": job.submission.submitted,
        "run id": job.submission.run_id,
        "output": job.output,
    }
    show_facts({name: text for name, text in lines.items() if text})


def watch_status(statuses: Iterable[JobStatus]) -> JobStatus:
    """Show how a job goes until it has ended: in a terminal as a bar, else line by line; return the last status."""
    last: JobStatus | None = None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        task = progress.add_task("", total=None, pace="")
        for status in statuses:
            left = "" if status.seconds_left is None else f"{timedelta(seconds=round(status.seconds_left))} left"
            progress.update(task, description=status.phase or status.state, total=status.total or None, completed=status.done, pace=left)
            for line in status.news(last) if not err.is_terminal else ():
                err.print(escape(line))
            last = status
    assert last is not None
    return last


def show_check(check: Check) -> str:
    """Print what was looked at before a run, and what to do if it is not as it should be; return how it is."""
    colour = STATE_COLOURS.get(check.state, "default")
    out.print(f"[{colour}]{check.state:8}[/{colour}] [bold]{escape(check.name)}[/bold]  {escape(check.found)}")
    if check.advice and check.state in ("warning", "failed"):
        out.print(f"         {escape(check.advice)}")
    return check.state
