"""vLLM in this process with the real small model in float32: scores, samples, seeds, cancelling, memory."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from homefire.engine.choice import choose
from homefire.engine.grammar import Grammar
from homefire.engine.machine import detect
from homefire.engine.model_facts import model_facts
from homefire.engine.prompt import PromptEncoder
from homefire.engine.request import Message, Request, Sampling
from homefire.engine.settings import EngineSettings
from homefire.engine.threaded_engine import ThreadedEngine
from homefire.engine.vllm_arguments import CPU_BLOCK
from homefire.engine.vllm_backend import VllmBackend, shut_down
from homefire.errors import ContextTooLong

LONG = "You sort the messages that customers send to a bank. " * 6
LABELS = [f"{what} {why}" for what in ("card", "cash", "transfer") for why in ("declined", "not received", "fee", "fee charged twice")]
WAIT = 300.0


@pytest.fixture(scope="module")
def engine(smollm2: Path) -> Iterator[ThreadedEngine]:
    wish = EngineSettings(dtype="float32", context=1024, max_batch=32, kv_cache_gib=0.5)
    made = ThreadedEngine("small", smollm2, choose(wish, detect(), model_facts(smollm2)), VllmBackend)
    yield made
    made.close()


@pytest.fixture(scope="module")
def reference(smollm2: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32).eval()


def ask(text: str, *, prefill: str = "", grammar: Grammar | None = None, **sampling: Any) -> Request:
    return Request(
        messages=(Message("system", LONG), Message("user", text)),
        prefill=prefill,
        grammar=grammar,
        sampling=Sampling(**{"max_tokens": 8, **sampling}),
    )


def core(engine: ThreadedEngine) -> Any:
    """vLLM's scheduler; the backend is asked on the engine's own thread, so that nothing is read in the middle of a step."""
    backend = engine._backend
    assert isinstance(backend, VllmBackend)
    return backend._engine.engine_core.engine_core.scheduler


def kv_in_use(engine: ThreadedEngine) -> float:
    used: list[float] = []
    engine._ask(lambda: used.append(core(engine).kv_cache_manager.usage))
    return used[0]


def teacher_forced(model: Any, smollm2: Path, request: Request, texts: Sequence[str]) -> list[float]:
    """The log-probability of each text behind the prompt, by one forward pass of transformers for each."""
    encoder = PromptEncoder(smollm2)
    prompt = encoder.encode(request.messages)
    whole = [encoder.encode_text(request.prefill + text) for text in texts]
    shared = next(place for place, tokens in enumerate(zip(*whole, strict=False)) if len(set(tokens)) > 1)
    scores = []
    with torch.inference_mode():
        for ids in whole:
            logprobs = model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
            places = range(shared, len(ids))
            scores.append(sum(float(logprobs[len(prompt) + place - 1, ids[place]]) for place in places))
    return scores


@pytest.mark.parametrize("message", ["I lost my card.", "Where is my money? " * 5, "x"])
def test_scores_are_those_of_transformers(engine: ThreadedEngine, reference: Any, smollm2: Path, message: str) -> None:
    request, texts = ask(message, prefill='{"label":"'), [f'{label}"' for label in LABELS]
    expected = teacher_forced(reference, smollm2, request, texts)
    first = engine.score(request, texts).result(WAIT)
    assert first == pytest.approx(expected, abs=0.002)
    again = engine.score(request, list(reversed(texts))).result(WAIT)
    assert again[::-1] == pytest.approx(first, abs=0.002)


def test_labels_go_on_from_the_keys_and_values_of_their_prompt(engine: ThreadedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to its last token, and not only as far as whole blocks go; where that cannot be, the scores are the same."""
    request = ask("What does the customer want?", prefill=" ")
    seen: list[tuple[int, int]] = []
    answered = VllmBackend._answered

    def spy(backend: VllmBackend, name: str, scoring: Any, output: Any) -> Any:
        seen.append((len(output.prompt_token_ids), output.num_cached_tokens))
        return answered(backend, name, scoring, output)

    monkeypatch.setattr(VllmBackend, "_answered", spy)
    forked = engine.score(request, LABELS).result(WAIT)
    prompt = min(length for length, _ in seen)
    paths = [cached for length, cached in seen if length > prompt]
    assert prompt % CPU_BLOCK and len(paths) > 5 and set(paths) == {prompt}
    assert kv_in_use(engine) == 0 and not engine._backend._forks._trunks  # type: ignore[attr-defined]

    seen.clear()
    monkeypatch.setattr("homefire.engine.vllm_backend.LONGEST_TRUNK", 1)  # it ends before the others begin
    assert engine.score(request, LABELS).result(WAIT) == pytest.approx(forked, abs=0.002)
    assert {cached for length, cached in seen if length > prompt} == {prompt // CPU_BLOCK * CPU_BLOCK}


def test_scores_of_long_texts_whose_tokens_are_cached_already(engine: ThreadedEngine, reference: Any, smollm2: Path) -> None:
    """The second time whole blocks of the texts' own tokens are in the cache, and vLLM computes nothing for them."""
    shared = "the customer says that the card was declined in a shop although there was enough money on the account " * 2
    request, texts = ask("Sum up.", prefill="Today "), [f"{shared}{end}." for end in ("today", "yesterday", "twice")]
    texts.append("nothing happened.")
    assert len(PromptEncoder(smollm2).encode_text(texts[0])) > CPU_BLOCK
    expected = teacher_forced(reference, smollm2, request, texts)
    for _ in range(2):
        assert engine.score(request, texts).result(WAIT) == pytest.approx(expected, abs=0.005)


def test_a_text_that_shares_a_token_with_the_prefill(engine: ThreadedEngine, reference: Any, smollm2: Path) -> None:
    request, texts = ask("Name a city.", prefill="The city is Lon"), ["don.", "g Beach.", "donderry."]
    assert engine.score(request, texts).result(WAIT) == pytest.approx(teacher_forced(reference, smollm2, request, texts), abs=0.002)


def test_many_labels_are_one_batch_on_a_shared_prompt(engine: ThreadedEngine) -> None:
    """77 texts cost far fewer computed tokens than 77 prompts."""
    texts = [f'{label} {number}"' for label in LABELS for number in range(7)][:77]
    request = ask("I lost my card.", prefill='{"label":"')
    backend, computed, steps = engine._backend, 0, 0
    assert isinstance(backend, VllmBackend)
    step = backend._engine.step

    def counting() -> Any:
        nonlocal computed, steps
        outputs = step()
        steps += 1
        computed += sum(len(one.prompt_token_ids) - one.num_cached_tokens for one in outputs)
        return outputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend._engine, "step", counting)
        scores = engine.score(request, texts).result(WAIT)
    assert len(scores) == 77
    assert steps <= 8
    assert computed < 77 * engine.count_tokens(request) / 2


