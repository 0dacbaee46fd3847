"""What each kind of OpenAI-compatible server can do, and how it wants to be asked for output of a given form.

Knows no address, no key and no connection: it turns a grammar into the fields of a request body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from homefire.engine.grammar import Grammar
from homefire.engine.protocol import Structured

Continuation = Literal["tokens", "message", "none"]
"""How an answer that was begun goes on: behind exact token ids, behind an open last message, or not at all."""

_PENALTIES = {"top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repetition_penalty"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The ways of one kind of server."""

    name: str
    levels: tuple[Structured, ...] = ("json_schema", "json", "none")
    """What it enforces, the strongest first; the next is tried when it refuses one."""
    grammar_field: str = ""
    """Field that takes GBNF, `outer.inner` where it lies deeper."""
    strict: bool = False
    """Whether its JSON Schema is the narrow one of OpenAI's strict mode."""
    knobs: Mapping[str, str] = field(hash=False)
    """Its names of the sampling settings that OpenAI's protocol lacks."""
    own_defaults: bool = False
    """Whether it takes what is left out from the model's own generation settings, so that everything has to be said."""
    several: bool = True
    """Whether one request may ask for several completions."""
    seed: bool = True
    logprobs: bool = True
    stream_options: bool = True
    """Whether the tokens of a stream have to be asked for, and may be."""
    continuation: Continuation = "none"
    token_ids: bool = False
    """Whether completions come with token ids, when asked."""
    adapters: bool = False
    """Whether LoRA adapters are served beside the model, under their names."""
    scores: bool = False
    """Whether it gives log-probabilities of given text."""
    template: bool = False
    """Whether the chat template's own switches, such as `enable_thinking`, can be set."""
    known: bool = True

    def reasons_always(self, model: str) -> bool:
        """Whether the model takes no temperature and counts its tokens under another name: OpenAI's reasoning models."""
        return self.name in ("openai", "azure") and re.search(r"(^|/)(o\d|gpt-5)(?!.*chat)", model) is not None


VLLM = Dialect(
    name="vllm",
    levels=("grammar",),
    grammar_field="structured_outputs.grammar",
    knobs=_PENALTIES,
    own_defaults=True,
    continuation="tokens",
    token_ids=True,
    adapters=True,
    scores=True,
    template=True,
)
SGLANG = Dialect(
    name="sglang",
    levels=("grammar",),
    grammar_field="ebnf",
    knobs=_PENALTIES,
    own_defaults=True,
    continuation="message",
    template=True,
)
LLAMA_CPP = Dialect(
    name="llama.cpp",
    levels=("grammar",),
    grammar_field="grammar",
    knobs={**_PENALTIES, "repetition_penalty": "repeat_penalty"},
    own_defaults=True,
    template=True,
)
OLLAMA = Dialect(name="ollama", knobs={}, several=False)
LM_STUDIO = Dialect(
    name="lm_studio",
    levels=("json_schema", "none"),
    knobs={"top_k": "top_k", "repetition_penalty": "repeat_penalty"},
    several=False,
    logprobs=False,
)
OPENAI = Dialect(name="openai", strict=True, knobs={})
AZURE = Dialect(name="azure", strict=True, knobs={})
ANTHROPIC = Dialect(name="anthropic", levels=("none",), knobs={}, several=False, seed=False, logprobs=False)
GEMINI = Dialect(name="gemini", knobs={}, seed=False, logprobs=False)
GROQ = Dialect(name="groq", strict=True, knobs={}, several=False, logprobs=False)
MISTRAL = Dialect(name="mistral", knobs={}, seed=False, logprobs=False, stream_options=False)
DEEPSEEK = Dialect(name="deepseek", levels=("json", "none"), knobs={}, several=False, seed=False)
TOGETHER = Dialect(name="together", knobs=_PENALTIES)
OPENROUTER = Dialect(name="openrouter", strict=True, knobs=_PENALTIES, several=False)
XAI = Dialect(name="xai", strict=True, knobs={})
DATABRICKS = Dialect(name="databricks", knobs={"top_k": "top_k"})
FIREWORKS = Dialect(
    name="fireworks", levels=("grammar", "json_schema", "json", "none"), grammar_field="response_format.grammar", knobs=_PENALTIES
)
PERPLEXITY = Dialect(
    name="perplexity",
    levels=("json_schema", "none"),
    knobs={"top_k": "top_k"},
    several=False,
    seed=False,
    logprobs=False,
    stream_options=False,
)
COHERE = Dialect(name="cohere", knobs={}, several=False, logprobs=False)
UNKNOWN = Dialect(name="openai-compatible", knobs=_PENALTIES, known=False)
"""A server of which nothing is known yet: asked in OpenAI's way, and one step down whenever it refuses."""

