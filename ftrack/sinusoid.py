"""Mean, trend and annual wave of velocities of pairs: robust least squares on a model that is averaged over the days of every pair."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntFlag
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from ftrack.means import FEW, median
from ftrack.schema import DAYS_PER_YEAR
from ftrack.weights import KEPT, longest_of, trust_of, variance_of

ROUNDS = 3
"""Times that vectors are weighted by how far they are from the solution."""

PAIRS, IMAGES = 30, 10
"""Vectors, and images they are made of, below which there is neither trend nor season."""

TREND_YEARS, SEASON_YEARS = 2.0, 1.0
"""Years that the middles of pairs have to span for a trend, and for a season."""

SEASON_DAYS = 270.0
"""Baseline from which on a pair tells nothing of the season: its mean has less than a third of it."""

PARTS, GAP = 12, 4
"""Parts of the year, and how many of them in a row may not be without the middle of a pair."""

ALIKE = 50.0
"""By how much the variance of trend or season may be larger than if it were told apart from everything else."""

FAINT = 3.0
"""Errors below which an amplitude has no day of maximum."""

VALUES = 262_144
"""Vectors that are solved at once, so that they stay near."""

PIECE, LONGEST = 200_000, 4_096
"""Multiplications, and pairs, in a piece of a matrix product."""

RESULTS = (
    "v", "v_error", "vx", "vx_error", "vy", "vy_error", "dv_dt", "dv_dt_error", "v_amp", "v_amp_error", "v_phase", "v_phase_error",
    "count", "outlier_percent", "fit_flag",
)  # fmt: skip
"""What `fit_places` returns, in this order."""


class Lack(IntFlag):
    """Why a place has no velocity, trend or season."""

    FEW_VECTORS = 1
    SPARSE = 2
    UNDER_TWO_YEARS = 4
    UNDER_A_YEAR = 8
    GAP_IN_YEAR = 16
    LONG_BASELINES = 32
    NOT_TOLD_APART = 64
    FAINT_SEASON = 128


LACKS: dict[Lack, str] = {
    Lack.FEW_VECTORS: f"fewer than {FEW} vectors: nothing",
    Lack.SPARSE: f"fewer than {PAIRS} vectors or {IMAGES} images: no trend, no season",
    Lack.UNDER_TWO_YEARS: f"middles of pairs span under {TREND_YEARS:g} years: no trend",
    Lack.UNDER_A_YEAR: f"middles of pairs span under {SEASON_YEARS:g} year: no season",
    Lack.GAP_IN_YEAR: f"{GAP} twelfths of the year in a row without the middle of a pair: no season",
    Lack.LONG_BASELINES: f"fewer than {PAIRS} vectors of under {SEASON_DAYS:g} days: no season",
    Lack.NOT_TOLD_APART: "mean, trend and season cannot be told from each other: neither of the last two",
    Lack.FAINT_SEASON: f"amplitude below {FAINT:g} of its errors: no day of maximum",
}


NO_TREND = Lack.FEW_VECTORS | Lack.SPARSE | Lack.UNDER_TWO_YEARS | Lack.NOT_TOLD_APART
NO_SEASON = Lack.FEW_VECTORS | Lack.SPARSE | Lack.UNDER_A_YEAR | Lack.GAP_IN_YEAR | Lack.LONG_BASELINES | Lack.NOT_TOLD_APART


class Model(NamedTuple):
    """What pairs tell of mean, trend and season.

    Attributes
    ----------
    design : float32 (pairs, 4)
        Means over the days of each pair of 1, time, cosine and sine of the year; time counts from the middle of all, in ``half`` of it.
    products : float32 (pairs, 16)
        Of the elements of a row of ``design`` with each other.
    years, days : float32 (pairs,)
        Middles, and baselines.
    parts : float32 (pairs, PARTS + 1)
        1 in the part of the year in which the middle of a pair under ``SEASON_DAYS`` lies, and in the last column.
    images : sparse float32 (pairs, images)
        -1 at the first, 1 at the second image of a pair.
    shared : sparse float32 (pairs, images * 4)
        Products of ``images`` and ``design``.
    half, ahead : float
        Years; ``ahead`` is by how much the date for which velocity is told lies behind the middle of all.
    """

    design: np.ndarray
    products: np.ndarray
    years: np.ndarray
    days: np.ndarray
    parts: np.ndarray
    images: Any
    shared: Any
    half: float
    ahead: float


def model_of(first: np.ndarray, second: np.ndarray, images: np.ndarray, at: float) -> Model:
    """Return the model of pairs.

    Parameters
    ----------
    first, second : float (pairs,)
        Years of their images, from any first of January.
    images : int (2, pairs)
        Number of the first and of the second image of each pair.
    at : float
        Year for which velocity is told.
    """
    span, turn = second - first, 2 * np.pi
    middle, centre = (first + second) / 2, (first.min() + second.max()) / 2
    half = max((second.max() - first.min()) / 2, 1e-3)
    cosine = (np.sin(turn * second) - np.sin(turn * first)) / (turn * span)
    sine = (np.cos(turn * first) - np.cos(turn * second)) / (turn * span)
    design = np.stack([np.ones_like(middle), (middle - centre) / half, cosine, sine], axis=1).astype(np.float32)
    seen = span * DAYS_PER_YEAR < SEASON_DAYS
    parts = np.zeros((len(middle), PARTS + 1), np.float32)
    parts[seen, (middle[seen] * PARTS).astype(np.int64) % PARTS] = 1
    parts[seen, PARTS] = 1
    rows = np.tile(np.arange(len(middle)), 2)
    signs = np.repeat(np.array([-1, 1], np.float32), len(middle))
    ends = scipy.sparse.csr_array((signs, (rows, images.ravel())), shape=(len(middle), int(images.max()) + 1))
    spread = (signs[:, None] * design[rows]).ravel(), (np.repeat(rows, 4), (images.ravel()[:, None] * 4 + np.arange(4)).ravel())
    shared = scipy.sparse.csr_array(spread, shape=(len(middle), ends.shape[1] * 4))
    products = (design[:, :, None] * design[:, None, :]).reshape(-1, 16)
    years, days = (part.astype(np.float32) for part in (middle, span * DAYS_PER_YEAR))
    return Model(design, products, years, days, parts, ends, shared, float(half), at - float(centre))


def fit_places(given: Mapping[str, np.ndarray], model: Model, max_days: float | str, worst: int) -> np.ndarray:
    """Fit mean, trend and season at some places.

    Parameters
    ----------
    given : mapping of str to array (pairs, places), or (pairs, 1) if the same everywhere
        ``vx``, ``vy`` (m/yr; NaN where there is no vector), and ``vx_error``, ``vy_error`` and ``status`` if they are known.
    model : Model
    max_days : float or str
        Longest baseline, or ``auto``.
    worst : int
        Highest status of vectors that are used.

    Returns
    -------
    float32 (15, places)
        In the order of ``RESULTS``.
    """
    count = given["vx"].shape[1]
    found = np.full((len(RESULTS), count), np.nan, np.float32)
    nothing = _told(np.zeros((1, len(model.days)), bool), model)[1][0]
    found[[RESULTS.index("count"), RESULTS.index("fit_flag")]] = np.array([[0], [nothing]])
    step = max(1, VALUES // max(1, len(model.days)))
    for here in (slice(start, min(start + step, count)) for start in range(0, count, step)):
        some = {name: np.ascontiguousarray((part if part.shape[1] == 1 else part[:, here]).T) for name, part in given.items()}
        usable = np.isfinite(some["vx"]) & np.isfinite(some["vy"])
        if "status" in some:
            usable &= some["status"] <= worst
        places = np.flatnonzero(usable.any(axis=1))
        if places.size:
            every = places.size == len(usable)
            part = {name: (values if every or len(values) == 1 else values[places]) for name, values in some.items()}
            found[:, here.start + places] = _fit(part, usable[places], model, max_days)
    return found


def _times(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the matrix product, in pieces that BLAS does not share out among threads: those are taken by other places."""
    made = np.zeros((len(values), matrix.shape[1]), np.float32)
    length = min(LONGEST, len(matrix))
    step = max(2, PIECE // (length * matrix.shape[1]))
    for row in range(0, len(values), step):
        for at in range(0, len(matrix), length):
            made[row : row + step] += values[row : row + step, at : at + length] @ matrix[at : at + length]
    return made


class _Component(NamedTuple):
    """One component at some places, (places, pairs): less its median, 0 where there is no vector; ``weight`` is 1 / variance."""

    value: np.ndarray
    weight: np.ndarray
    centre: np.ndarray


class _Solution(NamedTuple):
    """Parameters (places, 4), inverse of the normal matrix (places, 4, 4), largest of `ALIKE`, and residuals in stated errors."""

    parameters: np.ndarray
    inverse: np.ndarray
    alike: np.ndarray
    left: np.ndarray


def _fit(given: Mapping[str, np.ndarray], usable: np.ndarray, model: Model, max_days: float | str) -> np.ndarray:
    """Return the ``RESULTS`` of a few places, all of them with vectors."""
    vx, vy = (np.where(usable, given[name], np.nan).astype(np.float32, copy=False) for name in ("vx", "vy"))
    kept = usable & (model.days < longest_of(vx, vy, model.days, max_days)[:, None])
    unknown = np.full((1, len(model.days)), np.nan, np.float32)
    errors = (given.get(name, unknown).astype(np.float32, copy=False) for name in ("vx_error", "vy_error"))
    parts = [_component(value, error, kept) for value, error in zip((vx, vy), errors, strict=True)]
    trust = _least([trust_of(np.abs(part.value), kept, 1e-6) for part in parts], kept)
    columns, lack = _told(trust > 0, model)
    for _ in range(ROUNDS):
        solved = [_solve(part, trust, columns, model) for part in parts]
        trust = _least([trust_of(np.abs(one.left), kept) for one in solved], kept)
    solved = [_solve(part, trust, columns, model) for part in parts]
    shared = _shared(solved, trust, model)
    covariance = [_covariance(part, one, trust, columns, shared, model) for part, one in zip(parts, solved, strict=True)]
    lack |= _told(trust > 0, model)[1]
    lack |= np.where(np.maximum(*(one.alike for one in solved)) > ALIKE, int(Lack.NOT_TOLD_APART), 0)
    middle = [one.parameters + part.centre[:, None] * [1, 0, 0, 0] for one, part in zip(solved, parts, strict=True)]
    count = (trust > 0).sum(axis=1)
    return np.stack([*_along_flow(middle, covariance, lack, model), count, 100 * (1 - count / usable.sum(axis=1)), lack])


def _component(value: np.ndarray, error: np.ndarray, kept: np.ndarray) -> _Component:
    value = np.where(kept, value, np.nan)
    variance, centre = variance_of(value, error), np.nan_to_num(median(value.T))
    return _Component(np.where(kept, value - centre[:, None], 0), np.where(kept, 1 / np.where(kept, variance, 1), 0), centre)


def _least(trusts: list[np.ndarray], kept: np.ndarray) -> np.ndarray:
    """Return the trust in vectors of which both components count."""
    least: np.ndarray = np.where(kept, np.minimum(*trusts), 0)
    return least


def _told(used: np.ndarray, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Return which parameters the vectors of each place can bear, ``(places, 4)``, and what they lack, ``(places,)``."""
    count, ones = used.sum(axis=1), used.astype(np.float32)
    parts = _times(ones, model.parts)
    images = np.count_nonzero(abs(model.images).T @ ones.T, axis=0)
    years = np.where(used, model.years, -np.inf).max(axis=1) - np.where(used, model.years, np.inf).min(axis=1)
    empty = parts[:, :PARTS] == 0
    lacks = {
        Lack.FEW_VECTORS: count < FEW,
        Lack.SPARSE: (count < PAIRS) | (images < IMAGES),
        Lack.UNDER_TWO_YEARS: years < TREND_YEARS,
        Lack.UNDER_A_YEAR: years < SEASON_YEARS,
        Lack.GAP_IN_YEAR: np.all([np.roll(empty, k, axis=1) for k in range(GAP)], axis=0).any(axis=1),
        Lack.LONG_BASELINES: parts[:, PARTS] < PAIRS,
    }
    lack = np.sum([np.where(where, int(flag), 0) for flag, where in lacks.items()], axis=0)
    season = lack & int(NO_SEASON) == 0
    # Under two years a trend is not told, but where there is a season it would be taken for a part of it.
    trend = season | (lack & int(NO_TREND) == 0)
    return np.stack([np.ones_like(season), trend, season, season], axis=1), lack


def _solve(part: _Component, trust: np.ndarray, columns: np.ndarray, model: Model) -> _Solution:
    weight = part.weight * trust
    both = columns[:, :, None] & columns[:, None, :]
    normal = np.where(both, _times(weight, model.products).reshape(-1, 4, 4).astype(np.float64), np.eye(4))
    size = np.sqrt(np.maximum(np.diagonal(normal, axis1=1, axis2=2), 1e-30))
    scale = size[:, :, None] * size[:, None, :]
    inverse = np.where(both, np.linalg.inv(normal / scale + 1e-9 * np.eye(4)) / scale, 0.0)
    alone = np.diagonal(normal, axis1=1, axis2=2) - normal[:, 0] ** 2 / size[:, :1] ** 2
    alike = np.where(columns, np.diagonal(inverse, axis1=1, axis2=2) * alone, 0.0)[:, 1:].max(axis=1)
    parameters = np.einsum("pij,pj->pi", inverse, _times(weight * part.value, model.design))
    left = (part.value - _times(parameters.astype(np.float32), model.design.T)) * np.sqrt(part.weight)
    return _Solution(parameters, inverse, alike, left)


def _shared(solved: list[_Solution], trust: np.ndarray, model: Model) -> np.ndarray:
    """Return the correlation of the errors of two pairs that begin, or end, with the same image, ``(places,)``: 0 to 0.5."""
    squares, found = (trust**2).sum(axis=1), np.zeros(len(trust))
    possible = ((abs(model.images).T @ trust.T) ** 2).sum(axis=0) - 2 * squares
    for one in solved:
        off = one.left * trust
        own = (off**2).sum(axis=1)
        together = ((model.images.T @ off.T) ** 2).sum(axis=0) - 2 * own
        found += together * squares / np.maximum(own * possible, 1e-12) / len(solved)
    return np.where(possible > 0, np.clip(found, 0.0, 0.5), 0.0)


def _covariance(part: _Component, one: _Solution, trust: np.ndarray, columns: np.ndarray, shared: np.ndarray, model: Model) -> np.ndarray:
    """Return the covariance of the parameters, ``(places, 4, 4)``, with what pairs of the same image have in common."""
    free = np.maximum(KEPT * trust.sum(axis=1) - columns.sum(axis=1), 1)
    scale = np.maximum((trust * one.left**2).sum(axis=1) / free, 1.0)
    weight = trust * np.sqrt(part.weight)
    at_images = (model.shared.T @ weight.T).reshape(-1, 4, len(trust))
    own = _times(weight**2, model.products).reshape(-1, 4, 4)
    together = np.einsum("kip,kjp->pij", at_images, at_images)
    middle = (1 - 2 * shared)[:, None, None] * own + shared[:, None, None] * together
    covariance: np.ndarray = scale[:, None, None] * (one.inverse @ middle @ one.inverse)
    return covariance


def _along_flow(middle: list[np.ndarray], covariance: list[np.ndarray], lack: np.ndarray, model: Model) -> list[np.ndarray]:
    """Return the velocity and, along the mean flow, trend and season, as the first twelve ``RESULTS``; adds to what is lacking."""
    forward = np.eye(4)
    forward[0, 1] = model.ahead / model.half
    (x, y), (xx, yy) = ([part @ forward.T for part in middle], [forward @ part @ forward.T for part in covariance])
    v = np.hypot(x[:, 0], y[:, 0])
    to_east, to_north = (np.where(v > 0, part[:, 0] / np.where(v > 0, v, 1), np.sqrt(0.5)) for part in (x, y))
    along = to_east[:, None] * x + to_north[:, None] * y
    variance = to_east[:, None, None] ** 2 * xx + to_north[:, None, None] ** 2 * yy
    amplitude, phase = np.hypot(along[:, 2], along[:, 3]), np.arctan2(along[:, 3], along[:, 2])
    radial, across = (np.stack(part, axis=1) for part in ((np.cos(phase), np.sin(phase)), (-np.sin(phase), np.cos(phase))))
    season = variance[:, 2:, 2:]
    amplitude_error, across_error = (np.sqrt(np.einsum("pi,pij,pj->p", part, season, part)) for part in (radial, across))
    faint = (amplitude < FAINT * amplitude_error) & (lack & int(NO_SEASON) == 0)
    lack |= np.where(faint, int(Lack.FAINT_SEASON), 0)
    turn = DAYS_PER_YEAR / (2 * np.pi)
    errors = [np.sqrt(part[:, 0, 0]) for part in (variance, xx, yy)]
    velocity = [v, errors[0], x[:, 0], errors[1], y[:, 0], errors[2]]
    trend = [along[:, 1] / model.half, np.sqrt(variance[:, 1, 1]) / model.half]
    day = [turn * (phase % (2 * np.pi)), turn * across_error / np.maximum(amplitude, 1e-30)]
    season_of = [amplitude, amplitude_error]
    shown = [(velocity, Lack.FEW_VECTORS), (trend, NO_TREND), (season_of, NO_SEASON), (day, NO_SEASON | Lack.FAINT_SEASON)]
    return [np.where(lack & int(flags) == 0, part, np.nan) for parts, flags in shown for part in parts]
