"""The shipped workflows, planned on items as the real catalogues give them."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import shapely
from conftest import PROJECT

from ftrack.config import read_workflow
from ftrack.plan import Plan, describe, make_plan

WORKFLOWS = PROJECT / "workflows"
SOME_KM = 0.1
"""Half the side of the planned area, degrees."""


def later(item: dict[str, Any], days: int) -> dict[str, Any]:
    """Return a recorded item as the next pass over the same ground would have given it."""
    moved = copy.deepcopy(item)
    time = datetime.fromisoformat(item["properties"]["datetime"].replace("Z", "+00:00"))
    stamp, next_stamp = f"{time:%Y%m%d}", f"{time + timedelta(days=days):%Y%m%d}"
    moved["properties"] = {
        key: value.replace(stamp, next_stamp) if isinstance(value, str) else value for key, value in item["properties"].items()
    }
    moved["properties"]["datetime"] = (time + timedelta(days=days)).isoformat()
    moved["id"] = item["id"].replace(stamp, next_stamp) if stamp in item["id"] else f"{item['id']}_{days}"
    return moved


def plan_of(name: str, recorded: Path, tmp_path: Path, days: tuple[int, ...], *overrides: str) -> Plan:
    """Plan a workflow on one recorded item and its later passes, over a small area in its middle."""
    item = json.loads(recorded.read_text())["features"][0]
    items = tmp_path / "items.json"
    items.write_text(json.dumps({"type": "FeatureCollection", "features": [item, *(later(item, d) for d in days)]}))
    middle = shapely.geometry.shape(item["geometry"]).centroid
    area = [middle.x - SOME_KM, middle.y - SOME_KM, middle.x + SOME_KM, middle.y + SOME_KM]
    changes = [f"scenes.catalog={items}", f"scenes.area={area}", "scenes.dates=null", f"output={tmp_path / 'cube.zarr'}", *overrides]
    return make_plan(read_workflow(WORKFLOWS / name, changes))


def test_sentinel2_of_jakobshavn(data_folder: Path, tmp_path: Path) -> None:
    recorded = data_folder / "stac-items" / "earth-search.aws.element84.com-sentinel-2-c1-l2a.json"
    plan = plan_of("jakobshavn-sentinel2.yaml", recorded, tmp_path, (10, 20, 35), "grid.crs=null", "scenes.max_cloud=90")
    assert [pair.temporal_baseline for pair in plan.pairs] == [10.0, 10.0, 15.0]
    assert plan.grid.crs.startswith("EPSG:327")
    assert plan.grid.resolution == 10.0
    assert plan.nodes.resolution == 120.0
    facts = describe(plan)
    assert facts["vectors"] == 3 * plan.nodes.height * plan.nodes.width
    assert facts["bytes_to_read"] > 4 * plan.grid.height * plan.grid.width * 2


def test_landsat_of_jakobshavn(data_folder: Path, tmp_path: Path) -> None:
    recorded = data_folder / "stac-items" / "planetarycomputer.microsoft.com-landsat-c2-l2.json"
    # Recorded are items of level 2, which have no panchromatic band.
    changes = ("scenes.asset=nir08", "grid.resolution=30", "scenes.orbits=[]", "scenes.collections=[landsat-c2-l2]")
    plan = plan_of("jakobshavn-landsat.yaml", recorded, tmp_path, (16, 32), *changes, "scenes.max_cloud=100")
    assert [pair.temporal_baseline for pair in plan.pairs] == [16.0, 32.0, 16.0]
    assert plan.grid.resolution == 30.0
    assert {scene.orbit[0] for scene in plan.scenes} == {"P"}


def test_perito_moreno(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTRACK_TEST_DATA", str(data_folder))
    plan = make_plan(read_workflow(WORKFLOWS / "perito-moreno.yaml", [f"output={tmp_path / 'cube.zarr'}"]))
    assert len(plan.scenes) == 8
    assert len(plan.pairs) == 21
