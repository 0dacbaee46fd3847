"""History: the earlier turns of a conversation, as an input.

Knows no format: a format writes the turns as it writes demos.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from homefire.modules.custom_type import Type, custom_types


class History(Type):
    """Earlier turns, each with values of the signature's inputs and outputs by name; some may be missing.

    An input of this type is not shown as a field: its turns stand in the chat before the new one.

    >>> history = History(messages=[{"question": "Two and two?", "answer": "Four."}])
    >>> history.add({"answer": "Nine."}, question="Three times three?").messages[1]
    {'question': 'Three times three?', 'answer': 'Nine.'}
    """

    messages: list[dict[str, Any]] = Field(default_factory=list)

    def add(self, outputs: Mapping[str, Any] | None = None, /, **inputs: Any) -> History:
        """This history with one more turn.

        Args:
            outputs: What was answered: a Prediction, or values by name.
            inputs: What it was answered to. A history among them is left out.
        """
        asked = {name: value for name, value in inputs.items() if not isinstance(value, History)}
        return History(messages=[*self.messages, {**asked, **dict((outputs or {}).items())}])

    def __len__(self) -> int:
        return len(self.messages)

    def __repr__(self) -> str:
        return f"History({len(self.messages)} turn{'' if len(self.messages) == 1 else 's'})"

    __str__ = __repr__


def is_history(annotation: Any) -> bool:
    """Whether values of an annotation are histories, or None."""
    return any(issubclass(cls, History) for cls in custom_types(annotation))
