"""How good a cube is, in numbers that need no truth, and how far two cubes of the same ice differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import ndimage

from ftrack.axes import warp_to
from ftrack.errors import Stop
from ftrack.grid import grid_of
from ftrack.means import NORMAL, average, components, median, names_of_images, within
from ftrack.schema import DAYS_PER_YEAR

MOST = 4_000_000
"""Vectors that are looked at, at most; of a larger cube every second, third, ... node along x and y."""

TRIANGLES = 24
"""Triangles of images that are looked at, at most, evenly chosen."""

SURPRISING = 3.0
"""Stated errors beyond which a vector or a difference is told as far off."""

Both = tuple[float, float]
"""A number for each component, towards grid east and grid north."""

UNKNOWN: Both = (float("nan"), float("nan"))


class Quality(NamedTuple):
    """What a cube says of its own quality; lengths are those of displacement within a pair, ground metres.

    ``measured`` is the share of nodes and pairs with a measured vector, ``error`` the median stated error. Over stable ground
    ``scatter`` is the robust standard deviation about zero, ``ratio`` that of vector over stated error (1 = honest, above = too small
    errors), ``far`` the share beyond three stated errors. ``closure`` is what is left of displacement from the first image to the
    second and on to the third, less that from the first to the third, and ``closure_ratio`` the same over its stated error, over
    ``triangles`` of images. NaN where there is nothing to tell it from.
    """

    pairs: int
    measured: float
    error: Both
    stable: int
    scatter: Both
    ratio: Both
    far: float
    triangles: int
    closure: Both
    closure_ratio: Both

    @property
    def lines(self) -> dict[str, str]:
        """The same for people: what is told, and how much it is; x and y where there are two numbers."""
        return {
            "pairs": f"{self.pairs:,}",
            "nodes measured, mean of the pairs": _percent(self.measured),
            "stated error, median": _metres(self.error),
            "vectors on stable ground": f"{self.stable:,}",
            "their scatter about zero": _metres(self.scatter),
            "their scatter over stated error": _numbers(self.ratio),
            "beyond three stated errors": _percent(self.far),
            "triangles of images": f"{self.triangles}",
            "what does not close": _metres(self.closure),
            "the same over stated error": _numbers(self.closure_ratio),
        }


class Difference(NamedTuple):
    """The second of two cubes less the first, over nodes that both have measured.

    ``pairs`` are those that both hold; if there are any, differences are of these, else of the medians over all pairs. ``unit`` is m of
    displacement within a pair, or m/yr. ``both``, ``first`` and ``second`` are the shares of vectors that both, only the first,
    and only the second have measured. ``ratio`` is the robust standard deviation of difference over the stated errors of both.
    """

    pairs: int
    unit: str
    both: float
    first: float
    second: float
    middle: Both
    scatter: Both
    ratio: Both
    far: float

    @property
    def lines(self) -> dict[str, str]:
        """The same for people: what is told, and how much it is; x and y where there are two numbers."""
        return {
            "pairs of both": f"{self.pairs:,}" if self.pairs else "none: medians over all pairs",
            "measured by both": _percent(self.both),
            "by the first only": _percent(self.first),
            "by the second only": _percent(self.second),
            "difference, median": f"{_numbers(self.middle, '+.2f')} {self.unit}",
            "its scatter": f"{_numbers(self.scatter)} {self.unit}",
            "difference over stated errors": _numbers(self.ratio),
            "beyond three stated errors": _percent(self.far),
        }


def judge_cube(cube: xr.Dataset, *, dates: Any = None) -> Quality:
    """Judge a cube by itself: how much it has measured, and how well that agrees with stable ground and with its own errors.

    Parameters
    ----------
    cube : Dataset (mid_date, y, x)
        From `ftrack.open_cube`. Stable ground is its ``stable``.
    dates : str or pair of dates, optional
        Only pairs whose middle lies in this span.

    Returns
    -------
    Quality

    Raises
    ------
    Stop
        There is no velocity over ``mid_date``, or no pair in the span.

    Notes
    -----
    Scatter over static ground, stated errors and coverage are what Zheng et al. (2023, *The Cryosphere* 17) judge feature tracking
    by. A triangle closes better than three independent errors would, since noise of an image enters two of its sides alike.
    """
    if not {"mid_date", "y", "x"} <= set(cube.dims) or "vx" not in cube:
        raise Stop("there is nothing to judge: vx and vy over mid_date, y and x are needed")
    cube = within(cube, dates)
    some = _thinned(cube)
    given, days = _displacement(some), some["date_dt"].values
    known = np.isfinite(given["vx"])
    ground = np.broadcast_to(some["stable"].values == 1 if "stable" in some else False, known.shape) & known
    over = [_over(given[c][ground], given[f"{c}_error"][ground]) for c in ("vx", "vy")]
    triangles = _triangles(cube)
    closed = [np.concatenate(parts) for parts in zip(*_closures(cube, triangles), strict=True)] or [np.empty(0)] * 4
    return Quality(
        pairs=days.size,
        measured=float(known.mean()),
        error=_pair(_middle(given[f"{c}_error"][known]) for c in ("vx", "vy")),
        stable=int(ground.sum()),
        scatter=_pair(_spread(given[c][ground]) for c in ("vx", "vy")),
        ratio=_pair(_spread(part) for part in over),
        far=_share(np.maximum(*np.abs(over)) > SURPRISING),
        triangles=len(triangles),
        closure=_pair(_spread(part) for part in closed[:2]),
        closure_ratio=_pair(_spread(_over(*part)) for part in zip(closed[:2], closed[2:], strict=True)),
    )


def compare_cubes(first: xr.Dataset, second: xr.Dataset, *, dates: Any = None) -> Difference:
    """Compare two cubes of the same ice: other settings, another matcher, other images, or somebody else's.

    Parameters
    ----------
    first, second : Dataset (mid_date, y, x)
        From `ftrack.open_cube` or `ftrack.open_itslive`. The second is brought to the nodes and axes of the first if need be.
    dates : str or pair of dates, optional
        Only pairs whose middle lies in this span.

    Returns
    -------
    Difference

    Raises
    ------
    Stop
        They do not overlap, or have no node in common that both have measured.
    """
    first, second = within(first, dates), within(second, dates)
    if grid_of(first) != grid_of(second):
        second = warp_to(second, grid_of(first))
    common = _common(first, second)
    if common:
        one, other = (_displacement(_thinned(cube.isel(mid_date=[pair[k] for pair in common]))) for k, cube in enumerate((first, second)))
    else:
        one, other = (_of_median(cube) for cube in (first, second))
    has, also = np.isfinite(one["vx"]), np.isfinite(other["vx"])
    both = has & also
    if not both.any():
        raise Stop("the cubes have no node in common at which both have measured a vector")
    away = [(other[c] - one[c])[both] for c in ("vx", "vy")]
    over = [_over(part, np.hypot(one[f"{c}_error"], other[f"{c}_error"])[both]) for c, part in zip(("vx", "vy"), away, strict=True)]
    return Difference(
        pairs=len(common),
        unit="m" if common else "m/yr",
        both=float(both.mean()),
        first=float((has & ~also).mean()),
        second=float((also & ~has).mean()),
        middle=_pair(_middle(part) for part in away),
        scatter=_pair(_spread(part - np.median(part)) for part in away),
        ratio=_pair(_spread(part) for part in over),
        far=_share(np.maximum(*np.abs(over)) > SURPRISING),
    )


def _thinned(cube: xr.Dataset) -> xr.Dataset:
    """Leave out nodes of a cube that holds very many vectors."""
    step = int(np.ceil(np.sqrt(max(1.0, cube["vx"].size / MOST))))
    return cube.isel(y=slice(None, None, step), x=slice(None, None, step))


def _displacement(cube: xr.Dataset) -> dict[str, np.ndarray]:
    """Return measured velocity and its errors as displacement within each pair, ground metres: float64 (mid_date, y, x)."""
    years = cube["date_dt"].values.astype(float)[:, None, None] / DAYS_PER_YEAR
    return {name: values * years for name, values in components(cube, filled=False).items()}


def _of_median(cube: xr.Dataset) -> dict[str, np.ndarray]:
    made = average(_thinned(cube), method="median")
    return {name: made[name].values.astype(float) for name in ("vx", "vy", "vx_error", "vy_error")}


def _common(first: xr.Dataset, second: xr.Dataset) -> list[tuple[int, int]]:
    """Return where both cubes hold the same pair of images."""
    names = names_of_images(first)
    if not names or names != names_of_images(second):
        return []
    there = {pair: index for index, pair in enumerate(_images(second, names))}
    return [(index, there[pair]) for index, pair in enumerate(_images(first, names)) if pair in there]


def _images(cube: xr.Dataset, names: tuple[str, ...]) -> list[tuple[str, str]]:
    before, after = (cube[name].values.astype(str).tolist() for name in names)
    return list(zip(before, after, strict=True))


def _triangles(cube: xr.Dataset) -> list[tuple[int, int, int]]:
    """Return the pairs from a first image to a second, from there to a third, and from the first to the third."""
    names = names_of_images(cube)
    pairs = {pair: index for index, pair in enumerate(_images(cube, names))} if names else {}
    after: dict[str, list[str]] = {}
    for before, image in pairs:
        after.setdefault(before, []).append(image)
    found = [(pairs[a, b], pairs[b, c], pairs[a, c]) for a, b in pairs for c in after.get(b, []) if (a, c) in pairs]
    chosen = np.unique(np.linspace(0, len(found) - 1, min(len(found), TRIANGLES)).round().astype(int))
    return [found[index] for index in chosen]


def _closures(cube: xr.Dataset, triangles: Sequence[tuple[int, int, int]]) -> Iterator[tuple[np.ndarray, ...]]:
    """Give what is left of every triangle where all three sides are measured, x and y, and its stated errors, ground metres."""
    scale, size = cube["scale_factor"].values if "scale_factor" in cube else 1.0, grid_of(cube).resolution
    for triangle in triangles:
        first, second, whole = (_displacement(cube.isel(mid_date=[index])) for index in triangle)
        rows, columns = np.indices(first["vx"].shape[1:]).astype(float)
        there = rows - first["vy"][0] * scale / size, columns + first["vx"][0] * scale / size
        moved = {name: _sample(part[0], there) for name, part in second.items()}
        left = [first[c][0] + moved[c] - whole[c][0] for c in ("vx", "vy")]
        squares = [first[c][0] ** 2 + moved[c] ** 2 + whole[c][0] ** 2 for c in ("vx_error", "vy_error")]
        known = np.isfinite(left[0])
        yield *(part[known] for part in left), *(np.sqrt(part[known]) for part in squares)


def _sample(values: np.ndarray, there: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Interpolate between nodes; NaN where one of the four is missing, or the place is."""
    known = np.isfinite(there[0]) & np.isfinite(there[1])
    places = [np.where(known, part, -2.0) for part in there]
    out: np.ndarray = ndimage.map_coordinates(values, places, order=1, mode="constant", cval=np.nan, prefilter=False)
    return out


def _over(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(values, errors, out=np.full(values.shape, np.nan), where=errors > 0))


def _pair(values: Iterator[float]) -> Both:
    first, second = values
    return first, second


def _middle(values: np.ndarray) -> float:
    return float(median(values)) if values.size else float("nan")


def _spread(values: np.ndarray) -> float:
    """Return the robust standard deviation about zero."""
    return NORMAL * _middle(np.abs(values))


def _share(far: np.ndarray) -> float:
    return float(far.mean()) if far.size else float("nan")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if np.isfinite(share) else "-"


def _numbers(values: Both, form: str = ".2f") -> str:
    return ", ".join(format(value, form) for value in values) if np.isfinite(values).all() else "-"


def _metres(values: Both) -> str:
    return f"{_numbers(values)} m" if np.isfinite(values).all() else "-"
