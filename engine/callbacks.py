"""Callbacks: hooks that hear when calls of modules, LMs, formats, tools, interpreters, evaluations and compilations begin and end.

Knows nothing of what is called: whoever makes a call wraps it in `observed`. A hook that raises is reported once and breaks nothing.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from types import TracebackType
from typing import Any, Literal, Self

from homefire.configs.console import note
from homefire.engine.ambient import Ambient

Kind = Literal[
    "module",
    "lm",
    "adapter_format",
    "adapter_parse",
    "tool",
    "interpreter_startup",
    "interpreter_execute",
    "interpreter_tool_call",
    "interpreter_shutdown",
    "evaluate",
    "compile",
]
Inputs = Mapping[str, Any]


class BaseCallback:
    """Base of all callbacks: write the hooks that you need.

    Every call has an id of its own, the same at its start and end. Inside a hook `ACTIVE_CALL_ID` is the id of the call around it. Where a
    call failed, `outputs` is None and `exception` is not.
    """

    def on_module_start(self, call_id: str, instance: Any, inputs: Inputs) -> None: ...
    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None: ...
    def on_lm_start(self, call_id: str, instance: Any, inputs: Inputs) -> None: ...
    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None: ...
    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Inputs) -> None: ...
    def on_adapter_format_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None: ...
    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: Inputs) -> None: ...
    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None: ...
    def on_tool_start(self, call_id: str, instance: Any, inputs: Inputs) -> None: ...
    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None: ...
    def on_interpreter_startup_start(self, call_id: str, instance: Any, inputs: Inputs) -> None: ...
    def on_interpreter_startup_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None: ...
    def on_interpreter_execute_start(self, call_id: str, instance: Any, inputs: Inputs) -> None: ...
    def on_interpreter_execute_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None: ...
    def on_interpreter_tool_call_start(self, call_id: str, instance: Any, inputs: Inputs) -> None: ...
    def on_interpreter_tool_call_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None: ...
    def on_interpreter_shutdown_start(self, call_id: str, instance: Any, inputs: Inputs) -> None: ...
    def on_interpreter_shutdown_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None: ...
    def on_evaluate_start(self, call_id: str, instance: Any, inputs: Inputs) -> None: ...
    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None: ...
    def on_compile_start(self, call_id: str, instance: Any, inputs: Inputs) -> None: ...
    def on_compile_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None: ...


ACTIVE_CALL_ID: ContextVar[str | None] = ContextVar("homefire_call_id", default=None)
"""The innermost observed call of this context."""

ambient_callbacks: Ambient[tuple[BaseCallback, ...]] = Ambient("callbacks", ())
"""Callbacks that hear every call; the settings set them."""

_Hooks = tuple[Callable[[str, Any, Inputs], None], Callable[[str, Any, BaseException | None], None]]
_HOOKS: dict[Kind, Callable[[BaseCallback], _Hooks]] = {
    "module": lambda callback: (callback.on_module_start, callback.on_module_end),
    "lm": lambda callback: (callback.on_lm_start, callback.on_lm_end),
    "adapter_format": lambda callback: (callback.on_adapter_format_start, callback.on_adapter_format_end),
    "adapter_parse": lambda callback: (callback.on_adapter_parse_start, callback.on_adapter_parse_end),
    "tool": lambda callback: (callback.on_tool_start, callback.on_tool_end),
    "interpreter_startup": lambda callback: (callback.on_interpreter_startup_start, callback.on_interpreter_startup_end),
    "interpreter_execute": lambda callback: (callback.on_interpreter_execute_start, callback.on_interpreter_execute_end),
    "interpreter_tool_call": lambda callback: (callback.on_interpreter_tool_call_start, callback.on_interpreter_tool_call_end),
    "interpreter_shutdown": lambda callback: (callback.on_interpreter_shutdown_start, callback.on_interpreter_shutdown_end),
    "evaluate": lambda callback: (callback.on_evaluate_start, callback.on_evaluate_end),
    "compile": lambda callback: (callback.on_compile_start, callback.on_compile_end),
}
_reported: set[tuple[type[BaseCallback], str]] = set()


class Observation:
    """A call that callbacks hear of. `with` begins and ends it; `give` tells its outputs."""

    __slots__ = ("_callbacks", "_inputs", "_instance", "_kind", "_outputs", "_parent", "call_id")

    def __init__(self, kind: Kind, instance: object, inputs: Inputs, callbacks: tuple[BaseCallback, ...]) -> None:
        self.call_id = uuid.uuid4().hex if callbacks else ""
        self._kind: Kind = kind
        self._instance = instance
        self._inputs = inputs
        self._callbacks = callbacks
        self._outputs: Any = None
        self._parent: str | None = None

    def begin(self) -> None:
        """Calls the hooks of the start; for calls that cannot be wrapped in `with`."""
        for callback in self._callbacks:
            start, _ = _HOOKS[self._kind](callback)
            try:
                start(self.call_id, self._instance, self._inputs)
            except Exception as error:
                _report(callback, f"on_{self._kind}_start", error)

    def end(self, outputs: Any = None, exception: BaseException | None = None) -> None:
        """Calls the hooks of the end."""
        for callback in self._callbacks:
            _, end = _HOOKS[self._kind](callback)
            try:
                end(self.call_id, outputs, exception)
            except Exception as error:
                _report(callback, f"on_{self._kind}_end", error)

    def give(self, outputs: Any) -> None:
        """Says what the call returns."""
        self._outputs = outputs

    def __enter__(self) -> Self:
        self.begin()
        self._parent = ACTIVE_CALL_ID.get()
        ACTIVE_CALL_ID.set(self.call_id)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ACTIVE_CALL_ID.set(self._parent)  # not reset by a token: a generator may be closed in another context
        self.end(None if error is not None else self._outputs, error)


class _Unobserved(Observation):
    """A call that nobody hears of; one for all of them."""

    __slots__ = ()

    def give(self, outputs: Any) -> None:
        """Nobody is told."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nobody is told."""


