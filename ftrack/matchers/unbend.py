"""From means over chips to the displacement of their centres: the field is followed as closely as it differs from noise.

A solution is the mean of the field over its chip, weighed by the chip's gradients. The field that has those means is found in rounds
(Van Cittert 1931): what the means of a smooth field leave of the solutions is smoothed less in every round and added as far as
its power exceeds that of noise. Where nothing does, a vector is the mean of its neighbourhood and more certain than its chip alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ftrack.kernels.centres import NODES, move_to_centres
from ftrack.kernels.layout import Layout, lay_out
from ftrack.kernels.planes import ALIGNED, LANES
from ftrack.kernels.smooth import bell, room_of

ROUNDS = ((0.5, 0.75), (0.35, 0.5))
"""Width and radius of the Gaussian of every round, in smallest chips; the first smooths the solutions themselves."""

POOL = (0.35, 0.5)
"""Width and radius of the Gaussian within which powers are compared, in smallest chips."""

DOUBT = 1.5
"""What is left is believed as far as its power exceeds this many times that of noise."""

COLOUR = (1.5, 1.75)
"""Width and radius of the Gaussian within which noise is compared with white noise, in smallest chips."""

BENT = 1.25
"""Bend of a field inside a chip over that of a parabola: so much more makes up for what the rounds leave of it."""

WAVES = 64
"""Wavelengths along each axis from which the power of noise is summed."""


class Reach(NamedTuple):
    """Nodes that matter around one: the farthest blocks of its chip, the Gaussian of every round, and the pool."""

    chip: int
    rounds: tuple[int, ...]
    pool: int

    @property
    def margin(self) -> int:
        """Nodes that a node needs on every side."""
        return sum(self.rounds) + len(self.rounds) * (self.chip + self.pool)


def reach_of(chip_sizes: tuple[int, ...], spacing: int) -> Reach:
    """Return how far neighbours matter."""
    smallest, largest = min(chip_sizes), max(chip_sizes)
    rounds = tuple(-int(-radius * smallest // spacing) for _, radius in ROUNDS)
    return Reach(-(-largest // 2 // spacing), rounds, -int(-POOL[1] * smallest // spacing))


class Noise(NamedTuple):
    """Power of noise, in units of a solution's: what each round sees of it, and what a field of so many rounds holds of it."""

    seen: tuple[float, ...]
    held: tuple[float, ...]


