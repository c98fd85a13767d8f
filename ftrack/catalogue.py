"""Reading STAC documents: a static catalogue or a file of items, as plain items with absolute, unsigned hrefs."""

from __future__ import annotations

import json
import logging
import posixpath
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import fsspec
import requests
import urllib3
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from ftrack.addresses import shown
from ftrack.errors import Retry, Stop
from ftrack.sources import Access as FileAccess
from ftrack.sources import host_refusal, is_public
from ftrack.store import told_apart

log = logging.getLogger(__name__)

REMOTE = ("https", "http", "s3", "gs", "az", "abfs")
"""Where imagery may be read from. Any other scheme in a remote catalogue could make the reader open files of this machine."""

_DEEPEST = 12
_PASSING = (408, 425, 429)
_AT_ONCE = 8


class Access(NamedTuple):
    """How patiently a catalogue is asked: attempts after the first one, and seconds to wait for an answer."""

    retries: int = 4
    timeout: float = 60.0


def is_remote(address: str) -> bool:
    """Return whether a document lies elsewhere, so that its links are not to be trusted with local paths."""
    return "://" in address and not address.startswith("file://")


def absolute_href(href: str, base: str, *, local: bool) -> str:
    """Return an href as an absolute address or local path, without query, user or fragment.

    Parameters
    ----------
    href : str
        As it stands in the document.
    base : str
        Address or path of the document that it is relative to.
    local : bool
        Whether the document was read from this machine, and may name files of it.

    Returns
    -------
    str
        Empty if the href may not be read: a local path in a remote catalogue, a special path of the reader
        (``/vsi...``, ``vrt://``), or a private network address in a public catalogue.
    """
    try:
        parts = urlsplit(href)
        if not href or href.startswith(("/vsi", "\\")) or "\x00" in href:
            return ""
        if parts.scheme == "file":
            return str(Path(unquote(parts.path))) if local else ""
        if parts.scheme and parts.scheme.lower() not in REMOTE:
            return ""
        address = shown(href) if parts.scheme else _beside(href, base)
        return address if local or _may_reach(address, base) else ""
    except ValueError:
        return ""


def _beside(href: str, base: str) -> str:
    if not is_remote(base):
        return str((Path(base.removeprefix("file://")).parent / href).resolve())
    parts = urlsplit(shown(base))
    if parts.scheme in ("http", "https"):
        return shown(urljoin(shown(base), href))
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(parts.path), href.partition("?")[0]))
    return urlunsplit((parts.scheme, parts.netloc, joined, "", ""))


