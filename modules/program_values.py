"""What a program holds, as JSON values, and back: objects by the name of their class, signatures and types described, code by name only.

Knows no file. Reading runs no code: classes are looked up among what is imported, and nothing is constructed; with `allow_code` modules are
imported, and functions are taken by name.
"""

from __future__ import annotations

import enum
import importlib
import math
import sys
import types
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from homefire.engine.lm import LM
from homefire.errors import InputError
from homefire.modules.described_types import describe_signature, type_of
from homefire.modules.example import Example, Prediction
from homefire.modules.savable import Savable
from homefire.modules.signature import REQUIRED, Field, Signature, make_signature

_PLAIN: dict[str, Any] = {kind.__name__: kind for kind in (date, datetime, time, timedelta, Decimal, UUID)}
_HOLDERS: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_KINDS = frozenset(
    {"module", "same", "lm", "signature", "example", "enum", "model", "value", "path", "float", "map", "code", "required", *_HOLDERS}
)


class ProgramWriter:
    """Writes one program; what it holds twice is written once."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        self._kept: list[object] = []

    def written(self, value: Any, where: str) -> Any:
        """A value as JSON.

        Args:
            value: What an attribute holds.
            where: The path of the attribute, for errors.

        Raises:
            InputError: only a pickle can hold it.
        """
        match value:
            case Savable() | LM():
                return self._once(value, where)
            case enum.Enum():
                return {"$enum": path_of(type(value), where), "of": value.name}
            case float() if not math.isfinite(value):
                return {"$float": repr(float(value))}
            case None | bool() | int() | float() | str() if type(value) in (type(None), bool, int, float, str):
                return value
            case list() if type(value) is list:
                return [self.written(item, f"{where}[{index}]") for index, item in enumerate(value)]
            case tuple() | set() | frozenset() if type(value) in (tuple, set, frozenset):
                return {f"${type(value).__name__}": [self.written(item, f"{where}[...]") for item in value]}
            case dict() if type(value) is dict:
                return self._mapping(value, where)
            case Example():
                kind = "prediction" if isinstance(value, Prediction) else "example"
                keys = None if value._input_keys is None else sorted(value._input_keys)
                return {"$example": kind, "fields": self._mapping(value._store, where), "inputs": keys}
            case PurePath():
                return {"$path": str(value)}
            case BaseModel():
                return {"$model": path_of(type(value), where), "fields": to_jsonable_python(value, by_alias=True)}
            case type() if issubclass(value, Signature):
                return {"$signature": self._signature(value, where)}
        if type(value).__name__ in _PLAIN and type(value) is _PLAIN[type(value).__name__]:
            return {"$value": type(value).__name__, "of": to_jsonable_python(value)}
        if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
            return {"$code": path_of(value, where)}
        raise _not_portable(value, where)

    def _once(self, value: Savable | LM, where: str) -> Any:
        if id(value) in self._known:
            return {"$same": self._known[id(value)]}
        number = self._known[id(value)] = len(self._known)
        self._kept.append(value)
        if isinstance(value, LM):
            return {"$lm": value.dump_state(), "number": number}
        state = {name: self.written(part, f"{where}.{name}") for name, part in value.__getstate__().items()}
        return {"$module": path_of(type(value), where), "number": number, "attributes": state}

    def _signature(self, signature: type[Signature], where: str) -> dict[str, Any]:
        described = describe_signature(signature, lambda cls, describable: _name_of(cls, describable, where))
        for field, one in zip(described["fields"], signature.fields.values(), strict=True):
            if one.default is not REQUIRED:
                field["default"] = self.written(one.default, f"{where}.{one.name}")
        return described

    def _mapping(self, value: Mapping[Any, Any], where: str) -> Any:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self.written(item, f"{where}[{key!r}]") for key, item in value.items()}
        return {"$map": [[self.written(key, where), self.written(item, f"{where}[{key!r}]")] for key, item in value.items()]}


class ProgramReader:
    """Reads what a `ProgramWriter` wrote."""

    def __init__(self, *, allow_code: bool, allow_endpoint: bool) -> None:
        self._allow_code = allow_code
        self._allow_endpoint = allow_endpoint
        self._known: dict[int, Any] = {}

    def read(self, value: Any) -> Any:
        """The value.

        Raises:
            InputError: a class that is not imported, or code where none is allowed.
        """
        if isinstance(value, list):
            return [self.read(item) for item in value]
        if not isinstance(value, dict):
            return value
        kind = next((key[1:] for key in value if key.startswith("$")), None)
        if kind is None:
            return {key: self.read(item) for key, item in value.items()}
        if kind not in _KINDS:
            raise InputError(f"The saved program has a value of the kind {kind!r}, which is not known here. It may be a newer homefire's.")
        return self._special(kind, value)

    def _special(self, kind: str, value: Mapping[str, Any]) -> Any:
        of = value[f"${kind}"]
        match kind:
            case "module":
                return self._module(value)
            case "same":
                return self._known[of]
            case "lm":
                self._known[value["number"]] = lm = LM.from_state(of, allow_endpoint=self._allow_endpoint)
                return lm
            case "signature":
                return self._signature(of)
            case "example":
                return self._example(value)
            case "enum":
                return self._class(of, enum.Enum)[value["of"]]
            case "model":
                return self._model(of, value["fields"])
            case "value":
                return TypeAdapter(_PLAIN[of]).validate_python(value["of"])
            case "path":
                return Path(of)
            case "float":
                return float(of)
            case "required":
                return REQUIRED
            case "map":
                return {self.read(key): self.read(item) for key, item in of}
            case "code":
                return self._code(of)
        return _HOLDERS[kind](self.read(item) for item in of)

    def _module(self, value: Mapping[str, Any]) -> Any:
        cls = self._class(value["$module"], Savable)
        made = cls.__new__(cls)
        self._known[value["number"]] = made
        made.__setstate__({name: self.read(part) for name, part in value["attributes"].items()})
        return made

    def _example(self, value: Mapping[str, Any]) -> Example:
        made = (Prediction if value["$example"] == "prediction" else Example)(self.read(value["fields"]))
        made._input_keys = None if value["inputs"] is None else frozenset(value["inputs"])
        return made

    def _model(self, path: str, fields: Any) -> Any:
        try:
            return self._class(path, BaseModel).model_validate(fields)
        except ValidationError as error:
            raise InputError(f"The saved {path} no longer fits its class: {error}") from None

    def _code(self, path: str) -> Any:
        if not self._allow_code:
            raise InputError(
                f"The saved program holds {path.replace(':', '.')}, a function or class that it may call. If you trust the file, write "
                "homefire.load(folder, allow_code=True)."
            )
        return self._found(path)

    def _class(self, path: str, base: type) -> Any:
        found = self._found(path)
        if not isinstance(found, type) or not issubclass(found, base):
            raise InputError(f"The saved program names {path.replace(':', '.')}, which is no {base.__name__}.")
        return found

    def _found(self, path: str) -> Any:
        """What a path names, in a module that is imported, or that is homefire's own."""
        name, _, qualified = path.partition(":")
        module = sys.modules.get(name)
        if module is None and (self._allow_code or name.startswith("homefire.")):
            try:
                module = importlib.import_module(name)
            except ImportError as error:
                raise InputError(f"The saved program needs {path.replace(':', '.')}, which cannot be imported: {error}.") from None
        if module is None:
            raise InputError(
                f"The saved program needs {path.replace(':', '.')}, and {name} is not imported. Write `import {name}` first, or "
                "homefire.load(folder, allow_code=True), which imports it."
            )
        found: Any = module
        for part in qualified.split("."):
            if part not in vars(found):
                hint = " A class of a script is found only in that script: put it into a file of its own." if name == "__main__" else ""
                raise InputError(f"The saved program needs {path.replace(':', '.')}, which is not there any more.{hint}")
            found = vars(found)[part]
        return found

    def _signature(self, value: Mapping[str, Any]) -> type[Signature]:
        fields = [
            Field(
                one["name"],
                type_of(one["type"], self._find),
                one["role"],
                one["description"],
                self.read(one.get("default", {"$required": None})),
            )
            for one in value["fields"]
        ]
        return make_signature(fields, value["instructions"], name=value["name"])

    def _find(self, path: str, described: bool) -> Any:
        """A class of the program's own, where that is imported."""
        try:
            return self._class(path, object)
        except InputError:
            if described:
                return None
            raise


def _name_of(annotation: Any, describable: bool, where: str) -> str | None:
    try:
        return path_of(annotation, where)
    except InputError:
        if describable:
            return None
        raise


def path_of(value: Any, where: str) -> str:
    """The module and name under which a class or function is found again.

    Raises:
        InputError: it is not, as it was made inside a function.
    """
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    qualified = getattr(value, "__qualname__", "")
    for part in qualified.split("."):
        found = None if found is None else vars(found).get(part)
    if found is not value or not qualified:
        raise _not_portable(value, where)
    return f"{value.__module__}:{qualified}"


def _not_portable(value: Any, where: str) -> InputError:
    shown = repr(value) if len(repr(value)) < 80 else repr(value)[:77] + "..."
    return InputError(
        f"{where} is {shown}, a {type(value).__name__}, which cannot be saved without code. Save only the state, as in "
        "program.save('program.json'), or pickle the program: program.save('folder', save_program=True, modules_to_serialize=[])."
    )
