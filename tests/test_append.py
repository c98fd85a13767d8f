"""New scenes are appended to a published cube: nothing of what is there changes, and readers see all or nothing of what is new."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from distributed import Client
from small_run import bytes_of, make_archive, make_workflow

from ftrack.cluster import open_client
from ftrack.config import ClusterSettings, Workflow
from ftrack.cube import open_cube
from ftrack.errors import Stop
from ftrack.plan import make_plan, read_plan, write_plan
from ftrack.run import Event, run_plan
from ftrack.schema import Status
from ftrack.verify import verify_cube

SHAPE = (96, 128)
DAYS = tuple(range(1, 76, 5))
SCENES = (12, 13, 15)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with open_client(ClusterSettings(kind="threads", threads=2)) as opened:
        yield opened


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lists of the first scenes and of all of them."""
    folder = tmp_path_factory.mktemp("archive")
    items = json.loads(make_archive(folder, SHAPE, DAYS).read_text())
    for count in SCENES:
        (folder / f"{count}.json").write_text(json.dumps({**items, "features": items["features"][:count]}))
    return folder


@pytest.fixture(scope="module")
def published(archive: Path, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cube of the first 12 scenes."""
    output = tmp_path_factory.mktemp("published") / "cube.zarr"
    assert run_plan(make_plan(workflow(archive, 12, output)), client).published
    return output


def workflow(archive: Path, count: int, output: Path, **changes: object) -> Workflow:
    return make_workflow(archive / f"{count}.json", output, run={"tile": 64}, **changes)


def copied(cube: Path, folder: Path) -> Path:
    output = folder / "cube.zarr"
    shutil.copytree(cube, output)
    shutil.copytree(f"{cube}.run", f"{output}.run")
    return output


def chunks_of(cube: Path) -> dict[str, str]:
    return {name: digest for name, digest in bytes_of(cube).items() if not name.endswith("zarr.json")}


def test_new_scenes_are_appended_and_what_is_there_stays(published: Path, archive: Path, client: Client, tmp_path: Path) -> None:
    output = copied(published, tmp_path)
    old, before = bytes_of(output), open_cube(str(output))
    seen = before.load().copy()
    lazy = open_cube(str(output))
    sizes: set[int] = set()

    def look(event: Event) -> None:
        if event.kind == "block":
            assert bytes_of(output).items() >= old.items()
            sizes.add(xr.open_zarr(output, consolidated=False).sizes["mid_date"])
            sizes.add(open_cube(str(output)).sizes["mid_date"])

    plan = make_plan(workflow(archive, 15, output))
    assert [part.pairs for part in plan.earlier] == [21] and len(plan.pairs) == 27
    assert read_plan(write_plan(plan)) == plan
    report = run_plan(plan, client, look)
    assert report.published and report.blocks == len(plan.blocks) == 4
    assert sizes == {21}
    assert chunks_of(output).items() >= {n: d for n, d in old.items() if not n.endswith("zarr.json")}.items()
    xr.testing.assert_identical(lazy.load(), seen)
    assert verify_cube(str(output)).problems == ()
    after = open_cube(str(output)).load()
    assert after.indexes["mid_date"].is_monotonic_increasing and after.sizes["mid_date"] == 27
    xr.testing.assert_identical(after.sel(mid_date=seen["mid_date"]).drop_attrs(), seen.drop_attrs())
    whole = tmp_path / "whole.zarr"
    assert run_plan(make_plan(workflow(archive, 15, whole)), client).published
    xr.testing.assert_identical(after.drop_attrs(), open_cube(str(whole)).load().drop_attrs())
    raw = xr.open_zarr(output)
    assert raw.sizes["mid_date"] == 64 + 6 and bool((raw["status"][21:64] == Status.NOT_COMPUTED).all())
    assert np.isnat(raw["mid_date"].values[21:64]).all()


def test_an_append_that_was_interrupted_goes_on_and_another_follows(published: Path, archive: Path, client: Client, tmp_path: Path) -> None:
    output = copied(published, tmp_path)

    def interrupt(event: Event) -> None:
        if event.kind == "block" and event.phase == "velocity" and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(make_plan(workflow(archive, 13, output)), client, interrupt)
    assert open_cube(str(output)).sizes["mid_date"] == 21
    with pytest.raises(Stop, match="begun to append"):
        make_plan(workflow(archive, 15, output))
    report = run_plan(make_plan(workflow(archive, 13, output)), client)
    assert report.published and report.resumed == report.blocks == 4
    old = bytes_of(output)
    report = run_plan(make_plan(workflow(archive, 15, output)), client)
    assert report.published
    now = bytes_of(output)
    assert {name for name in old if old[name] != now[name] and "/c/" in name and len(name.split("/")) > 3} == set()
    assert verify_cube(str(output)).problems == ()
    assert open_cube(str(output)).sizes["mid_date"] == 27
    told: list[Event] = []
    assert run_plan(make_plan(workflow(archive, 15, output)), client, told.append).published
    assert [event.kind for event in told] == ["unchanged"]
    assert bytes_of(output) == now


@pytest.mark.parametrize(
    ("count", "changes", "text"),
    [
        (15, {"matcher": {"search_radius": 4}}, "settings"),
        (15, {"grid": {"bounds": [560000, 7669200, 561000, 7670000]}}, "settings|grid"),
        (12, {"scenes": {"dates": "2021-06-05/2021-09-01"}}, "scene S2A_0 is not among"),
    ],
)
def test_what_cannot_be_appended_is_refused_with_the_reason(
    published: Path, archive: Path, count: int, changes: dict[str, object], text: str
) -> None:
    with pytest.raises(Stop, match=rf"cannot append: .*({text})"):
        make_plan(workflow(archive, count, published, **changes))


def test_wider_dates_without_new_scenes_are_nothing_to_do(published: Path, archive: Path, client: Client) -> None:
    told: list[Event] = []
    wide = workflow(archive, 12, published, scenes={"dates": "2021-01-01/.."})
    assert run_plan(make_plan(wide), client, told.append).published
    assert [event.kind for event in told] == ["unchanged"]
