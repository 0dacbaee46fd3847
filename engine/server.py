"""vLLM's own OpenAI-compatible server for one model, in a process that is watched: started, started again when it dies, ended.

Knows no command line, and nothing of prompts. Programs reach it with any OpenAI client, or as `LM("hosted_vllm/NAME", api_base=url)`.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from homefire.configs.address import KEY_VARIABLE, called_host, checked_key, http_address, listening_port
from homefire.configs.console import note, progress, quiet_libraries
from homefire.engine.adapters import AdapterStore
from homefire.engine.catalogue import resolve
from homefire.engine.pool import chosen_settings
from homefire.engine.server_adapters import ServedAdapters, adapted_layers
from homefire.engine.server_guard import KEY, SECRET, SECRET_HEADER
from homefire.engine.server_process import ServerProcess
from homefire.engine.settings import ChosenSettings, EngineSettings
from homefire.engine.vllm_arguments import LARGEST_RANK, vllm_arguments
from homefire.errors import AdapterError, EngineError, InputError, ServerError

POLL_SECONDS = 2.0
"""How often the adapter store is looked at."""
RESTARTS = 3
"""Times in a row that a server which died is started again, each after a longer pause."""
_SETTLED_SECONDS = 600.0
"""A server that ran so long did not die of its start: counting begins anew."""
_GUARD = "homefire.engine.server_guard.Guard"
_NOT_FOR_SERVERS = frozenset({"disable_log_stats", "enable_sleep_mode"})
_CPU_RANK = 16
"""Room for adapters where it costs time; larger ones that are there at the start get more."""
_ANSWER_SECONDS = 300.0


class Server:
    """A model behind an OpenAI-compatible address, as long as the block lasts.

    Args:
        model: As in `LM(model)`; None is the default model.
        host: Address to listen on. Any but this machine's own needs an API key.
        port: 0 takes any that is free.
        api_key: What clients must send; None asks for none.
        settings: Engine settings to use instead of the chosen ones.
        adapters: Adapters of the store to serve: `name` follows what is in service, `name@3` is that version. None is all that fit.

    Raises:
        InputError: host, port or key cannot be used.
        UnknownModel: no such model.
        AdapterError: an adapter that was named does not exist or belongs to another model.
        MissingExtra: vLLM is not installed.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        api_key: str | None = None,
        settings: EngineSettings | None = None,
        adapters: Sequence[str] | None = None,
    ) -> None:
        self._api_key = checked_key(host, api_key)
        source = resolve(model)
        if source.backend == "transformers" or source.path is None:
            raise InputError(f"{model!r} chooses another engine, but a server runs on vLLM. Leave out the prefix: {source.name}.")
        self.name = Path(source.name).name if Path(source.name).expanduser().exists() else source.name
        """What clients name in `model`."""
        self.host, self.port = host, port
        self._path = source.path
        self._chosen = chosen_settings(replace(source, backend="vllm"), settings or EngineSettings())
        self._layers = None if self._chosen.device == "cuda" else adapted_layers(self._path)
        self._adapters = ServedAdapters(AdapterStore(), self._path, adapters, model=self.name, layers=self._layers)
        self._hot = self._chosen.device == "cuda" or bool(adapters) or self._adapters.rank() > 0
        self._secret = secrets.token_urlsafe(32)
        self._process: ServerProcess | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._follower: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Base address for OpenAI clients."""
        return http_address(self.host, self.port) + "/v1"

    @property
    def settings(self) -> ChosenSettings:
        """What the engine runs with."""
        return self._chosen

    def start(self) -> None:
        """Starts the server and waits until it answers.

        Raises:
            EngineError: the port is taken, or vLLM cannot start; the message has the end of its log.
        """
        self.port = listening_port(self.host, self.port)
        self._begin()
        self._follower = threading.Thread(target=self._follow_store, name="homefire adapters", daemon=True)
        self._follower.start()

    def wait(self) -> None:
        """Returns when another thread closes the server; until then, starts it again when it dies.

        Raises:
            EngineError: it died too often in a row, or cannot be started again.
        """
        deaths = 0
        while (process := self._process) is not None:
            begun = time.monotonic()
            process.wait()
            if self._closing.is_set():
                return
            deaths = 1 if time.monotonic() - begun > _SETTLED_SECONDS else deaths + 1
            reason = process.ending()
            process.end()
            if deaths > RESTARTS:
                raise EngineError(f"The server died {deaths} times in a row. {reason}")
            pause = 4 ** (deaths - 1)
            note(f"{reason}\nIt is started again in {pause} s ({deaths} of {RESTARTS}).")
            if self._closing.wait(pause):
                return
            self._begin()

    def update_adapters(self) -> None:
        """Looks at the adapter store at once; it is done every few seconds anyway."""
        with self._lock, suppress(ServerError, AdapterError):
            self._adapters.update(self._call if self._hot else None)

    def close(self) -> None:
        """Ends the server and everything it started; closing twice is allowed."""
        self._closing.set()
        if self._process is not None:
            self._process.end()
        if self._follower is not None:
            self._follower.join()

    def __enter__(self) -> Self:
        """Starts it."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it."""
        self.close()

    def _begin(self) -> None:
        quiet_libraries()
        with progress(f"Starting {self.name} on vLLM"):
            self._process = process = ServerProcess(self._arguments(), self._environment())
            while not self._answers():
                if not process.is_alive():
                    raise EngineError(f"vLLM did not start. {process.ending()}")
                if self._closing.wait(0.2):
                    return
            with self._lock:
                self._adapters.forget()
            self.update_adapters()

    def _arguments(self) -> dict[str, Any]:
        chosen = replace(self._chosen, adapter_mode="hot" if self._hot else "merged")
        arguments = {name: value for name, value in vllm_arguments(self._path, chosen).items() if name not in _NOT_FOR_SERVERS}
        if self._hot:
            arguments["max_lora_rank"] = max(self._adapters.rank(), LARGEST_RANK if chosen.device == "cuda" else _CPU_RANK)
            arguments["lora_target_modules"] = self._layers
        verbose = os.environ.get("HOMEFIRE_VERBOSE") == "1"
        return arguments | {
            "host": self.host,
            "port": self.port,
            "served_model_name": self.name,
            "middleware": _GUARD,
            "enable_prompt_tokens_details": True,
            "disable_uvicorn_access_log": not verbose,
            "uvicorn_log_level": "info" if verbose else "warning",
        }

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in (KEY, KEY_VARIABLE)}
        environment |= {SECRET: self._secret, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
        if self._chosen.cores:
            environment["VLLM_CPU_OMP_THREADS_BIND"] = self._chosen.cores
        if self._hot:
            environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
        return environment | ({KEY: self._api_key} if self._api_key else {})

    def _follow_store(self) -> None:
        while not self._closing.wait(POLL_SECONDS):
            self.update_adapters()

    def _answers(self) -> bool:
        try:
            return self._request("GET", "/health", None)[0] == 200
        except ServerError:
            return False

    def _call(self, path: str, record: Mapping[str, Any]) -> None:
        """One request to the server, as its owner."""
        status, body = self._request("POST", path, json.dumps(record))
        if status >= 400:
            raise AdapterError(f"the server answered {status}: {_message(body)}")

    def _request(self, method: str, path: str, body: str | None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(called_host(self.host), self.port, timeout=_ANSWER_SECONDS)
        headers = {"Content-Type": "application/json", SECRET_HEADER: self._secret, "Authorization": f"Bearer {self._api_key}"}
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"The server at {self.url} does not answer: {error}.") from error
        finally:
            connection.close()


def _message(body: str) -> str:
    """What an error answer says."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:500]
