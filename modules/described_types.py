"""Signatures as JSON, and back: what a file needs to know of fields and their types so that no code has to be at hand, and none runs.

Knows no format and no file. A class becomes one of the same name, fields and values, or is itself found again where writer and reader say
how; what cannot be described stands as `Any`.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ForwardRef, Literal, NotRequired, Required, Union, get_args, get_origin
from uuid import UUID

import pydantic
from pydantic import BaseModel, ConfigDict, PydanticUserError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python
from typing_extensions import get_type_hints, is_typeddict

from homefire.errors import SignatureError
from homefire.modules.field_constraints import Constraints, constraint_metadata
from homefire.modules.signature import Field, Signature, make_signature

Described = dict[str, Any]
NameOf = Callable[[Any, bool], str | None]
"""The name under which a class is found again, or None; whether it can be described, so that it need not be."""
Find = Callable[[str, bool], Any]
"""The class of such a name, or None; whether it is described, so that it need not be found."""

_PLAIN: dict[str, Any] = {kind.__name__: kind for kind in (str, int, float, bool, bytes, Decimal, UUID, date, datetime, time, timedelta)}
_NONE: tuple[Any, ...] = (None, type(None))
_HOLDERS: dict[str, Any] = {kind.__name__: kind for kind in (list, set, frozenset, tuple, dict)}
_AS_HOLDER = {Sequence: list, Mapping: dict}


def describe_signature(signature: type[Signature], name_of: NameOf | None = None) -> Described:
    """A signature as JSON values, without the defaults of its fields.

    Args:
        signature: The signature.
        name_of: Names classes; without it no class is found again.
    """
    fields = [
        {"name": field.name, "role": field.role, "description": field.description, "type": describe_type(field.type, name_of)}
        for field in signature.fields.values()
    ]
    return {"name": signature.__name__, "instructions": signature.instructions, "fields": fields}


def signature_of(described: Mapping[str, Any]) -> type[Signature]:
    """The signature that was described. A type that no grammar is known for becomes text."""
    fields = [Field(field["name"], type_of(field["type"]), field["role"], field["description"]) for field in described["fields"]]
    return make_signature([_with_grammar(field) for field in fields], described["instructions"], name=described["name"])


def describe_type(annotation: Any, name_of: NameOf | None = None, inside: tuple[Any, ...] = ()) -> Described:
    """A type as JSON values; `inside` are the classes around it."""
    if annotation in _NONE:
        return {"plain": "None"}
    origin: Any = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Annotated:
        limits = _limits(arguments[1:])
        inner = describe_type(arguments[0], name_of, inside)
        return {"limited": inner, "limits": limits} if limits else inner
    if origin is Literal:
        return {"literal": [to_jsonable_python(value) for value in arguments]}
    if origin in (Union, types.UnionType):
        return {"union": [describe_type(argument, name_of, inside) for argument in arguments]}
    bare: Any = origin or annotation
    holder: Any = _AS_HOLDER.get(bare, bare)
    if holder in _HOLDERS.values():
        return {"holder": holder.__name__, "of": ["..." if one is ... else describe_type(one, name_of, inside) for one in arguments]}
    if annotation in inside:
        return {"again": annotation.__name__}
    if annotation in _PLAIN.values():
        return {"plain": annotation.__name__}
    made = _described_class(annotation, name_of, inside)
    name = None if name_of is None else name_of(annotation, "any" not in made)
    return made if name is None else {**made, "class": name}


def type_of(described: Mapping[str, Any], find: Find | None = None) -> Any:
    """The type that was described; a record becomes a pydantic model where the class itself is not found."""
    if find is not None and "class" in described:
        inner = described.get("described", described)
        if (found := find(described["class"], "any" not in inner)) is not None:
            return found
    match described:
        case {"described": inner}:
            return type_of(inner, find)
        case {"plain": "None"}:
            return None
        case {"plain": name}:
            return _PLAIN.get(name, Any)
        case {"limited": inner, "limits": limits}:
            metadata = constraint_metadata({name: value for name, value in limits.items() if name in Constraints.__annotations__})
            return Annotated[(type_of(inner, find), *metadata)] if metadata else type_of(inner, find)
        case {"literal": values}:
            return Literal[tuple(values)]
        case {"union": members}:
            return Union[tuple(type_of(member, find) for member in members)]  # noqa: UP007  # a class that is not made yet takes no |
        case {"again": name}:
            return ForwardRef(name)
        case {"holder": name, "of": []} if name in _HOLDERS:
            return _HOLDERS[name]
        case {"holder": name, "of": arguments} if name in _HOLDERS:
            return _HOLDERS[name][tuple(... if one == "..." else type_of(one, find) for one in arguments)]
        case {"enum": name, "members": members}:
            return Enum(name, members)
        case {"record": name, "fields": fields}:
            return _record(name, fields, find)
        case _:
            return Any


def _described_class(annotation: Any, name_of: NameOf | None, inside: tuple[Any, ...]) -> Described:
    if not isinstance(annotation, type):
        return {"any": str(annotation)}
    if issubclass(annotation, Enum):
        return {"enum": annotation.__name__, "members": {one.name: to_jsonable_python(one.value) for one in annotation}}
    fields = _fields_of(annotation)
    if fields is None:
        return {"any": annotation.__name__}
    inner = [{**field, "type": describe_type(field["type"], name_of, (*inside, annotation))} for field in fields]
    return {"record": annotation.__name__, "fields": inner}


def _with_grammar(field: Field) -> Field:
    try:
        make_signature([field] if field.role == "output" else [field, Field("answer", str, "output")])
    except (SignatureError, PydanticUserError):
        return dataclasses.replace(field, type=str)
    return field


def _record(name: str, fields: Sequence[Mapping[str, Any]], find: Find | None) -> Any:
    made: dict[str, Any] = {}
    for field in fields:
        options: dict[str, Any] = {"description": field["description"] or None, "alias": field["alias"]}
        default = {} if field["required"] else {"default": field["default"]}
        made[field["name"]] = (type_of(field["type"], find), pydantic.Field(**options, **default))
    model = create_model(name, __config__=ConfigDict(populate_by_name=True), **made)
    model.model_rebuild(raise_errors=False, _types_namespace={name: model})
    return model


def _fields_of(cls: Any) -> list[dict[str, Any]] | None:
    """Fields of a pydantic model, a dataclass or a TypedDict; None for other classes."""
    if issubclass(cls, BaseModel):
        return [
            _field(name, _with_limits(info), info.is_required(), info.get_default(), info.description, info.alias)
            for name, info in cls.model_fields.items()
        ]
    if is_typeddict(cls):
        hints = get_type_hints(cls, include_extras=True)
        return [_field(name, _bare(hint), _is_required(hint, name in cls.__required_keys__), None) for name, hint in hints.items()]
    if dataclasses.is_dataclass(cls):
        hints = get_type_hints(cls, include_extras=True)
        return [
            _field(one.name, hints[one.name], one.default is dataclasses.MISSING, one.default)
            for one in dataclasses.fields(cls)
            if one.init
        ]
    return None


def _field(
    name: str, annotation: Any, required: bool, default: Any, description: str | None = None, alias: str | None = None
) -> dict[str, Any]:
    known = None if required or default is PydanticUndefined else to_jsonable_python(default, by_alias=True, fallback=str)
    return {"name": name, "type": annotation, "required": required, "default": known, "description": description or "", "alias": alias}


def _with_limits(info: FieldInfo) -> Any:
    return Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint


def _is_required(hint: Any, otherwise: bool) -> bool:
    said = get_origin(hint)
    return said is Required if said in (NotRequired, Required) else otherwise


def _limits(metadata: Sequence[Any]) -> dict[str, Any]:
    """Constraints among what an annotation says beside its type."""
    found: dict[str, Any] = {}
    for one in metadata:
        parts = one.metadata if isinstance(one, FieldInfo) else [one]
        for part in parts:
            known = {name: _value(part, name) for name in Constraints.__annotations__ if name != "discriminator"}
            found.update({name: value for name, value in known.items() if isinstance(value, int | float | str)})
    return found


def _value(constraint: object, name: str) -> Any:
    """A limit that a constraint of pydantic or annotated_types states as an attribute; both are other people's classes."""
    return getattr(constraint, name, None)
