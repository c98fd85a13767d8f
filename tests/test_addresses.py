"""No password, signature or token of an address reaches a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrack.addresses import shown, shown_text

WORD = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


def test_shown() -> None:
    assert shown("https://u:p@e.org:8/a?b#c") == "https://e.org:8/a" and shown("/a/b?c") == "/a/b?c"


def test_an_address_that_cannot_be_taken_apart_is_cut() -> None:
    assert shown("https://u:p@[e.org/a?sig=1") == "[e.org/a"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot read https://host/a.tif?sig=SECRET&se=1 at all", "cannot read https://host/a.tif at all"),
        ("'https://host/a.tif?SECRET' is gone", "'https://host/a.tif' is gone"),
        ("s3://bucket/a.tif?versionId=SECRET: 403", "s3://bucket/a.tif 403"),
        ("/vsicurl/https://host/a.tif?sig=1,b=SECRET failed", "/vsicurl/https://host/a.tif failed"),
        ("/vsis3/bucket/a.tif?SECRET failed", "/vsis3/bucket/a.tif failed"),
        ("https://user:SEC@RET@host/a.tif and http://user@host", "https://host/a.tif and http://host"),
        ("https://host/a#token=SECRET", "https://host/a"),
        ("a.tif?sig=SECRET: HTTP response code: 403", "a.tif HTTP response code: 403"),
        ("https://a/b?SECRET\nhttps://c/d?SECRET", "https://a/b\nhttps://c/d"),
    ],
)
def test_addresses_in_a_text_lose_what_is_secret(text: str, told: str) -> None:
    assert shown_text(text) == told


@pytest.mark.parametrize(
    "text", ["no asset 'rad'; did you mean 'red'? its assets: red", "me@host.org, x = 3 # why?", "/data/run #3/a.tif", ""]
)
def test_other_text_stays(text: str) -> None:
    assert shown_text(text) == text


@given(scheme=st.sampled_from(["https", "http", "s3", "gs"]), words=st.tuples(*[WORD] * 5))
def test_an_address_alone_is_shown_the_same_as_in_a_text(scheme: str, words: tuple[str, ...]) -> None:
    user, password, host, path, secret = words
    address = f"{scheme}://{user}:{password}@{host}.org/{path}?sig={secret}#{secret}"
    assert shown(address) == shown_text(address) == f"{scheme}://{host}.org/{path}"
