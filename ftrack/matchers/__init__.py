"""The interchangeable matchers: each measures displacement at the nodes of one pair of images."""

from ftrack.matchers.ncc import NCC
from ftrack.matchers.protocol import Matcher, Prior, TwoStage

__all__ = ["NCC", "Matcher", "Prior", "TwoStage"]
