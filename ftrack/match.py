"""The tile functions over lazy stacks: the same numbers whatever the chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import dask.array as da
import numpy as np
import xarray as xr

from ftrack.cleaning import Fill, Outliers, clean_halo
from ftrack.errors import Stop
from ftrack.grid import Grid, Nodes, grid_of, node_grid, nodes_on
from ftrack.grid import place as place_on
from ftrack.matchers import NCC, Matcher, Prior, TwoStage
from ftrack.pairs import Pair
from ftrack.prefilters import HighPass, ImageFilter
from ftrack.schema import DAYS_PER_YEAR, MOTION, Status
from ftrack.tile import clean_tile, filter_tile, find_tile, match_tile, refine_tile

IMAGE_COORDINATES = ("platform", "scene_ids")
"""Coordinates of the stack along time that each pair takes over, for its reference and its secondary."""

BEYOND = 2**40
"""Farther than any pixel."""


def prefilter(stack: xr.DataArray, kind: ImageFilter | None = None) -> xr.DataArray:
    """Filter the images of a stack lazily.

    Parameters
    ----------
    stack : DataArray (time, y, x)
        Images, float32, NaN = no data.
    kind : ImageFilter, optional
        One of the filters of ``ftrack.prefilters``, or one of your own; a Gaussian high-pass if left out.
    """
    chosen = HighPass() if kind is None else kind
    images = _merge_short(_as_dask(stack), chosen.halo, (1, 2))
    depth = _depth(images, chosen.halo)
    filtered = da.map_overlap(
        filter_tile, images, prefilter=chosen, depth={0: 0, 1: depth[0], 2: depth[1]}, boundary=_outside(images.ndim),
        trim=True, allow_rechunk=False, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32),
    )  # fmt: skip
    return stack.copy(data=filtered)


def match_stack(
    stack: xr.DataArray,
    pairs: Sequence[Pair],
    matcher: Matcher | None = None,
    *,
    prior: xr.Dataset | tuple[float, float] | None = None,
    window: Nodes | None = None,
) -> xr.Dataset:
    """Match the pairs of a stack lazily.

    Parameters
    ----------
    stack : DataArray (time, y, x)
        Images from ``open_stack``, usually filtered; its coordinate ``image`` names them.
    pairs : sequence of Pair
        Images to match, from ``choose_pairs``.
    matcher : Matcher, optional
        What measures; ``NCC()`` if left out.
    prior : Dataset with ``vx``, ``vy`` (y, x), or (vx, vy), optional
        Velocity to expect, m/yr on the map; the search is centred on it. A Dataset is sampled at the nodes.
    window : Nodes, optional
        Nodes of the stack's grid to measure; all of them if left out.

    Returns
    -------
    Dataset (pair, y, x)
        ``dx``, ``dy`` (px, + = right, down, of what is at the node in the reference), ``correlation``, ``peak_ratio``,
        ``dx_error``, ``dy_error``, ``chip_size`` and ``status``; ``x`` and ``y`` are the nodes.

    Raises
    ------
    Stop
        A pair is not in the stack, or the stack has no grid.
    """
    chosen = NCC() if matcher is None else matcher
    grid = grid_of(stack)
    nodes = nodes_on(grid, chosen.spacing) if window is None else window
    values = match_array(stack, pairs, chosen, prior=prior, window=nodes)
    return _as_dataset(values, stack, pairs, grid, nodes)


def match_array(
    stack: xr.DataArray,
    pairs: Sequence[Pair],
    matcher: Matcher,
    *,
    prior: xr.Dataset | tuple[float, float] | None = None,
    window: Nodes | None = None,
) -> da.Array:
    """Match lazily and return one array: float32 (8, pair, y, x) in the order of ``ftrack.schema.MOTION``; see ``match_stack``."""
    grid = grid_of(stack)
    nodes = nodes_on(grid, matcher.spacing) if window is None else window
    if not pairs:
        raise Stop("there are no pairs to match; widen min_days and max_days of choose_pairs")
    indices, used = _find_images(stack, pairs)
    margin = margin_of(matcher)
    velocity = _expected_velocity(prior, grid, nodes.widened(margin))
    factors = tuple(pair.temporal_baseline / DAYS_PER_YEAR / grid.resolution for pair in pairs)
    fastest = max(float(np.max(np.abs(np.nan_to_num(part)), initial=0.0)) for part in velocity)
    halo = halo_with(matcher, fastest * max(map(abs, factors)))
    given = _as_dask(stack.isel(time=used)).rechunk({0: -1})
    images, nodes_in = _around(given, nodes, halo)
    images = _merge_short(images, halo, (1, 2))
    starts, largest = _edges(images), halo - matcher.halo
    counts = tuple(_count_nodes(where, edges) for where, edges in zip((nodes_in.rows, nodes_in.columns), starts, strict=True))
    if has_two_stages(matcher) and matcher.spread and max(images.numblocks[1:]) > 1:
        wide, depth = nodes_in.widened(matcher.spread), _depth(images, matcher.search_halo + largest)
        found = _map(
            _find_block, images, depth, (matcher.planes, len(pairs), *_own_nodes(wide, starts)),
            pairs=indices, matcher=matcher, place=(wide, starts, depth), velocity=velocity, factors=factors,
        )  # fmt: skip
        matched = _refine(images, found, indices, matcher, (nodes_in, starts, halo), counts)
    else:
        depth = _depth(images, halo)
        matched = _map(
            _match_block, images, depth, (len(MOTION), len(pairs), *counts),
            pairs=indices, matcher=matcher, place=(nodes_in, starts, depth), velocity=velocity, factors=factors,
        )  # fmt: skip
    wanted = [_count_nodes(where, edges) for where, edges in zip((nodes.rows, nodes.columns), _edges(given), strict=True)]
    return matched.rechunk({2: wanted[0], 3: wanted[1]}) if counts != tuple(wanted) else matched


def _around(images: da.Array, nodes: Nodes, halo: int) -> tuple[da.Array, Nodes]:
    """Return the pixels that nodes need, and the nodes as they lie on these."""
    window = []
    for where, n in ((nodes.rows, images.shape[1]), (nodes.columns, images.shape[2])):
        window.append((max(0, int(where[0]) - halo), min(n, int(where[-1]) + halo + 1)) if where.size else (0, n))
    (top, bottom), (left, right) = window
    return images[:, top:bottom, left:right], nodes._replace(row=nodes.row - top, column=nodes.column - left)


def _map(function: Any, images: da.Array, depth: tuple[int, int], shape: tuple[Any, ...], **given: Any) -> da.Array:
    """Map a function over images that reach into their neighbours; ``shape`` is two sizes and the chunks along y and x."""
    mapped: da.Array = da.map_overlap(
        function, images, depth={0: 0, 1: depth[0], 2: depth[1]}, boundary=_outside(3), trim=False, allow_rechunk=False, new_axis=0,
        chunks=((shape[0],), (shape[1],), *shape[2:]), dtype=np.float32, meta=np.empty((0, 0, 0, 0), np.float32), **given,
    )  # fmt: skip
    return mapped


def _refine(images: da.Array, found: da.Array, pairs: Any, matcher: TwoStage, place: tuple[Nodes, Any, int], counts: Any) -> da.Array:
    """Refine what was found, with the nodes and pixels of neighbouring blocks around each."""
    nodes, starts, halo = place
    far, depth = _depth(images, halo), _depth(found, matcher.spread)
    refined: da.Array = da.map_overlap(
        _refine_block, found, images, pairs=pairs, matcher=matcher, place=(nodes, starts, far),
        depth=[{0: 0, 1: 0, 2: depth[0], 3: depth[1]}, {0: 0, 1: far[0], 2: far[1]}], boundary=[_nowhere(4), _outside(3)],
        trim=False, allow_rechunk=False, align_arrays=False, chunks=((len(MOTION),), (len(pairs),), *counts),
        dtype=np.float32, meta=np.empty((0, 0, 0, 0), np.float32),
    )  # fmt: skip
    return refined


def _own_nodes(wide: Nodes, starts: Any) -> list[tuple[int, ...]]:
    """Return how many nodes every block searches; those beyond the first and last pixels belong to the outermost blocks."""
    return [_count_nodes(where, _opened(edges)) for where, edges in zip((wide.rows, wide.columns), starts, strict=True)]


def _opened(edges: Sequence[int]) -> tuple[int, ...]:
    return (-BEYOND, *edges[1:-1], BEYOND)


def _edges(images: da.Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where chunks begin and end along y and x."""
    first, second = (tuple(int(v) for v in np.cumsum((0, *images.chunks[axis]))) for axis in (1, 2))
    return first, second


