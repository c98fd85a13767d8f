"""The tile functions over lazy stacks: the same numbers whatever the chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import dask.array as da
import numpy as np
import xarray as xr
from dask import config
from dask.system import CPU_COUNT

from ftrack.cleaning import Fill, Outliers, clean_halo
from ftrack.errors import Stop
from ftrack.grid import Grid, Nodes, grid_of, node_grid, nodes_on
from ftrack.grid import place as place_on
from ftrack.halo import Edges, Tiles, depth_of, edges_of, map_tiles, merge_short, outside
from ftrack.halo import joined as join_short
from ftrack.matchers import NCC, Matcher, Prior, TwoStage
from ftrack.pairs import Pair
from ftrack.prefilters import HighPass, ImageFilter
from ftrack.schema import DAYS_PER_YEAR, MOTION, Status
from ftrack.tile import Images, clean_tile, filter_tile, find_tile, match_tile, refine_tile

IMAGE_COORDINATES = ("platform", "scene_ids")
"""Coordinates of the stack along time that each pair takes over, for its reference and its secondary."""

FEWEST = 48
"""Rows of nodes that are refined by a thread of its own, at the least: what lies around them is refined twice."""

LEAST = 1024
"""Pixels along the side of what is matched as one, at the least: chunks are joined until they have as many."""

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
    images = merge_short(_as_dask(stack), chosen.halo)
    filtered = da.map_overlap(
        filter_tile, images, prefilter=chosen, depth=depth_of(images, chosen.halo), boundary=outside(images.ndim),
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
    images = _in_large_chunks(stack)
    values = match_array(images, pairs, chosen, prior=prior, window=nodes, tiles=bands_of(images, nodes))
    edges = edges_of(stack.chunks or [(size,) for size in stack.shape])
    counts = [_count_nodes(where, _opened(axis)) for where, axis in zip((nodes.rows, nodes.columns), edges, strict=True)]
    return _as_dataset(values.rechunk({2: counts[0], 3: counts[1]}), stack, pairs, grid, nodes)


def _in_large_chunks(stack: xr.DataArray) -> xr.DataArray:
    """Return a stack whose chunks along y and x are at least ``LEAST`` long; images of up to twice that are one chunk each."""
    if max(stack.shape[1:]) <= 2 * LEAST:
        return stack.chunk({"y": -1, "x": -1})
    return stack.chunk({"y": join_short(stack.chunks[1], LEAST), "x": join_short(stack.chunks[2], LEAST)}) if stack.chunks else stack


def bands_of(stack: xr.DataArray, nodes: Nodes) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return tiles for Dask's threads to share where every image is one chunk: bands of rows, none so narrow that it does not pay."""
    bands = min(int(config.get("num_workers", None) or CPU_COUNT), nodes.height // FEWEST)
    if bands < 2 or any(len(sizes) > 1 for sizes in (stack.chunks or ())[1:]):
        return None
    height, width = stack.shape[1:]
    edges = (0, *(int(nodes.rows[k * nodes.height // bands]) for k in range(1, bands)), height)
    return tuple(int(size) for size in np.diff(edges)), (width,)


def match_array(
    stack: xr.DataArray,
    pairs: Sequence[Pair],
    matcher: Matcher,
    *,
    prior: xr.Dataset | tuple[float, float] | None = None,
    window: Nodes | None = None,
    tiles: Sequence[Sequence[int]] | None = None,
) -> da.Array:
    """Match lazily and return one array: float32 (8, pair, y, x) in the order of ``ftrack.schema.MOTION``; see ``match_stack``.

    ``tiles`` are the sizes of tiles along y and x; those of the chunks if left out. A stack of images that are in one piece each is cut
    into tiles without a copy.
    """
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
    images, nodes_in, cuts = _around(_as_dask(stack.isel(time=used)), nodes, halo, tiles)
    largest, whole = halo - matcher.halo, edges_of(cuts)
    if images.numblocks[1:] == (1, 1):
        edges = edges_of([join_short(sizes, halo) for sizes in cuts])
    else:
        images = merge_short(images.rechunk({0: -1}), halo)
        edges = edges_of(images.chunks)
    counts = tuple(_count_nodes(where, axis) for where, axis in zip((nodes_in.rows, nodes_in.columns), edges, strict=True))
    given: dict[str, Any] = {"pairs": indices, "matcher": matcher}
    cut = Tiles(images, edges, halo)
    size: list[Any] = [(len(MOTION),), (len(pairs),), *counts]
    if has_two_stages(matcher) and matcher.spread and cut.numbers != (1, 1):
        wide = nodes_in.widened(matcher.spread)
        found = map_tiles(
            _find_block, cut, [(matcher.planes,), (len(pairs),), *_own_nodes(wide, edges)],
            place=(wide, edges, halo), reach=matcher.search_halo + largest, expected=(velocity, factors), **given,
        )  # fmt: skip
        matched = map_tiles(_refine_block, cut, size, (found, matcher.spread), place=(nodes_in, edges, halo), **given)
    else:
        matched = map_tiles(_match_block, cut, size, place=(nodes_in, edges, halo), expected=(velocity, factors), **given)
    wanted = [_count_nodes(where, axis) for where, axis in zip((nodes_in.rows, nodes_in.columns), whole, strict=True)]
    return matched.rechunk({2: wanted[0], 3: wanted[1]}) if counts != tuple(wanted) else matched


def _around(images: da.Array, nodes: Nodes, halo: int, tiles: Sequence[Sequence[int]] | None) -> tuple[da.Array, Nodes, Any]:
    """Return the pixels that nodes need, the nodes as they lie on these, and the sizes of the tiles that are left of those given."""
    window = []
    for where, n in ((nodes.rows, images.shape[1]), (nodes.columns, images.shape[2])):
        window.append((max(0, int(where[0]) - halo), min(n, int(where[-1]) + halo + 1)) if where.size else (0, n))
    (top, bottom), (left, right) = window
    cuts = [
        tuple(int(size) for size in np.diff(np.clip(axis, *limits)) if size)
        for axis, limits in zip(edges_of(tiles or images.chunks), window, strict=True)
    ]
    return images[:, top:bottom, left:right], nodes._replace(row=nodes.row - top, column=nodes.column - left), cuts


def _own_nodes(wide: Nodes, edges: Edges) -> list[tuple[int, ...]]:
    """Return how many nodes every block searches; those beyond the first and last pixels belong to the outermost blocks."""
    return [_count_nodes(where, _opened(axis)) for where, axis in zip((wide.rows, wide.columns), edges, strict=True)]


def _opened(edges: Sequence[int]) -> tuple[int, ...]:
    return (-BEYOND, *edges[1:-1], BEYOND)


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
    merged = merge_short(values, halo)
    overlapped: da.Array = da.map_overlap(
        clean_tile, merged, outliers=outliers, fill=fill, depth=depth_of(merged, halo), boundary=outside(4),
        trim=True, allow_rechunk=False, dtype=np.float32, meta=np.empty((0, 0, 0, 0), np.float32),
    )  # fmt: skip
    return overlapped.rechunk(values.chunks) if merged.chunks != values.chunks else overlapped


def _find_block(
    images: Images, *, pairs: Any, matcher: TwoStage, place: Any, reach: int, expected: Any, block_id: Any = None
) -> np.ndarray:
    """Search the nodes of one tile, in no more of its pixels than ``reach`` around them; see ``_match_block``."""
    rows, columns, local = _nodes_in(place, block_id, _opened)
    near = [slice(max(0, int(where[0]) - reach), max(0, int(where[-1]) + reach + 1)) for where in local]
    seen = [np.ascontiguousarray(image[near[0], near[1]]) for image in images]
    beyond = 2 * (matcher.margin - matcher.spread)
    priors = _priors(expected, (rows, columns), beyond)
    return find_tile(seen, pairs, matcher, local[0] - near[0].start, local[1] - near[1].start, priors)


def _refine_block(images: Images, found: np.ndarray, *, pairs: Any, matcher: TwoStage, place: Any, block_id: Any = None) -> np.ndarray:
    """Refine what was found at the nodes of one tile and around them."""
    _, _, local = _nodes_in(place, block_id)
    beyond = matcher.spacing * np.arange(1, matcher.spread + 1)
    wide = [np.concatenate([where[0] - beyond[::-1], where, where[-1] + beyond]) for where in local]
    return refine_tile(images, pairs, matcher, wide[0], wide[1], found)


def _match_block(images: Images, *, pairs: Any, matcher: Matcher, place: Any, expected: Any, block_id: Any = None) -> np.ndarray:
    """Match the nodes of one tile.

    ``place`` is the nodes, the edges of the tiles, and the pixels around each; ``expected`` is the velocity at all nodes and the
    matcher's margin around them (m/yr on the map), and the factors that turn it into pixels for each pair.
    """
    rows, columns, local = _nodes_in(place, block_id)
    return match_tile(images, pairs, matcher, *local, _priors(expected, (rows, columns), 2 * margin_of(matcher)))


def _nodes_in(place: tuple[Nodes, Edges, int], block_id: Any, opened: Any = tuple) -> tuple[slice, slice, tuple[np.ndarray, np.ndarray]]:
    """Return which nodes lie in a tile, and where on the tile's pixels."""
    nodes, edges, halo = place
    parts, local = [], []
    for where, axis, k in zip((nodes.rows, nodes.columns), edges, block_id[-2:], strict=True):
        limits = opened(axis)
        parts.append(_nodes_between(where, limits[k], limits[k + 1]))
        local.append(where[parts[-1]] - max(0, axis[k] - halo))
    return parts[0], parts[1], (local[0], local[1])


def _priors(expected: tuple[Any, Sequence[float]], parts: tuple[slice, slice], beyond: int) -> list[Prior]:
    """Return what is expected of each pair at some nodes and those around them, px."""
    velocity, factors = expected
    wide = tuple(slice(part.start, part.stop + beyond) for part in parts)
    vx, vy = (part if np.ndim(part) == 0 else part[wide] for part in velocity)
    return [Prior(vx * factor, -vy * factor) for factor in factors]


def _nodes_between(where: np.ndarray, start: int, stop: int) -> slice:
    first, last = np.searchsorted(where, (start, stop))
    return slice(int(first), int(last))


def _count_nodes(where: np.ndarray, edges: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.diff(np.searchsorted(where, edges)))


def _as_dask(stack: xr.DataArray) -> da.Array:
    if stack.dims != ("time", "y", "x"):
        raise Stop(f"the stack has dimensions {stack.dims}; ('time', 'y', 'x') are needed")
    images: da.Array = da.asarray(stack.data).astype(np.float32)
    return images


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
