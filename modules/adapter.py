"""Adapter: the base of a prompt dialect of a user's own, written in DSPy's way as `format` and `parse`.

Knows no grammar: what the model writes is free, and an answer that cannot be read is asked for once more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from homefire.engine.http_body import chat_turns
from homefire.engine.request import Message
from homefire.errors import HomefireError, InputError, ParseError
from homefire.modules.format import Choices, Closing
from homefire.modules.formatting import Formatting
from homefire.modules.history import History
from homefire.modules.output_values import read_all
from homefire.modules.prompt_text import correction_text, described, input_text
from homefire.modules.signature import Signature
from homefire.modules.values import ValueType, value_type

Values = Mapping[str, Any]
Turns = list[dict[str, Any]]


class Adapter(Formatting):
    """Write `parse`, and `format` or the methods that it puts together.

    >>> class Shouting(Adapter):
    ...     def format(self, signature, demos, inputs):
    ...         return [{"role": "user", "content": f"{signature.instructions} {inputs}".upper()}]
    ...     def parse(self, signature, completion):
    ...         return {name: completion for name in signature.output_fields}

    Then `configure(adapter=Shouting())`. What `parse` returns is made to fit the types of the outputs, also from text; what it raises is a
    reason to ask the model once more.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "parse" in vars(cls):
            cls.parse = _typed(vars(cls)["parse"])  # type: ignore[method-assign]

    def format(self, signature: type[Signature], demos: Sequence[Any], inputs: Any) -> Turns:
        """The messages of a call: a system turn, each demo as two turns, the turns of a history, the inputs."""
        turns = [{"role": "system", "content": self.format_system_message(signature)}, *self.format_demos(signature, demos)]
        for name in signature.input_fields:
            turns += self.format_conversation_history(signature, name, inputs)
        asked = {name: value for name, value in inputs.items() if not isinstance(value, History)}
        return [*turns, {"role": "user", "content": self.format_user_message_content(signature, asked, main_request=True)}]

    def format_system_message(self, signature: type[Signature]) -> str:
        """What the outputs are, what an answer looks like, and the task."""
        parts = (self.format_field_description(signature), self.format_field_structure(signature), self.format_task_description(signature))
        return "\n".join(part for part in parts if part)

    def format_field_description(self, signature: type[Signature]) -> str:
        """Each output with its type."""
        return "\n".join(f"- {name}: {described(field)}" for name, field in signature.output_fields.items())

    def format_field_structure(self, signature: type[Signature]) -> str:
        """What an answer looks like."""
        return ""

    def format_task_description(self, signature: type[Signature]) -> str:
        """The instructions."""
        return signature.instructions

    def format_demos(self, signature: type[Signature], demos: Sequence[Any]) -> Turns:
        """Two turns for each demo."""
        turns: Turns = []
        for demo in demos:
            inputs = {name: demo[name] for name in signature.input_fields if name in demo}
            turns.append({"role": "user", "content": self.format_user_message_content(signature, inputs)})
            turns.append({"role": "assistant", "content": self.format_assistant_message_content(signature, demo)})
        return turns

    def format_conversation_history(self, signature: type[Signature], history_field_name: str, inputs: Values) -> Turns:
        """The turns of an input that is a history; of any other, none."""
        history = inputs.get(history_field_name)
        return self.format_demos(signature, history.messages) if isinstance(history, History) else []

    def format_user_message_content(
        self, signature: type[Signature], inputs: Values, prefix: str = "", suffix: str = "", main_request: bool = False
    ) -> str:
        """The inputs as a turn of the user; `main_request` is whether it is the one to answer."""
        texts = [f"{name}: {input_text(name, inputs[name])}" for name in signature.input_fields if name in inputs]
        return "\n\n".join(part for part in (prefix, *texts, suffix) if part)

    def format_assistant_message_content(
        self, signature: type[Signature], outputs: Values, missing_field_message: str | None = None
    ) -> str:
        """The outputs as an answer; of one that is not there, what is given in its place."""
        values = {name: outputs.get(name, missing_field_message) for name in signature.output_fields}
        return "\n\n".join(f"{name}: {input_text(name, value)}" for name, value in values.items() if value is not None)

    def parse(self, signature: type[Signature], completion: str) -> dict[str, Any]:
        """The outputs in an answer, by name."""
        raise TypeError(f"{type(self).__name__} does not say how an answer is read. Write `def parse(self, signature, completion)` in it.")

    def render(self, signature: type[Signature], demos: Sequence[Values], inputs: Values) -> tuple[Message, ...]:
        return tuple(_message(type(self).__name__, turn) for turn in self.format(signature, [dict(demo) for demo in demos], dict(inputs)))

    def grammar(self, signature: type[Signature]) -> None:
        return None

    def answer(self, signature: type[Signature], outputs: Values) -> str:
        return self.format_assistant_message_content(signature, outputs)

    def close(self, signature: type[Signature], text: str) -> Closing:
        return Closing(prefill=text, grammar=None, max_tokens=0)

    def reserve(self, signature: type[Signature]) -> int:
        return 0

    def partial(self, signature: type[Signature], text: str) -> dict[str, str]:
        return {}

    def choices(self, signature: type[Signature], name: str, outputs: Values) -> Choices | None:
        raise InputError(f"{name!r} has no probabilities, for what the model writes is free in {type(self).__name__}. Use another format.")

    def correction(self, signature: type[Signature], problems: Sequence[str]) -> str:
        return correction_text(problems)

    def format_finetune_data(
        self, signature: type[Signature], demos: Sequence[Any], inputs: Any, outputs: Any
    ) -> dict[str, list[dict[str, Any]]]:
        """One chat to train on, which ends with the answer."""
        messages = chat_turns(self.render(signature, demos, inputs))
        return {"messages": [*messages, {"role": "assistant", "content": self.answer(signature, outputs)}]}


def _typed(parse: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """A user's `parse` whose values have the types of the outputs, and whose failures are errors of the answer."""

    @wraps(parse)
    def typed(self: Adapter, signature: type[Signature], completion: str) -> dict[str, Any]:
        try:
            found = parse(self, signature, completion)
        except HomefireError:
            raise
        except Exception as error:
            raise ParseError(f"The answer cannot be read: {type(error).__name__}: {error}: {completion!r}", completion) from error
        if not isinstance(found, Mapping):
            raise ParseError(f"{type(self).__name__}.parse gave {found!r}; expected a dict of the outputs by name.", completion)
        outputs = signature.output_fields
        return read_all(outputs, found, lambda name, value: _fitted(value_type(outputs[name].type), value), completion)

    return typed


def _fitted(kind: ValueType, value: Any) -> Any:
    if isinstance(value, str):
        return kind.from_bare(value)
    try:
        return kind.load(kind.dump(value))
    except InputError as error:
        raise ParseError(str(error), repr(value)) from None


def _message(adapter: str, turn: Any) -> Message:
    match turn:
        case {"role": "system" | "user" | "assistant" as role, "content": str(content)}:
            return Message(role, content)
    raise InputError(f"{adapter}.format gave the message {turn!r}; expected {{'role': 'user', 'content': '...'}}.")
