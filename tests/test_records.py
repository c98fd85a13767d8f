"""Records survive the round trip, say why a block failed, and leak no signatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftrack.errors import Stop
from ftrack.records import Record, describe_error, failure, read_records, remove, write_record
from ftrack.store import get, put


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "cube.run")
    remove("memory://records/cube.run")
    return "memory://records/cube.run"


def test_records_come_back_as_they_were_written(folder: str) -> None:
    ok = Record(phase="match", block="0-1-2", run_id="r", status="ok", measured=(3, 0), digests={"dx": "ab"}, seconds=1.5)
    bad = failure("velocity", "0-1-2", "r", OSError("broken pipe"))
    for record in (ok, bad):
        write_record(folder, record)
    assert read_records(folder, "r") == {("match", "0-1-2"): ok, ("velocity", "0-1-2"): bad}
    assert ok.done and not bad.done
    assert "broken pipe" in bad.reason


def test_a_record_is_small(folder: str) -> None:
    digests = {f"variable_{n}": "0" * 32 for n in range(11)}
    record = Record(phase="velocity", block="100-100-100", run_id="0" * 32, status="ok", measured=(262144,) * 64, digests=digests)
    write_record(folder, record)
    assert len(get(folder, "blocks/velocity-100-100-100.json") or b"") < 2000


def test_records_of_another_run_are_refused(folder: str) -> None:
    write_record(folder, Record(phase="match", block="0-0-0", run_id="other", status="ok"))
    with pytest.raises(Stop, match="another run"):
        read_records(folder, "mine")


def test_a_damaged_record_is_named(folder: str) -> None:
    put(folder, "blocks/match-0-0-0.json", b"{")
    with pytest.raises(Stop, match=r"match-0-0-0\.json"):
        read_records(folder, "mine")


def test_no_folder_means_no_records(folder: str) -> None:
    assert read_records(folder, "mine") == {}
    remove(folder)


def test_reasons_name_the_cause_without_signatures() -> None:
    try:
        try:
            raise OSError("cannot read https://host/a.tif?sig=SECRET&se=1 at all")
        except OSError as inner:
            raise RuntimeError("scene S2A_1") from inner
    except RuntimeError as error:
        text = describe_error(error)
    assert "scene S2A_1" in text
    assert "https://host/a.tif at all" in text
    assert "SECRET" not in text


def test_only_what_is_named_is_removed(folder: str) -> None:
    for key in ("motion/dx/c/0/0/0", "motion/dx/zarr.json", "motionless/a", "plan.json"):
        put(folder, key, b"x")
    remove(folder, "motion")
    assert [get(folder, key) for key in ("motion/dx/c/0/0/0", "motion/dx/zarr.json")] == [None, None]
    assert [get(folder, key) for key in ("motionless/a", "plan.json")] == [b"x", b"x"]
    remove(folder)
    assert get(folder, "plan.json") is None
