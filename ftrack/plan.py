"""From a workflow to a frozen list of blocks: what will be read, measured and written, before anything starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property
from importlib.metadata import version
from typing import Any

from ftrack.append import Part, new_pairs, published_plan, read_published, why_not
from ftrack.batches import IMAGES, group_pairs, images_in, limits, order_pairs
from ftrack.cleaning import clean_halo
from ftrack.config import Workflow
from ftrack.cutting import Grouping, Needs, choose_cut
from ftrack.errors import Stop
from ftrack.forecast import Forecast, forecast, worker_memory
from ftrack.grid import Grid, node_grid, nodes_on
from ftrack.lattice import choose_grid, scene_bytes
from ftrack.match import found_by, halo_with, margin_of
from ftrack.pairs import Pair, choose_pairs
from ftrack.passes import group_images
from ftrack.prior import largest_speed, read_prior
from ftrack.refuse import refuse_full_disk, refuse_large_chips, refuse_other_output, refuse_oversize
from ftrack.scenes import find_scenes
from ftrack.schema import ALGORITHM_VERSION, DAYS_PER_YEAR
from ftrack.stable import stable_nodes
from ftrack.stac import Scene, asset_of, read_scene
from ftrack.stack import lean_scene
from ftrack.tiling import Block, Tiling, Wave, batch_pairs, blocks_of, snap_to_nodes, wave_window, waves_of
from ftrack.workers import size_workers

FORMAT = 1
PACKAGES = ("ftrack", "dask", "distributed", "numba", "numpy", "rasterio", "scipy", "stackstac", "xarray", "zarr")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a run does, decided beforehand.

    Attributes
    ----------
    workflow : Workflow
        The settings.
    scenes : tuple of Scene
        The scenes of all images that take part in a pair, sorted by time and id.
    pairs : tuple of Pair
        In the order of the cube.
    grid : Grid
        Pixels of the area; its edges lie on the lattice of nodes.
    fastest : float
        Largest component of the expected velocity, m/yr.
    wave_side : int
        Largest number of tiles along the side of a wave.
    joined : int
        Largest number of tiles along the side of what one task measures.
    images : int
        Most images that are in memory together.
    bytes_to_read : int
        Bytes of source pixels, halos included, before compression.
    versions : mapping
        Versions of the packages that made the plan.
    earlier : tuple of Part
        Runs that have published the first pairs; the run appends the others.
    """

    workflow: Workflow
    scenes: tuple[Scene, ...]
    pairs: tuple[Pair, ...]
    grid: Grid
    fastest: float = 0.0
    wave_side: int = 1
    joined: int = 1
    images: int = IMAGES
    bytes_to_read: int = 0
    versions: Mapping[str, str] = field(default_factory=dict, compare=False)
    earlier: tuple[Part, ...] = ()

    @cached_property
    def run_id(self) -> str:
        """Digest of all that decides the numbers: settings, scenes, pairs, grid and algorithm."""
        decisive = {
            "algorithm": ALGORITHM_VERSION,
            "workflow": self.workflow.pair_digest,
            "scenes": [scene.id for scene in self.scenes],
            "pairs": [pair.id for pair in self.pairs],
            "grid": asdict(self.grid),
            **({"earlier": self.earlier} if self.earlier else {}),
        }
        return hashlib.sha256(_canonical(decisive)).hexdigest()[:32]

    @property
    def nodes(self) -> Grid:
        """The grid whose pixel centres are the nodes."""
        return node_grid(self.grid, nodes_on(self.grid, self.tiling.spacing))

    @property
    def tiling(self) -> Tiling:
        """How nodes and pairs are cut into blocks."""
        s = self.workflow.matcher.spacing
        rows, columns, tile = self.grid.height // s, self.grid.width // s, self.workflow.run.tile // s
        return Tiling(s, rows, columns, tile, len(self.pairs), self.parts, self.joined)

    @property
    def parts(self) -> tuple[int, ...]:
        """Numbers of pairs that earlier runs have published."""
        return tuple(part.pairs for part in self.earlier)

    @cached_property
    def reach(self) -> int:
        """Pixels that the matcher and the prefilter need around a node."""
        days = max((pair.temporal_baseline for pair in self.pairs), default=0.0)
        largest = self.fastest / DAYS_PER_YEAR * days / self.grid.resolution
        return halo_with(self.workflow.matcher, largest) + self.workflow.prefilter.halo

    @property
    def margin(self) -> int:
        """Nodes that outlier detection and filling need around a tile."""
        return clean_halo(self.workflow.outliers, self.workflow.fill)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block of what is not published, batch by batch."""
        return blocks_of(self.tiling)

    @property
    def waves(self) -> tuple[Wave, ...]:
        """Blocks that are read together."""
        return waves_of(self.tiling, self.wave_side)

    @property
    def folder(self) -> str:
        """Where the run keeps its records, beside the cube."""
        return f"{self.workflow.output.rstrip('/')}.run"

    @property
    def provenance(self) -> dict[str, Any]:
        """What the cube says of where it comes from."""
        return {
            "title": self.workflow.name,
            "run_id": self.run_id,
            "workflow": self.workflow.model_dump_json(exclude={"output", "cluster"}),
            "versions": json.dumps(self.versions, sort_keys=True),
            "misregistration": "taken off where stable_shift_flag is not 0" if self.workflow.stable.known else "not known, not taken off",
        }

    @property
    def warnings(self) -> tuple[str, ...]:
        """What should be known before the run begins."""
        if self.workflow.stable.known:
            return ()
        days = min(pair.temporal_baseline for pair in self.pairs)
        speed = 0.1 * self.grid.resolution * DAYS_PER_YEAR / days
        return (
            f"no stable ground is given: misregistration, often some tenths of a pixel, stays in every velocity (0.1 px is {speed:.3g} "
            f"m/yr in {days:.3g} days), and errors leave it out; give stable.area or stable.reference",
        )

    def pairs_of(self, batch: int) -> tuple[Pair, ...]:
        """Return the pairs of a batch."""
        return self.pairs[batch_pairs(self.tiling, batch)]

    def groups_of(self, batch: int) -> tuple[tuple[Pair, ...], ...]:
        """Return the pairs of a batch in groups whose images are in memory together."""
        pairs = self.pairs_of(batch)
        return tuple(tuple(pairs[number] for number in group) for group in group_pairs(pairs, self.images))

    def scenes_in(self, pairs: Sequence[Pair]) -> tuple[Scene, ...]:
        """Return the scenes of the images of some pairs."""
        return _scenes_in(self.scenes, pairs)

    @cached_property
    def forecast(self) -> Forecast:
        """What the run will need."""
        return forecast(self.tiling, _grouped(self).images, self.wave_side, self.needs[:2], self.needs.found)

    @property
    def needs(self) -> Needs:
        """What is needed around a node."""
        return Needs(self.reach, self.margin, found_by(self.workflow.matcher))


def make_plan(workflow: Workflow, scenes: Iterable[Scene] | None = None) -> Plan:
    """Decide what a run does; nothing is read but metadata, and nothing is written.

    Parameters
    ----------
    workflow : Workflow
        The settings.
    scenes : iterable of Scene, optional
        Take these instead of searching the catalogue.

    Raises
    ------
    Stop
        There are no scenes or no pairs, the asset or its CRS is missing, the area is off the scenes, chips are larger than what
        the images have in common, a prior or stable ground cannot be read, or a block does not
        fit into the memory of a worker.
    Retry
        The catalogue cannot be reached.
    """
    found = tuple(scenes) if scenes is not None else _search(workflow)
    if not found:
        raise Stop("there are no scenes to make a plan of")
    for scene in found:
        asset_of(scene, workflow.scenes.asset)
    area = workflow.scenes.area
    pairs = order_pairs(choose_pairs(found, workflow.pairs, area=area))
    used = tuple(lean_scene(scene, workflow.scenes.asset, workflow.scenes.mask) for scene in _scenes_in(found, pairs))
    grid = snap_to_nodes(choose_grid(used, workflow.scenes.asset, area, workflow.grid, workflow.reading.access), workflow.matcher.spacing)
    refuse_large_chips(workflow, used, pairs, grid)
    plan = _after_published(Plan(workflow=workflow, scenes=used, pairs=pairs, grid=grid, versions=package_versions()))
    around = nodes_on(grid, workflow.matcher.spacing).widened(plan.margin + margin_of(workflow.matcher))
    plan = replace(plan, fastest=largest_speed(read_prior(workflow.prior, node_grid(grid, around))))
    stable_nodes(workflow.stable, plan.nodes)
    workers = size_workers(workflow.cluster)
    groupings = [_grouped(replace(plan, images=limit)) for limit in limits()]
    cut = choose_cut(plan.tiling, groupings, plan.needs, workers)
    plan = replace(plan, wave_side=cut.side, joined=cut.joined, images=cut.limit)
    refuse_oversize(plan.forecast, workers)
    refuse_full_disk(workflow.output, plan.forecast)
    return replace(plan, bytes_to_read=_bytes_to_read(plan))


def _after_published(plan: Plan) -> Plan:
    """Return a plan that does what is not published at its output yet; it is the published plan itself if that is nothing."""
    output, folder = plan.workflow.output, plan.folder
    text = published_plan(output, folder)
    if text is None:
        refuse_other_output(output, folder, plan.run_id)
        return plan
    old = read_published(json.loads(text))
    new = new_pairs(old, plan.pairs)
    published = read_plan(text, f"{folder}/plan.json")
    why = why_not(old, plan.workflow.pair_digest, ALGORITHM_VERSION, asdict(plan.grid), plan.scenes)
    if why:
        refuse_other_output(output, folder, plan.run_id, why=why)
        return plan
    if not new:
        return replace(published, workflow=plan.workflow)
    parts = tuple(part.pairs for part in old.parts)
    longer = replace(plan, pairs=order_pairs((*published.pairs, *new), parts), earlier=old.parts)
    refuse_other_output(output, folder, longer.run_id, before=old.parts[-1].run_id)
    return longer


def _search(workflow: Workflow) -> tuple[Scene, ...]:
    wanted = workflow.scenes
    return find_scenes(
        wanted.catalog,
        area=wanted.area,
        dates=wanted.dates,
        collections=wanted.collections,
        max_cloud=wanted.max_cloud,
        query=wanted.query,
    )


def _scenes_in(scenes: Iterable[Scene], pairs: Sequence[Pair]) -> tuple[Scene, ...]:
    images = images_in(pairs)
    return tuple(sorted((scene for scene in scenes if scene.image_id in images), key=lambda s: (s.time, s.id)))


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on."""
    return {name: version(name) for name in PACKAGES}


