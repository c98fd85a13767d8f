"""Lazy arrays whose entries along the first axis come in another order, without a graph until something is computed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set
from functools import cached_property
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import List, Task, TaskRef
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer


def take_first(array: da.Array, order: np.ndarray) -> da.Array:
    """Return ``array[order]`` in chunks as long as the first one: every chunk of the result is one task, made when it is asked for.

    Parameters
    ----------
    array : Array
        Of one axis or more.
    order : int (n,)
        Places along the first axis.
    """
    length = array.chunks[0][0]
    sizes = tuple(min(length, order.size - start) for start in range(0, order.size, length))
    name = f"take-{tokenize(array.name, order)}"
    layer = _Reordered(name, array, order)
    graph = HighLevelGraph({**array.dask.layers, name: layer}, {**array.dask.dependencies, name: set(array.__dask_layers__())})
    return da.Array(graph, name, (sizes, *array.chunks[1:]), dtype=array.dtype)


class _Reordered(Layer):
    """Tasks that gather entries of other chunks."""

    has_legacy_tasks = False

    def __init__(self, name: str, array: da.Array, order: np.ndarray) -> None:
        super().__init__()
        self.name, self.source, self.order = name, array.name, order
        self.edges, self.rest = np.cumsum((0, *array.chunks[0])), array.numblocks[1:]

    @cached_property
    def parts(self) -> list[tuple[list[int], list[np.ndarray], list[np.ndarray]]]:
        """Return for every chunk the chunks that it is made of, which of their entries it takes, and where these go."""
        length, found = int(self.edges[1]), []
        for start in range(0, self.order.size, length):
            places = self.order[start : start + length]
            chunk = np.searchsorted(self.edges, places, "right") - 1
            needed = np.unique(chunk)
            where = [np.flatnonzero(chunk == number) for number in needed]
            found.append((needed.tolist(), [places[at] - self.edges[n] for n, at in zip(needed, where, strict=True)], where))
        return found

    def _task(self, key: Any) -> Task:
        _, first, *rest = key
        needed, taken, where = self.parts[first]
        return Task(key, _gather, List(*(TaskRef((self.source, number, *rest)) for number in needed)), taken, where)

    @cached_property
    def tasks(self) -> dict[Any, Task]:
        """All of them."""
        return {key: self._task(key) for key in self.get_output_keys()}

    def __getitem__(self, key: Any) -> Any:
        return self.tasks[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.get_output_keys())

    def is_materialized(self) -> bool:
        """Return whether all tasks have been made."""
        return "tasks" in self.__dict__

    def get_output_keys(self) -> Set[Any]:
        """Return the keys of all chunks."""
        return set(product([self.name], range(len(self.parts)), *map(range, self.rest)))

    def cull(self, keys: set[Any], all_hlg_keys: Collection[Any]) -> tuple[Layer, Mapping[Any, set[Any]]]:
        """Return the tasks that some keys need, and what these depend on."""
        tasks = {key: self._task(key) for key in keys if isinstance(key, tuple) and key[0] == self.name}
        return MaterializedLayer(tasks), {key: set(task.dependencies) for key, task in tasks.items()}


def _gather(parts: list[np.ndarray], taken: list[np.ndarray], where: list[np.ndarray]) -> np.ndarray:
    out = np.empty((sum(at.size for at in where), *parts[0].shape[1:]), parts[0].dtype)
    for part, some, at in zip(parts, taken, where, strict=True):
        out[at] = part[some]
    return out
