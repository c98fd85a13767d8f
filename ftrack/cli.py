"""The command line: init, search, plan, run, show, export, verify, demo, and the commands for jobs."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.logging import RichHandler

import ftrack
from ftrack import cli_jobs, cli_serve, console
from ftrack.command import FAILED, INTERRUPTED, OK, Changes, ClusterChoice, CubePlace, WorkflowFile, changes_of, log, told
from ftrack.errors import Stop

if TYPE_CHECKING:
    import xarray as xr

    import ftrack.config
    import ftrack.demo
    import ftrack.extent
    import ftrack.grid
    import ftrack.season
    import ftrack.series
    import ftrack.warmup

# Whatever else a command needs is imported when it is first used, as ``ftrack.name``: help and mistakes are answered at once.

EVERY = "a series of equal intervals, inverted from all pairs: a number of days, month, or year"
SOUGHT, SHOWN = "What is looked for", "What is shown"

app = typer.Typer(
    name="ftrack",
    help="From a STAC search to a Zarr cube of ice velocity. Begin with: ftrack demo, or ftrack init",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; ``--debug`` and ``--verbose`` may stand anywhere."""
    for flag in ("--verbose", "--debug"):
        if flag in sys.argv[1:]:
            sys.argv.remove(flag)
            sys.argv.insert(1, flag)
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # Threads that wait for a store that is gone would hold the process for minutes.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        raise


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="show where in the program an error arose")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="say more about what is done")] = False,
) -> None:
    """Set up what every command shares."""
    log.setLevel(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)
    log.handlers[:] = [RichHandler(console=console.err, show_time=False, show_path=debug, markup=False)]
    log.propagate = False


@app.command(epilog="Example: ftrack init jakobshavn.yaml")
@told
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the file to write")] = Path("workflow.yaml"),
    force: Annotated[bool, typer.Option("--force", help="replace a file that is already there")] = False,
) -> None:
    """Write a workflow file to start from, with every setting explained."""
    if file.exists() and not force:
        raise Stop(f"{file} is already there; choose another name, or replace it with --force")
    try:
        file.write_text(ftrack.config.init_workflow(), encoding="utf-8")
    except OSError as error:
        raise Stop(f"{file} cannot be written: {error}") from None
    console.out.print(f"{file} is written. Put in your area, dates and output, then: ftrack search {file}")


@app.command(
    epilog="Example: ftrack search --catalog https://earth-search.aws.element84.com/v1 --collections sentinel-2-c1-l2a "
    "--area -50.2,68.9,-48.8,69.4 --dates 2024-07-01/2024-07-31 --map scenes.png"
)
@told
def search(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="a workflow file, or what --catalog takes")] = None,
    catalog: Annotated[str | None, typer.Option(help="a STAC API, a catalogue or a file of items", rich_help_panel=SOUGHT)] = None,
    collections: Annotated[list[str] | None, typer.Option(help="a collection of it; may be repeated", rich_help_panel=SOUGHT)] = None,
    area: Annotated[str | None, typer.Option(help="west,south,east,north in degrees, or a vector file", rich_help_panel=SOUGHT)] = None,
    dates: Annotated[str | None, typer.Option(help="first and last day, such as 2024-07-01/2024-07-31", rich_help_panel=SOUGHT)] = None,
    max_cloud: Annotated[float | None, typer.Option(help="most cloud in a scene, percent", rich_help_panel=SOUGHT)] = None,
    changes: Changes = None,
    picture: Annotated[Path | None, typer.Option("--map", help="draw footprints and cloud into this PNG", rich_help_panel=SHOWN)] = None,
    every: Annotated[bool, typer.Option("--all", help="list every scene, however many there are", rich_help_panel=SHOWN)] = False,
) -> None:
    """List the scenes that a workflow, or a catalogue, has to offer."""
    if file is not None and ("://" in file or file.endswith((".json", ".geojson"))):
        file, catalog = None, catalog or file
    if file is None and catalog is None:
        raise Stop("where to search? Give a workflow file, or --catalog with the address of a STAC API or a collection file")
    given = {"catalog": catalog, "area": area, "dates": dates, "collections": tuple(collections or ()), "max_cloud": max_cloud}
    wanted: dict[str, Any] = {}
    if file is not None:
        settings = ftrack.read_workflow(file, changes or ()).scenes
        wanted = {**settings.model_dump(include=set(given)), "query": settings.query}
    wanted |= {name: value for name, value in given.items() if value not in (None, ())}
    scenes = ftrack.find_scenes(wanted.pop("catalog"), **wanted)
    console.show_scenes(scenes, every=every)
    if picture is not None:
        place = None if wanted.get("area") is None else ftrack.extent.read_area(wanted["area"])
        console.out.print(f"map: {ftrack.view.save_picture(ftrack.plot_scenes(scenes, area=place), picture)}")


