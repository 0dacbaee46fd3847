"""Passages: pieces of the user's own text, small enough to encode, each with a stable id and the place it came from.

Knows no file, no encoder and no index: what reads and cuts texts makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from homefire.retrieval.document import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One piece of a text."""

    id: str
    """The same for the same text from the same source, on every machine."""
    text: str
    source: str
    """Where the text is from: a path, an address, a title."""
    position: int = 0
    """Number of the piece within its source, from 0."""
    metadata: dict[str, Scalar] = field(default_factory=dict, hash=False)
    """Values kept with the passage; a `Chunker` adds `title`, `heading`, `page` and `line` where they are known."""
