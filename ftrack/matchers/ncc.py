"""Exact zero-normalised cross-correlation with several chip sizes and least-squares sub-pixel."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import numpy as np
from pydantic import field_validator

from ftrack.kernels.certain import NEVER
from ftrack.kernels.choose import fit_peaks, judge_chips, put_together
from ftrack.kernels.find import nothing_found, peaks_of, prepare, search
from ftrack.kernels.layout import Peaks, Windows, lay_out
from ftrack.kernels.rectangles import find_bounds
from ftrack.matchers.cut import spaced, windows_around
from ftrack.matchers.deformation import Images, Peaked, scales_of, solve_tile
from ftrack.matchers.guide import AROUND, Sight, factor_of, look_ahead, reach_of, search_closely
from ftrack.matchers.protocol import Prior
from ftrack.schema import Status
from ftrack.settings import Settings, option


class NCC(Settings):
    """Settings of the correlation matcher."""

    kind: Literal["ncc"] = option("ncc", "exact zero-normalised cross-correlation")
    chip_sizes: tuple[int, ...] = option((32, 64), "sides of the chips, even; the smallest that is certain is taken", unit="px")
    spacing: int = option(8, "distance between nodes", unit="px", ge=1, le=512)
    search_radius: int = option(16, "largest displacement tried around the expected one, in x and y", unit="px", ge=1, le=256)
    search: Literal["auto", "full", "guided"] = option("auto", "full, or guided by decimated images; auto = guided for radii from 32 px")
    subpixel: Literal["least_squares", "parabola", "gaussian"] = option("least_squares", "how the peak is refined below one pixel")
    min_valid: float = option(0.6, "least share of valid pixels in a chip", unit="1", gt=0.0, le=1.0)
    min_correlation: float = option(0.3, "least correlation of a vector", unit="1", ge=-1.0, le=1.0)
    min_peak_ratio: float = option(1.3, "least ratio of the highest to the second-highest peak", unit="1", ge=1.0)
    max_error: float = option(0.5, "largest estimated error of a vector, per component", unit="px", gt=0.0)

    @field_validator("chip_sizes", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, int) else value

    @field_validator("chip_sizes")
    @classmethod
    def _even_and_ascending(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not sizes or any(s < 4 or s % 2 or s > 512 for s in sizes):
            raise ValueError("chip sizes must be even numbers from 4 to 512 px")
        return tuple(sorted(set(sizes)))

    @property
    def margin(self) -> int:
        """Nodes around those that are asked for, whose peaks have a say in them."""
        return self.spread + self._ahead

    @property
    def spread(self) -> int:
        """Nodes around those that are asked for, whose peaks ``refine`` needs."""
        return scales_of(self.chip_sizes, self.spacing).margin if self.subpixel == "least_squares" else 0

    @property
    def _guided(self) -> bool:
        return self.search == "guided" or (self.search == "auto" and self.search_radius >= WIDE)

    @property
    def _ahead(self) -> int:
        """Nodes around those that are searched, whose coarse peaks have a say in where."""
        return AROUND if self._guided and factor_of(self.spacing, self.search_radius) > 1 else 0

    @property
    def planes(self) -> int:
        """Numbers that ``find`` gives for a node."""
        return 5 + 5 * len(self.chip_sizes)

    @property
    def search_halo(self) -> int:
        """Pixels that ``find`` needs on every side of a node."""
        closely = max(self.chip_sizes) // 2 + self.search_radius + PIXELS_MORE
        return max(closely, reach_of(self.spacing, self.search_radius)) if self._ahead else closely

    @property
    def halo(self) -> int:
        """Pixels needed on every side of a node."""
        return self.search_halo + self.spread * self.spacing

    def measure(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, prior: Prior) -> np.ndarray:
        """Measure the displacement at every node; see ``ftrack.matchers.Matcher.measure``."""
        y, x = (self.spacing * np.arange(-self.spread, where.size + self.spread) + where[0] for where in (rows, columns))
        return self.refine(reference, secondary, y, x, self.find(reference, secondary, y, x, prior))

    def find(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, prior: Prior) -> np.ndarray:
        """Search; see ``ftrack.matchers.TwoStage.find``."""
        ahead = self._ahead
        farthest = max(secondary.shape) + int(max(np.abs(rows).max(), np.abs(columns).max())) + self.search_halo
        beyond = (rows.size + 2 * ahead, columns.size + 2 * ahead)
        allowed = windows_around(prior, self.search_radius, self.margin, beyond, farthest)
        there = self._with_data(reference, rows, columns)
        found = np.full((self.planes, rows.size, columns.size), np.nan, np.float32)
        chips = len(self.chip_sizes)
        found[4], found[5 : 5 + chips], found[5 + 3 * chips :] = -1, Status.NO_DATA, 0
        if rows[there[0]].size and columns[there[1]].size:
            wide = tuple(slice(where.start, where.stop + 2 * ahead) for where in there)
            windows = Windows(*(part[wide] for part in allowed))
            found[:, *there] = self._find(reference, secondary, rows[there[0]], columns[there[1]], windows)
        return found

    def _with_data(self, reference: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[slice, slice]:
        """Return the rows and columns of nodes whose chips may hold enough pixels."""
        top, bottom, left, right = find_bounds(reference)
        share = 2 * self.min_valid - 1
        within = math.ceil(share * (min(self.chip_sizes) if share > 0 else max(self.chip_sizes)) / 2 - 1e-6) - 1
        first, second = (
            slice(int(np.searchsorted(where, low + within, "right")), int(np.searchsorted(where, high - within)))
            for where, low, high in ((rows, top, bottom), (columns, left, right))
        )
        return (first, second) if bottom > top else (slice(0, 0), slice(0, 0))

    def _find(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, allowed: Windows) -> np.ndarray:
        """Search at the nodes, float32 (planes, row, column); ``allowed`` reaches beyond them where coarse peaks have a say."""
        ahead, largest, shape = self._ahead, max(self.chip_sizes), (rows.size, columns.size)
        layout = lay_out(self.chip_sizes, self.spacing, self.search_radius, *shape)
        corner = (largest // 2 - int(rows[0]), largest // 2 - int(columns[0]))
        inner = tuple(slice(ahead, ahead + n) for n in shape)
        windows = Windows(*(part[inner] for part in allowed))
        ground = prepare((reference, secondary), (corner, corner), layout, windows, self.min_valid)
        look = partial(search, ground, windows)
        if ahead:
            first = (int(rows[0]) - ahead * self.spacing, int(columns[0]) - ahead * self.spacing)
            sight = look_ahead((reference, secondary), first, self.spacing, self.search_radius, allowed, self.min_valid)
            near = Sight(Windows(*(part[inner] for part in sight.windows)), sight.sure[inner], sight.second[inner], sight.side)
            look = partial(search_closely, ground, (windows, near), self.min_peak_ratio)
        found, whole = nothing_found(ground), np.zeros(shape, np.bool_)
        look(~whole, found, (self.min_correlation, self.min_peak_ratio))
        judged, refused = self._judge(peaks_of(ground, found), whole)
        if refused.any():
            look(refused, found, NEVER)
            judged, _ = self._judge(peaks_of(ground, found), refused)
        return judged

    def _judge(self, peaks: Peaks, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what is known of the peaks, float32 (planes, row, column), and where larger chips may be needed after all.

        All chips are looked at where that is wanted, bool (row, column).
        """
        sizes, offset = np.array(self.chip_sizes), (peaks.dy, peaks.dx)
        status, settled = np.empty(peaks.peak.shape, np.uint8), np.empty(whole.shape, np.int8)
        limits = (self.min_valid, self.min_correlation, self.min_peak_ratio)
        judge_chips(peaks.valid, peaks.flat, (peaks.peak, *offset), (peaks.ratio, peaks.bounded), limits, whole, status, settled)
        chosen, fitted = np.empty(status.shape[1:], np.int8), np.empty((4, *status.shape[1:]))
        pixels = peaks.valid * (sizes.astype(np.float64) ** 2)[:, None, None]
        most = np.inf if self.subpixel == "least_squares" else self.max_error
        fit_peaks(peaks.around, offset, pixels, self.subpixel != "parabola", most, status, chosen, fitted)
        refused = (settled < sizes.size) & ((chosen < 0) | (chosen > settled))
        return np.concatenate([fitted, chosen[None], status, peaks.peak, peaks.ratio, *offset], dtype=np.float32), refused

    def refine(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Find displacement below one pixel; see ``ftrack.matchers.TwoStage.refine``."""
        spread, sizes = self.spread, np.array(self.chip_sizes)
        status, peak, ratio, dy, dx = found[5:].reshape(5, sizes.size, rows.size, columns.size)
        fitted, chosen, status = found[:4].astype(np.float64), found[4].astype(np.int8), status.astype(np.uint8)
        if self.subpixel == "least_squares":
            layout = lay_out(self.chip_sizes, self.spacing, 0, rows.size, columns.size)
            ring = scales_of(self.chip_sizes, self.spacing).ring
            top, left = (int(where[ring]) - max(self.chip_sizes) // 2 for where in (rows, columns))
            first, second = np.ascontiguousarray(reference, np.float32), spaced(secondary)
            peaked = Peaked(fitted[:2], (peak, dy, dx), status, chosen)
            fitted = solve_tile(Images(first, second, (top, left)), layout, peaked, (self.min_valid, self.max_error))
        out = np.empty((8, rows.size - 2 * spread, columns.size - 2 * spread), np.float32)
        put_together(fitted, (peak, ratio), sizes, self.max_error, spread, status, chosen, out)
        return out


WIDE = 32
"""Search radius from which a guided search takes clearly less time than the full one, px."""

PIXELS_MORE = 5
"""Pixels around chips and search that interpolation needs."""
