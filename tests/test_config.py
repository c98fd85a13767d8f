"""A workflow file says all of a run, refuses what it does not know, and comes back whole from its own text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ftrack.config import (
    PATHS,
    ClusterSettings,
    RunSettings,
    SceneSettings,
    Workflow,
    cluster_changes,
    init_workflow,
    parse_workflow,
    read_workflow,
    write_workflow,
)
from ftrack.document import LARGEST, parse_yaml
from ftrack.errors import Stop
from ftrack.matchers import NCC
from ftrack.pairs import PairSettings
from ftrack.prefilters import NAOF, HighPass, NoFilter, Wallis
from ftrack.scenes import find_scenes
from ftrack.stable import StableSettings
from ftrack.stac import asset_of
from ftrack.stack import GridSettings, MaskSettings

PROJECT = Path(__file__).resolve().parent.parent
HERE = Path("/somewhere")
LEAST = "scenes: {catalog: catalog.json, asset: nir}\n"


def parse(text: str, *overrides: str) -> Workflow:
    return parse_workflow(text, "my.yaml", HERE, overrides)


def fault(text: str, *overrides: str) -> str:
    with pytest.raises(Stop) as caught:
        parse(text, *overrides)
    return str(caught.value)


# Reading


def test_the_least_workflow_is_a_catalogue_and_an_asset() -> None:
    workflow = parse(LEAST)
    assert workflow.scenes.catalog == "/somewhere/catalog.json"
    assert workflow.output == "/somewhere/velocity.zarr"
    assert workflow.matcher == NCC()
    assert workflow.prefilter == HighPass()


def test_the_names_of_a_workflow_hold() -> None:
    text = """
