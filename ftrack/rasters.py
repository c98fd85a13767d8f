"""Raster files of scenes: opened under strict rules, tried again where that can help, failures told apart."""

from __future__ import annotations

import logging
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import rasterio
import tenacity
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from ftrack.addresses import shown, shown_text
from ftrack.errors import FtrackError, Retry, Stop
from ftrack.remote import OpenFile, RemoteFile
from ftrack.signing import sign
from ftrack.sources import Access, refusal
from ftrack.transport import Failure, Request, read_part

log = logging.getLogger(__name__)

T = TypeVar("T")

DRIVERS = ("GTiff", "JP2OpenJPEG")
"""What files may be. Formats that point at other files (VRT, MRF) would let a catalogue read whatever a worker can reach."""

GDAL_SETTINGS: dict[str, str | int] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # GDAL remembers a failed open for the life of the process, so that trying again would never reach the server.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http:/vsis3/",
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_RETRY_CODES": "429,500,502,503,504",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_SKIP": "VRT MRF",
    "GDAL_CACHEMAX": 256 * 2**20,
}

LARGEST_BLOCK = 2**29
"""Bytes of the largest part of a file that has to be decoded as one."""

FIRST_WAIT = 0.5
"""Seconds before the second attempt; later waits double."""

OPEN_FILES = 32
"""Remote files that one thread keeps open, so that the next window needs no new header."""

_GONE = re.compile(r"No such file|does not exist|Is a directory")
_STRANGE = "not recognized as being in a supported file format"

