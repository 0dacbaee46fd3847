"""The transformers backend step by step, with the real small model and with tiny models of other builds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from homefire.engine.drawing import draw, penalize, random_source
from homefire.engine.grammar import Grammar
from homefire.engine.key_value_batch import KeyValueBatch, halving, is_out_of_memory
from homefire.engine.prompt import PromptEncoder
from homefire.engine.request import Completion, Message, Request, Sampling
from homefire.engine.threaded_engine import Ended
from homefire.engine.transformers_backend import TransformersBackend
from homefire.errors import EngineError, InputError
from tests.engine.real_engines import small_settings

PROMPTS = ("What is the capital of France?", "Tell me a story. " * 9, "Hi", "Count from one to ten.", "Name a colour that I may like.")
ANY = Grammar("root ::= [^x]{1,40}\n")


class Desk:
    """Asks a backend without a thread between."""

    def __init__(self, path: Path) -> None:
        self.backend = TransformersBackend(path, replace(small_settings(path, "transformers"), max_batch=4))
        self.encoder = PromptEncoder(path)
        self.heard: list[tuple[str, int, tuple[int, ...]]] = []
        self.ended: dict[str, Ended] = {}

    def ask(self, name: str, text: str, *, grammar: Grammar | None = None, stream: bool = False, **sampling: Any) -> None:
        drawn = Sampling(**{"max_tokens": 6, **sampling})
        request = Request(messages=(Message("user", text),), sampling=drawn, grammar=grammar)
        self.backend.add(name, self.encoder.encode_request(request), drawn, request, stream)

    def step(self) -> None:
        self.ended |= self.backend.step(lambda name, index, tokens: self.heard.append((name, index, tuple(tokens))))

    def drain(self) -> dict[str, Ended]:
        while self.backend._rows or self.backend._waiting or self.backend._scorings:
            self.step()
        return self.ended

    def tokens(self, name: str) -> list[tuple[int, ...]]:
        completions = self.ended[name]
        assert isinstance(completions, list)
        return [one.token_ids for one in completions if isinstance(one, Completion)]


@pytest.fixture(scope="module")
def shared(smollm2: Path) -> Desk:
    return Desk(smollm2)


@pytest.fixture
def desk(shared: Desk) -> Iterator[Desk]:
    shared.heard, shared.ended = [], {}
    yield shared
    for row in [*shared.backend._rows, *shared.backend._waiting]:
        shared.backend.abort(row.asked.request_id)


@pytest.fixture(scope="module")
def alone(shared: Desk) -> dict[str, list[tuple[int, ...]]]:
    """Greedy tokens of each prompt in a batch of its own."""
    found = {}
    for text in PROMPTS:
        shared.ask(text, text)
        shared.drain()
        found[text] = shared.tokens(text)
    return found


def test_a_batch_changes_no_answer(desk: Desk, alone: dict[str, list[tuple[int, ...]]]) -> None:
    for text in PROMPTS:
        desk.ask(text, text)
    desk.drain()
    assert {text: desk.tokens(text) for text in PROMPTS} == alone


def test_requests_join_and_leave_between_tokens(desk: Desk, alone: dict[str, list[tuple[int, ...]]]) -> None:
    for text in PROMPTS[:3]:
        desk.ask(text, text)
        desk.step()
    desk.backend.abort(PROMPTS[1])
    assert [row.asked.request_id for row in desk.backend._rows] == [PROMPTS[0], PROMPTS[2]]
    longest = max(len(row.asked.prompt_ids) + len(row.tokens) for row in desk.backend._rows)
    assert desk.backend._batch._mask.shape[1] <= longest, "the padding of a row that left stayed"
    desk.ask(PROMPTS[3], PROMPTS[3])
    desk.drain()
    assert {text: desk.tokens(text) for text in (PROMPTS[0], PROMPTS[2], PROMPTS[3])} == {
        text: alone[text] for text in (PROMPTS[0], PROMPTS[2], PROMPTS[3])
    }
    assert PROMPTS[1] not in desk.ended


def test_models_whose_caches_cannot_be_put_together_run_batch_after_batch(
    desk: Desk, alone: dict[str, list[tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyValueBatch, "can_grow", property(lambda batch: batch._cache is None))
    desk.ask(PROMPTS[0], PROMPTS[0])
    desk.step()
    desk.ask(PROMPTS[2], PROMPTS[2])
    desk.step()
    assert len(desk.backend._rows) == 1
    desk.drain()
    assert [desk.tokens(text) for text in (PROMPTS[0], PROMPTS[2])] == [alone[text] for text in (PROMPTS[0], PROMPTS[2])]


def test_samples_share_their_prompt_and_tell_their_tokens(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    watch(desk, monkeypatch, lambda ids: shapes.append(tuple(ids.shape)))
    desk.ask("a", PROMPTS[0], n=3, temperature=1.0, seed=1, max_tokens=3, stream=True)
    desk.drain()
    assert [rows for rows, _ in shapes] == [1, 3, 3]
    for index, tokens in enumerate(desk.tokens("a")):
        assert tokens == tuple(token for name, sample, new in desk.heard for token in new if (name, sample) == ("a", index))


def test_a_seed_repeats_whatever_else_runs(desk: Desk) -> None:
    desk.ask("a", PROMPTS[0], n=2, temperature=1.0, seed=5)
    desk.drain()
    desk.ask("other", PROMPTS[1], temperature=1.0)
    desk.step()
    desk.ask("b", PROMPTS[0], n=2, temperature=1.0, seed=5)
    desk.ask("c", PROMPTS[0], n=2, temperature=1.0)
    desk.drain()
    assert desk.tokens("a") == desk.tokens("b") != desk.tokens("c")
    assert len(set(desk.tokens("a"))) == 2


def test_a_broken_grammar_and_a_broken_row_fail_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="start rule named root"):
        desk.ask("bad", "x", grammar=Grammar("word ::= [a]\n"))
    desk.ask("good", PROMPTS[0], grammar=ANY, n=2, temperature=1.0)
    desk.ask("rotten", PROMPTS[2], grammar=ANY)

    def fail(last: int, logits: Any) -> None:
        raise RuntimeError("rejected token")

    monkeypatch.setattr(desk.backend._waiting[-1].guide, "allow", fail)
    desk.drain()
    assert isinstance(desk.ended["rotten"], RuntimeError)
    assert [len(tokens) for tokens in desk.tokens("good")] == [6, 6]


def test_a_grammar_keeps_special_tokens_out(desk: Desk) -> None:
    """Also where the model has more or fewer rows than the tokenizer has tokens, rounded up for the hardware for instance."""
    size = len(desk.encoder.tokenizer)
    logits = torch.zeros(size + 100)
    desk.backend._guides.guide(ANY).allow(0, logits)
    special = sorted(desk.encoder.special_ids)
    assert len(special) > 2
    assert torch.isinf(logits[special]).all() and torch.isinf(logits[size:]).all()
    assert not torch.isinf(logits[desk.encoder.encode_text("Hello")]).any()
    fewer = torch.zeros(size - 100)
    desk.backend._guides.guide(ANY).allow(0, fewer)
    assert torch.equal(fewer, logits[: size - 100])


def watch(desk: Desk, monkeypatch: pytest.MonkeyPatch, see: Any) -> None:
    """Calls `see` with the input ids before every forward pass."""
    forward = desk.backend._model.forward

    def watched(*args: Any, **more: Any) -> Any:
        see(more["input_ids"])
        return forward(*args, **more)

    monkeypatch.setattr(desk.backend._batch, "_model", watched)


def too_much(rows: int) -> Any:
    """Runs out of memory with more rows than this."""

    def see(ids: Any) -> None:
        if ids.shape[0] > rows:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    return see


def test_out_of_memory_halves_the_batch(desk: Desk, alone: dict[str, list[tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch) -> None:
    desk.ask(PROMPTS[0], PROMPTS[0])
    desk.ask(PROMPTS[1], PROMPTS[1])
    desk.ask("drawn", PROMPTS[2], grammar=Grammar("root ::= [0-9]{4}\n"))
    desk.step()
    watch(desk, monkeypatch, too_much(2))
    for text in PROMPTS[2:]:
        desk.ask(text, text)
    desk.drain()
    assert {text: desk.tokens(text) for text in PROMPTS} == alone
    assert desk.encoder.decode(desk.tokens("drawn")[0]).isdigit()


def test_what_does_not_fit_alone_fails_and_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        watch(desk, patch, too_much(0))
        desk.ask("a", PROMPTS[0])
        desk.backend.score("s", [1, 2], [[3]], Request(messages=()))
        desk.drain()
    for name in ("a", "s"):
        assert isinstance(desk.ended[name], EngineError) and "memory does not suffice" in str(desk.ended[name])
    desk.ask("b", PROMPTS[0])
    assert desk.drain()["b"]


def test_scores_are_the_model_s(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = desk.encoder.encode((Message("user", PROMPTS[0]),))
    tails = [desk.encoder.encode_text(text) for text in ("Paris", "Paris is", "The capital", "", "B", "No, it is not that one.", "Paris")]
    with torch.no_grad():
        expected = []
        for tail in tails:
            logprobs = desk.backend._model(torch.tensor([prompt + tail])).logits[0].log_softmax(-1)
            expected.append(sum(float(logprobs[len(prompt) - 1 + place, token]) for place, token in enumerate(tail)))
    shapes: list[tuple[int, ...]] = []
    watch(desk, monkeypatch, lambda ids: shapes.append(tuple(ids.shape)))
    desk.backend.score("s", prompt, tails, Request(messages=()))
    assert desk.drain()["s"] == pytest.approx(expected, abs=1e-3)
    assert [length for _, length in shapes].count(len(prompt)) == 1
    watch(desk, monkeypatch, too_much(2))
    desk.backend.score("s", prompt, tails, Request(messages=()))
    assert desk.drain()["s"] == pytest.approx(expected, abs=1e-3)


def test_stop_texts_and_lengths(desk: Desk) -> None:
    desk.ask("a", "Repeat after me: one two three", max_tokens=40, stop=("two",), logprobs=True)
    desk.ask("b", PROMPTS[1], max_tokens=2)
    desk.drain()
    (stopped,), (cut,) = desk.ended["a"], desk.ended["b"]  # type: ignore[misc]
    assert isinstance(stopped, Completion) and isinstance(cut, Completion)
    assert (stopped.finish_reason, cut.finish_reason) == ("stop", "length")
    assert desk.encoder.decode(stopped.token_ids).endswith("two")
    assert stopped.logprobs is not None and len(stopped.logprobs) == stopped.completion_tokens == len(stopped.token_ids)


def test_a_folder_without_weights_is_refused(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="transformers cannot load the model"):
        TransformersBackend.load_weights(desk.backend, tmp_path)


TINY: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
    "qwen3": {"num_key_value_heads": 1, "head_dim": 8},
    "gemma3_text": {"num_key_value_heads": 1, "head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    "mistral": {"num_key_value_heads": 1, "sliding_window": 4},
    "falcon_h1": {"num_key_value_heads": 1, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_state": 8},
}


@pytest.mark.parametrize("kind", TINY)
def test_every_build_of_model_computes_in_batches_as_alone(kind: str) -> None:
    """Absolute, rotary and ALiBi positions, sliding windows shorter than the prompts, recurrent states."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = AutoConfig.for_model(kind, **{"vocab_size": 60, **sizes, **TINY[kind]})
    model = AutoModelForCausalLM.from_config(config).float().eval()
    prompts = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [20, 21], [30, 31, 32, 33]]
    expected = [greedy(model, [prompt])[0] for prompt in prompts]
    assert greedy(model, prompts) == expected
    batch = KeyValueBatch(model, "cpu")
    if batch.can_grow:
        first = batch.join(prompts[:1], [2]).argmax(-1).tolist()
        assert first == expected[0][:1] * 2
    scores = batch.score(prompts[0], [[1, 2, 3], [4], [5, 6]], limit=2)
    for tail, score in zip(([1, 2, 3], [4], [5, 6]), scores, strict=True):
        with torch.no_grad():
            logprobs = model(torch.tensor([[*prompts[0], *tail]])).logits[0].log_softmax(-1)
        assert score == pytest.approx(sum(float(logprobs[len(prompts[0]) - 1 + i, token]) for i, token in enumerate(tail)), abs=1e-3)


