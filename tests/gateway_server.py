"""A Dask Gateway on this machine: the real server and its proxy, with the configuration that deploy/ has for one machine."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import dask
import psutil
import pytest

PROJECT = Path(__file__).resolve().parent.parent
CONFIG = PROJECT / "deploy" / "gateway" / "dask_gateway_config.py"
PASSWORD = "a password of tests"


class GatewayServer(NamedTuple):
    """Where the server can be reached, where it keeps its clusters, and its process."""

    address: str
    folder: Path
    pid: int

    def processes(self) -> list[psutil.Process]:
        """Return the schedulers and workers that run for it."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(self.folder / "clusters"):
                    found.append(process)
        return found


def free_ports(number: int) -> list[int]:
    """Return ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def gateway_server(folder: Path, **settings: str) -> Iterator[GatewayServer]:
    """Run a gateway, with the login in Dask's configuration, and stop it with all that it has started.

    ``settings`` are variables of the configuration without their FTRACK_GATEWAY_, such as ``IDLE_SECONDS="60"``. With TLS_CERT and
    TLS_KEY it is to be reached as https://localhost.
    """
    pytest.importorskip("dask_gateway_server.backends.local", reason="no dask-gateway-server[local] here")
    public, private = free_ports(2)
    given = {
        "PASSWORD": PASSWORD,
        "STATE": str(folder),
        "ADDRESS": f"127.0.0.1:{public}",
        "PRIVATE_ADDRESS": f"127.0.0.1:{private}",
        "INHERIT": "NUMBA_CACHE_DIR AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_ENDPOINT_URL AWS_DEFAULT_REGION",
        **settings,
    }
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **{f"FTRACK_GATEWAY_{name}": value for name, value in given.items()}}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask_gateway_server", "-f", str(CONFIG)],
            env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    certificate = settings.get("TLS_CERT")
    address = f"https://localhost:{public}" if certificate else f"http://127.0.0.1:{public}"
    try:
        trust = ssl.create_default_context(cafile=certificate) if certificate else None
        _wait(process, f"{address}/api/health", folder / "gateway.log", trust)
        login = {"gateway.address": address, "gateway.auth": {"type": "basic", "kwargs": {"username": "tester", "password": PASSWORD}}}
        with dask.config.set(login):
            yield GatewayServer(address, folder, process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, trust: ssl.SSLContext | None) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1, context=trust):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the gateway does not answer:\n{log.read_text()}")
