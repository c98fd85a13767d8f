"""Is a cube whole? Every chunk is there and undamaged, the schema holds, and the variables do not contradict each other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from ftrack.errors import Stop
from ftrack.labels import RANGES
from ftrack.schema import CUBE, PER_NODE, PER_PAIR, VELOCITY, Status
from ftrack.store import ROOT, Options, Region, chunk_keys, get, open_arrays, read_part, stored_keys
from ftrack.threads import at_once

COORDINATES = {"mid_date": "int64", "time_bnds": "int64", "y": "float64", "x": "float64", "mapping": "int32"}
Arrays = Mapping[str, zarr.Array[Any]]
STORED = {"str": "string", "datetime64[us]": "int64"}


class Report(NamedTuple):
    """What was looked at and what is wrong with it.

    ``problems`` is empty if the cube is whole; ``counts`` are nodes by status over all pairs.
    """

    url: str
    shape: tuple[int, ...]
    chunks: int
    counts: dict[str, int]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.problems


class _Block(NamedTuple):
    counts: Counter[int]
    measured: np.ndarray
    problems: list[str]


def verify_cube(url: str | Path, storage_options: Options = None, workers: int = 4) -> Report:
    """Read a published cube as a whole and list what is wrong with it.

    Parameters
    ----------
    url : str or Path
        Local path or any URL that fsspec knows.
    storage_options : mapping, optional
        fsspec's storage options.
    workers : int
        Blocks that are read at the same time.

    Returns
    -------
    Report

    Raises
    ------
    Stop
        There is no published cube.
    Retry
        The storage could not be reached, so nothing can be said.
    """
    url = str(url)
    content = get(url, ROOT, storage_options)
    if content is None:
        raise Stop(f"{url} is not a published cube: it does not exist, or the run that writes it is not finished")
    root = json.loads(content)
    problems = list(_check_schema(url, root, storage_options))
    if problems:
        return Report(url, (), 0, {}, tuple(problems))
    arrays = open_arrays(url, storage_options)
    expected = {name: chunk_keys(array) for name, array in arrays.items()}
    problems += _check_keys(expected, stored_keys(url, storage_options))
    small, found = _read_small(arrays)
    ranges = root["attributes"].get(RANGES, [(0, arrays["vx"].shape[0])])
    kept = np.concatenate([np.arange(*ends) for ends in ranges])
    dated = {"mid_date", "time_bnds", *(variable.name for variable in PER_PAIR)}
    small = {name: values[kept] if name in dated else values for name, values in small.items()}
    problems += found + list(_check_dates(small))
    regions = list(_regions(arrays["vx"]))
    with ThreadPoolExecutor(workers) as pool:
        blocks = list(pool.map(lambda region: _check_block(arrays, region, kept), regions))
    problems += [problem for block in blocks for problem in block.problems]
    counts: Counter[int] = sum((block.counts for block in blocks), Counter())
    named = {status.name.lower(): counts[status] for status in Status if counts[status]}
    shape = arrays["vx"].shape
    measured = np.zeros(shape[0], int)
    for region, block in zip(regions, blocks, strict=True):
        measured[region[0]] += block.measured
    problems += _check_counts(root["attributes"], named, 100 * measured[kept] / (shape[1] * shape[2]), small)
    return Report(url, shape, sum(map(len, expected.values())), named, tuple(problems))


def _check_schema(url: str, root: Mapping[str, Any], storage_options: Options) -> Iterator[str]:
    """Compare names, dimensions and types with the schema, and the consolidated metadata with that of the arrays."""
    inline = (root.get("consolidated_metadata") or {}).get("metadata", {})
    wanted = {variable.name: (variable.dims, variable.dtype) for variable in (*VELOCITY, *PER_PAIR, *PER_NODE)}
    for name, (dims, dtype) in wanted.items():
        metadata = inline.get(name)
        if metadata is None:
            yield f"{name}: missing in the root metadata"
        elif tuple(metadata["dimension_names"]) != dims or metadata["data_type"] != STORED.get(dtype, dtype):
            yield f"{name}: {metadata['data_type']} {metadata['dimension_names']} instead of {dtype} {list(dims)}"
    yield from (f"{name}: missing in the root metadata" for name in COORDINATES if name not in inline)
    sizes = {tuple(inline[variable.name]["shape"]) for variable in VELOCITY if variable.name in inline}
    if len(sizes) > 1:
        yield f"the variables differ in shape: {sorted(sizes)}"
    contents = at_once(lambda name: get(url, f"{name}/{ROOT}", storage_options), list(inline))
    for (name, metadata), content in zip(inline.items(), contents, strict=True):
        if content is None or json.loads(content) != metadata:
            yield f"{name}: its own metadata is missing or differs from the root metadata"


def _check_keys(expected: Mapping[str, list[str]], stored: list[str]) -> list[str]:
    """Compare the chunks that must be there with what is there."""
    problems = []
    there = set(stored) - {ROOT}
    for name, keys in expected.items():
        missing = [key for key in keys if f"{name}/{key}" not in there]
        if missing:
            problems.append(f"{name}: {len(missing)} of {len(keys)} chunks are missing, the first is {missing[0]}")
        there -= {f"{name}/{key}" for key in (*keys, ROOT)}
    return problems + ([f"{len(there)} objects do not belong here, the first is {min(there)}"] if there else [])


def _read_small(arrays: Arrays) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read everything that is not a 3-D variable; what cannot be read is left out and told."""
    values: dict[str, np.ndarray] = {}
    problems = []
    for name, array in arrays.items():
        if array.ndim == 3:
            continue
        try:
            values[name] = read_part(array, tuple(slice(0, size) for size in array.shape))
        except Stop as error:
            problems.append(f"{name}: {error}")
    return values, problems


