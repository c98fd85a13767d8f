"""The panel as a page: loopback without a token, any other address with one, and a folder for each visitor."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from ftrack.cli_serve import is_loopback
from ftrack.view.panel import Panel
from ftrack.visitor import SETTINGS, visitor_panel


@pytest.mark.parametrize(
    ("host", "near"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("example.org", False)]
)
def test_only_addresses_of_this_machine_need_no_token(host: str, near: bool) -> None:
    assert is_loopback(host) is near


def test_a_visitor_gets_a_long_name_first_and_then_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"area": 500.0, "pairs": 7, "catalogues": [], "gateway": False}
    monkeypatch.setenv(SETTINGS, json.dumps({"folder": str(tmp_path), "background": "", "limits": limits}))
    monkeypatch.delenv("QUERY_STRING", raising=False)
    first = str(visitor_panel().value)
    names = set(re.findall(r"\?visitor=([\w-]+)", first))
    assert len(names) == 1 and len(names.pop()) >= 16
    monkeypatch.setenv("QUERY_STRING", "visitor=../../etc")
    assert "?visitor=" in visitor_panel().value
    monkeypatch.setenv("QUERY_STRING", "token=x&visitor=somebody-12345")
    panel = visitor_panel()
    assert isinstance(panel, Panel)
    assert panel.state.file == tmp_path / "somebody-12345" / "panel.yaml"
    assert panel.state.limits.pairs == 7 and panel.state.limits.one_run and not panel.state.limits.own_files


def status_of(address: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address), timeout=30) as answer:
            return int(answer.status) if "login" not in answer.url else 401
    except urllib.error.HTTPError as error:
        return error.code


def test_the_page_asks_for_its_token(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        "from ftrack.cli import main; main()",
        "serve",
        "--folder",
        str(tmp_path / "runs"),
        "--port",
        str(port),
    ]
    server = subprocess.Popen([*command, "--token", "sesame"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/login", timeout=5).close()
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.3)
            else:
                break
        assert status_of(f"http://127.0.0.1:{port}/") in (401, 403)
        assert status_of(f"http://127.0.0.1:{port}/?token=sesame") == 200
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
