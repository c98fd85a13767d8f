"""What is published stays, and new pairs come after it: which runs have made a cube so far, and whether another may go on with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ftrack.pairs import Pair
from ftrack.refuse import planned_run, published_run
from ftrack.stac import Scene
from ftrack.store import get, put


class Part(NamedTuple):
    """A run that has published pairs of a cube, and how many."""

    run_id: str
    pairs: int


class Published(NamedTuple):
    """What decided the pairs that are published: the parts, digest of the settings, algorithm, grid, scenes by image, pairs by id."""

    parts: tuple[Part, ...]
    settings: str
    algorithm: str
    grid: dict[str, Any]
    images: dict[str, set[str]]
    pairs: tuple[str, ...]


def published_plan(output: str, folder: str) -> str | None:
    """Return the plan of the cube at the output as JSON, None if there is no cube or its plan has been lost."""
    run = published_run(output)
    if not run:
        return None
    for key in ("plan.json", f"earlier/{run}.json"):
        content = get(folder, key)
        if content is not None and _run_of(content) == run:
            return content.decode()
    return None


def _run_of(content: bytes) -> str:
    try:
        return str(json.loads(content).get("run_id", ""))
    except (ValueError, AttributeError):
        return ""


def keep_plan(folder: str, run_id: str) -> None:
    """Keep the plan of the published cube before that of another run takes its place."""
    content = get(folder, "plan.json")
    if content is not None and (old := _run_of(content)) not in ("", run_id):
        put(folder, f"earlier/{old}.json", content)


def read_published(values: Mapping[str, Any]) -> Published:
    """Return what decided the pairs of a plan that ``write_plan`` wrote."""
    earlier = tuple(Part(*part) for part in values.get("earlier", []))
    pairs = tuple(f"{pair['reference']}__{pair['secondary']}" for pair in values["pairs"])
    last = Part(values["run_id"], len(pairs) - sum(part.pairs for part in earlier))
    images: dict[str, set[str]] = {}
    for scene in values["scenes"]:
        images.setdefault(scene["image_id"], set()).add(scene["item"]["id"])
    return Published((*earlier, last), values.get("settings", ""), values.get("algorithm", ""), values["grid"], images, pairs)


def why_not(old: Published, settings: str, algorithm: str, grid: Mapping[str, Any], scenes: Iterable[Scene]) -> str:
    """Return why a run cannot go on with what is published, an empty text if it can."""
    if old.algorithm != algorithm:
        return f"it was made by algorithm {old.algorithm}, this is {algorithm}"
    if old.settings != settings:
        return "its settings are others (or those of a file that they name)"
    if old.grid != dict(grid):
        return "its grid is another; set scenes.area or grid.bounds, so that the grid does not depend on the scenes"
    images: dict[str, set[str]] = {}
    for scene in scenes:
        images.setdefault(scene.image_id, set()).add(scene.id)
    for image, members in old.images.items():
        found = images.get(image, set())
        if members != found:
            lost, added = sorted(members - found), sorted(found - members)
            return f"scene {lost[0]} is not among those found" if lost else f"its image {image} has another scene now, {added[0]}"
    return ""


def new_pairs(old: Published, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Return the pairs that are not published yet."""
    known = set(old.pairs)
    return tuple(pair for pair in pairs if pair.id not in known)


def unfinished(folder: str, run_id: str, published: str) -> bool:
    """Return whether another run has begun to go on with the published cube."""
    return planned_run(folder) not in (None, published, run_id)
