"""Signing at the moment of reading: addresses stay unsigned everywhere else, so that nothing that is kept holds a secret."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.session

from ftrack.sources import Access, is_public
from ftrack.transport import Failure, Request, ask, keep_trying

EARLY = 0.2
"""Part of its life after which a token is not used any more, counted from its end."""

EARLIEST = 60.0
"""Seconds that this is at most."""

LIFE = 600.0
"""Seconds that a token is used whose answer does not say how long it is good for."""

TOKEN_TRIES = 6

_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_PLANETARY = "planetarycomputer.microsoft.com"


class Token(NamedTuple):
    """What is appended to an address, and until when, on this machine's steady clock."""

    query: str
    until: float


_tokens: dict[str, Token] = {}
_regions: dict[str, str] = {}
_locks: dict[str, threading.Lock] = {}
_aws: dict[str, Any] = {}
_all = threading.RLock()


def sign(href: str, collection: str, access: Access, before: Failure | None = None) -> Request:
    """Return the request that opens a file now.

    Parameters
    ----------
    href : str
        An ``https``, ``http`` or ``s3`` address as the catalogue knows it.
    collection : str
        The collection of its scene; some token services need it.
    access : Access
        Says which hosts need tokens, and from where.
    before : Failure, optional
        How the last request failed: credentials that were refused are replaced.

    Raises
    ------
    Failure
        There is no token to be had, or no credentials.
    """
    renew = before is not None and before.kind == "denied"
    if urlsplit(href).scheme == "s3":
        if before is not None and before.region:
            _regions[urlsplit(href).netloc] = before.region
        return _signed_s3(href, access, renew)
    service = token_service(href, collection, access)
    if not service:
        return Request(href)
    query = _token(service, renew).query
    return Request(f"{href}{'&' if '?' in href else '?'}{query}" if query else href)


def token_service(href: str, collection: str, access: Access) -> str:
    """Return the address that gives tokens for a file; empty if it needs none, or brings its own."""
    parts = urlsplit(href)
    host = (parts.hostname or "").lower()
    service = next((address for pattern, address in access.tokens if fnmatchcase(host, pattern)), "")
    if not service or "sig=" in parts.query:
        return ""
    values = {"account": host.partition(".")[0], "container": parts.path.lstrip("/").partition("/")[0], "collection": collection}
    for name, value in values.items():
        service = service.replace(f"{{{name}}}", quote(value, safe=""))
    return service


def forget_tokens() -> None:
    """Forget all tokens and credentials of this process."""
    with _all:
        _tokens.clear()
        _regions.clear()
        _aws.clear()


def _token(service: str, renew: bool) -> Token:
    """Return a token that is good for a while; asked for by one thread at a time, for all of them."""
    with _all:
        lock = _locks.setdefault(service, threading.Lock())
    refused = _tokens.get(service) if renew else None
    with lock:
        token = _tokens.get(service)
        if token is None or token is refused or time.monotonic() >= token.until:
            token = _tokens[service] = keep_trying(lambda _: _new_token(service), TOKEN_TRIES)
    return token


def _new_token(service: str) -> Token:
    headers = {"Accept": "application/json"}
    if urlsplit(service).hostname == _PLANETARY and (key := os.environ.get("PC_SDK_SUBSCRIPTION_KEY")):
        headers["Ocp-Apim-Subscription-Key"] = key
    began = time.monotonic()
    try:
        answer = ask(Request(service, headers, trusted=True), Access(), 2**16)
    except Failure as failure:
        if failure.kind == "gone" and "404" in str(failure):
            return Token("", began + LIFE)
        raise Failure("passing" if failure.kind == "denied" else failure.kind, f"no access token: {failure}", failure.wait) from None
    try:
        said = json.loads(answer.content)
        query = str(said["token"]).lstrip("?")
        life = _life(said.get("msft:expiry"), answer.headers.get("Date"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failure("passing", "no access token: the answer of the token service is not understood") from None
    return Token(query, began + life - min(EARLIEST, EARLY * life))


def _life(expiry: str | None, date: str | None) -> float:
    """Return for how many seconds a token is good, by the clock of the server that says so."""
    if not expiry:
        return LIFE
    end = datetime.fromisoformat(expiry)
    now = parsedate_to_datetime(date) if date else datetime.now(UTC)
    own = datetime.now(UTC)
    # The header counts whole seconds: it is used only where the clocks are further apart than that.
    now = own if abs((own - now).total_seconds()) < 2 else now
    return max(0.0, (end.replace(tzinfo=end.tzinfo or UTC) - now).total_seconds())


def _signed_s3(href: str, access: Access, renew: bool) -> Request:
    """Return a request to an object store, with the credentials and region of the environment."""
    parts = urlsplit(href)
    bucket, key = parts.netloc, parts.path.lstrip("/")
    region = _regions.get(bucket) or _region()
    address = f"{_endpoint(bucket, region, access.store)}/{quote(key, safe='/~')}"
    headers = {"x-amz-content-sha256": _EMPTY}
    if access.s3 == "requester_pays" or os.environ.get("AWS_REQUEST_PAYER", "").lower() == "requester":
        headers["x-amz-request-payer"] = "requester"
    anonymous = access.s3 == "anonymous" or _yes("AWS_NO_SIGN_REQUEST")
    credentials = None if anonymous else _credentials(renew)
    if credentials is None:
        return Request(address, headers, trusted=True)
    made = botocore.awsrequest.AWSRequest("GET", address, headers=headers)
    botocore.auth.S3SigV4Auth(credentials, "s3", region).add_auth(made)
    return Request(address, dict(made.headers.items()), trusted=True)


def _endpoint(bucket: str, region: str, store: str) -> str:
    given = store or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if not given and (host := os.environ.get("AWS_S3_ENDPOINT")):
        given = host if "://" in host else f"{'https' if _yes('AWS_HTTPS', 'YES') else 'http'}://{host}"
    if not given:
        given = f"https://s3.{region}.amazonaws.com"
    elif not _yes("AWS_VIRTUAL_HOSTING"):
        return f"{given.rstrip('/')}/{bucket}"
    scheme, _, host = given.rstrip("/").partition("://")
    # A certificate for *.s3.amazonaws.com does not hold for names with further dots.
    return f"{given.rstrip('/')}/{bucket}" if "." in bucket or not is_public(host.partition(":")[0]) else f"{scheme}://{bucket}.{host}"


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or _boto().get_config_variable("region") or "us-east-1"


def _credentials(renew: bool) -> Any:
    """Return key, secret and token of the environment, profile or role, None if there are none."""
    with _all:
        if renew:
            _aws.clear()
        if "credentials" not in _aws:
            _aws["credentials"] = _boto().get_credentials()
        found = _aws["credentials"]
    return None if found is None else found.get_frozen_credentials()


def _boto() -> Any:
    with _all:
        if "session" not in _aws:
            _aws["session"] = botocore.session.Session()
        return _aws["session"]


def _yes(name: str, default: str = "NO") -> bool:
    return os.environ.get(name, default).strip().upper() in ("YES", "TRUE", "ON", "1")
