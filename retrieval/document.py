"""Documents: whole texts with the place they came from, before they are cut into passages.

Knows no file format and no index: readers make documents, a `Chunker` cuts them.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import dataclass, field
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool
"""What metadata holds."""

_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))


@dataclass(frozen=True, slots=True)
class Document:
    """Everything of one source. Its text is plain text or Markdown; a form feed begins a new page."""

    source: str
    """Where the text is from, and the name by which it is found again: a path, an address, a title."""
    text: str
    metadata: dict[str, Scalar] = field(default_factory=dict, hash=False)
    """Values that each of its passages gets."""
    title: str = ""
    lines: tuple[int, ...] | None = ()
    """For each line of the text its line in the file; empty where they are the same, None where a line would say nothing."""

    @property
    def digest(self) -> str:
        """SHA-256 of all but the source: equal for a document that was read again and is unchanged."""
        rest = json.dumps([self.title, sorted(self.metadata.items()), self.lines])
        digest = hashlib.sha256(rest.encode())
        digest.update(self.text.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def text_key(text: str) -> str:
    """A key that is equal for texts that differ only in letter case, blanks, ligatures or invisible characters; 32 hex digits."""
    plain = unicodedata.normalize("NFKC", text.translate(_INVISIBLE)).casefold()
    return hashlib.sha256(" ".join(plain.split()).encode("utf-8", "surrogatepass")).hexdigest()[:32]
