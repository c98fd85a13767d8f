"""Which sums of blocks are put together, and in which order, until every chip is one sum.

A chain is an int64 table with one row per kind of box: the kinds of its first and second part, how far the second
lies to the right and below the first, and the box's width and height. Row 0 is the single block (or pixel), and parts
stand before the boxes that are made of them. The parts of a box share one edge, so a box is finished with its
lower right block.
"""

from __future__ import annotations

import numpy as np

FIRST, SECOND, RIGHT, DOWN, WIDTH, HEIGHT = range(6)

Boxes = dict[tuple[int, int], list[int]]


def chain_for(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the chain of square chips of the given sides, and which row is which chip."""
    boxes: Boxes = {(1, 1): [-1, -1, 0, 0, 1, 1]}
    in_turns = all(int(n) & (int(n) - 1) == 0 for n in counts)
    of_chip = [_add_box(boxes, int(n), int(n), in_turns) for n in counts]
    return np.array(list(boxes.values())), np.array(of_chip)


def chain_of_pixels(chain: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the chain that begins at pixels and goes on with ``chain`` from blocks, and which row is which of ``chain``."""
    boxes: Boxes = {(1, 1): [-1, -1, 0, 0, 1, 1]}
    block = _add_box(boxes, side, side, False)
    rows = list(boxes.values())
    of_box = np.arange(len(chain)) + block
    for first, second, *places in chain[1:].tolist():
        rows.append([first + block, second + block, *(side * place for place in places)])
    return np.array(rows), of_box


def _add_box(boxes: Boxes, width: int, height: int, in_turns: bool) -> int:
    """Add a box and its parts, halving along y first, or along y and x in turns; return its row."""
    if (width, height) not in boxes:
        along_y = height > 1 and (height >= width or not in_turns)
        size = height if along_y else width
        second = size // 2 if size % 2 == 0 else 1
        sizes = [(width, part) if along_y else (part, height) for part in (size - second, second)]
        parts = [_add_box(boxes, *part, in_turns) for part in sizes]
        shift = [0, size - second] if along_y else [size - second, 0]
        boxes[width, height] = [*parts, *shift, width, height]
    return list(boxes).index((width, height))


def mark_needed(todo: np.ndarray, chain: np.ndarray, chips: tuple[np.ndarray, np.ndarray, int], shape: tuple[int, int]) -> np.ndarray:
    """Return the boxes that the chips to be done are made of: bool (box, block row, block column).

    ``todo`` is bool (chip, row, column); ``chips`` are their rows in the chain, and the blocks before the first and between them.
    """
    of_chip, starts, step = chips
    needed = np.zeros((len(chain), *shape), np.bool_)
    for c, start in enumerate(starts):
        rows, columns = (slice(start, start + (n - 1) * step + 1, step) for n in todo.shape[1:])
        needed[of_chip[c], rows, columns] = todo[c]
    for b in range(len(chain) - 1, 0, -1):
        first, second, right, down = (int(v) for v in chain[b, :4])
        needed[first] |= needed[b]
        needed[second, down:, right:] |= needed[b, : shape[0] - down, : shape[1] - right]
    return needed
