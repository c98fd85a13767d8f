"""One velocity from many pairs: which pairs are meant, and their robust mean with an error, component by component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import dask
import numpy as np
import pandas as pd
import xarray as xr

from ftrack.errors import Stop
from ftrack.extent import read_dates
from ftrack.schema import Status
from ftrack.velocity import speed

NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

FAR = 3.5
"""Robust standard deviations from the median beyond which a vector is left out."""

FEW = 5
"""Vectors below which their scatter alone tells nothing."""

ROWS = 128
"""Rows of nodes that are averaged at once."""

IDS = ("image_id_img1", "image_id_img2")
DATES = ("acquisition_date_img1", "acquisition_date_img2")
ABOUT_PAIRS = (*DATES, "date_dt", "mission_img1", "mission_img2", "satellite_img1", "satellite_img2")
"""What cubes, ours and others', say of every pair."""

Method = Literal["weighted", "median"]


def pair_index(cube: xr.Dataset, pair: int | str | Any | None) -> int | None:
    """Return the position of a pair in the cube, or None for the median over all pairs, where there are several.

    Raises
    ------
    Stop
        There is no such position, or the text is neither a number, nor a date, nor ``median``.
    """
    count = cube.sizes["mid_date"]
    if count == 0:
        raise Stop("the cube holds no pair, so there is nothing to show")
    if pair is None:
        return 0 if count == 1 else None
    if isinstance(pair, str) and pair == "median":
        return 0 if count == 1 else None
    if isinstance(pair, str) and pair.lstrip("-").isdigit() and len(pair.lstrip("-")) < 6:
        pair = int(pair)
    if isinstance(pair, int | np.integer):
        if not -count <= pair < count:
            raise Stop(f"there is no pair {pair}: the cube holds {count}, numbered 0 to {count - 1}")
        return int(pair) % count
    try:
        date = pd.Timestamp(pair)
    except (ValueError, TypeError):
        raise Stop(f"the pair {pair!r} is neither a number, nor a date such as 2020-01-16, nor 'median'") from None
    date = date.tz_convert(None) if date.tzinfo else date
    return int(np.argmin(np.abs(cube["mid_date"].values - np.datetime64(date, "ns"))))


def within(data: xr.Dataset, dates: Any) -> xr.Dataset:
    """Return the pairs whose middle lies in a span of time, as `ftrack.extent.read_dates` reads it; all of them for None.

    Raises
    ------
    Stop
        The dates cannot be read, or no pair lies between them.
    """
    if dates is None:
        return data
    span, middle = read_dates(dates), data["mid_date"].values
    kept = np.ones(middle.shape, bool)
    for end, sign in ((span.start, 1), (span.end, -1)):
        if end is not None:
            kept &= sign * (middle - np.datetime64(end.replace(tzinfo=None), "us")).astype("timedelta64[us]").astype(int) >= 0
    if not kept.any():
        there = f"{str(middle.min())[:10]} to {str(middle.max())[:10]}" if middle.size else "none"
        raise Stop(f"no pair has its middle in {dates}; the pairs there are: {there}")
    return data if kept.all() else data.isel(mid_date=np.flatnonzero(kept))


def components(data: xr.Dataset, filled: bool) -> dict[str, np.ndarray]:
    """Read ``vx``, ``vy`` and their errors as float64 with ``mid_date`` first, NaN wherever there is no vector to be used.

    Parameters
    ----------
    data : Dataset
        A cube or a part of one. Errors may be given per pair; NaN where the cube has none.
    filled : bool
        Use vectors that were filled from their neighbours too.
    """
    names = [name for name in ("vx", "vy", "vx_error", "vy_error", "status") if name in data]
    # A cluster that is at work has other things to do first.
    with dask.config.set(scheduler="threads"):
        read = data[names].load()
    whole = read["vx"].transpose("mid_date", ...)
    out = {name: whole.copy(data=_like(read, name, whole)).values for name in ("vx", "vy", "vx_error", "vy_error")}
    usable = np.isfinite(out["vx"]) & np.isfinite(out["vy"])
    if "status" in read:
        usable &= read["status"].transpose(*whole.dims).values <= (Status.FILLED if filled else Status.MEASURED)
    return {name: np.where(usable, values, np.nan) for name, values in out.items()}