def margin_of(matcher: Matcher) -> int:
    """Return the nodes around those that are measured at which the matcher needs to know what to expect."""
    return int(getattr(matcher, "margin", 0))


def has_two_stages(matcher: Matcher) -> TypeGuard[TwoStage]:
    """Say whether a matcher's two stages make up its ``measure``; a subclass that replaces only that has one stage."""

    def owner(name: str) -> type:
        return next(kind for kind in type(matcher).__mro__ if name in vars(kind))

    return isinstance(matcher, TwoStage) and issubclass(owner("find"), owner("measure"))


def found_by(matcher: Matcher) -> tuple[int, int]:
    """Return the numbers that a matcher's first stage gives for a node, and the nodes around a tile at which its second needs them."""
    return (matcher.planes, matcher.spread) if has_two_stages(matcher) else (0, 0)


def halo_with(matcher: Matcher, largest: float) -> int:
    """Return the pixels needed around a node where the search is centred up to ``largest`` px away."""
    return matcher.halo + math.ceil(largest)


def clean(motion: xr.Dataset, outliers: Outliers | None = None, fill: Fill | None = None) -> xr.Dataset:
    """Take outliers out of a motion and fill its small holes, lazily.

    Parameters
    ----------
    motion : Dataset (pair, y, x)
        From ``match_stack``.
    outliers, fill : Outliers, Fill, optional
        Settings; the defaults if left out.
    """
    values = da.stack([da.asarray(motion[v.name].data).astype(np.float32) for v in MOTION])
    cleaned = clean_array(values.rechunk({0: -1}), outliers or Outliers(), fill or Fill())
    return motion.assign({v.name: (motion[v.name].dims, _cast(cleaned[k], v.dtype), motion[v.name].attrs) for k, v in enumerate(MOTION)})