_UNOBSERVED = _Unobserved("module", None, {}, ())


def observed(kind: Kind, instance: object, inputs: Inputs, own: Sequence[BaseCallback] = ()) -> Observation:
    """Wraps a call so that the callbacks hear of it, in plain and in asynchronous code.

    >>> with observed("tool", len, {"text": "abc"}) as call:
    ...     call.give(len("abc"))

    Args:
        kind: Which hooks to call.
        instance: What is called.
        inputs: What it is called with.
        own: Callbacks of the instance, beside those of the settings.
    """
    callbacks = active_callbacks(own)
    return Observation(kind, instance, inputs, callbacks) if callbacks else _UNOBSERVED


def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an object of your own whose calls are heard as those of a module; modules, LMs and tools are heard without it.

    >>> class Shop:
    ...     @with_callbacks
    ...     def price(self, fruit: str) -> float:
    ...         return 0.5
    >>> Shop().price("apple")
    0.5
    """

    def heard(instance: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> Observation:
        own = getattr(instance, "callbacks", None) or ()  # anybody's class
        inputs = by_name(method, (instance, *positional), named) if active_callbacks(own) else {}
        return observed("module", instance, {name: value for name, value in inputs.items() if value is not instance}, own)

    @wraps(method)
    def call(instance: Any, *positional: Any, **named: Any) -> Any:
        with heard(instance, positional, named) as observation:
            observation.give(result := method(instance, *positional, **named))
        return result

    @wraps(method)
    async def acall(instance: Any, *positional: Any, **named: Any) -> Any:
        with heard(instance, positional, named) as observation:
            observation.give(result := await method(instance, *positional, **named))
        return result

    return acall if inspect.iscoroutinefunction(method) else call


def active_callbacks(own: Sequence[BaseCallback] = ()) -> tuple[BaseCallback, ...]:
    """Who would hear of a call here."""
    ambient = ambient_callbacks.get()
    return (*ambient, *own) if own else ambient


def by_name(function: Callable[..., Any], positional: tuple[Any, ...], inputs: Inputs) -> Inputs:
    """Inputs as callbacks see them, those that were given by position under the names that the function gives them."""
    try:
        return dict(inspect.signature(function).bind(*positional, **inputs).arguments)
    except TypeError:
        return {"args": positional, **inputs}


def _report(callback: BaseCallback, hook: str, error: Exception) -> None:
    """Says once for each hook of a class that it failed."""
    if (type(callback), hook) not in _reported:
        _reported.add((type(callback), hook))
        note(f"The callback {type(callback).__name__}.{hook} failed: {type(error).__name__}: {error}. The call went on; this is said once.")
