"""Exact zero-normalised cross-correlation with several chip sizes and least-squares sub-pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import field_validator

from ftrack.kernels.choose import fit_peaks, judge_chips
from ftrack.kernels.deform import REACH
from ftrack.kernels.find import find_peaks
from ftrack.kernels.layout import Layout, Peaks, Windows, lay_out
from ftrack.matchers.deformation import Peaked, scales_of, solve_tile
from ftrack.matchers.protocol import Prior
from ftrack.schema import Status
from ftrack.settings import Settings, option


class NCC(Settings):
    """Settings of the correlation matcher."""

    kind: Literal["ncc"] = option("ncc", "exact zero-normalised cross-correlation")
    chip_sizes: tuple[int, ...] = option((32, 64), "sides of the chips, even; the smallest that is certain is taken", unit="px")
    spacing: int = option(8, "distance between nodes", unit="px", ge=1, le=512)
    search_radius: int = option(16, "largest displacement tried around the expected one, in x and y", unit="px", ge=1, le=256)
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
        return scales_of(self.chip_sizes, self.spacing).margin if self.subpixel == "least_squares" else 0

    @property
    def halo(self) -> int:
        """Pixels needed on every side of a node."""
        return max(self.chip_sizes) // 2 + self.search_radius + PIXELS_MORE + self.margin * self.spacing

    def measure(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, prior: Prior) -> np.ndarray:
        """Measure the displacement at every node; see ``ftrack.matchers.Matcher.measure``."""
        margin, largest = self.margin, max(self.chip_sizes)
        shape = (rows.size + 2 * margin, columns.size + 2 * margin)
        layout = lay_out(self.chip_sizes, self.spacing, self.search_radius, *shape)
        top, left = (int(where[0]) - margin * self.spacing - largest // 2 for where in (rows, columns))
        windows = _windows(prior, self.search_radius, margin, shape)
        height, width = (n * layout.side for n in layout.shape)
        chips = _cut(reference, top - REACH, left - REACH, (height + 2 * REACH, width + 2 * REACH))
        far = self.search_radius + int(max(np.abs(windows.dy).max(), np.abs(windows.dx).max())) + PIXELS_MORE
        searched = _cut(secondary, top - far, left - far, (height + 2 * far, width + 2 * far))
        inner = np.ascontiguousarray(chips[REACH:-REACH, REACH:-REACH])
        peaks = find_peaks(inner, searched, layout._replace(radius=far), windows, self.min_valid, np.ones(shape, np.bool_))
        out = self._refine(peaks, layout, (chips, searched, (far, far)))
        return out[:, margin : margin + rows.size, margin : margin + columns.size]

    def _refine(self, peaks: Peaks, layout: Layout, images: tuple[np.ndarray, np.ndarray, tuple[int, int]]) -> np.ndarray:
        """Turn peaks into measurements, float32 (8, row, column)."""
        sizes, offset = np.array(self.chip_sizes), (peaks.dy, peaks.dx)
        status = np.empty(peaks.peak.shape, np.uint8)
        limits = (self.min_valid, self.min_correlation, self.min_peak_ratio)
        judge_chips(peaks.valid, peaks.flat, peaks.peak, offset, (peaks.ratio, peaks.bounded), limits, status)
        chosen, fitted = np.empty(status.shape[1:], np.int8), np.empty((4, *status.shape[1:]))
        pixels = peaks.valid * (sizes.astype(np.float64) ** 2)[:, None, None]
        squares = self.subpixel == "least_squares"
        fit_peaks(peaks.around, offset, pixels, self.subpixel != "parabola", np.inf if squares else self.max_error, status, chosen, fitted)
        if squares:
            found = Peaked(fitted[:2], (peaks.peak, *offset), status, chosen)
            fitted = solve_tile(images[0], images[1], images[2], layout, found, (self.min_valid, self.max_error))
        return _measurements(fitted, peaks, sizes, status, chosen)


PIXELS_MORE = 5
"""Pixels around chips and search that interpolation needs."""


def _windows(prior: Prior, radius: int, margin: int, shape: tuple[int, int]) -> Windows:
    """Return the search windows around the expected displacement, in whole pixels; zero where nothing is expected."""
    dy, dx = (_whole_pixels(part, margin, shape) for part in (prior.dy, prior.dx))
    return Windows(dy, dx, np.full(shape, radius, np.int64))


def _whole_pixels(expected: float | np.ndarray, margin: int, shape: tuple[int, int]) -> np.ndarray:
    """Round what is expected; an array that lacks the margin is carried on."""
    values = np.nan_to_num(np.asarray(expected, float))
    if values.ndim and values.shape != shape:
        values = np.pad(values, margin, mode="edge")
    return np.asarray(np.rint(np.broadcast_to(values, shape)).astype(np.int64))


def _measurements(found: np.ndarray, peaks: Peaks, sizes: np.ndarray, status: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Put the measurements together in the order of ``ftrack.schema.MOTION``; the largest chip says why there is none."""
    out = np.full((8, *chosen.shape), np.nan, np.float32)
    measured = chosen >= 0
    chip = np.maximum(chosen, 0).astype(np.int64)[None]
    out[:2], out[4:6] = np.where(measured, found[:2], np.nan), np.where(measured, found[2:4], np.nan)
    for row, values in ((2, peaks.peak), (3, peaks.ratio)):
        out[row] = np.where(measured, np.take_along_axis(values, chip, 0)[0], np.nan)
    out[6] = np.where(measured, sizes[chip[0]], 0)
    out[7] = np.where(measured, Status.MEASURED, status[-1])
    return out


def _cut(image: np.ndarray, top: int, left: int, shape: tuple[int, int]) -> np.ndarray:
    """Cut a window out of an image; what lies beyond it, and what is not a finite number, is no data."""
    out = np.full(shape, np.nan, np.float32)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + shape[0], image.shape[0]), min(left + shape[1], image.shape[1])
    if y1 > y0 and x1 > x0:
        part = image[y0:y1, x0:x1]
        out[y0 - top : y1 - top, x0 - left : x1 - left] = np.where(np.isfinite(part), part, np.nan)
    return out
