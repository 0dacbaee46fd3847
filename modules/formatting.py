"""What formats can be asked for beside their protocol, in DSPy's words: the chat of a call, and of an example to train on, as dictionaries.

Knows no particular format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homefire.engine.http_body import chat_turns
from homefire.modules.example import Example
from homefire.modules.format import Format
from homefire.modules.signature import Signature

Record = Example | Mapping[str, Any]


class Formatting:
    """Mixed into formats."""

    def format(
        self: Format, signature: type[Signature], demos: Sequence[Record], inputs: Record
    ) -> list[dict[str, Any]]:  # the messages as a server would get them
        """The messages that ask for the outputs, as dictionaries with `role` and `content`.

        Args:
            signature: What is asked.
            demos: Examples, shown as turns of the chat.
            inputs: By name.
        """
        return chat_turns(self.render(signature, [_plain(demo) for demo in demos], _plain(inputs)))

    def format_finetune_data(
        self: Format, signature: type[Signature], demos: Sequence[Record], inputs: Record, outputs: Record
    ) -> dict[str, list[dict[str, Any]]]:
        """One chat to train on, which ends with the answer."""
        messages = chat_turns(self.render(signature, [_plain(demo) for demo in demos], _plain(inputs)))
        answer = self.answer(signature, {name: outputs[name] for name in signature.output_fields})
        return {"messages": [*messages, {"role": "assistant", "content": answer}]}


def _plain(record: Record) -> Mapping[str, Any]:
    return record.toDict() if isinstance(record, Example) else record
