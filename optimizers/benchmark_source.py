"""Where the rows of a public data set come from: a folder of the user's, or the local cache of the Hugging Face hub.

Knows no example. Nothing is downloaded unless the user asks for it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homefire.errors import InputError
from homefire.optimizers.data_files import PlacedRow, read_rows
from homefire.optimizers.hub_rows import hub_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a data set is called in the two places, and the files that its folder has."""

    title: str
    """Name of the class, for errors."""
    folder: str
    """Name of its folder below `HOMEFIRE_DATA`."""
    files: Mapping[str, Sequence[str]]
    """For each official split the names of its files, the best one first; patterns are allowed, and all matches of one are read."""
    hub: str
    """Name on the hub."""
    config: str | None = None
    splits: Mapping[str, str]
    """Name on the hub of each official split."""


class Source:
    """Rows of the official splits of one data set.

    Args:
        origin: What to look for.
        folder: A folder with its files; without it `HOMEFIRE_DATA` is looked at, then the hub's cache.
        download: Whether it may be fetched from the hub when it is in neither.

    Raises:
        InputError: the folder is not there or has none of the files.
    """

    def __init__(self, origin: Origin, folder: str | Path | None, *, download: bool) -> None:
        self._origin = origin
        self._download = download
        self.folder = _folder(origin, folder)
        if self.folder is None:
            self._probe()

    def rows(self, split: str) -> list[PlacedRow]:
        """The rows of an official split.

        Raises:
            InputError: it is not there, or a file is broken.
        """
        if self.folder is None:
            name = self._origin.splits[split]
            return [PlacedRow(f"{self._origin.hub} {name}, row {number}", row) for number, row in enumerate(self._from_hub(name), 1)]
        files = self.files(split)
        if not files:
            wanted, there = " or ".join(self._origin.files[split]), ", ".join(one for one in self._origin.files if self.files(one))
            raise InputError(f"The folder {self.folder} has no {split} data of {self._origin.title}, only {there}. Put {wanted} there.")
        return [row for file in files for row in read_rows(file)]

    def files(self, split: str) -> list[Path]:
        """The files of an official split in the folder."""
        return [] if self.folder is None else _matching(self.folder, self._origin.files[split])

    def _probe(self) -> None:
        """Sees to it that the hub's cache has the data, before anybody waits for it."""
        if not self._download and importlib.util.find_spec("datasets") is None:
            raise self._nowhere("the package 'datasets', which reads it, is not installed")
        try:
            self._from_hub(f"{list(self._origin.splits.values())[-1]}[:1]")
        except InputError as error:
            if self._download:
                raise
            raise self._nowhere("it was never fetched") from error

    def _from_hub(self, split: str) -> list[dict[str, Any]]:
        arguments = () if self._origin.config is None else (self._origin.config,)
        return hub_rows(self._origin.hub, *arguments, download=self._download, split=split)[split]

    def _nowhere(self, why: str) -> InputError:
        origin, files = self._origin, " and ".join(" or ".join(names[:2]) for names in self._origin.files.values())
        return InputError(
            f"{origin.title} is neither in a folder nor in the Hugging Face cache ({origin.hub}: {why}). Either give a folder that has "
            f"{files}: {origin.title}(folder='...'), or set HOMEFIRE_DATA to the folder above it, where it is called {origin.folder!r}; "
            f"or let it be fetched once: {origin.title}(download=True)."
        )


def _folder(origin: Origin, folder: str | Path | None) -> Path | None:
    """The folder that is given, otherwise the one below `HOMEFIRE_DATA` if it is there."""
    wanted = ", ".join(name for names in origin.files.values() for name in names)
    if folder is not None:
        path = Path(folder).expanduser()
        if not path.is_dir():
            raise InputError(f"There is no folder {path}. {origin.title}(folder=...) takes a folder with {wanted}.")
        if not any(_matching(path, names) for names in origin.files.values()):
            raise InputError(f"The folder {path} has no file of {origin.title}; expected is one of {wanted}.")
        return path
    base = os.environ.get("HOMEFIRE_DATA")
    path = Path(base).expanduser() / origin.folder if base else Path()
    return path if base and any(_matching(path, names) for names in origin.files.values()) else None


def _matching(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files of the first name that there are any of."""
    for name in names:
        if found := sorted(folder.glob(name)):
            return found
    return []
