"""Batches and groups hold every pair once, and read few images, seldom twice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrack.batches import IMAGES, group_pairs, images_in, order_pairs
from ftrack.labels import unique_mid_date
from ftrack.pairs import Pair
from ftrack.tiling import BATCH

START = datetime(2020, 1, 1, 14, tzinfo=UTC)


def make_pair(name: str, first: float, second: float) -> Pair:
    one, other = (START + timedelta(days=days) for days in (first, second))
    return Pair(reference=f"{name}{first:g}", secondary=f"{name}{second:g}", reference_time=one, secondary_time=other)


def orbit(name: str, offset: float, longest: float, days: int = 365, repeat: int = 5) -> list[Pair]:
    """All pairs of an orbit that is flown every few days."""
    times = [offset + day for day in range(0, days, repeat)]
    return [make_pair(name, a, b) for a in times for b in times if 0 < b - a <= longest]


def reads(pairs: Sequence[Pair]) -> list[tuple[int, int]]:
    """Return for every batch of pairs how many images are read, and how many there are."""
    batches = [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]
    return [(sum(len(images_in([b[k] for k in group])) for group in group_pairs(b, IMAGES)), len(images_in(b))) for b in batches]


@pytest.mark.parametrize(("longest", "most"), [(5, 1.1), (60, 3.2), (365, 13.5)])
def test_interleaved_orbits_are_read_once_in_a_wave(longest: float, most: float) -> None:
    pairs = orbit("a", 0, longest) + orbit("b", 2, longest)
    random.Random(1).shuffle(pairs)
    ordered = order_pairs(pairs)
    assert sorted(pair.id for pair in ordered) == sorted(pair.id for pair in pairs)
    found = reads(ordered)
    assert max(read / unique for read, unique in found) <= 1.15
    assert sum(read for read, _ in found) / len(images_in(pairs)) <= most


def test_the_order_does_not_depend_on_the_order_of_what_is_found() -> None:
    pairs = orbit("a", 0, 30) + orbit("b", 2, 30)
    assert order_pairs(pairs) == order_pairs(pairs[::-1])
    for start in range(0, len(pairs), BATCH):
        assert np.all(np.diff(unique_mid_date(order_pairs(pairs))[start : start + BATCH]) > np.timedelta64(0))


def test_pairs_that_are_published_stay_in_their_places() -> None:
    early, late = orbit("a", 0, 30, days=60), orbit("a", 60, 30, days=60)
    first = order_pairs(early)
    assert order_pairs([*first, *late], (len(early),))[: len(early)] == first


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12)), max_size=60, unique=True), st.integers(2, 8))
def test_groups_hold_every_pair_once_and_few_images(spans: list[tuple[int, int]], most: int) -> None:
    pairs = [make_pair("", a, a + b) for a, b in spans]
    groups = group_pairs(pairs, most)
    assert sorted(number for group in groups for number in group) == list(range(len(pairs)))
    assert all(1 <= len(images_in([pairs[number] for number in group])) <= most for group in groups)


def test_a_batch_whose_images_fit_is_one_group() -> None:
    pairs = orbit("a", 0, 60)[:BATCH]
    assert len(images_in(pairs)) <= IMAGES
    assert [sorted(group) for group in group_pairs(pairs, IMAGES)] == [list(range(BATCH))]
