"""From means over chips to the displacement of their centres; see ``ftrack.matchers.unbend``."""

from __future__ import annotations

import numpy as np

from ftrack.kernels.chips import chip_sums, weigh_blocks
from ftrack.kernels.compiled import filling
from ftrack.kernels.planes import each, larger, smaller, where
from ftrack.kernels.smooth import smooth_planes
from ftrack.kernels.solve import FIELDS, LEAST_SHARE

LEAST_ERROR = 1e-6
"""Images that are alike to the last bit have no error; it counts as this, px."""

OWN, SQUARED, NOISE, INVERSE, PIXELS, LEFT, BY, CROSS = 0, 2, 5, 6, 9, 10, 12, 14
"""Planes of numbers of every node. They begin as what is solved, see ``ftrack.kernels.solve.FIELDS``: displacement; errors, which become
their squares; noise; squared gradients, which become their inverse; pixels; what is left of a block, then of displacement; and how the
first changes with displacement."""

POWER, FOLLOWED, AROUND, COLOUR, VARIANCE, TOTAL, SCALE, THERE, SHARE, MORE, FIELD = 15, 17, 19, 21, 23, 25, 29, 30, 31, 32, 33
"""Power of what is left; displacement and squared errors smoothed; by how much noise differs from white noise; variance; sums over chips;
squared errors of both components; 1 where something is solved; how much of a bend counts; power of the noise of a block over that which
its mean leaves; the field along which the image was drawn back."""

NODES = 35
"""So many planes."""


