"""The demonstration: a simulated archive whose motion is known, and how well a cube of it agrees with that truth."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ftrack.config import Workflow, write_workflow
from ftrack.errors import Stop
from ftrack.scenes import Scene
from ftrack.schema import DAYS_PER_YEAR, Status
from ftrack.synthetic import Archive, ArchiveSettings
from ftrack.view import plot_quality, plot_scenes, plot_series, plot_velocity, save_picture
from ftrack.view.dates import as_dates
from ftrack.view.frames import choose_frame
from ftrack.view.plots import name_above

PAIRS = {"min_days": 5, "max_days": 10}
MATCHER = {"chip_sizes": [16, 32, 64], "spacing": 8, "search_radius": 12}

WRONG = 1.0
"""Displacement error in px beyond which a vector counts as wrong."""


class Score(NamedTuple):
    """How a cube of a simulated archive compares with its truth.

    Attributes
    ----------
    pairs, vectors : int
        Pairs of the cube, and measured vectors of all of them; filled ones are not counted.
    valid : float
        Share of the nodes that neither cloud nor an edge touches, in either image, that were measured.
    rmse : float
        Root mean square error of a component of the displacement, px, of all measured vectors.
    wrong : float
        Share of the measured vectors whose displacement is wrong by more than 1 px.
    stable_error, ice_error : float
        Median length of the error over rock and over ice, px.
    stable_error_velocity, ice_error_velocity : float
        The same, m/yr.
    stable_within, ice_within : (float, float)
        Shares of the components whose error is at most one and two of the stated errors, over rock and over ice.
    """

    pairs: int
    vectors: int
    valid: float
    rmse: float
    wrong: float
    stable_error: float
    stable_error_velocity: float
    ice_error: float
    ice_error_velocity: float
    stable_within: tuple[float, float]
    ice_within: tuple[float, float]

    @property
    def lines(self) -> dict[str, str]:
        """The score for people: what is measured, and how much it is."""
        return {
            "vectors": f"{self.vectors:,} measured in {self.pairs} pairs",
            "median error on stable ground": f"{self.stable_error:.3f} px, {self.stable_error_velocity:.1f} m/yr",
            "median error on ice": f"{self.ice_error:.3f} px, {self.ice_error_velocity:.1f} m/yr",
            "RMSE of a component": f"{self.rmse:.3f} px",
            "measured, of clear nodes": f"{100 * self.valid:.1f} %",
            f"wrong by over {WRONG:g} px": f"{100 * self.wrong:.3f} %",
            "within 1, 2 sigma on rock": _percent(self.stable_within),
            "within 1, 2 sigma on ice": f"{_percent(self.ice_within)} (normal: 68 %, 95 %)",
        }


def _percent(shares: tuple[float, float]) -> str:
    return ", ".join(f"{100 * share:.0f} %" for share in shares)


class _Errors(NamedTuple):
    """Errors of the measured vectors of one pair, those of components also over the stated ones, and how many clear nodes were measured."""

    component_px: np.ndarray
    length_px: np.ndarray
    length_velocity: np.ndarray
    rock: np.ndarray
    sigmas: np.ndarray
    clear: int
    clear_measured: int


def demo_archive(size: int = 1024, scenes: int = 8) -> ArchiveSettings:
    """Return what to simulate; smaller scenes hold a slower glacier, so that the ice stays in the picture."""
    return ArchiveSettings(shape=(size, size), scenes=scenes, max_speed=2500.0 * min(1.0, size / 1024))


def demo_workflow(archive: Archive, folder: Path) -> Path:
    """Write the workflow file that makes a cube of a simulated archive, and return its path; its paths are relative to it."""
    catalog, rock = (os.path.relpath(path, folder) for path in (archive.collection, archive.rock_outline))
    workflow = Workflow.read(
        {
            "name": "Simulated outlet glacier",
            "scenes": {"catalog": catalog, "asset": "nir", "mask": {"asset": "scl", "values": [0, 8, 9]}},
            "pairs": PAIRS,
            "matcher": MATCHER,
            "stable": {"area": rock},
            "output": "velocity.zarr",
        }
    )
    path = folder / "workflow.yaml"
    path.write_text(write_workflow(workflow), encoding="utf-8")
    return path


def score_cube(cube: xr.Dataset, archive: Archive, reach: int = 32) -> Score:
    """Compare a cube with the known motion of the archive it was made of.

    Parameters
    ----------
    cube : Dataset
        As `ftrack.open_cube` returns it.
    archive : Archive
        The simulated archive and its truth.
    reach : int
        Half the side of the largest chip, px. A node is clear if no cloud and no edge of the data comes closer
        to it, in either image.

    Raises
    ------
    Stop
        The cube is of other images, or nothing in it was measured.
    """
    found = list(_errors_of_pairs(cube, archive, reach))
    component, length, velocity, rock, sigmas = (
        np.concatenate([getattr(one, name) for one in found], axis=-1) for name in _Errors._fields[:5]
    )
    if component.size == 0:
        raise Stop("the cube holds no measured vector, so there is nothing to compare with the truth")
    clear = sum(one.clear for one in found)
    return Score(
        pairs=cube.sizes["mid_date"],
        vectors=length.size,
        valid=sum(one.clear_measured for one in found) / max(clear, 1),
        rmse=float(np.sqrt(np.mean(component**2))),
        wrong=float(np.mean(length > WRONG)),
        stable_error=_median(length[rock]),
        stable_error_velocity=_median(velocity[rock]),
        ice_error=_median(length[~rock]),
        ice_error_velocity=_median(velocity[~rock]),
        stable_within=_within(sigmas[:, rock]),
        ice_within=_within(sigmas[:, ~rock]),
    )


def _within(sigmas: np.ndarray) -> tuple[float, float]:
    one, two = (float(np.mean(np.abs(sigmas) <= count)) if sigmas.size else float("nan") for count in (1, 2))
    return one, two


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else float("nan")


def _errors_of_pairs(cube: xr.Dataset, archive: Archive, reach: int) -> Iterator[_Errors]:
    x, y = np.meshgrid(cube["x"].values, cube["y"].values)
    rock = archive.rock(x, y)
    scale, step = cube["scale_factor"].values, archive.settings.resolution
    for index in range(cube.sizes["mid_date"]):
        one = cube[["vx", "vy", "vx_error", "vy_error", "status", "scene_ids_img1", "scene_ids_img2"]].isel(mid_date=index).load()
        first, second = str(one["scene_ids_img1"].item()), str(one["scene_ids_img2"].item())
        true_x, true_y = archive.true_pair_velocity(first, second, x, y)
        dx, dy = archive.true_displacement(first, second, x, y)
        shift = archive.pair_shift(first, second)
        to_x, to_y = x + (dx + shift[0]) * step, y - (dy + shift[1]) * step
        clear = archive.clear(first, x, y, reach) & archive.clear(second, to_x, to_y, reach)
        measured = one["status"].values == int(Status.MEASURED)
        years = (archive.scene(second).day - archive.scene(first).day) / DAYS_PER_YEAR
        error = np.stack([one["vx"].values - true_x, one["vy"].values - true_y])[:, measured].astype(float)
        pixels = error * scale[measured] * years / step
        yield _Errors(
            pixels.ravel(),
            np.hypot(*pixels),
            np.hypot(*error),
            rock[measured],
            error / np.stack([one["vx_error"].values, one["vy_error"].values])[:, measured],
            int(clear.sum()),
            int((clear & measured).sum()),
        )


def draw_demo(cube: xr.Dataset, archive: Archive, scenes: Sequence[Scene], folder: Path) -> list[Path]:
    """Write the pictures of the demonstration and return their paths.

    Raises
    ------
    Stop
        Nothing in the cube was measured.
    """
    frame = choose_frame(cube, ("vx", "vy", "status"), "median")
    often = frame.values["status"] if cube.sizes["mid_date"] > 1 else (frame.values["status"] == int(Status.MEASURED)).astype(float)
    if not often.any():
        raise Stop("the cube holds no measured vector, so there is nothing to draw")
    speed = np.hypot(frame.values["vx"], frame.values["vy"])
    row, column = np.unravel_index(np.argmax(np.where(often >= 0.9 * often.max(), speed, 0)), speed.shape)
    x, y = float(frame.grid.x[column]), float(frame.grid.y[row])
    velocity = plot_velocity(cube, "median")
    velocity.plot([x / 1000], [y / 1000], "P", ms=10, mfc="#c8322b", mec="white")
    series = plot_series(cube, x=x, y=y)
    _draw_truth(series, cube, archive, (x, y))
    drawn: dict[str, Axes | Figure] = {
        "velocity": velocity,
        "quality": plot_quality(cube, 0),
        "series": series,
        "scenes": plot_scenes(scenes),
    }
    return [save_picture(one, folder / f"{name}.png") for name, one in drawn.items()]


def _draw_truth(ax: Axes, cube: xr.Dataset, archive: Archive, place: tuple[float, float]) -> None:
    x, y = (np.asarray(value) for value in place)
    first, last = cube["acquisition_date_img1"].values.min(), cube["acquisition_date_img2"].values.max()
    times = first + (last - first) * np.linspace(0, 1, 50)
    speed = [float(np.hypot(*archive.true_velocity(x, y, time))) for time in times]
    ax.plot(as_dates(times), speed, color="#c8322b", linewidth=1.2, label="truth", zorder=1)
    name_above(ax)
