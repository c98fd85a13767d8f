"""The shift of a pair: a systematic displacement found where nothing moves, and the scatter that is left there."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, NamedTuple

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from pydantic import field_validator, model_validator
from scipy import ndimage

from ftrack.errors import Stop
from ftrack.grid import Grid
from ftrack.sampling import ROWS_AT_ONCE, Use, sample_map, tell_failure
from ftrack.settings import Settings, option

LOG = logging.getLogger(__name__)

USE = Use("stable ground", "stable.area or stable.reference")

RASTERS = frozenset({".tif", ".tiff", ".vrt", ".img", ".jp2", ".nc", ".asc"})
ROUNDS = 10
REWEIGHTINGS = 25
PART = 20_000
"""Nodes that the first guess of a plane is made from."""

NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

LEAST_CLIP = 0.01
"""Residuals below this (px) are never clipped, however small the scatter."""

LEAST_SPREAD = 0.05
"""Stable nodes whose standard deviation along any axis is below this share of the grid's diagonal cannot carry a plane."""


class StableSettings(Settings):
    """Where the ground is stable, and what is fitted to it."""

    area: str | None = option(None, "polygons (any vector file) or raster (not 0) of stable ground; none = see reference")
    outside: bool = option(False, "stable ground is everything outside the area, so the area is the ice")
    buffer: float = option(0.0, "distance to keep from the border of stable ground", unit="m", ge=0.0)
    reference: tuple[str, ...] = option((), "without an area: raster of speed, or rasters of vx and vy, m/yr; slow ground is stable")
    max_speed: float = option(15.0, "ground of the reference up to this speed is slow", unit="m/yr", gt=0.0)
    model: Literal["constant", "plane"] = option("constant", "what is fitted to the displacement of stable ground")
    min_nodes: int = option(50, "fewer measured stable nodes than this give no shift", unit="nodes", ge=3)
    clip: float = option(3.0, "residuals beyond this many robust deviations are left out", unit="1", ge=1.0)

    @field_validator("reference", mode="before")
    @classmethod
    def _one_or_two(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else () if value is None else value

    @model_validator(mode="after")
    def _complete(self) -> StableSettings:
        if len(self.reference) > 2:
            raise ValueError("reference is one raster of speed, or two of vx and vy")
        if self.outside and self.area is None:
            raise ValueError("outside needs an area to be outside of")
        return self

    @property
    def known(self) -> bool:
        """True if it is said what ground is stable."""
        return self.area is not None or bool(self.reference)


class StableNodes(NamedTuple):
    """Which nodes lie on stable ground (bool (y, x), None = unknown), and how it is known (0 not, 1 area, 2 slow ground)."""

    stable: np.ndarray | None
    flag: int


class Shift(NamedTuple):
    """The systematic displacement of a pair.

    ``dx``, ``dy`` (px) hold at the centre of the grid. ``gradient`` is ``((d dx/d column, d dx/d row),
    (d dy/d column, d dy/d row))`` in px per node. ``scatter_dx``, ``scatter_dy`` (px) are robust standard deviations
    of what is left on stable ground, NaN if unknown. ``count`` is the number of measured stable nodes, ``flag`` is 0 for no
    correction, 1 for stable ground, 2 for slow ground.
    """

    dx: float
    dy: float
    gradient: tuple[tuple[float, float], tuple[float, float]]
    scatter_dx: float
    scatter_dy: float
    count: int  # type: ignore[assignment]
    flag: int


FLAT = ((0.0, 0.0), (0.0, 0.0))

NO_SHIFT = Shift(0.0, 0.0, FLAT, np.nan, np.nan, 0, 0)
"""Where nothing is known of what moves and what does not."""


def stable_nodes(settings: StableSettings, nodes: Grid) -> StableNodes:
    """Find the nodes on stable ground.

    Parameters
    ----------
    settings : StableSettings
        An area goes before a reference map.
    nodes : Grid
        The grid whose pixel centres are the nodes (``ftrack.grid.node_grid``).

    Returns
    -------
    StableNodes
        A mask of shape (y, x) with its flag; None and 0 if the settings name neither an area nor a reference.

    Raises
    ------
    Stop
        A file is missing, cannot be read or has no CRS, or no node lies on stable ground.
    Retry
        A file that is not on this machine cannot be reached.
    """
    if settings.area is not None:
        find = _raster_area if _suffix(settings.area) in RASTERS else _polygon_area
        stable, flag, where = find(settings.area, settings, nodes), 1, settings.area
    elif settings.reference:
        stable, flag, where = _slow_ground(settings, nodes), 2, " and ".join(settings.reference)
    else:
        return StableNodes(None, 0)
    if not stable.any():
        covered = f"the grid covers {tuple(nodes.bounds)} in {nodes.crs}"
        raise Stop(f"no node lies on stable ground of {where}: {covered}; check its place, outside, buffer and max_speed")
    return StableNodes(stable, flag)


def fit_shift(dx: np.ndarray, dy: np.ndarray, valid: np.ndarray, stable: np.ndarray | None, settings: StableSettings) -> Shift:
    """Fit the shift of one pair to its measured nodes on stable ground.

    Parameters
    ----------
    dx, dy : (y, x)
        Displacement, px, on the nodes of the whole grid.
    valid : bool (y, x)
        Nodes that were measured; filled ones tell nothing new.
    stable : bool (y, x), optional
        Stable ground; None if it is not known.
    settings : StableSettings
        A constant is the median of the nodes that are not clipped; a plane is their least-squares plane.

    Returns
    -------
    Shift
        Zero, with unknown scatter and flag 0, if there are fewer nodes than ``min_nodes``. A plane becomes a
        constant where the nodes are too bunched to carry one.
    """
    if stable is None:
        return NO_SHIFT
    chosen = valid & stable & np.isfinite(dx) & np.isfinite(dy)
    count = int(np.count_nonzero(chosen))
    if count < settings.min_nodes:
        return NO_SHIFT._replace(count=count)
    rows, columns = np.nonzero(chosen)
    place = np.stack([columns - (dx.shape[1] - 1) / 2, rows - (dx.shape[0] - 1) / 2])
    values = np.stack([dx[chosen], dy[chosen]]).astype(np.float64)
    model, residuals = _fit(place, values, float(np.hypot(*dx.shape)), settings)
    scatter = _scatter(residuals)
    flag = 2 if settings.area is None and settings.reference else 1
    gradient = ((float(model[0, 1]), float(model[0, 2])), (float(model[1, 1]), float(model[1, 2])))
    return Shift(float(model[0, 0]), float(model[1, 0]), gradient, float(scatter[0]), float(scatter[1]), count, flag)


def shift_at(
    shift: Shift, shape: tuple[int, int], rows: slice | None = None, columns: slice | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shift at every node, or at a window of the nodes.

    Parameters
    ----------
    shift : Shift
        What ``fit_shift`` found.
    shape : (int, int)
        Nodes of the whole grid along y and x, as they were when the shift was fitted.
    rows, columns : slice, optional
        The window; all nodes if left out.

    Returns
    -------
    dx, dy : float64 (y, x)
        Displacement to take off, px.
    """
    row = np.arange(shape[0])[rows or slice(None), None] - (shape[0] - 1) / 2
    column = np.arange(shape[1])[None, columns or slice(None)] - (shape[1] - 1) / 2
    (xx, xy), (yx, yy) = shift.gradient
    return shift.dx + xx * column + xy * row, shift.dy + yx * column + yy * row


def _fit(place: np.ndarray, values: np.ndarray, diagonal: float, settings: StableSettings) -> tuple[np.ndarray, np.ndarray]:
    """Fit both components and clip, until the clipping no longer changes; return the model (2, 3) and all residuals (2, n)."""
    plane = settings.model == "plane" and _can_carry_plane(place, diagonal)
    model = np.stack([_first_plane(place, value) if plane else np.array([np.median(value), 0.0, 0.0]) for value in values])
    residuals = _left(model, place, values)
    kept = np.ones(values.shape[1], bool)
    for _ in range(ROUNDS):
        limit = np.maximum(settings.clip * _scatter(residuals), LEAST_CLIP)
        fits = np.asarray((np.abs(residuals) <= limit[:, None]).all(axis=0))
        if np.array_equal(fits, kept) or np.count_nonzero(fits) < settings.min_nodes:
            break
        kept = fits
        if plane:
            model = np.stack([_plane(place[:, kept], value[kept], np.ones(np.count_nonzero(kept))) for value in values])
        else:
            model[:, 0] = np.median(values[:, kept], axis=1)
        residuals = _left(model, place, values)
    return model, residuals


def _left(model: np.ndarray, place: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.asarray(values - model[:, :1] - np.stack([a * place[0] + b * place[1] for _, a, b in model]))


def _first_plane(place: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return the plane of least absolute deviations (by reweighting) through a part of the nodes: moving ground cannot tilt it."""
    step = -(-value.size // PART)
    place, value = place[:, ::step], value[::step]
    model = np.array([np.median(value), 0.0, 0.0])
    for _ in range(REWEIGHTINGS):
        model = _plane(place, value, 1.0 / np.maximum(np.abs(_left(model[None], place, value[None])[0]), LEAST_CLIP))
    return model


def _plane(place: np.ndarray, value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return offset and slopes along column and row of the weighted least-squares plane."""
    design = np.stack([np.ones_like(value), *place])
    normal = np.array([[(weight * a * b).sum() for b in design] for a in design])
    return np.asarray(np.linalg.solve(normal, [(weight * a * value).sum() for a in design]))


def _can_carry_plane(place: np.ndarray, diagonal: float) -> bool:
    (a, b), (_, c) = np.cov(place)
    smallest = (a + c) / 2 - np.hypot((a - c) / 2, b)
    wide = bool(smallest > (LEAST_SPREAD * diagonal) ** 2)
    if not wide:
        LOG.warning("stable nodes lie too close together to fit a plane; a constant shift is taken")
    return wide


def _scatter(residuals: np.ndarray) -> np.ndarray:
    """Return the robust standard deviation of each component."""
    middle = np.median(residuals, axis=1, keepdims=True)
    return np.asarray(NORMAL * np.median(np.abs(residuals - middle), axis=1))


def _suffix(path: str) -> str:
    return Path(path.split("?")[0]).suffix.lower()


def _polygon_area(path: str, settings: StableSettings, nodes: Grid) -> np.ndarray:
    """Tell which nodes lie in (or outside) the polygons of a vector file, at least a buffer from their border."""
    try:
        table = gpd.read_file(path)
    except (OSError, RuntimeError, ValueError) as error:
        raise tell_failure(path, USE, error) from error
    if table.crs is None:
        raise Stop(f"stable ground: {path} has no CRS; write one (for a shapefile the .prj file)")
    box = shapely.box(*nodes.bounds).buffer(settings.buffer + nodes.resolution)
    shapes = _in_crs(table, nodes.crs)
    shapes = shapes[(shapely.get_dimensions(shapes) == 2) & shapely.intersects(shapes, box)]
    if not shapes.size:
        raise Stop(f"stable ground: no polygon of {path} touches the grid {tuple(nodes.bounds)} in {nodes.crs}; check its place and CRS")
    area = shapely.union_all(shapes).buffer(settings.buffer if settings.outside else -settings.buffer)
    shapely.prepare(area)
    inside = np.empty((nodes.height, nodes.width), bool)
    for start in range(0, nodes.height, ROWS_AT_ONCE):
        x, y = np.meshgrid(nodes.x, nodes.y[start : start + ROWS_AT_ONCE])
        inside[start : start + ROWS_AT_ONCE] = shapely.contains_xy(area, x, y)
    return ~inside if settings.outside else inside


def _in_crs(table: gpd.GeoDataFrame, crs: str) -> np.ndarray:
    """Return valid shapes in a CRS; long edges get more vertices first, because straight lines do not stay straight."""
    series = table.geometry[~(table.geometry.is_empty | table.geometry.isna())]
    if pyproj.CRS(series.crs) != pyproj.CRS(crs) and len(series):
        left, bottom, right, top = series.total_bounds
        series = series.segmentize(max(right - left, top - bottom) / 1000).to_crs(crs)
    return np.asarray(shapely.make_valid(series.to_numpy()))


def _raster_area(path: str, settings: StableSettings, nodes: Grid) -> np.ndarray:
    """Tell which nodes lie on (or off) the non-zero pixels of a raster, at least a buffer from the others; unknown ones are neither."""
    margin, wide = _widen(nodes, settings.buffer)
    values, _ = sample_map(path, wide, USE, zero_is_value=True)
    known, marked = np.isfinite(values), values != 0
    return _keep_away(known & (marked != settings.outside), known & (marked == settings.outside), margin, settings.buffer, nodes)


def _slow_ground(settings: StableSettings, nodes: Grid) -> np.ndarray:
    """Tell which nodes are slow on the reference map, at least a buffer from faster ones."""
    margin, wide = _widen(nodes, settings.buffer)
    parts = [sample_map(path, wide, USE)[0] for path in settings.reference]
    speed = np.hypot(*parts) if len(parts) == 2 else np.abs(parts[0])
    return _keep_away(speed <= settings.max_speed, speed > settings.max_speed, margin, settings.buffer, nodes)


def _widen(nodes: Grid, buffer: float) -> tuple[int, Grid]:
    margin = int(np.ceil(buffer / nodes.resolution)) if buffer else 0
    return margin, nodes.window(slice(-margin, nodes.height + margin), slice(-margin, nodes.width + margin))


def _keep_away(stable: np.ndarray, moving: np.ndarray, margin: int, buffer: float, nodes: Grid) -> np.ndarray:
    """Leave out stable nodes within a distance of moving ones, then the margin."""
    if not margin:
        return stable
    if moving.any():
        stable = stable & (ndimage.distance_transform_edt(~moving, sampling=nodes.resolution) > buffer)
    return np.asarray(stable[margin:-margin, margin:-margin])
