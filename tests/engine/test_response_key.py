"""Keys of the response cache: what makes two requests equal, and answers as bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from homefire.engine.grammar import Grammar
from homefire.engine.request import AdapterRef, Completion, Message, Request, Sampling
from homefire.engine.response_key import decode_answer, encode_answer, response_key


def request(**changes: object) -> Request:
    return replace(Request(messages=(Message("user", "hello"),)), **changes)  # type: ignore[arg-type]


DIFFERENT: list[Callable[[], Request]] = [
    lambda: request(messages=(Message("user", "hello!"),)),
    lambda: request(messages=(Message("system", "hello"),)),
    lambda: request(messages=(Message("user", "hello"), Message("user", ""))),
    lambda: request(grammar=Grammar('root ::= "a"\n')),
    lambda: request(grammar=Grammar('root ::= "a"\n', json_schema="{}")),
    lambda: request(generated=(1,)),
    lambda: request(prefill="1"),
    lambda: request(thinking=True),
    lambda: request(thinking=False),
    *[
        (lambda name=name, value=value: request(sampling=Sampling(**({"temperature": 0.5} | {name: value}))))  # type: ignore[misc]
        for name, value in {
            "temperature": 0.25,
            "top_p": 0.5,
            "top_k": 3,
            "min_p": 0.1,
            "repetition_penalty": 1.1,
            "max_tokens": 9,
            "n": 2,
            "seed": 1,
            "stop": ("x",),
            "logprobs": True,
            "rollout_id": 1,
        }.items()
    ],
    lambda: request(sampling=Sampling(temperature=0.5, rollout_id="1")),
    lambda: request(sampling=Sampling(temperature=0.5, seed=0)),
]


def test_everything_that_changes_the_answer_changes_the_key() -> None:
    keys = {response_key("weights", make()) for make in DIFFERENT}
    keys |= {response_key("weights", request()), response_key("other weights", request())}
    keys.add(response_key("weights", request(sampling=Sampling(temperature=0.5))))
    assert len(keys) == len(DIFFERENT) + 3 and None not in keys


def test_every_part_of_requests_and_sampling_is_covered_here() -> None:
    assert {field.name for field in fields(Request)} == {
        *("messages", "sampling", "grammar", "adapter", "generated", "prefill", "thinking"),
        "reserve",  # matters only to answers that the context cuts off, which are not stored
    }
    assert {field.name for field in fields(Sampling)} == {
        *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "n", "seed", "stop", "logprobs", "rollout_id"),
    }


def test_equal_requests_have_equal_keys_however_numbers_are_written() -> None:
    assert response_key("w", request(sampling=Sampling(temperature=1))) == response_key("w", request(sampling=Sampling(temperature=1.0)))
    assert response_key("w", request(reserve=50)) == response_key("w", request())


def test_an_adapter_counts_with_its_version_and_weights(tmp_path: Path) -> None:
    def adapter(folder: str, weights: bytes, version: int = 1) -> Request:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "adapter_config.json").write_text("{}", encoding="utf-8")
        (tmp_path / folder / "adapter_model.safetensors").write_bytes(weights)
        return request(adapter=AdapterRef("area", version, tmp_path / folder))

    one, same, weights, version = adapter("a", b"1"), adapter("b", b"1"), adapter("c", b"2"), adapter("d", b"1", version=2)
    assert response_key("w", one) == response_key("w", same)
    assert len({response_key("w", each) for each in (request(), one, weights, version)}) == 4
    assert response_key("w", request(adapter=AdapterRef("area", 1, tmp_path / "missing"))) is None


def test_answers_survive_bytes() -> None:
    answer = (Completion(text="a", token_ids=(1, 2), finish_reason="length", prompt_tokens=5, cached_tokens=4, completion_tokens=2),)
    assert decode_answer(encode_answer(answer)) == (replace(answer[0], from_cache=True),)
