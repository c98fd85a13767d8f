"""Which addresses files may be read from, and how often it is tried: decided from the address alone, and again for the host behind it."""

from __future__ import annotations

import ipaddress
import re
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from ftrack.settings import Settings, option

TOKENS = {"*.blob.core.windows.net": "https://planetarycomputer.microsoft.com/api/sas/v1/token/{account}/{container}"}
"""Where tokens come from that open the files of a host."""

_SCHEME = re.compile(r"([A-Za-z][\w+.-]*):")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_PRIVATE_NAMES = ("localhost", "internal", "local")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


class Access(NamedTuple):
    """How files are read; see ``SourceSettings``. ``tokens`` are pairs of a pattern of hosts and an address."""

    attempts: int = 4
    local_files: bool = True
    private_hosts: bool = True
    schemes: tuple[str, ...] = ("https", "s3")
    hosts: tuple[str, ...] = ()
    tokens: tuple[tuple[str, str], ...] = tuple(TOKENS.items())
    largest: float = 1e10
    store: str = ""
    s3: str = "environment"


class SourceSettings(Settings):
    """What files of scenes may be read, and how."""

    schemes: tuple[Literal["https", "http", "s3"], ...] = option(
        ("https", "s3"), "how files elsewhere may be read; plain http always from private or listed hosts"
    )
    hosts: tuple[str, ...] = option(
        (), "hosts that are read from, such as *.amazonaws.com, and that others may redirect to; empty = all public ones, no redirects"
    )
    private_hosts: bool = option(True, "read from private networks too; where a public catalogue is used only from those in hosts")
    local_files: bool = option(True, "read local paths too; those in catalogues from elsewhere are always left out")
    attempts: int = option(4, "times that reading a window is tried before it counts as failed", ge=1, le=20)
    tokens: dict[str, str] = option(
        TOKENS, "where tokens come from that open files, by host; {account}, {container}, {collection} stand for those of the file"
    )
    largest: float = option(1e10, "files of more pixels are refused", unit="px", gt=0)
    store: str = option("", "address of the object store that s3 files lie in; empty = as the environment says, or that of Amazon")
    s3: Literal["environment", "anonymous", "requester_pays"] = option(
        "environment", "who asks for s3 files: whom the environment names (else anybody), anybody, or whom it names and who pays for it"
    )

    @property
    def access(self) -> Access:
        """Return how files are read."""
        hosts = tuple(host.lower() for host in self.hosts)
        tokens = tuple(sorted(self.tokens.items()))
        return Access(self.attempts, self.local_files, self.private_hosts, self.schemes, hosts, tokens, self.largest, self.store, self.s3)


def refusal(href: str, access: Access) -> str:
    """Return why a file may not be read, empty if it may."""
    scheme = _SCHEME.match(href)
    known = not scheme or scheme[1].lower() in ("https", "http", "s3")
    if not known or href.startswith(("/vsi", "\\")) or any(ord(sign) < 32 for sign in href):
        return "only https, http and s3 addresses and plain paths are read"
    if not scheme:
        return "" if access.local_files else "it is a local path, and local_files is off"
    try:
        parts = urlsplit(href)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return "its address cannot be read"
    if "@" in parts.netloc:
        return "its address carries a user or password; give credentials to the environment instead"
    if not host or "\\" in href or not href[len(scheme[0]) :].startswith("//"):
        return "its address cannot be read"
    if parts.scheme == "s3":
        return _bucket_refusal(parts.netloc, parts.path, access)
    return host_refusal(host, access) or _http_refusal(parts.scheme, host, access)


def _bucket_refusal(bucket: str, key: str, access: Access) -> str:
    if "s3" not in access.schemes:
        return "s3 is not one of source.schemes"
    if not _BUCKET.fullmatch(bucket) or {".", ".."} & set(key.split("/")):
        return "its address cannot be read"
    return ""


def _http_refusal(scheme: str, host: str, access: Access) -> str:
    if scheme in access.schemes or (scheme == "http" and (is_listed(host, access) or not is_public(host))):
        return ""
    return f"{scheme} is not one of source.schemes, nor {host} one of source.hosts"


def host_refusal(host: str, access: Access) -> str:
    """Return why a host, as an address spells it, may not be reached; empty if it may."""
    host = host.lower().rstrip(".")
    ip = ip_of(host)
    if (ip is not None and _is_never(ip)) or (ip is None and _is_odd(host)):
        return f"{host} is not a host that files are read from"
    if is_listed(host, access):
        return ""
    if access.hosts:
        return f"{host} is not one of source.hosts"
    if not is_public(host) and not access.private_hosts:
        return f"{host} lies in a private network; a catalogue elsewhere may name it only if source.hosts does"
    return ""


def peer_refusal(host: str, address: str, access: Access) -> str:
    """Return why a numeric address that a host has turned out to have may not be reached; empty if it may."""
    ip = ip_of(address)
    if ip is None or _is_never(ip):
        return f"{host} turns out to be {address}, which is not a host that files are read from"
    if ip.is_global or is_listed(host, access) or (access.private_hosts and not access.hosts and not is_public(host)):
        return ""
    return f"{host} turns out to be {address} in a private network; name it in source.hosts if it is meant"


def is_listed(host: str, access: Access) -> bool:
    """Return whether the user has named a host."""
    return any(fnmatchcase(host.lower().rstrip("."), pattern) for pattern in access.hosts)


def is_public(host: str) -> bool:
    """Return whether a host, by its name alone, is one of the public internet."""
    ip = ip_of(host)
    if ip is not None:
        return ip.is_global and not _is_never(ip)
    last = host.lower().rstrip(".").rpartition(".")[2]
    return "." in host.rstrip(".") and not last[:1].isdigit() and last not in _PRIVATE_NAMES


def ip_of(host: str) -> IP | None:
    """Return a numeric address, that inside where it is wrapped into one of version 6; None for names."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        return inside or ip
    return ip


def _is_never(ip: IP) -> bool:
    """Return whether an address is one where only the machine's own services answer: metadata of clouds, broadcasts."""
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in (ipaddress.ip_address("fd00:ec2::254"),)


def _is_odd(host: str) -> bool:
    """Return whether a name is a number in disguise (``2130706433``, ``0x7f.1``), or that of a metadata service."""
    return bool(re.fullmatch(r"(0x)?[0-9a-f]*", host.rpartition(".")[2]) and host.rpartition(".")[2][:1].isdigit()) or host in (
        "metadata",
        "metadata.google.internal",
    )
