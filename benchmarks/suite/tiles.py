"""One small pair of images through every stage: search, least squares, outliers, prefilters, a whole tile.

Run in the folder above: ``asv run --python=same --quick`` measures the installed package, ``asv run`` every commit anew.
"""

from __future__ import annotations

import numpy as np

from ftrack.cleaning import Fill, Outliers, clean_nodes
from ftrack.matchers import NCC, Prior
from ftrack.prefilters import HighPass, ImageFilter, LaplacianOfGaussian, Orientation, Wallis, filter_image
from ftrack.synthetic import sheared_pair
from ftrack.tile import clean_tile, filter_tile, match_tile

SIZE = 512
RADIUS = 12
NODES = np.arange(56, SIZE - 55, 8)
CHIPS: dict[str, tuple[int, ...]] = {"32": (32,), "64": (64,), "16, 32, 64": (16, 32, 64)}
FILTERS: dict[str, ImageFilter] = {"highpass": HighPass(), "log": LaplacianOfGaussian(), "wallis": Wallis(), "orientation": Orientation()}


def make_images() -> np.ndarray:
    """Return reference and secondary, float32 (2, y, x)."""
    pair = sheared_pair((SIZE, SIZE), peak=8.0)
    return np.stack([pair.reference, pair.secondary])


class Match:
    """The matcher alone; each is run once beforehand, so that compilation does not count."""

    params = (tuple(CHIPS),)
    param_names = ("chips",)

    def setup(self, chips: str) -> None:
        """Make the images and compile."""
        self.reference, self.secondary = make_images()
        self.search = NCC(chip_sizes=CHIPS[chips], search_radius=RADIUS, subpixel="parabola")
        self.solve = NCC(chip_sizes=CHIPS[chips], search_radius=RADIUS)
        self.time_search(chips)
        self.time_least_squares(chips)

    def time_search(self, chips: str) -> None:
        """Search, with a parabola through the peak."""
        self.search.measure(self.reference, self.secondary, NODES, NODES, Prior())

    def time_least_squares(self, chips: str) -> None:
        """Search and least squares on grey values."""
        self.solve.measure(self.reference, self.secondary, NODES, NODES, Prior())


class Clean:
    """Outliers and fill."""

    def setup(self) -> None:
        """Make a motion with noise and outliers, and compile."""
        rng = np.random.default_rng(0)
        self.motion = np.zeros((8, 120, 120), np.float32)
        self.motion[:2] = 0.05 * rng.normal(size=(2, 120, 120))
        self.motion[:2, rng.random((120, 120)) < 0.02] += 4.0
        self.motion[4:6] = 0.05
        self.time_outliers()
        self.time_outliers_and_fill()

    def time_outliers(self) -> None:
        """Find and take out outliers."""
        clean_nodes(self.motion, Outliers(), Fill(min_neighbours=0))

    def time_outliers_and_fill(self) -> None:
        """The same, and fill the holes."""
        clean_nodes(self.motion, Outliers(), Fill())


class Prefilter:
    """One image through one filter."""

    params = (tuple(FILTERS),)
    param_names = ("kind",)

    def setup(self, kind: str) -> None:
        """Make the image and compile."""
        self.image = make_images()[0]
        self.time_filter(kind)

    def time_filter(self, kind: str) -> None:
        """Filter the image."""
        filter_image(self.image, FILTERS[kind])


class Tile:
    """A tile as a run works on it: filter, match with three chip sizes, clean."""

    def setup(self) -> None:
        """Make the images and compile."""
        self.images = make_images()
        self.time_tile()

    def time_tile(self) -> None:
        """Filter, match and clean."""
        images = filter_tile(self.images, HighPass())
        matcher = NCC(chip_sizes=(16, 32, 64), search_radius=RADIUS)
        clean_tile(match_tile(images, [(0, 1)], matcher, NODES, NODES, [Prior()]), Outliers(), Fill())

    def peakmem_tile(self) -> None:
        """The same: resident memory at its peak, that of Python and its packages included."""
        self.time_tile()
