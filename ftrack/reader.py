"""Pixels of a pass on a grid: read bit for bit where the grids agree, else resampled at exact positions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyproj
import scipy.ndimage
from affine import Affine
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from ftrack.errors import Stop
from ftrack.grid import TOLERANCE, Bounds, Grid
from ftrack.kernels.warp import STEP, fill_positions, resample
from ftrack.rasters import File, use_file
from ftrack.sources import Access

RADII: Mapping[str, int] = {"bilinear": 1, "cubic": 2, "sinc": 4}
"""Pixels on either side that an interpolation needs."""

EQUAL = 1.1
"""Up to this ratio of pixel sizes the kernel is not widened."""

BLOCK = 1024
"""Side of the part of a window that is resampled at once."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A file of classes or bits, which of them make a pixel unusable, and by how many pixels of the grid that grows."""

    file: File
    values: tuple[int, ...] = ()
    bits: int = 0
    grow: int = 0


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One scene of a pass: value = ``gain`` * stored value + ``bias``; ``extent`` is what it covers of the grid's CRS, None = unknown."""

    file: File
    gain: float = 1.0
    bias: float = 0.0
    quality: Quality | None = None
    extent: Bounds | None = None


@dataclass(frozen=True, kw_only=True)
class Image:
    """The scenes of one pass, the first of which wins where several have data. It stands where stackstac expects an href.

    ``resampling`` is one of ``RADII``, or ``nearest``.
    """

    layers: tuple[Layer, ...]
    resampling: str = "sinc"
    access: Access = field(default_factory=Access)


class ExactWarpReader:
    """What stackstac reads with (its ``Reader`` protocol): one object per image and stack.

    No error ever becomes NaN, and a pixel has the same bits whatever the window, thread or process that reads it.
    """

    def __init__(self, *, url: Image, spec: Any, dtype: np.dtype[Any], **others: Any) -> None:
        """Keep what to read; ``others`` are stackstac's ways to resample, to rescale and to turn errors into NaN, which are not used."""
        self.image, self.spec, self.dtype = url, spec, dtype

    def read(self, window: Window) -> np.ndarray:
        """Return the float32 pixels of a window of the stack's grid, NaN where there are no data.

        Raises
        ------
        Stop, Retry
            A file cannot be read; see ``ftrack.rasters.use_file``.
        """
        rows = slice(int(window.row_off), int(window.row_off + window.height))
        columns = slice(int(window.col_off), int(window.col_off + window.width))
        return read_image(self.image, grid_of_spec(self.spec).window(rows, columns)).astype(self.dtype, copy=False)

    def close(self) -> None:
        """Nothing is held: files belong to threads."""


def grid_of_spec(spec: Any) -> Grid:
    """Return the grid that stackstac describes."""
    height, width = spec.shape
    left, _, _, top = spec.bounds
    return Grid(crs=f"EPSG:{spec.epsg}", resolution=spec.resolutions_xy[0], left=left, top=top, height=height, width=width)


def read_image(image: Image, grid: Grid) -> np.ndarray:
    """Return the pixels of a pass on a grid, (height, width) float32, NaN where there are no data.

    Raises
    ------
    Stop, Retry
        A file cannot be read; see ``ftrack.rasters.use_file``.
    """
    out = np.full((grid.height, grid.width), np.nan, np.float32)
    for layer in image.layers:
        if layer.extent is not None and _apart(layer.extent, grid.bounds):
            continue
        missing = np.isnan(out)
        if not missing.any():
            break
        found = _read_layer(layer, grid, image)
        np.copyto(out, found, where=missing)
    return out


def _apart(a: Bounds, b: Bounds) -> bool:
    return a.right <= b.left or b.right <= a.left or a.top <= b.bottom or b.top <= a.bottom


def _read_layer(layer: Layer, grid: Grid, image: Image) -> np.ndarray:
    def values_of(dataset: Any) -> np.ndarray:
        return _on_grid(_Source(dataset, layer.file), grid, image.resampling)

    values = use_file(layer.file, image.access, values_of)
    if (layer.gain, layer.bias) != (1.0, 0.0):
        values = (values * np.float64(layer.gain) + layer.bias).astype(np.float32)
    if layer.quality is not None and not np.isnan(values).all():
        values[_unusable(layer.quality, grid, image.access)] = np.nan
    return values