def greedy(model: Any, prompts: Sequence[list[int]]) -> list[list[int]]:
    """Six tokens behind each prompt, one row leaving after three."""
    batch = KeyValueBatch(model, "cpu")
    tokens = batch.join(prompts, [1] * len(prompts)).argmax(-1).tolist()
    found = [[token] for token in tokens]
    rows = list(range(len(prompts)))
    for step in range(5):
        tokens = batch.forward([found[row][-1] for row in rows]).argmax(-1).tolist()
        for row, token in zip(rows, tokens, strict=True):
            found[row].append(token)
        if step == 2 and len(rows) > 1:
            rows = rows[1:]
            batch.keep([place + 1 for place in range(len(rows))])
    if len(prompts) > 1:
        found[0] += greedy(model, prompts[:1])[0][4:]
    return found


def test_draws_follow_the_distribution_and_its_truncations() -> None:
    logits = torch.tensor([2.0, 1.0, 0.5, -1.0, -torch.inf])
    probabilities = logits.softmax(-1)
    source = random_source(1, 0, "cpu")
    counts = torch.bincount(torch.stack([draw(logits.clone(), Sampling(temperature=1.0), source) for _ in range(4000)]), minlength=5)
    assert (counts / 4000).tolist() == pytest.approx(probabilities.tolist(), abs=0.03)

    def support(**sampling: Any) -> set[int]:
        return {int(draw(logits.clone(), Sampling(temperature=1.0, **sampling), source)) for _ in range(300)}

    assert support(top_k=2) == {0, 1}
    assert support(top_k=9) == support() == {0, 1, 2, 3}
    assert support(top_p=0.7) == {0, 1}
    assert support(min_p=0.2) == {0, 1, 2}
    assert support(top_k=3, top_p=0.5) == {0}


def test_sources_differ_by_seed_and_sample() -> None:
    numbers = {
        (seed, sample): float(torch.rand(1, generator=random_source(seed, sample, "cpu"))) for seed in range(3) for sample in range(3)
    }
    assert len(set(numbers.values())) == 9
    assert float(torch.rand(1, generator=random_source(1, 2, "cpu"))) == numbers[1, 2]


def test_penalties_move_seen_tokens_towards_the_unlikely() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0])
    penalize(logits, [0, 1, 1], 2.0)
    assert logits.tolist() == [1.0, -4.0, 1.0]


def test_halving_stops_at_one() -> None:
    def compute(items: Sequence[int]) -> list[int]:
        if len(items) > 2 or 13 in items:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return [item * 2 for item in items]

    assert halving(compute, [1, 2, 3, 4, 5]) == [2, 4, 6, 8, 10]
    with pytest.raises(RuntimeError, match="allocate"):
        halving(compute, [1, 13])
    assert not is_out_of_memory(ValueError("out of memory"))
