"""The engines of this process: one for each model and settings, started once, shared by all.

Knows no backend's insides: it chooses, starts and remembers.
"""

from __future__ import annotations

import atexit
import threading
from pathlib import Path

from homefire.configs.console import progress, quiet_libraries
from homefire.engine.backend import choose_backend
from homefire.engine.catalogue import ResolvedModel
from homefire.engine.choice import choose
from homefire.engine.machine import detect
from homefire.engine.model_facts import model_facts
from homefire.engine.protocol import Engine
from homefire.engine.remote import close_remote_engines
from homefire.engine.replicas import Replicas
from homefire.engine.settings import ChosenSettings, EngineSettings
from homefire.engine.threaded_engine import ThreadedEngine
from homefire.engine.transformers_backend import TransformersBackend
from homefire.engine.vllm_backend import VllmBackend
from homefire.errors import UnknownModel

_engines: dict[tuple[str, str, EngineSettings], Engine] = {}
_lock = threading.Lock()


def engine_for(source: ResolvedModel, settings: EngineSettings) -> Engine:
    """The running engine of a model, started at the first call; callers in other threads wait for it.

    Raises:
        EngineError: it cannot start.
        MissingExtra: what it needs is not installed.
    """
    if source.path is None:
        raise UnknownModel(f"{source.name} is not a local model.")
    key = (source.backend, str(source.path), settings)
    with _lock:
        before = _engines.get(key)
        if before is None or before.closed:
            if before is not None:
                before.close()  # of several copies only one died, and the memory of the others is needed
            chosen = chosen_settings(source, settings)
            quiet_libraries()
            with progress(f"Starting {source.name} on {chosen.backend}"):
                _engines[key] = _started(source.name, source.path, chosen)
        return _engines[key]


def _started(name: str, path: Path, settings: ChosenSettings) -> Engine:
    load = VllmBackend if settings.backend == "vllm" else TransformersBackend
    if settings.data_parallel > 1:
        return Replicas(settings, lambda share: ThreadedEngine(name, path, share, load))
    return ThreadedEngine(name, path, settings, load)


def chosen_settings(source: ResolvedModel, settings: EngineSettings) -> ChosenSettings:
    """What the engine of a model would run with on this machine, without starting it."""
    if source.path is None:
        raise UnknownModel(f"{source.name} is not a local model.")
    machine = detect()
    backend, reason = choose_backend("auto" if source.backend == "remote" else source.backend, machine)
    chosen = choose(settings, machine, model_facts(source.path), backend)
    chosen.reasons["backend"] = reason
    return chosen


def close_engines() -> None:
    """Closes every engine of this process, and its connections to servers; the next call of an LM made afterwards starts a new one."""
    with _lock:
        for engine in _engines.values():
            engine.close()
        _engines.clear()
    close_remote_engines()


atexit.register(close_engines)
