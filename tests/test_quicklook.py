"""Quick-looks are read like all other pixels: small, and only from where files may be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_run import SHAPE, make_archive

import ftrack as ft
from ftrack.errors import Stop
from ftrack.quicklook import read_quicklook
from ftrack.sources import Access


def test_a_quicklook_is_small_and_runs_from_dark_to_bright(tmp_path: Path) -> None:
    scene = ft.find_scenes(make_archive(tmp_path, days=(1, 6)))[0]
    image = read_quicklook(scene, "nir", side=64)
    assert image.shape == (round(64 * SHAPE[0] / SHAPE[1]), 64)
    assert (np.nanmin(image), np.nanmax(image)) == (0.0, 1.0)


def test_a_file_that_may_not_be_read_is_not_shown(tmp_path: Path) -> None:
    scene = ft.find_scenes(make_archive(tmp_path, days=(1, 6)))[0]
    with pytest.raises(Stop, match="local_files"):
        read_quicklook(scene, "nir", Access(local_files=False))
