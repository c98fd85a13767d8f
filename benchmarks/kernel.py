"""What the matcher costs on this machine: arithmetic against sgemm, time against every setting, threads, memory, compilation.

    python -m benchmarks.kernel                # everything
    python -m benchmarks.kernel --quick        # a small image, each once: a look, not a verdict
    python -m benchmarks.kernel --json FILE    # the same as JSON

Times are the best of several rounds in which all variants take turns, on one thread unless said otherwise, on images of 1024 x 1024 px
of sheared flow. The command ends with status 1 if a figure does not hold.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numba import njit

from benchmarks.engines import FULL, available_engines
from benchmarks.report import Figure, as_records, exit_code, show_figures, show_table, write_json
from benchmarks.scenes import RADIUS, SIZE, SPACING, Scene, nodes, sheared_flow
from ftrack.kernels.folded import fold_blocks, pair_products, paired_offsets_for
from ftrack.kernels.squares import TOGETHER
from ftrack.kernels.sweep import block_products, offsets_for
from ftrack.kernels.vectors import LANES
from ftrack.matchers import NCC, Prior

Array = np.ndarray

SIDE = 8
"""Side of the blocks that chips of 16, 32, 64 px at a spacing of 8 px are made of."""

BLOCKS = 48
"""Blocks along each side of the image whose products are timed."""

ROUNDS = 3
PROJECT = Path(__file__).resolve().parent.parent


class Variant(NamedTuple):
    """Settings of one row of the table of costs."""

    chips: tuple[int, ...] = (32,)
    spacing: int = SPACING
    radius: int = RADIUS


VARIANTS = {
    "chip 32, spacing 8, radius 20": Variant(),
    "radius 5": Variant(radius=5),
    "radius 10": Variant(radius=10),
    "radius 40": Variant(radius=40),
    "chip 16": Variant((16,)),
    "chip 64": Variant((64,)),
    "chip 128": Variant((128,)),
    "chips 16, 32": Variant((16, 32)),
    "chips 16, 32, 64": Variant((16, 32, 64)),
    "spacing 4": Variant(spacing=4),
    "spacing 16": Variant(spacing=16),
    "spacing 32": Variant(spacing=32),
}
"""Every row changes one thing of the first."""

ALONE, THREE = "chip 32, spacing 8, radius 20", "chips 16, 32, 64"


def best_times(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Let actions take turns and return the best time of each, s; each runs once before, so that nothing is compiled in between."""
    for action in actions.values():
        action()
    best = dict.fromkeys(actions, np.inf)
    for _ in range(rounds):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


@njit(nogil=True, error_model="numpy")
def _all_products(r, s, width, reach, side, blocks, offsets, sums):  # type: ignore[no-untyped-def]
    """Multiply every block with all its offsets, row of blocks by row of blocks, as the search does."""
    panels, vectors, bands, rows = offsets
    for i in range(blocks):
        for p in range(panels):
            for b in range(bands):
                for j in range(blocks):
                    r_at = i * side * width + j * side
                    s_at = (i * side + b * rows) * reach + j * side + p * vectors * LANES
                    block_products(r, r_at, width, s, s_at, reach, side, vectors, sums, j * rows * vectors * LANES)


@njit(nogil=True, error_model="numpy")
def _all_pairs(numbers, steps, side, blocks, offsets, at, sums):  # type: ignore[no-untyped-def]
    """Do the same by pairs of rows of offsets, some blocks at a time; ``at`` are the places of the secondary, of pairs and of room."""
    panels, vectors, bands, rows = offsets
    s, fold, room = at
    reach, line = panels * vectors * LANES, rows * vectors * LANES
    pitch, height = TOGETHER * side + reach, side + bands * rows - 2
    for i in range(blocks):
        for first in range(0, blocks, TOGETHER):
            r_at, s_at = i * side * steps[0] + first * side, s + i * side * steps[1] + first * side
            columns = min(TOGETHER, blocks - first) * side
            across, folds = (columns, columns + reach, height), (fold, fold + side * pitch, pitch)
            fold_blocks(numbers, r_at, steps[0], s_at, steps[1], side, across, folds)
            for p in range(panels):
                for b in range(bands):
                    for j in range(min(TOGETHER, blocks - first)):
                        x, y = j * side + p * vectors * LANES, b * rows
                        here = (fold + j * side, fold + (side + y) * pitch + x, pitch)
                        block, shifted, out = r_at + j * side, s_at + y * steps[1] + x, sums + (first + j) * line
                        pair_products(numbers, block, steps[0], shifted, steps[1], here, side, vectors, room, out, room + line)


