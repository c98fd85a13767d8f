"""What stable ground says of every pair: its shift, and how far the formal errors fall short of the scatter that is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.optimize import nnls

from ftrack.grid import grid_of
from ftrack.schema import MOTION, Status
from ftrack.stable import NORMAL, Shift, StableSettings, fit_shift, shift_at, stable_nodes

CLASS, CLASSES = 50, 8
"""Least number of stable nodes in a class of formal error, and most classes."""


class Calibration(NamedTuple):
    """How the true error of a pair's displacement follows from the formal one: ``sqrt((scale formal)^2 + floor^2)``.

    ``scale_*`` are 1 or more, ``floor_*`` (px) is what texture does not explain (terrain, attitude, cloud shadow).
    ``shift_error_*`` (px) is the error of the shift itself.
    """

    scale_dx: float = 1.0
    scale_dy: float = 1.0
    floor_dx: float = 0.0
    floor_dy: float = 0.0
    shift_error_dx: float = 0.0
    shift_error_dy: float = 0.0


def calibrate(shift: Shift, motion: Mapping[str, np.ndarray], stable: np.ndarray | None, spacing: int) -> Calibration:
    """Compare the formal errors of one pair with what is left of its displacement over stable ground.

    Parameters
    ----------
    shift : Shift
        What ``ftrack.stable.fit_shift`` found for the pair.
    motion : mapping of str to array (y, x)
        ``dx, dy, dx_error, dy_error, chip_size, status`` on the nodes of the whole grid.
    stable : bool (y, x), optional
        Stable ground.
    spacing : int
        Pixels between nodes.

    Returns
    -------
    Calibration
        The formal errors as they are if there is no stable ground or no shift was found.

    Notes
    -----
    Nodes are sorted by formal error into classes; scale and floor are the non-negative least-squares fit to the robust
    variances of the classes. Chips of neighbouring nodes overlap, so a node counts as ``(spacing / chip_size)^2``
    independent ones, and the error of the shift is that of a median of so many values.
    """
    if stable is None or shift.flag == 0:
        return Calibration()
    shape = (stable.shape[0], stable.shape[1])
    chosen = stable & (motion["status"] == Status.MEASURED)
    chips = np.maximum(motion["chip_size"][chosen].astype(float), 1)
    independent = max(1.0, float(np.minimum(1.0, (spacing / chips) ** 2).sum()))
    found = []
    for name, expected, scatter in zip(("dx", "dy"), shift_at(shift, shape), (shift.scatter_dx, shift.scatter_dy), strict=True):
        left, formal = (motion[name] - expected)[chosen], motion[f"{name}_error"][chosen]
        found.append((*_fit_errors(left, formal), np.sqrt(np.pi / 2) * scatter / np.sqrt(independent)))
    return Calibration(*(float(value) for both in zip(*found, strict=True) for value in both))


def fit_pair(
    motion: Mapping[str, np.ndarray], stable: np.ndarray | None, settings: StableSettings, spacing: int
) -> tuple[Shift, Calibration]:
    """Fit the shift of one pair on stable ground, and compare its formal errors with what is left; see ``calibrate``."""
    shift = fit_shift(motion["dx"], motion["dy"], motion["status"] == Status.MEASURED, stable, settings)
    return shift, calibrate(shift, motion, stable, spacing)


def _fit_errors(left: np.ndarray, formal: np.ndarray) -> tuple[float, float]:
    """Return the scale (1 or more) and the floor that make formal errors agree with residuals."""
    known = np.isfinite(left) & np.isfinite(formal)
    left, formal = left[known].astype(float), formal[known].astype(float)
    if left.size < CLASS:
        return 1.0, 0.0
    classes = np.array_split(np.argsort(formal, kind="stable"), min(CLASSES, left.size // CLASS))
    squares = np.array([np.mean(formal[members] ** 2) for members in classes])
    variances = np.array([(NORMAL * np.median(np.abs(left[members]))) ** 2 for members in classes])
    weights = 1 / np.maximum(variances, squares)
    lacking = np.maximum(variances - squares, 0)
    (more, floor), _ = nnls(np.stack([squares, np.ones_like(squares)], axis=1) * weights[:, None], lacking * weights)
    return float(np.sqrt(1 + more)), float(np.sqrt(floor))


class Ground(NamedTuple):
    """What stable ground says of every pair, and where it is (bool (y, x), None = unknown)."""

    shifts: tuple[Shift, ...]
    calibrations: tuple[Calibration, ...]
    stable: np.ndarray | None


def find_shifts(motion: xr.Dataset, settings: StableSettings) -> Ground:
    """Find the shift and the calibration of every pair of a motion dataset; one pair is computed at a time.

    Parameters
    ----------
    motion : Dataset (pair, y, x)
        As ``ftrack.match_stack`` and ``ftrack.clean`` give it.
    settings : StableSettings
        Where the ground is stable.

    Returns
    -------
    Ground
        To be handed on: ``to_velocity(motion, *find_shifts(motion, settings))``.

    Raises
    ------
    Stop, Retry
        As ``ftrack.stable.stable_nodes``.
    """
    stable = stable_nodes(settings, grid_of(motion)).stable
    shifts, calibrations = [], []
    for index in range(motion.sizes["pair"]):
        one = motion.isel(pair=index)[[v.name for v in MOTION]].compute()
        values = {v.name: one[v.name].transpose("y", "x").values for v in MOTION}
        shift, calibration = fit_pair(values, stable, settings, int(motion.attrs["spacing"]))
        shifts.append(shift)
        calibrations.append(calibration)
    return Ground(tuple(shifts), tuple(calibrations), stable)
