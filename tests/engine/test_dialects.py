"""Dialects: how each kind of server is asked for output of a form, and the narrow schemas of OpenAI's strict mode."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from homefire.engine import dialects
from homefire.engine.dialects import Dialect, level_for, strict_schema, structured_fields
from homefire.engine.grammar import Grammar
from homefire.engine.http_body import chat_body, check_request
from homefire.engine.http_learned import Learned
from homefire.engine.remote import PROVIDERS
from homefire.engine.request import Message, Request, Sampling
from homefire.errors import EngineError, InputError

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string", "minLength": 2, "title": "A"}}, "required": ["a"]}
FREE_KEYS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "integer"}}
JSON = Grammar("root ::= j\n", json_schema=json.dumps(SCHEMA))
CHAT = Grammar("root ::= c\n")
ASK = Request(messages=(Message("user", "Hi"),))


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        (dialects.VLLM, {"structured_outputs": {"grammar": CHAT.gbnf}}),
        (dialects.SGLANG, {"ebnf": CHAT.gbnf}),
        (dialects.LLAMA_CPP, {"grammar": CHAT.gbnf}),
        (dialects.FIREWORKS, {"response_format": {"type": "grammar", "grammar": CHAT.gbnf}}),
        (dialects.OPENAI, {}),
        (dialects.OLLAMA, {}),
        (dialects.DEEPSEEK, {}),
        (dialects.ANTHROPIC, {}),
    ],
    ids=lambda value: value.name if isinstance(value, Dialect) else "",
)
def test_a_grammar_that_is_not_json_goes_only_where_grammars_are_read(dialect: Dialect, fields: dict[str, Any]) -> None:
    assert structured_fields(dialect, CHAT, level_for(dialect, CHAT, 0)) == fields


@pytest.mark.parametrize("dialect", [provider.dialect for provider in PROVIDERS.values()], ids=list(PROVIDERS))
def test_json_is_enforced_as_far_as_a_server_can(dialect: Dialect) -> None:
    level = level_for(dialect, JSON, 0)
    fields = structured_fields(dialect, JSON, level)
    assert level == dialect.levels[0]
    if level == "json_schema":
        sent = fields["response_format"]["json_schema"]["schema"]
        assert sent["required"] == ["a"] and ("minLength" in sent["properties"]["a"]) is not dialect.strict
    if level == "json":
        assert fields == {"response_format": {"type": "json_object"}}
    assert level_for(dialect, None, 0) == "none" == level_for(dialect, JSON, len(dialect.levels))


def test_a_schema_that_strict_mode_cannot_say_is_asked_for_as_json() -> None:
    free = Grammar("r", json_schema=json.dumps({**SCHEMA, "properties": {"a": FREE_KEYS}}))
    assert level_for(dialects.OPENAI, free, 0) == "json"
    assert level_for(dialects.MISTRAL, free, 0) == "json_schema"


def test_strict_schemas() -> None:
    node = {"type": "object", "properties": {"next": {"oneOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}], "default": None}}}
    kind = {"const": "x", "title": "Kind"}
    rows = {"type": "array", "items": {"type": "string", "format": "made-up"}, "minItems": 1, "uniqueItems": True}
    made = strict_schema({"type": "object", "$defs": {"Node": node}, "properties": {"kind": kind, "rows": rows}})
    assert made == {
        "type": "object",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
                "required": ["next"],
                "additionalProperties": False,
            }
        },
        "properties": {"kind": {"enum": ["x"]}, "rows": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
        "required": ["kind", "rows"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "part",
    [
        FREE_KEYS,
        {"type": "object"},
        {"type": "array", "prefixItems": [{"type": "string"}]},
        {"type": "array"},
        {"allOf": [SCHEMA]},
        {},
        {"anyOf": [{"type": "string"}, FREE_KEYS]},
        {"type": "object", "properties": {}, "additionalProperties": True},
    ],
    ids=json.dumps,
)
def test_what_has_no_strict_form(part: dict[str, Any]) -> None:
    assert strict_schema({"type": "object", "properties": {"a": part}}) is None
    assert strict_schema({"type": "string"}) is None


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("o1", True),
        ("o3-mini", True),
        ("gpt-5", True),
        ("gpt-5-nano", True),
        ("gpt-4o", False),
        ("gpt-5-chat-latest", False),
        ("olmo", False),
    ],
)
def test_openai_s_reasoning_models_take_no_temperature(model: str, reasons: bool) -> None:
    body = chat_body(replace(ASK, sampling=Sampling(max_tokens=5)), model, dialects.OPENAI, Learned())
    assert body == {"model": model, "messages": body["messages"]} | (
        {"max_completion_tokens": 5} if reasons else {"max_tokens": 5, "temperature": 0.0}
    )


def test_servers_with_the_model_s_own_defaults_are_told_everything() -> None:
    plain = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    body = chat_body(ASK, "m", dialects.VLLM, Learned())
    assert {name: body[name] for name in plain} == plain and body["return_token_ids"] is True
    assert chat_body(ASK, "m", dialects.SGLANG, Learned())["top_k"] == -1
    assert chat_body(ASK, "m", dialects.LLAMA_CPP, Learned())["repeat_penalty"] == 1.0
    assert not plain.keys() - {"temperature"} & chat_body(ASK, "m", dialects.TOGETHER, Learned()).keys()


def test_thinking_is_a_switch_of_the_template() -> None:
    off = replace(ASK, thinking=False)
    assert chat_body(off, "m", dialects.VLLM, Learned())["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in chat_body(ASK, "m", dialects.VLLM, Learned())
    assert "chat_template_kwargs" not in chat_body(off, "m", dialects.OPENAI, Learned())


def test_what_a_dialect_cannot_do_is_refused_before_anything_is_sent() -> None:
    check_request(replace(ASK, prefill="a"), dialects.OPENAI, "m", sure=False)
    for wrong in (replace(ASK, prefill="a"), replace(ASK, sampling=Sampling(top_k=5)), replace(ASK, generated=(1,))):
        with pytest.raises(EngineError, match=r"^m at x .*openai"):
            check_request(wrong, dialects.OPENAI, "m at x", sure=True)
    with pytest.raises(EngineError, match="log-probabilities"):
        check_request(replace(ASK, sampling=Sampling(logprobs=True)), dialects.GROQ, "m", sure=True)
    with pytest.raises(InputError, match="half of a surrogate pair"):
        check_request(Request(messages=(Message("user", "a\ud800"),)), dialects.OPENAI, "m", sure=False)
