"""What all tests share: where the real data lie, and quiet, short property tests."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import dask
import distributed.client
import pytest
from distributed import Client
from hypothesis import HealthCheck, settings

with suppress(ImportError):
    # It adds what it does not find to Dask's configuration, which is compared before and after every test.
    import dask_gateway  # noqa: F401

# Dask's profiler can hang Python before 3.11.9 for good; clusters of tests in this process and in others go without it.
os.environ["DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"] = "False"
dask.config.refresh()

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
def _dask_as_it_was() -> Iterator[None]:
    """Fail the test that leaves Dask's configuration changed or a default client behind, and undo it for those that follow."""
    config, before, clients = dask.config.config, copy.deepcopy(dask.config.config), _default_clients()
    yield
    left = _default_clients() - clients
    # A scheduler without bokeh adds a page to the list in place.
    config["distributed"]["scheduler"]["http"] = before["distributed"]["scheduler"]["http"]
    # Packages that are imported meanwhile add sections of their own, which stay.
    changed = {key: config.get(key) for key in (*before, "scheduler", "get", "pool") if config.get(key) != before.get(key)}
    for client in left:
        client.close()
    for key in changed:
        config.pop(key, None)
    config.update({key: before[key] for key in changed if key in before})
    assert not changed, "Dask's configuration was left changed"
    assert not left, "a default client was left behind"


def _default_clients() -> set[Client]:
    return {client for client in distributed.client._global_clients.values() if client.status != "closed"}


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