def _grouped(plan: Plan) -> Grouping:
    """Return what comes of the plan's limit of images."""
    batches = range(plan.tiling.first_batch, plan.tiling.batches)
    counts = [len(images_in(group)) for batch in batches for group in plan.groups_of(batch)]
    return Grouping(plan.images, max(counts), sum(counts) / len(batches))


def _bytes_to_read(plan: Plan) -> int:
    """Return the bytes of source pixels, before compression, that all waves read."""
    windows = [wave_window(plan.tiling, wave, plan.reach, plan.margin) for wave in plan.waves if wave.batch == plan.tiling.first_batch]
    grids = [plan.grid.window(window.rows, window.columns) for window in windows]
    sizes = scene_bytes(plan.scenes, plan.workflow.scenes.asset, grids, plan.workflow.reading.access)
    groups = (group for batch in range(plan.tiling.first_batch, plan.tiling.batches) for group in plan.groups_of(batch))
    return round(sum(sizes[scene.id] for group in groups for scene in plan.scenes_in(group)))


def describe(plan: Plan) -> dict[str, Any]:
    """Return what a plan amounts to, to be printed before anything starts.

    Returns
    -------
    dict
        Counts, the grid (with nodes), bytes as numbers; memory is predicted for one block and for a worker.
    """
    tiling, ahead = plan.tiling, plan.forecast
    workers = size_workers(plan.workflow.cluster)
    days = [pair.temporal_baseline for pair in plan.pairs]
    return {
        "run_id": plan.run_id,
        "output": plan.workflow.output,
        "scenes": len(plan.scenes),
        "images": len(group_images(plan.scenes)),
        "first_date": f"{plan.scenes[0].time:%Y-%m-%d}",
        "last_date": f"{plan.scenes[-1].time:%Y-%m-%d}",
        "pairs": len(plan.pairs),
        "published_pairs": sum(plan.parts),
        "days": (min(days), max(days)),
        "grid": {
            **asdict(plan.grid),
            "nodes": (tiling.rows, tiling.columns),
            "spacing": tiling.spacing,
            "node_spacing": tiling.spacing * plan.grid.resolution,
        },
        "tile": tiling.tile * tiling.spacing,
        "joined": tiling.joined,
        "tiles": tiling.tile_rows * tiling.tile_columns,
        "batches": tiling.batches - tiling.first_batch,
        "blocks": ahead.tasks,
        "waves": len(plan.waves),
        "workers": workers._asdict(),
        "memory": {
            "block": ahead.block_memory,
            "wave": ahead.wave_memory,
            "worker": worker_memory(ahead, workers.number, workers.threads),
        },
        "bytes_to_read": plan.bytes_to_read,
        "bytes_to_write": ahead.stored,
        "vectors": ahead.vectors,
        "warnings": list(plan.warnings),
    }