@app.command(epilog="Example: ftrack plan jakobshavn.yaml --set pairs.max_days=20")
@told
def plan(
    file: WorkflowFile,
    changes: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the plan as JSON")] = False,
    network: Annotated[Path | None, typer.Option(help="draw which images are paired into this PNG")] = None,
) -> None:
    """Say what a run will do: pairs, blocks, memory and bytes. Nothing is read but metadata, and nothing is written."""
    made = ftrack.make_plan(ftrack.read_workflow(file, changes or ()))
    console.show_plan(ftrack.describe(made), as_json=as_json)
    if network is not None:
        ftrack.view.save_picture(ftrack.plot_network(made.pairs), network)


@app.command(epilog="Example: ftrack run jakobshavn.yaml --cluster threads --set output=s3://bucket/jakobshavn.zarr")
@told
def run(
    file: WorkflowFile,
    changes: Changes = None,
    cluster: ClusterChoice = None,
) -> None:
    """Make the cube. Run it again to take up what is missing. Leaves with code 1 if blocks failed."""
    _run(ftrack.read_workflow(file, [*(changes or ()), *changes_of(cluster)]))


def _run(workflow: ftrack.Workflow) -> ftrack.Report:
    """Plan and run a workflow, show how it goes, and leave with code 1 if blocks failed."""
    made = ftrack.make_plan(workflow)
    console.show_plan(ftrack.describe(made))
    with ftrack.open_client(workflow.cluster) as client, console.show_progress() as listener:
        report = ftrack.run_plan(made, client, listener)
    console.show_run_report(report)
    if report.failed:
        raise typer.Exit(FAILED)
    return report


@app.command(epilog="Example: ftrack show jakobshavn.zarr --pair 2024-07-12 --point -49.5,69.15")
@told
def show(
    cube: CubePlace,
    pair: Annotated[str | None, typer.Option(help="number of a pair, a date, or median over all; median if not given")] = None,
    point: Annotated[str | None, typer.Option(metavar="X,Y", help="also draw the series here: x,y of the cube's CRS, or lon,lat")] = None,
    out: Annotated[Path | None, typer.Option(help="the PNG to write; the series goes beside it")] = None,
    logarithmic: Annotated[bool, typer.Option("--log", help="logarithmic colours")] = False,
    quality: Annotated[bool, typer.Option("--quality", help="also draw error, correlation and status")] = False,
    line: Annotated[Path | None, typer.Option(help="also draw the profile along the line in this vector file")] = None,
    every: Annotated[str | None, typer.Option(metavar="STEP", help=EVERY)] = None,
) -> None:
    """Draw the velocity of a cube as a map, as a series at a point, and as a profile along a line."""
    opened, save = ftrack.open_cube(cube), ftrack.view.save_picture
    path = out or Path(f"{Path(cube.rstrip('/')).stem}.png")
    _check_step(every, point)
    place = None if point is None else _place(opened, point)
    ax = ftrack.plot_velocity(opened, pair or "median", log=logarithmic)
    if place is not None:
        ax.plot([place[0] / 1000], [place[1] / 1000], "P", ms=10, mfc="#c8322b", mec="white")
        series = ftrack.plot_series(opened, x=place[0], y=place[1])
        if every is not None:
            regular = ftrack.regular_series(ftrack.point_series(opened, x=place[0], y=place[1]), every=every)
            ftrack.plot_series(regular.assign_attrs(title=f"every {_step(every)}"), ax=series)
        console.out.print(f"series: {save(series, path.with_stem(f'{path.stem}-series'))}")
    if quality:
        console.out.print(f"quality: {save(ftrack.plot_quality(opened, pair or 'median'), path.with_stem(f'{path.stem}-quality'))}")
    if line is not None:
        along = ftrack.plot_profile(ftrack.profile(opened, line, pair=pair))
        console.out.print(f"profile: {save(along, path.with_stem(f'{path.stem}-profile'))}")
    console.out.print(f"map: {save(ax, path)}")


