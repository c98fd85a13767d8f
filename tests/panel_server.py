"""One Jupyter server that serves a notebook with the panel through JupyterLab and through Voila, and a browser to look at it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, TimeoutError, expect, sync_playwright

PROJECT = Path(__file__).resolve().parent.parent
PICTURES = PROJECT / "artifacts" / "panel"
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
STARTED = 60
PATIENCE = 120_000
"""Milliseconds after which something on a page counts as not there, also on a machine that is busy."""

expect.set_options(timeout=PATIENCE)


def write_notebook(path: Path, source: str) -> None:
    """Write a notebook with one cell."""
    cell = {"cell_type": "code", "id": "panel", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path.write_text(json.dumps({"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


@contextmanager
def jupyter_at(folder: Path, known: Mapping[str, str] | None = None) -> Iterator[str]:
    """Serve a folder with JupyterLab, which has Voila in it, and give the address; ``known`` are more variables of its environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = {f"JUPYTER_{name}_DIR": str(folder / ".home" / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", f"--ServerApp.root_dir={folder}"]
    options += ["--ServerApp.port_retries=0", "--IdentityProvider.token="]
    quiet = folder / ".home" / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    home["JUPYTERLAB_SETTINGS_DIR"] = str(folder / ".home" / "settings")
    environment = {**os.environ, **home, **(known or {})}
    with (folder / "jupyter.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyter", "lab", *options], stdout=log, stderr=log, env=environment, cwd=folder)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/api/status", server)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + STARTED
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"no server at {address}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Browser, address: str) -> Page:
    """Return a page that reaches nothing but the server, and counts clicks."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE)
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith((address, "data:", "blob:")) else route.abort())
    page.add_init_script("window.clicks = 0; addEventListener('click', (e) => { if (e.isTrusted) window.clicks += 1; }, true);")
    return page


def box_of(place: Locator) -> dict[str, float]:
    """Return where something lies on the page, once it does: it has no place while it is made anew."""
    for _ in range(PATIENCE // 100):
        if (box := place.bounding_box()) is not None:
            return dict(box)
        place.page.wait_for_timeout(100)
    raise AssertionError("the page does not show it")


def map_box(page: Page) -> dict[str, float]:
    """Return where the map lies on the page."""
    return box_of(page.locator(".ftrack-panel .leaflet-container"))


def centre_of_map(page: Page) -> tuple[float, float]:
    """Return the middle of the map on the page."""
    box = map_box(page)
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def click_map(page: Page, answer: Locator, right: float = 0, down: float = 0) -> None:
    """Click the map beside its middle until there is an answer: a map that has just been made anew may not heed clicks yet."""

    def click() -> None:
        x, y = centre_of_map(page)
        page.mouse.click(x + right, y + down)

    _until_answered(click, answer)


def draw_rectangle(page: Page, answer: Locator) -> None:
    """Draw a rectangle of 200 px about the middle of the map until there is an answer."""

    def draw() -> None:
        page.locator(".leaflet-draw-draw-rectangle").click()
        x, y = centre_of_map(page)
        page.mouse.move(x - 100, y - 100)
        page.mouse.down()
        page.mouse.move(x, y, steps=4)
        page.mouse.move(x + 100, y + 100, steps=4)
        page.mouse.up()

    _until_answered(draw, answer)


def _until_answered(act: Callable[[], None], answer: Locator) -> None:
    for _ in range(PATIENCE // 10_000):
        act()
        try:
            return answer.first.wait_for(timeout=10_000)
        except TimeoutError:
            continue
    raise AssertionError("the map does not heed what is done to it")


def picture_of(page: Page, name: str) -> None:
    """Keep a screenshot among the artefacts, and a copy where ``FTRACK_PICTURES`` says, which is how those of the README are made."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")
    if (folder := os.environ.get("FTRACK_PICTURES")) and name.startswith("voila-"):
        plain = Image.open(PICTURES / f"{name}.png").convert("RGB")  # fewer colours would show as bands
        plain.save(Path(folder) / f"{name.replace('voila', 'panel')}.png", optimize=True)
