"""The conformance suite on vLLM in this process with the real small model, in float32, and its answers beside those of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from homefire.engine.grammar import Grammar
from homefire.engine.request import Message, Request
from tests.engine.conformance import CAPITAL, CHECKS, STORY, Check, Subject, answers, ask
from tests.engine.real_engines import random_adapter, subject_of


@pytest.fixture(scope="module")
def subject(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("conformance")
    with subject_of(smollm2, "vllm", folder, adapter=random_adapter(smollm2, folder)) as made:
        yield made


def test_transformers_answers_the_same(subject: Subject, smollm2: Path, tmp_path: Path) -> None:
    """Greedy tokens of both, of prompts of different lengths in one batch, with grammars and without, are equal within float32's noise."""
    requests = [
        ask(CAPITAL, max_tokens=12, logprobs=True),
        ask(STORY, max_tokens=12, logprobs=True),
        ask("Translate to French: good morning. " * 8, max_tokens=12, logprobs=True),
        ask("When was the moon landing?", max_tokens=16, logprobs=True, grammar=Grammar('root ::= "year " [0-9]{4}\n')),
        ask(STORY, max_tokens=8, logprobs=True, repetition_penalty=1.3),
    ]
    choices = Request(messages=(Message("user", CAPITAL),), prefill="It is"), [" Paris.", " Rome.", " a", " a city", " Banana split."]
    expected, likely = answers(subject, *requests), subject.engine.score(*choices).result(300)
    with subject_of(smollm2, "transformers", tmp_path) as other:
        got, scores = answers(other, *requests), other.engine.score(*choices).result(300)
    for (one,), (two,) in zip(expected, got, strict=True):
        assert one.token_ids == two.token_ids
        assert (one.text, one.finish_reason, one.prompt_tokens) == (two.text, two.finish_reason, two.prompt_tokens)
        assert one.logprobs == pytest.approx(two.logprobs, abs=0.01)
    assert [score - scores[0] for score in scores] == pytest.approx([score - likely[0] for score in likely], abs=0.01)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(subject: Subject, check: Check) -> None:
    check(subject)
