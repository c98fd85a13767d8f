"""One description of a run: YAML in, commented YAML out."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, field_validator, model_validator

from ftrack.catalogue import is_remote
from ftrack.cleaning import Fill, Outliers
from ftrack.document import parse_yaml, write_yaml
from ftrack.errors import Stop
from ftrack.extent import read_area, read_dates
from ftrack.matchers import NCC
from ftrack.pairs import PairSettings
from ftrack.prefilters import HighPass, Prefilter
from ftrack.prior import PriorSettings
from ftrack.scenes import SceneQuery
from ftrack.settings import Settings, kind_of, models_in, nearest, option
from ftrack.sources import SourceSettings, is_public
from ftrack.stable import StableSettings
from ftrack.stack import GridSettings, MaskSettings, StackSettings

PATHS = ("scenes.catalog", "scenes.area", "prior.vx", "prior.vy", "stable.area", "stable.reference", "output")
"""Settings that name a file: relative to the workflow file, and with ``${VARIABLE}`` and ``~`` filled in."""

RESOURCES: dict[str, Any] = {
    "name": True,
    "output": True,
    "cluster": True,
    "source": True,
    "run": {"keep_motion"},
    "scenes": {"catalog", "prefer", "limit", "page_size", "retries", "timeout"},
}
"""Settings that do not change any number of the cube: where things lie, and what the work is done with."""

EXAMPLE: Mapping[str, Any] = {
    "name": "jakobshavn",
    "scenes": {
        "catalog": "https://earth-search.aws.element84.com/v1",
        "collections": ["sentinel-2-c1-l2a"],
        "area": [-50.2, 68.95, -48.8, 69.4],
        "dates": "2024-06-01/2024-09-15",
        "max_cloud": 30,
        "asset": "nir",
        "mask": "auto",
    },
    "pairs": {"min_days": 5, "max_days": 15},
    "matcher": {"chip_sizes": [16, 32, 64], "spacing": 8, "search_radius": 64},
    "output": "jakobshavn.zarr",
}
"""What ``ftrack init`` begins with."""

_TEMPLATE = """\
# A workflow of ftrack: which images are compared, how, and where the velocity goes.
#   ftrack search FILE    which scenes there are
#   ftrack plan FILE      image pairs, blocks, memory and bytes, before anything starts
#   ftrack run FILE       make the cube; run it again to take up what is missing
# Lines that begin with # and a name show defaults: take the # away to change them.
# Paths are relative to this file. Any setting can be changed for one run: --set matcher.spacing=16

