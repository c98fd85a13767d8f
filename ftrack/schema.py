"""The product: one row per variable, and the reasons a node may have for having no vector."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

DAYS_PER_YEAR = 365.25
"""The length of a year everywhere in ftrack; written to every cube as ``days_per_year``."""

ALGORITHM_VERSION = "5"
"""Raised when the same input would give other numbers, so that a run never mixes two algorithms."""


class Status(IntEnum):
    """Why a node has, or has not, a vector."""

    MEASURED = 0
    FILLED = 1
    NO_DATA = 2
    EDGE = 3
    NO_TEXTURE = 4
    LOW_CORRELATION = 5
    AMBIGUOUS = 6
    SEARCH_LIMIT = 7
    DIVERGED = 8
    ERROR_TOO_LARGE = 9
    OUTLIER = 10
    NOT_COMPUTED = 255


STATUS_TEXT: dict[Status, str] = {
    Status.MEASURED: "measured",
    Status.FILLED: "filled from its neighbours",
    Status.NO_DATA: "too few valid pixels (cloud, swath edge, gap)",
    Status.EDGE: "search window leaves the imagery at the peak",
    Status.NO_TEXTURE: "chip without texture",
    Status.LOW_CORRELATION: "correlation below the limit",
    Status.AMBIGUOUS: "second peak nearly as high as the first",
    Status.SEARCH_LIMIT: "peak at the limit of the search",
    Status.DIVERGED: "sub-pixel solution left the peak",
    Status.ERROR_TOO_LARGE: "estimated error above the limit",
    Status.OUTLIER: "does not agree with its neighbours",
    Status.NOT_COMPUTED: "not computed",
}


class Variable(NamedTuple):
    """One variable of the cube: its name, dimensions, type, fill value and CF attributes."""

    name: str
    dims: tuple[str, ...]
    dtype: str
    fill: float | int | str | None
    units: str
    long_name: str
    standard_name: str = ""
    comment: str = ""


CUBE = ("mid_date", "y", "x")
PAIR = ("mid_date",)

# The measurement of one pair, in pixels, in the order in which matchers return it.
MOTION: tuple[Variable, ...] = (
    Variable("dx", CUBE, "float32", float("nan"), "pixel", "displacement to the right"),
    Variable("dy", CUBE, "float32", float("nan"), "pixel", "displacement downwards"),
    Variable("correlation", CUBE, "float32", float("nan"), "1", "zero-normalised correlation coefficient at the peak"),
    Variable("peak_ratio", CUBE, "float32", float("nan"), "1", "highest over second-highest correlation peak"),
    Variable("dx_error", CUBE, "float32", float("nan"), "pixel", "one-sigma error of dx"),
    Variable("dy_error", CUBE, "float32", float("nan"), "pixel", "one-sigma error of dy"),
    Variable("chip_size", CUBE, "uint16", 0, "pixel", "side of the chip that was matched; 0 = none"),
    Variable("status", CUBE, "uint8", int(Status.NOT_COMPUTED), "1", "why this node has, or has not, a vector"),
)

VELOCITY: tuple[Variable, ...] = (
    Variable("vx", CUBE, "float32", float("nan"), "meter/year", "velocity towards grid east", "land_ice_surface_x_velocity"),
    Variable("vy", CUBE, "float32", float("nan"), "meter/year", "velocity towards grid north", "land_ice_surface_y_velocity"),
    Variable("v", CUBE, "float32", float("nan"), "meter/year", "speed"),
    Variable("vx_error", CUBE, "float32", float("nan"), "meter/year", "one-sigma error of vx"),
    Variable("vy_error", CUBE, "float32", float("nan"), "meter/year", "one-sigma error of vy"),
    Variable("v_error", CUBE, "float32", float("nan"), "meter/year", "one-sigma error of v"),
    Variable("interp_mask", CUBE, "uint8", 255, "1", "1 = filled from neighbours, 0 = measured or missing"),
    Variable("correlation", CUBE, "float32", float("nan"), "1", "zero-normalised correlation coefficient at the peak"),
    Variable("peak_ratio", CUBE, "float32", float("nan"), "1", "highest over second-highest correlation peak"),
    Variable("chip_size", CUBE, "uint16", 0, "pixel", "side of the chip that was matched; 0 = none"),
    Variable("status", CUBE, "uint8", int(Status.NOT_COMPUTED), "1", "why this node has, or has not, a vector"),
)

PER_PAIR: tuple[Variable, ...] = (
    Variable("acquisition_date_img1", PAIR, "datetime64[us]", None, "", "acquisition date of the reference image (UTC)"),
    Variable("acquisition_date_img2", PAIR, "datetime64[us]", None, "", "acquisition date of the secondary image (UTC)"),
    Variable("date_center", PAIR, "datetime64[us]", None, "", "middle of the two acquisition dates (UTC)"),
    Variable("date_dt", PAIR, "float32", float("nan"), "days", "time between the two images"),
    Variable("satellite_img1", PAIR, "str", "", "", "platform of the reference image"),
    Variable("satellite_img2", PAIR, "str", "", "", "platform of the secondary image"),
    Variable("mission_img1", PAIR, "str", "", "", "mission of the reference image (S Sentinel, L Landsat)"),
    Variable("mission_img2", PAIR, "str", "", "", "mission of the secondary image (S Sentinel, L Landsat)"),
    Variable("image_id_img1", PAIR, "str", "", "", "reference image (one pass of one sensor)"),
    Variable("image_id_img2", PAIR, "str", "", "", "secondary image (one pass of one sensor)"),
    Variable("scene_ids_img1", PAIR, "str", "", "", "STAC items of the reference image, separated by spaces"),
    Variable("scene_ids_img2", PAIR, "str", "", "", "STAC items of the secondary image, separated by spaces"),
    Variable("vx_stable_shift", PAIR, "float32", float("nan"), "meter/year", "shift removed from vx, at the centre of the grid"),
    Variable("vy_stable_shift", PAIR, "float32", float("nan"), "meter/year", "shift removed from vy, at the centre of the grid"),
    Variable("vx_error_stationary", PAIR, "float32", float("nan"), "meter/year", "robust scatter of vx over stable ground"),
    Variable("vy_error_stationary", PAIR, "float32", float("nan"), "meter/year", "robust scatter of vy over stable ground"),
    Variable("stable_count_stationary", PAIR, "uint32", 0, "1", "number of nodes on stable ground"),
    Variable("stable_shift_flag", PAIR, "uint8", 255, "1", "0 no correction, 1 from stable ground, 2 from slow ground"),
    Variable("roi_valid_percentage", PAIR, "float32", float("nan"), "percent", "share of nodes with a measured vector"),
)

PER_NODE: tuple[Variable, ...] = (
    Variable("scale_factor", ("y", "x"), "float32", float("nan"), "1", "point scale of the projection: map metres per ground metre"),
    Variable("stable", ("y", "x"), "uint8", 255, "1", "1 = stable ground, 0 = not, 255 = unknown"),
)
