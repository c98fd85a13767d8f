"""One tile of a stack, numpy in and out: filter its images, match its pairs, clean the vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ftrack.cleaning import Fill, Outliers, clean_nodes
from ftrack.matchers import Matcher, Prior, TwoStage
from ftrack.prefilters import ImageFilter, filter_image
from ftrack.schema import MOTION

Images = np.ndarray | Sequence[np.ndarray]
"""Pixels of a tile, (y, x) for each image: float32, NaN = no data."""


def filter_tile(images: np.ndarray, prefilter: ImageFilter) -> np.ndarray:
    """Filter every image of a tile: float32 (time, y, x) in and out, NaN = no data."""
    filtered = np.empty(images.shape, np.float32)
    for image, out in zip(images, filtered, strict=True):
        out[:] = filter_image(image, prefilter)
    return filtered


def match_tile(
    images: Images,
    pairs: Sequence[tuple[int, int]],
    matcher: Matcher,
    rows: np.ndarray,
    columns: np.ndarray,
    priors: Sequence[Prior],
) -> np.ndarray:
    """Measure every pair at every node of a tile.

    Parameters
    ----------
    images : Images
        Images with the halo that the matcher needs; NaN = no data.
    pairs : sequence of (int, int)
        Index of the reference and of the secondary image along time.
    matcher : Matcher
        What measures.
    rows, columns : int64 (n,), (m,)
        Pixel corners of the nodes, counted from the first pixel of the images.
    priors : sequence of Prior
        Expected displacement of each pair, px.

    Returns
    -------
    float32 (8, pair, n, m)
        In the order of ``ftrack.schema.MOTION``.
    """
    out = np.full((len(MOTION), len(pairs), rows.size, columns.size), np.nan, np.float32)
    if rows.size and columns.size:
        for k, (reference, secondary) in enumerate(pairs):
            out[:, k] = matcher.measure(images[reference], images[secondary], rows, columns, priors[k])
    return out


def find_tile(
    images: Images,
    pairs: Sequence[tuple[int, int]],
    matcher: TwoStage,
    rows: np.ndarray,
    columns: np.ndarray,
    priors: Sequence[Prior],
) -> np.ndarray:
    """Do the first stage of ``match_tile``: search every pair at every node, float32 (planes, pair, n, m)."""
    out = np.full((matcher.planes, len(pairs), rows.size, columns.size), np.nan, np.float32)
    for k, (reference, secondary) in enumerate(pairs):
        out[:, k] = matcher.find(images[reference], images[secondary], rows, columns, priors[k])
    return out


def refine_tile(
    images: Images,
    pairs: Sequence[tuple[int, int]],
    matcher: TwoStage,
    rows: np.ndarray,
    columns: np.ndarray,
    found: np.ndarray,
) -> np.ndarray:
    """Do the second stage: refine what ``find_tile`` has found at the nodes and ``spread`` more on every side."""
    beyond = 2 * matcher.spread
    out = np.full((len(MOTION), len(pairs), rows.size - beyond, columns.size - beyond), np.nan, np.float32)
    for k, (reference, secondary) in enumerate(pairs):
        out[:, k] = matcher.refine(images[reference], images[secondary], rows, columns, found[:, k])
    return out


def clean_tile(motion: np.ndarray, outliers: Outliers, fill: Fill) -> np.ndarray:
    """Clean every pair of a tile: float32 (8, pair, n, m) in and out."""
    out = np.empty_like(motion)
    for k in range(motion.shape[1]):
        out[:, k] = clean_nodes(motion[:, k], outliers, fill)
    return out
