"""Segments: some passages of an index with what every method needs to search them, in one folder that is written once.

Knows no manifest and no deleted rows: a segment never changes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from homefire.retrieval.dense import DensePart, write_dense
from homefire.retrieval.encoded import Encoded
from homefire.retrieval.encoder import Vectors
from homefire.retrieval.late_codec import Codec
from homefire.retrieval.late_files import write_tokens
from homefire.retrieval.late_part import TokenPart, merge_tokens
from homefire.retrieval.passage import Passage
from homefire.retrieval.passage_table import Keyed, PassageTable, merge_passages, write_passages
from homefire.retrieval.terms import TermPart, merge_terms, write_terms
from homefire.retrieval.token_vectors import TokenVectors
from homefire.retrieval.words import Analyzer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DENSE, TERMS, TOKENS = "dense", "terms", "tokens"

_REMEMBERED = 16_384
"""Passages of a segment that stay in memory after they were found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSegment:
    """What will be one."""

    passages: Sequence[Keyed]
    spare: Sequence[Keyed] = ()
    """Passages that are kept, but not searched."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """What the documents were that are whole in it, by source."""
    vectors: Vectors | None = None
    """Of shape `(len(passages), dim)`; None where the index has no dense part."""
    analyzer: Analyzer | None = None
    """None where the index has no BM25."""
    tokens: TokenVectors | None = None
    """Of the passages; None where the index has no late interaction."""
    codec: Codec | None = None
    """Compresses them."""


def write_segment(folder: Path, new: NewSegment) -> None:
    """Writes the files of a segment into a folder that is there and empty.

    Raises:
        InputError: a passage has metadata that cannot be saved.
        DiskError: the disk is full.
    """
    write_passages(folder, new.passages, new.spare, new.digests)
    if not new.passages:
        return
    if new.vectors is not None:
        (folder / DENSE).mkdir()
        write_dense(folder / DENSE, new.vectors)
    if new.analyzer is not None:
        (folder / TERMS).mkdir()
        write_terms(folder / TERMS, (passage.text for passage, _ in new.passages), new.analyzer)
    if new.tokens is not None:
        (folder / TOKENS).mkdir()
        write_tokens(folder / TOKENS, new.tokens, new.codec)


def merge_segments(folder: Path, segments: Sequence[Segment], keep: Sequence[npt.NDArray[np.bool_]], codec: Codec | None) -> None:
    """Writes the kept rows of some segments as one, in their order, without encoding anything again.

    Args:
        folder: Is there and empty.
        segments: Of one index.
        keep: For each which of its rows count, the spare ones included.
        codec: For the token vectors.

    Raises:
        DiskError: the disk is full.
    """
    merge_passages(folder, [segment.table for segment in segments], keep)
    masks = [mask[: segment.table.rows] for segment, mask in zip(segments, keep, strict=True)]
    if not any(mask.any() for mask in masks):
        return
    dense = [(segment.dense.vectors, mask) for segment, mask in zip(segments, masks, strict=True) if segment.dense]
    if dense:
        (folder / DENSE).mkdir()
        write_dense(folder / DENSE, [vectors if mask.all() else vectors[mask] for vectors, mask in dense])
    terms = [(segment.terms, mask) for segment, mask in zip(segments, masks, strict=True) if segment.terms]
    if terms:
        (folder / TERMS).mkdir()
        merge_terms(folder / TERMS, [part for part, _ in terms], [None if mask.all() else mask for _, mask in terms])
    tokens = [(segment.tokens, mask) for segment, mask in zip(segments, masks, strict=True) if segment.tokens]
    if tokens:
        (folder / TOKENS).mkdir()
        merge_tokens(folder / TOKENS, [part for part, _ in tokens], [None if mask.all() else mask for _, mask in tokens], codec)


def stored_vectors(rows: Sequence[tuple[Segment, int]]) -> Encoded:
    """The vectors of some rows, at least one; token vectors as their codec decodes them."""
    import numpy as np

    dense = [segment.dense.vectors[row] for segment, row in rows if segment.dense]
    tokens = [segment.tokens.read(np.array([row], dtype=np.int64)) for segment, row in rows if segment.tokens]
    return Encoded(np.stack(dense) if dense else None, TokenVectors.of([one[0] for one in tokens], tokens[0].dim) if tokens else None)


class Segment:
    """A written segment, opened without reading it: memory maps, and a table that is asked row by row. Serves any thread.

    Args:
        name: As the manifest calls it.
        table: Its passages.
        dense: One vector a passage; None where there is no such part, or no row.
        terms: Its terms; None likewise.
        tokens: One vector a token; None likewise.
    """

    def __init__(self, name: str, table: PassageTable, dense: DensePart | None, terms: TermPart | None, tokens: TokenPart | None) -> None:
        self.name = name
        self.table = table
        self.dense = dense
        self.terms = terms
        self.tokens = tokens
        self._found: dict[int, Passage] = {}

    @classmethod
    def open(cls, directory: Path, name: str, methods: Sequence[str], codec: Codec | None) -> Segment:
        """Opens the segment of that name in the directory of an index.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is not what it should be.
            MissingExtra: faiss is not installed.
        """
        folder = directory / name
        try:
            table = PassageTable.open(folder)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{name}: {error}") from error
        wanted = methods if table.rows else ()
        return cls(
            name,
            table,
            DensePart.open(folder / DENSE) if "dense" in wanted else None,
            TermPart.open(folder / TERMS) if "bm25" in wanted else None,
            TokenPart.open(folder / TOKENS, codec) if "late" in wanted else None,
        )

    def fetch(self, rows: Sequence[int]) -> Mapping[int, Passage]:
        """The passages of some rows, and maybe of others."""
        found = self._found
        missing = [row for row in rows if row not in found]
        if missing:
            if len(found) + len(missing) > _REMEMBERED:
                self._found = found = {row: found[row] for row in rows if row in found}
            found.update(self.table.fetch(missing))
        return found
