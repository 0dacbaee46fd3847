"""What a server has shown that it does not take, so that it is asked once and not at every call.

Knows no connection: it is told of refusals and says what to ask for instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from homefire.engine.dialects import Dialect, level_for
from homefire.engine.grammar import Grammar
from homefire.engine.http_answer import excerpt
from homefire.engine.http_errors import Refused
from homefire.engine.protocol import Structured

_DISPENSABLE = ("temperature", "top_p", "seed")
_FORM_WORDS = ("response_format", "schema", "grammar", "json", "structured")


@dataclass(slots=True)
class Learned:
    """What a server has refused so far."""

    step: int = 0
    """Place of the level that still works, in the dialect's levels."""
    refused: dict[Grammar, int] = field(default_factory=dict)
    """The step of grammars that were refused by themselves."""
    left_out: set[str] = field(default_factory=set)
    """Fields that it does not take."""
    long_name: bool = False
    """Whether the limit of tokens is called `max_completion_tokens`."""
    one_by_one: bool = False
    """Whether it gives one completion a request."""
    no_tokenizer: bool = False
    """Whether it has no address that counts tokens."""

    def level(self, dialect: Dialect, grammar: Grammar | None) -> Structured:
        """What is enforced for a grammar."""
        step = self.refused.get(grammar, 0) if grammar is not None else 0
        return level_for(dialect, grammar, max(self.step, step))

    def learn(self, refused: Refused, body: Mapping[str, Any], dialect: Dialect, grammar: Grammar | None) -> tuple[str, str] | None:
        """Learns from a refusal of a body.

        Returns:
            What to tell the user, as a name and words that may be empty, when another body is worth sending; None when not.
        """
        said = f"{refused.param} {refused.said}".lower()
        if "max_completion_tokens" in said and "max_tokens" in body:
            self.long_name = True
            return "max_tokens", ""
        for name in _DISPENSABLE:
            if name in body and (refused.param == name or f"'{name}'" in said):
                self.left_out.add(name)
                return name, f"does not take {name}={body[name]}, so it is left out"
        if "n" in body and (refused.param == "n" or "'n'" in said or "`n`" in said):
            self.one_by_one = True
            return "n", ""
        return self._step_down(refused, said, dialect, grammar)

    def _step_down(self, refused: Refused, said: str, dialect: Dialect, grammar: Grammar | None) -> tuple[str, str] | None:
        level = self.level(dialect, grammar)
        about_form = any(word in said for word in _FORM_WORDS)
        if grammar is None or level not in dialect.levels[:-1] or not (about_form or not dialect.known):
            return None
        step = dialect.levels.index(level) + 1
        if "invalid schema" in said or dialect.known:
            self.refused[grammar] = step
        else:
            self.step = step
        after = self.level(dialect, grammar)
        left = {"json": "only that the answer is JSON", "json_schema": "a JSON Schema"}.get(after, "nothing, and the answer is checked")
        return f"level {after}", f"refused {level} ({excerpt(refused.said, 120)}); it enforces {left}"
