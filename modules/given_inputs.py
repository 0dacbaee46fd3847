"""The inputs of one call of a program, checked with words that show the right call.

Knows no program, only its signature.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from homefire.errors import InputError
from homefire.modules.signature import Signature

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def named_inputs(signature: type[Signature], inputs: Mapping[str, Any], program: str, stacklevel: int = 8) -> dict[str, Any]:
    """The inputs in the order of the signature; those that it does not have are left out with a warning.

    Args:
        signature: What goes in.
        inputs: What was given.
        program: What the program is called in the words.
        stacklevel: Of the warning.

    Raises:
        InputError: one is missing.
    """
    call = f"{program}({', '.join(f'{name}=...' for name in signature.input_fields)})"
    if missing := [name for name in signature.input_fields if name not in inputs]:
        raise InputError(f"The input {', '.join(missing)} is missing; there is {', '.join(inputs) or 'none'}. Write {call}.")
    if unknown := [name for name in inputs if name not in signature.input_fields]:
        message = f"The input {', '.join(unknown)} is not in the signature; it is left out. Write {call}."
        warnings.warn(message, stacklevel=stacklevel)
    return {name: inputs[name] for name in signature.input_fields}


def check_by_name(forward: Callable[..., Any], names: Iterable[str], program: str) -> None:
    """Refuses inputs that were given by position to a `forward` that takes all by name.

    Raises:
        InputError: it does.
    """
    if not any(one.kind in _POSITIONAL for one in inspect.signature(forward).parameters.values()):
        call = ", ".join(f"{name}=..." for name in names)
        raise InputError(f"{program} takes its inputs by name. Write program({call}).")