def clean_array(values: da.Array, outliers: Outliers, fill: Fill) -> da.Array:
    """Clean lazily: float32 (8, pair, y, x) in and out, in the order of ``ftrack.schema.MOTION``."""
    halo = clean_halo(outliers, fill)
    if halo == 0:
        cleaned: da.Array = da.map_blocks(clean_tile, values, outliers=outliers, fill=fill, dtype=np.float32)
        return cleaned
    merged = _merge_short(values, halo, (2, 3))
    depth = _depth(merged, halo)
    overlapped: da.Array = da.map_overlap(
        clean_tile, merged, outliers=outliers, fill=fill, depth={0: 0, 1: 0, 2: depth[0], 3: depth[1]}, boundary=_outside(4),
        trim=True, allow_rechunk=False, dtype=np.float32, meta=np.empty((0, 0, 0, 0), np.float32),
    )  # fmt: skip
    return overlapped.rechunk(values.chunks) if merged.chunks != values.chunks else overlapped


def _find_block(
    images: np.ndarray, *, pairs: Any, matcher: TwoStage, place: Any, velocity: Any, factors: Any, block_id: Any = None
) -> np.ndarray:
    """Search the nodes of one block; see ``_match_block``."""
    nodes, starts, reach = place
    rows, columns, local = _nodes_in(nodes, starts, reach, block_id, _opened)
    beyond = 2 * (matcher.margin - matcher.spread)
    return find_tile(images, pairs, matcher, *local, _priors(velocity, factors, (rows, columns), beyond))


