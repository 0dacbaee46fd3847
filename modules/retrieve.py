"""Retrieve: a step of a program that finds passages for a query, heard by callbacks and shown in traces like any other.

Knows no index; whom it asks is given, or set for the whole process by `configure(rm=...)`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from homefire.engine.callbacks import BaseCallback
from homefire.engine.lm_options import checked_callbacks
from homefire.errors import ConfigError, InputError
from homefire.modules.copies import copied
from homefire.modules.example import Prediction
from homefire.modules.module import Module
from homefire.modules.retriever import Retriever, search
from homefire.modules.settings import current
from homefire.retrieval.index import Index


class Retrieve(Module):
    """Finds passages: `Retrieve(k=3)("a query").passages` are their texts, the best one first; `hits` also have ids, sources and scores.

    >>> find = Retrieve(k=1, retriever=lambda query, k: ["Bread needs flour.", "Cats purr."])
    >>> find("What is in bread?").passages
    ['Bread needs flour.']

    Args:
        k: How many.
        callbacks: Hear the calls of this step, beside those of the settings.
        retriever: Whom to ask, or the folder of an index; copies of the program share it, and a saved program notes where its index is.
            Without one, that of the settings: `configure(rm=index)`.
        options: More arguments of every search; an `Index` takes `method`, `where` and `rerank`.

    Raises:
        InputError: `k` is below 1, or the retriever cannot be called.
    """

    def __init__(
        self,
        k: int = 3,
        callbacks: Sequence[BaseCallback] | None = None,
        *,
        retriever: Retriever | Path | str | None = None,
        **options: Any,
    ) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError(f"k is {k!r}; expected a whole number, 1 or more.")
        if retriever is not None and not callable(retriever) and not isinstance(retriever, Path | str):
            raise InputError(f"The retriever is {retriever!r}; expected an Index or its folder, or a function retriever(query, k=3).")
        self.k = k
        self.retriever: Retriever | None = Index.open(retriever) if isinstance(retriever, Path | str) else retriever
        self.options = options
        if callbacks:
            self.callbacks = checked_callbacks(callbacks)

    def forward(self, query: str, k: int | None = None, **options: Any) -> Prediction:
        """What is found.

        Args:
            query: What to look for.
            k: How many, for this call.
            options: More arguments of this search, over those of the step.

        Raises:
            ConfigError: there is no retriever.
            InputError: the query is no text, or the retriever gave no passages.
        """
        found = search(self._asked(), query, self.k if k is None else k, {**self.options, **options})
        return Prediction(passages=found.passages, hits=found)

    async def aforward(self, query: str, k: int | None = None, **options: Any) -> Prediction:
        """As `forward`, awaited."""
        return await asyncio.to_thread(self.forward, query, k, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> Retrieve:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update({name: value if name == "retriever" else copied(value, memo) for name, value in self.__dict__.items()})
        return made

    def __getstate__(self) -> dict[str, Any]:
        """What is saved: of an index the place where it is."""
        place = {"retriever": self.retriever.directory.absolute()} if isinstance(self.retriever, Index) else {}
        return {**self.__dict__, **place}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        retriever = state["retriever"]
        self.__dict__.update(state, retriever=Index.open(retriever) if isinstance(retriever, Path) else retriever)

    def _asked(self) -> Retriever:
        retriever: Any = current().rm if self.retriever is None else self.retriever
        if retriever is None:
            raise ConfigError("No retriever is set. Write homefire.configure(rm=index), or Retrieve(retriever=index).")
        if not callable(retriever):
            raise ConfigError(f"rm is {retriever!r}; expected an Index, or a function retriever(query, k=3).")
        found: Retriever = retriever
        return found