@app.command(epilog="Example: ftrack export jakobshavn.zarr velocity.tif series.csv --point -49.5,69.15")
@told
def export(
    cube: CubePlace,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="a .tif: the map; .csv, .nc, .parquet: a series or a profile")],
    pair: Annotated[str | None, typer.Option(help="number of a pair, a date, or median over all; median if not given")] = None,
    point: Annotated[str | None, typer.Option(metavar="X,Y", help="the place of the series: x,y of the cube's CRS, or lon,lat")] = None,
    radius: Annotated[float, typer.Option(help="ground metres around it that are averaged")] = 0.0,
    line: Annotated[Path | None, typer.Option(help="a vector file with a line: its profile is written, not a series")] = None,
    every: Annotated[str | None, typer.Option(metavar="STEP", help=EVERY)] = None,
) -> None:
    """Write a cube as files that others read: a GeoTIFF of its velocity, the series of a place, the profile along a line."""
    opened = ftrack.open_cube(cube)
    _check_step(every, point)
    for file in files:
        if file.suffix.lower() in (".tif", ".tiff"):
            ftrack.write_map(opened, file, pair)
        elif line is not None:
            ftrack.write_series(ftrack.profile(opened, line, pair=pair), file)
        elif point is not None:
            x, y = _place(opened, point)
            if every is None:
                series = ftrack.point_series(opened, x=x, y=y, radius=radius, filled=True)
            else:
                series = ftrack.regular_series(ftrack.point_series(opened, x=x, y=y, radius=radius), every=every)
            ftrack.write_series(series, file)
        else:
            raise Stop(f"{file}: say of which place with --point, or along which line with --line")
        console.out.print(f"{file} is written")


@app.command(epilog="Example: ftrack season jakobshavn.zarr season.png season.tif")
@told
def season(
    cube: CubePlace,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="a .tif: maps with their errors; .png, .pdf or .svg: a picture")],
) -> None:
    """Fit mean velocity, trend, seasonal amplitude and day of the maximum to all pairs of every node, and write or draw the maps."""
    for file in files:
        if file.suffix.lower() not in (".tif", ".tiff", ".png", ".pdf", ".svg"):
            raise Stop(f"{file}: the season is written as .tif, or drawn as .png, .pdf or .svg")
    fit = ftrack.seasonal_fit(ftrack.open_cube(cube, in_order=False)).compute()
    for lack, share in ftrack.season.lacking(fit).items():
        console.out.print(f"{100 * share:.0f} % of nodes: {lack}")
    for file in files:
        if file.suffix.lower() in (".tif", ".tiff"):
            ftrack.write_map(fit, file)
        else:
            ftrack.view.save_picture(ftrack.plot_season(fit), file)
        console.out.print(f"{file} is written")


def _check_step(every: str | None, point: str | None) -> None:
    if every is not None and point is None:
        raise Stop(f"--every {every}: say of which place with --point")


def _step(every: str) -> str:
    return every if every in ("month", "year") else f"{every} days"


