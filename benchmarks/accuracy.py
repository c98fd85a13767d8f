"""How accurate the vectors and their stated errors are, on images whose displacement is known.

    python -m benchmarks.accuracy                # every figure
    python -m benchmarks.accuracy --quick        # small images, one draw: a look, not a verdict
    python -m benchmarks.accuracy --json FILE    # the same as JSON

Nodes are 8 px apart and at least 50 px from the edge, the search radius is 20 px. RMSE is per component, over measured vectors
within 1 px of the truth, unless the row says otherwise; the rest counts as wrong. The command ends with status 1 if a
figure does not hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.report import Figure, as_records, exit_code, show_figures, write_json
from benchmarks.scenes import (
    RADIUS,
    SIZE,
    SPACING,
    Scene,
    good_ground,
    nodes,
    pure_shift,
    real_texture,
    sheared_flow,
    shift_bound,
    truth_at,
)
from ftrack.cleaning import Fill, Outliers, clean_nodes
from ftrack.matchers import NCC, Prior
from ftrack.schema import Status

Array = np.ndarray

NOISES = (0.02, 0.1, 0.3)
CHIPS = (16, 32, 64)
DRAWS = ((5.37, -3.71), (-2.18, 6.54), (7.5, 0.25), (-0.93, -8.06))
"""Shifts (dx, dy) in px, each with a texture and noise of its own."""

WRONG = 1.0
"""A vector farther than this from the truth is wrong, px."""


class Errors(NamedTuple):
    """What was measured at nodes, and how far it is from the truth, px; NaN where nothing was measured."""

    motion: Array
    dx: Array
    dy: Array

    @property
    def length(self) -> Array:
        """Length of the error."""
        return np.asarray(np.hypot(self.dx, self.dy))

    @property
    def right(self) -> Array:
        """Where a vector was measured and is not wrong."""
        return np.asarray(self.length <= WRONG)


def measure(scene: Scene, chip: int) -> Errors:
    """Measure a scene with one chip size and compare with the truth."""
    rows = nodes(scene.texture.shape[0])
    matcher = NCC(chip_sizes=(chip,), spacing=SPACING, search_radius=RADIUS)
    return compare(scene, rows, matcher.measure(scene.pair.reference, scene.pair.secondary, rows, rows, Prior()))


def compare(scene: Scene, rows: Array, motion: Array) -> Errors:
    """Compare measured vectors with the truth."""
    dx, dy = truth_at(scene, rows, rows)
    measured = motion[7] == Status.MEASURED
    return Errors(motion, np.where(measured, motion[0] - dx, np.nan), np.where(measured, motion[1] - dy, np.nan))


def rmse(values: Array) -> float:
    """Return the root of the mean square, NaN of nothing."""
    return float(np.sqrt(np.mean(np.square(values, dtype=float)))) if values.size else np.nan


def robust_deviation(values: Array) -> float:
    """Return half the distance between the quantiles that lie one sigma from the middle of a normal distribution."""
    low, high = np.quantile(values, (0.158655, 0.841345)) if values.size else (np.nan, np.nan)
    return float(high - low) / 2


def shift_figures(noise: float, chip: int, draws: Sequence[tuple[float, float]], size: int) -> list[Figure]:
    """Return RMSE over bound and the calibration of stated errors on pure shifts of one noise and chip."""
    found: dict[str, list[Array]] = {name: [] for name in ("dx", "dy", "dx bound", "dy bound", "dx stated", "dy stated")}
    measured, wrong, count = 0, 0, 0
    for seed, shift in enumerate(draws):
        scene = pure_shift(noise, shift, size, seed)
        errors, rows = measure(scene, chip), nodes(size)
        for axis, bound, error, stated in zip("xy", shift_bound(scene, chip, rows, rows), errors[1:], errors.motion[4:6], strict=True):
            found[f"d{axis}"].append(error[errors.right])
            found[f"d{axis} bound"].append(bound[errors.right])
            found[f"d{axis} stated"].append(stated[errors.right])
        count += errors.right.size
        measured += int(np.isfinite(errors.length).sum())
        wrong += int((errors.length > WRONG).sum())
    all_of = {name: np.concatenate(parts) for name, parts in found.items()}
    ratio = max(rmse(all_of[f"d{axis}"]) / rmse(all_of[f"d{axis} bound"]) for axis in "xy")
    spread = [robust_deviation(all_of[f"d{axis}"] / all_of[f"d{axis} stated"]) for axis in "xy"]
    where = f"pure shift, noise {noise:g} sigma, chip {chip}"
    return [
        Figure(f"{where}: RMSE / Cramér-Rao bound, worse component", ratio, at_most=1.10),
        Figure(f"{where}: deviation of error / stated error, lowest component", min(spread), at_least=0.85, at_most=1.25),
        Figure(f"{where}: deviation of error / stated error, highest component", max(spread), at_least=0.85, at_most=1.25),
        Figure(f"{where}: nodes measured", 100 * measured / count, unit="%", digits=2),
        Figure(f"{where}: vectors wrong by over 1 px", 100 * wrong / max(measured, 1), unit="%", digits=3),
    ]


def locking_figures(chip: int, size: int, noise: float = 0.1) -> list[Figure]:
    """Return the largest mean error over shifts of 0.0, 0.1 .. 0.9 px to the right and down."""
    means = []
    for step in range(10):
        errors = measure(pure_shift(noise, (step / 10, step / 10), size, seed=step), chip)
        means += [abs(float(np.mean(part[errors.right]))) if errors.right.any() else np.nan for part in (errors.dx, errors.dy)]
    what = f"peak locking, shifts 0.0 to 0.9 px, noise {noise:g} sigma, chip {chip}: largest mean error of a component"
    return [Figure(what, float(np.max(means)), at_most=0.002, unit="px", digits=4)]


def flow_figures(scene: Scene, chip: int = 32) -> list[Figure]:
    """Return how the sheared flow is measured, before and after the filters; filled nodes do not count."""
    rows = nodes(scene.texture.shape[0])
    raw = measure(scene, chip)
    kept = compare(scene, rows, clean_nodes(raw.motion, Outliers(), Fill(min_neighbours=0)))
    any_kept, good = np.isfinite(kept.length), good_ground(scene, rows, rows)
    parts = ((name, part) for name, part in (("dx", kept.dx), ("dy", kept.dy)))
    where = f"{scene.name}, chip {chip}"
    figures = [Figure(f"{where}: median length of error, all measured vectors", float(np.nanmedian(raw.length)), at_most=0.035, unit="px")]
    for name, part in parts:
        figures.append(
            Figure(f"{where}: RMSE of {name} after filters, wrong vectors included", rmse(part[any_kept]), at_most=0.06, unit="px")
        )
        figures.append(Figure(f"{where}: RMSE of {name} after filters, vectors within 1 px", rmse(part[kept.right]), unit="px"))
    wrong, before = (100 * float((e.length > WRONG).sum() / max(1, np.isfinite(e.length).sum())) for e in (kept, raw))
    return [
        *figures,
        Figure(f"{where}: wrong by over 1 px, after filters", wrong, at_most=0.03, unit="%"),
        Figure(f"{where}: wrong by over 1 px, before filters", before, unit="%"),
        Figure(f"{where}: nodes on good ground kept", 100 * float(any_kept[good].mean()), at_least=93, unit="%", digits=2),
        *calibration_figures(f"{where}, after filters", kept),
    ]


def texture_figures(scene: Scene, chip: int = 32) -> list[Figure]:
    """Return how the real texture is measured, without filters."""
    rows = nodes(scene.texture.shape[0])
    errors = measure(scene, chip)
    bounds = [rmse(bound) for bound in shift_bound(scene, chip, rows, rows)]
    where = f"{scene.name}, chip {chip}"
    measured = np.isfinite(errors.length)
    return [
        Figure(f"{where}: RMSE of dx (the bound is {bounds[0]:.3f})", rmse(errors.dx[errors.right]), at_most=0.022, unit="px", digits=4),
        Figure(f"{where}: RMSE of dy (the bound is {bounds[1]:.3f})", rmse(errors.dy[errors.right]), at_most=0.022, unit="px", digits=4),
        Figure(f"{where}: nodes measured", 100 * float(measured.mean()), unit="%", digits=2),
        Figure(f"{where}: wrong by over 1 px", 100 * float((errors.length > WRONG).sum() / max(1, measured.sum())), unit="%"),
        *calibration_figures(where, errors),
    ]


def calibration_figures(where: str, errors: Errors) -> list[Figure]:
    """Return how large errors are against what is stated, where the displacement is not the same everywhere."""
    known = np.isfinite(errors.length)
    ratios = np.abs(np.concatenate([(error / stated)[known] for error, stated in zip(errors[1:], errors.motion[4:6], strict=True)]))
    spread = robust_deviation(np.concatenate([ratios, -ratios]))
    within = [100 * float(np.mean(ratios <= k)) for k in (1, 2)]
    return [
        Figure(f"{where}: deviation of error / stated error", spread, at_least=0.85, at_most=1.25),
        Figure(f"{where}: errors within one stated error (normal: 68)", within[0], unit="%", digits=1),
        Figure(f"{where}: errors within two stated errors (normal: 95)", within[1], unit="%", digits=1),
    ]


def all_figures(size: int, draws: Sequence[tuple[float, float]]) -> list[Figure]:
    """Return every figure of accuracy."""
    figures = [figure for noise in NOISES for chip in CHIPS for figure in shift_figures(noise, chip, draws, size)]
    return [*figures, *locking_figures(32, size), *flow_figures(sheared_flow()), *texture_figures(real_texture())]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--quick", action="store_true", help="small images and one draw; the figures scatter more")
    given = parser.parse_args()
    figures = all_figures(SIZE // 2, DRAWS[:1]) if given.quick else all_figures(SIZE, DRAWS)
    show_figures("Accuracy on images of known displacement", figures, "Nodes every 8 px, search radius 20 px.")
    if given.json:
        write_json(given.json, {"benchmark": "accuracy", "quick": given.quick, "figures": as_records(figures)})
    return exit_code(figures)


if __name__ == "__main__":
    sys.exit(main())
