"""Answers made of parts between marks: written, read, closed where they were cut off, and their grammar.

Knows no prompt and no particular marks: the chat and XML formats say which marks they have. Free text stands raw between the marks; every
other value stands on one line as `ValueType.bare` writes it, which for lists and objects is JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from homefire.engine.grammar import Grammar, Term, seq
from homefire.modules.format import Choices, Closing
from homefire.modules.free_text import tight_text
from homefire.modules.marks import Marks, Part
from homefire.modules.output_values import check_all_given, read_all
from homefire.modules.signature import Field
from homefire.modules.type_grammar import TIGHT_CHARACTERS, TypeGrammar
from homefire.modules.values import value_type


@dataclass(frozen=True, slots=True)
class _Found:
    """A part in a text."""

    index: int
    start: int
    """Where its value begins."""
    body: str
    """Its value, or what there is of it."""
    is_whole: bool


class MarkedAnswers:
    """The answers of one signature.

    Args:
        outputs: Its outputs.
        marks: The marks of the format.
    """

    def __init__(self, outputs: Mapping[str, Field], marks: Marks) -> None:
        self.outputs = outputs
        self.marks = marks
        names = list(outputs)
        self.start = marks.start(names[0])
        pairs = zip(names, [*names[1:], None], strict=True)
        self.parts = [marks.part(name, value_type(outputs[name].type), following) for name, following in pairs]
        self._tight: dict[int, tuple[Grammar, int]] = {}

    def write(self, outputs: Mapping[str, Any]) -> str:
        """The answer with these outputs.

        Raises:
            InputError: one is missing, or none of its type.
        """
        check_all_given(self.outputs, outputs)
        return self.start + "".join(part.write(outputs[part.name]) + part.end for part in self.parts)

    def write_known(self, outputs: Mapping[str, Any]) -> str:
        """The answer of an incomplete demo: only the parts that it has."""
        if len(outputs) == len(self.parts):
            return self.write(outputs)
        known = {name: self.outputs[name] for name in self.outputs if name in outputs}
        return MarkedAnswers(known, self.marks).write(outputs) if known else ""

    def read(self, text: str) -> dict[str, Any]:
        """The typed outputs; a text that is not of the form is searched for the marks."""
        found = list(self._found(text.strip()))
        if len(found) == len(self.parts) and found[-1].is_whole:
            bodies = {self.parts[one.index].name: one.body for one in found}
        else:
            bodies = self.marks.find(list(self.outputs), text)
        parts = {part.name: part for part in self.parts}
        return read_all(self.outputs, bodies, lambda name, body: parts[name].read(body), text)

    @cached_property
    def grammar(self) -> Grammar:
        """The language of all answers."""
        types = TypeGrammar()
        parts: list[Term | str] = [self.start]
        for part in self.parts:
            if part.type.free:
                mark = part.free_text.mark
                parts += [part.free_text.term(types.builder, f"text-{self._marks.index(mark)}"), part.rest]
            else:
                parts += [self._bare(types, part), part.end]
        return types.builder.build(seq(*parts))

    def close(self, text: str) -> Closing:
        """What is whole of an answer that was cut off, and the grammar of what is missing."""
        text = text.rstrip("\ufffd")
        if not text.startswith(self.start):
            return self._closing(self.start, 0)
        for one in self._found(text):
            part = self.parts[one.index]
            if one.is_whole and part.has_form(one.body):
                continue
            opened = text[: one.start]
            kept = part.closed(text[one.start :])
            return self._closing(opened, one.index) if kept is None else self._closing(opened + kept, one.index + 1)
        return Closing(prefill=text, grammar=None, max_tokens=0)

    def closing(self, index: int) -> tuple[Grammar, int]:
        """The tight grammar from the value of a part on, and most tokens of it: a token holds at least one byte."""
        if index not in self._tight:
            types = TypeGrammar(tight=True)
            parts: list[Term | str] = []
            for part in self.parts[index:]:
                parts += [tight_text(TIGHT_CHARACTERS) if part.type.free else self._bare(types, part), part.end]
            whole = seq(*parts)
            self._tight[index] = types.builder.build(whole), types.length(whole) + 1
        return self._tight[index]

    def partial(self, text: str) -> dict[str, str]:
        """The text so far of every output that has begun."""
        at = text.find(self.start)
        found = [] if at < 0 else self._found(text[at:])
        return {self.parts[one.index].name: self.parts[one.index].shown(one.body, is_whole=one.is_whole) for one in found}

    def choices(self, name: str, outputs: Mapping[str, Any]) -> Choices | None:
        """How each value of an output would be written behind the outputs before it; None without a fixed set of values."""
        index = list(self.outputs).index(name)
        part = self.parts[index]
        values = part.type.choices()
        if values is None:
            return None
        before = self.parts[:index]
        check_all_given([one.name for one in before], outputs)
        prefill = self.start + "".join(one.write(outputs[one.name]) + one.end for one in before)
        return Choices(prefill=prefill, values=values, texts=tuple(part.write(value) + part.stop for value in values))

    @cached_property
    def _marks(self) -> list[str]:
        """The marks that end free texts."""
        return list(dict.fromkeys(part.free_text.mark for part in self.parts))

    def _bare(self, types: TypeGrammar, part: Part) -> Term:
        term = types.bare(part.type.annotation, f"The output {part.name!r}")
        assert term is not None, "only free text has no bare term"
        return term

    def _closing(self, prefill: str, index: int) -> Closing:
        if index == len(self.parts):
            return Closing(prefill=prefill, grammar=None, max_tokens=0)
        grammar, most = self.closing(index)
        return Closing(prefill=prefill, grammar=grammar, max_tokens=most)

    def _found(self, text: str) -> Iterator[_Found]:
        """The parts of the beginning of an answer, in order; the last of them may be unfinished."""
        if not text.startswith(self.start):
            return
        position = len(self.start)
        for index, part in enumerate(self.parts):
            end = part.ending.search(text, position)
            if end is None:
                yield _Found(index, position, text[position:], False)
                return
            yield _Found(index, position, text[position : end.start()], True)
            position = end.end()
