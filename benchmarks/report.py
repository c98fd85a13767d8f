"""How benchmarks say what they found: a table that can be read alone, and the same as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

WIDE = 160
"""Characters in a line where no terminal limits them."""

PACKAGES = ("ftrack", "numpy", "scipy", "numba", "opencv-python-headless", "openpiv", "scikit-image", "autoRIFT")


class Figure(NamedTuple):
    """One measured number and what is asked of it.

    ``at_least`` and ``at_most`` are the limits, None where there is none; a figure without limits is for information.
    """

    what: str
    measured: float
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    digits: int = 3

    @property
    def asked(self) -> str:
        """The limits in words."""
        low, high = (None if v is None else f"{v:g}" for v in (self.at_least, self.at_most))
        if low and high:
            return f"{low} to {high}"
        return f"at least {low}" if low else f"at most {high}" if high else "-"

    @property
    def holds(self) -> bool | None:
        """Whether the limits are kept; None without limits. A number that could not be measured keeps none."""
        if self.at_least is None and self.at_most is None:
            return None
        low = self.at_least is None or self.measured >= self.at_least
        high = self.at_most is None or self.measured <= self.at_most
        return low and high


def show_figures(title: str, figures: Sequence[Figure], caption: str = "") -> None:
    """Print figures as a table: what, asked, measured, OK or NOT."""
    rows = [
        (f.what, f.asked, f"{f.measured:.{f.digits}f} {f.unit}".rstrip(), {True: "OK", False: "NOT", None: "-"}[f.holds]) for f in figures
    ]
    show_table(title, ("figure", "asked", "measured", ""), rows, caption)


def show_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> None:
    """Print a table; the first column is text, the others are numbers."""
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k else "left", no_wrap=k > 0)
    for row in rows:
        table.add_row(*row)
    Console(width=None if Console().is_terminal else WIDE).print(table)


def as_records(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return figures as plain dictionaries."""
    return [{**f._asdict(), "holds": f.holds} for f in figures]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write what was measured, with the versions it was measured with."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    path.write_text(json.dumps({"versions": versions, **content}, indent=1) + "\n")


def exit_code(figures: Sequence[Figure]) -> int:
    """Return 1 if a figure does not hold, else 0."""
    return int(any(figure.holds is False for figure in figures))