def _may_reach(address: str, base: str) -> bool:
    """Return whether an address is a public one, or named by a catalogue that is not public itself."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        return True
    host, own = (parts.hostname or "").lower().rstrip("."), (urlsplit(base).hostname or "").lower()
    return host == own or (not host_refusal(host, FileAccess()) and (is_public(host) or not is_public(own)))


def plain_item(item: Mapping[str, Any], base: str, *, local: bool) -> dict[str, Any]:
    """Return an item whose hrefs are absolute and unsigned; assets that may not be read are left out and logged."""

    def absolute(holder: Mapping[str, Any]) -> str:
        return absolute_href(str(holder.get("href") or ""), base, local=local)

    assets = {}
    for name, asset in (item.get("assets") or {}).items():
        if not (href := absolute(asset)):
            log.info("item %s: asset %s is left out, its href may not be read", item.get("id"), name)
            continue
        assets[name] = {**asset, "href": href}
        if isinstance(asset.get("alternate"), Mapping):
            others = {key: {**other, "href": absolute(other)} for key, other in asset["alternate"].items()}
            assets[name]["alternate"] = {key: other for key, other in others.items() if other["href"]}
    links = [{**link, "href": href} for link in item.get("links") or [] if (href := absolute(link))]
    return {**item, "assets": assets, "links": links}


def own_address(item: Mapping[str, Any], otherwise: str) -> str:
    """Return where an item that came in a list says it lies itself; relative hrefs start there."""
    own = next((str(link.get("href")) for link in item.get("links") or [] if link.get("rel") == "self"), "")
    return own if is_remote(own) else otherwise


def api_io(access: Access) -> StacApiIO:
    """Return the HTTP session that catalogues are read with: it waits and tries again where that can help."""
    again = urllib3.Retry(
        total=access.retries,
        backoff_factor=0.5,
        backoff_jitter=0.5,
        status_forcelist=[429, 500, 502, 503, 504],
        allowed_methods=None,
        raise_on_status=False,
    )
    io = StacApiIO(max_retries=again, timeout=access.timeout)
    io.session.hooks["response"].append(_refuse_redirect)
    return io


def _refuse_redirect(response: requests.Response, **_: Any) -> None:
    """Refuse to be sent from a public catalogue into a private network."""
    target = urljoin(response.url, response.headers.get("Location", "")) if response.is_redirect else response.url
    if not _may_reach(target, response.url):
        raise Stop(f"the catalogue {shown(response.url)} redirects to {shown(target)}, which is not followed")


def failure(error: Exception, address: str) -> Retry | Stop:
    """Return what a failed request means: try again later, or change the request."""
    status = getattr(error, "status_code", None)
    place = f"the catalogue {shown(address)}"
    if isinstance(error.__context__, Stop):
        return error.__context__
    if status is None and isinstance(error.__context__, ValueError):
        return Stop(f"{shown(address)} is not an address of a catalogue")
    if status is None:
        reason = type(error.__context__ or error).__name__
        return Retry(f"{place} cannot be reached ({reason}); check the address and the network, then try again")
    if status >= 500 or status in _PASSING:
        return Retry(f"{place} answered with status {status}; try again later")
    if status in (401, 403):
        return Stop(f"{place} refuses access (status {status}); it needs credentials, or the address is wrong")
    if status == 404:
        return Stop(f"{place} does not exist (status 404); check the address")
    return Stop(f"{place} refuses the request (status {status}): {' '.join(str(error).split())[:300]}")


def read_document(address: str, io: StacApiIO) -> dict[str, Any]:
    """Return a JSON document from a URL, an object store or a local path (a folder means its catalogue).

    Raises
    ------
    Retry
        The place cannot be reached now.
    Stop
        There is no such document, or it is not JSON.
    """
    try:
        if address.startswith(("http://", "https://")) and urlsplit(address).hostname:
            text = io.read_text(address)
        else:
            with told_apart(f"the catalogue {shown(address)}"):
                text = _read_elsewhere(address)
    except APIError as error:
        raise failure(error, address) from None
    except Stop:
        raise
    except ValueError as error:
        raise Stop(f"{shown(address)} is not an address of a catalogue ({error})") from None
    try:
        document = json.loads(text)
    except ValueError:
        raise Stop(f"{shown(address)} is not a STAC document: it is not JSON") from None
    if not isinstance(document, dict):
        raise Stop(f"{shown(address)} is not a STAC document: a JSON object is expected")
    return document


def _read_elsewhere(address: str) -> str:
    if is_remote(address):
        with fsspec.open(address, "rb") as stream:
            return bytes(stream.read()).decode()
    return Path(address.removeprefix("file://")).read_text(encoding="utf-8")


def catalogue_file(address: str) -> str:
    """Return the address itself, or the catalogue or collection in a local folder."""
    path = Path(address.removeprefix("file://"))
    if is_remote(address) or not path.is_dir():
        return address
    found = [path / name for name in ("catalog.json", "collection.json") if (path / name).is_file()]
    if not found:
        raise Stop(f"the folder {address} holds neither catalog.json nor collection.json; name the file to read")
    return str(found[0])


def walk_items(address: str, document: Mapping[str, Any], io: StacApiIO) -> Iterator[dict[str, Any]]:
    """Yield every item of a static catalogue, a collection, a list of items or a single item, each document once.

    Parameters
    ----------
    address, document : str, mapping
        Where the first document was read, and what it says.
    io : StacApiIO
        The session to read further documents with.
    """
    local = not is_remote(address)
    level, seen = [(address, document)], {shown(address)}
    for _ in range(_DEEPEST):
        links: list[str] = []
        for place, found in level:
            yield from _items_in(place, found, local)
            links += [link for link in _links_in(place, found, local) if link not in seen]
            seen.update(links)
        if not links:
            return
        places = list(dict.fromkeys(links))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            level = list(zip(places, pool.map(lambda place: read_document(place, io), places), strict=True))
    raise Stop(f"the catalogue {shown(address)} is nested deeper than {_DEEPEST} levels; name one of its collections")


def _items_in(place: str, document: Mapping[str, Any], local: bool) -> Iterator[dict[str, Any]]:
    if document.get("type") == "Feature":
        yield plain_item(document, place, local=local)
    elif document.get("type") == "FeatureCollection":
        features = document.get("features") or []
        matched = matched_in(document)
        if matched is not None and matched > len(features) and not _links_in(place, document, local):
            log.warning("%s holds %d of %d items", shown(place), len(features), matched)
        for item in features:
            yield plain_item(item, own_address(item, place), local=local)
    elif not document.get("links"):
        raise Stop(f"{shown(place)} is not a STAC document: neither a catalogue, a collection, an item nor a list of items")


def _links_in(place: str, document: Mapping[str, Any], local: bool) -> list[str]:
    if document.get("type") == "Feature":
        return []
    wanted = ("next",) if document.get("type") == "FeatureCollection" else ("child", "item", "items")
    found = [link for link in document.get("links") or [] if link.get("rel") in wanted and link.get("method", "GET") == "GET"]
    addresses = (absolute_href(str(link.get("href") or ""), place, local=local) for link in found)
    return [address for address in addresses if address]


def matched_in(page: Mapping[str, Any]) -> int | None:
    """Return how many items a list says that its search matched, if it says so."""
    context = page.get("context") or page.get("search:metadata") or {}
    found = page.get("numberMatched", context.get("matched"))
    return None if found is None else int(found)
