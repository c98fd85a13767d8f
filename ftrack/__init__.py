"""From a STAC search to a time series of ice velocity.

>>> import ftrack as ft                                                            # doctest: +SKIP
>>> scenes = ft.find_scenes(url, area="glacier.geojson", dates="2020-01-01/2020-03-31")
>>> stack = ft.open_stack(scenes, asset="nir")
>>> pairs = ft.choose_pairs(scenes, max_days=30)
>>> motion = ft.match_stack(ft.prefilter(stack), pairs, ft.NCC(chip_sizes=(16, 32, 64)))
>>> velocity = ft.to_velocity(ft.clean(motion))
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftrack.axes import turn_to, warp_to
    from ftrack.cleaning import Fill, Outliers
    from ftrack.cluster import open_client
    from ftrack.compare import compare_cubes, judge_cube
    from ftrack.config import ClusterSettings, Workflow, read_workflow, write_workflow
    from ftrack.cube import open_cube
    from ftrack.errors import FtrackError, Retry, Skip, Stop
    from ftrack.export import write_map, write_series
    from ftrack.grid import Grid
    from ftrack.ground import Ground, find_shifts
    from ftrack.inversion import regular_series
    from ftrack.itslive import find_itslive, open_itslive, open_mosaic
    from ftrack.jobs import Job, list_jobs, open_job, submit
    from ftrack.lattice import GridSettings, choose_grid
    from ftrack.match import clean, match_stack, prefilter
    from ftrack.matchers import NCC, Matcher, Prior
    from ftrack.means import average
    from ftrack.pairs import Pair, PairSettings, choose_pairs
    from ftrack.plan import Plan, describe, make_plan
    from ftrack.prefilters import NAOF, HighPass, ImageFilter, LaplacianOfGaussian, NoFilter, Orientation, Wallis
    from ftrack.run import Report, run_plan
    from ftrack.scenes import Scene, SceneQuery, find_scenes, scenes_table
    from ftrack.schema import Status
    from ftrack.season import seasonal_fit
    from ftrack.series import point_series, profile
    from ftrack.stable import Shift, StableSettings, fit_shift, stable_nodes
    from ftrack.stack import MaskSettings, StackSettings, open_stack
    from ftrack.strain import strain_rates
    from ftrack.synthetic import ArchiveSettings, simulate_archive
    from ftrack.velocity import to_velocity
    from ftrack.verify import verify_cube
    from ftrack.view import plot_network, plot_profile, plot_quality, plot_scenes, plot_season, plot_series, plot_surface, plot_velocity
    from ftrack.view.panel import Panel, PanelLimits

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
    "Job",
    "LaplacianOfGaussian",
    "MaskSettings",
    "Matcher",
    "NoFilter",
    "Orientation",
    "Outliers",
    "Pair",
    "PairSettings",
    "Panel",
    "PanelLimits",
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
    "average",
    "choose_grid",
    "choose_pairs",
    "clean",
    "compare_cubes",
    "describe",
    "find_itslive",
    "find_scenes",
    "find_shifts",
    "fit_shift",
    "judge_cube",
    "list_jobs",
    "make_plan",
    "match_stack",
    "open_client",
    "open_cube",
    "open_itslive",
    "open_job",
    "open_mosaic",
    "open_stack",
    "plot_network",
    "plot_profile",
    "plot_quality",
    "plot_scenes",
    "plot_season",
    "plot_series",
    "plot_surface",
    "plot_velocity",
    "point_series",
    "prefilter",
    "profile",
    "read_workflow",
    "regular_series",
    "run_plan",
    "scenes_table",
    "seasonal_fit",
    "simulate_archive",
    "stable_nodes",
    "strain_rates",
    "submit",
    "to_velocity",
    "turn_to",
    "verify_cube",
    "warp_to",
    "write_map",
    "write_series",
    "write_workflow",
]

_EXPORTS = {
    "axes": ("turn_to", "warp_to"),
    "cleaning": ("Fill", "Outliers"),
    "cluster": ("open_client",),
    "compare": ("compare_cubes", "judge_cube"),
    "config": ("ClusterSettings", "Workflow", "read_workflow", "write_workflow"),
    "cube": ("open_cube",),
    "errors": ("FtrackError", "Retry", "Skip", "Stop"),
    "export": ("write_map", "write_series"),
    "grid": ("Grid",),
    "ground": ("Ground", "find_shifts"),
    "itslive": ("find_itslive", "open_itslive", "open_mosaic"),
    "jobs": ("Job", "list_jobs", "open_job", "submit"),
    "lattice": ("GridSettings", "choose_grid"),
    "match": ("clean", "match_stack", "prefilter"),
    "matchers": ("NCC", "Matcher", "Prior"),
    "means": ("average",),
    "pairs": ("Pair", "PairSettings", "choose_pairs"),
    "plan": ("Plan", "describe", "make_plan"),
    "prefilters": ("NAOF", "HighPass", "ImageFilter", "LaplacianOfGaussian", "NoFilter", "Orientation", "Wallis"),
    "run": ("Report", "run_plan"),
    "scenes": ("Scene", "SceneQuery", "find_scenes", "scenes_table"),
    "schema": ("Status",),
    "inversion": ("regular_series",),
    "season": ("seasonal_fit",),
    "series": ("point_series", "profile"),
    "stable": ("Shift", "StableSettings", "fit_shift", "stable_nodes"),
    "strain": ("strain_rates",),
    "stack": ("MaskSettings", "StackSettings", "open_stack"),
    "synthetic": ("ArchiveSettings", "simulate_archive"),
    "velocity": ("to_velocity",),
    "verify": ("verify_cube",),
    "view": ("plot_network", "plot_profile", "plot_quality", "plot_scenes", "plot_season", "plot_series", "plot_surface", "plot_velocity"),
    "view.panel": ("Panel", "PanelLimits"),
}
"""What every module gives to the package. It is imported when it is first asked for: all of them together take seconds."""

_HOMES = {name: module for module, names in _EXPORTS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Return an exported name, or a module of the package, that has not been asked for before (PEP 562)."""
    if name in _HOMES:
        globals()[name] = getattr(import_module(f"ftrack.{_HOMES[name]}"), name)
        return globals()[name]
    if not name.startswith("_") and find_spec(f"ftrack.{name}"):
        return import_module(f"ftrack.{name}")
    raise AttributeError(f"module 'ftrack' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List what the package exports, for completion."""
    return sorted([*__all__, "__version__"])