def unbend(sums: np.ndarray, layout: Layout, field: np.ndarray, chosen: np.ndarray, together: np.ndarray, solved: np.ndarray) -> None:
    """Move solutions from the mean over their chip to its centre, and draw them together where they differ by no more than noise.

    Parameters
    ----------
    sums : float64 (block row, block column, PLANES)
        From ``ftrack.kernels.normal.sum_blocks``.
    layout : Layout
        Nodes and chips.
    field : float64 (2, row, column)
        Displacement along which the image was drawn back, px.
    chosen : int8 (row, column)
        The chip that was solved.
    together : bool (row, column)
        Which nodes were solved.
    solved : float64 (FIELDS, row, column)
        From ``solve_nodes``; displacement and errors are changed.
    """
    sizes, spacing = tuple(int(count) * layout.side for count in layout.counts), layout.step * layout.side
    weights, shape = _weights_of(sizes, spacing, layout.side), together.shape
    height, width = layout.shape
    width = -(-width // ALIGNED) * ALIGNED
    room = np.empty(max(room_of((4, *shape), max(bell.size for bell in weights.bells)), 3 * width))
    rooms = np.empty((NODES, -(-together.size // LANES) * LANES)), np.empty((4, height, width)), room
    numbers = (*weights.noise, DOUBT, weights.chance)
    move_to_centres(sums, layout.blocks, field, weights.bells, numbers, weights.chips, chosen, together, rooms, solved)


class _Weights(NamedTuple):
    """What ``move_to_centres`` is given for chips of some sizes."""

    bells: tuple[np.ndarray, ...]
    noise: Noise
    chance: float
    chips: tuple[np.ndarray, np.ndarray, np.ndarray]


@lru_cache(maxsize=64)
def _weights_of(sizes: tuple[int, ...], spacing: int, side: int) -> _Weights:
    """Return the weights of neighbours and of chips of some sizes, ascending."""
    reach, noise, smallest = reach_of(sizes, spacing), noise_of(sizes[0], spacing, side), sizes[0] / spacing
    first, second = (bell(width * smallest, radius) for (width, _), radius in zip(ROUNDS, reach.rounds, strict=True))
    pool, colour = bell(POOL[0] * smallest, reach.pool), bell(COLOUR[0] * smallest, -int(-COLOUR[1] * sizes[0] // spacing))
    chance = (np.square(colour).sum() / colour.sum() ** 2) ** 2
    blocks = np.array(sizes, float) // side
    ones = np.ones(int(blocks.max()))
    chips = (np.array([share_of(size, spacing, side) for size in sizes]), 1.0 / (1.0 - noise.held[0] / blocks**2), ones)
    return _Weights((first, second, pool, colour), noise, float(chance), chips)


@lru_cache(maxsize=64)
def noise_of(chip: int, spacing: int, side: int) -> Noise:
    """Return the power of the noise of solutions whose chips overlap, where texture is alike everywhere and nothing is believed."""
    wave = 2.0 * np.pi * np.arange(WAVES) / WAVES
    reach = reach_of((chip,), spacing)
    near = np.arange(-(WAVES // 2), WAVES // 2)
    overlap = _transfer(np.clip(1.0 - np.abs(near) * spacing / chip, 0.0, None), near, wave)
    spectrum = np.clip(np.multiply.outer(overlap, overlap), 0.0, None)
    means = _transfer(_weights_of_nodes(chip, spacing, side, near), near, wave)
    mean = 1.0 + share_of(chip, spacing, side) * (np.multiply.outer(means, means) - 1.0)
    bells = []
    for (width, _), radius in zip(ROUNDS, reach.rounds, strict=True):
        weights = bell(width * chip / spacing, radius)
        one = _transfer(weights / weights.sum(), np.arange(-radius, radius + 1), wave)
        bells.append(np.multiply.outer(one, one))

    def power(transfer: np.ndarray) -> float:
        return float(np.mean(np.square(transfer) * spectrum) / np.mean(spectrum))

    first, followed = bells[0], bells[0]
    seen, held = [], [power(followed)]
    for one in (*bells[1:], np.ones_like(mean)):
        seen.append(power(one * (1.0 - mean * first)))
        followed = followed + one * (1.0 - mean * followed)
        held.append(power(followed))
    return Noise(tuple(seen), tuple(held))


def widening_of(chip_sizes: Sequence[int], spacing: int) -> float:
    """Return by how much farther vectors share noise than the smallest chips do, where they are drawn together.

    What is drawn together loses only noise of short waves, so its variance times the area that shares it stays.
    """
    side = lay_out(tuple(sorted(chip_sizes)), spacing, 0, 1, 1).side
    return float(noise_of(min(chip_sizes), spacing, side).held[0] ** -0.5)


def _transfer(weights: np.ndarray, at: np.ndarray, wave: np.ndarray) -> np.ndarray:
    """Return by how much symmetric weights pass each wave."""
    return np.asarray(np.cos(np.multiply.outer(wave, at)) @ weights)


def _weights_of_nodes(chip: int, spacing: int, side: int, near: np.ndarray) -> np.ndarray:
    """Return the weight that each node has along one axis in the mean of a linearly interpolated field over a chip."""
    blocks = (np.arange(chip // side) + 0.5) * side / spacing - 0.5 * chip / spacing
    return np.asarray(np.clip(1.0 - np.abs(blocks[:, None] - near), 0.0, None).mean(0))


@lru_cache(maxsize=64)
def share_of(chip: int, spacing: int, side: int) -> float:
    """Return the bend of a field inside a chip over what it seems to be where it is interpolated linearly between nodes."""
    near = np.arange(-(chip // spacing) - 2, chip // spacing + 3)
    seeming = _weights_of_nodes(chip, spacing, side, near) @ np.square(near * spacing)
    return float(BENT * chip**2 / 12.0 / seeming)
