"""vLLM with options that change how it runs: adapters chosen per request, tokens guessed ahead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homefire.engine.choice import choose
from homefire.engine.machine import detect
from homefire.engine.model_facts import model_facts
from homefire.engine.request import AdapterRef, Message, Request, Sampling
from homefire.engine.settings import EngineSettings
from homefire.engine.threaded_engine import ThreadedEngine
from homefire.engine.vllm_arguments import MOST_ADAPTERS
from homefire.engine.vllm_backend import VllmBackend
from homefire.errors import EngineError
from tests.engine.real_engines import random_adapter
from tests.engine.test_vllm_backend import teacher_forced

SMALL = EngineSettings(dtype="float32", context=512, max_batch=8, kv_cache_gib=0.2)
WAIT = 300.0


def started(path: Path, **changes: Any) -> ThreadedEngine:
    return ThreadedEngine("small", path, choose(replace(SMALL, **changes), detect(), model_facts(path)), VllmBackend)


def ask(text: str, adapter: AdapterRef | None = None, max_tokens: int = 8) -> Request:
    return Request(messages=(Message("user", text),), sampling=Sampling(max_tokens=max_tokens, logprobs=True), adapter=adapter)


@pytest.fixture(scope="module")
def plain(smollm2: Path) -> Iterator[ThreadedEngine]:
    engine = started(smollm2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def versions(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> list[AdapterRef]:
    made = []
    for version in range(1, MOST_ADAPTERS + 3):
        folder = tmp_path_factory.mktemp(f"version{version}")
        made.append(replace(random_adapter(smollm2, folder, scale=0.1 * version), version=version))
    return made


@pytest.mark.filterwarnings("ignore:Found missing adapter keys")  # PEFT's, of the layers that the adapter leaves as they are
def test_adapters_are_chosen_per_request_by_version(smollm2: Path, versions: list[AdapterRef]) -> None:
    """Two versions and the base model in one batch, each with its own numbers, those of PEFT; old versions are dropped."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    texts = ["Red.", "Blue.", "I cannot."]
    served = [None, versions[0], versions[3]]
    engine = started(smollm2, adapter_mode="hot")
    try:
        futures = [engine.score(ask("Name a colour.", adapter), texts) for adapter in served]
        answers = [engine.submit(ask("Name a colour.", adapter)) for adapter in served]
        scores = [future.result(WAIT) for future in futures]
        logprobs = [future.result(WAIT)[0].logprobs for future in answers]
        for adapter in versions:
            assert engine.submit(ask("Name a colour.", adapter, max_tokens=2)).result(WAIT)
        held: list[int] = []
        engine._ask(lambda: held.extend(engine._backend._engine.list_loras()))  # type: ignore[attr-defined]
        assert len(held) <= MOST_ADAPTERS
        again = engine.submit(ask("Name a colour.", versions[0])).result(WAIT)[0].logprobs
    finally:
        engine.close()
    assert len(set(logprobs)) == 3
    assert again == pytest.approx(logprobs[1], abs=0.01)
    for adapter, score in zip(served, scores, strict=True):
        model = AutoModelForCausalLM.from_pretrained(smollm2, dtype="float32").eval()
        model = model if adapter is None else PeftModel.from_pretrained(model, adapter.path).eval()
        assert score == pytest.approx(teacher_forced(model, smollm2, ask("Name a colour."), texts), abs=0.01)


@pytest.mark.filterwarnings(r"ignore:\s*Encountered the use of a type")  # numba, of vLLM's own code
def test_guessing_ahead_changes_no_answer(smollm2: Path, plain: ThreadedEngine) -> None:
    """What repeats the prompt, so that guesses are right, and what does not.

    In a process of its own: guessing loads numba, and where that is loaded no later engine of these tests could compute in this process.
    """
    text = "Copy: order 4711 of Ada Lovelace, order 4711 of Ada Lovelace, order 4711 of"
    requests = [ask(text, max_tokens=32), ask("Tell me a story.", max_tokens=24)]
    expected = [plain.submit(request).result(WAIT)[0] for request in requests]
    engine = started(smollm2, speculative_ngram=4, own_process=True)
    try:
        futures = [engine.submit(request) for request in requests]
        for future, answer in zip(futures, expected, strict=True):
            got = future.result(WAIT)[0]
            assert got.token_ids == answer.token_ids
            assert got.logprobs == pytest.approx(answer.logprobs, abs=0.01)
        assert not engine.info.scores
        with pytest.raises(EngineError, match="speculative_ngram"):
            engine.score(requests[0], ["Ada", "Bob"])
        sampled = Sampling(max_tokens=4, temperature=1.0, n=2, top_k=5, top_p=0.9, repetition_penalty=1.1, seed=1)
        assert len(engine.submit(replace(requests[1], sampling=sampled)).result(WAIT)) == 2
    finally:
        engine.close()
