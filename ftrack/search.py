"""Asking a STAC API: as much of the question as it understands, every page, and a count that must agree."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import pystac_client
import shapely
import shapely.geometry
from pystac_client import ConformanceClasses
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning

from ftrack.addresses import shown
from ftrack.catalogue import failure, matched_in, own_address, plain_item
from ftrack.errors import Retry, Stop
from ftrack.extent import Dates
from ftrack.settings import nearest

log = logging.getLogger(__name__)

_MOST_POINTS = 500
_ATTEMPTS = 3


class Question(NamedTuple):
    """What is asked of an API; the area is in longitude and latitude, the filter CQL2 in its JSON form."""

    collections: tuple[str, ...] = ()
    area: shapely.Geometry | None = None
    dates: Dates = Dates()
    max_cloud: float | None = None
    cql2: Mapping[str, Any] | None = None


class Answer(NamedTuple):
    """Items with absolute, unsigned hrefs, and whether the server has applied the CQL2 filter."""

    items: list[dict[str, Any]]
    cql2_applied: bool


class Api(NamedTuple):
    """An open API: its address, client and HTTP method, and the largest page and number of items that are asked for."""

    address: str
    client: pystac_client.Client
    method: str
    page_size: int
    limit: int


def is_api(document: Mapping[str, Any]) -> bool:
    """Return whether a document is the landing page of an API that can search."""
    return any(link.get("rel") == "search" for link in document.get("links") or [])


def refuse_collection_of_api(address: str, document: Mapping[str, Any]) -> None:
    """Raise Stop for one collection of an API: walking its pages would read the whole archive."""
    links = {link.get("rel"): link.get("href") for link in document.get("links") or []}
    if document.get("type") == "Collection" and "items" in links and not links.keys() & {"item", "child"}:
        name = document.get("id")
        root = shown(str(links.get("root") or links.get("parent") or address.rpartition("/collections/")[0]))
        raise Stop(f"{shown(address)} is a collection of an API; give catalog={root!r} and collections=[{name!r}]")


def open_api(address: str, io: StacApiIO, page_size: int, limit: int) -> Api:
    """Open an API.

    Raises
    ------
    Retry
        It cannot be reached now.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PystacClientWarning)
        try:
            client = pystac_client.Client.open(address, stac_io=io)
        except APIError as error:
            raise failure(error, address) from None
        if not client.conforms_to(ConformanceClasses.ITEM_SEARCH):
            client.add_conforms_to("ITEM_SEARCH")
    methods = {link.extra_fields.get("method") for link in client.links if link.rel == "search"}
    return Api(address, client, "GET" if methods == {"GET"} else "POST", page_size, limit)


def search_items(api: Api, question: Question) -> Answer:
    """Return every item that answers a question, each once.

    Filters that the server does not know are left to the caller, who has to apply them.

    Raises
    ------
    Retry
        The server cannot be reached, or keeps handing over fewer items than it says match.
    Stop
        It refuses the question, or more items match than the limit.
    """
    for _ in range(_ATTEMPTS):
        features, matched = _pages(api, question)
        if matched is None or len(features) >= matched:
            items = [plain_item(f, own_address(f, api.address), local=False) for f in features.values()]
            return Answer(items, question.cql2 is not None and _knows_cql2(api.client))
        log.info("%s handed over %d of %d items; asking again", shown(api.address), len(features), matched)
    raise Retry(
        f"the catalogue {shown(api.address)} says that {matched} items match, but hands over {len(features)}; "
        "try again later, or with a smaller page_size"
    )


def _pages(api: Api, question: Question) -> tuple[dict[tuple[Any, Any], dict[str, Any]], int | None]:
    """Return the items of all pages by collection and id, and how many the server says there are."""
    features: dict[tuple[Any, Any], dict[str, Any]] = {}
    matched = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PystacClientWarning)
        try:
            for page in _ask(api, question, api.page_size).pages_as_dicts():
                matched = matched if (said := matched_in(page)) is None else said
                features |= {(f.get("collection"), f.get("id")): f for f in page["features"]}
                if max(len(features), matched or 0) > api.limit:
                    raise Stop(
                        f"the search in {shown(api.address)} matches {matched or 'at least ' + str(len(features))} scenes, more than the "
                        f"limit of {api.limit}; narrow area, dates or cloud, or raise the limit"
                    )
        except APIError as error:
            raise failure(error, api.address) from None
    return features, matched


def _ask(api: Api, question: Question, page_size: int) -> pystac_client.ItemSearch:
    options: dict[str, Any] = {}
    conditions = [dict(question.cql2)] if question.cql2 is not None and _knows_cql2(api.client) else []
    if question.max_cloud is not None and _knows_cql2(api.client):
        conditions.append({"op": "<=", "args": [{"property": "eo:cloud_cover"}, question.max_cloud]})
    elif question.max_cloud is not None and api.client.conforms_to(ConformanceClasses.QUERY):
        options["query"] = {"eo:cloud_cover": {"lte": question.max_cloud}}
    if conditions:
        options["filter"] = conditions[0] if len(conditions) == 1 else {"op": "and", "args": conditions}
        options["filter_lang"] = "cql2-json"
    if question.area is not None:
        place = question.area if shapely.get_num_coordinates(question.area) <= _MOST_POINTS else question.area.envelope
        options["intersects"] = shapely.geometry.mapping(place)
    return api.client.search(
        method=api.method,
        collections=list(question.collections) or None,
        datetime=question.dates.text or None,
        limit=page_size,
        **options,
    )


def _knows_cql2(client: pystac_client.Client) -> bool:
    return client.conforms_to(ConformanceClasses.FILTER) and any("cql2" in uri for uri in client.get_conforms_to())


def why_empty(api: Api, question: Question) -> str:
    """Return, for a question without answer, how many items each part of it leaves, broadest first."""
    parts = [("in the collections", Question(question.collections))]
    if question.area is not None:
        parts.append(("in the area", parts[-1][1]._replace(area=question.area)))
    if question.dates != Dates():
        parts.append((f"in the dates {question.dates.text}", parts[-1][1]._replace(dates=question.dates)))
    if question.max_cloud is not None:
        parts.append((f"with at most {question.max_cloud:g} % cloud", parts[-1][1]._replace(max_cloud=question.max_cloud)))
    if question.cql2 is not None:
        parts.append(("that the CQL2 filter lets through", question))
    counts = []
    for name, part in parts:
        count = _count(api, part)
        counts.append(f"{count} {name}")
        if count == "0":
            break
    hint = _known_collections(api, question) if len(counts) == 1 else ""
    return ", ".join(counts) + hint


def _count(api: Api, question: Question) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PystacClientWarning)
        try:
            page = next(iter(_ask(api, question, 1).pages_as_dicts()), None)
        except APIError as error:
            raise failure(error, api.address) from None
    matched = None if page is None else matched_in(page)
    return "0" if page is None else "some" if matched is None else str(matched)


def _known_collections(api: Api, question: Question) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PystacClientWarning)
        try:
            known = [collection.id for collection in api.client.get_collections()]
        except APIError:
            return ""
    unknown = [name for name in question.collections if name not in known]
    return "".join(f"; there is no collection {name!r}, {nearest(name, known)}" for name in unknown) if known else ""
