"""Compile the numerics once for this machine; otherwise the first run does it, in every process."""

from __future__ import annotations

import numpy as np

from ftrack.cleaning import Fill, Outliers
from ftrack.matchers import NCC, Prior
from ftrack.prefilters import HighPass
from ftrack.tile import clean_tile, filter_tile, match_tile

SIDE = 160


def compile_numerics() -> float:
    """Filter, match and clean two small images, with and without a gap; the compiled code is kept on disk.

    Returns
    -------
    float
        Share of the nodes that were measured, somewhat below one half: the other half of the images has no data.
    """
    pixels = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    images = filter_tile(np.stack([pixels, np.roll(pixels, 1, axis=1)]), HighPass())
    matcher = NCC(chip_sizes=(16, 32), search_radius=10, search="guided")
    rows = columns = np.arange(40, SIDE - 40, matcher.spacing)
    whole = match_tile(images, [(0, 1)], matcher, rows, columns, [Prior()])
    images[1, :, SIDE // 2 :] = np.nan
    part = match_tile(images, [(0, 1)], matcher, rows, columns, [Prior()])
    clean_tile(part, Outliers(), Fill())
    return float(np.isfinite(part[0]).sum() / np.isfinite(whole[0]).sum())
