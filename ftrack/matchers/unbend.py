"""From means over chips to the displacement of their centres: the field is followed as closely as it differs from noise.

A solution is the mean of the field over its chip, weighed by the chip's gradients. The field that has those means is found in rounds
(Van Cittert 1931): what the means of a smooth field leave of the solutions is smoothed less in every round and added as far as
its power exceeds that of noise. Where nothing does, a vector is the mean of its neighbourhood and more certain than its chip alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ftrack.kernels.chips import chip_sums, weigh_blocks
from ftrack.kernels.layout import Layout, lay_out
from ftrack.kernels.smooth import bell, smooth
from ftrack.kernels.solve import LEAST_SHARE

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

LEAST_ERROR = 1e-6
"""Images that are alike to the last bit have no error; it counts as this, px."""

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


class Chips(NamedTuple):
    """The weights of a field's means over the chips of the nodes.

    ``sums`` are those of the blocks, ``inverse`` is the inverse of the squared gradients' sums per chip. ``share`` is how much of what a
    linearly interpolated field bends inside the chip a smooth one does.
    """

    layout: Layout
    blocks: Any
    sums: np.ndarray
    chosen: np.ndarray
    noise: np.ndarray
    inverse: np.ndarray
    share: np.ndarray


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
    spacing = layout.step * layout.side
    sizes = tuple(int(count) * layout.side for count in layout.counts)
    reach, noise = reach_of(sizes, spacing), noise_of(sizes[0], spacing, layout.side)
    bells = [bell(width * sizes[0] / spacing, radius) for (width, _), radius in zip(ROUNDS, reach.rounds, strict=True)]
    pool = bell(POOL[0] * sizes[0] / spacing, reach.pool)
    chips = _weigh(sums, layout, np.where(together, chosen, -1).astype(np.int8), solved)
    own = np.where(together, solved[:2], 0.0)
    squared = np.square(np.where(together, np.maximum(solved[2:4], LEAST_ERROR), 1.0))
    followed = _smoothed(own, together, bells[0])
    followed = np.where(np.isnan(followed), np.nan_to_num(field), followed)
    around = _smoothed(squared, together, bells[0])
    colour = _colour(layout, chips.chosen, noise.held[0], np.where(together, followed - own, 0.0), solved[10:])
    variance, scale = noise.held[0] * around * colour, np.maximum(squared, LEAST_SHARE * np.nan_to_num(around, nan=1.0)).sum(0)
    squared *= colour
    for k, seen in enumerate(noise.seen, 1):
        left = np.where(together, own - _means(chips, followed), 0.0)
        if k < len(bells):
            left = np.nan_to_num(_smoothed(left, together, bells[k]))
        power = np.nan_to_num(_smoothed(np.square(left) / scale, together, pool))
        believed, signal = _believe(power, seen), np.clip(power - 0.5 * DOUBT * seen * colour, 0.0, None) * scale
        followed = followed + believed * left
        # What is not believed may be true, and after the first round as much may be missing as this one still found.
        variance += believed * (noise.held[k] - noise.held[k - 1]) * squared
        variance += (np.square(1.0 - believed) + (np.square(believed) if k > 1 else 0.0)) * signal
    solved[:2] = np.where(together, followed, solved[:2])
    solved[2:4] = np.where(together, np.sqrt(variance), solved[2:4])


def _smoothed(values: np.ndarray, known: np.ndarray, weights: np.ndarray) -> np.ndarray:
    out = np.empty_like(values)
    smooth(values, known, weights, out)
    return out


def _believe(power: np.ndarray, seen: float) -> np.ndarray:
    """Return how far what is left of both components is believed, 0 to 1."""
    total = power.sum(0)
    return np.asarray(np.clip(1.0 - DOUBT * seen / np.where(total > 0.0, total, np.inf), 0.0, 1.0) * (total > 0.0))


def _colour(layout: Layout, chosen: np.ndarray, held: float, moved: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return by how much noise moves solutions more than white noise of its power, as what changes on the ground does; at least 1.

    What is left of single blocks says so (White 1980), where the mean of the neighbourhood is believed, ``moved`` px from the solution:
    of each component, float64 (2, row, column).
    """
    side, smallest, known = layout.side, int(layout.counts[0]) * layout.side, chosen >= 0
    weights = bell(COLOUR[0] * smallest / (layout.step * side), -int(-COLOUR[1] * smallest // (layout.step * side)))
    own, by, cross = found[:2], found[2:4], found[4]
    with np.errstate(invalid="ignore", divide="ignore"):
        left = own + moved * by + np.where(by > 0.0, moved[::-1] * cross / by, 0.0)
    # The mean has taken its share of the noise of the block.
    more = (1.0 / (1.0 - held / layout.counts.astype(float) ** 2))[np.maximum(chosen, 0)]
    power = np.nan_to_num(_smoothed(np.where(known, np.square(left) * more, 0.0), known, weights), nan=1.0)
    beyond, chance = np.maximum(power - 1.0, 0.0), 2.0 * np.square(power) * (np.square(weights).sum() / weights.sum() ** 2) ** 2
    return np.asarray(1.0 + beyond * np.clip(1.0 - chance / np.where(beyond > 0.0, np.square(beyond), np.inf), 0.0, 1.0))


def _weigh(sums: np.ndarray, layout: Layout, chosen: np.ndarray, solved: np.ndarray) -> Chips:
    """Take from what is solved what weighs a field."""
    blocks = (layout.side, layout.step, layout.counts.astype(np.int64), layout.starts.astype(np.int64))
    noise, xx, xy, yy, n = np.where(chosen >= 0, solved[5:10], 0.0)
    noise = np.minimum(noise, (1.0 - LEAST_SHARE) * np.minimum(xx, yy) / np.maximum(n, 1.0))
    a, b, c = xx - noise * n, xy, yy - noise * n
    determinant = a * c - b * b
    sound = determinant > 0.0
    inverse = np.where(sound, np.stack([c, -b, a]) / np.where(sound, determinant, 1.0), 0.0)
    spacing = layout.step * layout.side
    shares = np.array([share_of(int(count) * layout.side, spacing, layout.side) for count in layout.counts])
    return Chips(layout, blocks, sums, chosen, noise, inverse, shares[np.maximum(chosen, 0).astype(np.int64)])


def _means(chips: Chips, field: np.ndarray) -> np.ndarray:
    """Return the mean of a field over every chip, weighed as the solution weighs it."""
    layout = chips.layout
    side, largest = layout.side, int(layout.counts.max()) * layout.side
    planes, total = np.empty((4, *layout.shape)), np.zeros((4, *chips.chosen.shape))
    weigh_blocks(chips.sums, field, (side - largest, 2 * side, 2 * layout.step * side), planes)
    chip_sums(planes, chips.blocks, chips.chosen, total)
    u, v = total[:2] - chips.noise * total[2:]
    a, b, c = chips.inverse
    return np.asarray(field + chips.share * (np.stack([a * u + b * v, b * u + c * v]) - field))


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
