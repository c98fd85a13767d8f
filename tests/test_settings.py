"""Settings are declared once, refuse what they do not know, and say in the user's words what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError, field_validator, model_validator

from ftrack.errors import Stop
from ftrack.settings import Settings, nearest, option, unit_of


class Gauss(Settings):
    kind: Literal["gauss"] = option("gauss", "smooth with a bell")
    sigma: float = option(3.0, "width of the bell", unit="px", gt=0.0, le=100.0)


class Box(Settings):
    kind: Literal["box"] = option("box", "smooth with a box")
    width: int = option(5, "side of the box", unit="px", ge=1)

    @field_validator("width")
    @classmethod
    def _odd(cls, width: int) -> int:
        if width % 2 == 0:
            raise ValueError("the width must be odd")
        return width


class Days(Settings):
    least: float = option(1.0, "shortest time", unit="days", ge=0.0)
    most: float = option(60.0, "longest time", unit="days", ge=0.0)

    @model_validator(mode="after")
    def _in_order(self) -> Days:
        if self.least > self.most:
            raise ValueError(f"least ({self.least:g}) is longer than most ({self.most:g})")
        return self


class Whole(Settings):
    name: str = option(..., "what it is called")
    files: tuple[str, ...] = option((), "where things are")
    smooth: Annotated[Gauss | Box, Field(discriminator="kind")] = option(Gauss(), "smoothing")
    days: Days = option(Days(), "times")
    maybe: Gauss | None = option(None, "a second smoothing")


def fault_of(**values: object) -> str:
    with pytest.raises(Stop) as caught:
        Whole(**values)
    return str(caught.value)


def test_a_setting_is_frozen_and_keyword_only() -> None:
    with pytest.raises(TypeError):
        Gauss(3.0)  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        Gauss().sigma = 2.0  # type: ignore[misc]


def test_a_path_is_as_good_as_its_text() -> None:
    given = Whole(name=Path("a/b"), files=[Path("c"), "d"])
    assert given.name == str(Path("a/b")) and given.files == ("c", "d")


def test_equal_settings_are_equal_and_hashable() -> None:
    assert Whole(name="a") == Whole(name="a") != Whole(name="b")
    assert len({Gauss(), Gauss(sigma=3.0), Gauss(sigma=2.0)}) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nme": "a", "name": "a"}, "nme: unknown setting; did you mean 'name'?"),
        ({"name": "a", "smooth": {"kind": "gauss", "sgima": 1}}, "smooth.sgima: unknown setting; did you mean 'sigma'?"),
        ({"name": "a", "smooth": {"kind": "box", "sigma": 1}}, "smooth.sigma: unknown setting; known: kind, width"),
        ({"name": "a", "smooth": {"kind": "bx", "sigma": 1}}, "smooth: unknown kind 'bx'; did you mean 'box'?"),
        ({"name": "a", "smooth": {"sigma": 1}}, "smooth: say which kind: gauss, box"),
        ({"name": "a", "smooth": {"kind": "box", "width": 4}}, "smooth.width: the width must be odd (got 4)"),
        ({"name": "a", "days": {"least": 9, "most": 3}}, "days: least (9) is longer than most (3)"),
        ({"name": "a", "days": 3}, "days: settings of its own belong here, as 'name: value' (got 3)"),
        ({"name": "a", "days": None}, "days: settings of its own belong here, as 'name: value' (got None)"),
        ({"name": "a", "maybe": {"sigma": 0}}, "maybe.sigma: Input should be greater than 0 (got 0)"),
        ({"name": "a", "maybe": {"sigma": float("inf")}}, "maybe.sigma: Input should be a finite number (got inf)"),
        ({}, "name: this setting is needed"),
    ],
)
def test_a_fault_says_where_and_what(values: dict[str, object], message: str) -> None:
    assert fault_of(**values) == message
    with pytest.raises(Stop) as caught:
        Whole.read(values, "my.yaml")
    assert str(caught.value) == f"my.yaml: {message}"


def test_all_faults_are_told_at_once() -> None:
    lines = fault_of(smooth={"kind": "gauss", "sigma": -1}, days={"leest": 2}, nmae="x").splitlines()
    assert lines == [
        "name: this setting is needed",
        "smooth.sigma: Input should be greater than 0 (got -1)",
        "days.leest: unknown setting; did you mean 'least'?",
        "nmae: unknown setting; did you mean 'name'?",
    ]


def test_every_declaration_can_tell_its_unit_and_help() -> None:
    assert unit_of(Gauss, "sigma") == "px"
    assert unit_of(Gauss, "kind") == ""
    assert Gauss.model_fields["sigma"].description == "width of the bell"


def test_a_default_may_be_made_anew() -> None:
    class Fresh(Settings):
        names: list[str] = option(list, "names")

    assert Fresh().names == []
    assert Fresh().names is not Fresh().names


def test_nearest_lists_what_is_known_where_nothing_is_close() -> None:
    assert nearest("zzz", ["catalog", "area"]) == "known: area, catalog"
    assert nearest("catalogue", ["catalog", "area"]) == "did you mean 'catalog'?"
