"""The engines that are compared, each as one function: images and nodes in, displacement out.

Every engine takes ``(reference, secondary, rows, columns, chip, radius)``: float32 images (y, x) without gaps, the pixel corners
of the nodes, the side of the chips and the search radius in px. It returns dx and dy, px, + = right, down, float (row, column);
NaN = no measurement. An engine whose package is not installed is left out.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
import xarray as xr
from dask import config

from ftrack.errors import Stop
from ftrack.grid import Grid, Nodes, place
from ftrack.match import bands_of, match_array
from ftrack.matchers import NCC, Prior
from ftrack.pairs import Pair
from ftrack.schema import Status

Array = np.ndarray
Engine = Callable[[Array, Array, Array, Array, int, int], tuple[Array, Array]]

BASELINE = "OpenCV, parabola"
FULL = "ftrack, least squares"
GUIDED = "ftrack, guided search"

GUIDED_SETTINGS: dict[str, Any] = {"search": "guided"}
"""What the correlation matcher is told for a guided search."""

PAIR = Pair(reference="a", secondary="b", reference_time=datetime(2020, 1, 1, tzinfo=UTC), secondary_time=datetime(2020, 1, 11, tzinfo=UTC))

BAND = 8
"""Rows of nodes that OpenPIV gets at once: it holds all its windows in memory."""


class Tracker(NamedTuple):
    """The engine that is ftrack's correlation matcher with some settings."""

    settings: dict[str, Any]

    def __call__(self, reference: Array, secondary: Array, rows: Array, columns: Array, chip: int, radius: int) -> tuple[Array, Array]:
        """Measure all nodes as one tile, on one thread."""
        motion = self._matcher(columns, chip, radius).measure(reference, secondary, rows, columns, Prior())
        measured = motion[7] == Status.MEASURED
        return np.where(measured, motion[0], np.nan), np.where(measured, motion[1], np.nan)

    def in_threads(self, threads: int, images: tuple[Array, Array], rows: Array, columns: Array, sizes: tuple[int, int]) -> Array:
        """Measure as ``ftrack.match_stack`` does: the images are one chunk, whose nodes Dask's threads share."""
        window, stack = Nodes(int(columns[1] - columns[0]), int(rows[0]), int(columns[0]), rows.size, columns.size), as_stack(images)
        with config.set(scheduler="threads", num_workers=threads):
            tiles = bands_of(stack, window)
            values: Array = match_array(stack, [PAIR], self._matcher(columns, *sizes), window=window, tiles=tiles)[:2, 0].compute()
        return values

    def _matcher(self, columns: Array, chip: int, radius: int) -> NCC:
        return NCC(chip_sizes=(chip,), spacing=int(columns[1] - columns[0]), search_radius=radius, **self.settings)


def as_stack(images: tuple[Array, Array]) -> xr.DataArray:
    """Return two images as a stack on a map, each in one chunk."""
    height, width = images[0].shape
    grid = Grid(crs="EPSG:32622", resolution=10.0, left=500000.0, top=7000000.0, height=height, width=width)
    coordinates = {"time": [PAIR.reference_time.replace(tzinfo=None), PAIR.secondary_time.replace(tzinfo=None)]}
    lazy = da.stack([da.from_array(image, chunks=-1, name=False) for image in images])
    stack = xr.DataArray(lazy, dims=("time", "y", "x"), coords=coordinates)
    return place(stack.assign_coords(image=("time", [PAIR.reference, PAIR.secondary])), grid)


def opencv_parabola(
    cv2: Any, reference: Array, secondary: Array, rows: Array, columns: Array, chip: int, radius: int
) -> tuple[Array, Array]:
    """Correlate chip by chip with ``matchTemplate`` and fit a parabola through the peak and its neighbours."""
    half, reach = chip // 2, chip // 2 + radius
    dx, dy = np.full((2, rows.size, columns.size), np.nan)
    for i, y in enumerate(rows.tolist()):
        for j, x in enumerate(columns.tolist()):
            window = secondary[y - reach : y + reach, x - reach : x + reach]
            surface = cv2.matchTemplate(window, reference[y - half : y + half, x - half : x + half], cv2.TM_CCOEFF_NORMED)
            _, peak, _, (u, v) = cv2.minMaxLoc(surface)
            if 0 < u < 2 * radius and 0 < v < 2 * radius:
                dx[i, j] = u - radius + _vertex(surface.item(v, u - 1), peak, surface.item(v, u + 1))
                dy[i, j] = v - radius + _vertex(surface.item(v - 1, u), peak, surface.item(v + 1, u))
    return dx, dy


def _vertex(before: float, peak: float, after: float) -> float:
    """Return where the parabola through three equally spaced values has its maximum, counted from the middle one."""
    curvature = before - 2.0 * peak + after
    return 0.5 * (before - after) / curvature if curvature < 0.0 else 0.0


