"""The velocity cube in Zarr: created, written block by block, published by its root metadata, opened."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from xarray.coders import CFDatetimeCoder
from zarr.errors import GroupNotFoundError

from ftrack.errors import Stop
from ftrack.grid import Grid
from ftrack.labels import (
    BOUNDS,
    COORDINATES,
    MAPPING,
    RANGES,
    Image,
    attributes_of,
    cube_attributes,
    mapping_attributes,
    pair_columns,
    texts,
    unique_mid_date,
)
from ftrack.pairs import Pair
from ftrack.reorder import take_first
from ftrack.schema import CUBE, MOTION, PER_NODE, PER_PAIR, VELOCITY, Variable
from ftrack.store import (
    ROOT,
    Array,
    Options,
    create_array,
    get,
    open_array,
    put,
    read_block,
    read_part,
    stage_array,
    store_at,
    told_apart,
    write_block,
)
from ftrack.threads import at_once
from ftrack.tiling import pair_ranges

__all__ = ["CubeSpec", "create_cube", "create_motion", "open_cube", "publish_cube", "read_block", "write_block", "write_coords"]


@dataclass(frozen=True, kw_only=True)
class CubeSpec:
    """What a cube is before anything is measured.

    Attributes
    ----------
    nodes : Grid
        The grid whose pixel centres are the nodes.
    pairs : tuple of Pair
        In any order; a run takes that of ``batches.order_pairs``.
    images : mapping of str to Image
        Platform and scenes of every image, by image id.
    chunks : (int, int, int)
        Chunk along pair, y and x; one block of a run.
    attrs : mapping
        Provenance for the root: workflow, versions, ``run_id``, title, author, ...; replaces what ftrack would say.
    parts : tuple of int
        Numbers of pairs that are published already. Every part begins with a chunk of its own; the places before it hold nothing.
    """

    nodes: Grid
    pairs: tuple[Pair, ...]
    images: Mapping[str, Image] = field(default_factory=dict)
    chunks: tuple[int, int, int] = (64, 128, 128)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.pairs or min(self.chunks) < 1 or min(self.shape) < 1:
            raise Stop(f"a cube of shape {self.shape} with chunks {self.chunks} holds nothing: it needs pairs, nodes and chunks")
        if len({pair.id for pair in self.pairs}) < len(self.pairs):
            unique_mid_date(self.pairs)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Places for pairs, node rows and node columns."""
        return (self.ranges[-1][1], self.nodes.height, self.nodes.width)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Places of the pairs of every part: the first, and the one after the last."""
        return pair_ranges((*self.parts, len(self.pairs) - sum(self.parts)), self.chunks[0])

    @property
    def mid_date(self) -> np.ndarray:
        """The unique date of every pair, datetime64[us] (pairs,)."""
        return unique_mid_date(self.pairs, self.parts)


def create_cube(url: str, spec: CubeSpec, storage_options: Options = None) -> None:
    """Write the metadata of every array of a cube, but not its root, so that nobody can open it yet.

    Doing it again for the same cube changes nothing.

    Parameters
    ----------
    url : str
        Local path or any URL that fsspec knows.
    spec : CubeSpec
    storage_options : mapping, optional
        fsspec's storage options.

    Raises
    ------
    Stop
        The place holds another cube.
    """
    root = get(url, ROOT, storage_options)
    if root is not None:
        run = json.loads(root).get("attributes", {}).get("run_id")
        if run != spec.attrs.get("run_id"):
            raise Stop(f"{url} holds the cube of another run ({run or 'unknown'}); choose another output, or remove it")
    at_once(lambda array: create_array(url, array, storage_options), list(_arrays(spec)))


def stage_cube(url: str, layout: str, spec: CubeSpec, storage_options: Options = None) -> None:
    """Write the metadata of a cube that is to be longer into another store, so that those who read it now see no change.

    Raises
    ------
    Stop
        The cube at ``url`` is stored in other chunks or types.
    """
    at_once(lambda array: stage_array(url, layout, array, storage_options), list(_arrays(spec)))


def create_motion(url: str, spec: CubeSpec, storage_options: Options = None) -> None:
    """Write the metadata of the arrays of ``schema.MOTION``: the store between matching and velocity."""
    at_once(lambda variable: create_array(url, _array(variable, spec, {}), storage_options), MOTION)


ARRAYS = frozenset({*(variable.name for variable in (*VELOCITY, *PER_NODE, *PER_PAIR)), "mid_date", BOUNDS, "y", "x", MAPPING})
"""Names of all arrays of a cube."""


def _arrays(spec: CubeSpec) -> Iterator[Array]:
    for variable in (*VELOCITY, *PER_NODE):
        yield _array(variable, spec, {"grid_mapping": MAPPING})
    for variable in PER_PAIR:
        yield _array(variable, spec, {})
    count, height, width = spec.shape
    chunk = _column_chunk(spec)
    yield Array("mid_date", ("mid_date",), (count,), (chunk,), "datetime64[us]", None, {**COORDINATES["mid_date"], "bounds": BOUNDS})
    yield Array(BOUNDS, ("mid_date", "bnds"), (count, 2), (chunk, 2), "datetime64[us]", None, {})
    yield Array("y", ("y",), (height,), (height,), "float64", 0.0, COORDINATES["y"])
    yield Array("x", ("x",), (width,), (width,), "float64", 0.0, COORDINATES["x"])
    yield Array(MAPPING, (), (), (), "int32", 0, mapping_attributes(spec.nodes))


def _column_chunk(spec: CubeSpec) -> int:
    """Return the chunk of what is known of every pair: all that is published first, in whole chunks, so that it is read at once."""
    first, chunk = spec.ranges[0][1], spec.chunks[0]
    return -(-first // chunk) * chunk


def _array(variable: Variable, spec: CubeSpec, attrs: Mapping[str, Any]) -> Array:
    sizes = dict(zip(CUBE, spec.shape, strict=True))
    chunks = dict(zip(CUBE, spec.chunks, strict=True))
    # Along y and x a chunk is cut to the grid. Along mid_date it is whole, so that pairs can be appended.
    chunks = {name: chunks[name] if name == "mid_date" else min(chunks[name], sizes[name]) for name in CUBE}
    if variable.dims == ("mid_date",):
        chunks["mid_date"] = _column_chunk(spec)
    return Array(
        name=variable.name,
        dims=variable.dims,
        shape=tuple(sizes[name] for name in variable.dims),
        chunks=tuple(chunks[name] for name in variable.dims),
        dtype=variable.dtype,
        fill=variable.fill,
        attrs={**attributes_of(variable), **attrs},
    )


def write_coords(
    url: str,
    spec: CubeSpec,
    per_pair: Mapping[str, np.ndarray] | None = None,
    per_node: Mapping[str, np.ndarray] | None = None,
    storage_options: Options = None,
    layout: str | None = None,
) -> None:
    """Write everything of a cube that is not a 3-D variable; of a cube that is appended to, what is new.

    Parameters
    ----------
    url, spec, storage_options
        As in ``create_cube``.
    per_pair : mapping of str to array (pairs,)
        Variables of ``schema.PER_PAIR`` that the pairs themselves do not tell: shifts, scatter, counts.
    per_node : mapping of str to array (y, x)
        Variables of ``schema.PER_NODE``.
    layout : str, optional
        Where ``stage_cube`` has put the metadata.

    Raises
    ------
    Stop
        A name is not in the schema, or a shape does not fit. What is not given is written as its fill value.
    """
    new = sum(spec.parts)
    columns = {**pair_columns(spec.pairs[new:], spec.images), **(per_pair or {})}
    first, second = columns["acquisition_date_img1"], columns["acquisition_date_img2"]
    values: dict[str, np.ndarray] = {
        "mid_date": spec.mid_date[new:].astype("int64"),
        BOUNDS: np.stack([first, second], axis=1).astype("datetime64[us]").astype("int64"),
        "y": spec.nodes.y,
        "x": spec.nodes.x,
        MAPPING: np.array(0, "int32"),
    }
    for group, given in ((PER_PAIR, columns), (PER_NODE, dict(per_node or {}))):
        unknown = sorted(set(given) - {variable.name for variable in group})
        if unknown:
            raise Stop(f"{', '.join(unknown)}: not in the schema of the cube; known: {', '.join(v.name for v in group)}")
        values |= {variable.name: _stored(variable, given.get(variable.name), spec) for variable in group}
    if layout is not None:
        along = {v.name for v in PER_PAIR} | {"mid_date", BOUNDS}
        at_once(lambda name: _append_column(url, name, values[name], spec, storage_options, layout), sorted(along))
        return
    at_once(
        lambda item: write_block(url, dict([item]), tuple(slice(0, size) for size in item[1].shape), storage_options), list(values.items())
    )


def _append_column(url: str, name: str, values: np.ndarray, spec: CubeSpec, storage_options: Options, layout: str) -> None:
    """Write what is known of new pairs. In the chunk in which they begin, what is there already stays."""
    first, stop = spec.ranges[-1]
    start = first // _column_chunk(spec) * _column_chunk(spec)
    rest = tuple(slice(0, size) for size in values.shape[1:])
    if start < first:
        kept = read_part(open_array(url, name, storage_options, True, layout), (slice(start, first), *rest))
        values = np.concatenate([kept, values])
    write_block(url, {name: values}, (slice(start, stop), *rest), storage_options, layout)


def _new(spec: CubeSpec) -> int:
    return len(spec.pairs) - sum(spec.parts)


def _stored(variable: Variable, values: np.ndarray | None, spec: CubeSpec) -> np.ndarray:
    """Return the values of a variable in the type in which it is stored."""
    if variable.dtype == "str":
        return texts([""] * _new(spec) if values is None else values).astype(np.dtypes.StringDType())
    shape = (_new(spec),) if variable.dims == ("mid_date",) else spec.shape[1:]
    if values is None:
        return np.full(shape, variable.fill, variable.dtype)
    converted = np.asarray(values).astype(variable.dtype)
    if converted.shape != shape:
        raise Stop(f"{variable.name} is of shape {converted.shape}, the cube needs {shape}")
    return converted.astype("int64") if variable.dtype == "datetime64[us]" else converted


def publish_cube(
    url: str, spec: CubeSpec, attrs: Mapping[str, Any] | None = None, storage_options: Options = None, layout: str | None = None
) -> None:
    """Write the root metadata, in one piece and last: from now on, the cube, or what was appended to it, can be opened.

    Parameters
    ----------
    url, spec, storage_options
        As in ``create_cube``.
    attrs : mapping
        More attributes of the root, such as counts and dates of production; they win over ``spec.attrs``.
    layout : str, optional
        Where ``stage_cube`` has put the metadata; those of the arrays are copied before the root is written.

    Raises
    ------
    Stop
        An array is missing, or an attribute cannot be written as JSON.
    """
    names = [array.name for array in _arrays(spec)]
    contents = dict(zip(names, at_once(lambda name: get(layout or url, f"{name}/{ROOT}", storage_options), names), strict=True))
    missing = [name for name, content in contents.items() if content is None]
    if missing:
        raise Stop(f"{url} has no array {missing[0]!r}; create the cube and write its blocks before publishing it")
    metadata = {name: json.loads(content) for name, content in contents.items() if content is not None}
    root = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {**cube_attributes(spec.nodes, spec.pairs), **_ranges(spec), **spec.attrs, **(attrs or {})},
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": metadata},
    }
    try:
        content = json.dumps(root, indent=1, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise Stop(f"an attribute of the cube cannot be written as JSON: {error}") from None
    if layout is not None:
        at_once(lambda name: put(url, f"{name}/{ROOT}", contents[name] or b"", storage_options), names)
    put(url, ROOT, content, storage_options)


def _ranges(spec: CubeSpec) -> dict[str, Any]:
    return {RANGES: [list(places) for places in spec.ranges]} if spec.parts else {}


def open_cube(
    url: str | Path,
    storage_options: Options = None,
    chunks: Any = MappingProxyType({}),
    consolidated: bool | None = True,
    in_order: bool = True,
) -> xr.Dataset:
    """Open a published cube lazily (texts of the pairs are read at once).

    Parameters
    ----------
    url : str or Path
        Local path or any URL that fsspec knows.
    storage_options : mapping, optional
        fsspec's storage options.
    chunks : mapping, "auto" or None
        As in ``xarray.open_zarr``; by default one Dask chunk per stored chunk. None reads without Dask.
    consolidated : bool, optional
        As in ``xarray.open_zarr``; every published cube has consolidated metadata.
    in_order : bool
        Sort by ``mid_date``, chunk by chunk as they are read. False leaves the pairs as they are stored, sorted within chunks only, which
        needs less memory where much of a large cube is read: select first, then sort (``cube.isel(y=3, x=4).sortby("mid_date")``).

    Returns
    -------
    Dataset
        Dimensions mid_date, y, x; ``schema.VELOCITY``, ``PER_PAIR`` and ``PER_NODE``. Velocity is float32 with NaN
        where there is none, and ``status`` says why. ``.rio.crs`` works on it, on its variables and on what is made of them.

    Raises
    ------
    Stop
        There is no published cube.
    Retry
        The storage could not be reached.
    """
    url = str(url)
    store = store_at(url, storage_options, read_only=True)
    try:
        with told_apart(url):
            cube: xr.Dataset = xr.open_zarr(
                store,
                chunks=dict(chunks) if isinstance(chunks, Mapping) else chunks,
                consolidated=consolidated,
                decode_coords="all",
                decode_times=CFDatetimeCoder(time_unit="us"),
            )
            texts_of_pairs = cube[[name for name, array in cube.data_vars.items() if array.dtype.kind == "T"]].compute()
    except Stop as error:
        if isinstance(error.__cause__, (GroupNotFoundError, FileNotFoundError)):
            raise Stop(f"{url} is not a published cube: it does not exist, or the run that writes it is not finished") from error
        raise
    if MAPPING not in cube.coords:
        raise Stop(f"{url} is a Zarr store, but not a cube of ftrack: it has no {MAPPING!r}; open it with xarray.open_zarr")
    # xarray cannot mask numpy's own strings. rioxarray looks for spatial_ref once arithmetic has dropped the name of the mapping.
    cube = cube.assign(texts_of_pairs.astype(object).data_vars).assign_coords(spatial_ref=cube[MAPPING].variable)
    return _without_gaps(cube, in_order)


def _without_gaps(cube: xr.Dataset, in_order: bool) -> xr.Dataset:
    """Return a cube without the places that hold no pair, sorted by date if asked for."""
    whole = [(0, cube.sizes["mid_date"])]
    places = np.concatenate([np.arange(*ends) for ends in cube.attrs.get(RANGES, whole)])
    order = places[np.argsort(cube["mid_date"].values[places], kind="stable")] if in_order else places
    if np.array_equal(order, np.arange(*whole[0])):
        return cube
    large = [name for name, array in cube.data_vars.items() if array.ndim == len(CUBE) and array.chunks is not None]
    rest = cube.drop_vars(large).isel(mid_date=order)
    ordered = {
        name: xr.Variable(cube[name].dims, take_first(cube[name].data, order), cube[name].attrs, cube[name].encoding) for name in large
    }
    return rest.drop_vars(rest.data_vars).assign({name: ordered.get(name, rest.get(name)) for name in cube.data_vars})
