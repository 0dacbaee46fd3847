"""The ambient settings: which LM and format a program uses when it does not say, and who watches it.

Read in `modules` and above only; callbacks and history go down to `engine` as ambient values of its own. `configure` sets them for the
whole process, from any thread; `context` for a block, and for the tasks and threads that are started in it.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, TypedDict, Unpack

from homefire.engine.ambient import Ambient
from homefire.engine.callbacks import BaseCallback, ambient_callbacks
from homefire.engine.history import HistoryLimits, history_limits
from homefire.engine.lm import LM
from homefire.engine.lm_options import checked_callbacks
from homefire.engine.threads import carry_into_threads
from homefire.errors import ConfigError
from homefire.modules.format import Format
from homefire.modules.interpreter import CodeInterpreter
from homefire.modules.json_format import JsonFormat
from homefire.modules.parallel import Patience
from homefire.modules.trace import MOST_STEPS, Trace, ambient_trace, current_trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a program falls back to, and who watches it."""

    lm: LM | None = None
    format: Format = field(default_factory=JsonFormat)
    callbacks: tuple[BaseCallback, ...] = ()
    """Hear every call of modules, LMs, formats and tools."""
    track_usage: bool = False
    """Whether a prediction knows what each LM did for it."""
    disable_history: bool = False
    """Whether calls of LMs are not kept for `inspect_history`."""
    max_history_size: int = HistoryLimits().most
    """Calls that are kept, in the process and for each LM."""
    num_threads: int | None = None
    """Calls of a module's `batch` and of `Parallel` in flight at once; None takes what the engine batches."""
    max_errors: int | None = None
    """Failed examples after which these stop; None goes on unless all fail."""
    provide_traceback: bool = False
    """Whether these show each failure with its traceback."""
    warn_on_type_mismatch: bool = True
    """Whether a predictor warns of inputs that are not of their types."""
    rm: Any = None
    """The retriever that `Retrieve` asks."""
    trace: list[Any] | None = None
    """Takes the steps of every predictor, each as `predictor, inputs, prediction`; see `record`."""
    max_trace_size: int = MOST_STEPS
    """Steps that a `trace` keeps which is set together with it or later; the oldest go."""
    async_max_workers: int = 64
    """Programs that `asyncify` runs at once."""
    interpreter_factory: Callable[[], CodeInterpreter] | None = None
    """Makes the interpreter of programs that write code; None makes a sandbox."""
    allow_tool_async_sync_conversion: bool = True
    """Whether an asynchronous tool can be called plainly, which is always so."""

    @property
    def adapter(self) -> Format:
        """Another name of the format, which other systems call an adapter; a LoRA adapter belongs to an LM."""
        return self.format


class Changes(TypedDict, total=False):
    """What `configure` and `context` take."""

    lm: LM | None
    format: Format | None
    adapter: Format | None
    callbacks: Sequence[BaseCallback] | None
    track_usage: bool
    disable_history: bool
    max_history_size: int
    num_threads: int | None
    max_errors: int | None
    provide_traceback: bool
    warn_on_type_mismatch: bool
    rm: Any
    trace: list[Any] | None
    max_trace_size: int
    async_max_workers: int
    interpreter_factory: Callable[[], CodeInterpreter] | None
    allow_tool_async_sync_conversion: bool


_settings: Ambient[Settings] = Ambient("settings", Settings())
_lock = threading.Lock()


def current() -> Settings:
    """The settings in force here: those of the innermost `context`, otherwise those of `configure`."""
    return _settings.get()


def configure(**changes: Unpack[Changes]) -> None:
    """Sets settings of the whole process; what is left out stays as it is.

    Args:
        changes: `lm`, `format` (also called `adapter`), `callbacks`, `track_usage`, `disable_history`, `max_history_size`,
            `num_threads`, `max_errors`, `provide_traceback`, `warn_on_type_mismatch`, `rm`, `trace`, `max_trace_size`,
            `async_max_workers`, `interpreter_factory`, `allow_tool_async_sync_conversion`. None is what each is from the start.

    Raises:
        ConfigError: an unknown name, or a value of the wrong kind.
    """
    with _lock:
        settings = _changed(_settings.process, changes)
        _settings.process = settings
        ambient_callbacks.process = settings.callbacks
        history_limits.process = _history_of(settings)
        if "trace" in changes or "max_trace_size" in changes:
            ambient_trace.process = _trace_of(settings, None)


@contextmanager
def context(**changes: Unpack[Changes]) -> Iterator[None]:
    """Sets settings for a block, for the tasks and threads that are started in it, and for the work that is submitted to pools in it.

    A task or thread keeps them until it ends. What is left out is as it was where the block began.

    Args:
        changes: As for `configure`.

    Raises:
        ConfigError: an unknown name, or a value of the wrong kind.
    """
    settings = _changed(current(), changes)
    carry_into_threads()
    with ExitStack() as stack:
        stack.enter_context(_settings.block(settings))
        if "callbacks" in changes:
            stack.enter_context(ambient_callbacks.block(settings.callbacks))
        if "disable_history" in changes or "max_history_size" in changes:
            stack.enter_context(history_limits.block(_history_of(settings)))
        if "trace" in changes:
            stack.enter_context(ambient_trace.block(_trace_of(settings, current_trace())))
        yield


def check_lm(lm: object, call: str) -> None:
    """Refuses what is no LM; `call` is how one is given, with `{name!r}` where its name stands.

    Raises:
        ConfigError: it is none, and not None.
    """
    if not isinstance(lm, LM | None):
        raise ConfigError(f"lm is {lm!r}; expected an LM, as in {call.format(name=lm)}.")