def pairs_of(r: Array, s: Array, blocks: int, across: int) -> tuple[Callable[[], None], Array]:
    """Return what multiplies all blocks of two images by pairs of rows of offsets, and the sums of the last row of blocks."""
    offsets = paired_offsets_for(across, across)
    panels, vectors, bands, rows = offsets
    line, fold, steps = vectors * rows * LANES, r.size + s.size, (r.shape[1], s.shape[1])
    room = fold + (2 * SIDE + bands * rows) * (TOGETHER * SIDE + panels * vectors * LANES)
    numbers = np.concatenate([r.ravel(), s.ravel(), np.zeros(room - fold + (blocks + 2) * line, np.float32)])
    sums = numbers[room + 2 * line :]
    return lambda: _all_pairs(numbers, steps, SIDE, blocks, offsets, (r.size, fold, room), room + 2 * line), sums


def arithmetic_figures(blocks: int = BLOCKS, radius: int = RADIUS, rounds: int = 20, order: int = 1024) -> list[Figure]:
    """Return multiply-adds per second of the inner product and of sgemm, timed in turns on one thread."""
    across = 2 * radius + 1
    offsets = offsets_for(across, across)
    panels, vectors, bands, rows = offsets
    width, reach = blocks * SIDE, blocks * SIDE + panels * vectors * LANES
    rng = np.random.default_rng(0)
    r, s = (rng.normal(size=n).astype(np.float32) for n in (width * width, reach * (width + bands * rows)))
    sums = np.zeros(blocks * rows * vectors * LANES, np.float32)
    paired, _ = pairs_of(r.reshape(width, width), s.reshape(-1, reach), blocks, across)
    a, b = rng.normal(size=(2, order, order)).astype(np.float32)
    out = np.empty_like(a)
    best = best_times(
        {
            "products": lambda: _all_products(r, s, width, reach, SIDE, blocks, offsets, sums),
            "pairs": paired,
            "sgemm": lambda: np.matmul(a, b, out=out),
        },
        rounds,
    )
    useful = blocks**2 * SIDE**2 * across**2
    done = blocks**2 * SIDE**2 * panels * bands * rows * vectors * LANES
    products, pairs, sgemm = best["products"] * 1e9, best["pairs"] * 1e9, order**3 / best["sgemm"] / 1e9
    where = f"inner product, blocks of {SIDE} px, radius {radius}"
    return [
        Figure(f"{where}: multiply-adds/s at offsets searched, over those of sgemm", useful / products / sgemm, at_least=0.5, digits=2),
        Figure(f"{where}: multiply-adds/s over those of sgemm, padding of vectors included", done / products / sgemm, digits=2),
        Figure(f"{where}: multiply-adds/s that sums by pairs of rows stand for, over those of sgemm", useful / pairs / sgemm, digits=2),
        Figure(f"{where}: multiply-adds/s, padding of vectors included", done / products, unit="G", digits=1),
        Figure(f"sgemm, {order} x {order}: multiply-adds/s", sgemm, unit="G", digits=1),
    ]


def measurement(scene: Scene, variant: Variant, subpixel: Literal["parabola", "least_squares"]) -> tuple[Callable[[], object], int]:
    """Return the measurement of a scene with some settings, and the number of its nodes."""
    border = max(56, max(variant.chips) // 2 + variant.radius + 4)
    rows = nodes(scene.texture.shape[0], variant.spacing, border)
    matcher = NCC(chip_sizes=variant.chips, spacing=variant.spacing, search_radius=variant.radius, subpixel=subpixel)
    return (lambda: matcher.measure(scene.pair.reference, scene.pair.secondary, rows, rows, Prior())), rows.size**2


def cost_table(scene: Scene, variants: dict[str, Variant], rounds: int) -> dict[str, dict[str, float]]:
    """Return microseconds per node of every variant: with the parabola (the search alone, nearly) and with least squares."""
    actions, count = {}, {}
    for name, variant in variants.items():
        actions[f"{name}|parabola"], count[name] = measurement(scene, variant, "parabola")
        actions[f"{name}|least_squares"], count[name] = measurement(scene, variant, "least_squares")
    best = best_times(actions, rounds)
    return {
        name: {
            "nodes": count[name],
            "parabola": 1e6 * best[f"{name}|parabola"] / count[name],
            "least_squares": 1e6 * best[f"{name}|least_squares"] / count[name],
        }
        for name in variants
    }


def cost_figures(costs: dict[str, dict[str, float]]) -> list[Figure]:
    """Return what three chip sizes cost, over one."""
    ratio = costs[THREE]["least_squares"] / costs[ALONE]["least_squares"]
    search = costs[THREE]["parabola"] / costs[ALONE]["parabola"]
    return [
        Figure("chips 16, 32, 64 with least squares: time over that of 32 alone", ratio, at_most=1.5, digits=2),
        Figure("chips 16, 32, 64 with parabola: time over that of 32 alone", search, digits=2),
    ]


def thread_figures(scene: Scene, rounds: int) -> list[Figure]:
    """Return how much faster two threads measure two tiles than one thread does, one after the other."""
    engine = available_engines()[0][FULL]
    images, rows = (scene.pair.reference, scene.pair.secondary), nodes(scene.texture.shape[0])

    def action(threads: int, chip: int) -> Callable[[], object]:
        def measure_both() -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda _: engine(*images, rows, rows, chip, RADIUS), range(2)))

        return measure_both

    best = best_times({f"{chip} {threads}": action(threads, chip) for chip in (32, 64) for threads in (1, 2)}, rounds)
    return [
        Figure(
            f"two tiles on two threads over one, chip {chip}, least squares", best[f"{chip} 1"] / best[f"{chip} 2"], at_least=1.85, digits=2
        )
        for chip in (32, 64)
    ]


