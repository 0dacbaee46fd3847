"""The chat of a call: the system turn, demos, the turns of a history, the inputs.

Knows no format's marks: how inputs and outputs are written in a turn is its caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from homefire.engine.request import Message
from homefire.errors import InputError
from homefire.modules.custom_type import Rendering, custom_types
from homefire.modules.history import History, is_history
from homefire.modules.media import MediaType
from homefire.modules.prompt_text import encodable, input_text
from homefire.modules.signature import Signature

Values = Mapping[str, Any]


class ChatTurns:
    """Writes the chats of one signature.

    Args:
        signature: The signature.
        system: Text of the system turn.
        user: Writes the texts of inputs, by name, as a turn.
        answer: Writes the outputs that there are as an answer.
    """

    def __init__(
        self, signature: type[Signature], system: str, user: Callable[[Mapping[str, str]], str], answer: Callable[[Values], str]
    ) -> None:
        inputs = signature.input_fields
        self._system = Message("system", system)
        self._user, self._answer = user, answer
        self._inputs, self._outputs = tuple(inputs), tuple(signature.output_fields)
        self._histories = frozenset(name for name, field in inputs.items() if is_history(field.type))
        self._custom = {name: field.type for name, field in inputs.items() if custom_types(field.type)}
        self._loaders: dict[str, TypeAdapter[Any]] = {}

    def messages(self, demos: Sequence[Values], inputs: Values) -> tuple[Message, ...]:
        """The whole chat.

        Raises:
            InputError: a value cannot be shown, or a history has turns of something else.
        """
        turns = [self._system]
        for demo in demos:
            turns += self._exchange(demo)
        turns += self._past(inputs)
        turns.append(self._asked(inputs))
        return tuple(turns if len(turns) == 2 else _joined(turns))

    def _exchange(self, values: Values) -> Iterator[Message]:
        """A demo: what came before it, its inputs and its outputs."""
        yield from self._past(values)
        yield self._asked(values)
        yield self._answered(values)

    def _asked(self, values: Values) -> Message:
        rendering, texts = Rendering(), {}
        for name in self._inputs:
            if name in values and name not in self._histories:
                value = self._loaded(name, values[name]) if name in self._custom else values[name]
                if not isinstance(value, History):
                    texts[name] = input_text(name, value, rendering)
        return rendering.message("user", self._user(texts))

    def _answered(self, values: Values) -> Message:
        return Message("assistant", encodable(self._answer({name: values[name] for name in self._outputs if name in values})))

    def _past(self, values: Values) -> Iterator[Message]:
        """The turns of the histories among the inputs."""
        for name in self._inputs:
            value = values.get(name)
            history = self._loaded(name, value) if name in self._histories and value is not None else value
            if isinstance(history, History):
                for number, turn in enumerate(history.messages, 1):
                    self._check_turn(name, number, turn)
                    if any(one in turn for one in self._inputs):
                        yield self._asked(turn)
                    if any(one in turn for one in self._outputs):
                        yield self._answered(turn)

    def _check_turn(self, name: str, number: int, turn: Values) -> None:
        known = [one for one in (*self._inputs, *self._outputs) if one not in self._histories]
        unknown = [one for one in turn if one not in known]
        if unknown or not turn:
            has = f"has {', '.join(map(repr, unknown))}, which is no field of the signature" if unknown else "is empty"
            form = ", ".join(f"{one!r}: ..." for one in known)
            raise InputError(f"Turn {number} of the history {name!r} {has}. Write turns as History(messages=[{{{form}}}, ...]).")

    def _loaded(self, name: str, value: Any) -> Any:
        """The value as its type, where it comes as JSON has it, out of a saved demo for instance.

        Raises:
            InputError: it is none of the type, and its text would not do either.
        """
        annotation = self._custom[name]
        if isinstance(annotation, type) and isinstance(value, annotation):
            return value
        try:
            if name not in self._loaders:
                self._loaders[name] = TypeAdapter(annotation)
            return self._loaders[name].validate_python(value)
        except ValidationError:
            exact = [cls.__name__ for cls in custom_types(annotation) if issubclass(cls, (MediaType, History))]
        if not exact:
            return value
        shown = repr(value) if len(repr(value)) < 80 else repr(value)[:80] + "..."
        raise InputError(f"The input {name!r} is {shown}, a {type(value).__name__}; expected {exact[0]}. Write {name}={exact[0]}(...).")


def _joined(turns: Sequence[Message]) -> Iterator[Message]:
    """The turns, a user's that follow each other as one: many chat templates refuse two in a row."""
    last = turns[0]
    for turn in turns[1:]:
        if turn.role == last.role == "user":
            parts = (*(last.parts or (last.content,)), "\n\n", *(turn.parts or (turn.content,)))
            text = f"{last.content}\n\n{turn.content}"
            last = Message("user", text, parts if last.parts or turn.parts else ())
            continue
        yield last
        last = turn
    yield last
