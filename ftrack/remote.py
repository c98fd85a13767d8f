"""Remote files as GDAL reads them: pages and ranges that come whole from the server, or an error that cannot be overlooked."""

from __future__ import annotations

import contextvars
import io
import itertools
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import rasterio
from rasterio.abc import MultiByteRangeResourceContainer

from ftrack.transport import Failure, Part

PAGE = 2**15
"""Bytes of the pages in which headers are read, and of the first request to a file."""

PAGES = 128
"""Pages that a file keeps."""

AHEAD = 32
"""Most pages that are read at once where a file is read from front to back."""

GAP = 4096
"""Bytes between two ranges up to which they are asked for together."""

AT_ONCE = 16
"""Requests of a process for ranges at the same time."""

MAGIC = {
    b"II*\0": "GTiff", b"MM\0*": "GTiff", b"II+\0": "GTiff", b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG", b"\xff\x4f\xff\x51": "JP2OpenJPEG",
}  # fmt: skip
"""How files of the formats begin that are read, and the driver that reads them."""

_STREAM, _END = b"\xff\x4f", b"\xff\xd9"

Read = Callable[[int, int], Part]
"""Gives a part of the file from its start and size; raises ``Failure``."""

_numbers = itertools.count()


class RemoteFile:
    """A file elsewhere. ``failure`` is the first that has happened: nothing that was read after it counts.

    GDAL must not see exceptions, and takes some short reads for an end of the file; so it gets nothing, or zeros,
    and whoever reads through it has to ask for ``failure`` afterwards.
    """

    def __init__(self, read: Read) -> None:
        """Ask for the first page.

        Raises
        ------
        Failure
            It cannot be read.
        """
        self._read = read
        self.failure: Failure | None = None
        first = read(0, PAGE)
        self.size, self.version = first.total, first.version
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._next, self._ahead = 1, 1
        self._keep(0, first.content)

    @property
    def driver(self) -> str:
        """Return the name of the GDAL driver for what the file begins with, empty if it is neither GeoTIFF nor JPEG 2000."""
        start = self._pages.get(0, b"")
        return next((driver for magic, driver in MAGIC.items() if start.startswith(magic)), "")

    @property
    def is_whole(self) -> bool:
        """Return whether a JPEG 2000 file is as long as it says, or ends as it has to: its decoder makes up what is missing."""
        if self.driver != "JP2OpenJPEG":
            return True
        start = 0
        while self.bytes_at(0, 2) != _STREAM and start < self.size:
            head = self.bytes_at(start, 16)
            short, name, long = int.from_bytes(head[:4]), head[4:8], int.from_bytes(head[8:16])
            length = long if short == 1 else short or self.size - start
            if length < 8 or start + length > self.size:
                return False
            if name == b"jp2c" and short:
                return True
            start += length
        return self.bytes_at(self.size - 2, 2) == _END

    def bytes_at(self, start: int, size: int) -> bytes:
        """Return bytes through the pages; nothing after a failure."""
        stop = min(start + size, self.size)
        if start >= stop or self.failure is not None:
            return b""
        numbers = range(start // PAGE, (stop - 1) // PAGE + 1)
        try:
            pages = [self._page(number, numbers.stop) for number in numbers]
        except Failure as failure:
            self.failure = failure
            return b""
        return b"".join(pages)[start - numbers.start * PAGE : stop - numbers.start * PAGE]

    def ranges(self, starts: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Return several ranges, near ones asked for together, others at the same time; zeros after a failure."""
        runs = _runs(starts, sizes)
        try:
            found = list(_crew(os.getpid()).map(self._checked, *zip(*runs, strict=True))) if len(runs) > 1 else [self._checked(*runs[0])]
        except Failure as failure:
            self.failure = self.failure or failure
        if self.failure is not None:
            return [bytes(size) for size in sizes]
        contents = dict(zip(runs, found, strict=True))
        out = []
        for start, size in zip(starts, sizes, strict=True):
            run = next(run for run in runs if run[0] <= start and start + size <= run[0] + run[1])
            out.append(contents[run][start - run[0] : start - run[0] + size])
        return out

    def _page(self, number: int, stop: int) -> bytes:
        """Return a page; where it is not there yet, with those behind it that are needed, or that will be."""
        if number in self._pages:
            self._pages.move_to_end(number)
            return self._pages[number]
        self._ahead = min(2 * self._ahead, AHEAD) if number == self._next else 1
        count = max(self._ahead, next((n - number for n in range(number, stop) if n in self._pages), stop - number))
        content = self._checked(number * PAGE, min(count * PAGE, self.size - number * PAGE))
        self._keep(number, content)
        self._next = number + count
        return content[:PAGE]

    def _checked(self, start: int, size: int) -> bytes:
        """Return a range that lies inside the file as it was when it was opened."""
        if self.failure is not None:
            raise self.failure
        if start + size > self.size:
            raise Failure("passing", f"the file has {self.size} bytes, but its header points at {start + size}: it is cut short")
        part = self._read(start, size)
        if (part.total, part.version) != (self.size, self.version):
            raise Failure("passing", "the file has been replaced while it was read")
        return part.content[start - part.start : start - part.start + size]

    def _keep(self, number: int, content: bytes) -> None:
        for offset in range(0, len(content), PAGE):
            self._pages[number + offset // PAGE] = content[offset : offset + PAGE]
        while len(self._pages) > PAGES:
            self._pages.popitem(last=False)


class OpenFile:
    """A remote file and the rasterio dataset through which it is read; nothing beside the file is looked for.

    rasterio keeps its books of such files in context variables, and tasks of Dask have a context each: opening and
    closing happen in a context that stays with the file.
    """

    def __init__(self, file: RemoteFile) -> None:
        """Open the file with the driver for what it begins with.

        Raises
        ------
        RasterioError, Failure
            GDAL does not understand it, or it cannot be read.
        """
        self.file, self._context = file, contextvars.Context()
        name = f"remote/{next(_numbers)}/file"
        try:
            self.dataset = self._context.run(rasterio.open, name, driver=file.driver, sharing=False, opener=_Container(file))
        except Exception:
            self.check()
            raise

    def check(self) -> None:
        """Raise what has failed while the file was read; what GDAL made of it does not count."""
        if self.file.failure is not None:
            raise self.file.failure from None

    def close(self) -> None:
        """Close the file."""
        self._context.run(self.dataset.close)


def _runs(starts: Sequence[int], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return start and size of what is asked for to get all ranges."""
    runs: list[tuple[int, int]] = []
    for start, size in sorted(zip(starts, sizes, strict=True)):
        if runs and start <= sum(runs[-1]) + GAP:
            first = runs.pop()
            runs.append((first[0], max(first[1], start + size - first[0])))
        else:
            runs.append((start, size))
    return runs


@lru_cache(maxsize=2)
def _crew(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ftrack-read")


class _Handle(io.RawIOBase):
    """One position in a file."""

    def __init__(self, file: RemoteFile) -> None:
        self._file, self._at = file, 0

    def read(self, size: int = -1) -> bytes:
        content = self._file.bytes_at(self._at, self._file.size - self._at if size < 0 else size)
        self._at += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._file.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def get_byte_ranges(self, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        """Return several ranges, each of exactly its size."""
        return self._file.ranges([int(o) for o in offsets], [int(s) for s in sizes])


class _Container(MultiByteRangeResourceContainer):  # type: ignore[misc]
    """A folder that holds one file, as rasterio wants it."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file

    def open(self, path: str, mode: str = "r", **_: Any) -> _Handle:
        if mode[:1] != "r" or not path.endswith("/file"):
            raise FileNotFoundError(path)
        return _Handle(self._file)

    def isfile(self, path: str) -> bool:
        return path.endswith("/file")

    def isdir(self, path: str) -> bool:
        return False

    def ls(self, path: str) -> list[str]:
        return []

    def mtime(self, path: str) -> int:
        return 0

    def rm(self, path: str) -> None:
        raise PermissionError(path)

    def size(self, path: str) -> int:
        return self._file.size

    def get_byte_ranges(self, path: str, offsets: Sequence[int], sizes: Sequence[int]) -> list[bytes]:
        return self._file.ranges([int(o) for o in offsets], [int(s) for s in sizes])
