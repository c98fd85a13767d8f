"""Scenes with a known motion: image pairs for the kernels, and a whole simulated archive."""

from ftrack.synthetic.moving import MovingPair, moving_pair, sheared_pair, shifted_pair

__all__ = ["MovingPair", "moving_pair", "sheared_pair", "shifted_pair"]