def _refine_block(found: np.ndarray, images: np.ndarray, *, pairs: Any, matcher: TwoStage, place: Any, block_id: Any = None) -> np.ndarray:
    """Refine what was found at the nodes of one block and around them."""
    nodes, starts, reach = place
    _, _, local = _nodes_in(nodes, starts, reach, block_id)
    beyond = matcher.spacing * np.arange(1, matcher.spread + 1)
    wide = [np.concatenate([where[0] - beyond[::-1], where, where[-1] + beyond]) for where in local]
    return refine_tile(images, pairs, matcher, wide[0], wide[1], found)


def _match_block(
    images: np.ndarray, *, pairs: Any, matcher: Matcher, place: Any, velocity: Any, factors: Any, block_id: Any = None
) -> np.ndarray:
    """Match the nodes of one block.

    ``place`` is the nodes, where the blocks begin, and the pixels carried on every side; ``velocity`` is expected at all nodes and the
    matcher's margin around them (m/yr on the map), and ``factors`` turn it into pixels for each pair.
    """
    nodes, starts, reach = place
    rows, columns, local = _nodes_in(nodes, starts, reach, block_id)
    return match_tile(images, pairs, matcher, *local, _priors(velocity, factors, (rows, columns), 2 * margin_of(matcher)))


def _nodes_in(
    nodes: Nodes, starts: Any, reach: tuple[int, int], block_id: Any, opened: Any = tuple
) -> tuple[slice, slice, tuple[np.ndarray, np.ndarray]]:
    """Return which nodes lie in a block, and where on the block's pixels."""
    parts, local = [], []
    for where, edges, far, k in zip((nodes.rows, nodes.columns), starts, reach, block_id[-2:], strict=True):
        limits = opened(edges)
        parts.append(_nodes_between(where, limits[k], limits[k + 1]))
        local.append(where[parts[-1]] - edges[k] + far)
    return parts[0], parts[1], (local[0], local[1])


def _priors(velocity: Any, factors: Any, parts: tuple[slice, slice], beyond: int) -> list[Prior]:
    """Return what is expected of each pair at some nodes and those around them, px."""
    wide = tuple(slice(part.start, part.stop + beyond) for part in parts)
    vx, vy = (part if np.ndim(part) == 0 else part[wide] for part in velocity)
    return [Prior(vx * factor, -vy * factor) for factor in factors]


def _nodes_between(where: np.ndarray, start: int, stop: int) -> slice:
    first, last = np.searchsorted(where, (start, stop))
    return slice(int(first), int(last))


def _count_nodes(where: np.ndarray, edges: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.diff(np.searchsorted(where, edges)))


def _outside(ndim: int) -> dict[int, Any]:
    """Return what lies beyond the edges: nothing along the first axes, no data along y and x."""
    return {axis: "none" if axis < ndim - 2 else np.nan for axis in range(ndim)}


def _nowhere(ndim: int) -> dict[int, Any]:
    """Return that nothing lies beyond the edges."""
    return dict.fromkeys(range(ndim), "none")


def _as_dask(stack: xr.DataArray) -> da.Array:
    if stack.dims != ("time", "y", "x"):
        raise Stop(f"the stack has dimensions {stack.dims}; ('time', 'y', 'x') are needed")
    images: da.Array = da.asarray(stack.data).astype(np.float32)
    return images


def _merge_short(array: da.Array, halo: int, axes: tuple[int, int]) -> da.Array:
    """Join neighbouring chunks until each is as long as the halo, which is all that can be taken from a neighbour."""
    merged = {axis: _joined(array.chunks[axis], halo) for axis in axes}
    return array.rechunk(merged) if any(array.chunks[a] != c for a, c in merged.items()) else array


