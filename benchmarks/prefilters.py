"""What each prefilter does to the accuracy on one pair of the simulated archive: python benchmarks/prefilters.py

Prints, per filter, the share of clear nodes that were measured and the RMSE of a component against the truth.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import ftrack as ft
from ftrack.grid import grid_of
from ftrack.prefilters import ImageFilter

FILTERS: tuple[ImageFilter, ...] = (ft.NoFilter(), ft.HighPass(), ft.LaplacianOfGaussian(), ft.Wallis(), ft.NAOF(), ft.Orientation())
REACH = 32
"""Nodes this near to cloud or to the swath's edge are left out, px."""


def main() -> None:
    """Compare the filters on the first pair of ten days."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the archive is kept; a temporary folder if left out")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp()) / "archive"
    archive = ft.simulate_archive(folder)
    scenes = ft.find_scenes(str(archive.collection))
    stack = ft.open_stack(scenes, asset="nir", mask="auto")
    pair = ft.choose_pairs(scenes, min_days=9, max_days=11)[0]
    print(f"{'filter':14}{'clear nodes measured':>22}{'RMSE, px':>10}")
    for kind in FILTERS:
        motion = ft.clean(ft.match_stack(ft.prefilter(stack, kind), [pair], ft.NCC(chip_sizes=(16, 32, 64)))).compute().isel(pair=0)
        nodes = grid_of(motion)
        x, y = np.meshgrid(nodes.x, nodes.y)
        clear = archive.clear(pair.reference, x, y, REACH) & archive.clear(pair.secondary, x, y, REACH)
        kept = clear & (motion.status.values == ft.Status.MEASURED)
        truth, shift = archive.true_displacement(pair.reference, pair.secondary, x, y), archive.pair_shift(pair.reference, pair.secondary)
        errors = [(part.values - t - s)[kept] for part, t, s in zip((motion.dx, motion.dy), truth, shift, strict=True)]
        rmse = float(np.sqrt(np.mean(np.square(errors))))
        print(f"{type(kind).__name__:14}{100 * kept.sum() / clear.sum():21.1f}%{rmse:10.3f}", flush=True)


if __name__ == "__main__":
    main()
