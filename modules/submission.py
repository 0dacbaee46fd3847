"""SUBMIT: the function by which code gives the outputs of a signature, and ends.

Knows no interpreter; one of these is made for each run.
"""

from __future__ import annotations

from typing import Any

from homefire.errors import InputError
from homefire.modules.code_answer import typed
from homefire.modules.interpreter import Direct, Finished, Ran
from homefire.modules.sandbox_values import shown
from homefire.modules.signature import Signature


class Submission:
    """What one run submits.

    Args:
        signature: Whose outputs it is.
    """

    def __init__(self, signature: type[Signature]) -> None:
        self._signature = signature
        self.outputs: dict[str, Any] | None = None
        """The outputs, once they are submitted with the right types."""
        self.function = Direct(self.submit)
        """For the code to call."""

    def submit(self, *values: Any, **named: Any) -> None:
        """Takes the outputs, in their order, by name or as one dict, and ends the snippet.

        Raises:
            InputError: they are not what the signature asks for.
            Finished: they are.
        """
        names = list(self._signature.output_fields)
        if len(values) > len(names):
            raise InputError(f"SUBMIT takes {', '.join(names)}, but {len(values)} values were given.")
        given = {**dict(zip(names, values, strict=False)), **named}
        if len(values) == 1 and not named and isinstance(values[0], dict) and set(values[0]) == set(names):
            given = values[0]
        self.outputs = typed(self._signature, given)
        raise Finished

    def text(self, ran: Ran) -> str:
        """A snippet that has submitted, as a model reads it."""
        return "\n".join([*([ran.printed.rstrip()] if ran.printed.strip() else []), f"SUBMIT: {shown(self.outputs)}"])