_threads = threading.local()


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of one band: whose it is, where it is (unsigned), and what the catalogue says of it.

    ``crs`` counts where the file itself is silent; ``nodata`` comes before the file's own,
    ``usual_nodata`` after it; ``collection`` is that of the scene.
    """

    scene: str
    asset: str
    href: str
    crs: str = ""
    nodata: float | None = None
    usual_nodata: float | None = None
    collection: str = ""

    def __str__(self) -> str:
        return f"asset {self.asset!r} of scene {self.scene} ({shown(self.href)})"


class Header(NamedTuple):
    """What the header of a file says. ``transform`` are the six numbers of the affine transform of pixel corners."""

    crs: str
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]
    nodata: float | None
    dtype: str


def check_href(file: File, access: Access) -> None:
    """Refuse a file that may not be read, as far as its address tells.

    Raises
    ------
    Stop
        The href is neither an address that ``access`` allows nor a plain local path, carries a user, or is local where that is not allowed.
    """
    if why := refusal(file.href, access):
        raise Stop(f"{file} is refused: {why}")


def use_file(file: File, access: Access, function: Callable[[Any], T]) -> T:
    """Open a file, hand it to a function, and return what that returns; begin again where a failure may pass.

    Parameters
    ----------
    file : File
        The file, of which one band is needed.
    access : Access
        What may be read, and how often it is tried, with growing waits.
    function : callable
        Gets the open ``rasterio.DatasetReader``, which belongs to this thread and to this call.

    Raises
    ------
    Stop
        There is no such file, it is not a GeoTIFF or JPEG 2000 of one band, it is too large, or it may not be read.
    Retry
        The file could not be read, however often it was tried.
    """
    check_href(file, access)
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(access.attempts),
        wait=tenacity.wait_exponential(multiplier=FIRST_WAIT, max=10.0) + tenacity.wait_random(0, FIRST_WAIT),
        retry=tenacity.retry_if_exception(_may_pass),
        reraise=True,
    )
    try:
        result: T = attempts(_use_once, file, access, function)
    except Failure as error:
        failure = _remote_failure(file, error, access.attempts)
    except (RasterioError, CPLE_BaseError, OSError) as error:
        failure = _failure(file, _text(error), access.attempts)
    else:
        return result
    failure.scene = file.scene
    # Raised out here it has no context: errors of GDAL hold signed addresses, and cannot be unpickled.
    raise failure


@lru_cache(maxsize=4096)
def read_header(file: File, access: Access) -> Header:
    """Return what the header of a file says, reading each file once.

    Raises
    ------
    Stop, Retry
        As ``use_file``; Stop also if there is no CRS, neither in the file nor in the catalogue.
    """

    def header(dataset: Any) -> Header:
        crs = dataset.crs.to_wkt() if dataset.crs else file.crs
        if not crs:
            raise Stop(f"{file} has no CRS, neither in the file nor in the catalogue: it cannot be placed on the map")
        return Header(crs, tuple(dataset.transform)[:6], dataset.shape, dataset.nodata, dataset.dtypes[0])

    return use_file(file, access, header)


def _use_once(file: File, access: Access, function: Callable[[Any], T]) -> T:
    with rasterio.Env(**GDAL_SETTINGS):
        if "://" not in file.href:
            with rasterio.DatasetReader(file.href, driver=list(DRIVERS), sharing=False) as dataset:
                _check_size(dataset, file, access)
                return function(dataset)
        kept = _threads.__dict__.setdefault("kept", _Kept()).files
        key = (file.href, file.collection, access)
        opened = kept.pop(key) if key in kept else _open(file, access)
        try:
            result = function(opened.dataset)
            opened.check()
        except BaseException:
            opened.close()
            opened.check()
            raise
        kept[key] = opened
        while len(kept) > OPEN_FILES:
            kept.popitem(last=False)[1].close()
        return result


class _Kept:
    """The remote files that a thread keeps open, by address and access; closed with the thread, or at the end of the process."""

    def __init__(self) -> None:
        self.files: OrderedDict[tuple[str, str, Access], OpenFile] = OrderedDict()
        weakref.finalize(self, _close_all, self.files)


def _close_all(files: OrderedDict[tuple[str, str, Access], OpenFile]) -> None:
    while files:
        files.popitem()[1].close()


def _open(file: File, access: Access) -> OpenFile:
    """Open a remote file, which keeps what fails while GDAL reads."""

    def signed(before: Failure | None) -> Request:
        return sign(file.href, file.collection, access, before)

    remote = RemoteFile(lambda start, size: read_part(signed, access, start, size))
    if not remote.driver:
        raise Stop(f"{file} is neither a GeoTIFF nor a JPEG 2000 file")
    if not remote.is_whole:
        raise remote.failure or Failure("passing", "the file ends before it is complete")
    opened = OpenFile(remote)
    try:
        _check_size(opened.dataset, file, access)
    except Stop:
        opened.close()
        raise
    return opened


def _check_size(dataset: Any, file: File, access: Access) -> None:
    """Refuse a dataset of several bands, or of a size that cannot be meant."""
    (height, width), itemsize = dataset.shape, np.dtype(dataset.dtypes[0]).itemsize
    if dataset.count != 1:
        raise Stop(f"{file} has {dataset.count} bands: one is needed; choose an asset of one band")
    if height * width > access.largest:
        raise Stop(f"{file} is refused: it says that it has {width} x {height} pixels, more than source.largest, {access.largest:g}")
    block = itemsize * dataset.block_shapes[0][0] * dataset.block_shapes[0][1]
    if block > LARGEST_BLOCK:
        raise Stop(f"{file} is refused: it has to be decoded in parts of {block:,} bytes, more than {LARGEST_BLOCK:,}")


def _text(error: BaseException | None) -> str:
    """Return the messages of an error and its causes, without what is secret in addresses."""
    lines = []
    while error is not None:
        lines.append(shown_text(str(error)))
        error = error.__cause__
    return "; ".join(lines)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, Failure):
        return error.kind in ("passing", "denied")
    return isinstance(error, (RasterioError, CPLE_BaseError, OSError)) and not _GONE.search(_text(error))


def _remote_failure(file: File, failure: Failure, attempts: int) -> FtrackError:
    if failure.kind == "forbidden":
        return Stop(f"{file} is refused: {failure}")
    if failure.kind == "gone":
        return Stop(f"{file} is not there: {failure}")
    if failure.kind == "denied":
        return Retry(f"{file} may not be read: {failure}; check the credentials, or whether the access token has expired")
    return Retry(f"{file} could not be read in {attempts} attempts: {failure}")


def _failure(file: File, text: str, attempts: int) -> FtrackError:
    if _GONE.search(text):
        return Stop(f"{file} is not there: {text}")
    if _STRANGE in text:
        return Stop(f"{file} is neither a GeoTIFF nor a JPEG 2000 file: {text}")
    return Retry(f"{file} could not be read in {attempts} attempts: {text}")
