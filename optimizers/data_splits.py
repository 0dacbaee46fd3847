"""Dataset: examples in the splits train, dev and test, each in an order and of a size that seeds decide.

Knows no file. A data set of one's own says in `read` what its splits hold, or sets `_train`, `_dev` and `_test`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from homefire.errors import InputError
from homefire.modules.example import Example

T = TypeVar("T")
Split = Literal["train", "dev", "test"]
Raw = Mapping[str, Any] | Example


class Dataset:
    """A data set with three splits.

    Args:
        train_seed: Decides the order of `train`, and with it which examples a smaller size keeps.
        train_size: Most examples in `train`; None keeps all.
        eval_seed: The same for `dev` and `test`.
        dev_size: Most examples in `dev`.
        test_size: Most examples in `test`.
        input_keys: Fields that are inputs, where the examples do not say so themselves.
    """

    _train: Sequence[Raw] | None = None
    _dev: Sequence[Raw] | None = None
    _test: Sequence[Raw] | None = None

    def __init__(
        self,
        train_seed: int = 0,
        train_size: int | None = None,
        eval_seed: int = 0,
        dev_size: int | None = None,
        test_size: int | None = None,
        input_keys: Sequence[str] | None = None,
    ) -> None:
        self.input_keys = tuple(input_keys or ())
        self._sizes: dict[Split, int | None] = {"train": train_size, "dev": dev_size, "test": test_size}
        self._seeds: dict[Split, int] = {"train": train_seed, "dev": eval_seed, "test": eval_seed}
        self._made: dict[Split, list[Example]] = {}
        for name, size in self._sizes.items():
            if size is not None and size < 0:
                raise InputError(f"{name}_size is {size}; expected a number of examples, or None for all.")

    def read(self, split: Split) -> Sequence[Raw]:
        """All rows of a split, in an order that is always the same.

        Raises:
            InputError: there is no such split.
        """
        rows = {"train": self._train, "dev": self._dev, "test": self._test}[split]
        if rows is None:
            raise InputError(f"{type(self).__name__} has no split {split!r}. Set self._{split} in its constructor, or write `read`.")
        return rows

    @property
    def train(self) -> list[Example]:
        """Examples to learn from."""
        return self._split("train")

    @property
    def dev(self) -> list[Example]:
        """Examples to choose by."""
        return self._split("dev")

    @property
    def test(self) -> list[Example]:
        """Examples to report on."""
        return self._split("test")

    def reset_seeds(
        self,
        train_seed: int | None = None,
        train_size: int | None = None,
        eval_seed: int | None = None,
        dev_size: int | None = None,
        test_size: int | None = None,
    ) -> None:
        """Draws the splits anew; what is left out stays."""
        changes: dict[Split, tuple[int | None, int | None]] = {
            "train": (train_seed, train_size),
            "dev": (eval_seed, dev_size),
            "test": (eval_seed, test_size),
        }
        for split, (seed, size) in changes.items():
            self._seeds[split] = self._seeds[split] if seed is None else seed
            self._sizes[split] = self._sizes[split] if size is None else size
        self._made.clear()

    def _split(self, split: Split) -> list[Example]:
        if split not in self._made:
            size = self._sizes[split]
            rows = [] if size == 0 else list(self.read(split))
            random.Random(self._seeds[split]).shuffle(rows)
            self._made[split] = [self._example(row) for row in rows[:size]]
        return self._made[split]

    def _example(self, row: Raw) -> Example:
        example = Example(row)
        return example.with_inputs(*self.input_keys) if self.input_keys and example._input_keys is None else example


def carved(rows: Sequence[T], share: float = 0.25) -> tuple[list[T], list[T]]:
    """Official training data as data to learn from and, `share` of it, data to choose by; always the same for the same rows."""
    shuffled = random.Random(0).sample(list(rows), len(rows))
    kept = len(rows) - round(share * len(rows))
    return shuffled[:kept], shuffled[kept:]
