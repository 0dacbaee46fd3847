"""Keeps what a running server serves equal to the adapter store: promotions and rollbacks take effect without a restart.

Knows neither how the server runs nor how it is reached: it is given a function that sends it a request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from homefire.configs.console import note
from homefire.engine.adapters import CONFIG, AdapterStore
from homefire.engine.fingerprint import base_fingerprint, weight_shapes
from homefire.engine.request import AdapterRef
from homefire.engine.server_guard import ALIASES, LOAD, UNLOAD
from homefire.errors import AdapterError

KEPT = 8
"""Versions of one name that are served: what is in service, and what was before it, the newest first."""
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Sizes that vLLM makes room for."""


def adapted_layers(base: Path) -> list[str] | None:
    """Names of the linear layers inside a model's blocks, without the head; None for models that are built otherwise.

    Without a GPU vLLM must not adapt the head: a request for the log-probabilities of its prompt would end the engine.
    """
    shapes = weight_shapes(base)
    if any(".experts." in name for name in shapes):
        return None
    inside = {name.split(".")[-2] for name, shape in shapes.items() if len(shape) == 2 and re.search(r"\.\d+\..*\.weight$", name)}
    return sorted(inside) or None


Call = Callable[[str, Mapping[str, Any]], None]


class ServedAdapters:
    """The adapters of one base model that a server offers.

    Args:
        store: Where adapters are.
        base: Checkpoint folder of the model; adapters of other models are left out.
        wanted: `name` for what is in service, now and later; `name@3` for that version as well. None is every name of the store.
        model: What clients call the model itself; an adapter of that name is reached with its version only.
        layers: Names of the layers that the server adapts; adapters of others are refused. None is all.

    Raises:
        AdapterError: one that is wanted by name does not exist or belongs to another model.
    """

    def __init__(
        self, store: AdapterStore, base: Path, wanted: Sequence[str] | None = None, *, model: str = "", layers: Sequence[str] | None = None
    ) -> None:
        self._store = store
        self._model = model
        self._layers = None if layers is None else frozenset(layers)
        self._fingerprint = base_fingerprint(base)
        self._wanted = None if wanted is None else tuple(wanted)
        self._loaded: dict[str, AdapterRef] = {}
        self._aliases: dict[str, str] = {}
        self._told: set[str] = set()
        self._refused: set[AdapterRef] = set()
        for text in wanted or ():
            store.check_base(store.resolve(text), base)

    def rank(self) -> int:
        """Largest rank among the adapters that are offered now, as vLLM counts; 0 without any."""
        ranks = [int(json.loads((ref.path / CONFIG).read_text(encoding="utf-8")).get("r", 0)) for ref in self._offered()[0].values()]
        return next((size for size in _RANKS if size >= max(ranks)), _RANKS[-1]) if ranks else 0

    def forget(self) -> None:
        """The server was started anew and serves none."""
        self._loaded, self._aliases, self._refused = {}, {}, set()

    def update(self, call: Call | None) -> None:
        """Loads what is new, points names to what is in service, then unloads what is not offered any more.

        An adapter that cannot be loaded is named once and left out; one that is damaged in the store stays as it is served.

        Args:
            call: Sends the server a request. None: it was started without room for adapters, and the user is told when one appears.

        Raises:
            ServerError: the server does not answer.
        """
        offered, aliases = self._offered()
        if call is None:
            for target in aliases.values():
                self._tell(f"The adapter {target} is in service, but this server was started without adapters. Start it again to serve it.")
            return
        for name, ref in offered.items():
            if name in self._loaded or ref in self._refused:
                continue
            try:
                self._check_layers(ref)
                call(LOAD, {"lora_name": name, "lora_path": str(ref.path)})
                self._loaded[name] = ref
            except AdapterError as error:
                self._refused.add(ref)
                self._tell(f"The adapter {name} is not served: {error}")
        aliases = {name: target for name, target in aliases.items() if target in self._loaded}
        if aliases != self._aliases:
            call(ALIASES, aliases)
            self._aliases = aliases
            self._tell(f"Adapters in service: {', '.join(aliases.values()) or 'none'}.", again=True)
        for name in [name for name in self._loaded if name not in offered]:
            with suppress(AdapterError):
                call(UNLOAD, {"lora_name": name})
            del self._loaded[name]

    def _offered(self) -> tuple[dict[str, AdapterRef], dict[str, str]]:
        """Versions by `name@version`, and for each name the version that it means."""
        offered: dict[str, AdapterRef] = {}
        aliases: dict[str, str] = {}
        for text in self._store.names() if self._wanted is None else self._wanted:
            name, at, _ = text.partition("@")
            try:
                refs = [self._store.resolve(text)] if at else self._promoted(name)
                fitting = {str(ref): ref for ref in refs if self._store.lineage(ref).base_fingerprint == self._fingerprint}
                serving = None if at else self._store.in_service(name)
            except AdapterError as error:
                self._tell(f"The adapter {text} is served as before: {error}")
                offered |= {served: ref for served, ref in self._loaded.items() if ref.name == name}
                aliases |= {alias: target for alias, target in self._aliases.items() if alias == name}
                continue
            offered |= fitting
            if str(serving) in fitting and name != self._model:
                aliases[name] = str(serving)
        return offered, aliases

    def _promoted(self, name: str) -> list[AdapterRef]:
        """Versions that are or were in service, the last first."""
        versions = [entry.version for entry in reversed(self._store.history(name)) if entry.version is not None]
        return [self._store.resolve(f"{name}@{version}") for version in list(dict.fromkeys(versions))[:KEPT]]

    def _check_layers(self, ref: AdapterRef) -> None:
        """Refuses an adapter of which vLLM would leave out a part without a word."""
        names = {name.partition(".lora_")[0].rpartition(".")[2] for name in weight_shapes(ref.path)}
        if self._layers is not None and (others := names - self._layers):
            raise AdapterError(f"it adapts {', '.join(sorted(others))}, but without a GPU only {', '.join(sorted(self._layers))} can be.")

    def _tell(self, text: str, *, again: bool = False) -> None:
        if again or text not in self._told:
            self._told.add(text)
            note(text)