def _like(data: xr.Dataset, name: str, whole: xr.DataArray) -> np.ndarray:
    if name not in data:
        return np.full(whole.shape, np.nan)
    return data[name].broadcast_like(whole).transpose(*whole.dims).values.astype(np.float64)


def average(data: xr.Dataset, *, method: Method = "weighted", dates: Any = None, filled: bool = False) -> xr.Dataset:
    """Average velocity over pairs: the components, not the speed, which noise only ever makes larger.

    Parameters
    ----------
    data : Dataset
        ``vx``, ``vy`` over ``mid_date`` and any other dimensions: a cube, a series, a profile.
    method : str
        ``weighted``: by 1 / error^2, without vectors far from the median. ``median``: of every component.
    dates : str or pair of dates, optional
        Only pairs whose middle lies in this span.
    filled : bool
        Use vectors that were filled from their neighbours too.

    Returns
    -------
    Dataset
        ``vx, vy, v``, their one-sigma errors (m/yr) and ``count``, the vectors that were used, over the other dimensions.

    Raises
    ------
    Stop
        There is no velocity over ``mid_date``, no pair in the span, or the method is not known.

    Notes
    -----
    Where pairs scatter more than their errors say, the error is that of the scatter. A network of m images has only
    m - 1 independent displacements however many pairs it has, so the variance of a mean of n pairs is raised by n / (m - 1).
    """
    if method not in ("weighted", "median"):
        raise Stop(f"the method {method!r} is not known; choose 'weighted' or 'median'")
    if "mid_date" not in data.dims or not {"vx", "vy"} <= set(data.data_vars):
        raise Stop("there is nothing to average: vx and vy over mid_date are needed")
    data = within(data, dates)
    shared = _shared(data)
    if "y" not in data.dims:
        parts = [_average_part(data, method, filled, shared)]
    else:
        starts = range(0, data.sizes["y"], ROWS)
        parts = [_average_part(data.isel(y=slice(s, s + ROWS)), method, filled, shared) for s in starts]
    made = join_rows(parts)
    kept = {name: data.attrs[name] for name in ("title", "map_scale_corrected", "days_per_year") if name in data.attrs}
    made.attrs = {**kept, "method": method, "pairs": data.sizes["mid_date"]}
    return made


def velocity_of(data: xr.Dataset, pair: int | str | Any | None = None, *, dates: Any = None, filled: bool = False) -> xr.Dataset:
    """Return one velocity for every place: that of a pair, or the median over pairs.

    Parameters
    ----------
    data : Dataset
        ``vx``, ``vy`` and what else there is, with or without ``mid_date``.
    pair : int, str, datetime or None
        Position, date, or ``"median"``; None is the only pair, else the median.
    dates : str or pair of dates, optional
        The median over the pairs whose middle lies in this span.
    filled : bool
        Use vectors that were filled from their neighbours too.

    Returns
    -------
    Dataset
        As of `average`; the attribute ``shown`` says what it is.

    Raises
    ------
    Stop
        There is no such pair.
    """
    if "mid_date" not in data.dims:
        data, index = data.expand_dims("mid_date"), 0
    else:
        found = pair_index(data, pair) if dates is None else None
        if found is None:
            made = average(data, method="median", dates=dates, filled=filled)
            return made.assign_attrs(shown=f"median of {made.attrs['pairs']} pairs")
        index = found
    one = data.isel(mid_date=[index])
    days = [str(one[name].values[0])[:10] for name in DATES if name in one]
    return average(one, filled=filled).assign_attrs(shown=" to ".join(days))


