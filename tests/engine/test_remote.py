"""Names of models on servers: prefixes, addresses, keys from the environment, and that keys show nowhere."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator

import pytest

from homefire.engine import dialects
from homefire.engine.remote import PROVIDERS, RemoteSettings, close_remote_engines, endpoint_of, is_remote, remote_engine
from homefire.errors import ConfigError


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for provider in PROVIDERS.values():
        for name in (*provider.keys, *provider.bases):
            monkeypatch.delenv(name, raising=False)
    yield
    close_remote_engines()


@pytest.mark.parametrize("name", ["openai/gpt-4o-mini", "ollama_chat/llama3.2:1b", "together_ai/org/name", "hosted_vllm/a", "llama_cpp/a"])
def test_remote_names(name: str) -> None:
    assert is_remote(name)


@pytest.mark.parametrize("name", ["smollm2-135m", "openai", "openai/", "Qwen/Qwen3-0.6B", "vllm/openai/gpt-oss-20b", "mistralai/x", ""])
def test_other_names(name: str) -> None:
    assert not is_remote(name)


@pytest.mark.parametrize(
    ("name", "key", "url"),
    [
        ("openai/gpt-4o-mini", "OPENAI_API_KEY", "https://api.openai.com/v1"),
        ("anthropic/claude", "ANTHROPIC_API_KEY", "https://api.anthropic.com/v1"),
        ("gemini/flash", "GEMINI_API_KEY", "https://generativelanguage.googleapis.com/v1beta/openai"),
        ("groq/llama", "GROQ_API_KEY", "https://api.groq.com/openai/v1"),
        ("mistral/large", "MISTRAL_API_KEY", "https://api.mistral.ai/v1"),
        ("deepseek/chat", "DEEPSEEK_API_KEY", "https://api.deepseek.com/v1"),
        ("together_ai/a/b", "TOGETHERAI_API_KEY", "https://api.together.xyz/v1"),
        ("openrouter/a/b", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1"),
        ("xai/grok", "XAI_API_KEY", "https://api.x.ai/v1"),
        ("fireworks_ai/accounts/a", "FIREWORKS_API_KEY", "https://api.fireworks.ai/inference/v1"),
        ("perplexity/sonar", "PERPLEXITYAI_API_KEY", "https://api.perplexity.ai"),
        ("cohere/command", "COHERE_API_KEY", "https://api.cohere.ai/compatibility/v1"),
    ],
)
def test_a_missing_key_names_its_variable_and_a_given_one_is_used(monkeypatch: pytest.MonkeyPatch, name: str, key: str, url: str) -> None:
    with pytest.raises(ConfigError, match=f"Set {key} in the environment"):
        remote_engine(name)
    monkeypatch.setenv(key, "the-key")
    endpoint = endpoint_of(name, RemoteSettings())
    assert (endpoint.url, endpoint.api_key, endpoint.model) == (url, "the-key", name.partition("/")[2])
    assert endpoint_of(name, RemoteSettings(api_key="mine")).api_key == "mine"
    assert "the-key" not in repr(endpoint) + repr(remote_engine(name).info)


@pytest.mark.parametrize(
    ("name", "base", "url"),
    [
        ("ollama_chat/llama3.2:1b", "http://localhost:11434", "http://localhost:11434/v1"),
        ("ollama/llama", None, "http://localhost:11434/v1"),
        ("hosted_vllm/x", "http://gpu:8000/v1/", "http://gpu:8000/v1"),
        ("lm_studio/x", None, "http://localhost:1234/v1"),
        ("openai/x", "http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("openai/x", "http://localhost:8000", "http://localhost:8000/v1"),
        ("openai/x", "http://localhost:8000/v1/chat/completions", "http://localhost:8000/v1"),
        ("azure/deployed", "https://mine.openai.azure.com/", "https://mine.openai.azure.com/openai/v1"),
        ("databricks/x", "https://mine.cloud.databricks.com", "https://mine.cloud.databricks.com/serving-endpoints"),
    ],
)
def test_addresses_as_users_write_them(name: str, base: str | None, url: str) -> None:
    assert endpoint_of(name, RemoteSettings(api_base=base, api_key="")).url == url


def test_addresses_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="Set AZURE_API_BASE in the environment"):
        endpoint_of("azure/x", RemoteSettings())
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy:1/v1")
    monkeypatch.setenv("OLLAMA_API_BASE", "box:11434")
    monkeypatch.setenv("DATABRICKS_HOST", "mine.cloud.databricks.com")
    assert endpoint_of("openai/x", RemoteSettings()).url == "http://proxy:1/v1"
    assert endpoint_of("ollama/x", RemoteSettings()).url == "http://box:11434/v1"
    assert endpoint_of("databricks/x", RemoteSettings()).url == "https://mine.cloud.databricks.com/serving-endpoints"
    assert endpoint_of("openai/x", RemoteSettings(api_base="http://other/v1")).url == "http://other/v1"


def test_a_server_elsewhere_under_openai_s_prefix_is_not_taken_for_openai() -> None:
    assert endpoint_of("openai/x", RemoteSettings(api_base="http://localhost:8000/v1")).dialect is dialects.UNKNOWN
    assert endpoint_of("openai/x", RemoteSettings(api_key="k")).dialect is dialects.OPENAI


def test_wrong_settings_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        RemoteSettings(api_base="localhost:8000", num_retries=-1, timeout=0, max_batch=0, extra_body={"a": object()})
    for what in ("api_base is 'localhost:8000'", "num_retries is -1", "timeout is 0", "max_batch is 0", "extra_body cannot be written"):
        assert what in str(caught.value)


def test_secrets_show_nowhere() -> None:
    settings = RemoteSettings(
        api_base="http://user:hidden1@box/v1?token=hidden2", api_key="hidden3", headers={"X": "hidden4"}, extra_body={"a": "hidden5"}
    )
    made = remote_engine("openai/m", settings)
    shown = repr(made._endpoint) + made._endpoint.where + repr(settings) + made.identity + repr(made.info)
    assert "hidden" not in shown
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_names_cost_no_import_of_the_client() -> None:
    code = (
        "import sys, homefire.engine.remote as r; r.remote_engine('ollama/x'); sys.exit('openai' in sys.modules or 'httpx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
