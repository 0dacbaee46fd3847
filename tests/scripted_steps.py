"""Scripted answers for programs of several steps, each step known by its instructions, and a retriever over fixed answers.

Knows no program.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from homefire import Passage, Request, ScriptedLM, Signature

Said = dict[str, Any] | Callable[[str], dict[str, Any]]


def scripted(*answers: tuple[type[Signature], Said]) -> ScriptedLM:
    """Answers each signature, known by its instructions, with values or with what a function makes of the user's message."""

    def answer(request: Request) -> str:
        for signature, said in answers:
            if request.messages[0].content.startswith(signature.instructions):
                return json.dumps(said(request.messages[-1].content) if callable(said) else said)
        raise AssertionError(f"nobody expected {request.messages[0].content!r}")

    return ScriptedLM(answer)


def asked(lm: ScriptedLM, signature: type[Signature]) -> list[str]:
    """The user's messages of all requests for a signature."""
    return [one.messages[-1].content for one in lm.scripted.requests if one.messages[0].content.startswith(signature.instructions)]


class Shelf:
    """A retriever over fixed answers; a query that it does not know finds nothing."""

    def __init__(self, found: dict[str, list[Passage | str]]) -> None:
        self.found = found
        self.queries: list[str] = []

    def __call__(self, query: str, k: int) -> Sequence[Passage | str]:
        self.queries.append(query)
        return self.found.get(query, [])[:k]


def passage(text: str) -> Passage:
    return Passage(id=text, text=text, source=f"{text.split(maxsplit=1)[0]}.txt")