def _unusable(quality: Quality, grid: Grid, access: Access) -> np.ndarray:
    """Return where the classes say that pixels are unusable, or say nothing: (height, width) bool."""
    grow = quality.grow
    around = grid.window(slice(-grow, grid.height + grow), slice(-grow, grid.width + grow))

    def classes_of(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
        return _nearest(_Source(dataset, quality.file), around, whole=True)

    classes, known = use_file(quality.file, access, classes_of)
    if not np.issubdtype(classes.dtype, np.integer):
        raise Stop(f"{quality.file} holds {classes.dtype}: a mask is made of whole numbers")
    bad = known & (np.isin(classes, quality.values) | ((classes.astype(np.int64) & quality.bits) != 0))
    if grow:
        bad = scipy.ndimage.maximum_filter(bad, size=2 * grow + 1, mode="constant")
    inside = (slice(grow, grow + grid.height), slice(grow, grow + grid.width))
    return np.asarray((bad | ~known)[inside])


class _Source(NamedTuple):
    """An open file and what the catalogue says of it."""

    dataset: Any
    file: File

    @property
    def crs(self) -> str:
        crs = self.dataset.crs.to_wkt() if self.dataset.crs else self.file.crs
        if not crs:
            raise Stop(f"{self.file} has no CRS, neither in the file nor in the catalogue: it cannot be placed on the map")
        return str(crs)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return stored values of a window inside the file."""
        return np.asarray(self.dataset.read(1, window=Window.from_slices(rows, columns)))

    def read_valid(self, rows: slice, columns: slice) -> np.ndarray:
        """Return float32 values of a window inside the file, NaN where there are no data."""
        stored = self.read(rows, columns)
        values = stored.astype(np.float32)
        said = (self.file.nodata, self.dataset.nodata, self.file.usual_nodata)
        nodata = next((value for value in said if value is not None), None)
        if nodata is not None and not math.isnan(nodata):
            values[stored == np.asarray(nodata).astype(np.float64)] = np.nan
        if MaskFlags.per_dataset in self.dataset.mask_flag_enums[0]:
            values[self.dataset.read_masks(1, window=Window.from_slices(rows, columns)) == 0] = np.nan
        return values


def _on_grid(source: _Source, grid: Grid, resampling: str) -> np.ndarray:
    """Return the values of a file on a grid, float32, NaN where there are none."""
    offset = _lattice_offset(source, grid)
    if offset is not None:
        return _cut(source, grid, *offset)
    if resampling == "nearest":
        values, known = _nearest(source, grid)
        return np.where(known, values, np.float32(np.nan))
    scale = grid.resolution / math.sqrt(abs(source.dataset.transform.determinant))
    scale = scale if scale > EQUAL else 1.0
    out = np.empty((grid.height, grid.width), np.float32)
    side = max(STEP, int(BLOCK / scale))
    for i in range(0, grid.height, side):
        for j in range(0, grid.width, side):
            rows, columns = slice(i, min(i + side, grid.height)), slice(j, min(j + side, grid.width))
            part = np.empty((rows.stop - i, columns.stop - j), np.float32)
            _interpolate(source, grid.window(rows, columns), RADII[resampling], scale, part)
            out[rows, columns] = part
    return out


def _lattice_offset(source: _Source, grid: Grid) -> tuple[int, int] | None:
    """Return row and column of the file at the grid's upper left pixel, or None if the pixels are not the same."""
    t = source.dataset.transform
    size = max(source.dataset.shape)
    off = max(abs(t.a - grid.resolution), abs(t.e + grid.resolution), abs(t.b), abs(t.d)) * size / grid.resolution
    if off > 1e-3 or not _same_crs(source.crs, grid.crs):
        return None
    row, column = (t.f - grid.top) / grid.resolution, (grid.left - t.c) / grid.resolution
    tolerance = max(TOLERANCE, off)
    if max(abs(row - round(row)), abs(column - round(column))) > tolerance:
        return None
    return round(row), round(column)


def _cut(source: _Source, grid: Grid, row: int, column: int) -> np.ndarray:
    """Return the stored pixels of a file whose lattice is the grid's."""
    out = np.full((grid.height, grid.width), np.nan, np.float32)
    height, width = source.dataset.shape
    top, bottom = max(row, 0), min(row + grid.height, height)
    left, right = max(column, 0), min(column + grid.width, width)
    if top < bottom and left < right:
        out[top - row : bottom - row, left - column : right - column] = source.read_valid(slice(top, bottom), slice(left, right))
    return out


def _interpolate(source: _Source, grid: Grid, radius: int, scale: float, out: np.ndarray) -> None:
    """Fill a part of the grid with interpolated values."""
    rows, columns = _positions(source, grid)
    reach = math.ceil(radius * scale) + 1
    window = _window(rows, columns, source.dataset.shape, reach)
    if window is None:
        out[:] = np.nan
        return
    values = source.read_valid(*window)
    resample(values, rows - window[0].start, columns - window[1].start, radius, scale, out)


def _nearest(source: _Source, grid: Grid, whole: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the stored values nearest to the pixels of a grid, and where there are any.

    With ``whole`` they keep the type of the file, else they are float32 with NaN where the file has no data.
    """
    rows, columns = _positions(source, grid)
    window = _window(rows, columns, source.dataset.shape, 1)
    if window is None:
        return np.zeros(rows.shape, source.dataset.dtypes[0] if whole else np.float32), np.zeros(rows.shape, np.bool_)
    values = source.read(*window) if whole else source.read_valid(*window)
    height, width = source.dataset.shape
    with np.errstate(invalid="ignore"):
        known = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    r = np.floor(np.where(known, rows, window[0].start)).astype(np.intp) - window[0].start
    c = np.floor(np.where(known, columns, window[1].start)).astype(np.intp) - window[1].start
    return values[r, c], known


def _window(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], reach: int) -> tuple[slice, slice] | None:
    """Return the window of a file that holds all that is needed around the positions, or None if that is nothing."""
    usable = np.isfinite(rows) & np.isfinite(columns)
    if not usable.any():
        return None
    slices = []
    for positions, size in ((rows[usable], shape[0]), (columns[usable], shape[1])):
        start = max(0.0, math.floor(positions.min()) - reach)
        stop = min(float(size), math.ceil(positions.max()) + reach)
        if start >= stop:
            return None
        slices.append(slice(int(start), int(stop)))
    return slices[0], slices[1]


def _positions(source: _Source, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return where the pixel centres of a grid lie in a file: rows and columns, 0 at its upper left corner, float64.

    The projection is evaluated at every ``STEP``-th pixel of the lattice that runs through the whole map, so
    that a position has the same bits in every window.
    """
    step = grid.resolution
    x0, y0 = (_phase(edge, step) for edge in (grid.left, grid.top))
    column, row = round((grid.left - x0) / step), round((y0 - grid.top) / step)
    k = np.arange(row // STEP - 1, (row + grid.height - 1) // STEP + 3)
    n = np.arange(column // STEP - 1, (column + grid.width - 1) // STEP + 3)
    x, y = np.meshgrid(x0 + (n * STEP + 0.5) * step, y0 - (k * STEP + 0.5) * step)
    if not _same_crs(source.crs, grid.crs):
        x, y = _transformer(grid.crs, source.crs).transform(x, y)
    inverse = ~Affine(*tuple(source.dataset.transform)[:6])
    positions = []
    for a, b, c in ((inverse.d, inverse.e, inverse.f), (inverse.a, inverse.b, inverse.c)):
        out = np.empty((grid.height, grid.width))
        with np.errstate(invalid="ignore"):
            fill_positions(a * x + b * y + c, row, column, out)
        positions.append(out)
    return positions[0], positions[1]


def _phase(edge: float, step: float) -> float:
    """Return the offset of a lattice from whole multiples of its step, the same number for every edge on it."""
    phase = round(math.fmod(edge, step), 6) % step
    return 0.0 if step - phase < 1e-5 else phase


@lru_cache(maxsize=256)
def _same_crs(a: str, b: str) -> bool:
    if a == b:
        return True
    one, other = pyproj.CRS(a), pyproj.CRS(b)
    codes = one.to_epsg(), other.to_epsg()
    return codes[0] == codes[1] if None not in codes else bool(one.equals(other, ignore_axis_order=True))


@lru_cache(maxsize=256)
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)