_OWNERS = {"vllm": VLLM, "sglang": SGLANG, "llamacpp": LLAMA_CPP, "library": OLLAMA, "organization_owner": LM_STUDIO}


def dialect_of_owner(owned_by: str) -> Dialect | None:
    """The dialect of a server whose list of models says that this owns them."""
    return _OWNERS.get(owned_by)


def level_for(dialect: Dialect, grammar: Grammar | None, step: int) -> Structured:
    """The strongest level from the given step of the dialect's levels on that fits the grammar; `none` where nothing does."""
    if grammar is None:
        return "none"
    for level in dialect.levels[step:]:
        if level == "grammar" or (grammar.json_schema is not None and level == "json"):
            return level
        if level == "json_schema" and grammar.json_schema is not None and _schema(dialect, grammar.json_schema) is not None:
            return level
    return "none"


def structured_fields(dialect: Dialect, grammar: Grammar | None, level: Structured) -> dict[str, Any]:
    """The fields of a request body that ask for a text of the grammar."""
    if grammar is None or level == "none":
        return {}
    if level == "json":
        return {"response_format": {"type": "json_object"}}
    if level == "json_schema":
        schema = _schema(dialect, grammar.json_schema or "{}")
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "output", "strict": True, "schema": schema}}}
    outer, _, inner = dialect.grammar_field.partition(".")
    if outer == "response_format":
        return {"response_format": {"type": "grammar", inner: grammar.gbnf}}
    return {outer: {inner: grammar.gbnf} if inner else grammar.gbnf}


def _schema(dialect: Dialect, text: str) -> dict[str, Any] | None:
    schema: dict[str, Any] = json.loads(text)
    return strict_schema(schema) if dialect.strict else schema


_DROPPED = frozenset({"title", "default", "examples", "minLength", "maxLength", "uniqueItems", "discriminator", "$schema"})
_REFUSED = frozenset(
    {"allOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties", "propertyNames", "prefixItems"}
    | {"minProperties", "maxProperties", "unevaluatedProperties", "unevaluatedItems", "contains"}
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})


def strict_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema in the narrow form that OpenAI's strict mode takes; None where it has none.

    Every object is closed and all its properties are required. Limits that the mode does not know are left out, because the parser
    checks them; a part that it cannot say at all, such as an object with free keys, leaves no strict form.
    """
    if schema.get("type") != "object" and "$ref" not in schema:
        return None  # the root has to be an object
    return _strict(schema)


def _strict(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    if not schema or _REFUSED & schema.keys():
        return None
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _DROPPED or key in ("additionalProperties", "required") or (key == "format" and value not in _FORMATS):
            continue
        name = {"oneOf": "anyOf", "const": "enum"}.get(key, key)
        part = _strict_part(key, value)
        if part is None:
            return None
        made[name] = part[0]
    if made.get("type") == "object" or "properties" in made:
        if "properties" not in made or schema.get("additionalProperties") not in (None, False):
            return None
        made["required"] = list(made["properties"])
        made["additionalProperties"] = False
    return None if made.get("type") == "array" and "items" not in made else made


def _strict_part(key: str, value: Any) -> tuple[Any] | None:
    """The value of one keyword, in a tuple because it may itself be None; None where it has no strict form."""
    if key in ("properties", "$defs"):
        parts = {name: _strict(part) for name, part in value.items()}
        return None if None in parts.values() else (parts,)
    if key in ("anyOf", "oneOf"):
        branches = [_strict(part) for part in value]
        return None if None in branches else (branches,)
    if key == "items":
        items = _strict(value) if isinstance(value, dict) else None
        return None if items is None else (items,)
    return ([value],) if key == "const" else (value,)
