"""Formats whose answers are parts between marks; what chat markers and XML share.

Knows no engine and no particular marks.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from homefire.engine.grammar import Grammar
from homefire.engine.request import Message
from homefire.modules.chat_turns import ChatTurns
from homefire.modules.format import Choices, Closing
from homefire.modules.formatting import Formatting
from homefire.modules.marked_answer import MarkedAnswers
from homefire.modules.marks import Part
from homefire.modules.prompt_text import correction_text, system_text
from homefire.modules.signature import Field, Signature
from homefire.modules.values import ValueType


class MarkedFormat(Formatting, ABC):
    """A Format; its subclasses are the `Marks` and say how they are explained."""

    def __init__(self) -> None:
        self._compiled: weakref.WeakKeyDictionary[type[Signature], _Compiled] = weakref.WeakKeyDictionary()

    @abstractmethod
    def start(self, name: str) -> str:
        """What stands before the value of the first part."""

    @abstractmethod
    def part(self, name: str, type: ValueType, following: str | None) -> Part:
        """A part and what follows it; None is the end of the answer."""

    @abstractmethod
    def find(self, names: Sequence[str], text: str) -> dict[str, str]:
        """The values that can be found in a text that is not quite of the form."""

    @abstractmethod
    def form(self, outputs: Mapping[str, Field]) -> list[str]:
        """The lines of the system turn that say what an answer looks like."""

    @abstractmethod
    def user(self, names: Sequence[str], texts: Mapping[str, str]) -> str:
        """The turn that gives the inputs, none of which can look like a mark of one of these names."""

    def render(self, signature: type[Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> tuple[Message, ...]:
        return self._of(signature).turns.messages(demos, inputs)

    def grammar(self, signature: type[Signature]) -> Grammar:
        return self._of(signature).answers.grammar

    def answer(self, signature: type[Signature], outputs: Mapping[str, Any]) -> str:
        return self._of(signature).answers.write(outputs)

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        return self._of(signature).answers.read(text)

    def close(self, signature: type[Signature], text: str) -> Closing:
        return self._of(signature).answers.close(text)

    def reserve(self, signature: type[Signature]) -> int:
        return self._of(signature).answers.closing(0)[1]

    def partial(self, signature: type[Signature], text: str) -> dict[str, str]:
        return self._of(signature).answers.partial(text)

    def choices(self, signature: type[Signature], name: str, outputs: Mapping[str, Any]) -> Choices | None:
        return self._of(signature).answers.choices(name, outputs)

    def correction(self, signature: type[Signature], problems: Sequence[str]) -> str:
        return correction_text(problems)

    def _of(self, signature: type[Signature]) -> _Compiled:
        found = self._compiled.get(signature)
        if found is None:
            found = self._compiled[signature] = _Compiled(self, signature)
        return found


class _Compiled:
    """What is made once of a signature."""

    def __init__(self, form: MarkedFormat, signature: type[Signature]) -> None:
        outputs = signature.output_fields
        self.answers = MarkedAnswers(outputs, form)
        system = system_text(signature, form.form(outputs))
        self.turns = ChatTurns(signature, system, partial(form.user, tuple(signature.fields)), self.answers.write_known)
