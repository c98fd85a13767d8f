"""Exact zero-normalised cross-correlation with several chip sizes and least-squares sub-pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import field_validator

from ftrack.kernels.choose import GAUSSIAN, LEAST_SQUARES, PARABOLA, choose_chips
from ftrack.kernels.correlate import correlate, lay_out, pad_for
from ftrack.kernels.peaks import second_peaks
from ftrack.kernels.refine import WEIGHTS
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
    min_peak_ratio: float = option(1.2, "least ratio of the highest to the second-highest peak", unit="1", ge=1.0)
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
    def halo(self) -> int:
        """Pixels needed on every side of a node."""
        return max(self.chip_sizes) // 2 + self.search_radius + MARGIN

    def measure(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, prior: Prior) -> np.ndarray:
        """Measure the displacement at every node; see ``ftrack.matchers.Matcher.measure``."""
        out = np.full((8, rows.size, columns.size), np.nan, np.float32)
        out[6], out[7] = 0, Status.NO_DATA
        shift_y, shift_x = (_whole_steps(p, self.search_radius, out.shape[1:]) for p in (prior.dy, prior.dx))
        for dy, dx in np.unique(np.stack([shift_y.ravel(), shift_x.ravel()], 1), axis=0):
            wanted = (shift_y == dy) & (shift_x == dx)
            i, j = np.flatnonzero(wanted.any(1)), np.flatnonzero(wanted.any(0))
            part = (slice(i[0], i[-1] + 1), slice(j[0], j[-1] + 1))
            found = _measure_part(self, (reference, secondary), rows[part[0]], columns[part[1]], (int(dy), int(dx)), wanted[part])
            out[:, part[0], part[1]][:, wanted[part]] = found[:, wanted[part]]
        return out


MARGIN = 4
"""Pixels around the chips that interpolation and gradients need."""


def _whole_steps(prior: float | np.ndarray, radius: int, shape: tuple[int, ...]) -> np.ndarray:
    """Round the expected displacement to whole pixels: few different values, so that chips keep sharing their products."""
    step = max(1, radius // 4) if np.ndim(prior) else 1
    known = np.nan_to_num(np.broadcast_to(np.asarray(prior, float), shape))
    return np.asarray(step * np.rint(known / step).astype(np.int64))


def _measure_part(
    settings: NCC, images: tuple[np.ndarray, np.ndarray], rows: np.ndarray, columns: np.ndarray, shift: tuple[int, int], wanted: np.ndarray
) -> np.ndarray:
    """Measure nodes that share one whole-pixel shift of the search."""
    radius, largest = settings.search_radius, max(settings.chip_sizes)
    layout = lay_out(settings.chip_sizes, settings.spacing, radius, rows.size, columns.size)
    shape_r, shape_s = pad_for(layout)
    top, left = int(rows[0]) - largest // 2 - MARGIN, int(columns[0]) - largest // 2 - MARGIN
    r = _cut(images[0], top, left, (shape_r[0] + 2 * MARGIN, shape_r[1] + 2 * MARGIN))
    s = _cut(images[1], top - radius + shift[0], left - radius + shift[1], (shape_s[0] + 2 * MARGIN, shape_s[1] + 2 * MARGIN))
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    surfaces = correlate(np.ascontiguousarray(r[inner]), np.ascontiguousarray(s[inner]), layout, settings.min_valid, wanted)
    ratio, bounded = np.empty(surfaces.peak.shape, np.float32), np.empty(surfaces.peak.shape, np.uint8)
    flat = (surfaces.peak.ravel(), surfaces.peak_dy.ravel(), surfaces.peak_dx.ravel(), ratio.reshape(-1), bounded.reshape(-1))
    second_peaks(surfaces.values.reshape(-1, *surfaces.values.shape[-2:]), *flat)
    out = np.full((8, rows.size, columns.size), np.nan, np.float32)
    out[6], out[7] = 0, Status.NO_DATA
    geometry = (np.array(settings.chip_sizes), largest // 2, settings.spacing, radius, MARGIN)
    how = {"least_squares": LEAST_SQUARES, "parabola": PARABOLA, "gaussian": GAUSSIAN}[settings.subpixel]
    limits = (settings.min_valid, settings.min_correlation, settings.min_peak_ratio, settings.max_error, how)
    choose_chips(tuple(surfaces), (ratio, bounded), (r, s, WEIGHTS), geometry, limits, wanted, out)
    out[0] += shift[1]
    out[1] += shift[0]
    return out


def _cut(image: np.ndarray, top: int, left: int, shape: tuple[int, int]) -> np.ndarray:
    """Cut a window out of an image; what lies beyond it is no data."""
    out = np.full(shape, np.nan, np.float32)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + shape[0], image.shape[0]), min(left + shape[1], image.shape[1])
    if y1 > y0 and x1 > x0:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return out
