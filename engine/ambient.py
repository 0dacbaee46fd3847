"""Ambient values: one for the whole process, and in a block another one.

Knows no value's meaning. What a block sets is a context variable whose name begins with `homefire_`, so that tasks inherit it and
`threads` takes it along.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class _Unset:
    """Says that no block has set the value."""


_UNSET: Final = _Unset()


class Ambient(Generic[T]):
    """A value that is read where it is needed instead of handed through every call.

    Args:
        name: What it is, for the context variable.
        process: The value of the process, until `process` is set; any thread may set it.
    """

    def __init__(self, name: str, process: T) -> None:
        self.process = process
        self._block: ContextVar[T | _Unset] = ContextVar(f"homefire_{name}", default=_UNSET)

    def get(self) -> T:
        """The value in force here: that of the innermost block, otherwise that of the process."""
        value = self._block.get()
        return self.process if isinstance(value, _Unset) else value

    @contextmanager
    def block(self, value: T) -> Iterator[None]:
        """Sets the value for a block, and for the tasks and threads that are started in it."""
        token = self._block.set(value)
        try:
            yield
        finally:
            self._block.reset(token)
