"""Velocities of intervals from velocities of pairs: least squares for an integrated random walk that is observed through means."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from ftrack.means import median
from ftrack.weights import KEPT, trust_of, variance_of

ORDER = 2
"""Differences of this order are small: velocity goes on changing as it did."""

WEAK = 1e-6
"""Weight of first differences beside those, so that a few pairs have a solution too."""

ROUGHNESS = 10.0 ** np.arange(-4, 5)
"""Variances of a bend that are tried, as multiples of the variance of a vector."""

COMMON = (0.02, 0.5, 0.9)
"""Shares of the variance of a displacement that are tried as belonging to its two images, so that pairs of one image have it in common."""

CELLS = 4_000_000
"""Elements of normal matrices that are held at once."""


class Network(NamedTuple):
    """How velocities of intervals and errors of images make up the velocities of pairs.

    Attributes
    ----------
    edges : array of datetime64, (intervals + 1,)
    design : sparse array, (pairs, intervals + images)
        Shares of the time of the pair in each interval, which sum to 1; -1 / years at its first image, 1 / years at its second one.
    products : sparse array, (pairs, unknowns * unknowns)
        Of the elements of a row of ``design`` with each other.
    years : array, (pairs,)
    tells : array, (pairs, intervals)
        1 where a pair tells of an interval: half of either lies in the other.
    """

    edges: np.ndarray
    design: Any
    products: Any
    years: np.ndarray
    tells: np.ndarray

    @property
    def intervals(self) -> int:
        """Number of intervals."""
        return len(self.edges) - 1

    @property
    def stiffness(self) -> np.ndarray:
        """What the sum of squared bends is a form of, ``(intervals, intervals)``."""
        bends, changes = (np.diff(np.eye(self.intervals), order, axis=0) for order in (ORDER, 1))
        form: np.ndarray = bends.T @ bends + WEAK * changes.T @ changes
        return form


class Prior(NamedTuple):
    """What is assumed before, ``(places,)`` each: variance of a bend, and the share of errors that the images bring."""

    bend: np.ndarray
    common: np.ndarray


class Vectors(NamedTuple):
    """One component at some places.

    Attributes
    ----------
    value, weight : array, (places, pairs)
        Velocity and 1 / variance; 0 where there is none.
    number : array, (places,)
        How many vectors count; those that contradict others do so in part.
    images : array, (places, images)
        Mean variance of the displacements that an image takes part in, m^2; 1 where there are none.
    """

    value: np.ndarray
    weight: np.ndarray
    number: np.ndarray
    images: np.ndarray


class Solution(NamedTuple):
    """Velocities and one-sigma errors, ``(components, places, intervals)``, and how many pairs tell of each, ``(places, intervals)``."""

    velocity: np.ndarray
    error: np.ndarray
    told: np.ndarray


class Fit(NamedTuple):
    """A solution at some places.

    Attributes
    ----------
    mean : array, (places, unknowns)
    root : array, (places, unknowns, unknowns)
        Cholesky factor of the normal matrix.
    scale : array, (places,)
        By what variances are larger than the weights say; at least 1.
    score : array, (places,)
        -2 log of the restricted likelihood, but for a constant.
    """

    mean: np.ndarray
    root: np.ndarray
    scale: np.ndarray
    score: np.ndarray


def products_of(design: Any) -> Any:
    """Return the products of the elements of every row with each other, ``(pairs, unknowns * unknowns)``."""
    spans = [(pair, design.indices[a:b]) for pair, (a, b) in enumerate(pairwise(design.indptr))]
    pair = np.concatenate([np.full(len(s) ** 2, p) for p, s in spans])
    one, other = (np.concatenate([repeat(s, len(s)) for _, s in spans]).astype(np.int64) for repeat in (np.repeat, np.tile))
    count, unknowns = design.shape
    return scipy.sparse.csr_array((design[pair, one] * design[pair, other], (pair, one * unknowns + other)), shape=(count, unknowns**2))


def solve_network(given: Sequence[Vectors], network: Network, smoothness: float | None) -> Solution:
    """Solve for the velocities of the intervals.

    Parameters
    ----------
    given : sequence of Vectors
        The components; what contradicts in one of them counts less in all.
    network : Network
    smoothness : float or None
        Standard deviation of a bend, m/yr; None finds it from the vectors.
    """
    typical = np.mean([1 / median(np.where(v.weight > 0, v.weight, np.nan).T) for v in given], axis=0)
    prior = Prior(typical if smoothness is None else np.full(typical.size, smoothness**2), np.full(typical.size, COMMON[1]))
    trust = np.ones_like(given[0].value)
    for choose in (False, False, True, False):
        vectors = [v._replace(weight=v.weight * trust, number=(trust * (v.weight > 0)).sum(axis=1)) for v in given]
        if choose:
            prior = _likeliest(vectors, network, prior, smoothness is None)
        fits = [_fit(v, network, prior) for v in vectors]
        trust = _trust(given, fits, network)
    size = network.intervals
    used = (trust > 0) & (given[0].weight > 0)
    return Solution(np.stack([f.mean[:, :size] for f in fits]), np.sqrt([_variance(f, size) for f in fits]), used @ network.tells)


def _likeliest(vectors: Sequence[Vectors], network: Network, prior: Prior, free: bool) -> Prior:
    """Return the prior that the vectors of both components make most likely, place by place: first the step, then both."""
    if free:
        prior = _best_of(vectors, network, [prior._replace(bend=prior.bend * factor) for factor in ROUGHNESS])
    near = (0.1, 1.0, 10.0) if free else (1.0,)
    return _best_of(
        vectors, network, [Prior(prior.bend * factor, np.full_like(prior.common, common)) for factor, common in product(near, COMMON)]
    )


def _best_of(vectors: Sequence[Vectors], network: Network, priors: list[Prior]) -> Prior:
    """Return the prior of the best score of both components together."""
    best = np.argmin([np.sum([_fit(v, network, prior).score for v in vectors], axis=0) for prior in priors], axis=0)
    return Prior(*(np.choose(best, values) for values in zip(*priors, strict=True)))


def _mean_at_images(values: np.ndarray, ends: Any) -> np.ndarray:
    """Return the mean over the pairs of every image, ``(places, images)``; 1 where an image has none."""
    known = np.isfinite(values)
    count = known.astype(float) @ ends
    return np.where(count > 0, np.where(known, values, 0.0) @ ends / np.maximum(count, 1), 1.0)


def vectors_of(values: np.ndarray, errors: np.ndarray, network: Network) -> Vectors:
    """Return values and weights; vectors without an error count like the median of their place."""
    known = np.isfinite(values)
    variance = variance_of(values, errors)
    weight = np.where(known, 1 / np.where(known, variance, 1.0), 0.0)
    ends = (abs(network.design[:, network.intervals :]) > 0).astype(float)
    return Vectors(np.where(known, values, 0.0), weight, known.sum(axis=1), _mean_at_images(variance * network.years**2, ends))


def _fit(vectors: Vectors, network: Network, prior: Prior) -> Fit:
    """Solve the normal equations with a prior."""
    size, whole = network.intervals, network.design.shape[1]
    weight = vectors.weight / (1 - prior.common[:, None])
    positions = vectors.images * prior.common[:, None] / 2
    normal = (weight @ network.products).reshape(-1, whole, whole)
    normal[:, :size, :size] += network.stiffness / prior.bend[:, None, None]
    normal[:, range(size, whole), range(size, whole)] += 1 / positions
    root = np.linalg.cholesky(normal)
    right = (weight * vectors.value) @ network.design
    mean = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    off = vectors.value - mean @ network.design.T
    misfit = (weight * off**2).sum(axis=1) + (mean[:, size:] ** 2 / positions).sum(axis=1)
    misfit += np.einsum("pi,ij,pj->p", mean[:, :size], network.stiffness, mean[:, :size]) / prior.bend
    count = KEPT * vectors.number
    free = np.maximum(count - ORDER, 1.0)
    scale = np.maximum(misfit / free, 1.0)
    volume = 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1) + max(size - ORDER, 0) * np.log(prior.bend)
    volume += np.log(positions).sum(axis=1) + count * np.log(1 - prior.common)
    return Fit(mean, root, scale, free * np.log(scale) + misfit / scale + volume)


def _trust(vectors: Sequence[Vectors], fits: list[Fit], network: Network) -> np.ndarray:
    """Return by how much each vector counts: less the more it contradicts the solution, in its worse component."""
    trust = np.ones_like(vectors[0].value)
    for (value, weight, *_), fit in zip(vectors, fits, strict=True):
        off = np.sqrt(weight) * np.abs(value - fit.mean[:, : network.intervals] @ network.design[:, : network.intervals].T)
        trust = np.minimum(trust, trust_of(off, weight > 0))
    return trust


def _variance(fit: Fit, intervals: int) -> np.ndarray:
    """Return the variance of every interval: the first of the diagonal of the inverse of the normal matrix, to scale."""
    inverse = np.linalg.inv(fit.root)
    variance: np.ndarray = (inverse[:, :, :intervals] ** 2).sum(axis=1) * fit.scale[:, None]
    return variance