name: all
scenes: {catalog: a, collections: [b], area: [-50, 69, -49, 69.5], dates: 2020-01-01/2020-02-01, max_cloud: 20, asset: nir, mask: null}
grid: {crs: EPSG:32622, resolution: 10, bounds: null}
pairs: {min_days: 1, max_days: 30, same_orbit: true}
prefilter: {kind: highpass}
matcher: {kind: ncc, chip_sizes: [16, 32], spacing: 8, search_radius: 16}
outliers: {}
fill: {}
stable: {area: rock.gpkg}
output: out.zarr
"""
    workflow = parse(text)
    assert workflow.scenes.area == (-50.0, 69.0, -49.0, 69.5)
    assert workflow.stable.area == "/somewhere/rock.gpkg"
    assert workflow.grid.crs == "EPSG:32622"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "my.yaml: scenes: this setting is needed"),
        ("- a", "my.yaml: a workflow is made of 'name: value' lines; this is list"),
        ("just words", "my.yaml: a workflow is made of 'name: value' lines; this is str"),
        (LEAST + "scense: 1", "my.yaml: scense: unknown setting; did you mean 'scenes'?"),
        (LEAST + "matcher: {chip_size: 32}", "my.yaml: matcher.chip_size: unknown setting; did you mean 'chip_sizes'?"),
        (LEAST + "prefilter: {kind: wallis, sigma: 3}", "my.yaml: prefilter.sigma: unknown setting; known: floor, kind, width"),
        (LEAST + "prefilter: {kind: walis}", "my.yaml: prefilter: unknown kind 'walis'; did you mean 'wallis'?"),
        (LEAST + "pairs: 30", "my.yaml: pairs: settings of its own belong here, as 'name: value' (got 30)"),
        (
            LEAST + "pairs:\n  max_days: 3\n  max_days: 4\n",
            "my.yaml, line 4, column 3: 'max_days' stands here a second time; the first is in line 3",
        ),
        (LEAST + "pairs: [1, 2", "my.yaml, line 2, column 13: expected ',' or ']', but got '<stream end>'"),
        (LEAST + "pairs:\n\tmax_days: 3", "my.yaml, line 3, column 1: found character '\\t' that cannot start any token"),
        (LEAST + "1: 2", "my.yaml, line 2, column 1: the name of a setting must be plain text, as in 'name: value'"),
        (LEAST + "pairs: !!python/name:os.system ''", "my.yaml, line 2, column 8: could not determine a constructor"),
        ("scenes: &a {catalog: x, asset: y}\nname: *a", "my.yaml, line 1, column 9: an alias (*name) is not understood here"),
        (LEAST + "matcher: {spacing: .nan}", "my.yaml: matcher.spacing: Input should be a finite number"),
        (LEAST + "run: {tile: 32}\nmatcher: {spacing: 64}", "my.yaml: Workflow: run.tile (32 px) is smaller than matcher.spacing (64 px)"),
        ("scenes: {catalog: a, asset: b, area: [1, 2, 3]}", "my.yaml: scenes.area: the area [1, 2, 3] cannot be read"),
        (
            "scenes: {catalog: a, asset: b, area: [500000, 1, 600000, 2]}",
            "my.yaml: scenes.area: the area (500000.0, 1.0, 600000.0, 2.0) is not a box",
        ),
        ("scenes: {catalog: a, asset: b, dates: 2020-02-31}", "my.yaml: scenes.dates: the date '2020-02-31' cannot be read"),
        ("scenes: {catalog: '', asset: b}", "my.yaml: scenes.catalog: String should have at least 1 character"),
    ],
)
def test_a_faulty_file_is_told_where_and_what(text: str, message: str) -> None:
    assert fault(text).startswith(message)


def test_all_faults_come_at_once() -> None:
    lines = fault("scenes: {catalog: a}\nmatcher: {spacing: 0, chip_sizes: [15]}\nfoo: 1").splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["my.yaml", "matcher.chip_sizes", "matcher.spacing", "foo"]
    assert "scenes.asset: this setting is needed" in lines[0]


def test_a_document_cannot_exhaust_the_machine() -> None:
    assert f"at most {LARGEST}" in fault("#" * (LARGEST + 1))
    assert "nested too deeply" in fault("a: " + "[" * 1000)


@pytest.mark.parametrize("text", ["2020-01-01", "2020-01-01T10:00:00Z", "011", "007", "12:30", "2020-13-45", "1:30.5"])
def test_text_that_yaml_would_change_stays_text(text: str) -> None:
    assert parse_yaml(f"a: {text}", "f") == {"a": text}


def test_numbers_stay_numbers() -> None:
    assert parse_yaml("a: [0, 7, -3, 0.5, 1_000, 0x1f, 1.0e+3]", "f") == {"a": [0, 7, -3, 0.5, 1000, 31, 1000.0]}


@pytest.mark.parametrize("dates", ["2020-01-01/2020-02-01", "[2020-01-01, 2020-02-01]", "'2020-01-01/2020-02-01'"])
def test_dates_need_no_quotes(dates: str) -> None:
    assert parse(f"scenes: {{catalog: a, asset: b, dates: {dates}}}").scenes.dates == "2020-01-01/2020-02-01"


def test_a_section_without_settings_has_its_defaults() -> None:
    assert parse(LEAST + "pairs:\nmatcher:\n").pairs == PairSettings()


def test_a_missing_or_unreadable_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="ftrack init"):
        read_workflow(tmp_path / "none.yaml")
    with pytest.raises(Stop, match="cannot be read"):
        read_workflow(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: Sermeq Kujalleq \xe9\n")
    with pytest.raises(Stop, match="cannot be read"):
        read_workflow(tmp_path / "latin.yaml")


# Paths


def test_paths_are_relative_to_the_file_and_those_of_overrides_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "w.yaml").write_text("scenes: {catalog: ../c.json, asset: nir, area: a.geojson}\noutput: s3://bucket/cube.zarr\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    workflow = read_workflow("../study/w.yaml", ["scenes.area=b.geojson", "stable.area=rock.gpkg"])
    assert workflow.scenes.catalog == str(tmp_path / "c.json")
    assert workflow.scenes.area == str(tmp_path / "here" / "b.geojson")
    assert workflow.stable.area == str(tmp_path / "here" / "rock.gpkg")
    assert workflow.output == "s3://bucket/cube.zarr"
    assert read_workflow("../study/w.yaml", ["stable={area: rock.gpkg}"]).stable.area == str(tmp_path / "here" / "rock.gpkg")
    slow = read_workflow("../study/w.yaml", ["stable.reference=[vx.tif, s3://bucket/vy.tif]"])
    assert slow.stable.reference == (str(tmp_path / "here" / "vx.tif"), "s3://bucket/vy.tif")
    assert read_workflow("../study/w.yaml", ["output=x"]).output == str(tmp_path / "here" / "x")


@pytest.mark.parametrize("place", ["https://host/stac/v1", "s3://bucket/a", "file:///a/b", "gs://x/y"])
def test_addresses_stay_as_they_are(place: str) -> None:
    assert parse(f"scenes: {{catalog: '{place}', asset: nir}}\noutput: {place}").output == place


def test_variables_of_the_environment_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "scenes: {catalog: '${FTRACK_X:-rel}/c.json', asset: nir}\noutput: ${FTRACK_Y}/o.zarr\n"
    monkeypatch.delenv("FTRACK_X", raising=False)
    monkeypatch.setenv("FTRACK_Y", "/y")
    assert parse(text).scenes.catalog == "/somewhere/rel/c.json"
    assert parse(text).output == "/y/o.zarr"
    monkeypatch.setenv("FTRACK_X", "s3://bucket")
    assert parse(text).scenes.catalog == "s3://bucket/c.json"
    monkeypatch.delenv("FTRACK_Y")
    assert fault(text) == "my.yaml: output needs the environment variable FTRACK_Y, which is not set; set it, or give --set output=PATH"
    assert parse(text, "output=/z").output == "/z"


def test_an_area_may_be_four_numbers_in_text() -> None:
    assert parse(LEAST, "scenes.area=-50,69 -49.5, 69.5").scenes.area == (-50.0, 69.0, -49.5, 69.5)


# Overrides


def test_every_setting_can_be_set() -> None:
    workflow = parse(
        LEAST, "matcher.chip_sizes=[16, 64]", "pairs.max_days=12", "name=2020", "prefilter={kind: wallis}", "cluster.kind=threads"
    )
    assert workflow.matcher.chip_sizes == (16, 64)
    assert workflow.pairs.max_days == 12.0
    assert workflow.name == "2020"
    assert workflow.prefilter == Wallis()
    assert workflow.cluster.kind == "threads"


def test_a_later_override_wins_and_equals_signs_may_stand_in_a_value() -> None:
    assert parse(LEAST, "name=a", "name=b=c").name == "b=c"


def test_a_section_keeps_its_default_kind() -> None:
    assert parse(LEAST, "prefilter.sigma=9").prefilter == HighPass(sigma=9.0)
    assert parse(LEAST + "prefilter: {kind: naof}", "prefilter.sigma=9").prefilter == NAOF(sigma=9.0)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("matcher.chip_size=3", "--set matcher.chip_size=3: unknown setting 'chip_size'; did you mean 'chip_sizes'?"),
        ("matchr.spacing=3", "--set matchr.spacing=3: unknown setting 'matchr'; did you mean 'matcher'?"),
        ("name.sub=3", "--set name.sub=3: unknown setting 'sub'; there are no settings inside"),
        ("matcher.spacing", "--set matcher.spacing: write it as key.sub=value, such as matcher.spacing=16"),
        ("=3", "--set =3: write it as key.sub=value"),
        ("matcher.spacing=[3", "--set matcher.spacing=[3, line 1, column 3: expected ',' or ']'"),
        ("matcher.spacing=x", "my.yaml: matcher.spacing: Input should be a valid integer"),
        ("prefilter.width=9", "my.yaml: prefilter.width: unknown setting; known: kind, sigma"),
    ],
)
def test_a_faulty_override_is_told(assignment: str, message: str) -> None:
    assert fault(LEAST, assignment).startswith(message)


# Writing

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=30).filter(lambda text: "${" not in text)
names = st.text("abc xyz-_.#:'\"äø\\{}[]&*!|>%@", min_size=1, max_size=20)
places = names.map(lambda name: f"/data/{name.strip('.')}x")
filters = st.sampled_from([NoFilter(), HighPass(sigma=2.5), Wallis(width=31, floor=1e-7), NAOF(sigma=0.0)])
scenes = st.builds(
    SceneSettings,
    catalog=places,
    asset=words,
    collections=st.lists(words, max_size=2).map(tuple),
    area=st.none() | places | st.just((-50.25, 69.0, -49.0, 69.5)),
    dates=st.sampled_from([None, "2020", "2020-01-01/..", "2020-01-01/2020-02-01T10:00:00Z"]),
    max_cloud=st.none() | st.floats(0, 100),
    orbits=st.lists(st.sampled_from(["R095", "009", 95, "009/011"]), max_size=2).map(tuple),
    mask=st.none() | st.builds(MaskSettings, asset=words, bits=st.just((0, 3))) | st.just(MaskSettings()),
    cql2=st.none() | words | st.fixed_dictionaries({"op": st.just("="), "args": st.lists(words | st.integers(), max_size=3)}),
)
workflows = st.builds(
    Workflow,
    name=words,
    scenes=scenes,
    grid=st.builds(GridSettings, crs=st.sampled_from([None, "EPSG:3413"]), bounds=st.sampled_from([None, (-1e6, 0.5, 2e-7, 1e20)])),
    stable=st.builds(
        StableSettings,
        area=st.none() | places,
        reference=st.lists(places, max_size=2).map(tuple),
        model=st.sampled_from(["constant", "plane"]),
    ),
    pairs=st.builds(PairSettings, max_days=st.floats(1, 1e6), months=st.sampled_from([(), (6, 7)])),
    prefilter=filters,
    matcher=st.builds(NCC, chip_sizes=st.sampled_from([(16,), (16, 32)]), spacing=st.sampled_from([1, 8, 16])),
    output=places,
    cluster=st.builds(ClusterSettings, workers=st.none() | st.integers(1, 64), memory=st.sampled_from(["", "4GB", "1e9"])),
    run=st.builds(RunSettings, tile=st.sampled_from([128, 512])),
)


@settings(max_examples=40)
@given(workflows)
def test_a_written_workflow_reads_back_the_same(workflow: Workflow) -> None:
    text = write_workflow(workflow)
    again = parse(text)
    assert again == workflow
    assert again.digest == workflow.digest
    assert write_workflow(again) == text


def test_a_value_stays_on_its_line() -> None:
    text = write_workflow(parse(LEAST).model_copy(update={"name": "two\nlines"}))
    assert 'name: "two\\nlines"' in text
    assert parse(text).name == "two\nlines"


def test_a_written_workflow_explains_every_setting() -> None:
    text = write_workflow(parse(LEAST))
    values = yaml.safe_load(text)
    assert set(values) == set(Workflow.model_fields)
    assert set(values["matcher"]) == set(NCC.model_fields)
    assert "spacing: 8" in text and "# distance between nodes [px, >= 1, <= 512]" in text
    assert "[none, highpass, log, wallis, naof, orientation]" in text
    assert "[least_squares | parabola | gaussian]" in text
    assert max(len(line) for line in text.splitlines()) <= 140


def test_the_workflow_to_start_from_is_short_and_complete() -> None:
    text = init_workflow()
    workflow = parse(text)
    assert workflow.scenes.catalog.startswith("https://")
    active = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(active) < 25
    uncommented = "\n".join(
        line.replace("#", "", 1) if line.lstrip().startswith("#") and line.lstrip()[1] not in " " else line for line in text.splitlines()
    )
    values = parse_yaml(uncommented, "init")
    assert set(values) == set(Workflow.model_fields)
    assert set(values["scenes"]) == set(SceneSettings.model_fields)
    assert set(values["matcher"]) == set(NCC.model_fields)
    assert parse(uncommented) == workflow


# Digest


def test_the_digest_changes_with_what_decides_the_numbers_only() -> None:
    base = parse(LEAST).digest
    assert parse(LEAST, "output=/elsewhere", "cluster.kind=threads", "name=other", "scenes.catalog=/moved.json").digest == base
    for assignment in (
        "matcher.spacing=16",
        "scenes.asset=red",
        "pairs.max_days=9",
        "prefilter.sigma=9",
        "run.tile=256",
        "stable.model=plane",
    ):
        assert parse(LEAST, assignment).digest != base, assignment


def test_the_digest_follows_the_content_of_files_not_their_place(tmp_path: Path, data_folder: Path) -> None:
    outline = data_folder / "perito-moreno" / "glacier.geojson"
    moved = shutil.copy(outline, tmp_path / "moved.geojson")
    first, second = (parse(LEAST, f"stable.area={path}").digest for path in (outline, moved))
    assert first == second
    changed = json.loads(outline.read_text())
    changed["features"][0]["geometry"]["coordinates"][0][0][0] += 10.0
    moved.write_text(json.dumps(changed))
    assert parse(LEAST, f"stable.area={moved}").digest != first


def test_the_digest_sees_every_part_of_a_shapefile(tmp_path: Path, data_folder: Path) -> None:
    for part in (data_folder / "kaskawulsh").glob("bedrock_V2.*"):
        shutil.copy(part, tmp_path)
    first = parse(LEAST, f"stable.area={tmp_path / 'bedrock_V2.shp'}").digest
    (tmp_path / "bedrock_V2.prj").write_text("")
    assert parse(LEAST, f"stable.area={tmp_path / 'bedrock_V2.shp'}").digest != first


# The workflows that come with the project


def shipped(name: str, *overrides: str) -> Workflow:
    return read_workflow(PROJECT / "workflows" / name, overrides)


@pytest.mark.parametrize("name", sorted(path.name for path in (PROJECT / "workflows").glob("*.yaml")))
def test_a_shipped_workflow_reads_and_comes_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FTRACK_TEST_DATA", raising=False)
    workflow = shipped(name)
    assert parse_workflow(write_workflow(workflow), name, HERE) == workflow
    assert workflow.scenes.asset


def test_perito_moreno_finds_its_scenes_and_its_ice(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTRACK_TEST_DATA", str(data_folder))
    workflow = shipped("perito-moreno.yaml")
    assert len(search(workflow)) == 8
    assert workflow.stable.area and Path(workflow.stable.area).exists()
    assert workflow.stable.outside


def search(workflow: Workflow) -> Any:
    s = workflow.scenes
    return find_scenes(s.catalog, area=s.area, dates=s.dates, collections=s.collections, max_cloud=s.max_cloud, query=s.query)


@pytest.mark.parametrize(
    ("name", "recorded", "overrides"),
    [
        ("jakobshavn-sentinel2.yaml", "earth-search.aws.element84.com-sentinel-2-c1-l2a.json", ["scenes.dates=2025"]),
        (
            "jakobshavn-landsat.yaml",
            "planetarycomputer.microsoft.com-landsat-c2-l2.json",
            ["scenes.dates=2025", "scenes.collections=[landsat-c2-l2]", "scenes.asset=nir08", "scenes.orbits=[]"],
        ),
    ],
)
def test_a_shipped_workflow_fits_recorded_items(name: str, recorded: str, overrides: list[str], data_folder: Path) -> None:
    catalog = f"scenes.catalog={data_folder / 'stac-items' / recorded}"
    workflow = shipped(name, catalog, "scenes.area=null", "scenes.max_cloud=null", *overrides)
    found = search(workflow)
    assert found
    for scene in found:
        assert asset_of(scene, workflow.scenes.asset).crs.startswith("EPSG:32")
        assert workflow.scenes.mask and asset_of(scene, workflow.scenes.mask.asset)


def test_every_path_is_a_setting() -> None:
    together = [f"{key}=/x" for key in PATHS if key.startswith("prior.")]
    for key in PATHS:
        assert parse(LEAST, *(together if key.startswith("prior.") else [f"{key}=/x"])) is not None


@pytest.mark.parametrize(
    ("text", "kind", "address"),
    [
        ("local", "local", ""),
        ("threads", "threads", ""),
        ("gateway", "gateway", ""),
        ("https://hub.example.org/gateway", "gateway", "https://hub.example.org/gateway"),
        ("tcp://10.0.0.1:8786", "scheduler", "tcp://10.0.0.1:8786"),
        ("node7:8786", "scheduler", "node7:8786"),
    ],
)
def test_a_cluster_is_named_by_a_word_or_an_address(text: str, kind: str, address: str) -> None:
    cluster = parse(LEAST, *cluster_changes(text)).cluster
    assert (cluster.kind, cluster.address) == (kind, address)


def test_a_cluster_that_is_neither_is_refused() -> None:
    with pytest.raises(Stop, match="give local, threads, gateway, or the address"):
        cluster_changes("clowd")


def test_options_of_a_gateway_are_set_one_by_one_and_come_back_from_yaml() -> None:
    workflow = parse(LEAST, "cluster.options.image=org/image:2", "cluster.options.size={cores: 2}", "cluster.environment=[AWS_PROFILE]")
    assert workflow.cluster.options == {"image": "org/image:2", "size": {"cores": 2}}
    assert parse(write_workflow(workflow)).cluster == workflow.cluster


def test_values_of_environment_variables_do_not_belong_in_a_file() -> None:
    with pytest.raises(Stop, match="name variables only"):
        ClusterSettings(environment=("AWS_SECRET_ACCESS_KEY=abc",))


@pytest.mark.parametrize(
    ("catalog", "local", "private"),
    [
        ("items.json", True, True),
        ("file:///data/items.json", True, True),
        ("http://127.0.0.1:8080/", False, True),
        ("http://stac:8080/", False, True),
        ("https://earth-search.aws.element84.com/v1", False, False),
    ],
)
def test_files_of_this_machine_are_read_for_a_catalogue_of_this_machine_only(catalog: str, local: bool, private: bool) -> None:
    workflow = Workflow(scenes=SceneSettings(catalog=catalog, asset="nir"))
    assert (workflow.reading.local_files, workflow.reading.private_hosts) == (local, private)
    closed = parse("scenes: {catalog: a, asset: nir}", "source.local_files=false", "source.private_hosts=false", "source.hosts=[E.org]")
    assert (closed.reading.local_files, closed.reading.private_hosts, closed.reading.access.hosts) == (False, False, ("e.org",))
    assert closed.digest == parse("scenes: {catalog: a, asset: nir}").digest
