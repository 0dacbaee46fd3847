"""The index: a directory of passages that is searched by vectors, by words and by both, and that survives whatever ends its process.

Knows no language model, and of encoders only the protocol.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Literal

from homefire.configs.console import progress as shown_progress
from homefire.errors import InputError
from homefire.retrieval.chunks import Chunker
from homefire.retrieval.document import Document
from homefire.retrieval.encoder import Encoder, TokenEncoder
from homefire.retrieval.filters import Where
from homefire.retrieval.fusion import fuse
from homefire.retrieval.generations import WAIT_SECONDS
from homefire.retrieval.hit import Hit
from homefire.retrieval.index_check import CheckReport, check_index
from homefire.retrieval.index_encoders import IndexEncoders, Probe
from homefire.retrieval.index_manifest import Manifest
from homefire.retrieval.index_plan import Plan, plan
from homefire.retrieval.index_search import Fusion, search
from homefire.retrieval.index_stats import IndexStats, stats
from homefire.retrieval.index_store import IndexStore
from homefire.retrieval.index_update import Changes, add_all, update
from homefire.retrieval.index_writer import IndexWriter
from homefire.retrieval.passage import Passage
from homefire.retrieval.reranker import DEPTH, Reranker, reranked
from homefire.retrieval.single_query import SingleQuery
from homefire.retrieval.snapshot import Snapshot
from homefire.retrieval.token_spans import TokenSpans


class Index(SingleQuery):
    """Passages that can be searched. Make one with `Index.build`, `Index.create` or `Index.open`.

    Many processes may read an index while one writes it. A write begins with the newest state, whoever made it, and is there as a whole or
    not at all. An opened index stays as it was when it was opened, until it writes or `refresh` is called. Methods may be called from any
    thread.
    """

    wait_seconds = WAIT_SECONDS
    """How long a write waits for another one to end."""

    def __init__(
        self, store: IndexStore, snapshot: Snapshot, encoder: Encoder | None = None, token_encoder: TokenEncoder | None = None
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._mark = (0, 0, 0)
        self._refreshing = Lock()
        self._encoders = IndexEncoders(str(store.directory), snapshot.manifest, encoder, token_encoder, self._probe)

    @classmethod
    def build(
        cls,
        directory: Path | str,
        items: Iterable[Passage | Document],
        encoder: Encoder | None = None,
        *,
        token_encoder: TokenEncoder | None = None,
        methods: Sequence[str] | None = None,
        chunker: Chunker | None = None,
        language: str = "english",
        keep_duplicates: bool = False,
        token_bits: Literal[1, 2, 4] = 2,
    ) -> Index:
        """Makes an index of passages, and of documents cut into passages, in place of the one that the directory may hold.

        A passage given twice is kept once. Of passages with the same text the first is searched; another takes its place when it goes.

        Args:
            directory: Where it goes.
            items: Passages and documents.
            encoder: None takes all-minilm-l6-v2.
            token_encoder: For late interaction; None takes the token vectors of the encoder, where it has some.
            methods: Some of `dense`, `bm25` and `late`; None takes all that the encoders and the installed libraries allow.
            chunker: Cuts documents; None takes what suits the encoder.
            language: Of the passages: names the stemmer and the stop words of BM25; `none` has neither.
            keep_duplicates: Whether passages with the same text are all searched.
            token_bits: For each number of a token vector.

        Raises:
            InputError: there are no passages, two different ones share an id, or an argument cannot be used.
            DiskError: the directory cannot be written.
            MissingExtra: a library is not installed.
        """
        made = plan(encoder, token_encoder, methods, chunker, language, keep_duplicates, token_bits)
        return cls._make(Path(directory), made, items)

    @classmethod
    def create(
        cls,
        directory: Path | str,
        encoder: Encoder | None = None,
        *,
        token_encoder: TokenEncoder | None = None,
        methods: Sequence[str] | None = None,
        chunker: Chunker | None = None,
        language: str = "english",
        keep_duplicates: bool = False,
        token_bits: Literal[1, 2, 4] = 2,
    ) -> Index:
        """Makes an index without passages, in place of the one that the directory may hold. Arguments and errors are those of `build`.

        `update` then fills it bit by bit, and goes on after a kill.
        """
        made = plan(encoder, token_encoder, methods, chunker, language, keep_duplicates, token_bits)
        return cls._make(Path(directory), made, None)

    @classmethod
    def open(cls, directory: Path | str, encoder: Encoder | None = None, *, token_encoder: TokenEncoder | None = None) -> Index:
        """Opens an index in milliseconds: nothing is read but the manifest and the sizes of the files.

        Args:
            directory: Where it is.
            encoder: The one that the index was built with; None loads it at the first search that needs it.
            token_encoder: Likewise.

        Raises:
            InputError: there is no index, a file is missing or damaged, or the index was built with another encoder.
            MissingExtra: faiss is not installed.
        """
        store = IndexStore(Path(directory))
        mark = store.mark()
        index = cls(store, store.open(), encoder, token_encoder)
        index._mark = mark
        return index

    @property
    def directory(self) -> Path:
        """Where it is."""
        return self._store.directory

    @property
    def manifest(self) -> Manifest:
        """What it holds."""
        return self._snapshot.manifest

    @property
    def encoder(self) -> Encoder:
        """Gives the vectors of passages and queries; loaded now if that was not needed yet.

        Raises:
            InputError: the index has no vectors, or its encoder must be given.
            UnknownModel: it is not on this machine.
        """
        return self._encoders.encoder

    @property
    def token_encoder(self) -> TokenEncoder:
        """Gives the vectors of tokens; loaded now if that was not needed yet.

        Raises:
            InputError: the index has no token vectors, or its token encoder must be given.
            UnknownModel: it is not on this machine.
        """
        return self._encoders.token_encoder

    def __len__(self) -> int:
        return len(self._snapshot)

    def __bool__(self) -> bool:
        """True for an empty index too."""
        return True

    def __deepcopy__(self, memo: dict[int, object]) -> Index:
        """The index itself: copies of a program share it."""
        return self

    def search(
        self,
        queries: Sequence[str],
        k: int = 3,
        *,
        method: str | None = None,
        where: Where | None = None,
        rerank: str | Reranker | None = None,
        fusion: Fusion = fuse,
    ) -> list[list[Hit]]:
        """The `k` best passages for each query, best first; fewer where fewer fit. A blank query finds nothing.

        Args:
            queries: What to look for.
            k: Passages a query.
            method: `dense`, `bm25`, `late`, or `fused` for all that the index has together; None is the index's default.
            where: What the passages must be, as in `{"source": "a.md", "year": {"ge": 2020}, "lang": ["en", "de"]}`; comparisons are eq,
                ne, in, prefix, gt, ge, lt and le.
            rerank: Ranks the best anew: another method of the index, or a model as `CrossEncoderReranker(model)`.
            fusion: Makes one score of those by each method; `reciprocal_rank` looks at ranks alone.

        Raises:
            InputError: an argument cannot be used: a `k` below 1, an unknown method or field, a string in the place of a list.
        """
        if rerank is None or isinstance(rerank, str):
            return search(self._snapshot, self._encoders, queries, k, method=method, where=where, rerank=rerank, fusion=fusion)
        depth = max(k, DEPTH) if k > 0 else k
        found = search(self._snapshot, self._encoders, queries, depth, method=method, where=where, fusion=fusion)
        return reranked(found, queries, rerank, k)

    def add(self, passages: Iterable[Passage]) -> int:
        """Adds the passages whose id is not there yet, and says how many are searched now that were not before.

        Raises:
            InputError: a passage has the id of a different one, or another process writes for too long.
            DiskError: the directory cannot be written.
        """
        with self._writing() as writer:
            add_all(writer, passages, None)
            self._commit(writer)
            return writer.added

    def update(self, documents: Iterable[Document], *, prune: bool = False, keep: Container[str] = (), progress: bool = True) -> Changes:
        """Takes in documents: new ones, and changed ones in the place of what they were; unchanged ones are skipped.

        What is done is committed from time to time, so an update that was killed goes on where it was when it is called again.

        Args:
            documents: Each source once.
            prune: Whether documents of the index that are not among these are removed.
            keep: Sources of those that stay nevertheless, as an `Unread` that took what `read_documents` skipped: a file that cannot be
                read today is not gone. Looked at when all documents are read.
            progress: Whether to show how far it is.

        Raises:
            InputError: two documents have one source, or there is none and `prune` is set.
            DiskError: the directory cannot be written.
        """
        total = len(documents) if isinstance(documents, Collection) else None
        with self._writing() as writer:
            if not progress:
                return update(writer, documents, self._chunker(), prune, keep, lambda: self._commit(writer), lambda count: None)
            with shown_progress("Indexing documents", total) as task:
                return update(writer, documents, self._chunker(), prune, keep, lambda: self._commit(writer), task.advance)

    def remove(self, sources: Iterable[str]) -> int:
        """Removes all passages of these sources, and says of how many sources there were any.

        Raises:
            InputError: another process writes for too long.
            DiskError: the directory cannot be written.
        """
        wanted = _texts(sources, "sources")
        with self._writing() as writer:
            there = writer.with_source(wanted)
            writer.delete("source", there)
            self._commit(writer)
            return len(there)

    def delete(self, ids: Iterable[str]) -> int:
        """Removes the passages of these ids, and says how many there were. Errors are those of `remove`."""
        wanted = _texts(ids, "ids")
        with self._writing() as writer:
            count = writer.delete("id", wanted)
            self._commit(writer)
            return count

    def compact(self) -> None:
        """Writes all passages anew as one segment: searches are fastest then, and the space of deleted ones is free. Errors as `remove`."""
        with self._writing() as writer:
            writer.merge()
            self._commit(writer)

    def refresh(self) -> bool:
        """Takes what other processes have committed since, and says whether there was anything.

        Raises:
            InputError: the index is damaged, or another one with another encoder stands in its place.
        """
        mark = self._store.mark()
        if mark == self._mark:
            return False
        with self._refreshing:
            old = self._snapshot
            new = self._store.open(old.opened)
            self._require_same_encoders(new)
            self._snapshot, self._mark = new, mark
            return new.state.commit != old.state.commit

    def sources(self) -> set[str]:
        """Where its passages are from."""
        return self._snapshot.sources()

    def get(self, ids: Iterable[str]) -> dict[str, Passage]:
        """The passages of these ids, as far as there are any that are searched."""
        return self._snapshot.get(_texts(ids, "ids"))

    def passages(self) -> Iterator[Passage]:
        """All passages that are searched, some hundred in memory at a time."""
        return self._snapshot.passages()

    def check(self, *, repair: bool = False) -> CheckReport:
        """Reads all files and compares them with what was written; with `repair`, makes again what can be made from what is whole.

        An index that cannot be opened is mended by `check_index`.

        Raises:
            InputError: the manifest and its copy cannot be read, or an encoder is needed that is not here.
            DiskError: the directory cannot be written.
        """
        report = check_index(self.directory, self._encoders.given, token_encoder=self._encoders.given_for_tokens, repair=repair)
        if report.repaired:
            self.refresh()
        return report

    def stats(self) -> IndexStats:
        """What it holds, in numbers."""
        return stats(self.directory, self._snapshot)

    @classmethod
    def _make(cls, directory: Path, made: Plan, items: Iterable[Passage | Document] | None) -> Index:
        store = IndexStore(directory)
        encoders = IndexEncoders(str(directory), made.manifest, made.encoder, made.token_encoder)
        expected = len(items) if isinstance(items, Sized) else 0
        with store.replacing(cls.wait_seconds) as lock:
            writer = IndexWriter(directory, lock, made.manifest, None, encoders.passages, expected=expected)
            if items is not None:
                add_all(writer, items, lambda: _chunker(made.manifest, made.encoder))
                writer.merge()
                if not writer.count:
                    raise InputError("There are no passages to index; expected at least one. Check that the files you read hold text.")
            return cls(store, writer.commit(), made.encoder, made.token_encoder)

    @contextmanager
    def _writing(self) -> Iterator[IndexWriter]:
        with self._store.writing(self.wait_seconds) as (lock, snapshot):
            self._require_same_encoders(snapshot)
            self._snapshot = snapshot
            yield IndexWriter(self.directory, lock, snapshot.manifest, snapshot, self._encoders.passages)

    def _require_same_encoders(self, new: Snapshot) -> None:
        before, now = self.manifest, new.manifest
        if (before.encoder, before.token_encoder) != (now.encoder, now.token_encoder):
            raise InputError(f"The index {str(self.directory)!r} was built anew with another encoder. Open it again with Index.open.")

    def _commit(self, writer: IndexWriter) -> None:
        if writer.flush():
            snapshot = writer.commit()
            with self._refreshing:  # a refresh that opened the state before must not come after
                self._snapshot, self._mark = snapshot, self._store.mark()

    def _chunker(self) -> Chunker:
        return _chunker(self.manifest, self.encoder if self.manifest.encoder else None)

    def _probe(self) -> Probe | None:
        """A passage, and its vector."""
        for view in self._snapshot.views:
            if view.segment.dense is not None and view.entry.live:
                row = 0 if view.alive is None else int(view.alive.argmax())
                return view.segment.fetch([row])[row].text, view.segment.dense.vectors[row]
        return None


def _chunker(manifest: Manifest, encoder: Encoder | None) -> Chunker:
    tokenizer = encoder if isinstance(encoder, TokenSpans) else None
    return Chunker(manifest.chunking.tokens, manifest.chunking.overlap, tokenizer=tokenizer)


def _texts(values: Iterable[str], what: str) -> set[str]:
    if isinstance(values, str):
        raise InputError(f"Expected a list of {what} but was given the string {values!r}; write [{values!r}].")
    return set(values)
