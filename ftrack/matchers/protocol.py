"""What a matcher is: a thing that says how far it looks and measures displacement at nodes."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np


class Prior(NamedTuple):
    """The displacement to expect, in pixels to the right and down: one number, or one per node and node of the matcher's margin."""

    dx: float | np.ndarray = 0.0
    dy: float | np.ndarray = 0.0


class Matcher(Protocol):
    """A matcher of one's own needs these three and works everywhere NCC does.

    If it has a number ``margin`` too, arrays of the prior come with as many more nodes on every side.
    """

    @property
    def spacing(self) -> int:
        """Pixels between nodes."""

    @property
    def halo(self) -> int:
        """Pixels needed on every side of a node (without the prior)."""

    def measure(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, prior: Prior) -> np.ndarray:
        """Measure the displacement at every node.

        Parameters
        ----------
        reference, secondary : float32 (y, x)
            Earlier and later image; NaN = no data.
        rows, columns : int64 (n,), (m,)
            Pixel corners of the node rows and columns. Pixels that a node needs beyond the images count as no data.
        prior : Prior
            Expected displacement, px; arrays are (n, m), and wider by the margin on every side if the matcher has one.

        Returns
        -------
        float32 (8, n, m)
            In the order of ``ftrack.schema.MOTION``; NaN and a reason in ``status`` where nothing was measured.
        """


@runtime_checkable
class TwoStage(Matcher, Protocol):
    """A matcher whose second stage needs what the first has found around a node; tiles then share the first.

    ``measure`` is ``refine`` of what ``find`` gives at the nodes and ``spread`` more on every side.
    """

    @property
    def margin(self) -> int:
        """Nodes on every side of those that are measured whose prior is needed."""

    @property
    def spread(self) -> int:
        """Nodes on every side of those that are measured that must be found."""

    @property
    def search_halo(self) -> int:
        """Pixels that ``find`` needs on every side of a node (without the prior)."""

    @property
    def planes(self) -> int:
        """Numbers that ``find`` gives for a node."""

    def find(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, prior: Prior) -> np.ndarray:
        """Search at every node: float32 (planes, n, m); see ``Matcher.measure``. The prior is wider by ``margin - spread``."""

    def refine(self, reference: np.ndarray, secondary: np.ndarray, rows: np.ndarray, columns: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Measure at all nodes but the outermost ``spread`` on every side: float32 (8, n - 2 spread, m - 2 spread)."""
