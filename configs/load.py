"""Configuration files: presets by name and YAML files by path, read into dataclasses.

Knows no particular setting: the dataclass that owns the values says what is allowed.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, Union

from homefire.errors import ConfigError

SECTIONS = ("model", "engine", "train")
"""Top-level keys of a configuration file that has sections."""

T = TypeVar("T")


class InvalidConfig(ConfigError):
    """Everything that is wrong with one configuration, one problem a line."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        head = f"{where} has {len(problems)} problems" if len(problems) > 1 else f"{where} has a problem"
        super().__init__("\n".join([f"{head}:", *(f"  - {problem}" for problem in problems)]))
        self.where = where
        self.problems = tuple(problems)


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    name: str
    values: dict[str, Any]
    lines: dict[tuple[str, ...], int]

    def at(self, path: tuple[str, ...]) -> str:
        line = self.lines.get(path)
        return ".".join(path) + (f" (line {line})" if line else "")


def load(name_or_path: str | Path, into: type[T], section: str | None = None) -> T:
    """Reads a configuration into a dataclass.

    Args:
        name_or_path: Name of a preset that comes with homefire, as in "laptop", or path of a YAML file.
        into: Dataclass, nested ones included. Values must have the types it declares.
        section: Top-level key that holds the values; a file without that key gives the dataclass's defaults.

    Raises:
        ConfigError: no such file, or everything that is wrong in it at once: unknown keys with the nearest known one, wrong types, values
            that the dataclass itself refuses.
    """
    file = _read(name_or_path)
    if section is None:
        return _build(file, into, file.values, ())
    problems = [_unknown(file, (key,), SECTIONS) for key in file.values if key not in SECTIONS]
    values = file.values.get(section)
    if values is not None and not isinstance(values, dict):
        problems.append(f"{file.at((section,))} is {values!r}; it must hold keys and values")
    try:
        built = _build(file, into, values if isinstance(values, dict) else {}, (section,))
    except InvalidConfig as error:
        raise InvalidConfig(file.name, [*problems, *error.problems]) from None
    if problems:
        raise InvalidConfig(file.name, problems)
    return built


def model_name(name_or_path: str | Path) -> str | None:
    """The value of the key `model`, when the configuration names a model.

    Raises:
        ConfigError: no such file, or the value is not text.
    """
    file = _read(name_or_path)
    name = file.values.get("model")
    if name is not None and not isinstance(name, str):
        raise InvalidConfig(file.name, [f"{file.at(('model',))} is {name!r}; expected the name of a model as text"])
    return name


def presets() -> list[str]:
    """Names of the presets that come with homefire."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in resources.files("homefire.configs").iterdir() if entry.name.endswith(".yaml")
    )


def _read(name_or_path: str | Path) -> _File:
    import yaml

    name, text = _text(name_or_path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not valid YAML: {' '.join(str(error).split())}. Correct the file at that place.") from error
    if values is None:
        return _File(name, {}, {})
    if not isinstance(values, dict):
        raise ConfigError(f"{name} holds a {type(values).__name__}; expected keys and values, one `key: value` a line.")
    places = list(_places(node, ()))
    twice = [path for index, (path, _) in enumerate(places) if path in {earlier for earlier, _ in places[:index]}]
    file = _File(name, values, dict(places))
    if twice:
        raise InvalidConfig(name, [f"{file.at(path)} is given twice" for path in twice])
    return file


def _text(name_or_path: str | Path) -> tuple[str, str]:
    """Name for messages, and content."""
    path = Path(name_or_path).expanduser()
    known = presets()
    if str(name_or_path) in known:
        name = f"{name_or_path}.yaml"
        return name, (resources.files("homefire.configs") / name).read_text(encoding="utf-8")
    try:
        return str(path), path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        near = difflib.get_close_matches(str(name_or_path), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"The configuration {str(name_or_path)!r} cannot be read: {reason}.{hint} "
            f"Give a preset ({', '.join(known)}) or the path of a YAML file."
        ) from error


def _places(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Path and line of every key."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place = (*path, str(key.value))
            yield place, key.start_mark.line + 1
            yield from _places(value, place)


def _build(file: _File, into: type[T], values: dict[str, Any], path: tuple[str, ...]) -> T:
    """An instance of the dataclass, or all that is wrong with the values."""
    if not dataclasses.is_dataclass(into):
        raise TypeError(f"{into!r} is not a dataclass")
    hints = typing.get_type_hints(into)
    fields = {field.name: field for field in dataclasses.fields(into) if field.init}
    problems: list[str] = []
    given: dict[str, Any] = {}
    for key, value in values.items():
        place = (*path, str(key))
        if key not in fields:
            problems.append(_unknown(file, place, list(fields)))
            continue
        try:
            given[key] = _value(file, hints[key], value, place)
        except InvalidConfig as error:
            problems += error.problems
    missing = [name for name, field in fields.items() if name not in values and not _has_default(field)]
    problems += [f"{'.'.join((*path, name))} is missing; expected {_words(hints[name])}" for name in missing]
    refused: list[str] = []
    if all(name in given or _has_default(field) for name, field in fields.items()):
        try:
            built = into(**given)
        except InvalidConfig as error:
            refused = list(error.problems)
        except (ConfigError, ValueError) as error:
            refused = [str(error)]
        else:
            if not problems:
                return built
    raise InvalidConfig(file.name, problems + [_placed(file, path, problem) for problem in refused])


def _value(file: _File, kind: Any, value: Any, place: tuple[str, ...]) -> Any:
    """The value as its type wants it: JSON's rules, no number from text and no text from numbers."""
    from pydantic import TypeAdapter, ValidationError

    nested = next((part for part in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(part)), None)
    if isinstance(nested, type) and isinstance(value, dict):
        return _build(file, nested, value, place)
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError:
        raise InvalidConfig(file.name, [f"{file.at(place)} is {value!r}; expected {_words(kind)}"]) from None


def _placed(file: _File, path: tuple[str, ...], problem: str) -> str:
    """A dataclass names its own field first; the file knows where that is."""
    name, _, rest = problem.partition(" ")
    return f"{file.at((*path, name))} {rest}" if (*path, name) in file.lines else problem


def _unknown(file: _File, place: tuple[str, ...], known: Sequence[str]) -> str:
    near = difflib.get_close_matches(place[-1], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"{file.at(place)} is not known; {hint}"


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _words(kind: Any) -> str:
    """A type as people say it."""
    plain = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path", type(None): "nothing"}
    if kind in plain:
        return plain[kind]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(arg) for arg in args)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(arg) for arg in args if arg is not type(None))
    if origin in (list, tuple, set, frozenset):
        return f"a list of {_words(args[0])}" if args else "a list"
    return "keys and values" if origin is dict or dataclasses.is_dataclass(kind) else str(kind)


def typed(values: Mapping[str, Any], into: type[T], where: str) -> T:
    """A dataclass from values that did not come from a file, checked as strictly.

    Raises:
        ConfigError: everything that is wrong, at once; `where` says where the values stood.
    """
    return _build(_File(where, dict(values), {}), into, dict(values), ())
