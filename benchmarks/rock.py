"""How stated errors compare with what is measured on real rock, which does not move, and with triangles of images.

    python -m benchmarks.rock                      # ten pairs of clear images of Perito Moreno
    python -m benchmarks.rock --chips 16 32 64     # other chips
    python -m benchmarks.rock --buffer 0           # also where chips reach from rock onto ice
    python -m benchmarks.rock --json FILE          # the same as JSON

A ratio is the robust standard deviation of displacement over rock, less the shift of its pair, over the stated error: 1 is honest, above
1 the errors are too small. Formal errors are those of the matcher; calibrated ones, which cubes hold, have been compared with
the same rock. What images have in common, such as terrain seen from another orbit, cancels in triangles and not on rock. The place
and the 10 m pixel of these images are approximate, so lengths are told in px.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import xarray as xr

import ftrack as ft
from benchmarks.report import Figure, as_records, show_figures, show_table, write_json
from benchmarks.scenes import SPACING, data_folder
from ftrack.compare import Quality

CLEAR = ("20200101", "20200131", "20200207", "20200210", "20200220")
"""Days without cloud."""

LONGEST = 60
"""Days between the images of a pair, at most."""

RADIUS = 28
"""Search radius, px."""

BUFFER = 200.0
"""Metres between rock and ice at which chips of 32 px hold rock alone."""


class Judged(NamedTuple):
    """What rock and triangles say of the formal errors, and of the calibrated ones; ``pixel`` is in metres."""

    pixel: float
    formal: Quality
    calibrated: Quality
    pairs: dict[str, tuple[Quality, Quality]]


def measure(folder: Path, days: Sequence[str] = CLEAR, chips: tuple[int, ...] = (32,)) -> xr.Dataset:
    """Measure all pairs of the images of some days, and clean them."""
    scenes = [scene for scene in ft.find_scenes(str(folder / "collection.json")) if scene.id[-8:] in days]
    stack = ft.prefilter(ft.open_stack(scenes, asset="visual")).compute().chunk({"y": -1, "x": -1})
    pairs = ft.choose_pairs(scenes, min_days=1, max_days=LONGEST)
    return ft.clean(ft.match_stack(stack, pairs, ft.NCC(chip_sizes=chips, spacing=SPACING, search_radius=RADIUS))).compute()


def judge(motion: xr.Dataset, outline: Path, buffer: float = BUFFER) -> Judged:
    """Judge the errors of motion by the rock that lies at least a distance outside an outline of ice."""
    shifts, calibrations, stable = ft.find_shifts(motion, ft.StableSettings(area=str(outline), outside=True, buffer=buffer))
    cubes = [ft.to_velocity(motion, shifts, known, stable) for known in (None, calibrations)]
    first, second = (cubes[0][f"acquisition_date_img{k}"].dt.strftime("%Y-%m-%d").values.tolist() for k in (1, 2))
    names = [" to ".join(days) for days in zip(first, second, strict=True)]
    judged = [[ft.judge_cube(cube.isel(mid_date=[k])) for cube in cubes] for k in range(len(names))]
    each = {name: (formal, calibrated) for name, (formal, calibrated) in zip(names, judged, strict=True)}
    return Judged(float(motion.attrs["pixel_size"]), ft.judge_cube(cubes[0]), ft.judge_cube(cubes[1]), each)


def figures_of(judged: Judged) -> list[Figure]:
    """Return what all pairs say together."""
    figures = []
    for name, quality in (("formal", judged.formal), ("calibrated", judged.calibrated)):
        for axis, error, ratio, closed in zip("xy", quality.error, quality.ratio, quality.closure_ratio, strict=True):
            figures += [
                Figure(f"{name} error, median of all vectors, {axis}", error / judged.pixel, unit="px"),
                Figure(f"scatter over rock / {name} error, {axis}", ratio, digits=2),
                Figure(f"what triangles do not close / {name} error, {axis}", closed, digits=2),
            ]
        figures.append(Figure(f"over rock beyond three {name} errors", 100 * quality.far, unit="%", digits=1))
    return figures


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", type=int, nargs="+", default=[32], help="sides of chips, px (32)")
    parser.add_argument("--buffer", type=float, default=BUFFER, help="metres to keep from the ice (200)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    given = parser.parse_args()
    folder = data_folder() / "perito-moreno"
    judged = judge(measure(folder, chips=tuple(given.chips)), folder / "glacier.geojson", given.buffer)
    rows = [_row(name, judged.pixel, *qualities) for name, qualities in judged.pairs.items()]
    heads = ("pair", "vectors on rock", "formal error, all vectors, px", "scatter on rock, px", "over formal error", "over calibrated")
    show_table("Rock beside Perito Moreno", heads, rows, "x and y")
    figures = figures_of(judged)
    show_figures("All pairs", figures)
    if given.json:
        write_json(given.json, {"benchmark": "rock", "chips": given.chips, "buffer": given.buffer, "figures": as_records(figures)})
    return 0


def _row(name: str, pixel: float, formal: Quality, calibrated: Quality) -> tuple[str, ...]:
    lengths = (f"{x / pixel:.3f}, {y / pixel:.3f}" for x, y in (formal.error, formal.scatter))
    return name, f"{formal.stable:,}", *lengths, *(f"{x:.2f}, {y:.2f}" for x, y in (formal.ratio, calibrated.ratio))


if __name__ == "__main__":
    sys.exit(main())
