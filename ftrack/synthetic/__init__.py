"""Scenes with a known motion: image pairs for the kernels, and a whole simulated archive."""

from ftrack.synthetic.archive import Archive, open_archive, simulate_archive
from ftrack.synthetic.moving import MovingPair, moving_pair, sheared_pair, shifted_pair
from ftrack.synthetic.scene import TINY, ArchiveSettings, SceneFacts

__all__ = [
    "TINY",
    "Archive",
    "ArchiveSettings",
    "MovingPair",
    "SceneFacts",
    "moving_pair",
    "open_archive",
    "sheared_pair",
    "shifted_pair",
    "simulate_archive",
]
