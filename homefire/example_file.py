"""A user's own examples for a signature: columns of a file become typed fields.

Knows no program and no metric: every value that does not fit its type is found before anything runs, and named with its line.
"""

from __future__ import annotations

import difflib
import enum
import json
import logging
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from homefire.configs.rows_file import Table, in_lines, read_table
from homefire.errors import InputError
from homefire.modules.example import Example
from homefire.modules.signature import Field, Signature

MOST_CHOICES = 200
_SHOWN_ROWS = 5
_SHOWN_CHOICES = 30
_SHOWN_CHARACTERS = 60

_log = logging.getLogger(__name__)


def read_examples(
    path: str | Path, signature: type[Signature], *, needs_outputs: bool, notice: Callable[[str], None] = _log.warning
) -> list[Example]:
    """Reads examples that know their inputs from CSV, TSV or JSON Lines; see `examples_of`."""
    return examples_of(read_table(path, list(signature.fields)), signature, needs_outputs=needs_outputs, notice=notice)


def examples_of(
    table: Table, signature: type[Signature], *, needs_outputs: bool, notice: Callable[[str], None] = _log.warning
) -> list[Example]:
    """The rows of a table as examples of a signature, in order. Columns that are no fields are left out.

    Text becomes the type of its field: `3` an int, `yes` a bool, `["a"]` a list; an empty field is None where the type allows it. Values of
    JSON Lines keep their types. Rows whose inputs are all empty are skipped with a notice.

    Args:
        table: what `read_table` gave.
        signature: says which columns are wanted, and their types.
        needs_outputs: whether there must be a column for at least one output; rows in which such a column is empty are then skipped, too.
        notice: is told in one sentence what was left out and why.

    Raises:
        InputError: a column is missing, no row is left, or values do not fit their types; the first five such rows are named.
    """
    fields = _wanted(table, signature, needs_outputs)
    converters = [_Converter(field, table.typed) for field in fields]
    examples: list[Example] = []
    empty: list[int] = []
    wrong: list[tuple[int, list[str]]] = []
    for line, row in table.rows:
        if _is_empty(row, converters, needs_outputs):
            empty.append(line)
            continue
        values: dict[str, Any] = {}
        problems: list[str] = []
        for converter in converters:
            if converter.field.role == "output" and converter.lacks(row):
                continue
            try:
                values[converter.field.name] = converter(row)
            except _DoesNotFit as problem:
                problems.append(str(problem))
        examples.append(Example(values).with_inputs(*signature.input_fields))
        if problems:
            wrong.append((line, problems))
    if wrong:
        raise InputError(_all_wrong(table, wrong))
    if empty:
        notice(f"{table.path}: {len(empty)} rows lack their inputs or an expected output and were left out: {in_lines(empty)}.")
    if not examples:
        raise InputError(f"{table.path} has no rows that can be used. Expected is at least one with {' and '.join(signature.fields)}.")
    return examples


def choices_of(tables: Sequence[Table], field: Field) -> tuple[str | int, ...]:
    """The different values of a column, sorted: the classes of a classification.

    Raises:
        InputError: there is no such column, it holds only one value or more than `MOST_CHOICES`, or values that cannot be choices.
    """
    found: set[str | int] = set()
    for table in tables:
        column = table.column(field.name, "The choices are its values.")
        for line, row in table.rows:
            value = row.get(column)
            if _is_blank(value):
                continue
            try:
                value = value if table.typed else _Converter(field, typed=False)(row)
            except _DoesNotFit as problem:
                raise InputError(f"{table.path}, line {line}: {problem}. Correct the value, or the type in the signature.") from None
            if not isinstance(value, str | int):
                said = "a choice is a text, a whole number, true or false"
                raise InputError(f"{table.path}, line {line}: {column} is {_short(value)}; {said}. Leave out --choices {column}.")
            found.add(value)
    where = " and ".join(str(table.path) for table in tables)
    if len(found) < 2:
        held = f"only the value {next(iter(found))!r}" if found else "no value"
        raise InputError(f"The column {field.name!r} of {where} holds {held}; choices need at least two. Add rows of other classes.")
    if len(found) > MOST_CHOICES:
        raise InputError(
            f"The column {field.name!r} of {where} holds {len(found)} different values, more than {MOST_CHOICES}. "
            f"Is it the column of the classes? Leave out --choices {field.name}, merge rare values, or write the type into the signature."
        )
    return tuple(sorted(found, key=lambda value: (isinstance(value, str), value)))