def _average_part(data: xr.Dataset, method: Method, filled: bool, shared: float) -> xr.Dataset:
    given = components(data, filled)
    kept = _near(given)
    found = {c: _centre(given[c], given[f"{c}_error"], kept, method, shared) for c in ("vx", "vy")}
    (vx, vx_error), (vy, vy_error) = found["vx"], found["vy"]
    v, v_error = speed(vx, vy, vx_error, vy_error)
    values = {"vx": vx, "vy": vy, "v": v, "vx_error": vx_error, "vy_error": vy_error, "v_error": v_error}
    dims = [name for name in data["vx"].dims if name != "mid_date"]
    coords = {name: c for name, c in data.coords.items() if "mid_date" not in c.dims}
    made = xr.Dataset({name: (dims, part.astype(np.float32), {"units": "meter/year"}) for name, part in values.items()}, coords)
    made["count"] = (dims, kept.sum(axis=0).astype(np.uint32), {"long_name": "pairs that were used", "units": "1"})
    return made


def _near(given: dict[str, np.ndarray]) -> np.ndarray:
    """Return which vectors lie near the median in both components, by the scatter and by their own errors."""
    near: np.ndarray = np.isfinite(given["vx"])
    few = near.sum(axis=0) < FEW
    for name in ("vx", "vy"):
        away, error = np.abs(given[name] - median(given[name])), given[f"{name}_error"]
        scatter = np.where(few & np.isnan(error), np.inf, NORMAL * median(away))
        allowed = FAR * np.fmax(scatter, error)
        near &= away <= np.maximum(allowed, 1e-6)
    return near


def _centre(values: np.ndarray, errors: np.ndarray, kept: np.ndarray, method: Method, shared: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean along the first axis and its error; NaN where nothing is known."""
    count = kept.sum(axis=0)
    some, more = np.maximum(count, 1), np.maximum(count - 1, 1)
    if method == "median":
        used = np.where(kept, values, np.nan)
        centre = median(used)
        sigma = np.maximum(NORMAL * median(np.abs(used - centre)), np.nan_to_num(median(np.where(kept, errors, np.nan))))
        variance = np.pi / 2 * sigma**2 / some
    else:
        weights = np.where(kept, _weights(errors), 0.0)
        total = np.where(count > 0, weights.sum(axis=0), 1.0)
        centre = np.where(count > 0, (weights * np.where(kept, values, 0.0)).sum(axis=0) / total, np.nan)
        excess = (weights * np.where(kept, values - centre, 0.0) ** 2).sum(axis=0) / more
        known = np.isfinite(np.where(kept, errors, 1.0)).all(axis=0)
        variance = np.where(known, np.maximum(excess, 1.0), np.where(count > 1, excess, np.nan)) / total
    return centre, np.where(count > 0, np.sqrt(variance * np.clip(count * shared, 1.0, None)), np.nan)


def _weights(errors: np.ndarray) -> np.ndarray:
    """Return 1 / error^2; all alike where a place has vectors without errors."""
    known = np.isfinite(errors) & (errors > 0)
    weights: np.ndarray = np.where(known, 1 / np.where(known, errors, 1.0) ** 2, 1.0)
    return weights


def median(values: np.ndarray) -> np.ndarray:
    """Return the median along the first axis without what is missing; NaN where all is."""
    ordered = np.sort(np.ascontiguousarray(np.moveaxis(values, 0, -1)), axis=-1)
    count = values.shape[0] - np.isnan(ordered).sum(axis=-1, keepdims=True)
    lower, upper = (np.take_along_axis(ordered, np.maximum(at, 0) // 2, -1)[..., 0] for at in (count - 1, count - count % 2))
    middle: np.ndarray = np.where(count[..., 0] % 2 == 1, lower, (lower + upper) / 2)
    return np.where(np.isfinite(middle), middle, np.nan)


def join_rows(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return parts that follow each other along ``y`` as one."""
    return parts[0] if len(parts) == 1 else xr.concat(parts, "y", data_vars="all", coords="minimal", compat="override", join="exact")


def names_of_images(data: xr.Dataset) -> tuple[str, ...]:
    """Return the variables that tell which images pairs are made of: identifiers, else dates; none if neither is there."""
    if all(n in data and (data[n] != "").all() for n in IDS):
        return IDS
    return DATES if all(n in data for n in DATES) else ()


def _shared(data: xr.Dataset) -> float:
    """Return 1 / (m - 1) for a network of m images; 0 where it is not known which images the pairs are made of."""
    images = {str(value) for name in names_of_images(data) for value in data[name].values}
    return 1 / (len(images) - 1) if len(images) > 1 else 0.0
