"""Zarr arrays at a local path or a URL: created one by one, written in whole chunks, read without mistaking a gap for data."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import product
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tenacity
import zarr
from aiohttp import ClientError
from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError
from zarr.abc.store import ByteRequest, Store
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.core.sync import sync
from zarr.errors import ArrayNotFoundError, GroupNotFoundError
from zarr.storage import FsspecStore, LocalStore, MemoryStore, StorePath, WrapperStore

from ftrack.errors import NO_ROOM, Full, Retry, Stop
from ftrack.threads import at_once

Options = Mapping[str, Any] | None
"""What fsspec needs to reach a URL (keys, endpoint); None leaves it to fsspec's own configuration."""

Region = tuple[slice, ...]

TIME_UNITS = "microseconds since 1970-01-01"
NOT_A_TIME = int(np.iinfo("int64").min)
ROOT = "zarr.json"

S3: Mapping[str, Any] = {
    # s3fs would ask for the size of every object before reading it, to split large ones; chunks are small.
    "max_concurrency": 1,
    # Nothing is asked for again but by PatientStore: three layers of patience would hide for hours that a store is gone.
    "config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 60},
}
"""Storage options for S3 unless others are given."""

STORES = 32
"""Stores elsewhere that are kept open."""

REQUEST_ATTEMPTS = 8
"""Times that a request to a store is made before it counts as failed."""

LONGEST_WAIT = 5.0
"""Seconds between two of them, at most; a random share of it, so that workers do not ask all at once."""

LASTING = (FileNotFoundError, IsADirectoryError, NotADirectoryError, NoCredentialsError, PartialCredentialsError)
"""What asking again cannot change. Refusals are not among them: tokens are renewed, and crowded stores refuse by mistake."""

Result = TypeVar("Result")


class Array(NamedTuple):
    """One array to create: its name, dimensions, shape, chunks, type, fill value and attributes.

    ``dtype`` is a numpy name, ``datetime64[us]`` (kept as int64 with CF units) or ``str``.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    fill: float | int | str | None
    attrs: Mapping[str, Any]


def _passes(error: BaseException) -> bool:
    return isinstance(error, OSError | BotoCoreError | ClientError) and not isinstance(error, LASTING)


class PatientStore(WrapperStore[Store]):
    """A store elsewhere, of which every request is made again, a little later each time, if it fails for reasons that may pass."""

    async def _again(self, request: Callable[[], Awaitable[Result]]) -> Result:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_passes),
            stop=tenacity.stop_after_attempt(REQUEST_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=LONGEST_WAIT),
            reraise=True,
        )

        async def ask() -> Result:
            return await request()

        return await retrying(ask)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return an object, or None if there is none."""
        return await self._again(lambda: self._store.get(key, prototype, byte_range))

    async def exists(self, key: str) -> bool:
        """Return whether there is an object."""
        return await self._again(lambda: self._store.exists(key))

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object."""
        await self._again(lambda: self._store.set(key, value))

    async def delete(self, key: str) -> None:
        """Remove an object."""
        await self._again(lambda: self._store.delete(key))

    async def delete_dir(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        await self._again(lambda: self._store.delete_dir(prefix))

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Give the keys that begin with a prefix."""

        async def collect() -> list[str]:
            return [key async for key in self._store.list_prefix(prefix)]

        for key in await self._again(collect):
            yield key


def store_at(url: str, storage_options: Options = None, read_only: bool = False) -> Store:
    """Return the Zarr store at a local path or at any URL that fsspec knows."""
    if url.startswith("file://") or "://" not in url:
        return LocalStore(url.removeprefix("file://"), read_only=read_only)
    opened = _opened(url, {"use_listings_cache": False, **(S3 if url.startswith(("s3://", "s3a://")) else {}), **(storage_options or {})})
    return PatientStore(opened.with_read_only(read_only))


_stores: dict[Hashable, FsspecStore] = {}
_stores_lock = Lock()


def _opened(url: str, options: Mapping[str, Any]) -> FsspecStore:
    """Return a store that all threads share, as fsspec has it not: each would open connections of its own."""
    environment = tuple((name, value) for name, value in sorted(os.environ.items()) if name.startswith("AWS_"))
    key = (os.getpid(), url, json.dumps(options, sort_keys=True, default=repr), environment)
    with _stores_lock:
        if key not in _stores:
            _stores[key] = FsspecStore.from_url(url, storage_options={"skip_instance_cache": True, **options})
            _stores[key].fs.retries = 1  # of s3fs
        while len(_stores) > STORES:
            del _stores[next(iter(_stores))]
        return _stores[key]


@atexit.register
def _close_sessions() -> None:
    """Close the connections to S3: those left open would be complained of where the process ends."""
    for store in _stores.values():
        if (client := getattr(store.fs, "_s3", None)) is not None:
            with suppress(Exception):
                sync(client.close(), timeout=1)


