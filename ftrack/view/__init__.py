"""Plots on xarray objects: maps, time series, profiles, pair networks and search results."""

from ftrack.view.chips import plot_surface
from ftrack.view.frames import save_picture
from ftrack.view.inventory import plot_scenes
from ftrack.view.maps import plot_quality, plot_velocity
from ftrack.view.plots import plot_network, plot_profile, plot_series
from ftrack.view.seasons import plot_season

__all__ = [
    "plot_network", "plot_profile", "plot_quality", "plot_scenes", "plot_season", "plot_series", "plot_surface", "plot_velocity",
    "save_picture",
]  # fmt: skip
