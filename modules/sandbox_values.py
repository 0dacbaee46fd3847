"""Values on their way into a sandbox and out of it: plain data of bounded size, however they were made.

Knows no sandbox. A sandbox can return a list that holds itself twice, sixty levels deep: whatever walks such a value must count.
"""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Protocol, runtime_checkable
from uuid import UUID

from pydantic import BaseModel

from homefire.errors import InputError
from homefire.modules.example import Example

MAX_DEPTH = 100
_SCALARS = (type(None), bool, int, float, complex, str, bytes, datetime.date, datetime.datetime, datetime.time, datetime.timedelta, Decimal)


@runtime_checkable
class SandboxSerializable(Protocol):
    """A value that says itself what code in a sandbox sees of it."""

    def to_sandbox(self) -> Any:
        """Plain data: None, numbers, texts, bytes, dates, lists, tuples, sets and dicts."""
        ...


@runtime_checkable
class _Frame(Protocol):
    """A table of pandas."""

    columns: Any

    def to_dict(self, orient: str) -> Any: ...


@runtime_checkable
class _Rows(Protocol):
    """A table of polars."""

    def to_dicts(self) -> Any: ...


@runtime_checkable
class _Arrow(Protocol):
    """A table or array of pyarrow."""

    def to_pylist(self) -> Any: ...


@runtime_checkable
class _Array(Protocol):
    """An array or number of numpy, a tensor, a series."""

    def tolist(self) -> Any: ...


_SPECIAL = (SandboxSerializable, _Rows, _Frame, _Arrow, _Array)


class TooLarge(Exception):
    """A value is larger or deeper than was allowed."""


def plain_input(value: Any, where: str, *, depth: int = 0) -> Any:
    """A value of the host as plain data: records as dicts, tables as lists of dicts, arrays as lists.

    Args:
        value: What to give.
        where: What it is, for the error.
        depth: Levels around it.

    Raises:
        InputError: there is no plain form, or it is nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise InputError(f"{where} is nested more than {MAX_DEPTH} levels deep, or contains itself. Give flatter data.")
    if type(value) in _SCALARS:
        return value
    if isinstance(value, SandboxSerializable):
        return plain_input(value.to_sandbox(), where, depth=depth + 1)

    def inner(item: Any) -> Any:
        return plain_input(item, where, depth=depth + 1)

    match value:
        case Mapping():
            return {inner(key): inner(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return _kind(value)(inner(item) for item in value)
        case Example():
            return inner(dict(value.items()))
        case BaseModel():
            return inner(value.model_dump(by_alias=True))
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: inner(getattr(value, field.name)) for field in fields(value)}
    return inner(_as_data(value)) if isinstance(value, _SPECIAL) else _plain_scalar(value, where)


def _kind(value: Any) -> type[Any]:
    return next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))


def readable(value: Any, plain: Any) -> Any:
    """What a prompt shows of an input that code gets as plain data: the value itself, but of tables and arrays what the code sees."""
    return plain if isinstance(value, _SPECIAL) else value


def _as_data(value: Any) -> Any:
    match value:
        case SandboxSerializable():
            return value.to_sandbox()
        case _Rows():
            return value.to_dicts()
        case _Frame():
            return value.to_dict("records")
        case _Arrow():
            return value.to_pylist()
    return value.tolist()


def _plain_scalar(value: Any, where: str) -> Any:
    """A value of a subclass of a plain type as the plain type has it."""
    match value:
        case enum.Enum():
            return plain_input(value.value, where)
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case datetime.datetime():
            return None if value != value else datetime.datetime.fromisoformat(value.isoformat())
        case PurePath() | UUID():
            return str(value)
    raise InputError(
        f"{where} is {type(value).__name__}, which code in a sandbox cannot have. Give numbers, texts, lists, dicts, records or tables, "
        "or give the class a method `to_sandbox(self)` that returns such data."
    )


def plain_output(value: Any, most: int) -> Any:
    """A value of the sandbox as a tree of plain data of its own.

    Args:
        value: What came out.
        most: Most characters that it may take as text, counted roughly.

    Raises:
        TooLarge: it is larger, or nested too deeply.
    """
    return _Copier(most).copy(value, 0)


class _Copier:
    """Copies a value and counts what that takes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most

    def copy(self, value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise TooLarge(f"it is nested more than {MAX_DEPTH} levels deep")
        self._spend(value)
        match value:
            case list():
                return [self.copy(item, depth + 1) for item in value]
            case tuple():
                return tuple(self.copy(item, depth + 1) for item in value)
            case frozenset():
                return frozenset(self._hashed(item, depth + 1) for item in value)
            case set():
                return {self._hashed(item, depth + 1) for item in value}
            case dict():
                return {self._hashed(key, depth + 1): self.copy(item, depth + 1) for key, item in value.items()}
            case _ if type(value) in _SCALARS:
                return value
            case str() | PurePath():
                return str(value)
        return self._object(value, depth)

    def _hashed(self, value: Any, depth: int) -> Any:
        """A key or a member of a set; what has become a dict is written as text."""
        copied = self.copy(value, depth)
        try:
            hash(copied)
        except TypeError:
            return shown(copied)
        return copied

    def _object(self, value: Any, depth: int) -> Any:
        """An instance of a class of the sandbox as a dict of its attributes; whatever else there is as text."""
        if type(value).__name__ == "MontyClassProxy":
            return self.copy(dict(value.attributes), depth + 1)
        said = repr(value) if type(value).__module__.startswith("pydantic_monty") else type(value).__name__
        self._spend(said)
        return said

    def _spend(self, value: Any) -> None:
        match value:
            case str() | bytes():
                self._left -= len(value) + 2
            case int():
                self._left -= 1 + int(value.bit_length() * math.log10(2))
            case _:
                self._left -= 2
        if self._left < 0:
            raise TooLarge(f"it is larger than {self._most} characters")


def shown(value: Any) -> str:
    """A value as a model reads it in a prompt's transcript."""
    if isinstance(value, str):
        return value
    try:
        return repr(value)
    except (ValueError, RecursionError) as error:
        return f"<{type(value).__name__} that cannot be written: {error}>"


def clipped(text: str, most: int) -> str:
    """A text of at most so many characters, with a notice where some were left out: its beginning and its end."""
    if len(text) <= most:
        return text
    tail = most // 4
    return f"{text[: most - tail]}\n[... {len(text) - most} characters left out ...]\n{text[len(text) - tail :]}"