@contextmanager
def told_apart(url: str) -> Iterator[None]:
    """Turn failures of the storage into ``Retry`` (network, throttling) and ``Stop`` (missing, forbidden)."""
    try:
        yield
    except (GroupNotFoundError, ArrayNotFoundError, FileNotFoundError, NotADirectoryError) as error:
        raise Stop(f"{url} is not there: {error}") from error
    except (PermissionError, NoCredentialsError, PartialCredentialsError) as error:
        raise Stop(f"{url} cannot be accessed: {error}; check the credentials and the rights on it") from error
    except (OSError, BotoCoreError, ClientError) as error:
        if getattr(error, "errno", None) in NO_ROOM:
            raise Full(f"{url} cannot be written: {error}; make room there, then run again: what is finished is kept") from error
        raise Retry(f"{url} does not answer as it should: {type(error).__name__}: {error}; try again later") from error


def put(url: str, key: str, content: bytes, storage_options: Options = None) -> None:
    """Write one small object so that a reader sees all of it or nothing of it."""
    with told_apart(f"{url}/{key}"):
        sync(store_at(url, storage_options).set(key, default_buffer_prototype().buffer.from_bytes(content)))


def get(url: str, key: str, storage_options: Options = None) -> bytes | None:
    """Return one small object, or None if there is none."""
    with told_apart(f"{url}/{key}"):
        try:
            found = sync(store_at(url, storage_options, read_only=True).get(key, default_buffer_prototype()))
        except FileNotFoundError:
            return None
    return None if found is None else bytes(found.to_bytes())


def array_metadata(array: Array) -> bytes:
    """Return the ``zarr.json`` of an array: every chunk is compressed and carries checksums of its content and of its bytes."""
    attrs = dict(array.attrs)
    dtype = {"str": "string", "datetime64[us]": "int64"}.get(array.dtype, array.dtype)
    if array.dtype == "datetime64[us]":
        attrs |= {"units": TIME_UNITS, "calendar": "proleptic_gregorian"}
    memory = MemoryStore()
    zarr.create_array(
        memory,
        shape=array.shape,
        chunks=array.chunks,
        dtype=dtype,
        fill_value=array.fill if array.fill is not None else NOT_A_TIME if array.dtype == "datetime64[us]" else 0,
        compressors=[ZstdCodec(level=3, checksum=True), Crc32cCodec()],
        dimension_names=array.dims,
        attributes=attrs,
        zarr_format=3,
    )
    found = sync(memory.get(ROOT, default_buffer_prototype()))
    assert found is not None
    return bytes(found.to_bytes())


def create_array(url: str, array: Array, storage_options: Options = None) -> None:
    """Write the metadata of one array, and nothing above it.

    ``zarr.create_array`` would also write the root group, which makes a store readable before it is complete.

    Raises
    ------
    Stop
        Another array of this name (shape, chunks or type) is there.
    """
    old = get(url, f"{array.name}/{ROOT}", storage_options)
    new = array_metadata(array)
    if old is None:
        put(url, f"{array.name}/{ROOT}", new, storage_options)
    elif _layout(old) != _layout(new):
        raise Stop(f"{url} holds another {array.name!r} (shape, chunks or type differ); choose another output, or remove it")


def _layout(metadata: bytes) -> dict[str, Any]:
    return {key: value for key, value in json.loads(metadata).items() if key != "attributes"}


def stage_array(url: str, layout: str, array: Array, storage_options: Options = None) -> None:
    """Write the metadata with which an array of a store will be longer into another store, ``layout``.

    Raises
    ------
    Stop
        There is no such array, or it differs in more than its length.
    """
    old, new = get(url, f"{array.name}/{ROOT}", storage_options), array_metadata(array)
    if old is None or {**_layout(old), "shape": array.shape} != {**_layout(new), "shape": array.shape}:
        raise Stop(f"{url} cannot be appended to: its {array.name!r} is stored in other chunks or types; make a new cube")
    put(layout, f"{array.name}/{ROOT}", new, storage_options)


def open_array(url: str, name: str, storage_options: Options = None, read_only: bool = False, layout: str | None = None) -> zarr.Array[Any]:
    """Open one array of a store that may have no root yet; its metadata may be those of another store, ``layout``."""
    with told_apart(f"{url}/{name}"):
        if layout is not None:
            return _open_as(store_at(url, storage_options, read_only), name, get(layout, f"{name}/{ROOT}", storage_options))
        array = zarr.open_array(store_at(url, storage_options, read_only), path=name, mode="r" if read_only else "r+", zarr_format=3)
    # A chunk that holds nothing but the fill value is written too: a chunk that is absent was never computed.
    return array.with_config({"write_empty_chunks": True})


def _open_as(store: Store, name: str, metadata: bytes | None) -> zarr.Array[Any]:
    if metadata is None:
        raise FileNotFoundError(f"there are no metadata of {name}")
    array = zarr.Array(zarr.AsyncArray.from_dict(StorePath(store, name), json.loads(metadata)))
    return array.with_config({"write_empty_chunks": True})