def _wanted(table: Table, signature: type[Signature], needs_outputs: bool) -> list[Field]:
    if not table.columns:
        raise InputError(f"{table.path} is empty; rows with {' and '.join(signature.fields)} are expected.")
    inputs = [signature.input_fields[table.column(name, _advice(signature))] for name in signature.input_fields]
    outputs = [field for name, field in signature.output_fields.items() if name in table.columns]
    if needs_outputs and not outputs:
        table.column(next(iter(signature.output_fields)), _advice(signature))
    return [*inputs, *outputs]


def _advice(signature: type[Signature]) -> str:
    sides = ", ".join(signature.input_fields), ", ".join(signature.output_fields)
    return f"The signature has the inputs {sides[0] or '(none)'} and the outputs {sides[1]}: rename the column or the field."


class _DoesNotFit(InputError):
    """One value that is not of its type, in words."""


class _Converter:
    """Takes the value of one field out of a row."""

    def __init__(self, field: Field, typed: bool) -> None:
        self.field = field
        self._typed = typed
        self._optional = type(None) in get_args(field.type)
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(field.type)
        except PydanticSchemaGenerationError:
            raise InputError(
                f"The {field.role} {field.name!r} has the type {field.type!r}, which cannot be read from a file. "
                "Use text, numbers, lists, dicts or pydantic models."
            ) from None

    def lacks(self, row: dict[str, Any]) -> bool:
        """Whether the row has no value where the type wants one."""
        return _is_blank(row.get(self.field.name)) and not self._optional

    def __call__(self, row: dict[str, Any]) -> Any:
        value = row.get(self.field.name)
        try:
            if self._typed:
                return self._adapter.validate_json(json.dumps(value), strict=True)
            return self._from_text(value or "")
        except ValidationError as error:
            why = "" if _name(self.field.type) else f" ({error.errors()[0]['msg']})"
            raise _DoesNotFit(f"{self.field.name} is {_short(value)}; expected {_expected(self.field.type, value)}{why}") from None

    def _from_text(self, value: str) -> Any:
        text = value.strip()
        if self.field.type is str:
            return value if self.field.role == "input" else text
        if not text and self._optional:
            return None
        try:
            return self._adapter.validate_python(text)
        except ValidationError:
            return self._adapter.validate_json(text)


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _is_empty(row: dict[str, Any], converters: Sequence[_Converter], needs_outputs: bool) -> bool:
    inputs = [converter.field.name for converter in converters if converter.field.role == "input"]
    if inputs and all(_is_blank(row.get(name)) for name in inputs):
        return True
    return needs_outputs and any(converter.lacks(row) for converter in converters if converter.field.role == "output")


def _all_wrong(table: Table, wrong: Sequence[tuple[int, Sequence[str]]]) -> str:
    shown = "".join(f"\n  - line {line}: {'; '.join(problems)}" for line, problems in wrong[:_SHOWN_ROWS])
    more = f"\n  - and {len(wrong) - _SHOWN_ROWS} more rows" if len(wrong) > _SHOWN_ROWS else ""
    rows = "1 row does" if len(wrong) == 1 else f"{len(wrong)} rows do"
    return f"{rows} not fit the signature in {table.path}:{shown}{more}\nCorrect the values, or the types in the signature."


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _expected(annotation: Any, value: Any) -> str:
    """A type as people say it; a choice with the nearest one to the value."""
    choices = _choices(annotation)
    if not choices:
        return _name(annotation) or f"{str(annotation).replace('typing.', '') if get_args(annotation) else annotation.__name__} as JSON"
    by_text = {str(choice): choice for choice in choices}
    near = difflib.get_close_matches(str(value), list(by_text), n=1)
    shown = ", ".join(repr(choice) for choice in choices[:_SHOWN_CHOICES])
    more = f" and {len(choices) - _SHOWN_CHOICES} more" if len(choices) > _SHOWN_CHOICES else ""
    return f"one of {shown}{more}{f'; did you mean {by_text[near[0]]!r}?' if near else ''}"


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return tuple(member.value for member in annotation)
    return ()


def _name(annotation: Any) -> str | None:
    """Words for a type without inner structure; None for the others."""
    plain = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "nothing"}
    if annotation in plain:
        return plain[annotation]
    if _choices(annotation):
        return "one of " + ", ".join(repr(choice) for choice in _choices(annotation)[:_SHOWN_CHOICES])
    if get_origin(annotation) in (Union, types.UnionType):
        names = [_name(member) for member in get_args(annotation)]
        return " or ".join(name for name in names if name) if all(names) else None
    return None
