"""Names of models on servers: which provider a prefix means, where it is, and which environment variable holds its key.

Knows no request. Nothing is contacted and no key is read before the engine of a name is asked for.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from homefire.engine import dialects
from homefire.engine.dialects import Dialect
from homefire.engine.http_engine import HttpEngine
from homefire.engine.http_errors import Endpoint
from homefire.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSettings:
    """How to call a model on a server.

    Raises:
        ConfigError: every value that is out of its range, at once.
    """

    api_base: str | None = field(default=None, repr=False)
    """Address of the server; None is the provider's own, or what its environment variable says."""
    api_key: str | None = field(default=None, repr=False)
    """None takes it from the provider's environment variable; empty sends none."""
    num_retries: int = 3
    """Times that a call is tried again after it failed on the way or the server was too busy."""
    timeout: float | None = None
    """Most seconds of one call, retries included; None waits ten minutes for each sign of life."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    extra_body: Mapping[str, object] = field(default_factory=dict, repr=False)
    """More fields of every request, in the server's own words."""
    max_batch: int = 32
    """Most calls in flight at once."""

    def __post_init__(self) -> None:
        problems = []
        if self.api_base is not None and not re.match(r"https?://[^/\s]", self.api_base):
            problems.append(f"api_base is {self.api_base!r}; it must begin with http:// or https://, as in http://localhost:8000/v1")
        if self.num_retries < 0:
            problems.append(f"num_retries is {self.num_retries}; it must be 0 or more")
        if self.timeout is not None and self.timeout <= 0:
            problems.append(f"timeout is {self.timeout}; it must be above 0 seconds, or None")
        if self.max_batch < 1:
            problems.append(f"max_batch is {self.max_batch}; it must be 1 or more")
        try:
            json.dumps(dict(self.extra_body))
        except (TypeError, ValueError) as error:
            problems.append(f"extra_body cannot be written as JSON ({error})")
        if problems:
            raise ConfigError("; ".join(problems) + ".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What a prefix of model names means."""

    base: str
    """Address when none is given; empty where only the user knows it."""
    dialect: Dialect
    keys: tuple[str, ...] = ()
    """Environment variables that may hold the key."""
    bases: tuple[str, ...] = ()
    """Environment variables that may hold the address."""
    path: str = "/v1"
    """Put behind an address that is given without a path."""
    needs_key: bool = True


def _cloud(name: str, base: str, dialect: Dialect, *keys: str) -> Provider:
    path = re.sub(r"^https://[^/]*", "", base)
    return Provider(base=base, dialect=dialect, keys=keys, bases=(f"{name}_API_BASE",), path=path)


def _local(name: str, port: int, dialect: Dialect) -> Provider:
    base = f"http://localhost:{port}/v1"
    return Provider(base=base, dialect=dialect, keys=(f"{name}_API_KEY",), bases=(f"{name}_API_BASE",), needs_key=False)


_OPENAI_BASE = "https://api.openai.com/v1"
_OLLAMA = _local("OLLAMA", 11434, dialects.OLLAMA)
_LLAMA_CPP = _local("LLAMA_CPP", 8080, dialects.LLAMA_CPP)
PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider(base=_OPENAI_BASE, dialect=dialects.OPENAI, keys=("OPENAI_API_KEY",), bases=("OPENAI_API_BASE", "OPENAI_BASE_URL")),
    "azure": Provider(
        base="",
        dialect=dialects.AZURE,
        keys=("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
        bases=("AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"),
        path="/openai/v1",
    ),
    "anthropic": _cloud("ANTHROPIC", "https://api.anthropic.com/v1", dialects.ANTHROPIC, "ANTHROPIC_API_KEY"),
    "gemini": _cloud(
        "GEMINI", "https://generativelanguage.googleapis.com/v1beta/openai", dialects.GEMINI, "GEMINI_API_KEY", "GOOGLE_API_KEY"
    ),
    "groq": _cloud("GROQ", "https://api.groq.com/openai/v1", dialects.GROQ, "GROQ_API_KEY"),
    "mistral": _cloud("MISTRAL", "https://api.mistral.ai/v1", dialects.MISTRAL, "MISTRAL_API_KEY"),
    "deepseek": _cloud("DEEPSEEK", "https://api.deepseek.com/v1", dialects.DEEPSEEK, "DEEPSEEK_API_KEY"),
    "together_ai": _cloud(
        "TOGETHERAI", "https://api.together.xyz/v1", dialects.TOGETHER, "TOGETHERAI_API_KEY", "TOGETHER_API_KEY", "TOGETHER_AI_API_KEY"
    ),
    "openrouter": _cloud("OPENROUTER", "https://openrouter.ai/api/v1", dialects.OPENROUTER, "OPENROUTER_API_KEY", "OR_API_KEY"),
    "xai": _cloud("XAI", "https://api.x.ai/v1", dialects.XAI, "XAI_API_KEY"),
    "fireworks_ai": _cloud(
        "FIREWORKS", "https://api.fireworks.ai/inference/v1", dialects.FIREWORKS, "FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"
    ),
    "perplexity": _cloud("PERPLEXITY", "https://api.perplexity.ai", dialects.PERPLEXITY, "PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
    "cohere": _cloud("COHERE", "https://api.cohere.ai/compatibility/v1", dialects.COHERE, "COHERE_API_KEY", "CO_API_KEY"),
    "databricks": Provider(
        base="",
        dialect=dialects.DATABRICKS,
        keys=("DATABRICKS_API_KEY", "DATABRICKS_TOKEN"),
        bases=("DATABRICKS_API_BASE", "DATABRICKS_HOST"),
        path="/serving-endpoints",
    ),
    "litellm_proxy": Provider(
        base="", dialect=dialects.UNKNOWN, keys=("LITELLM_PROXY_API_KEY",), bases=("LITELLM_PROXY_API_BASE",), needs_key=False
    ),
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "hosted_vllm": _local("HOSTED_VLLM", 8000, dialects.VLLM),
    "sglang": _local("SGLANG", 30000, dialects.SGLANG),
    "lm_studio": _local("LM_STUDIO", 1234, dialects.LM_STUDIO),
    "llamafile": _local("LLAMAFILE", 8080, dialects.LLAMA_CPP),
    "llama_cpp": _LLAMA_CPP,
    "llamacpp": _LLAMA_CPP,
}

_engines: dict[tuple[str, Endpoint], HttpEngine] = {}
_lock = threading.Lock()


def is_remote(name: str) -> bool:
    """Whether a name is that of a model on a server: a provider's prefix, a slash and something behind it."""
    prefix, _, rest = name.partition("/")
    return prefix in PROVIDERS and bool(rest)


def remote_engine(name: str, settings: RemoteSettings | None = None) -> HttpEngine:
    """The engine of a model on a server; the same for the same name and settings. It contacts nothing yet.

    Args:
        name: As in `openai/gpt-4o-mini`.
        settings: How to call it.

    Raises:
        ConfigError: the key or the address is missing; the message names the variables that are looked at.
    """
    endpoint = endpoint_of(name, settings or RemoteSettings())
    with _lock:
        engine = _engines.get((name, endpoint))
        if engine is None or engine.closed:
            engine = _engines[name, endpoint] = HttpEngine(name, endpoint)
        return engine


def endpoint_of(name: str, settings: RemoteSettings) -> Endpoint:
    """What a name and settings mean, with what the environment says.

    Raises:
        ConfigError: the key or the address is missing.
    """
    prefix, _, model = name.partition("/")
    provider = PROVIDERS[prefix]
    given = settings.api_base or _environment(provider.bases)
    if not given and not provider.base:
        raise ConfigError(
            f"{name!r} needs the address of its server. Set {provider.bases[0]} in the environment, or give LM({name!r}, api_base=...)."
        )
    url = _address(given, provider) if given else provider.base
    key = settings.api_key if settings.api_key is not None else _environment(provider.keys)
    if key is None and provider.needs_key and not given:
        raise ConfigError(
            f"{name!r} needs a key. Set {provider.keys[0]} in the environment, or give LM({name!r}, api_key=...). "
            "Models on this machine need none: homefire models list."
        )
    own = prefix != "openai" or url.rstrip("/") == _OPENAI_BASE
    return Endpoint(
        model=model,
        url=url,
        api_key=key or "",
        key_names=provider.keys,
        dialect=provider.dialect if own else dialects.UNKNOWN,
        num_retries=settings.num_retries,
        timeout=settings.timeout,
        headers=tuple(sorted(settings.headers.items())),
        extra_body=json.dumps(dict(settings.extra_body), sort_keys=True),
        max_batch=settings.max_batch,
    )


def close_remote_engines() -> None:
    """Closes every connection; the next call of an LM opens new ones."""
    with _lock:
        for engine in _engines.values():
            engine.close()
        _engines.clear()


def _environment(names: tuple[str, ...]) -> str | None:
    """The first of the variables that is set to something."""
    return next((value for name in names if (value := os.environ.get(name, "").strip())), None)


def _address(given: str, provider: Provider) -> str:
    """The base of the server's addresses, from what users write: with or without path, scheme or the name of a call."""
    scheme = "https" if provider.needs_key else "http"
    url = given if "://" in given else f"{scheme}://{given}"
    url = url.rstrip("/").removesuffix("/chat/completions")
    return url + provider.path if re.fullmatch(r"https?://[^/]*", url) else url
