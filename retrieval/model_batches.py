"""Batches of texts for a model: sorted by their length in tokens, so that little is computed for padding, with progress.

Knows no kind of model but by what it takes and gives: features in, features out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from homefire.configs.console import Task, progress
from homefire.retrieval.one_core import on_one_core

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

T = TypeVar("T")
Item: TypeAlias = "str | tuple[str, str]"
Features: TypeAlias = dict[str, Any]
"""Tensors and settings by name, as sentence-transformers' models take and give them."""

_SMALL = 4000
"""Characters up to which texts count as few, about a thousand tokens."""
_BLOCK = 1024
"""Texts that are cut into tokens at once; within them batches are sorted by the number of tokens."""
_LONG = 8.0
"""Seconds still to go from which progress is shown."""


class Model(Protocol):
    """What the models of sentence-transformers have in common."""

    @property
    def device(self) -> torch.device: ...

    def preprocess(self, inputs: Any, prompt: str | None = None, **options: Any) -> Features:
        """Texts to features."""
        ...

    def __call__(self, features: Features, **options: Any) -> Features:
        """Features to more features."""
        ...


class ModelBatches:
    """Runs a model over texts, or over pairs of texts. Methods may be called from any thread.

    On a CPU, few texts run on one core, because waking more takes longer than the work when other threads want them.
    """

    def __init__(self, model: Model, batch_size: int | None = None) -> None:
        self.model = model
        self.batch_size = batch_size or (256 if model.device.type == "cuda" else 32)
        self._tokenizing = Lock()  # a tokenizer that truncates or pads is for one thread at a time

    def where_it_is_fastest(self, items: Sequence[Item], work: Callable[[], T]) -> T:
        """Does the work for these texts on one core when they are few, else on the caller's thread with all cores."""
        if self.model.device.type != "cpu" or sum(map(_characters, items)) > _SMALL:
            return work()
        return on_one_core(lambda _: work(), [None])[0]

    def run(
        self, items: Sequence[Item], what: str, prompt: str | None = None, task: str | None = None
    ) -> Iterator[tuple[npt.NDArray[np.int64], Features]]:
        """The model's features of all texts, a batch at a time, in an order of its own.

        Args:
            items: Texts, or pairs of texts.
            what: What they are, as in "passages"; shown with the progress.
            prompt: Put before each text.
            task: `query` or `document`, for models that treat them differently.

        Yields:
            The places of the texts of a batch among `items`, and the features for them.
        """
        import numpy as np
        import torch

        options = {} if task is None else {"task": task}
        order = np.argsort([-_characters(item) for item in items], kind="stable")
        with _Progress(f"Encoding {what}", len(items)) as shown:
            for start in range(0, len(items), _BLOCK):
                block = order[start : start + _BLOCK]
                with self._tokenizing:
                    features = self.model.preprocess([items[place] for place in block], prompt=prompt, **options)
                for places, batch in _even(features, block, self.batch_size):
                    with torch.inference_mode():
                        done = self.model(_moved(batch, self.model.device), **options)
                    yield places, done
                    shown.advance(len(places))


def _even(features: Features, block: npt.NDArray[np.int64], size: int) -> Iterator[tuple[npt.NDArray[np.int64], Features]]:
    """Cuts the features of many texts into those of batches of texts with about as many tokens, without the padding that is then needless.

    Features that are not one row a text, as models without attention have, stay together.
    """
    import torch

    mask, tokens = features.get("attention_mask"), features.get("input_ids")
    if not isinstance(mask, torch.Tensor) or not isinstance(tokens, torch.Tensor) or mask.shape != tokens.shape or mask.ndim != 2:
        yield block, features
        return
    used = mask.bool() | features.get("query_expansion_positions", mask).bool()
    order = torch.argsort(used.sum(dim=1), descending=True, stable=True)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        columns = used[rows].any(dim=0).nonzero()
        first, last = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 1)
        yield (
            block[rows.numpy()],
            {
                name: value[rows, first:last]
                if isinstance(value, torch.Tensor) and value.ndim >= 2 and value.shape[:2] == mask.shape
                else value
                for name, value in features.items()
            },
        )


def _moved(features: Features, device: torch.device) -> Features:
    import torch

    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in features.items()}


def _characters(item: Item) -> int:
    return len(item) if isinstance(item, str) else sum(map(len, item))


class _Progress:
    """Progress that is shown once it is known to take long."""

    def __init__(self, description: str, total: int) -> None:
        self._description, self._total = description, total
        self._done, self._start = 0, time.monotonic()
        self._task: Task | None = None
        self._stack = ExitStack()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def advance(self, count: int) -> None:
        self._done += count
        left = (self._total / self._done - 1) * (time.monotonic() - self._start)
        if self._task is None and left > _LONG:
            self._task = self._stack.enter_context(progress(self._description, total=self._total))
        if self._task is not None:
            self._task.update(completed=self._done)
