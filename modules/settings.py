"""The ambient settings: which LM and which format a program uses when it does not say.

Read in `modules` and above only. `configure` sets them for the whole process, in every thread; `context` for a block.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from homefire.engine.lm import LM
from homefire.errors import ConfigError
from homefire.modules.format import Format
from homefire.modules.json_format import JsonFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a predictor falls back to."""

    lm: LM | None = None
    format: Format = field(default_factory=JsonFormat)


class _Process:
    """The settings of the whole process."""

    lock = threading.Lock()
    settings = Settings()


_block: ContextVar[Settings | None] = ContextVar("homefire_settings", default=None)


def current() -> Settings:
    """The settings in force here: those of the innermost `context`, otherwise those of `configure`."""
    return _block.get() or _Process.settings


def configure(*, lm: LM | None = None, format: Format | None = None) -> None:
    """Sets the LM and the format of the whole process; what is left out stays as it is."""
    with _Process.lock:
        _Process.settings = _changed(_Process.settings, lm, format)


@contextmanager
def context(*, lm: LM | None = None, format: Format | None = None) -> Iterator[None]:
    """Sets the LM and the format for a block, and for what homefire runs in other threads on its behalf."""
    token = _block.set(_changed(current(), lm, format))
    try:
        yield
    finally:
        _block.reset(token)


def _changed(settings: Settings, lm: LM | None, format: Format | None) -> Settings:
    if isinstance(lm, str):
        raise ConfigError(f"lm is the text {lm!r}; expected an LM. Write lm=homefire.LM({lm!r}).")
    return replace(settings, lm=lm or settings.lm, format=format or settings.format)


class _InForce:
    """Reads the settings in force: `homefire.settings.lm`."""

    @property
    def lm(self) -> LM | None:
        return current().lm

    @property
    def format(self) -> Format:
        return current().format


settings = _InForce()
