"""The conformance suite on the scripted engine, and what only it does: a script, and answers told in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from homefire.engine.request import Completion, Delta, Request
from homefire.engine.scripted_engine import ScriptedEngine, ScriptedLM
from homefire.errors import EngineError
from tests.engine.conformance import CAPITAL, CHECKS, Check, Subject, ask


def script(request: Request) -> str:
    """The text of a grammar that has only one, or what the user's turn is known for."""
    if request.grammar is not None and (found := re.fullmatch(r'root ::= "(.*)"\n', request.grammar.gbnf)):
        return re.sub(r"\\u([0-9a-f]{4})", lambda code: chr(int(code.group(1), 16)), found.group(1))
    return "It is Paris." if request.messages[-1].content == CAPITAL else "Once upon a time."


@pytest.fixture(scope="module")
def subject() -> Iterator[Subject]:
    likely = {" Paris.": -0.1, " Paris. It": -0.2, " Rome.": -3.0}
    engine = ScriptedEngine(script, scores=lambda request, text: likely.get(text, -9.0 - len(text)), context=2000)
    yield Subject(engine=engine, real=False, decode=lambda ids: "".join(map(chr, ids)))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(subject: Subject, check: Check) -> None:
    check(subject)


def test_thoughts_are_told_apart() -> None:
    said = Completion(text="Four.", thinking="Two and two.", token_ids=(1, 2), finish_reason="stop", prompt_tokens=1)
    heard: list[Delta] = []
    (completion,) = ScriptedEngine([said]).submit(ask(), heard.append).result()
    assert (completion.text, completion.thinking, completion.completion_tokens) == ("Four.", "Two and two.", 2)
    assert "".join(delta.text for delta in heard if delta.thinking) == "Two and two."
    assert "".join(delta.text for delta in heard if not delta.thinking) == "Four."


def test_answers_are_never_cached_and_scores_need_a_function() -> None:
    lm = ScriptedLM(["a"])
    assert (lm.scripted.info.identity, lm.scripted.info.scores) == ("", False)
    with pytest.raises(EngineError, match="scores="):
        lm.scripted.score(ask(), ["a"])


def test_a_script_that_is_too_short_says_so() -> None:
    with pytest.raises(EngineError, match="has 1 answers, and request 2 came"):
        ScriptedEngine(["a"]).submit(ask(n=2, temperature=1.0)).result()
