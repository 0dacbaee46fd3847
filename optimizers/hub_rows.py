"""Rows of Hugging Face data sets: from the local cache, and from the hub only where the user asks for a download.

Knows no example and no program. The one owner of `datasets` beside the trainer.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from homefire.configs.console import quiet_libraries
from homefire.errors import InputError, MissingExtra


def hub_rows(name: str, *arguments: Any, download: bool, **options: Any) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split that is asked for; numbers that stand for classes become their names.

    Args:
        name: Name of the data set on the hub, of a local folder, or of a file type.
        arguments: Further arguments of `datasets.load_dataset`: the configuration.
        download: Whether it may be fetched when it is not in the cache.
        options: Options of `datasets.load_dataset`; with `split` the only key is that split's name.

    Raises:
        MissingExtra: `datasets` is not installed.
        InputError: it is not in the cache, or cannot be loaded.
    """
    if importlib.util.find_spec("datasets") is None:
        raise MissingExtra("datasets", "train", "Loading a Hugging Face data set")
    quiet_libraries()
    from datasets import DatasetDict, load_dataset

    with _network(download):
        try:
            loaded = load_dataset(name, *arguments, **options)
        except (OSError, ValueError, RuntimeError) as error:
            said = " ".join(str(error).split())[:300]
            if download:
                raise InputError(f"The data set {name!r} cannot be loaded: {said}") from error
            raise InputError(
                f"The data set {name!r} cannot be loaded without the network: {said}. Fetch it once with download=True, "
                "or read a local file: from_json('file.jsonl')."
            ) from error
    if isinstance(loaded, DatasetDict):
        return {split: _named(part) for split, part in loaded.items()}
    return {str(options.get("split", "train")): _named(loaded)}


def _named(part: Any) -> list[dict[str, Any]]:
    """The rows, with the names of classes instead of their numbers."""
    from datasets import ClassLabel

    rows: list[dict[str, Any]] = part.to_list()
    for column, feature in part.features.items():
        if isinstance(feature, ClassLabel):
            for row in rows:
                if row[column] is not None and row[column] >= 0:
                    row[column] = feature.int2str(row[column])
    return rows


@contextmanager
def _network(allowed: bool) -> Iterator[None]:
    """Opens or closes the way to the hub for the block, whatever the environment says."""
    from datasets import config
    from huggingface_hub import constants

    before = config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = not allowed
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before