"""

_BOX = re.compile(r"[\s\[(]*[-+.\deE]+(?:[\s,]+[-+.\deE]+){3}[\s\])]*")
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class ClusterSettings(Settings):
    """Where the work is done."""

    kind: Literal["local", "threads", "gateway", "scheduler"] = option(
        "local",
        "processes of this machine, threads of this process, a cluster of a Dask Gateway, or a Dask scheduler that is already there",
    )
    workers: int | None = option(None, "number of workers; null = as many as there are cores, or 4 of a gateway", ge=1)
    threads: int | None = option(None, "threads of each worker; null = one, or all cores where the kind is threads", ge=1)
    memory: str = option("", "memory of each worker, such as 4GB; empty = an equal share of the machine's, or what the gateway gives")
    address: str = option("", "address of the scheduler (tcp://127.0.0.1:8786) or gateway; empty = the gateway of Dask's own configuration")
    adaptive: bool = option(False, "let a gateway change the number of workers with the work, up to workers")
    options: dict[str, Any] = option({}, "what else a gateway's clusters are asked for, such as {image: name}; ftrack doctor lists them")
    environment: tuple[str, ...] = option((), "names of environment variables whose values here the workers need too, such as AWS_PROFILE")

    @field_validator("environment")
    @classmethod
    def _names_only(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        faulty = [name for name in names if not re.fullmatch(r"[A-Za-z_]\w*", name)]
        if faulty:
            raise ValueError("name variables only, without their values, which do not belong in a file")
        return names


class RunSettings(Settings):
    """How the work is cut."""

    tile: int = option(512, "side of a chunk of the cube, rounded down to whole nodes; a task takes one or more", unit="px", ge=32, le=8192)
    keep_motion: bool = option(False, "keep displacement in pixels, in OUTPUT.run/motion, when the cube is finished")


class SceneSettings(SceneQuery):
    """Which scenes are used, and which of their pixels."""

    catalog: str = option(..., "a STAC API (URL), a static catalogue or collection, or a file of items (path or URL)", min_length=1)
    collections: tuple[str, ...] = option((), "collections of the catalogue; empty = all")
    area: str | tuple[float, float, float, float] | None = option(None, "west, south, east, north in degrees, or a vector file")
    dates: str | None = option(None, "first and last day, such as 2020-01-01/2020-03-31")
    max_cloud: float | None = option(None, "most cloud in a scene, as its catalogue says", unit="percent", ge=0, le=100)
    asset: str = option(..., "the file of a scene that is matched, such as nir, pan or B08", min_length=1)
    mask: MaskSettings | None = option(None, "pixels that are dropped: null = none, auto = what scl or qa_pixel call cloud, or as follows")

    @property
    def query(self) -> SceneQuery:
        """The part that ``find_scenes`` takes as its ``query``."""
        return SceneQuery(**self.model_dump(include=set(SceneQuery.model_fields)))

    @field_validator("area", mode="before")
    @classmethod
    def _box_or_file(cls, area: object) -> object:
        if isinstance(area, str) and _BOX.fullmatch(area):
            area = re.split(r"[,\s]+", area.strip().strip("[]()").strip())
        if isinstance(area, list | tuple):
            read_area(area)
            return tuple(float(side) for side in area)
        return area

    @field_validator("dates", mode="before")
    @classmethod
    def _readable(cls, dates: object) -> object:
        text = "/".join(str(end or "..") for end in dates) if isinstance(dates, list | tuple) else dates if dates is None else str(dates)
        read_dates(text)
        return text


class Workflow(Settings):
    """Everything that is needed to make a velocity cube."""

    name: str = option("velocity", "title of the run", min_length=1)
    scenes: SceneSettings = option(..., "which scenes are used")
    source: SourceSettings = option(SourceSettings(), "what files of scenes may be read, and how")
    grid: GridSettings = option(GridSettings(), "the pixels that are compared")
    pairs: PairSettings = option(PairSettings(), "which images are compared")
    prefilter: Prefilter = option(HighPass(), "how images are enhanced before they are compared")
    matcher: NCC = option(NCC(), "how displacement is measured")
    prior: PriorSettings = option(PriorSettings(), "the velocity around which displacement is searched")
    outliers: Outliers = option(Outliers(), "which vectors are taken out")
    fill: Fill = option(Fill(), "which holes are filled")
    stable: StableSettings = option(StableSettings(), "ground that does not move, from which misregistration is found")
    output: str = option("velocity.zarr", "the cube: a path, or an address such as s3://bucket/name.zarr", min_length=1)
    cluster: ClusterSettings = option(ClusterSettings(), "where the work is done")
    run: RunSettings = option(RunSettings(), "how the work is cut")

    @model_validator(mode="after")
    def _tiles_hold_nodes(self) -> Workflow:
        if self.run.tile < self.matcher.spacing:
            raise ValueError(f"run.tile ({self.run.tile} px) is smaller than matcher.spacing ({self.matcher.spacing} px)")
        return self

    @property
    def reading(self) -> StackSettings:
        """How pixels are read: files of this machine, and of its network, only where the catalogue lies there too."""
        catalog = self.scenes.catalog
        own = not is_remote(catalog)
        near = own or not is_public(urlsplit(catalog).hostname or "")
        limits = {"local_files": self.source.local_files and own, "private_hosts": self.source.private_hosts and near}
        return StackSettings(**{**self.source.model_dump(), **limits})

    @property
    def digest(self) -> str:
        """What decides the numbers of the cube, as a digest: all settings but ``RESOURCES``, and what the named files contain."""
        return self._digest(RESOURCES)

    @property
    def pair_digest(self) -> str:
        """What decides the numbers of a pair of scenes, as a digest: the same without what chooses scenes."""
        return self._digest({**RESOURCES, "scenes": set(SceneSettings.model_fields) - {"asset", "mask"}})

    def _digest(self, exclude: dict[str, Any]) -> str:
        values = self.model_dump(mode="json", exclude=exclude)
        for key in PATHS:
            section, _, name = key.rpartition(".")
            inside = values.get(section)
            if inside and name in inside:
                inside[name] = _each(_fingerprint, inside[name])
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(place: str) -> str:
    """Return a digest of a local file, with those beside it that share its stem (shapefiles); else the name itself."""
    path = Path(place)
    if "://" in place or not path.is_file():
        return place
    digest = hashlib.sha256()
    parts = sorted(path.parent.glob(f"{glob.escape(path.stem)}.*")) if path.suffix.lower() == ".shp" else [path]
    for part in parts:
        digest.update(part.suffix.encode() + part.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def read_workflow(path: str | Path, overrides: Sequence[str] = ()) -> Workflow:
    """Read a workflow file.

    Relative paths in the file are relative to its folder, those in overrides to the current folder.
    ``${NAME}`` in a path stands for an environment variable, ``${NAME:-else}`` for it or for ``else`` where it is not set.

    Parameters
    ----------
    path : path
        A YAML file.
    overrides : sequence of str
        Settings that take the place of the file's, such as ``matcher.spacing=16``. The value is YAML.

    Raises
    ------
    Stop
        The file cannot be read or is malformed, or a setting is unknown, missing or out of bounds. All faulty settings are told at once.
    """
    where = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise Stop(f"there is no workflow file {where}; `ftrack init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Stop(f"the workflow file {where} cannot be read: {error}") from None
    return parse_workflow(text, where, Path(path).absolute().parent, overrides)


def parse_workflow(text: str, where: str, folder: Path, overrides: Sequence[str] = ()) -> Workflow:
    """Return the workflow that a text describes; see ``read_workflow``.

    Parameters
    ----------
    text, where : str
        YAML, and what to call it in messages.
    folder : Path
        What relative paths in the text are relative to.
    overrides : sequence of str
        See ``read_workflow``.
    """
    found = parse_yaml(text, where)
    if not isinstance(found, dict | None):
        raise Stop(f"{where}: a workflow is made of 'name: value' lines; this is {type(found).__name__}")
    values = {name: value for name, value in (found or {}).items() if value is not None or name not in Workflow.model_fields}
    values.setdefault("output", Workflow.model_fields["output"].default)
    given = [_set(values, assignment) for assignment in overrides]
    _complete_kinds(values)
    for key in PATHS:
        replaced = any(key == name or key.startswith(f"{name}.") for name in given)
        _place(values, key, Path.cwd() if replaced else folder, where)
    return Workflow.read(values, where)


def _set(values: dict[str, Any], assignment: str) -> str:
    """Put the value of ``key.sub=value`` in its place and return the key."""
    key, equals, text = assignment.partition("=")
    key = key.strip()
    if not equals or not key:
        raise Stop(f"--set {assignment}: write it as key.sub=value, such as matcher.spacing=16")
    annotation = _annotation_of(key, assignment)
    value = parse_yaml(text, f"--set {assignment}")
    if annotation is str and not isinstance(value, str):
        value = text.strip()
    *sections, name = key.split(".")
    place = values
    for section in sections:
        if not isinstance(place.get(section), dict):
            place[section] = {}
        place = place[section]
    place[name] = value
    return key


def cluster_changes(text: str) -> list[str]:
    """Return what a word or an address says of where the work is done, as settings that ``read_workflow`` takes.

    Parameters
    ----------
    text : str
        ``local``, ``threads``, ``gateway`` (its address in the file or in Dask's own configuration), the address of a
        gateway (``https://...``), or of a scheduler (``tcp://...``, ``tls://...``).

    Raises
    ------
    Stop
        It is none of these.
    """
    if text in ("local", "threads", "gateway"):
        return [f"cluster.kind={text}"]
    if ":" not in text:
        raise Stop(
            f"cluster {text!r}: give local, threads, gateway, or the address of a Dask Gateway (https://...) or scheduler (tcp://...)"
        )
    kind = "gateway" if text.startswith(("http://", "https://")) else "scheduler"
    return [f"cluster.kind={kind}", f"cluster.address={text}"]


def _annotation_of(key: str, assignment: str) -> Any:
    """Return what a setting may be; of several kinds of a section the first that knows it."""
    declarations: list[type[BaseModel]] = [Workflow]
    annotation: Any = None
    for step in key.split("."):
        if get_origin(annotation) is dict:
            return Any
        owner = next((d for d in declarations if step in d.model_fields), None)
        if owner is None:
            known = {name for d in declarations for name in d.model_fields}
            hint = nearest(step, known) if known else "there are no settings inside"
            raise Stop(f"--set {assignment}: unknown setting {step!r}; {hint}")
        annotation = owner.model_fields[step].annotation
        declarations = models_in(annotation)
    return annotation


def _complete_kinds(values: dict[str, Any]) -> None:
    """Let a section that does not say its kind have the kind of the default."""
    for name, field in Workflow.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(values.get(name), dict) and isinstance(default, BaseModel) and kind_of(type(default)):
            values[name].setdefault("kind", kind_of(type(default)))


def _place(values: dict[str, Any], key: str, folder: Path, where: str) -> None:
    """Make a path absolute and fill in its variables; addresses stay as they are."""
    *sections, name = key.split(".")
    inside: Any = values
    for section in sections:
        inside = inside.get(section)
        if not isinstance(inside, dict):
            return
    if name in inside:
        inside[name] = _each(lambda text: _placed(text, key, folder, where), inside[name])


def _each(change: Callable[[str], str], value: Any) -> Any:
    """Return a path, or each of several, changed; anything else as it is."""
    if isinstance(value, list):
        return [_each(change, part) for part in value]
    return change(value) if isinstance(value, str) and value and not _BOX.fullmatch(value) else value


def _placed(text: str, key: str, folder: Path, where: str) -> str:
    text = os.path.expanduser(_VARIABLE.sub(lambda found: _variable(found, key, where), text))
    return text if "://" in text else os.path.abspath(folder / text)


def _variable(found: re.Match[str], key: str, where: str) -> str:
    name, otherwise = found.groups()
    value = os.environ.get(name) or otherwise
    if value is None:
        raise Stop(f"{where}: {key} needs the environment variable {name}, which is not set; set it, or give --set {key}=PATH")
    return value


def write_workflow(workflow: Workflow) -> str:
    """Return a workflow as YAML with every setting, each explained in a comment. Reading it gives the same workflow."""
    return f"# A workflow of ftrack: ftrack run FILE\n\n{write_yaml(Workflow, workflow.model_dump(mode='json'))}"


def init_workflow(example: Mapping[str, Any] | None = None) -> str:
    """Return a workflow file to start from: what has to be chosen first, every other setting commented out below it."""
    return _TEMPLATE + write_yaml(Workflow, example or EXAMPLE, others=True)
