"""Where compiled kernels are kept: apart for every version of all of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from numba import config

import ftrack.kernels
from ftrack.kernels.compiled import compiled
from ftrack.kernels.smooth import keep_coherent

KEEPER = "import sys; sys.path.insert(0, sys.argv[1]); import kept.compiled as c; print(c._VERSION)"


def test_the_folder_is_that_of_the_version_and_others_keep_theirs() -> None:
    before = config.CACHE_DIR
    compiled(lambda x: x)
    assert before == config.CACHE_DIR
    assert "kernels-" in keep_coherent.stats.cache_path


def test_a_change_in_any_kernel_is_another_version(tmp_path: Path) -> None:
    """Also in one that is only called by the function that is compiled."""
    folder = tmp_path / "kept"
    shutil.copytree(Path(ftrack.kernels.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__", "__init__.py"))

    def version() -> str:
        return subprocess.run([sys.executable, "-c", KEEPER, str(tmp_path)], check=True, capture_output=True, text=True).stdout

    first = version()
    assert version() == first
    with (folder / "vectors.py").open("a") as file:
        file.write("# changed\n")
    assert version() != first