def patience_of(
    max_errors: int | None = None, provide_traceback: bool | None = None, timeout: float | None = None, straggler_limit: int = 3
) -> Patience:
    """How much may go wrong where the caller, or else the settings, say so."""
    settings = current()
    return Patience(
        max_errors=max_errors or settings.max_errors,
        tracebacks=settings.provide_traceback if provide_traceback is None else provide_traceback,
        timeout=timeout,
        straggler_limit=straggler_limit,
    )


def _changed(settings: Settings, changes: Changes) -> Settings:
    given: dict[str, Any] = dict(changes)
    names = [*(field.name for field in fields(Settings)), "adapter"]
    if unknown := [name for name in given if name not in names]:
        raise ConfigError(" ".join(_unknown(name, names) for name in unknown) + f" There are: {', '.join(names)}.")
    if "adapter" in given:
        given["format"] = given.pop("adapter")
    plain = _by_name(Settings())
    given = {name: plain[name] if value is None else value for name, value in given.items()}
    if problems := [problem for name, value in given.items() if (problem := _problem(name, value))]:
        raise ConfigError("; ".join(problems) + ".")
    if "callbacks" in given:
        given["callbacks"] = checked_callbacks(given["callbacks"])
    return replace(settings, **given)


def _problem(name: str, value: object) -> str | None:
    """What is wrong with a value."""
    match name:
        case "lm" if not isinstance(value, LM | None):
            return f"lm is {value!r}; expected an LM, as in lm=homefire.LM({value if isinstance(value, str) else 'smollm2-135m'!r})"
        case "format" if isinstance(value, str):
            return f"format is the text {value!r}; expected a format, such as homefire.JsonFormat(). A LoRA adapter belongs to an LM"
        case "callbacks" if not isinstance(value, list | tuple):
            return f"callbacks is {value!r}; expected a list of callbacks"
        case "track_usage" | "disable_history" | "provide_traceback" | "warn_on_type_mismatch" if not isinstance(value, bool):
            return f"{name} is {value!r}; expected True or False"
        case "allow_tool_async_sync_conversion" if value is not True:
            return f"{name} is {value!r}; expected True, for an asynchronous tool can always be called plainly. Leave it out"
        case "interpreter_factory" if value is not None and not callable(value):
            return f"{name} is {value!r}; expected what makes an interpreter, as in {name}=homefire.LocalInterpreter"
        case "trace" if value is not None and not isinstance(value, list):
            return f"trace is {value!r}; expected a list to put steps into, as in context(trace=[]), or None"
        case "max_history_size" if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            return f"max_history_size is {value!r}; expected a whole number, 0 or more"
        case "num_threads" | "max_errors" | "max_trace_size" | "async_max_workers" if value is not None and not _is_positive(value):
            return f"{name} is {value!r}; expected a whole number, 1 or more, or None"
    return None


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _unknown(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"There is no setting {name!r}{f': did you mean {near[0]!r}?' if near else '.'}"


def _trace_of(settings: Settings, outer: Trace | None) -> Trace | None:
    return None if settings.trace is None else Trace(steps=settings.trace, most=settings.max_trace_size, outer=outer)


def _history_of(settings: Settings) -> HistoryLimits:
    return HistoryLimits(not settings.disable_history and settings.max_history_size > 0, settings.max_history_size)


def _by_name(settings: Settings) -> dict[str, Any]:
    names = [*(one.name for one in fields(Settings)), "adapter"]
    return dict(zip(names, attrgetter(*names)(settings), strict=True))


class _InForce:
    """Reads the settings in force: `homefire.settings.lm`."""

    configure = staticmethod(configure)
    context = staticmethod(context)

    @property
    def lm(self) -> LM | None:
        return current().lm

    @property
    def format(self) -> Format:
        return current().format

    @property
    def adapter(self) -> Format:
        return current().format

    @property
    def callbacks(self) -> tuple[BaseCallback, ...]:
        return current().callbacks

    @property
    def track_usage(self) -> bool:
        return current().track_usage

    @property
    def disable_history(self) -> bool:
        return current().disable_history

    @property
    def max_history_size(self) -> int:
        return current().max_history_size

    @property
    def num_threads(self) -> int | None:
        return current().num_threads

    @property
    def max_errors(self) -> int | None:
        return current().max_errors

    @property
    def provide_traceback(self) -> bool:
        return current().provide_traceback

    @property
    def warn_on_type_mismatch(self) -> bool:
        return current().warn_on_type_mismatch

    @property
    def rm(self) -> Any:
        return current().rm

    @property
    def trace(self) -> list[Any] | None:
        return current().trace

    @property
    def max_trace_size(self) -> int:
        return current().max_trace_size

    @property
    def async_max_workers(self) -> int:
        return current().async_max_workers

    @property
    def interpreter_factory(self) -> Callable[[], CodeInterpreter] | None:
        return current().interpreter_factory

    @property
    def allow_tool_async_sync_conversion(self) -> bool:
        return current().allow_tool_async_sync_conversion

    def get(self, name: str, default: Any = None) -> Any:
        """A setting by its name."""
        return _by_name(current()).get(name, default)

    def __getitem__(self, name: str) -> Any:
        return _by_name(current())[name]

    def __contains__(self, name: object) -> bool:
        return name in _by_name(current())


settings = _InForce()