def test_a_cancelled_score_stops_all_its_questions(engine: ThreadedEngine) -> None:
    future = engine.score(ask("Something new."), [f"text {number}" for number in range(100)])
    until(lambda: core(engine).get_num_unfinished_requests() > 0)
    assert future.cancel()
    until(lambda: core(engine).get_num_unfinished_requests() == 0)
    assert engine.submit(ask("Hi")).result(WAIT)[0].text
    assert kv_in_use(engine) == 0


def test_scores_that_do_not_fit_are_refused(engine: ThreadedEngine) -> None:
    with pytest.raises(ContextTooLong):
        engine.score(ask("Hi"), ["a", "very long " * 1000])
    with pytest.raises(ContextTooLong):
        engine.submit(replace(ask("Hi"), reserve=1020))


def test_samples_have_token_ids_and_logprobs(engine: ThreadedEngine) -> None:
    digits = Grammar('root ::= "year " [0-9]{4}\n')
    request = ask("When?", grammar=digits, n=3, temperature=1.0, seed=1, max_tokens=16, logprobs=True)
    for listener in (None, [].append):
        samples = engine.submit(request, listener).result(WAIT)
        assert len(samples) == 3
        for sample in samples:
            assert sample.logprobs is not None
            assert len(sample.logprobs) == len(sample.token_ids) == sample.completion_tokens
            assert all(logprob <= 0 for logprob in sample.logprobs)
            assert sample.text.startswith("year ")


def test_drawing_is_narrowed_as_asked(engine: ThreadedEngine) -> None:
    """With only the likeliest token left to draw from, drawing is greedy, whatever the temperature."""
    greedy = engine.submit(ask("Tell me a story.", max_tokens=12)).result(WAIT)[0].token_ids
    for narrowed in ({"top_k": 1}, {"min_p": 1.0}, {"top_p": 0.0001}):
        drawn = engine.submit(ask("Tell me a story.", max_tokens=12, temperature=1.5, seed=3, **narrowed)).result(WAIT)
        assert drawn[0].token_ids == greedy
    free = engine.submit(ask("Tell me a story.", max_tokens=12, temperature=1.5, seed=3)).result(WAIT)
    assert free[0].token_ids != greedy
    repeated = engine.submit(ask("Say: la la la la la la", max_tokens=24)).result(WAIT)[0].text
    penalized = engine.submit(ask("Say: la la la la la la", max_tokens=24, repetition_penalty=1.8)).result(WAIT)[0].text
    assert penalized != repeated


