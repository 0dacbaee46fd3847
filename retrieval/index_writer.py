"""Changes of an index: new passages, deleted ones and merged segments, all of them gathered and then committed at once.

Knows no documents and no search: passages in, rows out. Whoever uses it holds the lock of the index.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from homefire.configs.console import note
from homefire.errors import DiskError, InputError
from homefire.retrieval.encoded import Encode, Encoded, Remembered
from homefire.retrieval.generations import Writer
from homefire.retrieval.held_segments import Held, to_merge
from homefire.retrieval.index_codec import SAMPLE, IndexCodec
from homefire.retrieval.index_manifest import Manifest, SegmentEntry
from homefire.retrieval.late_codec import Codec
from homefire.retrieval.passage import Passage
from homefire.retrieval.passage_table import Keyed, key_of
from homefire.retrieval.segment import NewSegment, Segment, merge_segments, stored_vectors, write_segment
from homefire.retrieval.snapshot import Opened, Snapshot, open_snapshot
from homefire.retrieval.words import Analyzer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PORTION = 4096
"""About as many passages are encoded and committed together; up to four times as many where all are committed at once."""
LATE_PORTION = 1024
"""As many where each has some hundred vectors, which take half a megabyte."""

_CROWD = 24
"""Segments from which on they are merged before the commit."""


class IndexWriter:
    """Gathers changes and commits them.

    Args:
        directory: Of the index.
        writer: Holds its lock.
        manifest: What all is like: encoder, methods and so on; its segments are not looked at.
        snapshot: The state to begin from; None begins with nothing.
        encode: Gives the vectors of texts that the index has.
        expected: About how many passages will come; 0 where that is not known.
        codec: The one that the manifest names, where there is no snapshot but segments will be held.
    """

    def __init__(
        self,
        directory: Path,
        writer: Writer,
        manifest: Manifest,
        snapshot: Snapshot | None,
        encode: Encode,
        *,
        expected: int = 0,
        codec: Codec | None = None,
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self._writer = writer
        self._encode = encode
        self.expected = expected
        self._most = (2 if snapshot else 4) * PORTION
        self._portion = LATE_PORTION if "late" in manifest.methods else self._most
        codec = snapshot.codec if snapshot else codec
        self._codec = IndexCodec(writer, manifest.token_bits, codec, manifest.codec if codec else None)
        self._analyzer = Analyzer.of(manifest.language) if "bm25" in manifest.methods else None
        self._held = [Held(view.segment, view.deleted, view.entry.deleted) for view in snapshot.views] if snapshot else []
        self._sum = int(snapshot.manifest.corpus_sha256, 16) if snapshot else 0
        self._lost: set[bytes] = set()
        self._waiting: list[Passage] = []
        self._marks: set[str] = set()
        """Ids and sources of what waits."""
        self._digests: dict[str, str] = {}
        self._returning: dict[str, tuple[Segment, int]] = {}
        """Rows of deleted passages by their texts."""
        self._written = 0
        """Passages that were written since the last commit."""
        self._changed = False
        """Whether rows were deleted or segments merged since then."""
        self.added = 0
        """Passages that are searched and were not before."""
        self.removed = 0
        """Passages that were searched and are not any more."""
        self.duplicates = 0
        """Passages that came with a text that another one has."""

    def flush(self) -> bool:
        """Encodes and writes what waits, and says whether there is anything to commit."""
        self._flush()
        return bool(self._written or self._changed)

    @property
    def count(self) -> int:
        """Passages that are searched."""
        return sum(held.live for held in self._held)

    def add(self, passages: Iterable[Passage], digests: Mapping[str, str] | None = None) -> None:
        """Adds the passages whose id is not there yet. They are encoded and written some thousands at a time, the last ones by `commit`.

        Args:
            passages: In any number.
            digests: What the documents were that end with these passages.

        Raises:
            InputError: an id stands for two different texts, id, text or source is no text, or metadata cannot be saved.
            DiskError: the disk is full.
        """
        for passage in passages:
            if not all(isinstance(value, str) for value in (passage.id, passage.text, passage.source)):
                raise InputError(f"Id, text and source of a passage are texts (str); expected no {passage!r:.200}.")
            if len(self._waiting) >= self._most:
                self._flush()
            self._waiting.append(passage)
            self._marks |= {passage.id, passage.source}
        self._digests |= digests or {}

    @property
    def is_full(self) -> bool:
        """Whether so many passages wait that committing them is worth it."""
        return self._written >= PORTION or len(self._waiting) >= PORTION

    def delete(self, column: str, values: Collection[str], *, will_return: bool = False) -> int:
        """Deletes all passages with one of these values, and says how many of them were searched.

        Args:
            column: `id` or `source`.
            values: Texts.
            will_return: Whether some of the texts will be added again before the commit; their vectors are used again then.
        """
        if not self._marks.isdisjoint(values):
            self._flush()
        before = self.removed
        for held in self._held:
            rows = [row for _, row in held.segment.table.rows_with(column, values) if not held.gone[row]]
            for start in range(0, len(rows), PORTION):
                self._delete(held, rows[start : start + PORTION], will_return)
        return self.removed - before

    def digests(self, sources: Collection[str]) -> dict[str, str]:
        """What the documents of these sources were, as far as they are there."""
        found: dict[str, str] = {}
        for held in self._held:
            there = held.segment.table.digests(sources)
            alive = {source for source, row in held.segment.table.rows_with("source", there) if not held.gone[row]}
            found |= {source: digest for source, digest in there.items() if source in alive}
        return found

    def sources(self) -> set[str]:
        """Where the passages are from."""
        return {source for held in self._held for source in held.sources()}

    def with_source(self, sources: Collection[str]) -> set[str]:
        """Those of the sources that have passages."""
        return {str(source) for held in self._held for source, row in held.segment.table.rows_with("source", sources) if not held.gone[row]}

    def hold(self, segment: Segment, deleted: npt.NDArray[np.int64]) -> None:
        """Takes in a segment as it is, with those rows deleted; what it holds counts as being there before."""
        held = Held(segment, deleted)
        self._held.append(held)
        self._changed = True
        self._sum += sum(_number(row.passage) for row in segment.table.all(0, held.rows) if not held.gone[row.row])

    def merge(self) -> None:
        """Makes one segment of all, without deleted rows; nothing where that is so already."""
        self._flush()
        if len(self._held) > 1 or any(held.gone.any() for held in self._held):
            self._merge(self._held)

    def commit(self) -> Snapshot:
        """Makes the changes those of the index, and opens the new state.

        Raises:
            DiskError: the disk is full; then all is as before.
        """
        self._flush()
        self._take_up_spare()
        try:
            self._merge_tiers()
        except DiskError as error:
            note(f"Segments of the index {self.directory} are not merged: {error} It goes on with more of them.")
        self._written, self._changed, self._returning = 0, False, {}
        entries = tuple(self._entry(held) for held in self._held)
        manifest = replace(self.manifest, segments=entries, codec=self._codec.name, corpus_sha256=f"{self._sum % 2**256:064x}")
        state = self._writer.commit(manifest.content(), manifest.names)
        segments = {held.segment.name: held.segment for held in self._held}
        return open_snapshot(self.directory, state, Opened(segments, self._codec.name, self._codec.codec))

    def _flush(self) -> None:
        """Encodes and writes what waits."""
        waiting, self._waiting, digests, self._digests = self._waiting, [], self._digests, {}
        self._marks.clear()
        fresh = self._unknown(waiting)
        last = {passage.source: place // self._portion for place, passage in enumerate(fresh)}
        encode = self._encoding(fresh)
        for start in range(0, len(fresh), self._portion):
            number = start // self._portion
            whole = {source: digest for source, digest in digests.items() if last.get(source) == number}
            self._write(fresh[start : start + self._portion], whole, encode)

    def _encoding(self, passages: Sequence[Passage]) -> Encode:
        """How to encode some passages: what was deleted just now has its vectors; a missing codec is trained on some of them first."""
        known = {passage.text: self._returning[passage.text] for passage in passages if passage.text in self._returning}
        encode = Remembered(self._encode, list(known), stored_vectors(list(known.values()))) if known else self._encode
        if "late" not in self.manifest.methods or self._codec.codec is not None or not passages:
            return encode
        sample = Random(0).sample(passages, min(SAMPLE, len(passages)))
        encoded = encode([passage.text for passage in sample])
        assert encoded.tokens is not None
        self._codec.train(encoded.tokens.vectors, len(encoded.tokens.vectors) * max(len(passages), self.expected) // len(sample))
        return Remembered(encode, [passage.text for passage in sample], encoded)

    def _write(self, portion: Sequence[Passage], digests: Mapping[str, str], encode: Encode) -> None:
        """Writes some passages as one segment."""
        passages: list[Keyed] = []
        spare: list[Keyed] = []
        keyed = [(passage, key_of(passage.text)) for passage in portion]
        taken = set() if self.manifest.keep_duplicates else self._taken({key for _, key in keyed})
        for passage, key in keyed:
            (spare if key in taken else passages).append((passage, key))
            if not self.manifest.keep_duplicates:
                taken.add(key)
        encoded = encode([passage.text for passage, _ in passages]) if passages else Encoded(None, None)
        new = NewSegment(
            passages=passages,
            spare=spare,
            digests=digests,
            vectors=encoded.vectors,
            analyzer=self._analyzer,
            tokens=encoded.tokens,
            codec=self._codec.codec,
        )
        with self._writer.folder("segments") as draft:
            write_segment(draft.path, new)
        self._hold(draft.name)
        self._sum += sum(_number(passage) for passage, _ in passages)
        self._written += len(portion)
        self.added += len(passages)
        self.duplicates += len(spare)
        if len(self._held) > _CROWD:
            self._merge_tiers()

    def _unknown(self, portion: Sequence[Passage]) -> list[Passage]:
        """The passages whose id is not there yet, each once."""
        texts: dict[str, str] = {}
        for held in self._held:
            rows = {row: str(name) for name, row in held.segment.table.rows_with("id", [passage.id for passage in portion])}
            there = [row for row in rows if not held.gone[row]]
            texts |= {passage.id: passage.text for passage in held.segment.table.fetch(there).values()}
        fresh = []
        for passage in portion:
            known = texts.get(passage.id)
            if known is None:
                texts[passage.id] = passage.text
                fresh.append(passage)
            elif known != passage.text:
                raise InputError(f"Two passages with different texts have the id {passage.id!r}; give each text an id of its own.")
        return fresh

    def _taken(self, keys: Collection[bytes]) -> set[bytes]:
        """The keys that passages have which are searched."""
        pairs = ((held, key, row) for held in self._held for key, row in held.segment.table.rows_with("key", keys))
        return {bytes(key) for held, key, row in pairs if row < held.rows and not held.gone[row] and isinstance(key, bytes)}

    def _delete(self, held: Held, rows: Sequence[int], will_return: bool) -> None:
        found = held.segment.table.fetch([row for row in rows if row < held.rows])
        searched = list(found.values())
        if will_return:
            self._returning |= {passage.text: (held.segment, row) for row, passage in found.items()}
        held.gone[rows] = True
        held.file, self._changed = None, True
        self._sum -= sum(_number(passage) for passage in searched)
        self._lost |= {key_of(passage.text) for passage in searched}
        self.removed += len(searched)

    def _take_up_spare(self) -> None:
        """Where the text of a deleted passage stands in a spare one, that one is searched from now on."""
        wanted = self._lost - self._taken(self._lost)
        self._lost = set()
        found: list[Passage] = []
        for held in self._held:
            for key, row in list(held.segment.table.rows_with("key", wanted)):
                if key in wanted and not held.gone[row]:
                    wanted.discard(bytes(key) if isinstance(key, bytes) else b"")
                    found += held.segment.table.fetch([row]).values()
                    held.gone[row] = True
                    held.file = None
        added = self.added
        self.add(found)
        self._flush()
        self.removed -= self.added - added
        self.added = added

    def _hold(self, name: str) -> None:
        import numpy as np

        self._held.append(Held(Segment.open(self.directory, name, self.manifest.methods, self._codec.codec), np.zeros(0, dtype=np.int64)))

    def _merge(self, some: Sequence[Held]) -> None:
        parts = [(held.segment.tokens, ~held.gone[: held.rows]) for held in some if held.segment.tokens]
        if parts:
            self._codec.fit(parts, again=len(some) == len(self._held))
        with self._writer.folder("segments") as draft:
            merge_segments(draft.path, [held.segment for held in some], [~held.gone for held in some], self._codec.codec)
        self._held = [held for held in self._held if held not in some]
        self._writer.discard(held.segment.name for held in some)
        self._hold(draft.name)
        self._changed = True

    def _merge_tiers(self) -> None:
        """Few segments stay few, and each passage is moved a number of times that grows with the logarithm of their number."""
        self._held = [held for held in self._held if not held.is_empty]
        while some := to_merge(self._held):
            self._merge(some)

    def _entry(self, held: Held) -> SegmentEntry:
        import numpy as np

        deleted = np.flatnonzero(held.gone)
        if len(deleted) and held.file is None:
            data = io.BytesIO()
            np.save(data, deleted)
            held.file = self._writer.file("deleted", ".npy", data.getvalue())
        of_rows = int((deleted < held.rows).sum())
        return SegmentEntry(
            name=held.segment.name,
            rows=held.rows,
            spare=held.segment.table.spare,
            deleted=held.file,
            deleted_rows=of_rows,
            deleted_spare=len(deleted) - of_rows,
        )


def _number(passage: Passage) -> int:
    text = f"{passage.id}\0{passage.text}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
