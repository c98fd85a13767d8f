"""Forms made from the declarations of settings: label, unit, bounds and help stand there once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_origin

import ipywidgets as w
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from ftrack.document import choices_of, limits_of, parse_yaml
from ftrack.errors import Stop
from ftrack.settings import kind_of, models_in
from ftrack.view.panel.pieces import Message, labelled
from ftrack.view.panel.state import State

Path = tuple[str, ...]


class Field(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """One setting: what it is called, its value, unit and bounds, its help, and what is wrong with what was typed."""

    def __init__(self, state: State, path: Path, declaration: type[BaseModel], name: str) -> None:
        self.state, self.path, self.declaration, self.name = state, path, declaration, name
        info = declaration.model_fields[name]
        default = info.get_default(call_default_factory=True)
        self.default = None if default is PydanticUndefined else to_jsonable_python(default)
        self.message = Message()
        self.input = self._input(choices_of(declaration, name))
        self.input.tooltip = info.description or ""
        self.refresh()
        self.input.observe(lambda _: self._typed(), "value")
        state.observe(lambda _: self.refresh(), "values")
        said = (info.description or "").replace("null = ", "empty = ")  # as it is typed here, not in a file
        help_text = w.HTML(f'<div class="ftrack-help">{said}</div>')
        row = labelled(name.replace("_", " "), self.input, limits_of(declaration, name).replace(">=", "≥").replace("<=", "≤"))
        super().__init__([row, help_text, self.message])

    def _input(self, choices: tuple[Any, ...]) -> w.Widget:
        if choices:
            return w.Dropdown(options=[(str(c) or "any", c) for c in choices], layout=w.Layout(width="170px"))
        if isinstance(self.default, bool):
            return w.Checkbox(indent=False, layout=w.Layout(width="auto"))
        return w.Text(continuous_update=False, layout=w.Layout(width="170px"))

    def refresh(self) -> None:
        """Show what the settings say now."""
        value = self.state.value(*self.path, self.name, default=self.default)
        shown = value if not isinstance(self.input, w.Text) else self.state.short(_as_text(value))
        if self.input.value != shown:
            self.input.value = shown

    def _typed(self) -> None:
        """Take over what was typed if it is allowed, else say what is wrong with it."""
        try:
            value = _from_text(self.input.value, self._several()) if isinstance(self.input, w.Text) else self.input.value
        except Stop as error:
            return self.message.say(str(error), "error")
        before = self.state.value(*self.path, self.name, default=self.default)
        if value == before:
            return self.message.say("")
        faults = faults_of(self.declaration, {**self.state.value(*self.path, default={}), self.name: value}, self.name)
        if value is None and self.default is not None:
            faults = []
        if faults:
            return self.message.say(f"{'; '.join(faults)}. {_as_text(before) or 'Nothing'} stays.", "error")
        self.message.say("")
        self.state.put(*self.path, self.name, value=None if value == self.default else value)
        return None

    def _several(self) -> bool:
        return get_origin(self.declaration.model_fields[self.name].annotation) is tuple


def faults_of(declaration: type[BaseModel], values: dict[str, Any], name: str) -> list[str]:
    """Return what is wrong with one setting of a section, or with how it goes together with the others."""
    try:
        declaration(**values)
    except Stop as error:
        lines = [line.partition(": ") for line in str(error).splitlines()]
        return [text for place, _, text in lines if place.split(".")[0] in (name, declaration.__name__)]
    return []


def _as_text(value: Any) -> str:
    if value in (None, [], {}, ""):
        return ""
    if isinstance(value, list):
        return ", ".join(_as_text(part) for part in value)
    return json.dumps(value) if isinstance(value, dict) else value if isinstance(value, str) else yaml.safe_dump(value).split("\n")[0]


def _from_text(text: str, several: bool) -> Any:
    text = text.strip()
    if not text:
        return None
    return parse_yaml(f"[{text.strip('[]()')}]" if several else text, "this")


def fields(state: State, path: Path, declaration: type[BaseModel], names: Sequence[str] = ()) -> list[Field]:
    """Return the form of a section, or of some of its settings; ``kind``, and what has settings of its own, is left out."""
    simple = [name for name, info in declaration.model_fields.items() if name != "kind" and not models_in(info.annotation)]
    return [Field(state, path, declaration, name) for name in names or simple]


class Kinds(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """A section that may be of several kinds: which one, and the form of that one."""

    def __init__(self, state: State, path: Path, kinds: Sequence[type[BaseModel]], default: str) -> None:
        self.state, self.path, self.default = state, path, default
        self.by_kind = {str(kind_of(kind)): kind for kind in kinds}
        names = [(f"{name} ({(kind.__doc__ or '').split(':')[0].split('.')[0]})", name) for name, kind in self.by_kind.items()]
        self.choice = w.Dropdown(options=names, layout=w.Layout(width="330px"), value=self._kind())
        self.choice.observe(lambda change: self._choose(change["new"]), "value")
        state.observe(lambda _: setattr(self.choice, "value", self._kind()), "values")
        self._forms: dict[str, list[w.Widget]] = {}
        super().__init__()
        self._show()

    def _kind(self) -> str:
        return str(self.state.value(*self.path, "kind", default=self.default))

    def _choose(self, kind: str) -> None:
        if kind != self._kind():
            self.state.put(*self.path, value={"kind": kind})
        self._show()

    def _show(self) -> None:
        name = self.choice.value
        if name not in self._forms:
            kind = self.by_kind[name]
            self._forms[name] = [w.HTML(f'<div class="ftrack-help">{kind.__doc__}</div>'), *fields(self.state, self.path, kind)]
        self.children = [labelled("kind", self.choice), *self._forms[name]]
