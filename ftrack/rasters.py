"""Raster files of scenes: opened under strict rules, tried again where that can help, failures told apart."""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import rasterio
import tenacity
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from ftrack.addresses import shown, shown_text
from ftrack.errors import FtrackError, Retry, Stop

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

FIRST_WAIT = 0.5
"""Seconds before the second attempt; later waits double."""

OPEN_FILES = 32
"""Remote files that one thread keeps open, so that the next window needs no new header."""

_GONE = re.compile(r"HTTP response code: (400|404|410)\b|No such file|does not exist|Is a directory")
_STRANGE = "not recognized as being in a supported file format"
_REFUSED = re.compile(r"HTTP response code: (401|403)\b|Access ?Denied|InvalidCredentials|SignatureDoesNotMatch|ExpiredToken")
_SCHEME = re.compile(r"([A-Za-z][\w+.-]+):")

_threads = threading.local()


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of one band: whose it is, where it is (unsigned), and what the catalogue says of it.

    ``crs`` counts where the file itself is silent; ``nodata`` comes before the file's own,
    ``usual_nodata`` after it.
    """

    scene: str
    asset: str
    href: str
    crs: str = ""
    nodata: float | None = None
    usual_nodata: float | None = None

    def __str__(self) -> str:
        return f"asset {self.asset!r} of scene {self.scene} ({shown(self.href)})"


class Access(NamedTuple):
    """How files are read: attempts at each window before it counts as failed, and whether local paths are allowed."""

    attempts: int = 4
    local_files: bool = True


class Header(NamedTuple):
    """What the header of a file says. ``transform`` are the six numbers of the affine transform of pixel corners."""

    crs: str
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]
    nodata: float | None
    dtype: str


def check_href(file: File, local_files: bool) -> None:
    """Refuse a file that may not be read.

    Raises
    ------
    Stop
        The href is neither ``https``, ``http``, ``s3`` nor a plain local path, carries a user, or is local where that is not allowed.
    """
    scheme = _SCHEME.match(file.href)
    if file.href.startswith(("/vsi", "\\")) or (scheme and scheme[1].lower() not in ("https", "http", "s3")):
        raise Stop(f"{file} is refused: only https, http and s3 addresses and plain paths are read")
    if scheme and "@" in urlsplit(file.href).netloc:
        raise Stop(f"{file} is refused: its address carries a user or password; give credentials to the environment instead")
    if not scheme and not local_files:
        raise Stop(f"{file} is refused: it is a local path, and local_files is off")


def use_file(file: File, access: Access, function: Callable[[Any], T]) -> T:
    """Open a file, hand it to a function, and return what that returns; begin again where a failure may pass.

    Parameters
    ----------
    file : File
        The file, of which one band is needed.
    access : Access
        How often it is tried, with growing waits.
    function : callable
        Gets the open ``rasterio.DatasetReader``, which belongs to this thread and to this call.

    Raises
    ------
    Stop
        There is no such file, or it is not a GeoTIFF or JPEG 2000 of one band.
    Retry
        The file could not be read, however often it was tried.
    """
    check_href(file, access.local_files)
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(access.attempts),
        wait=tenacity.wait_exponential(multiplier=FIRST_WAIT, max=10.0) + tenacity.wait_random(0, FIRST_WAIT),
        retry=tenacity.retry_if_exception(_may_pass),
        reraise=True,
    )
    try:
        result: T = attempts(_use_once, file, function)
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


def _use_once(file: File, function: Callable[[Any], T]) -> T:
    with rasterio.Env(**GDAL_SETTINGS):
        if "://" not in file.href:
            with _open(file) as dataset:
                return function(dataset)
        kept: OrderedDict[str, Any] = _threads.__dict__.setdefault("kept", OrderedDict())
        dataset = kept.pop(file.href, None) or _open(file)
        try:
            result = function(dataset)
        except BaseException:
            dataset.close()
            raise
        kept[file.href] = dataset
        while len(kept) > OPEN_FILES:
            kept.popitem(last=False)[1].close()
        return result


def _open(file: File) -> Any:
    dataset = rasterio.DatasetReader(file.href, driver=list(DRIVERS), sharing=False)
    if dataset.count != 1:
        bands = dataset.count
        dataset.close()
        raise Stop(f"{file} has {bands} bands: one is needed; choose an asset of one band")
    return dataset


def _text(error: BaseException | None) -> str:
    """Return the messages of an error and its causes, without what is secret in addresses."""
    lines = []
    while error is not None:
        lines.append(shown_text(str(error)))
        error = error.__cause__
    return "; ".join(lines)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, (RasterioError, CPLE_BaseError, OSError)) and not _GONE.search(_text(error))


def _failure(file: File, text: str, attempts: int) -> FtrackError:
    if _GONE.search(text):
        return Stop(f"{file} is not there: {text}")
    if _STRANGE in text:
        return Stop(f"{file} is neither a GeoTIFF nor a JPEG 2000 file: {text}")
    if _REFUSED.search(text):
        return Retry(f"{file} may not be read: {text}; check the credentials, or whether the access token has expired")
    return Retry(f"{file} could not be read in {attempts} attempts: {text}")
