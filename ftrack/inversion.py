"""A regular time series from pairs that overlap each other: inversion of the network of pairs, with an error for every interval."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import xarray as xr

from ftrack.errors import Stop
from ftrack.means import DATES, components, join_rows, names_of_images, within
from ftrack.schema import DAYS_PER_YEAR
from ftrack.smoother import CELLS, Network, products_of, solve_network, vectors_of
from ftrack.threads import at_once
from ftrack.velocity import speed
from ftrack.weights import check_longest, longest_of

COMPONENTS = ("vx", "vy")
NAMES = ("vx", "vx_error", "vy", "vy_error", "v", "v_error")
MOST_INTERVALS = 600
MOST_IMAGES = 900
"""Images whose errors are told apart; of more, those that lie together in time share one."""

KEPT = ("title", "map_scale_corrected", "days_per_year", "velocity_frame", "epsg", "Conventions", "radius")
DAY = np.timedelta64(86_400_000_000, "us")


class _Settings(NamedTuple):
    max_days: float | str
    smoothness: float | None
    filled: bool


def regular_series(
    data: xr.Dataset,
    *,
    every: float | str = "month",
    dates: Any = None,
    max_days: float | str = "auto",
    smoothness: float | None = None,
    filled: bool = False,
) -> xr.Dataset:
    """Turn velocities of pairs, which overlap and are of all lengths, into velocities of equal intervals that follow each other.

    Every pair tells the mean velocity over the intervals that it spans. These equations are solved by least squares for every place,
    weighted by 1 / error^2 and without vectors that contradict the others. Velocity goes on changing as it did but for a random bend,
    and part of the error of a vector is an error of the position of its two images, which other pairs of these images share. How large
    the bends are, and how large that part, the vectors tell themselves (restricted maximum likelihood).

    Parameters
    ----------
    data : Dataset
        ``vx``, ``vy`` over ``mid_date`` and any other dimensions, with the two dates of every pair: a cube, ours or of ITS_LIVE, or what
        `ftrack.point_series` has read of one.
    every : float or str
        Length of the intervals: days, or ``month`` or ``year`` of the calendar.
    dates : str or pair of dates, optional
        Only pairs whose middle lies in this span.
    max_days : float or str
        Longest pairs that are used. ``auto`` leaves out baselines from which on pairs are slower than the shortest ones, place by
        place, where there are 50 pairs of each to tell.
    smoothness : float, optional
        Standard deviation, m/yr, of the bend of a component from one interval to the next two, ``a - 2 b + c``; found from the vectors if
        not given.
    filled : bool
        Use vectors that were filled from their neighbours too.

    Returns
    -------
    Dataset over ``mid_date`` (middles of the intervals) and the other dimensions
        ``vx, vy, v``, their one-sigma errors (m/yr), and ``count``, the pairs that tell of the interval; NaN where none does.
        ``acquisition_date_img1`` and ``_img2`` are the ends of the intervals, so that whatever reads a series reads this one. It begins
        and ends where some place has a velocity.

    Raises
    ------
    Stop
        Velocities or dates are missing, no pair lies in the span, or the intervals are none or too many.

    Notes
    -----
    The model is an integrated random walk that is observed through means, solved by its normal equations. Errors are raised where the
    vectors scatter more than they say; changes of speed within an interval are not in them. Without bends that are small and images
    that err, this is the leap-frog solution of Charrier et al. (2022), *IEEE Trans. Geosci. Remote Sens.* 60, on intervals of its own.
    """
    if "mid_date" not in data.dims or not {"vx", "vy", *DATES} <= set(data.variables):
        raise Stop(f"there is nothing to invert: vx and vy over mid_date are needed, and {' and '.join(DATES)} of every pair")
    check_longest(max_days)
    if smoothness is not None and not 0 < smoothness < np.inf:
        raise Stop(f"smoothness {smoothness:g} is not one: give m/yr, above 0")
    settings = _Settings(max_days, smoothness, filled)
    data = within(data, dates)
    network = _network_of(data, every)
    parts = [data.isel(y=[row]) for row in range(data.sizes["y"])] if "y" in data.dims else [data]
    made = join_rows(at_once(lambda part: _series_of(part, network, settings), parts))
    made = _dated(made, network.edges)
    told = np.flatnonzero((made["count"] > 0).any([name for name in made["count"].dims if name != "mid_date"]))
    made = made.isel(mid_date=slice(told[0], told[-1] + 1) if told.size else slice(0, 0))
    kept = {name: value for name, value in data.attrs.items() if name in KEPT}
    return made.assign_attrs({**kept, "intervals": f"{every}", "pairs": data.sizes["mid_date"]})


def edges_of(first: np.datetime64, last: np.datetime64, every: float | str) -> np.ndarray:
    """Return the ends of the intervals from a first to a last moment, ``datetime64[us]``.

    Raises
    ------
    Stop
        The length is neither days nor ``month`` nor ``year``, or there would be too many intervals.
    """
    text = str(every).strip().lower()
    if text in ("month", "year"):
        unit = "M" if text == "month" else "Y"
        edges = np.arange(first.astype(f"datetime64[{unit}]"), last.astype(f"datetime64[{unit}]") + 2).astype("datetime64[us]")
        edges = edges[: int(np.searchsorted(edges, last)) + 1]
        count = len(edges) - 1
    else:
        days = _days_in(text)
        start = first.astype("datetime64[D]").astype("datetime64[us]")
        count = int(np.ceil((last - start) / DAY / days))
        edges = start + (np.arange(min(count, MOST_INTERVALS) + 1) * (days * DAY.astype(int))).astype("timedelta64[us]")
    if count > MOST_INTERVALS:
        raise Stop(
            f"{count:,} intervals of {every} are too many: make them longer, or choose dates; at most {MOST_INTERVALS} are solved at once"
        )
    return edges


def _days_in(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = np.nan
    if not 0 < days < 1e5:
        raise Stop(f"intervals of {text!r} are not known: give a number of days, or 'month' or 'year'")
    return days


def _network_of(data: xr.Dataset, every: float | str) -> Network:
    """Return the intervals and which pairs span them.

    Raises
    ------
    Stop
        There are no pairs, or the second image of one is not the later one.
    """
    first, second = (data[name].values.astype("datetime64[us]") for name in DATES)
    if not (first < second).all():
        raise Stop("the first image of a pair has to be the earlier one; some pairs have no dates, or the same date twice")
    edges = edges_of(first.min(), second.max(), every)
    overlap = np.minimum(second[:, None], edges[None, 1:]) - np.maximum(first[:, None], edges[None, :-1])
    overlap, days = np.maximum(overlap / DAY, 0.0), (second - first) / DAY
    shares = overlap / days[:, None]
    tells = (np.maximum(shares, overlap / (np.diff(edges) / DAY)) >= 0.5).astype(float)
    years = days / DAYS_PER_YEAR
    design = scipy.sparse.csr_array(scipy.sparse.hstack([scipy.sparse.csr_array(shares), _ends(data, years)]))
    return Network(edges, design, products_of(design), years, tells)


def _ends(data: xr.Dataset, years: np.ndarray) -> Any:
    """Return by how much an error of the position of each image changes the velocity of each pair, ``(pairs, images)``, 1/yr."""
    images, numbers = np.unique(np.concatenate([data[name].values for name in names_of_images(data)]), return_inverse=True)
    if len(images) > MOST_IMAGES:
        images, numbers = np.unique(np.concatenate([data[name].values for name in DATES]), return_inverse=True)
        numbers = numbers * MOST_IMAGES // len(images)
    rows = np.tile(np.arange(len(years)), 2)
    ends = (np.concatenate([-1 / years, 1 / years]), (rows, numbers))
    return scipy.sparse.csr_array(ends, shape=(len(years), int(numbers.max()) + 1))


def _series_of(data: xr.Dataset, network: Network, settings: _Settings) -> xr.Dataset:
    """Return the series of every place of a part of a cube."""
    given = components(data, settings.filled)
    shape = given["vx"].shape[1:]
    flat = {name: values.reshape(len(values), -1).T for name, values in given.items()}
    days = network.years * DAYS_PER_YEAR
    kept = days < longest_of(flat["vx"], flat["vy"], days, settings.max_days)[:, None]
    known = np.flatnonzero((np.isfinite(flat["vx"]) & kept).any(axis=1))
    found = np.full((2, 2, len(kept), network.intervals), np.nan)
    count = np.zeros((len(kept), network.intervals))
    step = max(1, CELLS // network.design.shape[1] ** 2)
    for here in (known[start : start + step] for start in range(0, known.size, step)):
        vectors = [vectors_of(np.where(kept[here], flat[n][here], np.nan), flat[f"{n}_error"][here], network) for n in COMPONENTS]
        found[0][:, here], found[1][:, here], count[here] = solve_network(vectors, network, settings.smoothness)
    found[:, :, count == 0] = np.nan
    (vx, vy), (vx_error, vy_error) = found
    values = dict(zip(NAMES, (vx, vx_error, vy, vy_error, *speed(vx, vy, vx_error, vy_error)), strict=True))
    dims = ("mid_date", *(name for name in data["vx"].dims if name != "mid_date"))
    whole = (network.intervals, *shape)
    made = xr.Dataset({n: (dims, v.T.reshape(whole).astype(np.float32), {"units": "meter/year"}) for n, v in values.items()})
    made["count"] = (dims, count.T.reshape(whole).astype(np.uint32), {"long_name": "pairs that tell of the interval", "units": "1"})
    return made.assign_coords({name: c for name, c in data.coords.items() if "mid_date" not in c.dims})


def _dated(made: xr.Dataset, edges: np.ndarray) -> xr.Dataset:
    """Return a series with the middles of its intervals as its coordinate, and their ends where a pair has its dates."""
    lengths = np.diff(edges)
    made = made.assign_coords(mid_date=("mid_date", edges[:-1] + lengths // 2, {"long_name": "middle of the interval"}))
    for name, ends, long_name in zip(DATES, (edges[:-1], edges[1:]), ("beginning", "end"), strict=True):
        made[name] = ("mid_date", ends, {"long_name": f"{long_name} of the interval"})
    made["date_dt"] = ("mid_date", (lengths / DAY).astype(np.float32), {"long_name": "length of the interval", "units": "days"})
    return made