def _depth(array: da.Array, halo: int) -> tuple[int, int]:
    """Return how far chunks reach into their neighbours along y and x: not at all where there is only one."""
    y, x = array.numblocks[-2:]
    return halo if y > 1 else 0, halo if x > 1 else 0


def _joined(chunks: tuple[int, ...], least: int) -> tuple[int, ...]:
    joined: list[int] = []
    for chunk in chunks:
        if joined and joined[-1] < least:
            joined[-1] += chunk
        else:
            joined.append(chunk)
    if len(joined) > 1 and joined[-1] < least:
        joined[-2:] = [joined[-2] + joined[-1]]
    return tuple(joined)


def _find_images(stack: xr.DataArray, pairs: Sequence[Pair]) -> tuple[tuple[tuple[int, int], ...], list[int]]:
    """Return the pairs as indices among the images that are used, and which these are."""
    if "image" not in stack.coords:
        raise Stop("the stack has no coordinate 'image' that names its images; use ftrack.open_stack, or assign it along time")
    place_of = {str(name): k for k, name in enumerate(np.atleast_1d(stack["image"].values))}
    missing = sorted({name for p in pairs for name in (p.reference, p.secondary)} - place_of.keys())
    if missing:
        raise Stop(f"the stack has no image {missing[0]!r}, which a pair needs; choose pairs from the scenes that were stacked")
    used = sorted({place_of[name] for p in pairs for name in (p.reference, p.secondary)})
    at = {k: n for n, k in enumerate(used)}
    return tuple((at[place_of[p.reference]], at[place_of[p.secondary]]) for p in pairs), used


def _expected_velocity(prior: xr.Dataset | tuple[float, float] | None, grid: Grid, nodes: Nodes) -> tuple[Any, Any]:
    """Return the velocity to expect (m/yr on the map), each component one number or one per node."""
    if prior is None:
        return 0.0, 0.0
    if isinstance(prior, tuple):
        return prior
    target = node_grid(grid, nodes)
    at = prior[["vx", "vy"]].interp(x=("x", target.x), y=("y", target.y), method="nearest", kwargs={"fill_value": None})
    return np.asarray(at["vx"].transpose("y", "x")), np.asarray(at["vy"].transpose("y", "x"))


def _as_dataset(values: da.Array, stack: xr.DataArray, pairs: Sequence[Pair], grid: Grid, nodes: Nodes) -> xr.Dataset:
    """Name the measurements and give them their coordinates."""
    order = {str(name): k for k, name in enumerate(np.atleast_1d(stack["image"].values))}
    variables = {}
    for k, v in enumerate(MOTION):
        attrs = {"long_name": v.long_name, "units": v.units}
        variables[v.name] = (("pair", "y", "x"), _cast(values[k], v.dtype), attrs)
    dataset: xr.Dataset = place_on(xr.Dataset(variables), node_grid(grid, nodes))
    coordinates: dict[str, Any] = {"pair": np.arange(len(pairs))}
    for side in ("reference", "secondary"):
        names = [getattr(p, side) for p in pairs]
        times = [np.datetime64(getattr(p, f"{side}_time").replace(tzinfo=None), "ns") for p in pairs]
        coordinates[side] = ("pair", np.array(names, object))
        coordinates[f"{side}_time"] = ("pair", np.array(times, "datetime64[ns]"))
        for extra in IMAGE_COORDINATES:
            if extra in stack.coords:
                known = np.atleast_1d(stack[extra].values)
                coordinates[f"{side}_{extra}"] = ("pair", np.array([str(known[order[n]]) for n in names], object))
    dataset = dataset.assign_coords(coordinates)
    dataset.attrs.update(pixel_size=grid.resolution, spacing=nodes.spacing)
    dataset["status"].attrs.update(flag_values=[int(s) for s in Status], flag_meanings=" ".join(s.name.lower() for s in Status))
    return dataset


def _cast(values: da.Array, dtype: str) -> da.Array:
    return values if values.dtype == dtype else values.astype(dtype)
