"""Updating an index by documents: new and changed ones are taken in, unchanged ones skipped, vanished ones removed if that is wanted.

Knows no file of an index: a writer takes what changes.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass

from homefire.errors import InputError
from homefire.retrieval.chunks import Chunker
from homefire.retrieval.document import Document
from homefire.retrieval.index_writer import IndexWriter
from homefire.retrieval.passage import Passage

_AT_ONCE = 256
"""Documents that are looked up together."""
_CHARACTERS = 4_000_000
"""Characters that they have together, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What an update did."""

    added: int
    """Documents that were not there."""
    changed: int
    """Documents that were there with other content."""
    unchanged: int
    removed: int
    """Documents that are there no more."""
    kept: int = 0
    """Documents that stay although they were not among those given, because nothing can be said of them."""
    passages_added: int
    passages_removed: int
    """Those of changed documents are counted here, and their new ones above."""
    duplicates: int
    """Passages that are not searched, because another one has their text."""

    def __str__(self) -> str:
        documents = f"{self.added} documents added, {self.changed} changed, {self.unchanged} unchanged, {self.removed} removed"
        documents += f", {self.kept} kept although they could not be read" if self.kept else ""
        duplicates = f", {self.duplicates} left out as duplicates" if self.duplicates else ""
        return f"{documents}; {self.passages_added} passages added{duplicates}, {self.passages_removed} removed"


def update(
    writer: IndexWriter,
    documents: Iterable[Document],
    chunker: Chunker,
    prune: bool,
    keep: Container[str],
    commit: Callable[[], None],
    advance: Callable[[int], None],
) -> Changes:
    """Takes in documents, and commits from time to time and at the end: a killed update goes on where it was when it is called again.

    Args:
        writer: Of the index.
        documents: Each source once.
        chunker: Cuts them into passages.
        prune: Whether documents of the index that are not among these are removed.
        keep: Sources of those that stay nevertheless; looked at when all documents are read.
        commit: Commits what the writer has gathered.
        advance: Told how many documents are done.

    Raises:
        InputError: two documents have one source, or `prune` would empty the index because there are no documents at all.
        DiskError: the disk is full; what was committed stays.
    """
    seen: set[str] = set()
    numbers = dict.fromkeys(("added", "changed", "unchanged", "removed", "kept"), 0)
    for group in _groups(documents):
        digests, there = writer.digests([one.source for one in group]), writer.with_source([one.source for one in group])
        for document in group:
            _see(document.source, seen)
            if digests.get(document.source) == document.digest:
                numbers["unchanged"] += 1
            else:
                known = document.source in there
                if known:
                    writer.delete("source", [document.source], will_return=True)
                numbers["changed" if known else "added"] += 1
                writer.add(chunker.passages(document), {document.source: document.digest})
                if writer.is_full:
                    commit()
            advance(1)
    if prune:
        numbers["removed"], numbers["kept"] = _pruned(writer, seen, keep)
    commit()
    return Changes(**numbers, passages_added=writer.added, passages_removed=writer.removed, duplicates=writer.duplicates)


def _see(source: str, seen: set[str]) -> None:
    if source in seen:
        raise InputError(f"Two documents have the source {source!r}; give each one of its own.")
    seen.add(source)


def _pruned(writer: IndexWriter, seen: set[str], keep: Container[str]) -> tuple[int, int]:
    """Removes the documents that were not seen, and says how many they were, and how many stay nevertheless."""
    if not seen:
        raise InputError("There are no documents, so prune would remove all that the index holds. Check what you read.")
    unseen = writer.sources() - seen
    gone = {source for source in unseen if source not in keep}
    writer.delete("source", gone)
    return len(gone), len(unseen) - len(gone)


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Some documents at a time. Where reading them fails, those read before come first."""
    group: list[Document] = []
    characters = 0
    try:
        for document in documents:
            group.append(_checked(document))
            characters += len(document.text)
            if len(group) == _AT_ONCE or characters >= _CHARACTERS:
                yield group
                group, characters = [], 0
    except Exception:
        yield group
        raise
    yield group


def add_all(writer: IndexWriter, items: Iterable[Passage | Document], chunker: Callable[[], Chunker] | None) -> None:
    """Takes in passages as they are, and documents cut into passages.

    Raises:
        InputError: an item is neither, or it is a document and there is no chunker.
    """
    cut: Chunker | None = None
    for item in items:
        if isinstance(item, Passage):
            writer.add([item])
        elif isinstance(item, Document) and chunker is not None:
            cut = cut or chunker()
            writer.add(cut.passages(_checked(item)), {item.source: item.digest})
        else:
            wanted = "passages; documents go to update()" if chunker is None else "passages and documents"
            raise InputError(f"An item is {type(item).__name__} {item!r:.80}; expected {wanted}.")


def _checked(item: object) -> Document:
    """The document, if it can be cut and found again.

    Raises:
        InputError: it is none; or its source, its text or a name in its metadata is no text, as a path is none.
    """
    if not isinstance(item, Document):
        raise InputError(f"An item is {type(item).__name__} {item!r:.80}; expected documents; passages go to add().")
    values: list[tuple[str, object]] = [
        ("source", item.source),
        ("text", item.text),
        *(("name in the metadata", key) for key in item.metadata),
    ]
    for name, value in values:
        if not isinstance(value, str):
            raise InputError(f"A document has the {name} {value!r:.80}, which is {type(value).__name__}; expected a text: str(...).")
    return item
