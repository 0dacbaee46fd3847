"""Redaction: what of a run is private and is not kept.

Knows no store: values go in and the same values without what is private come out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from homefire.modules.stored_trace import Run, as_plain

LEFT_OUT = "[left out]"
_LEAST = 3
"""Characters of a private text that is looked for elsewhere; shorter ones would hit by chance."""

Redact = Collection[str] | Callable[[str], str]
"""Names of private fields, or a function that every text goes through."""


class Redaction:
    """Takes what is private out of the parts of one run, in the order in which they happened.

    A private field is left out wherever it stands, and so is its text in prompts, answers and other fields. A step that has such a field
    keeps neither its prompt nor its completions.

    Args:
        redact: What is private.
    """

    def __init__(self, redact: Redact) -> None:
        self._change = redact if callable(redact) else None
        self._names = frozenset() if callable(redact) else frozenset([redact] if isinstance(redact, str) else redact)
        self._texts: set[str] = set()

    def learn_run(self, run: Run) -> None:
        """Notes the private texts of a whole run."""
        for fields in (run.inputs, run.outputs, *(call.inputs for call in run.calls)):
            self.learn(fields)
        for step in run.trace.calls:
            self.learn(step.inputs)
            self.learn(step.prediction._store)

    def learn(self, fields: Mapping[str, Any]) -> None:
        """Notes the private texts among these fields, so that they are found in what is cleaned from now on."""
        for name in self._names & set(fields):
            self._texts.update(text for text in _texts_in(as_plain(fields[name])) if len(text) >= _LEAST)

    def clean(self, body: Any) -> Any:
        """A body, in plain values, without what is private."""
        plain: dict[str, Any] = as_plain(body)
        private = False
        for part in ("inputs", "outputs"):
            values = plain.get(part)
            if isinstance(values, dict) and (names := self._names & set(values)):
                private = True
                values.update(dict.fromkeys(names, LEFT_OUT))
        if private and "messages" in plain:
            plain |= {"messages": [], "completions": [], "answer": "", "thinking": ""}
        found: dict[str, Any] = self._without(plain)
        for completion in found.get("completions", []):
            if completion not in plain["completions"]:
                completion |= {"token_ids": [], "logprobs": None}
        return found

    def text(self, text: str) -> str:
        """A text without what is private."""
        for private in sorted(self._texts, key=len, reverse=True):
            text = text.replace(private, LEFT_OUT)
        return text if self._change is None else str(self._change(text))

    def _without(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case list():
                return [self._without(item) for item in value]
            case dict():
                return {key: self._without(item) for key, item in value.items()}
            case _:
                return value


def _texts_in(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case list():
            return [text for item in value for text in _texts_in(item)]
        case dict():
            return [text for item in value.values() for text in _texts_in(item)]
        case _:
            return []
