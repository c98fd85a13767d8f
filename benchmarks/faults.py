"""What a run survives: drivers, workers and stores are disturbed, and the cube is compared with that of a run left alone.

    python -m benchmarks.faults                     # everything: some 15 minutes on two cores
    python -m benchmarks.faults driver --kills 5    # one part, shortened
    python -m benchmarks.faults --json faults.json

Parts: ``ways`` (threads, processes, other waves, shuffled), ``driver`` (SIGKILL, with a reader that looks on), ``workers``
(ended by exit and by a segmentation fault), ``store`` (an S3 server that fails now and then, or always), ``rot`` (flipped
bits), ``twins`` (two runs of one plan), ``memory`` and ``reads``. All of it happens in ``--folder``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

from benchmarks.fault_bench import Bench
from benchmarks.fault_processes import driver, rot, twins, ways, workers
from benchmarks.fault_store import reads, store
from benchmarks.memory import measure, write_archive
from benchmarks.report import Figure, as_records, exit_code, show_figures, write_json
from ftrack.errors import Stop
from ftrack.plan import make_plan


def memory(bench: Bench) -> list[Figure]:
    """Run with workers of 2 GiB, batches of 64 pairs and tiles of 512 px, and ask for more than fits."""
    listing = write_archive(bench.folder / "large", 34, 1100)
    options = SimpleNamespace(gaps=2, spacing=8, tile=512, workers=1, memory="2GiB", verbose=False)
    found = measure(listing, bench.folder / "memory", options)  # type: ignore[arg-type]
    workflow = bench.workflow(bench.fresh("refused.zarr"), kind="local", workers=1, threads=1, memory="600MB")
    try:
        make_plan(workflow)
        refused = 0
    except Stop:
        refused = 1
    share = found["peak_of_a_process_MB"] * 1e6 / 2**31
    return [
        Figure(f"worker of 2 GiB, {found['pairs']} pairs, tiles of 512 px: peak", 100 * share, at_most=60, unit="%", digits=0),
        Figure("the same as predicted for a block", found["predicted_block_MB"], unit="MB", digits=0),
        Figure("plan over the limit: refused", refused, 1, digits=0),
    ]


PARTS: dict[str, Callable[[Bench], list[Figure]]] = {
    part.__name__: part for part in (ways, driver, workers, store, rot, twins, memory, reads)
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Disturb runs, print what was found; return 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to do; all of it by default")
    parser.add_argument("--folder", type=Path, default=Path("build/faults"))
    parser.add_argument("--kills", type=int, default=20, help="drivers that are killed")
    parser.add_argument("--deaths", type=int, default=10, help="workers that are ended")
    parser.add_argument("--flips", type=int, default=200, help="bits that are flipped")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.folder.absolute(), options)
    figures: list[Figure] = []
    for name in options.parts or PARTS:
        found = PARTS[name](bench)
        show_figures(name, found)
        figures += found
    if options.json:
        write_json(options.json, {"figures": as_records(figures)})
    return exit_code(figures)


if __name__ == "__main__":
    raise SystemExit(main())
