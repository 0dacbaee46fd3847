"""What code came to, as the outputs of a signature: taken as they are where they have the types, and not otherwise.

Knows no model and no interpreter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from homefire.errors import HomefireError, InputError, ParseError
from homefire.modules.interpreter import FinalOutput, Ran
from homefire.modules.sandbox_values import clipped, shown
from homefire.modules.signature import Field, Signature
from homefire.modules.type_words import in_words
from homefire.modules.values import value_type

_FAILURES = (HomefireError, ValueError, TypeError, RecursionError)


def taken(signature: type[Signature], ran: Ran) -> dict[str, Any] | None:
    """The outputs that a snippet computed: its value, or what it printed; None where they do not have the types."""
    value = ran.value.output if isinstance(ran.value, FinalOutput) else ran.value
    names = list(signature.output_fields)
    try:
        if isinstance(value, Mapping) and set(names) <= set(value):
            return typed(signature, {name: value[name] for name in names})
        if len(names) > 1:
            return None
        field = signature.output_fields[names[0]]
        if value is not None:
            return {field.name: _typed(field, value)}
        return {field.name: value_type(field.type).from_bare(ran.printed.strip())} if ran.printed.strip() else None
    except _FAILURES:
        return None


def typed(signature: type[Signature], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of all outputs, made to fit their types.

    Raises:
        InputError: some are missing, unknown or of another type; says which, for whoever wrote the code.
    """
    wanted = ", ".join(f"{field.name}: {in_words(field.type)}" for field in signature.output_fields.values())
    problems = [f"{name} is missing" for name in signature.output_fields if name not in values]
    problems += [f"there is no output {name!r}" for name in values if name not in signature.output_fields]
    made = {}
    for name, field in signature.output_fields.items():
        if name in values:
            try:
                made[name] = _typed(field, values[name])
            except _FAILURES as error:
                said = str(error) if isinstance(error, HomefireError) else f"{type(error).__name__}: {error}"
                problems.append(f"{name}: {clipped(said, 300)}")
    if problems:
        raise InputError(f"The result cannot be taken: {'; '.join(problems)}. Wanted: {wanted}.")
    return made


def _typed(field: Field, value: Any) -> Any:
    kind = value_type(field.type)
    plain = to_jsonable_python(value)
    try:
        return kind.load(plain)
    except ParseError:
        if kind.free and isinstance(value, int | float):
            return kind.load(str(value))
        raise


def transcript(ran: Ran) -> str:
    """What a snippet printed and its value, as a model reads it."""
    value = ran.value.output if isinstance(ran.value, FinalOutput) else ran.value
    parts = [ran.printed.rstrip("\n")] if ran.printed.strip() else []
    parts += [shown(value)] if value is not None else []
    return "\n".join(parts) or "(no output)"


def wanted_value(signature: type[Signature]) -> str:
    """What the value of a program's last line has to be, in words."""
    fields = list(signature.output_fields.values())
    if len(fields) == 1:
        return f"{fields[0].name}: {in_words(fields[0].type)}"
    return "a dict {" + ", ".join(f"{field.name!r}: {in_words(field.type)}" for field in fields) + "}"
