"""The panel and a Dask Gateway, without a browser: its options, a login that is refused, and a gateway that goes away during a run."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from gateway_server import GatewayServer, gateway_server
from small_run import make_archive

from ftrack.view.panel import Panel


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GatewayServer]:
    with gateway_server(tmp_path / "gateway") as running:
        yield running


@pytest.fixture
def running(tmp_path: Path) -> Any:
    """Return the step Run of a panel whose run is long, and goes to the gateway."""
    values = {
        "scenes": {"catalog": str(make_archive(tmp_path / "archive")), "asset": "nir"},
        "matcher": {"chip_sizes": [16, 32], "search_radius": 90, "spacing": 4, "search": "full"},
        "run": {"tile": 64},
        "cluster": {"kind": "gateway", "workers": 1},
        "output": str(tmp_path / "velocity.zarr"),
    }
    (tmp_path / "panel.yaml").write_text(json.dumps(values))
    panel = Panel(tmp_path / "panel.yaml", background="")
    panel.open_step("Run")
    return panel._built["Run"]


def test_a_login_that_is_refused_and_a_gateway_that_goes_away_are_told_where_they_matter(server: GatewayServer, running: Any) -> None:
    wrong = {"type": "basic", "kwargs": {"username": "tester", "password": "another one"}}
    with dask.config.set({"gateway.auth": wrong}):
        running.connect()
        assert running.where_said.kind == "error" and "refuses the login (401)" in running.where_said.text
        running.start()
        assert running.said.kind == "error" and "refuses the login" in running.said.text
        assert not running.start_button.disabled and running.state.job is None
    running.connect()
    assert running.where_said.kind == "ok"
    running.options["worker_memory"] = 2.0
    running.start()
    assert running.state.value("cluster", "options")["worker_memory"] == 2.0
    end = time.monotonic() + 120
    while running.state.status.state != "running" and time.monotonic() < end:
        time.sleep(0.2)
        running.look()
    os.kill(server.pid, signal.SIGKILL)
    for process in server.processes():
        process.kill()
    while not running.state.status.ended and time.monotonic() < end:
        running.look()
    status = running.state.status
    assert status.state in ("failed", "dead") and status.reason  # whether its driver could still say so
    assert running.said.kind == "error" and "✖ " + status.state in running.said.text
    assert "ftrack-log" in running.journal.value and not running.resume_button.disabled
    running.resume()
    assert running.said.kind == "error" and "does not answer" in running.said.text
    assert not running.resume_button.disabled
