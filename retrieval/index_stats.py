"""What an index holds, in numbers.

Knows no search; reads the manifest, sizes of files, and the names of sources.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from homefire.retrieval.segment import DENSE, TERMS, TOKENS
from homefire.retrieval.snapshot import Snapshot

_PARTS = {DENSE: "dense", TERMS: "bm25", TOKENS: "late"}


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStats:
    """What an index holds; values of JSON."""

    directory: str
    generation: int
    """Commits so far."""
    passages: int
    documents: int
    """Sources of the passages."""
    duplicates: int
    """Passages that are not searched, because another one has their text."""
    deleted: int
    """Passages that are not searched any more, and whose space comes back when segments are merged."""
    segments: int
    methods: tuple[str, ...]
    default_method: str
    encoder: str | None
    dim: int | None
    language: str
    """Of the stemmer and the stop words of BM25."""
    fields: tuple[str, ...]
    """Values of the passages that `where` can ask for, beside id, source and position."""
    dense_kinds: dict[str, int]
    """Passages by how their vectors are searched."""
    dense_recall: float | None
    """Share of the true ten best that a dense search finds, measured on a sample; the mean over the passages."""
    token_encoder: str | None
    token_bits: int | None
    """For each number of a token vector; None while there are so few that they are not compressed."""
    tokens: int
    """Token vectors."""
    bytes: int
    """On disk."""
    bytes_of: dict[str, int]
    """On disk, by method, and `passages` for their texts."""


def stats(directory: Path, snapshot: Snapshot) -> IndexStats:
    """Counts what a state holds; reads the names of all sources."""
    manifest = snapshot.manifest
    sizes: Counter[str] = Counter()
    for name, record in snapshot.state.files.items():
        kind, _, *rest = name.split("/")
        sizes["late" if kind == "codecs" else _PARTS.get(rest[0] if rest else "", "passages")] += record.size
    kinds: Counter[str] = Counter()
    found = 0.0
    for view in snapshot.views:
        if view.segment.dense is not None:
            report = view.segment.dense.report
            kinds[report.kind] += view.rows
            found += report.recall * view.rows
    return IndexStats(
        directory=str(directory),
        generation=manifest.generation,
        passages=manifest.count,
        documents=len(snapshot.sources()),
        duplicates=manifest.duplicates,
        deleted=sum(entry.deleted_rows for entry in manifest.segments),
        segments=len(manifest.segments),
        methods=manifest.methods,
        default_method=manifest.default_method,
        encoder=None if manifest.encoder is None else manifest.encoder.name,
        dim=None if manifest.encoder is None else manifest.encoder.dim,
        language=manifest.language,
        fields=tuple(sorted(snapshot.fields())),
        dense_kinds=dict(kinds),
        dense_recall=found / kinds.total() if kinds else None,
        token_encoder=None if manifest.token_encoder is None else manifest.token_encoder.name,
        token_bits=None if snapshot.codec is None else snapshot.codec.bits,
        tokens=sum(view.segment.tokens.report.tokens for view in snapshot.views if view.segment.tokens),
        bytes=sizes.total(),
        bytes_of=dict(sizes),
    )
