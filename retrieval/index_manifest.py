"""What an index directory holds, as its manifest says it: encoders, methods, segments and their deleted rows.

Knows no file but the manifest: values from JSON and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from homefire.retrieval.stored_files import State

FORMAT = 2
FOLDERS = ("segments", "codecs", "deleted")

Method = Literal["dense", "bm25", "late", "fused"]
METHODS: tuple[Method, ...] = ("dense", "bm25", "late")
"""What an index may hold; `fused` is all that it holds together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderEntry:
    """The encoder that an index was built with."""

    name: str
    dim: int
    fingerprint: str | None = None
    """Differs between encoders of one name; None where the encoder has none."""
    kind: str = "other"
    """How to load it; `other` for one that homefire does not know."""
    model: str | None = None
    """Folder of the model."""
    model_name: str | None = None
    """Name of the model, where it is not in that folder any more."""
    query_prompt: str | None = None
    passage_prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """How documents are cut into passages; None is what the chunker chooses for the encoder."""

    tokens: int | None = None
    overlap: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEntry:
    """One segment, and which of its rows count no more."""

    name: str
    rows: int
    """Rows that are searched, the deleted ones included."""
    spare: int = 0
    """Rows behind them, whose texts other passages have already."""
    deleted: str | None = None
    """File with the deleted rows; None where there are none."""
    deleted_rows: int = 0
    deleted_spare: int = 0

    @property
    def live(self) -> int:
        """Passages that are searched."""
        return self.rows - self.deleted_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an index directory holds."""

    format: int = FORMAT
    generation: int = 0
    """Commits so far."""
    encoder: EncoderEntry | None
    """Of one vector a passage; None where the index has no dense part."""
    token_encoder: EncoderEntry | None = None
    """Of one vector a token; None where the index has no late interaction."""
    metric: str = "inner_product"
    chunking: Chunking = Chunking()
    methods: tuple[str, ...]
    """Which of `dense`, `bm25`, `late` it holds."""
    default_method: str
    language: str = "english"
    """Of the stemmer and the stop words of BM25."""
    keep_duplicates: bool = False
    """Whether a text may stand in several passages."""
    token_bits: Literal[1, 2, 4] = 2
    """For each number of a token vector, once there are so many vectors that they are compressed."""
    codec: str | None = None
    """Folder of the codec that compresses them; None before."""
    segments: tuple[SegmentEntry, ...] = ()
    corpus_sha256: str = "0" * 64
    """Sum, modulo 2 to the 256, of the SHA-256 of each passage's id and text: equal for equal corpora, whatever their order."""

    @property
    def count(self) -> int:
        """Passages that are searched."""
        return sum(segment.live for segment in self.segments)

    @property
    def duplicates(self) -> int:
        """Passages that are not searched, because another one has their text."""
        return sum(segment.spare - segment.deleted_spare for segment in self.segments)

    @property
    def names(self) -> set[str]:
        """The folders and files that it consists of."""
        files = {segment.deleted for segment in self.segments if segment.deleted}
        return {segment.name for segment in self.segments} | files | ({self.codec} if self.codec else set())

    def content(self) -> dict[str, Any]:
        """As JSON takes it, with the count for those who read the file."""
        values = asdict(self)
        for key in ("format", "generation"):
            del values[key]
        return values | {"count": self.count}


def manifest_of(state: State) -> Manifest:
    """The manifest of a state.

    Raises:
        ValueError: it is none of an index, or names what the state has not.
    """
    values: dict[str, Any] = dict(state.content)
    values.pop("count", None)
    try:
        manifest = Manifest(
            generation=state.generation,
            encoder=_entry(values.pop("encoder")),
            token_encoder=_entry(values.pop("token_encoder")),
            chunking=Chunking(**values.pop("chunking")),
            methods=tuple(values.pop("methods")),
            segments=tuple(SegmentEntry(**one) for one in values.pop("segments")),
            **values,
        )
        known = {"/".join(file.split("/")[:2]) for file in state.files}
        if missing := manifest.names - known:
            raise ValueError(f"it names {sorted(missing)[0]!r}, of which it names no file")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return manifest


def _entry(values: Mapping[str, Any] | None) -> EncoderEntry | None:
    return None if values is None else EncoderEntry(**values)
