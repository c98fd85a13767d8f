"""Exact zero-normalised cross-correlation with several chip sizes and least-squares sub-pixel."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import field_validator

from ftrack.matchers.protocol import Prior
from ftrack.settings import Settings, option


class NCC(Settings):
    """Settings of the correlation matcher."""

    kind: Literal["ncc"] = option("ncc", "exact zero-normalised cross-correlation")
    chip_sizes: tuple[int, ...] = option((16, 32, 64), "sides of the chips, even; the smallest that is certain is taken", unit="px")
    spacing: int = option(8, "distance between nodes", unit="px", ge=1, le=512)
    search_radius: int = option(16, "largest displacement tried around the expected one, in x and y", unit="px", ge=1, le=256)
    subpixel: Literal["least_squares", "parabola", "gaussian"] = option("least_squares", "how the peak is refined below one pixel")
    min_valid: float = option(0.6, "least share of valid pixels in a chip", unit="1", gt=0.0, le=1.0)
    min_correlation: float = option(0.25, "least correlation of a vector", unit="1", ge=-1.0, le=1.0)
    min_peak_ratio: float = option(1.1, "least ratio of the highest to the second-highest peak", unit="1", ge=1.0)
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
        return max(self.chip_sizes) // 2 + self.search_radius + 2

    def measure(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, prior: Prior) -> np.ndarray:
        """Measure the displacement at every node; see ``ftrack.matchers.Matcher.measure``."""
        raise RuntimeError("being built")
