"""The arguments of a tool: names, types, defaults and descriptions, read from a function or from JSON Schemas.

Knows no model. An argument whose type nobody says may be any JSON value, and the user is told once how to say it.
"""

from __future__ import annotations

import inspect
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, NotRequired, get_args, get_origin

import typing_extensions
from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from homefire.errors import InputError
from homefire.modules.portable_types import portable
from homefire.modules.signature_text import caller_scope
from homefire.modules.tool_schema import AnyJson, type_of_schema, typed_dict

_NONE = inspect.Parameter.empty
_ALONE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a tool."""

    name: str
    type: Any
    required: bool = True
    default: Any = None
    """What the function takes where the argument is left out, if `has_default`."""
    has_default: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a function takes its arguments."""

    signature: inspect.Signature

    def call(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and the named arguments of a call."""
        parameters = self.signature.parameters
        places = [name for name, one in parameters.items() if one.kind is inspect.Parameter.POSITIONAL_ONLY]
        missing = next((index for index, name in enumerate(places) if name not in arguments), len(places))
        ahead = tuple(arguments[name] for name in places[:missing])
        return ahead, {name: value for name, value in arguments.items() if name not in places}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """All arguments of a tool."""

    arguments: tuple[Argument, ...]
    open: bool
    """Whether the function takes others too."""
    signature: Places | None = None
    """None for a function that takes all by name."""


def arguments_of(func: Callable[..., Any], tool: str, types: Mapping[str, Any], descriptions: Mapping[str, str]) -> Arguments:
    """The arguments of a function that a model may choose; those that a `functools.partial` has bound are not among them."""
    bound = _bound(func)
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        raise InputError(
            f"It cannot be seen what arguments {tool} takes. Put it into a function of your own: `def {tool}(text: str) -> str: ...`."
        ) from None
    hints = _hints(func)
    parameters = [one for one in signature.parameters.values() if one.kind not in _ALONE and one.name not in bound]
    is_open = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.parameters.values())
    _check_names(tool, [one.name for one in parameters], types, descriptions, is_open)
    read = [_of_parameter(one, types.get(one.name, hints.get(one.name, _NONE)), descriptions.get(one.name, "")) for one in parameters]
    more = [_stated(name, types[name], descriptions.get(name, "")) for name in types if name not in {one.name for one in parameters}]
    _warn_untyped(tool, [one.name for one, argument in zip(parameters, read, strict=True) if argument.type is _NONE], parameters)
    known = tuple(replace(one, type=Any) if one.type is _NONE else one for one in (*read, *more))
    return Arguments(arguments=known, open=is_open, signature=Places(signature))


def declared_arguments(
    func: Callable[..., Any], tool: str, schemas: Mapping[str, Any], types: Mapping[str, Any], descriptions: Mapping[str, str]
) -> Arguments:
    """The arguments that JSON Schemas name."""
    _check_names(tool, list(schemas), types, descriptions, is_open=False)
    found = []
    for name, schema in schemas.items():
        stated = _stated(name, types[name] if name in types else type_of_schema(schema), descriptions.get(name, ""))
        said = schema if isinstance(schema, Mapping) else {}
        description = stated.description or str(said.get("description", ""))
        if "default" in said:
            stated = replace(stated, required=False, default=said["default"], has_default=True)
        found.append(replace(stated, description=description))
    return Arguments(arguments=tuple(found), open=False)


def arguments_type(name: str, arguments: Sequence[Argument], *, writable: bool) -> Any:
    """The TypedDict of a tool's arguments.

    Args:
        name: Of the tool.
        arguments: Its arguments.
        writable: Whether every value is one that a model can write, so that there is a grammar.
    """
    types = {one.name: portable(_writable(one.type) if writable else one.type) for one in arguments}
    fields = {one.name: types[one.name] if one.required else NotRequired[types[one.name]] for one in arguments}
    made = typed_dict(name, fields)
    made.__pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)
    return made


def json_schema(argument: Argument) -> dict[str, Any]:
    """The JSON Schema of an argument; of a type that has none, an empty one."""
    try:
        schema = TypeAdapter(portable(argument.type)).json_schema()
    except (PydanticUserError, PydanticInvalidForJsonSchema):
        schema = {}
    if argument.description:
        schema["description"] = argument.description
    if argument.has_default:
        schema["default"] = to_jsonable_python(argument.default, fallback=str)
    return schema


def innermost(func: Any) -> Any:
    """The function inside of `functools.partial`."""
    while isinstance(func, partial):
        func = func.func
    return func


def _bound(func: Any) -> set[str]:
    names: set[str] = set()
    while isinstance(func, partial):
        names |= set(func.keywords)
        func = func.func
    return names


def _of_parameter(parameter: inspect.Parameter, hint: Any, description: str) -> Argument:
    default = parameter.default
    if hint is _NONE and default is not _NONE and default is not None:
        hint = type(default) if isinstance(default, bool | int | float | str) else hint
    stated = _stated(parameter.name, hint, description)
    if default is _NONE:
        return stated
    kind = stated.type
    if default is None and kind not in (_NONE, Any):
        kind = kind | None if not isinstance(kind, str) else kind
    return replace(stated, type=kind, required=False, default=default, has_default=True)


def _stated(name: str, hint: Any, description: str) -> Argument:
    """An argument of a type, which may say that it is optional and what it means."""
    required = True
    if get_origin(hint) in (NotRequired, typing_extensions.NotRequired):
        required, hint = False, get_args(hint)[0]
    return Argument(name=name, type=hint, required=required, description=description or _described(hint))


def _described(hint: Any) -> str:
    for one in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        match one:
            case str():
                return one
            case FieldInfo(description=str() as said):
                return said
            case typing_extensions.Doc(documentation=said):
                return said
    return ""


def _hints(func: Any) -> dict[str, Any]:
    """The types in a function's annotations, also where they are text that names what is local to the caller."""
    func = innermost(func)
    if inspect.isclass(func):
        func = func.__init__
    elif not inspect.isroutine(func):
        func = type(func).__call__
    for names in (dict[str, Any], caller_scope):
        try:
            return typing.get_type_hints(func, localns=names(), include_extras=True)
        except (NameError, TypeError, AttributeError, SyntaxError):
            continue
    return {name: hint for name, hint in inspect.get_annotations(func).items() if not isinstance(hint, str)}


def _check_names(tool: str, known: Sequence[str], types: Mapping[str, Any], descriptions: Mapping[str, str], is_open: bool) -> None:
    for option, given in (("arg_types", types), ("arg_desc", {} if is_open else descriptions)):
        if (unknown := [name for name in given if name not in known]) and not is_open:
            raise InputError(f"{option} names {unknown[0]!r}, but {tool} takes {', '.join(known) or 'no arguments'}.")


def _warn_untyped(tool: str, untyped: Sequence[str], parameters: Sequence[inspect.Parameter]) -> None:
    if not untyped:
        return
    names = ", ".join(f"{one.name}: str" if one.name in untyped else str(one) for one in parameters)
    warnings.warn(
        f"The tool {tool} has no type for {', '.join(untyped)}, so a model may give any JSON value. Say what it takes, for example: "
        f"def {tool}({names}): ...",
        stacklevel=4,
    )


def _writable(hint: Any) -> Any:
    """The type with every `Any` in it made any JSON value, which is what a model can write."""
    if hint is Any or hint is object:
        return AnyJson
    if hint in _BARE:
        return _BARE[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is None or not arguments or (isinstance(hint, type) and issubclass(hint, BaseModel)):
        return hint
    if origin is Annotated:
        inner = _writable(arguments[0])
        return hint if inner is arguments[0] else Annotated[(inner, *arguments[1:])]
    if origin is typing.Literal:
        return hint
    changed = tuple(_writable(one) for one in arguments)
    if all(new is old for new, old in zip(changed, arguments, strict=True)):
        return hint
    if origin in (typing.Union, type(int | str)):
        return typing.Union[changed]  # noqa: UP007
    return origin[changed]


_BARE: dict[Any, Any] = {
    list: list[AnyJson],
    tuple: tuple[AnyJson, ...],
    dict: dict[str, AnyJson],
    typing.List: list[AnyJson],  # noqa: UP006
    typing.Dict: dict[str, AnyJson],  # noqa: UP006
}
