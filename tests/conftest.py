"""What all tests share: where the real data lie, and quiet, short property tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
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


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo what the command line and other programs do to logging, which is one for the whole process."""
    log = logging.getLogger("ftrack")
    before = (log.level, log.handlers[:], log.propagate, logging.root.manager.disable)
    logging.disable(logging.NOTSET)
    yield
    log.setLevel(before[0])
    log.handlers[:], log.propagate = before[1], before[2]
    logging.disable(before[3])
