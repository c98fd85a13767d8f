"""Documents and Zarr stores elsewhere, read only, from hosts that may be reached only: as files of scenes are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from ftrack.addresses import shown
from ftrack.errors import Retry, Stop
from ftrack.signing import sign
from ftrack.sources import Access
from ftrack.transport import Failure, Request, ask, keep_trying

LARGEST = 2**28
"""Bytes of the largest document or chunk that is taken."""

NOTHING: tuple[str, ...] = ()


def read_address(address: str, access: Access, wanted: str = "", most: int = LARGEST) -> bytes | None:
    """Return what lies at an address, or None if nothing does.

    Parameters
    ----------
    address : str
        An ``https``, ``http`` or ``s3`` address, unsigned.
    access : Access
        Which hosts may be reached.
    wanted : str
        Value of the header ``Range``; all of it if empty.
    most : int
        Bytes above which it is refused.

    Raises
    ------
    Stop
        The host may not be reached, or it is refused to everybody.
    Retry
        It could not be read in several attempts.
    """

    def attempt(before: Failure | None) -> bytes:
        request = sign(address, "", access, before)
        headers = {**request.headers, "Range": wanted} if wanted else request.headers
        return ask(Request(request.address, headers, request.trusted), access, most).content

    try:
        return keep_trying(attempt)
    except Failure as failure:
        if failure.kind == "gone":
            return None
        if failure.kind == "forbidden":
            raise Stop(f"{shown(address)} is refused: {failure}") from None
        raise Retry(f"{shown(address)} could not be read: {failure}") from None


class WebStore(Store):
    """A Zarr store behind plain requests, read only. What is missing has the fill value, as Zarr wants it."""

    def __init__(self, address: str, access: Access) -> None:
        super().__init__(read_only=True)
        self.address, self.access = address.rstrip("/"), access

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WebStore) and (self.address, self.access) == (other.address, other.access)

    def __hash__(self) -> int:
        return hash((self.address, self.access))

    def __repr__(self) -> str:
        return f"WebStore({shown(self.address)!r})"

    @property
    def supports_writes(self) -> bool:
        """Nothing is written."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """Nothing is removed."""
        return False

    @property
    def supports_listing(self) -> bool:
        """Plain requests cannot ask what there is."""
        return False

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return an object or a part of it, or None if there is none."""
        content = await asyncio.to_thread(read_address, f"{self.address}/{key}", self.access, _range(byte_range))
        return None if content is None else prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of several objects."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Return whether there is an object."""
        return await asyncio.to_thread(read_address, f"{self.address}/{key}", self.access) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse to write."""
        raise Stop(f"{shown(self.address)} is read only")

    async def delete(self, key: str) -> None:
        """Refuse to remove."""
        raise Stop(f"{shown(self.address)} is read only")

    async def list(self) -> AsyncIterator[str]:
        """Give nothing: what there is stands in the consolidated metadata."""
        for key in NOTHING:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Give nothing, as ``list``."""
        for key in NOTHING:
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Give nothing, as ``list``."""
        for key in NOTHING:
            yield key


def _range(part: Any) -> str:
    if isinstance(part, RangeByteRequest):
        return f"bytes={part.start}-{part.end - 1}"
    if isinstance(part, OffsetByteRequest):
        return f"bytes={part.offset}-"
    return f"bytes=-{part.suffix}" if isinstance(part, SuffixByteRequest) else ""
