"""Indexes of format 1: passages as lines of JSON beside one file of FAISS. Read here, so that they can be searched and written anew.

Knows nothing of how indexes are written today.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homefire.retrieval.passage import Passage
from homefire.retrieval.stored_files import sha256

if TYPE_CHECKING:
    from homefire.retrieval.encoder import Vectors

FORMAT_1 = 1
FOLDERS_1 = f"generation-{'[0-9]' * 6}"

_NAME = re.compile(r"generation-[0-9]{6}/(passages\.jsonl|vectors\.faiss)")
_FLAT = b"IxFI"
"""How FAISS begins a file of vectors that are compared by inner product, one by one."""


@dataclass(frozen=True, slots=True)
class OldIndex:
    """What such an index holds."""

    encoder: str
    passages: list[Passage]
    vectors: Vectors
    """One a passage, of shape `(n, dim)`."""


def read_format_1(directory: Path, values: Mapping[str, Any]) -> OldIndex:
    """Reads an index of format 1.

    Args:
        directory: Of the index.
        values: Its manifest.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not what was written.
    """
    try:
        files = dict(values["files"])
        for name, expected in files.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"manifest.json names {name!r}, which no index has")
            if sha256(directory / name) != expected:
                raise ValueError(f"{name} is not what was written")
        passages_file, vectors_file = (directory / name for name in files)
        with passages_file.open(encoding="utf-8") as lines:
            passages = [Passage(**json.loads(line)) for line in lines]
        return OldIndex(str(values["encoder"]), passages, _vectors(vectors_file, len(passages), int(values["dim"])))
    except (KeyError, TypeError) as error:
        raise ValueError(f"manifest.json cannot be read ({type(error).__name__}: {error})") from error


def _vectors(file: Path, count: int, dim: int) -> Vectors:
    """The numbers are the end of the file."""
    import numpy as np

    size = file.stat().st_size
    with file.open("rb") as data:
        if data.read(len(_FLAT)) != _FLAT or size < 4 * count * dim:
            raise ValueError(f"{file.name} does not hold {count} vectors of {dim} numbers")
    return np.fromfile(file, dtype="<f4", offset=size - 4 * count * dim).reshape(count, dim)
