"""What a reasoning model thinks before it answers: found in its chat template, allowed by grammars, kept apart from the text.

Knows no tokenizer and no engine. A block stands at the beginning of an answer, once, between a pair of tags; models that write their
thoughts in another way, in channels for instance, are not understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from homefire.engine.grammar import Chars, Grammar, GrammarBuilder, Repeat, Rule, Term, choice, seq

_CLOSING = re.compile(r"<(?P<angle>/(?:seed:)?(?:think|thinking|thought|reasoning))>|\[(?P<square>/(?:think|thinking))\]", re.IGNORECASE)
_SWITCH = re.compile(r"\{[%{-][^%}]*(?<![\w.'\"\[])(?:enable_)?thinking(?![\w'\"])")
_GBNF_PARTS = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*|(?<![\w-])root(?![\w-])')


@dataclass(frozen=True, slots=True)
class Tags:
    """What stands around the thoughts of a model."""

    opening: str
    closing: str

    @property
    def end(self) -> str:
        """What ends a block that is open."""
        return f"\n{self.closing}\n\n"

    def switched_off(self, prompt: str) -> str:
        """A prompt, rendered up to where the answer begins, whose answer has no block."""
        tail = prompt.rstrip()
        if tail.endswith(self.closing):
            return prompt
        return prompt + self.end if tail.endswith(self.opening) else f"{prompt}{self.opening}\n{self.end}"

    def without_block(self, answer: str) -> str:
        """An answer of an earlier turn without what was thought before it."""
        if not answer.lstrip().startswith(self.opening) or self.closing not in answer:
            return answer
        return answer.split(self.closing, 1)[1].lstrip()


def find_tags(template: str) -> Tags | None:
    """The tags that a chat template knows of; None for a model that does not think."""
    found = _CLOSING.search(template)
    return None if found is None else Tags(found.group().replace("/", "", 1), found.group())


def has_switch(template: str) -> bool:
    """Whether a chat template has a variable that switches thinking on and off."""
    return _SWITCH.search(template) is not None


@dataclass(frozen=True, slots=True)
class Thinking:
    """The block that one answer may begin with.

    >>> Thinking(Tags("<think>", "</think>"), begun=True).split("Two and two.</think>Four.")
    ('Two and two.', 'Four.')
    """

    tags: Tags
    begun: bool
    """Whether the prompt ends with the opening tag, so that the answer begins inside the block."""

    def wrap(self, grammar: Grammar) -> Grammar:
        """The language of a block, or of none where the prompt has not begun one, and then of an answer."""
        return _wrapped(self.tags, self.begun, grammar)

    def split(self, text: str) -> tuple[str, str]:
        """The thoughts and the answer of a completion that may be cut off anywhere."""
        stream = self.stream()
        pieces = [*stream.feed(text), *stream.finish()]
        return "".join(piece for piece, thought in pieces if thought), "".join(piece for piece, thought in pieces if not thought)

    def inside(self, text: str) -> bool:
        """Whether a completion ends inside the block."""
        stream = self.stream()
        stream.feed(text)
        return stream.inside

    def stream(self) -> ThinkingStream:
        """A `split` of text that comes in pieces."""
        return ThinkingStream(self.tags, self.begun)


class ThinkingStream:
    """Tells thoughts from answer while the text still comes; all pieces together are what `Thinking.split` gives."""

    def __init__(self, tags: Tags, begun: bool) -> None:
        self._tags = tags
        self._begun = begun
        self._state: Literal["start", "blank", "thought", "gap", "answer"] = "start"
        self._held = ""

    @property
    def inside(self) -> bool:
        """Whether what has come ends inside the block."""
        return self._state in ("blank", "thought") or (self._state == "start" and self._begun)

    def feed(self, piece: str) -> list[tuple[str, bool]]:
        """The pieces that are certain now, each with whether it is thought."""
        self._held += piece
        pieces: list[tuple[str, bool]] = []
        if self._state == "start":
            self._start()
        if self._state in ("blank", "thought"):
            self._think(pieces)
        if self._state == "gap" and (rest := self._held.lstrip()):
            self._state, self._held = "answer", rest
        if self._state == "answer" and self._held:
            pieces.append((self._held, False))
            self._held = ""
        return pieces

    def finish(self) -> list[tuple[str, bool]]:
        """What was held back, at the end of the text."""
        rest = self._held.strip() if self._state in ("start", "blank") and self._begun else self._held
        rest = rest.rstrip() if self.inside else rest
        kept = [] if not rest or self._state == "gap" else [(rest, self.inside)]
        self._held = ""
        return kept

    def _start(self) -> None:
        """Waits until it is certain whether the text begins with the opening tag."""
        said = self._held.lstrip()
        if said.startswith(self._tags.opening):
            self._state, self._held = "blank", said[len(self._tags.opening) :]
        elif not self._tags.opening.startswith(said):
            self._state = "blank" if self._begun else "answer"

    def _think(self, pieces: list[tuple[str, bool]]) -> None:
        """Tells thoughts, and holds back blanks and beginnings of the closing tag, which may not belong to them."""
        if self._state == "blank":
            self._held = self._held.lstrip()
        body, closing, rest = self._held.partition(self._tags.closing)
        if not closing:
            body = body[: len(body) - _overlap(body, self._tags.closing)]
        body = body.rstrip()
        if body:
            pieces.append((body, True))
            self._state = "thought"
        self._state, self._held = ("gap", rest) if closing else (self._state, self._held[len(body) :])


def _overlap(text: str, tag: str) -> int:
    """Length of the longest beginning of the tag, short of all of it, that the text ends with."""
    return next((length for length in range(len(tag) - 1, 0, -1) if text.endswith(tag[:length])), 0)


@lru_cache(maxsize=512)
def _wrapped(tags: Tags, begun: bool, grammar: Grammar) -> Grammar:
    builder = GrammarBuilder()
    answer = Rule("thinking-answer")
    rest = _until(builder, tags.closing, seq(Repeat(Chars(r"\n"), 0, 2), answer))
    root: Term = rest if begun else choice([answer, seq(tags.opening, rest)])
    renamed = _GBNF_PARTS.sub(lambda part: answer.name if part.group() == "root" else part.group(), grammar.gbnf)
    return replace(grammar, gbnf=builder.build(root).gbnf + renamed)


def _until(builder: GrammarBuilder, tag: str, after: Term) -> Rule:
    """Text up to the first tag, the tag, and what comes then: the automaton of Knuth, Morris and Pratt as right-recursive rules.

    State k has just read the first k characters of the tag.
    """
    builder.define("thinking-after", after)
    for state in range(len(tag)):
        reached = {char: state + 1 if char == tag[state] else _overlap(tag[:state] + char, tag) for char in sorted(set(tag))}
        onward = {char: target for char, target in reached.items() if target}
        others = Chars("^" + "".join(map(_in_class, onward)))
        options = [seq(char, _state(target, tag)) for char, target in onward.items()]
        lost = seq(others, _state(0, tag))
        builder.define(_state(state, tag).name, seq(Repeat(others), *options) if state == 0 else choice([*options, lost]))
    return _state(0, tag)


def _state(number: int, tag: str) -> Rule:
    return Rule("thinking-after" if number == len(tag) else f"thinking-{number}")


def _in_class(char: str) -> str:
    return f"\\{char}" if char in r"\]^-[" else char