def _check_dates(values: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Look at the dates of pairs and at the places of nodes."""
    dates = values.get("mid_date")
    if dates is None:
        return
    if np.unique(dates).size < dates.size:
        yield f"mid_date: {dates.size - np.unique(dates).size} dates are there twice"
    if {"time_bnds", "acquisition_date_img1", "acquisition_date_img2"} <= set(values):
        bounds = np.stack([values["acquisition_date_img1"], values["acquisition_date_img2"]], axis=1)
        if not np.array_equal(bounds, values["time_bnds"]):
            yield "time_bnds: differs from the acquisition dates"
        if np.any(dates // 10**6 != bounds.sum(axis=1) // 2 // 10**6):
            yield "mid_date: not in the middle of the acquisition dates"
    for name, sign in (("x", 1), ("y", -1)):
        if name in values and np.any(sign * np.diff(values[name]) <= 0):
            yield f"{name}: not in the order of the grid"


def _regions(array: zarr.Array[Any]) -> Iterator[Region]:
    starts = [range(0, size, chunk) for size, chunk in zip(array.shape, array.chunks, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(a, min(a + c, n)) for a, c, n in zip(corner, array.chunks, array.shape, strict=True))


def _check_block(arrays: Arrays, region: Region, kept: np.ndarray) -> _Block:
    """Read one chunk of every variable and look for contradictions between them."""
    where = ", ".join(f"{name} {part.start}:{part.stop}" for name, part in zip(CUBE, region, strict=True))
    values: dict[str, np.ndarray] = {}
    problems = []
    for variable in VELOCITY:
        try:
            values[variable.name] = read_part(arrays[variable.name], region)
        except Stop as error:
            problems.append(f"{variable.name}: {error}")
    status = values.get("status")
    if status is None or problems:
        return _Block(Counter(), np.zeros(region[0].stop - region[0].start, int), problems)
    problems += [f"{text} in {where}" for text in _contradictions(values)]
    numbers, counts = np.unique(status[np.isin(np.arange(region[0].start, region[0].stop), kept)], return_counts=True)
    counted = Counter(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
    return _Block(counted, (status == Status.MEASURED).sum(axis=(1, 2)), problems)


def _contradictions(values: Mapping[str, np.ndarray]) -> Iterator[str]:
    status, filled = values["status"], values["status"] == Status.FILLED
    kept = filled | (status == Status.MEASURED)
    unknown = ~np.isin(status, [int(known) for known in Status])
    vx, vy = values["vx"].astype(float), values["vy"].astype(float)
    with np.errstate(invalid="ignore"):
        speed = np.abs(np.hypot(vx, vy) - values["v"]) > 1e-5 * np.hypot(vx, vy) + 1e-4
        negative = np.any([values[name] < 0 for name in ("vx_error", "vy_error", "v_error")], axis=0)
    tests = {
        "status: a number without a meaning": unknown,
        "vx: a value where status says there is none, or none where it says there is one": kept != np.isfinite(vx),
        "vy: a value where status says there is none, or none where it says there is one": kept != np.isfinite(vy),
        "v: not the length of (vx, vy)": speed | (np.isfinite(values["v"]) != kept),
        "vx_error, vy_error or v_error: negative": negative,
        "interp_mask: does not agree with status": (values["interp_mask"] == 1) != filled,
    }
    yield from (f"{text} ({int(wrong.sum())} nodes)" for text, wrong in tests.items() if wrong.any())


def _check_counts(
    attrs: Mapping[str, Any], counts: Mapping[str, int], measured: np.ndarray, small: Mapping[str, np.ndarray]
) -> Iterator[str]:
    """Compare what was counted with what the cube says of itself; ``measured`` is the share of every pair, percent."""
    if counts.get("not_computed") and attrs.get("complete", True):
        yield f"status: {counts['not_computed']} nodes were never computed"
    said = attrs.get("status_counts")
    if said is not None and dict(said) != dict(counts):
        yield f"status_counts says {dict(said)}, the cube holds {dict(counts)}"
    share = small.get("roi_valid_percentage")
    if share is not None and np.any(np.abs(share - measured) > 0.01):
        yield "roi_valid_percentage: does not agree with status"
