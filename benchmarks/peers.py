"""ftrack and other engines on the same images in the same run: speed, accuracy, and two threads.

    python -m benchmarks.peers                                  # the tables
    python -m benchmarks.peers --json FILE --picture FILE.png   # also as JSON, and as a picture
    python -m benchmarks.peers --quick                          # a smaller scene, measured once: a look, not a verdict

Speed is measured on the sheared flow (1024 x 1024 px, nodes every 8 px, search radius 20 px). Engines take turns of half a second, or
of one run, and the best run of three rounds counts (an engine that takes longer than 8 s runs once), so a busy machine treats all
alike. Compilation and imports are not counted. On one thread every engine works on the whole scene at once, its fastest way. Two
threads work on a scene each, as the tasks of a worker do, and chips/s are those of both together. Beside it stands how much faster one
scene is that two threads share: ftrack as in ``ftrack.match_stack`` on images of one chunk, whose nodes Dask's threads share; other
engines by bands of node rows.
Accuracy is that of the engines' own vectors, before any filter: RMSE per component over vectors within 1 px of the truth.
The command ends with status 1 if a figure does not hold.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.engines import BASELINE, FULL, GUIDED, Engine, available_engines, in_threads, scene_each
from benchmarks.report import Figure, as_records, exit_code, show_figures, show_table, write_json
from benchmarks.scenes import RADIUS, SIZE, Scene, nodes, pure_shift, real_texture, sheared_flow, truth_at

Array = np.ndarray
Seconds = dict[int | str, float]

CHIPS = (32, 64)
THREADS = (1, 2)
SHARED = "shared"
"""Stands for one scene that all threads share."""

ROUNDS = 3
TURN = 0.5
"""An engine runs again until its turn has taken this long, so that a fast one is not always met right after the others, s."""

LONG = 8.0
"""An engine that takes longer than this is run once, s."""

WRONG = 1.0
"""A vector farther than this from the truth is wrong, px."""

SAME = 0.05
"""Vectors of the full and of the guided search that differ by no more than this, in length, are the same, px."""


class Result(NamedTuple):
    """One engine on one scene: seconds per scene for each number of threads, and how far its vectors are from the truth.

    ``measured`` and ``wrong`` are shares of the nodes and of the measured vectors; RMSE and median are in px.
    """

    engine: str
    scene: str
    chip: int
    total: int
    seconds: Seconds
    rmse: tuple[float, float]
    median: float
    measured: float
    wrong: float

    def rate(self, threads: int | str = 1) -> float:
        """Chips per second."""
        return self.total / self.seconds[threads]


def judge(engine: str, scene: Scene, chip: int, vectors: Array, seconds: Seconds) -> Result:
    """Compare the vectors of an engine, float (2, row, column), with the truth at the nodes of a scene."""
    rows = nodes(scene.texture.shape[0])
    errors = vectors - np.stack(truth_at(scene, rows, rows))
    length = np.hypot(*errors)
    right, measured = length <= WRONG, np.isfinite(length)
    rmse = tuple(float(np.sqrt(np.mean(part[right] ** 2))) if right.any() else np.nan for part in errors)
    median = float(np.median(length[measured])) if measured.any() else np.nan
    wrong = float((length > WRONG).sum() / max(1, measured.sum()))
    return Result(engine, scene.name, chip, length.size, seconds, (rmse[0], rmse[1]), median, float(measured.mean()), wrong)


def time_engines(
    engines: dict[str, Engine], scene: Scene, chip: int, threads: Sequence[int], rounds: int
) -> tuple[dict[str, Array], dict[str, Seconds]]:
    """Let engines take turns on a scene.

    Returns
    -------
    dict of str to float (2, row, column), dict of str to dict of int to float
        Vectors, and the best seconds for each number of threads.
    """
    rows = nodes(scene.texture.shape[0])
    images = (scene.pair.reference, scene.pair.secondary)
    vectors: dict[str, Array] = {}
    best: dict[str, Seconds] = {name: {} for name in engines}
    for engine in engines.values():
        in_threads(engine, 1, images, rows[:2], rows, (chip, RADIUS))
    for _ in range(rounds):
        for name, engine in engines.items():
            for count in (*threads, *((SHARED,) if max(threads) > 1 else ())):
                if best[name].get(count, 0.0) > LONG:
                    continue
                shared = count == SHARED
                work, scenes = (in_threads, 1) if shared else (scene_each, int(count))
                begun = time.perf_counter()
                while (start := time.perf_counter()) < begun + TURN:
                    vectors[name] = work(engine, max(threads) if shared else scenes, images, rows, rows, (chip, RADIUS))
                    best[name][count] = min(best[name].get(count, np.inf), (time.perf_counter() - start) / scenes)
    return vectors, best


def speed_figures(results: Sequence[Result], vectors: dict[int, dict[str, Array]]) -> list[Figure]:
    """Return the figures of speed that must hold; a guided search that is not there yet holds none."""
    found = {(result.engine, result.chip): result for result in results if result.seconds}
    figures = []
    for engine, chip, least in ((FULL, 32, 8.0), (FULL, 64, 14.0), (GUIDED, 32, 20.0)):
        ratio = found[engine, chip].rate() / found[BASELINE, chip].rate() if (engine, chip) in found else np.nan
        figures.append(Figure(f"{engine}, chip {chip}, one thread: speed over OpenCV + parabola", ratio, at_least=least, digits=1))
    for chip in CHIPS:
        both = found[FULL, chip].rate(2) / found[FULL, chip].rate(1)
        figures.append(Figure(f"{FULL}, chip {chip}: two threads over one, a scene each", both, at_least=1.85, digits=2))
        shared = found[FULL, chip].rate(SHARED) / found[FULL, chip].rate(1)
        figures.append(Figure(f"{FULL}, chip {chip}: two threads over one, one scene shared", shared, digits=2))
    full, guided = vectors[32][FULL], vectors[32].get(GUIDED)
    same = np.nan if guided is None else 100 * share_alike(full, guided)
    what = f"guided search, chip 32: nodes within {SAME} px of the full search, or without a vector in both"
    return [*figures, Figure(what, same, at_least=99.5, unit="%", digits=2)]


def share_alike(a: Array, b: Array) -> float:
    """Return the share of nodes at which two sets of vectors, float (2, row, column), agree; nowhere a vector agrees too."""
    none = np.isnan(a[0]) & np.isnan(b[0])
    return float((none | (np.hypot(*(a - b)) <= SAME)).mean())


def show_speed(results: Sequence[Result], chip: int) -> None:
    """Print the table of speed for one chip size."""
    chosen = [result for result in results if result.chip == chip and result.seconds]
    base = next(result.rate() for result in chosen if result.engine == BASELINE)
    lines = [(r.engine, f"{r.rate():,.0f}", f"{r.rate() / base:.1f}", f"{r.rate(2):,.0f}", *_gains(r), *_accuracy(r)) for r in chosen]
    heads = ("engine", "chips/s", "ratio to OpenCV", "two threads", "two / one", "one shared", *ACCURACY)
    caption = (
        "Chips/s on one thread, and on two with a scene each; by how much both, and one scene that two threads share, are faster than one "
        "thread. RMSE over vectors within 1 px of the truth, median over all, before any filter."
    )
    show_table(f"{chosen[0].scene}, chip {chip}, search radius {RADIUS} px: {chosen[0].total} nodes", heads, lines, caption)


def _gains(result: Result) -> tuple[str, str]:
    return f"{result.rate(2) / result.rate():.2f}", f"{result.rate(SHARED) / result.rate():.2f}"


ACCURACY = ("RMSE dx", "RMSE dy", "median error", "wrong by > 1 px", "measured")


def _accuracy(result: Result) -> tuple[str, ...]:
    return (*(f"{v:.3f}" for v in (*result.rmse, result.median)), f"{100 * result.wrong:.2f} %", f"{100 * result.measured:.1f} %")


def show_accuracy(results: Sequence[Result], scene: str) -> None:
    """Print the table of accuracy on one scene."""
    chosen = [result for result in results if result.scene == scene]
    lines = [(result.engine, str(result.chip), *_accuracy(result)) for result in chosen]
    show_table(scene, ("engine", "chip", *ACCURACY), lines, "px; RMSE over vectors within 1 px of the truth, before any filter.")


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw chips/s and RMSE of every engine on the sheared flow with chip 32."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    chosen = sorted((r for r in results if r.chip == 32 and r.seconds), key=lambda r: r.rate())
    names, places = [r.engine for r in chosen], np.arange(len(chosen))
    figure, (speed, error) = plt.subplots(1, 2, figsize=(11, 0.6 * len(chosen) + 1.6), sharey=True, layout="constrained")
    for threads, offset, colour in ((1, -0.19, "#08519c"), (2, 0.19, "#6baed6")):
        bars = speed.barh(
            places + offset, [r.rate(threads) for r in chosen], 0.36, color=colour, label=f"{threads} thread{'s'[: threads - 1]}"
        )
        speed.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    speed.set(xscale="log", xlabel="chips per second", yticks=places, yticklabels=names)
    speed.set_xlim(right=4 * max(r.rate(2) for r in chosen))
    speed.legend(loc="lower right", frameon=False)
    for k, (label, colour) in enumerate((("right", "#a63603"), ("down", "#fdae6b"))):
        bars = error.barh(places + 0.38 * k - 0.19, [r.rmse[k] for r in chosen], 0.36, color=colour, label=label)
        error.bar_label(bars, fmt="{:.3f}", padding=3, fontsize=8)
    error.set(xlabel="RMSE of a component, px (vectors within 1 px of the truth)")
    error.set_xlim(right=1.15 * max(max(r.rmse) for r in chosen))
    error.legend(loc="upper right", frameon=False)
    figure.suptitle(f"{chosen[0].scene}, chip 32, search radius {RADIUS} px, {chosen[0].total} nodes")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def run(size: int, rounds: int) -> tuple[list[Result], dict[int, dict[str, Array]], list[str]]:
    """Measure all engines on all scenes; the vectors are those on the sheared flow, by chip and engine."""
    engines, missing = available_engines()
    results, vectors, flow = [], {}, sheared_flow(size)
    for chip in CHIPS:
        vectors[chip], seconds = time_engines(engines, flow, chip, THREADS, rounds)
        results += [judge(name, flow, chip, found, seconds[name]) for name, found in vectors[chip].items()]
    for scene in (pure_shift(0.3, size=size), real_texture()):
        found, _ = time_engines(engines, scene, 32, (1,), 1)
        results += [judge(name, scene, 32, part, {}) for name, part in found.items()]
    return results, vectors, missing


def as_record(result: Result) -> dict[str, Any]:
    """Return a result as a plain dictionary, with its rates."""
    return {**result._asdict(), "chips_per_second": {n: result.rate(n) for n in result.seconds}}


def main() -> int:
    """Print the tables and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--picture", type=Path, help="PNG file to draw chips/s and RMSE into")
    parser.add_argument("--quick", action="store_true", help="a scene of 512 x 512 px, measured once")
    given = parser.parse_args()
    try:
        import cv2
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install -e '.[bench]'") from None
    cv2.setNumThreads(1)
    with threadpool_limits(1):
        results, vectors, missing = run(SIZE // 2 if given.quick else SIZE, 1 if given.quick else ROUNDS)
    for chip in CHIPS:
        show_speed(results, chip)
    for scene in dict.fromkeys(result.scene for result in results if not result.seconds):
        show_accuracy(results, scene)
    figures = speed_figures(results, vectors)
    show_figures("Speed against OpenCV", figures, f"Not here: {', '.join(missing)}." if missing else "")
    if given.picture:
        draw(results, given.picture)
    if given.json:
        content = {"results": [as_record(r) for r in results], "figures": as_records(figures), "missing": missing}
        write_json(given.json, {"benchmark": "peers", "quick": given.quick, **content})
    return exit_code(figures)


if __name__ == "__main__":
    sys.exit(main())
