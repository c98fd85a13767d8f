"""How a stage declares its settings: once, with bounds, units and help, refusing what it does not know."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
            super().__init__(**values)
        except ValidationError as error:
            raise Stop(explain(error, type(self))) from None

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


def option(default: Any, text: str, *, unit: str = "", **bounds: Any) -> Any:
    """Declare one setting: its default, one line of help, its unit, and its bounds (``ge``, ``gt``, ``le``, ``lt``)."""
    extra = {"unit": unit} if unit else None
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
        path = [str(step) for step in fault["loc"]]
        if fault["type"] == "extra_forbidden":
            text = f"unknown setting; {nearest(path[-1], _known(declaration, path[:-1]))}"
        elif fault["type"] == "missing":
            text = "this setting is needed"
        else:
            text = f"{fault['msg'].removeprefix('Value error, ')} (got {fault['input']!r})"
        lines.append(f"{'.'.join(path) or declaration.__name__}: {text}")
    return (f"{where}: " if where else "") + "\n".join(lines)


def _known(declaration: type[BaseModel], path: list[str]) -> list[str]:
    """Return the names that a declaration knows at a nested place (all kinds of a union, if it is one)."""
    inner: list[type[BaseModel]] = [declaration]
    for step in path:
        found = [m for d in inner for m in _models(d.model_fields[step].annotation)] if any(
            step in d.model_fields for d in inner
        ) else [d for d in inner if d.__name__.lower() == step or _kind(d) == step]
        inner = found or inner
    return [name for d in inner for name in d.model_fields]


def _kind(declaration: type[BaseModel]) -> object:
    field = declaration.model_fields.get("kind")
    return field.default if field else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models(part)]