def write_plan(plan: Plan) -> str:
    """Return a plan as JSON: frozen STAC items without signatures, pairs, grid, settings, versions."""
    values = {
        "format": FORMAT,
        "run_id": plan.run_id,
        "algorithm": ALGORITHM_VERSION,
        "versions": dict(plan.versions),
        "workflow": plan.workflow.model_dump(mode="json"),
        "settings": plan.workflow.pair_digest,
        "earlier": [list(part) for part in plan.earlier],
        "grid": asdict(plan.grid),
        "fastest": plan.fastest,
        "wave_side": plan.wave_side,
        "joined": plan.joined,
        "images": plan.images,
        "bytes_to_read": plan.bytes_to_read,
        "pairs": [
            {**asdict(pair), "reference_time": pair.reference_time.isoformat(), "secondary_time": pair.secondary_time.isoformat()}
            for pair in plan.pairs
        ],
        "scenes": [{"image_id": scene.image_id, "item": scene.item} for scene in plan.scenes],
    }
    return json.dumps(values, sort_keys=True, allow_nan=False)


def read_plan(text: str, where: str = "plan.json") -> Plan:
    """Return the plan that ``write_plan`` wrote.

    Raises
    ------
    Stop
        The text is not a plan, or one of another version of ftrack.
    """
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise Stop(f"{where} has format {values['format']}, this ftrack reads format {FORMAT}; make the plan again")
        prefer = values["workflow"]["scenes"]["prefer"]
        return Plan(
            workflow=Workflow.read(values["workflow"], where),
            scenes=tuple(replace(read_scene(entry["item"], prefer), image_id=entry["image_id"]) for entry in values["scenes"]),
            pairs=tuple(_read_pair(entry) for entry in values["pairs"]),
            grid=Grid(**values["grid"]),
            fastest=values["fastest"],
            wave_side=values["wave_side"],
            joined=values.get("joined", 1),
            images=values.get("images", IMAGES),
            bytes_to_read=values["bytes_to_read"],
            versions=values["versions"],
            earlier=tuple(Part(*part) for part in values.get("earlier", [])),
        )
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, Stop):
            raise
        raise Stop(f"{where} is not a plan: {type(error).__name__}: {error}") from None


def _read_pair(entry: Mapping[str, str]) -> Pair:
    times = {name: datetime.fromisoformat(entry[name]) for name in ("reference_time", "secondary_time")}
    return Pair(reference=entry["reference"], secondary=entry["secondary"], **times)


def _canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