def _place(cube: xr.Dataset, text: str) -> tuple[float, float]:
    """Return the map coordinates of a point that is given as x,y or as lon,lat."""
    try:
        first, second = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise Stop(f"--point {text}: write it as x,y in metres of the cube's CRS, or as lon,lat in degrees") from None
    bounds = ftrack.grid.grid_of(cube).bounds
    on_map = bounds.left <= first <= bounds.right and bounds.bottom <= second <= bounds.top
    if not on_map and abs(first) <= 180 and abs(second) <= 90:
        return ftrack.series.place_of(cube, lon=first, lat=second)
    return ftrack.series.place_of(cube, x=first, y=second)


@app.command(epilog="Example: ftrack verify jakobshavn.zarr")
@told
def verify(cube: CubePlace) -> None:
    """Read a cube as a whole: checksums, completeness, schema. Leaves with code 1 if something is wrong."""
    report = ftrack.verify_cube(cube)
    console.show_cube_report(report)
    raise typer.Exit(OK if report.ok else FAILED)


@app.command(epilog="Example: ftrack compare chips32.zarr chips64.zarr")
@told
def compare(
    cubes: Annotated[
        list[str], typer.Argument(metavar="CUBE...", help="one cube, or several of the same ice; the first is what others differ from")
    ],
    dates: Annotated[str | None, typer.Option(help="only pairs whose middle lies between, such as 2024-07-01/2024-07-31")] = None,
) -> None:
    """Say in numbers how good cubes are, without a truth, and how far they differ: other settings, another matcher, other images."""
    opened = [ftrack.open_cube(cube) for cube in cubes]
    console.show_facts(*(ftrack.judge_cube(cube, dates=dates).lines for cube in opened), heads=cubes)
    if len(opened) > 1:
        console.out.print(f"\n[bold]Less {cubes[0]}[/bold]")
        console.show_facts(*(ftrack.compare_cubes(opened[0], cube, dates=dates).lines for cube in opened[1:]), heads=cubes[1:])
    console.out.print("\nx, y; m = ground metres of displacement within a pair; scatter is robust")


@app.command(name="compile", epilog="Example: ftrack compile")
@told
def compile_() -> None:
    """Compile the numerics for this machine once, so that the first run does not have to."""
    console.out.print("compiling; this takes about a minute the first time")
    begun = time.perf_counter()
    ftrack.warmup.compile_numerics()
    console.out.print(f"ready after {time.perf_counter() - begun:.0f} s")


@app.command(epilog="Example: ftrack demo --folder demo")
@told
def demo(
    folder: Annotated[Path, typer.Option(help="where archive, cube and pictures go")] = Path("demo"),
    size: Annotated[int, typer.Option(help="rows and columns of a scene, px", min=256, max=8192)] = 1024,
    scenes: Annotated[int, typer.Option(help="number of scenes, five days apart", min=2, max=100)] = 8,
    cluster: ClusterChoice = None,
) -> None:
    """Try everything once: simulate scenes of a glacier whose motion is known, make its cube, compare it with the truth."""
    console.out.print(f"[bold]1 simulate[/bold]  {scenes} scenes of a fast outlet glacier")
    archive = ftrack.simulate_archive(folder / "archive", ftrack.demo.demo_archive(size, scenes))
    file = ftrack.demo.demo_workflow(archive, folder)
    console.out.print(f"\n[bold]2 search[/bold]  ftrack search {file}")
    workflow = ftrack.read_workflow(file, changes_of(cluster))
    found = ftrack.find_scenes(workflow.scenes.catalog)
    console.show_scenes(found)
    console.out.print(f"\n[bold]3 plan and run[/bold]  ftrack run {file}")
    _run(workflow)
    console.out.print("\n[bold]4 compare with the truth[/bold]")
    cube = ftrack.open_cube(workflow.output)
    console.show_facts(ftrack.demo.score_cube(cube, archive).lines)
    console.out.print(f"\n[bold]5 draw[/bold]  ftrack show {workflow.output}")
    for picture in ftrack.demo.draw_demo(cube, archive, found, folder):
        console.out.print(str(picture))


app.registered_commands += [*cli_jobs.app.registered_commands, *cli_serve.app.registered_commands]
