"""What may be told of an address: never a password, nor a query or fragment, which may hold signatures and tokens."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_USER = re.compile(r"(\w://)[^\s/?#'\"]*@")
_QUERY = re.compile(r"((?:://|/vsi)[^\s?#'\"]*)[?#][^\s'\"]*")
_LOOSE_QUERY = re.compile(r"\?[^\s'\"]*=[^\s'\"]*")


def shown(address: str) -> str:
    """Return an address fit for messages and records: without user, password, query and fragment; a path stays as it is."""
    if "://" not in address:
        return address
    try:
        parts = urlsplit(address)
    except ValueError:
        return address.partition("?")[0].rpartition("@")[2]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def shown_text(text: str) -> str:
    """Return a text whose addresses, also special paths of GDAL and what looks like a query alone, are fit to be shown."""
    return _LOOSE_QUERY.sub("", _QUERY.sub(r"\1", _USER.sub(r"\1", text)))
