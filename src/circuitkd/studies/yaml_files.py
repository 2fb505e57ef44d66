"""YAML files that people write, checked against a pydantic model: every mistake with its place and the way out.

Keys that stand twice in a mapping are refused (YAML would silently keep the last). Only plain data is read: no tags of
Python, and no aliases, with which a few lines can stand for gigabytes.
"""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from circuitkd.artifacts import MISREAD
from circuitkd.tasks.rows import nearest, read_bytes

RecordT = TypeVar("RecordT", bound=BaseModel)
SHOWN = 10


class _Loader(yaml.SafeLoader):
    """Plain data, no key twice, no aliases, no half characters."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise ValueError(f"write out *{event.anchor} in line {event.start_mark.line + 1}: aliases are not read")
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        str(value).encode()
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = [key for key, count in counts.items() if count > 1]
        if twice:
            line = node.start_mark.line + 1
            raise ValueError(f"the key {twice[0]!r} stands twice in the mapping that begins in line {line}")
        return super().construct_mapping(node, deep=deep)


def read_mapping(path: Path, keys: Iterable[str]) -> dict[Any, Any]:
    """The file's mapping, of whatever keys. Raises ValueError naming the file: unreadable, no YAML, a key twice, or no
    mapping (with the `keys` that it may have)."""
    try:
        loader = _Loader(read_bytes(path))
        try:
            found = loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, *MISREAD) as error:
        raise ValueError(f"{path}: {_yaml_problem(error)}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: holds no mapping of keys: write {', '.join(keys)}")
    return found


def read_record(path: Path, model: type[RecordT]) -> RecordT:
    """The file as `model`. Raises ValueError naming the file and every mistake: unreadable, no YAML, unknown keys (with
    the nearest known one), missing keys, wrong values."""
    found = read_mapping(path, model.model_fields)
    try:
        return model.model_validate(found)
    except ValidationError as error:
        lines = list(dict.fromkeys(_sentences(error, model)))
        more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise ValueError(f"{path}: " + "\n  ".join([*lines[:SHOWN], *more])) from error


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"is not valid YAML: {error.problem} in line {mark.line + 1}, column {mark.column + 1}"
    if isinstance(error, ValueError | yaml.YAMLError):
        return " ".join(str(error).split())
    return (
        "is nested too deeply" if isinstance(error, RecursionError) else f"has a tag that does not fit: {error!r:.60}"
    )


def _sentences(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    for item in error.errors(include_url=False):
        location, kind = item["loc"], item["type"]
        key = str(location[-1]) if location else ""
        where = _path(location, model)
        if kind == "extra_forbidden":
            owner = _owner(location[:-1], model)
            yield f"{where}: unknown key: {nearest(key, list(owner.model_fields)) if owner else ''}".rstrip(": ")
        elif kind == "missing":
            yield f"{where}: is missing"
        elif kind == "union_tag_not_found":
            yield f"{where}.kind: is missing"
        elif kind == "union_tag_invalid":
            known = [tag.strip(" '") for tag in item["ctx"]["expected_tags"].split(",")]
            yield f"{where}.kind: unknown {item['ctx']['tag']!r}: {nearest(item['ctx']['tag'], known)}"
        elif kind == "literal_error":
            known = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            yield f"{where}: unknown {item['input']!r}: {nearest(str(item['input']), known)}"
        elif kind == "value_error":
            yield f"{where}: {item['ctx']['error']}" if where else str(item["ctx"]["error"])
        else:
            yield f"{where}: {item['msg'][0].lower()}{item['msg'][1:]}, not {item['input']!r}"


def _path(location: Sequence[int | str], model: type[BaseModel]) -> str:
    """A location as in "analyses[1].options.steps"; the tags that pydantic puts after an index are left out."""
    text = ""
    for i, step in enumerate(location):
        if isinstance(step, int):
            text += f"[{step}]"
        elif not (i and isinstance(location[i - 1], int) and _is_tag(location[:i], step, model)):
            text += f".{step}" if text else step
    return text


def _is_tag(before: Sequence[int | str], step: str, model: type[BaseModel]) -> bool:
    """Whether a step after an index names the member of a union."""
    return len(_members(before, model)) > 1 and any(_tag(m) == step for m in _members(before, model))


def _owner(location: Sequence[int | str], model: type[BaseModel]) -> type[BaseModel] | None:
    """The record that a location names."""
    found = _members(location, model)
    return found[0] if len(found) == 1 else None


def _members(location: Sequence[int | str], model: type[BaseModel]) -> list[type[BaseModel]]:
    """The records that may stand at a location."""
    found: list[type[BaseModel]] = [model]
    for step in location:
        if isinstance(step, int):
            continue
        tagged = [m for m in found if _tag(m) == step]
        if len(found) > 1 and tagged:
            found = tagged
        else:
            fields = [m.model_fields[step].annotation for m in found if step in m.model_fields]
            found = [record for annotation in fields for record in _records(annotation)]
    return found


def _tag(model: type[BaseModel]) -> str | None:
    """The single value of the field `kind`."""
    field = model.model_fields.get("kind")
    return None if field is None else str(typing.get_args(field.annotation)[0])


def _records(annotation: Any) -> list[type[BaseModel]]:
    """The records inside a type, such as the members of a tuple's union."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [record for inner in typing.get_args(annotation) for record in _records(inner)]
