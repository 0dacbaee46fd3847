"""The ids of a segment: which row has an id, and which id a row has, from memory-mapped files that are written once.

Knows no vectors. Ids are found by their hashes in order, so that a million of them is opened without being read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from homefire.retrieval.array_file import write_array

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Rows = npt.NDArray[np.int64]

TEXT, ENDS, HASHES, ROWS = "ids.npy", "id_ends.npy", "id_hashes.npy", "id_rows.npy"


def write_ids(folder: Path, ids: Sequence[str]) -> None:
    """Writes the ids of row 0, row 1, ..., which are all different, into a folder that exists."""
    import numpy as np

    encoded = [one.encode("utf-8", "surrogatepass") for one in ids]
    hashes = np.array([_hash(one) for one in encoded], dtype=np.uint64)
    order = np.argsort(hashes, kind="stable")
    write_array(folder / TEXT, [np.frombuffer(b"".join(encoded), dtype=np.uint8)], np.uint8)
    write_array(folder / ENDS, [np.cumsum([len(one) for one in encoded], dtype=np.int64)], np.int64)
    write_array(folder / HASHES, [hashes[order]], np.uint64)
    write_array(folder / ROWS, [order], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class IdTable:
    """Written ids. Methods may be called from any thread."""

    text: npt.NDArray[np.uint8]
    ends: Rows
    hashes: npt.NDArray[np.uint64]
    """Ascending."""
    rows: Rows
    """Of each hash."""

    @classmethod
    def open(cls, folder: Path) -> IdTable:
        """Opens what `write_ids` wrote, without reading it.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is not what it should be.
        """
        import numpy as np

        try:
            text, ends, hashes, rows = (np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (TEXT, ENDS, HASHES, ROWS))
        except EOFError as error:
            raise ValueError("a file of ids is empty") from error
        found = tuple((array.dtype.str, array.shape) for array in (text, ends, hashes, rows))
        size = (len(ends),)
        if found != (("|u1", (int(ends[-1]) if len(ends) else 0,)), ("<i8", size), ("<u8", size), ("<i8", size)):
            raise ValueError(f"the files of ids do not belong together: {found}")
        return cls(text, ends, hashes, rows)

    def __len__(self) -> int:
        return len(self.ends)

    def ids_of(self, rows: Rows) -> list[str]:
        """The ids of some rows, in order."""
        ends = self.ends[rows].tolist()
        begins = [int(self.ends[row - 1]) if row else 0 for row in rows.tolist()]
        return [self.text[begin:end].tobytes().decode("utf-8", "surrogatepass") for begin, end in zip(begins, ends, strict=True)]

    def rows_of(self, ids: Sequence[str]) -> Rows:
        """The row of each id, -1 for those that are not here."""
        import numpy as np

        encoded = [one.encode("utf-8", "surrogatepass") for one in ids]
        hashes = np.array([_hash(one) for one in encoded], dtype=np.uint64)
        found = np.full(len(ids), -1, dtype=np.int64)
        firsts, lasts = self.hashes.searchsorted(hashes), self.hashes.searchsorted(hashes, side="right")
        for number in np.flatnonzero(firsts < lasts).tolist():
            for row in self.rows[firsts[number] : lasts[number]].tolist():
                if self.text[self.ends[row - 1] if row else 0 : self.ends[row]].tobytes() == encoded[number]:
                    found[number] = row
        return found


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
