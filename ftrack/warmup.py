"""Compile the numerics once for this machine; otherwise the first run does it, in every process."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ftrack.cleaning import Fill, Outliers
from ftrack.matchers import NCC, Prior
from ftrack.prefilters import HighPass
from ftrack.schema import MOTION
from ftrack.tile import clean_tile, filter_tile, find_tile, match_tile

SIDE = 160
MATCHER = NCC(chip_sizes=(16, 32), search_radius=10, search="guided")


OBJECTS = 50_000
"""Objects after which Python looks for those that refer to each other alone: compiling makes many, nearly all of which are needed."""


@contextmanager
def _few_collections() -> Iterator[None]:
    """Let Python look for unreachable objects more rarely for a while."""
    usual = gc.get_threshold()
    gc.set_threshold(OBJECTS, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


@_few_collections()
def compile_numerics() -> float:
    """Filter, match and clean two small images, with and without a gap; the compiled code is kept on disk.

    Much of it is compiled by a process of its own at the same time, which saves time where there are two cores.

    Returns
    -------
    float
        Share of the nodes that were measured, somewhat below one half: the other half of the images has no data.
    """
    other = subprocess.Popen([sys.executable, "-c", f"import {__name__}; {__name__}.compile_the_rest()"])
    images, part = _images()
    rows, columns = _nodes()
    find_tile(images, [(0, 1)], MATCHER.model_copy(update={"search": "full"}), rows, columns, [Prior()])
    clean_tile(np.zeros((len(MOTION), 1, 9, 9), np.float32), Outliers(), Fill())
    other.wait()
    images, part = filter_tile(images, HighPass()), filter_tile(part, HighPass())
    whole, half = (match_tile(some, [(0, 1)], MATCHER, rows, columns, [Prior()]) for some in (images, part))
    clean_tile(half, Outliers(), Fill())
    return float(np.isfinite(half[0]).sum() / np.isfinite(whole[0]).sum())


def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of nodes."""
    at = np.arange(40, SIDE - 40, MATCHER.spacing)
    return at, at


def _images() -> tuple[np.ndarray, np.ndarray]:
    """Return two images without and with a gap."""
    pixels = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    images = np.stack([pixels, np.roll(pixels, 1, axis=1)])
    part = images.copy()
    part[1, :, SIDE // 2 :] = np.nan
    return images, part


@_few_collections()
def compile_the_rest() -> None:
    """Filter, solve for the displacement of a few nodes as if they had been searched, and search where every chip has gaps.

    What every search needs, the other process has compiled by then.
    """
    images = filter_tile(_images()[0], HighPass())
    at = MATCHER.spacing * np.arange(2 * MATCHER.spread + 4)
    found = np.zeros((MATCHER.planes, at.size, at.size), np.float32)
    MATCHER.refine(images[0], images[1], at, at, found)
    images[:, ::8, ::8] = np.nan
    find_tile(images, [(0, 1)], MATCHER, *_nodes(), [Prior()])