def openpiv_gaussian(
    pyprocess: Any, reference: Array, secondary: Array, rows: Array, columns: Array, chip: int, radius: int
) -> tuple[Array, Array]:
    """Correlate by FFT of extended search areas, with OpenPIV's Gaussian sub-pixel fit; rows and columns are evenly spaced."""
    reach, spacing = chip // 2 + radius, int(columns[1] - columns[0])
    dx, dy = np.full((2, rows.size, columns.size), np.nan)
    for first in range(0, rows.size, BAND):
        part = rows[first : first + BAND]
        cut = (slice(part[0] - reach, part[-1] + reach), slice(columns[0] - reach, columns[-1] + reach))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            u, v, *_ = pyprocess.extended_search_area_piv(
                reference[cut],
                secondary[cut],
                window_size=chip,
                overlap=2 * reach - spacing,
                search_area_size=2 * reach,
                sig2noise_method=None,
            )
        dx[first : first + BAND], dy[first : first + BAND] = u, v
    return dx, dy


def skimage_phase(
    registration: Any, reference: Array, secondary: Array, rows: Array, columns: Array, chip: int, _: int
) -> tuple[Array, Array]:
    """Correlate the phase of two chips in the same place, to 1/16 px; there is no search window."""
    half = chip // 2
    dx, dy = np.full((2, rows.size, columns.size), np.nan)
    for i, y in enumerate(rows.tolist()):
        for j, x in enumerate(columns.tolist()):
            cut = (slice(y - half, y + half), slice(x - half, x + half))
            shift, *_ = registration.phase_cross_correlation(secondary[cut], reference[cut], upsample_factor=16)
            dy[i, j], dx[i, j] = shift
    return dx, dy


def autorift_core(
    module: Any, reference: Array, secondary: Array, rows: Array, columns: Array, chip: int, radius: int
) -> tuple[Array, Array]:
    """Correlate with autoRIFT's core: 64 sub-pixel steps, without its coarse search and filter, which need wider grids than a tile."""
    x, y = (part.astype(np.float32) for part in np.meshgrid(columns - 0.5, rows - 0.5))
    sizes, limits = (np.full(x.shape, value, np.float32) for value in (chip, radius))
    none = np.zeros(x.shape, np.float32)
    function = module.arImgDisp_s
    last = [0] if "MultiThread" in inspect.signature(function).parameters else []
    dx, up = function(secondary, reference, x, y, sizes, sizes.copy(), limits, limits.copy(), none, none.copy(), True, 64, *last)
    return dx, -up


def available_engines() -> tuple[dict[str, Engine], list[str]]:
    """Return the engines that can run here by name, and the names of those that cannot."""
    engines: dict[str, Engine] = {}
    missing: list[str] = []
    variants: dict[str, dict[str, Any]] = {FULL: {"search": "full"}, GUIDED: GUIDED_SETTINGS, "ftrack, parabola": {"subpixel": "parabola"}}
    for name, settings in variants.items():
        try:
            NCC(**settings)
        except Stop:
            missing.append(name)
        else:
            engines[name] = Tracker(settings)
    others: dict[str, tuple[str, Callable[..., tuple[Array, Array]]]] = {
        BASELINE: ("cv2", opencv_parabola),
        "OpenPIV, Gaussian": ("openpiv.pyprocess", openpiv_gaussian),
        "scikit-image, phase": ("skimage.registration", skimage_phase),
        "autoRIFT core": ("autoRIFT.autoRIFT", autorift_core),
    }
    for name, (package, function) in others.items():
        try:
            engines[name] = partial(function, importlib.import_module(package))
        except ImportError:
            missing.append(name)
    return engines, missing


def in_threads(engine: Engine, threads: int, images: tuple[Array, Array], rows: Array, columns: Array, sizes: tuple[int, int]) -> Array:
    """Let threads share one scene and return dx and dy, float (2, row, column); other engines than ftrack get a band of rows each."""
    if threads == 1:
        return np.stack(engine(*images, rows, columns, *sizes))
    if isinstance(engine, Tracker):
        return engine.in_threads(threads, images, rows, columns, sizes)
    with ThreadPoolExecutor(threads) as pool:
        bands = pool.map(lambda part: np.stack(engine(*images, part, columns, *sizes)), np.array_split(rows, threads))
        return np.concatenate(list(bands), axis=1)


def scene_each(engine: Engine, threads: int, images: tuple[Array, Array], rows: Array, columns: Array, sizes: tuple[int, int]) -> Array:
    """Let every thread work on a whole scene at the same time, as tasks of a worker do; dx and dy of the first, float (2, row, column)."""
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda _: engine(*images, rows, columns, *sizes), range(threads)))
    return np.stack(found[0])