def test_a_seed_gives_the_same_samples_whatever_else_runs(engine: ThreadedEngine) -> None:
    request = ask("Tell me a story.", n=3, temperature=1.0, seed=11, max_tokens=12)
    alone = [sample.token_ids for sample in engine.submit(request).result(WAIT)]
    assert len(set(alone)) == 3
    others = [engine.submit(ask(f"Count to {number}.", temperature=1.0, max_tokens=12)) for number in range(6)]
    crowded = [sample.token_ids for sample in engine.submit(request).result(WAIT)]
    assert crowded == alone
    wait(others)
    other_seed = replace(request, sampling=replace(request.sampling, seed=12))
    assert [sample.token_ids for sample in engine.submit(other_seed).result(WAIT)] != alone


def test_cancelling_frees_keys_and_values(engine: ThreadedEngine) -> None:
    futures = [engine.submit(ask(f"Write a book about {number}.", max_tokens=200)) for number in range(12)]
    until(lambda: kv_in_use(engine) > 0)
    for future in futures[::2]:
        assert future.cancel()
    until(lambda: core(engine).get_num_unfinished_requests() <= 6)
    for future in futures[1::2]:
        future.cancel()
    until(lambda: kv_in_use(engine) == 0)
    assert core(engine).get_num_unfinished_requests() == 0
    assert engine.submit(ask("Hi")).result(WAIT)[0].text


def test_a_hundred_threads_cancel_at_random(engine: ThreadedEngine) -> None:
    def one(number: int) -> str:
        source = random.Random(number)
        listener = (lambda delta: None) if number % 3 == 0 else None
        if number % 5 == 4:
            future: Future[Any] = engine.score(ask(f"Number {number}"), ["yes", "no", "perhaps not"])
        else:
            future = engine.submit(ask(f"Number {number}", max_tokens=6, n=1 + number % 2, temperature=1.0), listener)
        if number % 2:
            time.sleep(source.random() * 2)
            future.cancel()
        try:
            return "answered" if future.result(WAIT) else "empty"
        except CancelledError:
            return "cancelled"

    with ThreadPoolExecutor(100) as threads:
        ends = list(threads.map(one, range(100)))
    assert set(ends) == {"answered", "cancelled"}
    assert ends[::2] == ["answered"] * 50
    until(lambda: core(engine).get_num_unfinished_requests() == 0)
    assert kv_in_use(engine) == 0
    assert engine.submit(ask("Hi")).result(WAIT)[0].text


LONG_TEST = pytest.mark.skipif("HOMEFIRE_LONG_TESTS" not in os.environ, reason="takes ten minutes; HOMEFIRE_LONG_TESTS=1 runs it")


@pytest.mark.parametrize("requests", [600, pytest.param(10_000, marks=[LONG_TEST, pytest.mark.timeout(3600)])])
def test_memory_stays_flat(engine: ThreadedEngine, requests: int) -> None:
    def run(first: int, count: int) -> None:
        for start in range(first, first + count, 100):
            futures = [engine.submit(Request(messages=(Message("user", str(n)),), sampling=ONE)) for n in range(start, start + 100)]
            assert all(future.result(WAIT)[0].completion_tokens == 1 for future in futures)

    run(0, 200)
    before = psutil.Process().memory_info().rss
    run(200, requests)
    assert psutil.Process().memory_info().rss - before < 64 * 2**20
    assert not engine._running
    backend = engine._backend
    assert isinstance(backend, VllmBackend)
    assert not (backend._streams or backend._scorings)


ONE = Sampling(max_tokens=1)


def until(true: Any) -> None:
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_ends_while_vllm_kills_it_is_no_failure() -> None:
    """vLLM's client as it is then: its processes are gone, and what it holds itself is not freed."""

    class Core:
        freed = False

        def shutdown(self) -> None:
            psutil.Process(2**22 + 1)

        def resources(self) -> None:
            self.freed = True

    one = Core()
    with pytest.raises(psutil.NoSuchProcess):
        one.shutdown()
    shut_down(one)
    assert one.freed
