"""Answers of servers: what is whole, what may pass, and how long is waited."""

from __future__ import annotations

import email.utils
import time

import pytest

from ftrack.sources import Access
from ftrack.transport import LONGEST_WAIT, Answer, Failure, Part, _failure_of, _part_of, _proxy_for, _retry_after, keep_trying


def answer(content: bytes, said: str, status: int = 206, **headers: str) -> Answer:
    return Answer(status, {**({"Content-Range": said} if said else {}), **headers}, content)


def test_a_whole_part() -> None:
    assert _part_of(answer(b"12345", "bytes 10-14/100", ETag='"v"'), 10, 5) == Part(b"12345", 10, 100, '"v"')
    assert _part_of(answer(b"12", "bytes 98-99/100", ETag='W/"v"'), 98, 5) == Part(b"12", 98, 100, "")
    assert _part_of(Answer(200, {"Content-Length": "3"}, b"123"), 0, 9) == Part(b"123", 0, 3, "")


@pytest.mark.parametrize(
    "cut",
    [
        answer(b"123", "bytes 10-14/100"),
        answer(b"123", "bytes 10-12/100"),
        answer(b"12345", "bytes 0-4/100"),
        answer(b"1234567", "bytes 10-16/100"),
        answer(b"12345", "bytes 10-14/*"),
        answer(b"12345", ""),
        Answer(200, {}, b"12345"),
        Answer(200, {"Content-Length": "9"}, b"12345"),
    ],
)
def test_a_part_that_is_not_what_was_asked_for_is_a_passing_failure(cut: Answer) -> None:
    with pytest.raises(Failure) as caught:
        _part_of(cut, 10, 5)
    assert caught.value.kind == "passing"


@pytest.mark.parametrize(
    ("status", "content", "kind"),
    [
        (404, b"", "gone"),
        (410, b"", "gone"),
        (400, b"<Code>ExpiredToken</Code>", "denied"),
        (400, b"", "gone"),
        (403, b"<Code>AccessDenied</Code>", "denied"),
        (401, b"", "denied"),
        (503, b"<Code>SlowDown</Code>", "passing"),
        (429, b"", "passing"),
        (500, b"", "passing"),
        (416, b"", "gone"),
    ],
)
def test_what_a_status_means(status: int, content: bytes, kind: str) -> None:
    failure = _failure_of(Answer(status, {}, content))
    assert failure.kind == kind and f"HTTP status {status}" in str(failure)


def test_a_bucket_elsewhere_tells_its_region() -> None:
    failure = _failure_of(Answer(301, {"x-amz-bucket-region": "eu-west-1"}, b""))
    assert (failure.kind, failure.region) == ("denied", "eu-west-1")


def test_how_long_a_server_wants_to_be_left_alone() -> None:
    assert _retry_after("7") == 7.0 and _retry_after("99999") == LONGEST_WAIT and _retry_after("") == _retry_after("soon") == 0.0
    assert 3.0 < _retry_after(email.utils.formatdate(time.time() + 6, usegmt=True)) <= 6.0
    assert _retry_after(email.utils.formatdate(time.time() - 600, usegmt=True)) == 0.0


def test_what_cannot_pass_is_not_tried_again() -> None:
    for kind, times in (("gone", 1), ("forbidden", 1), ("passing", 3), ("denied", 3)):
        seen: list[Failure | None] = []

        def fail(before: Failure | None, kind: str = kind, seen: list[Failure | None] = seen) -> None:
            seen.append(before)
            raise Failure(kind, "no https://host/a.tif?sig=SECRET")  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ftrack.transport.FIRST_WAIT", 0.0)
            with pytest.raises(Failure) as caught:
                keep_trying(fail)
        assert len(seen) == times and seen[0] is None and all(one is not None and one.kind == kind for one in seen[1:])
        assert "SECRET" not in str(caught.value)


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert _proxy_for("https", "e.org") == ""
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1,inner.org")
    assert _proxy_for("https", "e.org") == "http://proxy:3128" and _proxy_for("http", "e.org") == ""
    assert _proxy_for("https", "127.0.0.1:9000") == _proxy_for("https", "a.inner.org") == ""


def test_access_can_be_kept_as_a_key() -> None:
    assert hash(Access()) == hash(Access()) and Access() == Access()