@filling
def move_to_centres(sums, blocks, field, bells, numbers, chips, chosen, together, rooms, solved):
    """Move solutions from the mean over their chip to its centre.

    Parameters
    ----------
    sums : float64 (block row, block column, PLANES)
        From ``ftrack.kernels.normal.sum_blocks``.
    blocks : (side, step, counts, starts)
        See ``ftrack.kernels.layout.Layout``.
    field : float64 (2, row, column)
        Displacement along which the image was drawn back, px; NaN where nothing is known.
    bells : (first, second, pool, colour)
        Weights with which solutions are smoothed, what is left of them, its power, and that of noise.
    numbers : (seen, held, doubt, chance)
        Power of noise that each round sees and that the field holds after each; how far what is left must exceed it; square of the
        share of noise that is left of the mean of what tells its colour.
    chips : float64 (chip,), (chip,), (largest count,)
        Bend of a field inside a chip over that of a linear one, power of the noise of a block over that which its mean leaves, and ones.
    chosen, together : int8, bool (row, column)
        The chip of every node, and whether it was solved.
    rooms : float64 (NODES, nodes in multiples of ``LANES``), (4, block row, block columns in multiples of ``ALIGNED``), flat
        Room. The last has ``room_of`` numbers for four planes of nodes and the longest bell, and three times the largest row of blocks.
    solved : float64 (FIELDS, row, column)
        From ``solve_nodes``; displacement and errors are changed.
    """
    nodes, planes, room = rooms
    seen, held, doubt, chance = numbers
    (columns, count), pitch, node = (together.shape[1], together.size), nodes.shape[1], nodes.reshape(-1)
    side, largest, there, found = blocks[0], chips[2].size * blocks[0], together.reshape(-1), solved.reshape(FIELDS, -1)
    place, pair = (side - largest, 2 * side, 2 * blocks[1] * side), field.shape[0]
    for m in range(count):
        chip = max(chosen[m // columns, m % columns], 0)
        for p in range(FIELDS):
            nodes[p, m] = found[p, m] if there[m] else 0.0
        for d in range(2):
            known = field[d, m // columns, m % columns]
            nodes[FIELD + d, m] = known if known == known else 0.0
        nodes[THERE, m], nodes[SHARE, m], nodes[MORE, m] = 1.0 if there[m] else 0.0, chips[0][chip], chips[1][chip]
    _begin(node, pitch, count, ())
    smooth_planes(node[OWN * pitch :], pitch, 2 * pair, together, bells[0], room, node[FOLLOWED * pitch :])
    _leave_of_blocks(node, pitch, count, ())
    smooth_planes(node[POWER * pitch :], pitch, pair, together, bells[3], room, node[POWER * pitch :])
    _tell_colour(node, pitch, count, (held[0], chance))
    for k in range(len(seen)):
        weigh_blocks(sums, node, (FOLLOWED * pitch, pitch), together.shape, place, room, planes)
        chip_sums(planes, blocks, chips[2], chosen, room, node, (TOTAL * pitch, pitch))
        _leave_of_means(node, pitch, count, ())
        if k == 0:
            smooth_planes(node[LEFT * pitch :], pitch, pair, together, bells[1], room, node[LEFT * pitch :])
        _take_power(node, pitch, count, ())
        smooth_planes(node[POWER * pitch :], pitch, pair, together, bells[2], room, node[POWER * pitch :])
        _follow(node, pitch, count, (1.0 if k > 0 else 0.0, doubt * seen[k], 0.5 * doubt * seen[k], held[k + 1] - held[k]))
    for m in range(count):
        if there[m]:
            for d in range(2):
                found[d, m], found[2 + d, m] = nodes[FOLLOWED + d, m], np.sqrt(nodes[VARIANCE + d, m])


@each
def _begin(node):
    """Square errors, and invert squared gradients without noise."""
    there = node[THERE] > 0.0
    for d in range(2):
        error = larger(node[SQUARED + d], LEAST_ERROR)
        node[SQUARED + d] = where(there, error * error, 1.0)
    a, b, c, n = node[INVERSE], node[INVERSE + 1], node[INVERSE + 2], node[PIXELS]
    noise = smaller(node[NOISE], (1.0 - LEAST_SHARE) * smaller(a, c) / larger(n, 1.0))
    a, c = a - noise * n, c - noise * n
    determinant = a * c - b * b
    sound = determinant > 0.0
    for k, value in enumerate((c, -b, a)):
        node[INVERSE + k] = where(sound, value / determinant, 0.0)
    node[NOISE] = noise


@each
def _leave_of_blocks(node):
    """Fill the power of what the mean of the neighbourhood, where it is believed, leaves of single blocks.

    The mean has taken its share of the noise of the block.
    """
    there, moved = node[THERE] > 0.0, []
    for d in range(2):
        followed = node[FOLLOWED + d]
        node[FOLLOWED + d] = where(followed != followed, node[FIELD + d], followed)
        moved.append(node[FOLLOWED + d] - node[OWN + d])
    for d in range(2):
        by = node[BY + d]
        left = node[LEFT + d] + moved[d] * by + where(by > 0.0, moved[1 - d] * node[CROSS] / by, 0.0)
        node[POWER + d] = where(there, left * left * node[MORE], 0.0)


@each
def _tell_colour(node, held, chance):
    """Fill by how much noise moves solutions more than white noise of its power, and what follows."""
    scales = []
    for d in range(2):
        power, around, squared = node[POWER + d], node[AROUND + d], node[SQUARED + d]
        power = where(power != power, 1.0, power)
        beyond = larger(power - 1.0, 0.0)
        sure = where(beyond > 0.0, 1.0 - 2.0 * (power * power) * chance / (beyond * beyond), 1.0)
        colour = 1.0 + beyond * smaller(larger(sure, 0.0), 1.0)
        scales.append(larger(squared, LEAST_SHARE * where(around != around, 1.0, around)))
        node[COLOUR + d], node[VARIANCE + d], node[SQUARED + d] = colour, held * around * colour, squared * colour
    node[SCALE] = scales[0] + scales[1]


@each
def _leave_of_means(node):
    """Fill what the means of the field over chips, weighed as the solution weighs it, leave of the solutions."""
    u, v = (node[TOTAL + d] - node[NOISE] * node[TOTAL + 2 + d] for d in range(2))
    for d in range(2):
        followed, mean = node[FOLLOWED + d], node[INVERSE + d] * u + node[INVERSE + 1 + d] * v
        node[LEFT + d] = where(node[THERE] > 0.0, node[OWN + d] - (followed + node[SHARE] * (mean - followed)), 0.0)


@each
def _take_power(node):
    """Fill the power of what is left."""
    for d in range(2):
        left = where(node[LEFT + d] != node[LEFT + d], 0.0, node[LEFT + d])
        node[LEFT + d], node[POWER + d] = left, left * left / node[SCALE]


@each
def _follow(node, later, doubt, half, more):
    """Add what is left as far as it is believed.

    What is not believed may be true, and after the first round as much may be missing as this one still found.
    """
    power = [where(node[POWER + d] != node[POWER + d], 0.0, node[POWER + d]) for d in range(2)]
    both = power[0] + power[1]
    believed = where(both > 0.0, smaller(larger(1.0 - doubt / both, 0.0), 1.0), 0.0)
    missing = (1.0 - believed) * (1.0 - believed) + where(later > 0.0, believed * believed, 0.0)
    for d in range(2):
        signal = larger(power[d] - half * node[COLOUR + d], 0.0) * node[SCALE]
        node[FOLLOWED + d] = node[FOLLOWED + d] + believed * node[LEFT + d]
        node[VARIANCE + d] = node[VARIANCE + d] + believed * more * node[SQUARED + d] + missing * signal
