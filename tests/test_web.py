"""Stores elsewhere: parts and wholes of what is there, nothing of what is not, nothing written, no host that may not be reached."""

from __future__ import annotations

import asyncio

import pytest
from file_server import FileServer, serving
from zarr.abc.store import OffsetByteRequest, RangeByteRequest
from zarr.core.buffer import default_buffer_prototype

from ftrack.errors import Stop
from ftrack.sources import Access
from ftrack.web import WebStore, read_address

MEANT = Access(hosts=("127.0.0.1",))


def test_documents_are_read_from_hosts_that_may_be_reached() -> None:
    with serving(FileServer({"/a": b"0123456789"})) as server:
        assert read_address(f"{server.url}/a", MEANT) == b"0123456789"
        assert read_address(f"{server.url}/b", MEANT) is None
        asked = len(server.asked)
        with pytest.raises(Stop, match="refused"):
            read_address(f"{server.url}/a", Access(private_hosts=False))
        assert len(server.asked) == asked


def test_a_store_gives_parts_and_takes_nothing() -> None:
    with serving(FileServer({"/s/x": b"0123456789"})) as server:
        store, prototype = WebStore(f"{server.url}/s/", MEANT), default_buffer_prototype()

        async def look() -> None:
            whole, part, rest = await store.get_partial_values(
                prototype, [("x", None), ("x", RangeByteRequest(2, 5)), ("x", OffsetByteRequest(7))]
            )
            assert [b.to_bytes() for b in (whole, part, rest) if b is not None] == [b"0123456789", b"234", b"789"]
            assert await store.exists("x") and not await store.exists("y")
            assert [key async for key in store.list()] == []
            with pytest.raises(Stop, match="read only"):
                await store.set("x", prototype.buffer.from_bytes(b""))
            with pytest.raises(Stop, match="read only"):
                await store.delete("x")

        asyncio.run(look())
        assert store == WebStore(f"{server.url}/s", MEANT) and store.read_only
