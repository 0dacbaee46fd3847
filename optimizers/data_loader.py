"""DataLoader: examples from files, data frames and Hugging Face data sets, and splits of them.

Knows no program. Nothing is downloaded unless the call says so.
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from homefire.errors import InputError
from homefire.modules.example import Example
from homefire.modules.settings import current
from homefire.optimizers.data_files import PlacedRow, problems_of, read_rows
from homefire.optimizers.hub_rows import hub_rows

T = TypeVar("T")


class DataLoader:
    """Loads examples. Every reader takes `fields`, the columns to keep (all without it), and `input_keys`, those that are inputs.

    >>> loader = DataLoader()
    >>> examples = loader.from_csv("mail.csv", fields=("text", "label"), input_keys=("text",))  # doctest: +SKIP
    >>> parts = loader.train_test_split(examples, train_size=0.8, random_state=0)  # doctest: +SKIP
    """

    def from_csv(
        self,
        file_path: str | Path,
        fields: Sequence[str] | None = None,
        input_keys: Sequence[str] = (),
        *,
        numbers: bool = True,
    ) -> list[Example]:
        """Examples of a CSV or TSV file with a header row.

        Args:
            file_path: The file, in UTF-8.
            fields: Columns to keep.
            input_keys: Columns that are inputs.
            numbers: Whether columns that hold nothing but numbers become numbers; codes with leading zeros stay text.

        Raises:
            InputError: the file is missing or broken, or lacks a column.
        """
        return _examples(read_rows(file_path, numbers=numbers, expected=[*(fields or ()), *input_keys]), fields, input_keys)

    def from_json(self, file_path: str | Path, fields: Sequence[str] | None = None, input_keys: Sequence[str] = ()) -> list[Example]:
        """Examples of a file with a JSON list of objects, or with one object a line.

        Raises:
            InputError: the file is missing or broken, or lacks a key.
        """
        path = Path(file_path)
        if path.suffix.lower() not in {".json", ".jsonl", ".ndjson"}:
            raise InputError(f"{path} is not named like JSON; expected is .json, .jsonl or .ndjson. Rename it, or use from_csv.")
        return _examples(read_rows(path, expected=[*(fields or ()), *input_keys]), fields, input_keys)

    def from_jsonl(self, file_path: str | Path, fields: Sequence[str] | None = None, input_keys: Sequence[str] = ()) -> list[Example]:
        """As `from_json`."""
        return self.from_json(file_path, fields, input_keys)

    def from_parquet(self, file_path: str | Path, fields: Sequence[str] | None = None, input_keys: Sequence[str] = ()) -> list[Example]:
        """Examples of a Parquet file.

        Raises:
            InputError: the file is missing or broken, or lacks a column.
            MissingExtra: `pyarrow` is not installed.
        """
        path = Path(file_path)
        if path.suffix.lower() not in {".parquet", ".pq"}:
            raise InputError(f"{path} is not named like Parquet; expected is .parquet. Rename it, or use from_csv or from_json.")
        return _examples(read_rows(path), fields, input_keys)

    def from_pandas(self, df: Any, fields: Sequence[str] | None = None, input_keys: Sequence[str] = ()) -> list[Example]:
        """Examples of a data frame; what pandas counts as missing is None.

        Raises:
            InputError: it is no data frame, or lacks a column.
        """
        try:
            records = df.astype(object).where(df.notna(), None).to_dict(orient="records")
        except AttributeError:
            raise InputError(f"{type(df).__name__} is no pandas data frame. For files use from_csv, from_json or from_parquet.") from None
        return _examples([PlacedRow(f"row {number}", row) for number, row in enumerate(records, 1)], fields, input_keys)

    def from_huggingface(
        self,
        dataset_name: str,
        *args: Any,
        input_keys: Sequence[str] = (),
        fields: Sequence[str] | None = None,
        download: bool = False,
        **kwargs: Any,
    ) -> list[Example] | dict[str, list[Example]]:
        """Examples of a Hugging Face data set: a list with `split="train"`, otherwise a list for each split.

        Args:
            dataset_name: Its name on the hub, or a local folder.
            args: Further arguments of `datasets.load_dataset`: the configuration.
            input_keys: Columns that are inputs.
            fields: Columns to keep.
            download: Whether to fetch it when it is not in the local cache.
            kwargs: Options of `datasets.load_dataset`, such as `split`; a list of splits gives a list for each.

        Raises:
            InputError: it is not in the cache, or lacks a column.
            MissingExtra: `datasets` is not installed.
        """
        split = kwargs.pop("split", None)
        if isinstance(split, list | tuple):
            parts = {name: hub_rows(dataset_name, *args, download=download, split=name, **kwargs)[name] for name in split}
        else:
            options = kwargs if split is None else {**kwargs, "split": split}
            parts = hub_rows(dataset_name, *args, download=download, **options)
        made = {
            name: _examples(
                [PlacedRow(f"{dataset_name} {name}, row {place}", row) for place, row in enumerate(rows, 1)], fields, input_keys
            )
            for name, rows in parts.items()
        }
        return made[split] if isinstance(split, str) else made

    def from_rm(self, num_samples: int, fields: Sequence[str], input_keys: Sequence[str]) -> list[Example]:
        """Examples of the objects that the retriever of the settings holds, where it has a method `get_objects`, as some stores do.

        Raises:
            InputError: there is no retriever, or it has no such method.
        """
        rm = current().rm
        try:
            objects = rm.get_objects(num_samples=num_samples, fields=list(fields))
        except AttributeError:
            said = f"The retriever of the settings is {rm!r:.80}, which has no get_objects(num_samples=..., fields=...)"
            raise InputError(f"{said}. Read examples from a file: from_csv, from_json or from_parquet.") from None
        return _examples([PlacedRow(f"object {number}", row) for number, row in enumerate(objects, 1)], fields, input_keys)

    def sample(self, dataset: Sequence[T], n: int, *, seed: int = 0) -> list[T]:
        """Draws `n` examples without repeating one; the same seed draws the same.

        Raises:
            InputError: `n` is negative or more than there are.
        """
        if not 0 <= n <= len(dataset):
            raise InputError(f"{n} examples were to be drawn from {len(dataset)}; give a number between 0 and {len(dataset)}.")
        return random.Random(seed).sample(list(dataset), n)

    def train_test_split(
        self,
        dataset: Sequence[T],
        train_size: int | float = 0.75,
        test_size: int | float | None = None,
        random_state: int | None = 0,
    ) -> dict[str, list[T]]:
        """Splits examples at random into `train` and `test`; no example is in both.

        Args:
            dataset: Examples.
            train_size: A share between 0 and 1, or a number of examples.
            test_size: The same; without it all that is left.
            random_state: Seed; None draws a new split every time.

        Raises:
            InputError: the sizes do not fit.
        """
        total = len(dataset)
        train = _count("train_size", train_size, total)
        test = total - train if test_size is None else _count("test_size", test_size, total)
        if train + test > total:
            raise InputError(f"train_size={train_size} and test_size={test_size} need {train + test} of {total} examples. Give less.")
        shuffled = random.Random(random_state).sample(list(dataset), total)
        return {"train": shuffled[:train], "test": shuffled[train : train + test]}


def _count(name: str, size: int | float, total: int) -> int:
    if isinstance(size, float) and 0 < size < 1:
        return int(total * size)
    if isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= total:
        return size
    raise InputError(f"{name} is {size!r}; expected a share between 0 and 1, such as 0.75, or a number of at most {total} examples.")


def _examples(rows: Sequence[PlacedRow], fields: Sequence[str] | None, input_keys: Sequence[str]) -> list[Example]:
    """The rows as examples.

    Raises:
        InputError: a column is in no row, or one that is asked for is missing in some.
    """
    for argument, names in (("fields", fields), ("input_keys", input_keys)):
        if isinstance(names, str):
            raise InputError(f"{argument} is the text {names!r}; expected a list of names: {argument}=[{names!r}].")
    columns = dict.fromkeys(name for row in rows for name in row.values)
    wanted = [*(fields or ()), *(name for name in input_keys if fields is not None and name not in fields)]
    for name in dict.fromkeys([*wanted, *input_keys]):
        if rows and name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"There is no column {name!r}.{guess} The columns are: {', '.join(columns)}.")
    needed = wanted or list(input_keys)
    lacking = [f"{row.place}: no {name!r}" for row in rows for name in needed if name not in row.values]
    if lacking:
        raise problems_of(lacking, "Complete the rows, or take them out.")
    made = [Example(_kept(row.values, wanted)) for row in rows]
    return [example.with_inputs(*input_keys) for example in made] if input_keys else made


def _kept(values: Mapping[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    names = list(wanted)
    return {name: values[name] for name in names} if names else dict(values)
