"""The server: addresses, arguments, what its end is told as; and the real thing with the real small model."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from homefire.configs.address import is_loopback, listening_port
from homefire.engine.adapters import AdapterStore
from homefire.engine.prompt import PromptEncoder
from homefire.engine.remote import RemoteSettings, remote_engine
from homefire.engine.server import Server
from homefire.engine.server_guard import LOAD
from homefire.engine.server_process import explained, flags
from homefire.engine.settings import EngineSettings
from homefire.errors import AdapterError, EngineError, InputError
from tests.engine.conformance import CHECKS, Check, Subject
from tests.engine.lora_files import store_adapter

SMALL = EngineSettings(dtype="float32", context=512, kv_cache_gib=0.25, max_batch=8)
API_KEY = "a-long-random-text"


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)]
)
def test_which_addresses_only_this_machine_reaches(host: str, own: bool) -> None:
    assert is_loopback(host) is own
    assert not is_loopback("example.org")


def test_a_taken_port_names_who_holds_it_and_one_that_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(EngineError, match=rf"Port {port} on 127.0.0.1 is taken by .*process {os.getpid()}.*--port (\d+)"):
            listening_port("127.0.0.1", port)
    assert listening_port("127.0.0.1", port) == port
    assert listening_port("127.0.0.1", 0) > 0


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("203.0.113.1", 0), ("no.such.host.invalid", 0)])
def test_an_address_that_cannot_be_used(host: str, port: int) -> None:
    with pytest.raises(InputError):
        listening_port(host, port)


@pytest.mark.parametrize(
    ("host", "key", "message"),
    [
        ("0.0.0.0", None, "needs an API key"),
        ("127.0.0.1", "", "empty"),
        ("127.0.0.1", "two words", "no HTTP header"),
        ("::1", "clé", "no HTTP"),
    ],
)
def test_an_address_that_others_reach_needs_a_key(smollm2: Path, host: str, key: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Server(str(smollm2), host=host, api_key=key)


def test_only_vllm_serves(smollm2: Path) -> None:
    with pytest.raises(InputError, match="runs on vLLM"):
        Server(f"transformers/{smollm2}")


def test_an_adapter_that_is_not_there(smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path))
    with pytest.raises(AdapterError, match="There is no adapter 'nobody'"):
        Server(str(smollm2), adapters=["nobody"])


def test_arguments_as_flags() -> None:
    given = {
        "max_model_len": 512,
        "enforce_eager": True,
        "use_tqdm_on_load": False,
        "seed": None,
        "speculative_config": {"method": "ngram"},
    }
    assert flags(given) == [
        "--max-model-len=512",
        "--enforce-eager",
        "--no-use-tqdm-on-load",
        "--speculative-config",
        '{"method": "ngram"}',
    ]


LOG = [
    "(EngineCore pid=5) ERROR 01-01 00:00:00 [core.py:1] Traceback (most recent call last):",
    "(EngineCore pid=5) ERROR 01-01 00:00:00 [core.py:1] ValueError: To serve at least one request, 3 GiB KV cache is needed.",
    "Traceback (most recent call last):",
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
]


def test_the_first_cause_in_a_log_is_told() -> None:
    text = explained(LOG, 1)
    assert text.startswith(": ValueError: To serve at least one request, 3 GiB KV cache is needed. Memory may have run out")
    assert "root cause above" not in text
    assert "HOMEFIRE_VERBOSE=1" in explained(["odd"], 1) and explained(["odd"], 1).endswith("odd")
    assert "--port" in explained(["OSError: [Errno 98] Address already in use"], 1)
    assert "Memory may have run out" in explained([], -signal.SIGKILL) and explained([], 1).endswith("(nothing)")


@pytest.fixture(scope="module")
def own_store(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdapterStore]:
    """A store of its own with two versions of `area`, the first in service."""
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOMEFIRE_HOME", str(folder / "home"))
        for seed in (1, 2):
            store_adapter(smollm2, folder / f"made{seed}", "area", seed)
        AdapterStore().promote("area", 1)
        yield AdapterStore()


@pytest.fixture(scope="module")
def server(smollm2: Path, own_store: AdapterStore) -> Iterator[Server]:
    with Server(str(smollm2), port=0, api_key=API_KEY, settings=SMALL) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key=API_KEY, timeout=300, max_retries=0) as made:
        yield made


def say(client: openai.OpenAI, model: str, **more: Any) -> Any:
    ask: Any = [{"role": "user", "content": "Say hello."}]
    return client.chat.completions.create(model=model, messages=ask, temperature=0, **{"max_tokens": 8, **more})


def test_a_chat_through_an_openai_client(server: Server, client: openai.OpenAI) -> None:
    answer = say(client, server.name)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 8
    assert client.models.list().data[0].id == server.name


def test_a_grammar_is_obeyed(server: Server, client: openai.OpenAI) -> None:
    grammar = 'root ::= "{\\"mood\\":" ("\\"odd\\"" | "\\"even\\"") "}"'
    answer = say(client, server.name, max_tokens=20, extra_body={"structured_outputs": {"grammar": grammar}})
    assert json.loads(answer.choices[0].message.content)["mood"] in ("odd", "even")


def test_pieces_as_they_come(server: Server, client: openai.OpenAI) -> None:
    pieces = [chunk.choices[0].delta.content or "" for chunk in say(client, server.name, stream=True)]
    assert "".join(pieces) == say(client, server.name).choices[0].message.content
    assert len(pieces) > 2


def test_without_the_key_there_is_no_answer(server: Server) -> None:
    with openai.OpenAI(base_url=server.url, api_key="wrong", max_retries=0) as stranger, pytest.raises(openai.AuthenticationError):
        say(stranger, server.name)


def test_with_the_key_no_folder_becomes_an_adapter(server: Server, client: openai.OpenAI, tmp_path: Path) -> None:
    with pytest.raises(openai.PermissionDeniedError, match="homefire adapters promote"):
        client.post(LOAD.removeprefix("/v1"), body={"lora_name": "mine", "lora_path": str(tmp_path)}, cast_to=object)


def test_the_key_is_in_no_command_line(server: Server) -> None:
    assert server._process is not None
    family = [psutil.Process(server._process.pid), *psutil.Process(server._process.pid).children(recursive=True)]
    assert len(family) > 2
    assert not [one for one in family if API_KEY in " ".join(one.cmdline())]


def test_adapters_are_served_and_swapped(server: Server, client: openai.OpenAI, own_store: AdapterStore) -> None:
    first = say(client, "area")
    assert first.model == "area@1"
    assert first.choices[0].message.content == say(client, "area@1").choices[0].message.content
    assert first.choices[0].message.content != say(client, server.name).choices[0].message.content
    own_store.promote("area", 2)
    server.update_adapters()
    second = say(client, "area")
    assert (second.model, say(client, "area@1").model) == ("area@2", "area@1")
    assert second.choices[0].message.content != first.choices[0].message.content
    assert {card.id for card in client.models.list()} == {server.name, "area", "area@1", "area@2"}
    own_store.rollback("area")
    server.update_adapters()
    assert say(client, "area").choices[0].message.content == first.choices[0].message.content
    with pytest.raises(openai.NotFoundError):
        say(client, "area@9")


def test_a_promotion_is_noticed(server: Server, client: openai.OpenAI, own_store: AdapterStore) -> None:
    own_store.promote("area", 2)
    for _ in range(100):
        if say(client, "area").model == "area@2":
            return
        threading.Event().wait(0.2)
    pytest.fail("the new version was not served")


@pytest.fixture(scope="module")
def subject(server: Server, own_store: AdapterStore, smollm2: Path) -> Iterator[Subject]:
    """The engine that programs reach the server with."""
    encoder = PromptEncoder(smollm2)
    engine = remote_engine(f"hosted_vllm/{server.name}", RemoteSettings(api_base=server.url, api_key=API_KEY))
    adapter = own_store.resolve("area@1")
    yield Subject(engine=engine, decode=encoder.decode, encode=encoder.encode_text, counts=False, adapter=adapter)
    engine.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_programs_reach_it_as_any_engine(subject: Subject, check: Check) -> None:
    check(subject)


def test_its_port_is_taken(server: Server, smollm2: Path) -> None:
    with pytest.raises(EngineError, match=rf"Port {server.port} .* is taken by"):
        Server(str(smollm2), port=server.port, api_key=API_KEY, settings=SMALL).start()


def test_closing_it_leaves_nothing(server: Server, client: openai.OpenAI) -> None:
    assert server._process is not None
    session, scratch = server._process.pid, server._process._scratch
    server.close()
    left = []
    for process in psutil.process_iter():
        if process.status() != psutil.STATUS_ZOMBIE and os.getsid(process.pid) == session:
            left.append(process)
    assert left == []
    assert not Path(scratch).exists()
    server.wait()
    with pytest.raises(openai.APIConnectionError):
        say(client, server.name)
