"""From a STAC search to a time series of ice velocity.

>>> import ftrack as ft                                                            # doctest: +SKIP
>>> scenes = ft.find_scenes(url, area="glacier.geojson", dates="2020-01-01/2020-03-31")
>>> stack = ft.open_stack(scenes, asset="nir")
>>> pairs = ft.choose_pairs(scenes, max_days=30)
>>> motion = ft.match_stack(ft.prefilter(stack), pairs, ft.NCC(chip_sizes=(16, 32, 64)))
>>> velocity = ft.to_velocity(ft.clean(motion))
"""

import rioxarray as _rioxarray  # noqa: F401  registers .rio, by which arrays know their CRS

from ftrack.cleaning import Fill, Outliers
from ftrack.cluster import open_client
from ftrack.config import ClusterSettings, Workflow, read_workflow, write_workflow
from ftrack.cube import open_cube
from ftrack.errors import FtrackError, Retry, Skip, Stop
from ftrack.grid import Grid
from ftrack.ground import Ground, find_shifts
from ftrack.lattice import GridSettings, choose_grid
from ftrack.match import clean, match_stack, prefilter
from ftrack.matchers import NCC, Matcher, Prior
from ftrack.pairs import Pair, PairSettings, choose_pairs
from ftrack.plan import Plan, describe, make_plan
from ftrack.prefilters import NAOF, HighPass, ImageFilter, LaplacianOfGaussian, NoFilter, Orientation, Wallis
from ftrack.run import Report, run_plan
from ftrack.scenes import Scene, SceneQuery, find_scenes, scenes_table
from ftrack.schema import Status
from ftrack.stable import Shift, StableSettings, fit_shift, stable_nodes
from ftrack.stack import MaskSettings, StackSettings, open_stack
from ftrack.synthetic import ArchiveSettings, simulate_archive
from ftrack.velocity import to_velocity
from ftrack.verify import verify_cube
from ftrack.view import plot_network, plot_quality, plot_scenes, plot_series, plot_velocity

__version__ = "0.1.0"

__all__ = [
    "NAOF",
    "NCC",
    "ArchiveSettings",
    "ClusterSettings",
    "Fill",
    "FtrackError",
    "Grid",
    "GridSettings",
    "Ground",
    "HighPass",
    "ImageFilter",
    "LaplacianOfGaussian",
    "MaskSettings",
    "Matcher",
    "NoFilter",
    "Orientation",
    "Outliers",
    "Pair",
    "PairSettings",
    "Plan",
    "Prior",
    "Report",
    "Retry",
    "Scene",
    "SceneQuery",
    "Shift",
    "Skip",
    "StableSettings",
    "StackSettings",
    "Status",
    "Stop",
    "Wallis",
    "Workflow",
    "choose_grid",
    "choose_pairs",
    "clean",
    "describe",
    "find_scenes",
    "find_shifts",
    "fit_shift",
    "make_plan",
    "match_stack",
    "open_client",
    "open_cube",
    "open_stack",
    "plot_network",
    "plot_quality",
    "plot_scenes",
    "plot_series",
    "plot_velocity",
    "prefilter",
    "read_workflow",
    "run_plan",
    "scenes_table",
    "simulate_archive",
    "stable_nodes",
    "to_velocity",
    "verify_cube",
    "write_workflow",
]
