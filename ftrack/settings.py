"""How a stage declares its settings: once, with bounds, units and help, refusing what it does not know."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails

from ftrack.errors import Stop


class Settings(BaseModel):
    """A frozen, keyword-only declaration of settings.

    The YAML comments, the command line help and the panel's form are all made from the
    declarations, so a setting is described in one place. Unknown keys raise ``Stop`` and
    name the nearest key that exists.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**_with_text(values))
        except ValidationError as error:
            raise Stop(explain(error, type(self))) from None

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # nested settings are validated in place, in one list of faults

    @classmethod
    def read(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Make the settings from a mapping as it stands in a workflow file.

        Parameters
        ----------
        values : mapping
            Keys and values, nested as the declaration is.
        where : str
            What to call the place in messages, for instance the file's name.

        Raises
        ------
        Stop
            A key is unknown, a value is missing or out of its bounds. All faults are listed.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise Stop(explain(error, cls, where)) from None


def _with_text(value: Any) -> Any:
    """Return settings with the texts of paths in place of these."""
    if isinstance(value, dict):
        return {key: _with_text(part) for key, part in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(part, PurePath) for part in value):
        return [_with_text(part) for part in value]
    return str(value) if isinstance(value, PurePath) else value


def option(default: Any, text: str, *, unit: str = "", **bounds: Any) -> Any:
    """Declare one setting: its default, one line of help, its unit, and its bounds (``ge``, ``gt``, ``le``, ``lt``)."""
    extra: JsonDict | None = {"unit": unit} if unit else None
    if callable(default):
        return Field(default_factory=default, description=text, json_schema_extra=extra, **bounds)
    return Field(default, description=text, json_schema_extra=extra, **bounds)


def unit_of(declaration: type[BaseModel], name: str) -> str:
    """Return the unit of a setting, or an empty string."""
    extra = declaration.model_fields[name].json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the closest known spelling, or lists what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"


def explain(error: ValidationError, declaration: type[BaseModel], where: str = "") -> str:
    """Turn a validation error into one readable line per fault."""
    lines = []
    for fault in error.errors():
        path, inner = _follow(declaration, fault["loc"])
        lines.append(f"{'.'.join(path) or declaration.__name__}: {_say(fault, path, inner)}")
    return (f"{where}: " if where else "") + "\n".join(lines)


def _say(fault: ErrorDetails, path: list[str], inner: list[type[BaseModel]]) -> str:
    given = fault["input"]
    if fault["type"] == "extra_forbidden":
        return f"unknown setting; {nearest(path[-1], (name for d in inner for name in d.model_fields))}"
    if fault["type"] == "missing":
        return "this setting is needed"
    if fault["type"] == "model_type" or (fault["type"].startswith("model_attributes") and not isinstance(given, Mapping)):
        return f"settings of its own belong here, as 'name: value' (got {given!r})"
    if fault["type"] == "union_tag_invalid":
        return f"unknown kind {given.get('kind')!r}; {nearest(str(given.get('kind')), (str(kind_of(d)) for d in inner))}"
    if fault["type"] == "union_tag_not_found":
        return f"say which kind: {', '.join(str(kind_of(d)) for d in inner)}"
    text = fault["msg"].removeprefix("Value error, ")
    return text if isinstance(given, Mapping) else f"{text} (got {given!r})"


def _follow(declaration: type[BaseModel], steps: Iterable[int | str]) -> tuple[list[str], list[type[BaseModel]]]:
    """Return the names on the way to a fault as a user writes them, and the declarations that may stand there."""
    path: list[str] = []
    around, inside = [declaration], [declaration]
    for step in map(str, steps):
        tagged = [d for d in inside if step in (kind_of(d), d.__name__)]
        if tagged and path:
            inside = tagged
            continue
        path.append(step)
        around = inside
        inside = [m for d in around if step in d.model_fields for m in models_in(d.model_fields[step].annotation)]
    return path, inside or around


def kind_of(declaration: type[BaseModel]) -> object:
    """Return the word in ``kind`` that tells this declaration from its alternatives, or None."""
    field = declaration.model_fields.get("kind")
    return field.default if field else None


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the declarations that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in models_in(part)]
