"""One point and one pair of images: chips, correlation surface, peak and vector; and how fast this machine matches."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import pyproj
import xarray as xr

from ftrack.config import Workflow
from ftrack.errors import Stop
from ftrack.grid import Grid, Nodes, node_grid, nodes_on
from ftrack.kernels.find import everywhere, find_peaks
from ftrack.kernels.layout import lay_out
from ftrack.lattice import choose_grid
from ftrack.match import margin_of, match_stack, prefilter
from ftrack.matchers import NCC, Prior
from ftrack.pairs import Pair
from ftrack.plan import Plan
from ftrack.prior import largest_speed, read_prior
from ftrack.schema import DAYS_PER_YEAR, STATUS_TEXT, Status
from ftrack.stac import Scene
from ftrack.stack import open_stack
from ftrack.tiling import snap_to_nodes
from ftrack.velocity import to_velocity

REACH = 32
"""Pixels are read around a point in steps of this, so that a changed parameter seldom needs others."""

KEPT = 8
SAMPLE = 24
"""Nodes along the side of what is matched to see how fast that is."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was measured at one node in one pair.

    Attributes
    ----------
    pair : Pair
        The two images.
    lon, lat : float
        The node, degrees.
    resolution : float
        Metres of a pixel.
    chip, window : float32 (y, x)
        The chip of the reference, and what was searched in the secondary, both filtered.
    surface : DataArray (dy, dx)
        Correlation at every offset of the search, px, + = right, down.
    motion : dict
        ``dx``, ``dy``, their errors, ``correlation``, ``peak_ratio``, ``chip_size`` and ``status`` of the node, before outliers are sought.
    velocity : dict
        ``vx``, ``vy``, ``v`` and their errors, ground m/yr.
    seconds : float
        What filtering and matching took.
    """

    pair: Pair
    lon: float
    lat: float
    resolution: float
    chip: np.ndarray
    window: np.ndarray
    surface: xr.DataArray
    motion: dict[str, float]
    velocity: dict[str, float]
    seconds: float

    @property
    def measured(self) -> bool:
        """True if there is a vector."""
        return int(self.motion["status"]) == Status.MEASURED

    @property
    def reason(self) -> str:
        """Why there is, or is not, a vector."""
        return STATUS_TEXT[Status(int(self.motion["status"]))]


class Trials:
    """Trials on the scenes of a workflow; pixels that were read are kept for the next."""

    def __init__(self) -> None:
        self._grids: dict[tuple[object, ...], Grid] = {}
        self._images: OrderedDict[tuple[object, ...], xr.DataArray] = OrderedDict()
        self._lock = Lock()

    def at(self, workflow: Workflow, scenes: Sequence[Scene], pair: Pair, place: tuple[float, float], quick: bool = False) -> Trial:
        """Measure one pair at the node next to a place.

        Parameters
        ----------
        workflow, scenes, pair : Workflow, sequence of Scene, Pair
            Settings and images.
        place : (float, float)
            Longitude and latitude.
        quick : bool
            Take a parabola for what lies below one pixel, for which no neighbours are needed.

        Raises
        ------
        Stop
            The place lies outside the images, or the settings do not go together.
        Retry
            Pixels cannot be read.
        """
        matcher = NCC(**{**workflow.matcher.model_dump(), "subpixel": "parabola"}) if quick else workflow.matcher
        grid = self._grid(workflow, scenes)
        nodes, (lon, lat) = _nodes_around(grid, matcher.spacing, *place)
        prior = read_prior(workflow.prior, node_grid(grid, nodes.widened(margin_of(matcher))))
        far = largest_speed(prior) * pair.temporal_baseline / DAYS_PER_YEAR / grid.resolution
        reach = matcher.halo + workflow.prefilter.halo + int(far) + 2 * matcher.spacing
        images = self._read(workflow, scenes, pair, _window(grid, nodes, reach))
        begun = time.perf_counter()
        filtered = prefilter(images, workflow.prefilter).compute()
        around = _shifted(nodes, grid, images)
        motion = match_stack(filtered, [pair], matcher, prior=prior, window=around).compute(scheduler="synchronous")
        chip, window, surface = _surface(filtered, matcher, around, motion.isel(pair=0, y=1, x=1), prior is None)
        seconds = time.perf_counter() - begun
        velocity = to_velocity(motion).isel(mid_date=0, y=1, x=1)
        names = ("vx", "vy", "v", "vx_error", "vy_error", "v_error")
        return Trial(
            pair=pair, lon=lon, lat=lat, resolution=grid.resolution, chip=chip, window=window, surface=surface,
            motion={str(name): float(motion[name][0, 1, 1]) for name in motion.data_vars},
            velocity={name: float(velocity[name]) for name in names}, seconds=seconds,
        )  # fmt: skip

    def _grid(self, workflow: Workflow, scenes: Sequence[Scene]) -> Grid:
        wanted, spacing = workflow.scenes, workflow.matcher.spacing
        key = (tuple(scene.id for scene in scenes), wanted.asset, repr(wanted.area), repr(workflow.grid), spacing)
        if key not in self._grids:
            grid = choose_grid(scenes, wanted.asset, wanted.area, workflow.grid, workflow.reading.access)
            self._grids = {key: snap_to_nodes(grid, spacing)}
        return self._grids[key]

    def _read(self, workflow: Workflow, scenes: Sequence[Scene], pair: Pair, grid: Grid) -> xr.DataArray:
        """Return the two images on a grid, read or kept."""
        ids = tuple(scene.id for scene in scenes if scene.image_id in (pair.reference, pair.secondary))
        key = (ids, workflow.scenes.asset, repr(workflow.scenes.mask), grid)
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        chosen = [scene for scene in scenes if scene.id in ids]
        wanted, settings = workflow.scenes, workflow.reading
        images = open_stack(chosen, asset=wanted.asset, grid=grid, mask=wanted.mask, chunks=-1, settings=settings).compute()
        with self._lock:
            self._images[key] = images
            if len(self._images) > KEPT:
                self._images.popitem(last=False)
        return images


def _nodes_around(grid: Grid, spacing: int, lon: float, lat: float) -> tuple[Nodes, tuple[float, float]]:
    """Return the node next to a place with its eight neighbours, and longitude and latitude of the node."""
    x, y = pyproj.Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True).transform(lon, lat)
    b = grid.bounds
    if not (b.left <= x <= b.right and b.bottom <= y <= b.top):
        raise Stop(f"{lat:.4f}, {lon:.4f} lies outside the area: click inside it")
    every = nodes_on(grid, spacing)
    row = int(np.argmin(np.abs(grid.top - every.rows * grid.resolution - y)))
    column = int(np.argmin(np.abs(grid.left + every.columns * grid.resolution - x)))
    nodes = Nodes(spacing, int(every.rows[row]) - spacing, int(every.columns[column]) - spacing, 3, 3)
    centre = node_grid(grid, nodes)
    place = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(centre.x[1], centre.y[1])
    return nodes, (float(place[0]), float(place[1]))


def _window(grid: Grid, nodes: Nodes, reach: int) -> Grid:
    """Return the pixels that the nodes need, in whole steps of ``REACH``."""
    far = -(-reach // REACH) * REACH
    rows, columns = (slice(int(v[0]) - far, int(v[-1]) + far) for v in (nodes.rows, nodes.columns))
    return grid.window(rows, columns)


def _shifted(nodes: Nodes, grid: Grid, images: xr.DataArray) -> Nodes:
    """Return nodes of a grid as nodes of the images that were read around them."""
    left, top = float(images["x"][0]) - grid.resolution / 2, float(images["y"][0]) + grid.resolution / 2
    row, column = round((grid.top - top) / grid.resolution), round((left - grid.left) / grid.resolution)
    return nodes._replace(row=nodes.row - row, column=nodes.column - column)


def _surface(
    filtered: xr.DataArray, matcher: NCC, nodes: Nodes, found: xr.Dataset, centred: bool
) -> tuple[np.ndarray, np.ndarray, xr.DataArray]:
    """Return chip, window and correlation surface of the middle node, for the chip that was taken, else for the largest."""
    size = int(found["chip_size"]) or max(matcher.chip_sizes)
    radius, half = matcher.search_radius, size // 2
    row, column = int(nodes.rows[1]), int(nodes.columns[1])
    dy, dx = (0, 0) if centred or not np.isfinite(float(found["dx"])) else (round(float(found["dy"])), round(float(found["dx"])))
    reference, secondary = (np.ascontiguousarray(image) for image in filtered.values[:2])
    chip = _cut(reference, row - half, column - half, size)
    window = _cut(secondary, row - half - radius + dy, column - half - radius + dx, size + 2 * radius)
    layout = lay_out((size,), matcher.spacing, radius, 1, 1)
    keep = np.full((1, 1, 1, 2 * radius + 1, 2 * radius + 1), np.nan, np.float32)
    find_peaks(chip, window, layout, everywhere(layout), matcher.min_valid, np.ones((1, 1), np.bool_), keep)
    offsets = np.arange(-radius, radius + 1)
    attrs = {"long_name": "correlation", "units": "1", "chip_size": size}
    return chip, window, xr.DataArray(keep[0, 0, 0], {"dy": offsets + dy, "dx": offsets + dx}, ("dy", "dx"), "surface", attrs)


def _cut(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def seconds_of(plan: Plan) -> float:
    """Estimate how long a run measures, from how long this machine takes for a small tile with the same settings.

    Reading from far away, and workers that are faster or slower than this machine, are not accounted for.
    """
    matcher, kind = plan.workflow.matcher, plan.workflow.prefilter
    side, halo = SAMPLE * matcher.spacing, matcher.halo + kind.halo
    texture = np.random.default_rng(1).normal(size=(side + 2 * halo, side + 2 * halo)).astype(np.float32)
    texture = texture + np.roll(texture, 1, 0) + np.roll(texture, 1, 1)
    filtered = kind.filter(texture)
    at = halo + matcher.spacing * np.arange(SAMPLE)
    matcher.measure(filtered, filtered, at[:1], at[:1], Prior())  # compiled before the clock starts
    begun = time.perf_counter()
    moved = kind.filter(np.roll(texture, 2, 1))
    matcher.measure(filtered, moved, at, at, Prior())
    around = 2 * margin_of(matcher)
    each = (time.perf_counter() - begun) / (SAMPLE + around) ** 2
    tiling, more = plan.tiling, 2 * plan.margin + around
    tiles = tiling.tile_rows * tiling.tile_columns
    nodes = (tiling.rows / tiling.tile_rows + more) * (tiling.columns / tiling.tile_columns + more) * tiles
    return each * nodes * (tiling.pairs - sum(tiling.parts))