def write_block(
    url: str, variables: Mapping[str, np.ndarray], region: Region, storage_options: Options = None, layout: str | None = None
) -> None:
    """Write whole chunks of several arrays; writing the same values again leaves the same bytes.

    Parameters
    ----------
    url : str
        Local path or URL of the store.
    variables : mapping of str to array
        Values by name, all with the shape of the region and the type of the stored array.
    region : tuple of slice
        Where they belong; it starts and stops on chunk edges, or stops at the end of an axis.
    storage_options : mapping, optional
        fsspec's storage options.
    layout : str, optional
        Where the metadata of the arrays are, if those in the store are not to be changed yet.

    Raises
    ------
    Stop
        The region cuts a chunk, or a shape, type or name does not fit. Nothing is written.
    Retry
        The storage could not be reached.
    """
    arrays = at_once(lambda name: open_array(url, name, storage_options, layout=layout), variables)
    for (name, values), array in zip(variables.items(), arrays, strict=True):
        _assert_whole_chunks(f"{url}/{name}", array, region)
        _assert_fits(f"{url}/{name}", array, region, values)

    def write(name: str, array: zarr.Array[Any]) -> None:
        with told_apart(f"{url}/{name}"):
            array[region] = variables[name]

    at_once(lambda pair: write(*pair), list(zip(variables, arrays, strict=True)))


def _assert_whole_chunks(where: str, array: zarr.Array[Any], region: Region) -> None:
    if len(region) != array.ndim:
        raise Stop(f"{where} has {array.ndim} dimensions, the region {len(region)}")
    for part, chunk, size in zip(region, array.chunks, array.shape, strict=True):
        inside = part.step in (None, 1) and 0 <= part.start < part.stop <= size
        if not inside or part.start % chunk or (part.stop % chunk and part.stop != size):
            raise Stop(f"{where}: the region {part.start}:{part.stop} is not made of whole chunks of {chunk} (axis of {size})")


def _assert_fits(where: str, array: zarr.Array[Any], region: Region, values: np.ndarray) -> None:
    shape = tuple(part.stop - part.start for part in region)
    if values.shape != shape or values.dtype != array.dtype:
        raise Stop(f"{where} takes {array.dtype} of shape {shape} here, not {values.dtype} of shape {values.shape}")


def read_block(
    url: str, names: Iterable[str], region: Region, storage_options: Options = None, allow_missing: bool = False
) -> dict[str, np.ndarray]:
    """Read a part of several arrays, of any alignment.

    Parameters
    ----------
    url, names, region, storage_options
        As in ``write_block``.
    allow_missing : bool
        Give fill values for chunks that were never written instead of raising.

    Raises
    ------
    Stop
        A chunk was never written, or its checksum is wrong.
    Retry
        The storage could not be reached.
    """
    wanted = list(names)
    values = at_once(lambda name: _read(url, name, region, storage_options, allow_missing), wanted)
    return dict(zip(wanted, values, strict=True))


def _read(url: str, name: str, region: Region, storage_options: Options, allow_missing: bool) -> np.ndarray:
    array = open_array(url, name, storage_options, read_only=True)
    if not allow_missing:
        with told_apart(f"{url}/{name}"):
            absent = _absent(array, chunk_keys(array, region))
        if absent:
            raise Stop(f"{url}/{name}: {len(absent)} chunks were never written, the first is {absent[0]}; finish the run")
    return read_part(array, region)


def read_part(array: zarr.Array[Any], region: Region) -> np.ndarray:
    """Read a part of an open array; chunks that were never written give the fill value.

    Raises
    ------
    Stop
        The checksum of a chunk is wrong.
    Retry
        The storage could not be reached.
    """
    where = f"{array.store_path}"
    with told_apart(where):
        try:
            return np.asarray(array[region])
        except (RuntimeError, ValueError) as error:
            part = ", ".join(f"{p.start}:{p.stop}" for p in region)
            raise Stop(f"{where} is damaged in [{part}]: {error}; compute that block again") from error


def _absent(array: zarr.Array[Any], keys: list[str]) -> list[str]:
    async def ask() -> list[bool]:
        return await asyncio.gather(*(array.store.exists(f"{array.path}/{key}") for key in keys))

    return [key for key, there in zip(keys, sync(ask()), strict=True) if not there]


def chunk_keys(array: zarr.Array[Any], region: Region | None = None) -> list[str]:
    """Return the keys, below the array, of the chunks that a region touches (all of them if there is no region)."""
    parts = region or tuple(slice(0, size) for size in array.shape)
    ranges = [range(p.start // c, -(-p.stop // c)) for p, c in zip(parts, array.chunks, strict=True)]
    return [str(array.metadata.encode_chunk_key(index)) for index in product(*ranges)]


def open_arrays(url: str, storage_options: Options = None) -> dict[str, zarr.Array[Any]]:
    """Open all arrays of a store that has a root with consolidated metadata, without asking for each."""
    with told_apart(url):
        return dict(zarr.open_group(store_at(url, storage_options, read_only=True), mode="r", use_consolidated=True).arrays())


def stored_keys(url: str, storage_options: Options = None) -> list[str]:
    """Return the keys of all objects of a store; what writers that were killed have left is not among them."""

    async def collect() -> list[str]:
        return [key async for key in store_at(url, storage_options, read_only=True).list_prefix("")]

    with told_apart(url):
        return sorted(key for key in sync(collect()) if not key.endswith(".partial"))
