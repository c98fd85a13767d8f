"""What all tests share: where the real data lie, and quiet, short property tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ftrack", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
settings.load_profile("ftrack")

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder with real imagery, or skip and say where it was looked for."""
    folder = Path(os.environ.get("FTRACK_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not (folder / "perito-moreno" / "collection.json").exists():
        pytest.skip(f"no real data in {folder}; set FTRACK_TEST_DATA")
    return folder
