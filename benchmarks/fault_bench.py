"""A small run that can be disturbed in many ways, the cube that nothing disturbed, and a reader that looks on."""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from benchmarks.memory import write_archive
from ftrack.cluster import open_client
from ftrack.config import Workflow, write_workflow
from ftrack.cube import open_cube
from ftrack.errors import FtrackError
from ftrack.plan import make_plan
from ftrack.run import Report, run_plan

SCENES, SIZE, TILE, SPACING = 5, 480, 96, 8
THREADS = 2
LOOKS = 20
COMMAND = [sys.executable, "-c", "from ftrack.cli import main; main()", "run"]


class Bench:
    """An archive, where things are put, and the cube that nothing disturbed."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        self.listing = write_archive(folder / "archive", SCENES, SIZE)
        self.random = random.Random(options.seed)
        self.reference = self.fresh("reference.zarr")
        report = self.run(self.workflow(self.reference))
        assert report.published
        self.blocks = report.blocks
        self.bytes = bytes_of(self.reference)
        self.cube = open_cube(str(self.reference), chunks=None)[["status", "vx"]].load()

    def workflow(self, output: Path | str, **cluster: Any) -> Workflow:
        """Return the workflow of all parts: small blocks, so that much can be cut off; displacement is kept, to see what is written."""
        return Workflow.read(
            {
                "scenes": {"catalog": str(self.listing), "asset": "nir"},
                "pairs": {"max_days": 11},
                "prefilter": {"kind": "highpass", "sigma": 3.0},
                "matcher": {"kind": "ncc", "chip_sizes": [16], "spacing": SPACING, "search_radius": 6},
                "run": {"tile": TILE, "keep_motion": True},
                "output": str(output),
                "cluster": {"kind": "threads", "threads": THREADS, **cluster},
            }
        )

    def run(self, workflow: Workflow) -> Report:
        """Run a workflow in this process."""
        plan = make_plan(workflow)
        with open_client(workflow.cluster) as client:
            return run_plan(plan, client)

    def fresh(self, name: str) -> Path:
        """Return a place for a cube at which there is nothing."""
        output = self.folder / name
        for path in (output, Path(f"{output}.run")):
            shutil.rmtree(path, ignore_errors=True)
        return output

    def start(self, workflow: Workflow) -> subprocess.Popen[bytes]:
        """Start a workflow as a user does."""
        file = self.folder / f"{Path(workflow.output).name}.yaml"
        file.write_text(write_workflow(workflow))
        return subprocess.Popen([*COMMAND, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def bytes_of(cube: Path) -> dict[str, str]:
    """Return a digest of every file of a cube by its place in it."""
    files = (path for path in sorted(cube.rglob("*")) if path.is_file() and path.suffix != ".partial")
    return {str(path.relative_to(cube)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Reader(threading.Thread):
    """Opens a cube every 20 ms and counts what it sees: nothing, all of it, or something else, which it keeps.

    The values are compared at the first looks that find a cube, then at every twentieth; the size always.
    """

    def __init__(self, cube: str, expected: xr.Dataset) -> None:
        super().__init__(daemon=True)
        self.cube, self.expected, self.ended = cube, expected, threading.Event()
        self.nothing, self.whole, self.parts = 0, 0, list[str]()

    def run(self) -> None:
        while not self.ended.wait(0.02):
            try:
                found = open_cube(self.cube, chunks=None)[list(self.expected)]
            except FtrackError:
                self.nothing += 1
                continue
            except Exception as error:
                self.parts.append(f"opening: {error!r}")
                continue
            if wrong := self._wrong(found):
                self.parts.append(wrong)
            else:
                self.whole += 1

    def _wrong(self, found: xr.Dataset) -> str:
        if found.sizes != self.expected.sizes:
            return f"sizes {dict(found.sizes)}"
        if self.whole > LOOKS and self.whole % LOOKS:
            return ""
        try:
            differ = [name for name, values in self.expected.items() if not np.array_equal(found[name], values, equal_nan=True)]
        except Exception as error:
            return f"reading: {error!r}"
        return f"other values of {', '.join(map(str, differ))}" if differ else ""

    def __enter__(self) -> Reader:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.2)
        self.ended.set()
        self.join()