def process_figures(size: int) -> list[Figure]:
    """Return memory of a tile and time of compilation, each measured in a process of its own."""
    memory = _alone(f"tile_memory({size})")
    with tempfile.TemporaryDirectory() as cache:
        first = _alone("compilation()", NUMBA_CACHE_DIR=cache)
        again = _alone("compilation()", NUMBA_CACHE_DIR=cache)
    what = f"memory of a tile of {size} x {size} px, chips 16, 32, 64, radius 20, above the images"
    return [
        Figure(what, memory, at_most=400, unit="MB", digits=0),
        Figure("compilation of filter, matcher and cleaning, nothing compiled yet", first, at_most=15, unit="s", digits=1),
        Figure("the same in the next process, compiled code on disk", again, unit="s", digits=1),
    ]


def _alone(call: str, **environment: str) -> float:
    """Return the number that a function of this module gives in a fresh process."""
    command = [sys.executable, "-c", f"from benchmarks.kernel import *; print({call})"]
    done = subprocess.run(command, cwd=PROJECT, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def tile_memory(size: int) -> float:
    """Return by how much the memory of this process rises while it measures a tile, MB; everything is compiled before."""
    variant = VARIANTS[THREE]
    measurement(sheared_flow(256), variant, "least_squares")[0]()
    action, _ = measurement(sheared_flow(size), variant, "least_squares")
    return rise_of_memory(action)


def rise_of_memory(action: Callable[[], object]) -> float:
    """Return by how much the resident memory rises above what it is before, at the peak of an action, MB.

    Memory that was freed but is still held for later use is given back first, or it would hide what the action takes.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError) as error:
        raise SystemExit("the peak of memory can only be measured on Linux with glibc") from error
    before = _status("VmRSS")
    action()
    return _status("VmHWM") - before


def _status(name: str) -> float:
    """Return one line of what Linux says of the memory of this process, MB; its unit is 1024 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


def compilation() -> float:
    """Return the seconds of the first filter, match and clean of this process, less those of the second."""
    from ftrack.warmup import compile_numerics

    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        compile_numerics()
        seconds.append(time.perf_counter() - start)
    return seconds[0] - seconds[1]


def show_costs(costs: dict[str, dict[str, float]]) -> None:
    """Print the table of costs."""
    base = costs[ALONE]
    rows: Sequence[Sequence[str]] = [
        (
            name,
            f"{cost['nodes']:.0f}",
            *(text for kind in ("parabola", "least_squares") for text in (f"{cost[kind]:.1f}", f"{cost[kind] / base[kind]:.2f}")),
        )
        for name, cost in costs.items()
    ]
    heads = ("settings", "nodes", "parabola, us/node", "over first", "least squares, us/node", "over first")
    show_table("Cost of a node on one thread", heads, rows, "Every row changes one thing of the first; all else is as there.")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--quick", action="store_true", help="an image of 512 x 512 px, each measured once")
    given = parser.parse_args()
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install -e '.[bench]'") from None
    rounds, size = (1, SIZE // 2) if given.quick else (ROUNDS, SIZE)
    scene = sheared_flow(size)
    with threadpool_limits(1):
        arithmetic = arithmetic_figures()
        costs = cost_table(scene, VARIANTS, rounds)
        figures = [*arithmetic, *cost_figures(costs), *thread_figures(scene, 2 * rounds), *process_figures(size)]
    show_costs(costs)
    show_figures("The matcher on this machine", figures)
    if given.json:
        write_json(given.json, {"benchmark": "kernel", "quick": given.quick, "costs": costs, "figures": as_records(figures)})
    return exit_code(figures)


if __name__ == "__main__":
    sys.exit(main())
