"""What contradicts the rest counts less: variances of vectors, Tukey's weights, and baselines that have lost the ice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ftrack.errors import Stop
from ftrack.means import NORMAL, median

TUKEY = 4.685
"""Standard deviations from the solution at which a vector no longer counts (Beaton & Tukey 1974)."""

KEPT = 0.83
"""What the weights leave of the mean square of a normal distribution, over what they leave of its number."""

BASELINES = (16.0, 32.0, 64.0, 128.0, 256.0)
"""Days that divide pairs by their baseline."""

ENOUGH = 50
"""Pairs of one baseline below which it is not judged."""

SLOW = 50.0
"""Speed below which baselines do not differ, m/yr."""

USUAL = 0.67
"""Standard deviations about the median that hold half of a normal distribution."""


def variance_of(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return the variance of vectors, ``(places, pairs)``; those without an error count like the median of their place.

    Parameters
    ----------
    values : array, (places, pairs)
    errors : array, (places, pairs) or (1, pairs)
    """
    known = np.isfinite(values)
    if not ((errors > 0) | ~known).all():
        errors = np.where(known & (errors > 0), errors, np.nan)
        errors = np.where(np.isfinite(errors), errors, np.nan_to_num(median(errors.T), nan=1.0)[:, None])
    variance: np.ndarray = np.where(known, errors * errors, np.nan)
    return variance


def trust_of(off: np.ndarray, known: np.ndarray, least: float = 1.0) -> np.ndarray:
    """Return by how much each vector counts, ``(places, pairs)``: less the further it is off, by what is usual at its place.

    Parameters
    ----------
    off : array, (places, pairs)
        Distance from the solution, in stated errors.
    known : array of bool, (places, pairs)
    least : float
        What is usual is at least this.
    """
    usual = np.maximum(NORMAL * median(np.where(known, off, np.nan).T), least)[:, None]
    left: np.ndarray = off / (TUKEY * usual)
    np.subtract(1.0, np.square(left, out=left), out=left)
    np.square(np.maximum(left, 0.0, out=left), out=left)
    return left


def check_longest(max_days: float | str) -> None:
    """Refuse what is not a longest baseline.

    Raises
    ------
    Stop
        It is neither days above 0 nor ``auto``.
    """
    if max_days != "auto" and not (isinstance(max_days, int | float) and max_days > 0):
        raise Stop(f"max_days {max_days!r} is not one: give days above 0, or 'auto'")


def longest_of(vx: np.ndarray, vy: np.ndarray, days: np.ndarray, max_days: float | str) -> np.ndarray:
    """Return the baseline, days, from which on pairs are not used, ``(places,)``.

    Where ice has changed its face, or moved out of the search, long pairs find something slower than the ice. They show by baselines
    whose usual speeds do not overlap those of the shortest pairs, as in the mosaics of ITS_LIVE (Gardner et al. 2025).

    Parameters
    ----------
    vx, vy : array, (places, pairs)
    days : array, (pairs,)
    max_days : float or str
        The same for all places, or ``auto``.
    """
    if max_days != "auto":
        return np.full(len(vx), float(max_days))
    longest = np.full(len(vx), np.inf)
    bins = [(lower, np.flatnonzero((days >= lower) & (days < upper))) for lower, upper in pairwise((0.0, *BASELINES, np.inf))]
    reference = np.full((3, len(vx)), np.nan)  # direction and lowest usual speed of the shortest pairs
    for lower, inside in bins:
        x, y = (v[:, inside].T for v in (vx, vy))
        enough = np.isfinite(x).sum(axis=0) >= ENOUGH
        if not enough.any():
            continue
        flow = np.stack([median(x), median(y)])
        fast = np.hypot(*flow)
        first = enough & np.isnan(reference[0]) & (fast > SLOW)
        reference[:2, first] = (flow / np.maximum(fast, 1e-9))[:, first]
        along = x * reference[0].astype(x.dtype) + y * reference[1].astype(x.dtype)
        middle = median(along)
        usual = USUAL * NORMAL * median(np.abs(along - middle))
        reference[2, first] = (middle - usual)[first]
        slower = enough & ~first & (middle + usual < reference[2])
        longest = np.where(slower, np.minimum(longest, lower), longest)
    return longest
