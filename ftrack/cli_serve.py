"""The command that serves the panel as a web page."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import typer

from ftrack import console
from ftrack.command import told
from ftrack.errors import Stop

app = typer.Typer()

PAGE, RUNS = "The page", "What visitors may do"

NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "id": "panel",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": "from ftrack.visitor import visitor_panel\n\nvisitor_panel()",
        }
    ],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "title": "ftrack"},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@app.command(epilog="Example: ftrack serve --folder /data/runs --area 5000 --pairs 200")
@told
def serve(
    folder: Annotated[Path, typer.Option(help="where the runs of the visitors go", rich_help_panel=PAGE)] = Path("served"),
    host: Annotated[
        str, typer.Option(help="address to listen on; any but this machine's own asks for a token", rich_help_panel=PAGE)
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen on", rich_help_panel=PAGE, min=1, max=65535)] = 8866,
    token: Annotated[
        str | None, typer.Option(help="the token; one is made up if needed", rich_help_panel=PAGE, envvar="FTRACK_TOKEN")
    ] = None,
    area: Annotated[float, typer.Option(help="largest area of a run, km²", rich_help_panel=RUNS, min=1)] = 10_000.0,
    pairs: Annotated[int, typer.Option(help="most image pairs of a run", rich_help_panel=RUNS, min=1)] = 500,
    catalog: Annotated[
        list[str] | None, typer.Option(help="a catalogue that may be searched; may be repeated; else the public ones", rich_help_panel=RUNS)
    ] = None,
    gateway: Annotated[bool, typer.Option(help="let runs go to a Dask Gateway", rich_help_panel=RUNS)] = False,
    background: Annotated[
        str, typer.Option(help="behind the map: satellite, address of tiles, or empty", rich_help_panel=PAGE)
    ] = "satellite",
) -> None:
    """Serve the panel as a web page, for this machine only unless another address is given. A visitor has one run at a time."""
    if find_spec("voila") is None:
        raise Stop("the page needs Voila: pip install 'ftrack[panel]'")
    secret = token or ("" if is_loopback(host) else secrets.token_urlsafe(24))
    limits: dict[str, Any] = {"area": area, "pairs": pairs, "catalogues": list(catalog or ()), "gateway": gateway}
    settings = {"folder": str(folder.absolute()), "background": background, "limits": limits}
    environment = {**os.environ, "FTRACK_SERVE": json.dumps(settings), "JUPYTER_TOKEN": secret}
    address = f"http://{host}:{port}/{f'?token={secret}' if secret else ''}"
    with tempfile.TemporaryDirectory(prefix="ftrack-serve-") as place:
        notebook = Path(place) / "panel.ipynb"
        notebook.write_text(json.dumps(NOTEBOOK))
        options = ["--no-browser", f"--port={port}", f"--Voila.ip={host}"]
        options += [f"--MappingKernelManager.{name}" for name in ("cull_idle_timeout=600", "cull_interval=60")]
        options += ["--Voila.auto_token=True"] if secret else []
        console.out.print(f"the panel is at {address}", soft_wrap=True)
        code = subprocess.run([sys.executable, "-m", "voila", str(notebook), *options], env=environment, check=False).returncode
    if code not in (0, -2):
        raise Stop(f"the page could not be served (code {code}); is the port {port} free?")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
