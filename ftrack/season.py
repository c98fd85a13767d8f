"""What the ice does in a year: mean, trend and season of velocity at every place, with errors, as the mosaics of ITS_LIVE tell them."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.delayed import delayed

from ftrack.errors import Stop
from ftrack.means import DATES, names_of_images, within
from ftrack.schema import DAYS_PER_YEAR, Status
from ftrack.sinusoid import LACKS, RESULTS, Lack, Model, fit_places, model_of
from ftrack.weights import check_longest

BEGIN = np.datetime64("2000-01-01", "us")
DAY = np.timedelta64(86_400_000_000, "us")

VALUES = 2**23
"""Vectors of one task, at most, where places can be parted; what is read is 17 bytes a vector."""

KEPT = ("title", "run_id", "map_scale_corrected", "days_per_year", "velocity_frame", "epsg", "url", "radius")

UNITS = {"v_phase": "day of year", "dv_dt": "meter/year^2", "count": "1", "outlier_percent": "percent", "fit_flag": "1"}

TEXTS = {
    "v": "hypot(vx, vy)",
    "vx": "mean velocity towards grid east",
    "vy": "mean velocity towards grid north",
    "dv_dt": "trend along the mean flow, the direction of vx and vy",
    "v_amp": "mean seasonal amplitude along the mean flow, half of fastest less slowest",
    "v_phase": "day of the seasonal maximum along the mean flow, counted from 0 at the beginning of 1 January in a year of 365.25 days",
    "count": "image pairs that were used",
    "outlier_percent": "image pairs that were left out",
    "fit_flag": "why there is no velocity, trend or season",
}


def seasonal_fit(
    data: xr.Dataset, *, dates: Any = None, at: Any = None, max_days: float | str = "auto", filled: bool = False
) -> xr.Dataset:
    """Fit mean velocity, trend and season to the velocities of pairs at every place, as lazily as they are given.

    The model of both components is ``mean + trend t + c cos(2 pi t) + s sin(2 pi t)``, t in years. A pair tells its mean over the days
    between its images, so that long baselines, over which a season averages out, do not damp the amplitude. Vectors are weighted by
    1 / error^2 and count less the more they contradict the others. Trend and season are told along the mean flow.

    Parameters
    ----------
    data : Dataset
        ``vx``, ``vy`` over ``mid_date`` and any other dimensions, with the two dates of every pair: a cube, ours or of ITS_LIVE, or what
        `ftrack.point_series` has read of one. A large one is best opened with ``open_cube(..., in_order=False)``.
    dates : str or pair of dates, optional
        Only pairs whose middle lies in this span.
    at : str or date, optional
        Date for which mean velocity is told where there is a trend; the middle of all pairs if not given.
    max_days : float or str
        Longest pairs that are used, as in `ftrack.regular_series`.
    filled : bool
        Use vectors that were filled from their neighbours too.

    Returns
    -------
    Dataset over the other dimensions
        ``v, vx, vy`` (m/yr), ``dv_dt`` (m/yr^2), ``v_amp`` (m/yr), ``v_phase`` (day of the year of the maximum), their one-sigma errors,
        ``count`` (pairs used), ``outlier_percent``, and ``fit_flag``, whose bits say why something is missing:

        - no velocity with fewer than 5 vectors;
        - no trend and no season with fewer than 30 vectors or 10 images, or where mean, trend and season cannot be told apart;
        - no trend where the middles of pairs span less than two years;
        - no season where they span less than a year, with fewer than 30 vectors of under 270 days, or where a third of the year is
          without one of these;
        - no day of the maximum where the amplitude is below three of its errors.

    Raises
    ------
    Stop
        Velocities or dates are missing, or no pair lies in the span.

    Notes
    -----
    The seasonal model is that of Greene et al. (2020), *The Cryosphere* 14, 4365, which ITS_LIVE uses; what weighs less is found by
    Tukey's weights. Errors follow from the covariance, raised where vectors scatter more than they say and by what pairs that share an
    image have in common. Other changes than trend and season, such as a surge, are in them only as scatter. An amplitude of noise
    alone is near 1.25 of its error, not 0.
    """
    if "mid_date" not in data.dims or not {"vx", "vy", *DATES} <= set(data.variables):
        raise Stop(f"there is nothing to fit: vx and vy over mid_date are needed, and {' and '.join(DATES)} of every pair")
    check_longest(max_days)
    data = within(data, dates)
    model, told = _model_of(data, at)
    whole = data["vx"].transpose("mid_date", ...)
    names = [name for name in ("vx", "vy", "vx_error", "vy_error", "status") if name in data]
    arrays = {name: _shaped(data[name], whole) for name in names}
    made = _lazily(arrays, model, max_days, filled)
    attrs = {name: data.attrs[name] for name in KEPT if name in data.attrs}
    return _described(made, whole, {**attrs, "Conventions": "CF-1.11", "reference_date": told, "pairs": data.sizes["mid_date"]})


def lacking(fit: xr.Dataset) -> dict[str, float]:
    """Return what is not told of some places, in words, and the share of places of which it is not, largest first."""
    flags = fit["fit_flag"].values
    shares = {told: float(np.mean((flags & int(flag)) > 0)) for flag, told in LACKS.items()}
    return {told: share for told, share in sorted(shares.items(), key=lambda row: -row[1]) if share > 0}


def _model_of(data: xr.Dataset, at: Any) -> tuple[Model, str]:
    """Return the model of the pairs, and the date for which velocity is told."""
    first, second = (data[name].values.astype("datetime64[us]") for name in DATES)
    if not (first < second).all():
        raise Stop("the first image of a pair has to be the earlier one; some pairs have no dates, or the same date twice")
    ends = np.stack([data[name].values for name in names_of_images(data)])
    images = np.unique(ends, return_inverse=True)[1].reshape(2, -1)
    middle = first.min() + (second.max() - first.min()) // 2
    try:
        moment = middle if at is None else np.datetime64(pd.Timestamp(at).tz_localize(None), "us")
    except (ValueError, TypeError):
        raise Stop(f"{at!r} is not a date such as 2018-01-01") from None
    day = moment.astype("datetime64[D]")
    before, after, told = ((part - BEGIN) / DAY / DAYS_PER_YEAR for part in (first, second, day))
    return model_of(before, after, images, float(told)), str(day)


def _shaped(array: xr.DataArray, whole: xr.DataArray) -> Any:
    """Return values with pairs first, and length 1 along what they do not depend on."""
    missing = [name for name in whole.dims if name not in array.dims]
    return array.expand_dims(missing).transpose(*whole.dims).data


def _lazily(arrays: dict[str, Any], model: Model, max_days: float | str, filled: bool) -> Any:
    """Return ``RESULTS`` before the other dimensions, in tasks of all pairs of some places; at once unless what is given is lazy."""
    whole = arrays["vx"]
    lazy = isinstance(whole, da.Array)
    chunks = _places(whole.shape, [max(sizes) for sizes in whole.chunks[1:]] if lazy else whole.shape[1:])
    parts = []
    for values in arrays.values():
        here = tuple(-1 if length == 1 else chunk for length, chunk in zip(values.shape, chunks, strict=True))
        parts.append(values.rechunk(here) if isinstance(values, da.Array) else da.from_array(values, chunks=here))
    made = da.map_blocks(
        _fit_block, *parts, names=tuple(arrays), model=delayed(model, traverse=False), max_days=max_days, filled=filled,
        dtype=np.float32, chunks=((len(RESULTS),), *parts[0].chunks[1:]), meta=np.empty((0,) * whole.ndim, np.float32),
    )  # fmt: skip
    return made if lazy else made.compute(scheduler="threads")


def _places(shape: tuple[int, ...], stored: Any) -> tuple[int, ...]:
    """Return chunks of all pairs and of as many places as one task may have, parts of stored ones."""
    sizes = list(stored)
    for axis in range(len(sizes)):
        others = shape[0] * int(np.prod(sizes[:axis] + sizes[axis + 1 :]))
        sizes[axis] = int(np.clip(VALUES // max(others, 1), 1, sizes[axis]))
    return (-1, *sizes)


def _fit_block(*arrays: np.ndarray, names: tuple[str, ...], model: Model, max_days: float | str, filled: bool) -> np.ndarray:
    """Fit the places of one block; see `fit_places`."""
    flat = {name: np.asarray(values).reshape(len(values), -1) for name, values in zip(names, arrays, strict=True)}
    worst = int(Status.FILLED if filled else Status.MEASURED)
    return fit_places(flat, model, max_days, worst).reshape(len(RESULTS), *arrays[0].shape[1:])


def _described(made: Any, whole: xr.DataArray, attrs: dict[str, Any]) -> xr.Dataset:
    """Return results by name, with units and with what they mean."""
    variables = {}
    for name, values in zip(RESULTS, made, strict=True):
        of = name.removesuffix("_error")
        about: dict[str, Any] = {
            "long_name": TEXTS.get(name, f"one-sigma error of {of}"),
            "units": {"v_phase_error": "days"}.get(name, UNITS.get(of, "meter/year")),
        }
        if name == "fit_flag":
            about["flag_masks"] = [int(flag) for flag in Lack]
            about["flag_meanings"] = " ".join(flag.name.lower() for flag in Lack if flag.name)
            about["comment"] = "; ".join(f"{int(flag)} {told}" for flag, told in LACKS.items())
        kind = {"count": np.uint32, "fit_flag": np.uint8}.get(name, np.float32)
        variables[name] = (whole.dims[1:], values.astype(kind), about)
    coords = {name: part for name, part in whole.coords.items() if "mid_date" not in part.dims}
    return xr.Dataset(variables, coords, attrs)
