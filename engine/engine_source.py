"""Where an LM's engine comes from: a model on this machine, a model on a server, or an engine that was handed in.

Knows no sampling and no adapters. LMs that differ in those only share one source.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from homefire.engine.catalogue import resolve
from homefire.engine.http_engine import HttpEngine
from homefire.engine.lm_options import without_credentials
from homefire.engine.pool import chosen_settings, engine_for
from homefire.engine.protocol import Engine
from homefire.engine.remote import RemoteSettings, is_remote, remote_engine
from homefire.engine.settings import EngineSettings
from homefire.engine.threaded_engine import identity
from homefire.engine.threads import SharedCall, without_block
from homefire.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """What decides which engine it is."""

    model: str | None = None
    """As the user wrote it."""
    engine: EngineSettings = field(default_factory=EngineSettings)
    remote: RemoteSettings = field(default_factory=RemoteSettings)
    withheld: str | None = None
    """The server that a saved program names, where it was not to be taken from the file."""

    def changed(self, changes: Mapping[str, Any]) -> SourceSettings:
        """The settings with changes by the names that `LM` has for them; None is what each has by default."""
        given, plain, settings = dict(changes), RemoteSettings(), self
        if "model" in given:
            settings = replace(settings, model=given.pop("model"))
        if "settings" in given:
            settings = replace(settings, engine=given.pop("settings") or EngineSettings())
        if "context" in given:
            settings = replace(settings, engine=replace(settings.engine, context=given.pop("context")))
        if given.get("api_base") is not None:
            settings = replace(settings, withheld=None)
        defaults: dict[str, Any] = {"headers": plain.headers, "extra_body": plain.extra_body, "num_retries": plain.num_retries}
        remote: dict[str, Any] = {name: defaults.get(name) if value is None else value for name, value in given.items()}
        return replace(settings, remote=replace(settings.remote, **remote))

    def state(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON values, without keys and without headers, which may hold one."""
        state: dict[str, Any] = {}
        if self.remote.num_retries != RemoteSettings().num_retries:
            state["num_retries"] = self.remote.num_retries
        if self.remote.api_base:
            state["api_base"] = without_credentials(self.remote.api_base)
        if self.remote.extra_body:
            state["extra_body"] = dict(self.remote.extra_body)
        return state


class EngineSource:
    """Finds the model of a name, and starts its engine when it is first needed.

    Args:
        settings: Which engine.
        given: An engine that runs already; then the settings play no part.

    Raises:
        ConfigError: an address of a server for a model on this machine.
        UnknownModel: no such model.
    """

    def __init__(self, settings: SourceSettings, given: Engine | None = None) -> None:
        self.settings = settings
        self.given = given
        name = settings.model or os.environ.get("HOMEFIRE_MODEL")
        remote = given is None and name is not None and is_remote(name)
        address = settings.remote.api_base
        if address is not None and not remote:
            raise ConfigError(
                f"api_base is {without_credentials(address)!r}, but {name or 'the default model'!r} runs on this machine. A model on a "
                "server has its provider's prefix, as in LM('openai/NAME', api_base=...)."
            )
        self._local = None if remote or given is not None else resolve(settings.model)
        self._engine = given
        self._known_identity: str | None = None
        self._lock = threading.Lock()
        self._start = SharedCall(self.engine)
        self.model: str = given.info.model if given is not None else self._local.name if self._local is not None else name or ""
        """Name of the model, without the prefix that chooses the engine on this machine."""

    @property
    def path(self) -> Path | None:
        """Checkpoint folder of a model on this machine."""
        return None if self._local is None else self._local.path

    def engine(self) -> Engine:
        """The engine, started if it does not run; one that is closed or broke is started again.

        Raises:
            ConfigError: its server must not be taken from a file, or it has no key or address.
            EngineError: it cannot start.
        """
        engine = self._engine
        if engine is None or (engine.closed and engine is not self.given):
            engine = self._engine = without_block(self._started)
        return engine

    async def aengine(self) -> Engine:
        """As `engine`, without keeping the event loop waiting while it starts."""
        engine = self._engine
        if engine is not None and (engine is self.given or not engine.closed):
            return engine
        return await self._start.result()

    def close(self) -> None:
        """Ends the engine, where it runs and was not handed in."""
        engine = self._engine
        if engine is not None and engine is not self.given:
            engine.close()

    @property
    def identity_known(self) -> bool:
        """Whether `identity` is quick."""
        return self._known_identity is not None or self.given is not None

    def identity(self) -> str:
        """What the response cache knows the engine as. A model on this machine is not started for it."""
        if self._known_identity is None:
            with self._lock:
                if self._known_identity is None:
                    self._known_identity = self._find_identity()
        return self._known_identity

    def _find_identity(self) -> str:
        if self._local is None or self._local.path is None:
            engine = self.engine()
            return engine.identity if isinstance(engine, HttpEngine) else engine.info.identity
        return identity(self._local.path, chosen_settings(self._local, self.settings.engine))

    def _started(self) -> Engine:
        if self.settings.withheld is not None:
            raise ConfigError(
                f"{self.model} was loaded from a saved program that names the server {self.settings.withheld}, and an address is not taken "
                "from a file, because it decides where prompts go. Give it in code, as in program.set_lm(LM(..., api_base=...)), or trust "
                "the file with allow_endpoint=True."
            )
        if self._local is None:
            return remote_engine(self.model, self.settings.remote)
        return engine_for(self._local, self.settings.engine)
