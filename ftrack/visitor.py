"""The panel as a page for a group: every visitor has a folder of their own, named by the address of the page."""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from urllib.parse import parse_qs

import ipywidgets as w

import ftrack

# The panel is imported when there is a visitor to show it to, as ``ftrack.name``: the way to a page of one's own is short.

SETTINGS = "FTRACK_SERVE"
"""Environment variable in which ``ftrack serve`` hands over the folder, the background of the map, and the limits."""

_NAME = re.compile(r"[A-Za-z0-9_-]{6,64}")


def visitor_panel() -> w.Widget:
    """Return the panel of the visitor whom the address of the page names (``?visitor=...``), or the way to a new one.

    The name is long and random: whoever has the address has the runs.
    """
    said = json.loads(os.environ[SETTINGS])
    name = parse_qs(os.environ.get("QUERY_STRING", "")).get("visitor", [""])[0]
    if not _NAME.fullmatch(name):
        own = f"?visitor={secrets.token_urlsafe(12)}"
        text = f'<a class="ftrack-begin" href="{own}">Begin</a>: this is the address of your own page; keep it to find your runs again.'
        return w.HTML(f'<meta http-equiv="refresh" content="0; url={own}">{text}')
    limits = ftrack.PanelLimits(**said["limits"], own_files=False, one_run=True)
    return ftrack.Panel(Path(said["folder"]) / name / "panel.yaml", background=said["background"], limits=limits)
