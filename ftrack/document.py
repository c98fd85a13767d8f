"""YAML in, with faults named by line and column; YAML out, with every setting explained by its declaration."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from ftrack.errors import Stop
from ftrack.settings import kind_of, models_in, unit_of

LARGEST = 1_000_000
"""Characters that a YAML document may have."""

_TEXT = "tag:yaml.org,2002:str"
_WIDTH = 132
_COLUMN = 34


def parse_yaml(text: str, where: str) -> Any:
    """Return what a YAML document says.

    Dates, times of day and numbers with leading zeros stay as they are written. Duplicate keys, aliases and
    tags are refused.

    Parameters
    ----------
    text : str
        The document.
    where : str
        What to call it in messages.

    Raises
    ------
    Stop
        The document is malformed; the message gives line and column.
    """
    if len(text) > LARGEST:
        raise Stop(f"{where} has {len(text)} characters; a workflow has at most {LARGEST}")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse(node, where, set())
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise Stop(f"{where}{at}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise Stop(f"{where}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise Stop(f"{where}: lists or mappings are nested too deeply") from None


def _refuse(node: yaml.Node, where: str, seen: set[int]) -> None:
    """Refuse what would surprise, and keep as text what YAML 1.1 would turn into something else."""
    if id(node) in seen:
        raise _fault(node, where, "an alias (*name) is not understood here; write the value out")
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        number = node.value.lstrip("+-")
        clock = node.tag.endswith((":int", ":float")) and ":" in number
        padded = node.tag.endswith(":int") and len(number) > 1 and number[0] == "0" and number[1:].isdigit()
        if node.tag.endswith(":timestamp") or clock or padded:
            node.tag = _TEXT
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            _refuse(part, where, seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TEXT:
                raise _fault(key, where, "the name of a setting must be plain text, as in 'name: value'")
            if key.value in lines:
                raise _fault(key, where, f"{key.value!r} stands here a second time; the first is in line {lines[key.value]}")
            lines[key.value] = key.start_mark.line + 1
            _refuse(value, where, seen)


def _fault(node: yaml.Node, where: str, text: str) -> Stop:
    return Stop(f"{where}, line {node.start_mark.line + 1}, column {node.start_mark.column + 1}: {text}")


class _Line(NamedTuple):
    """One setting: its depth, whether it is commented out, ``name: value``, what it means; ``section`` if others follow inside."""

    depth: int
    off: bool
    text: str
    comment: str
    section: bool


def write_yaml(declaration: type[BaseModel], values: Mapping[str, Any], *, others: bool = False) -> str:
    """Return settings as YAML, each with its help, unit, bounds and choices as a comment.

    Parameters
    ----------
    declaration : Settings subclass
        Where the comments come from.
    values : mapping
        What to write, nested.
    others : bool
        Also write what is not in ``values``: at the end of its section, commented out (``#name: default``).
    """
    return "\n".join(_lay_out(list(_lines(declaration, values, others)))) + "\n"


def _lines(declaration: type[BaseModel], values: Mapping[str, Any], others: bool, depth: int = 0, off: bool = False) -> Iterator[_Line]:
    own = [name for name in declaration.__annotations__ if name in declaration.model_fields]
    names = dict.fromkeys([*own, *declaration.model_fields])
    rest = [name for name in names if name not in values] if others else []
    for name in [*(name for name in names if name in values), *rest]:
        field = declaration.model_fields[name]
        given = name in values
        value = values[name] if given else _default(field)
        inner = _inner(field, value)
        off_here = off or not given
        if inner is None or (value is None and given):
            yield _Line(depth, off_here, f"{name}: {_dump(value)}", _comment(declaration, name), False)
            continue
        yield _Line(depth, off_here, f"{name}:", _comment(declaration, name), True)
        kinds = _kinds(field)
        for line in _lines(inner, value if given else {}, others, depth + 1, off_here):
            several = line.depth == depth + 1 and line.text.startswith("kind:") and len(kinds) > 1
            yield line._replace(comment=f"{line.comment} [{', '.join(kinds)}]") if several else line


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return None if default is PydanticUndefined else to_jsonable_python(default)


def _inner(field: FieldInfo, value: Any) -> type[BaseModel] | None:
    """Return the declaration of the settings inside, chosen by their kind where there are several."""
    if not (value is None or isinstance(value, Mapping)):
        return None
    models = models_in(field.annotation)
    kind = value.get("kind") if value else None
    return next((model for model in models if kind and kind_of(model) == kind), models[0] if models else None)


def _kinds(field: FieldInfo) -> list[str]:
    return [str(kind_of(model)) for model in models_in(field.annotation) if kind_of(model)]


def _comment(declaration: type[BaseModel], name: str) -> str:
    choices = [str(c) or "''" for c in choices_of(declaration, name)]
    notes = [note for note in (limits_of(declaration, name), " | ".join(choices) if len(choices) > 1 else "") if note]
    return " ".join([declaration.model_fields[name].description or "", *([f"[{', '.join(notes)}]"] if notes else [])]).strip()


def limits_of(declaration: type[BaseModel], name: str) -> str:
    """Return unit and bounds of a setting, such as ``px, >= 1``."""
    marks = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    metadata = declaration.model_fields[name].metadata
    bounds = [f"{mark} {getattr(m, key)}" for m in metadata for key, mark in marks.items() if hasattr(m, key)]
    unit = unit_of(declaration, name)
    return ", ".join([*([unit] if unit not in ("", "1") else []), *bounds])


def choices_of(declaration: type[BaseModel], name: str) -> tuple[Any, ...]:
    """Return the values that a setting may have, if they can be listed."""
    annotation = declaration.model_fields[name].annotation
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _dump(value: Any) -> str:
    """Return a value on one line."""
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text: str = yaml.safe_dump(
        value, default_flow_style=True, default_style=style, width=float("inf"), allow_unicode=_printable(value), sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _printable(value: Any) -> bool:
    """Say whether every text inside a value may stand as it is; line breaks of other scripts may not."""
    if isinstance(value, Mapping):
        return all(_printable(part) for item in value.items() for part in item)
    if isinstance(value, list | tuple):
        return all(_printable(part) for part in value)
    return not isinstance(value, str) or value.isprintable()


def _lay_out(lines: list[_Line]) -> Iterator[str]:
    for number, line in enumerate(lines):
        indent = "  " * line.depth
        text = f"{indent}{'#' if line.off else ''}{line.text}"
        if number and line.depth == 0 and (line.section or lines[number - 1].depth):
            yield ""
        one = f"{text.ljust(0 if line.section else _COLUMN)}  # {line.comment}" if line.comment else text
        if len(one) <= _WIDTH:
            yield one
            continue
        yield from (f"{indent}# {part}" for part in textwrap.wrap(line.comment, _WIDTH - len(indent) - 2))
        yield text
