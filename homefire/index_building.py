"""What `homefire index build` and `add` do: an index made equal to files and folders, or files added to one.

Knows no terminal but its progress bar.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homefire.corpus_progress import Corpus
from homefire.errors import InputError
from homefire.retrieval.chunks import Chunker
from homefire.retrieval.encoder import Encoder, HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.index_manifest import Manifest
from homefire.retrieval.index_store import IndexStore
from homefire.retrieval.reading import Skipped
from homefire.retrieval.sentence_encoder import SentenceEncoder
from homefire.retrieval.token_encoder import ColbertEncoder
from homefire.retrieval.token_spans import TokenSpans

if TYPE_CHECKING:
    from homefire.retrieval.index_stats import IndexStats
    from homefire.retrieval.index_update import Changes

HASH = "hash"
"""Name of the encoder without a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a new index shall be like, or an old one is; None where it was left open."""

    encoder: str | None = None
    token_encoder: str | None = None
    bits: int | None = None
    methods: Sequence[str] | None = None
    tokens: int | None = None
    overlap: int | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """What was done, and what there is now."""

    is_new: bool
    changes: Changes | None
    """None where the index was built in one go."""
    documents: int
    """Documents that were read."""
    skipped: list[Skipped] = field(default_factory=list)
    stats: IndexStats
    seconds: float


def build(directory: Path, paths: Sequence[Path], wanted: Wanted, *, replace: bool = False) -> BuildReport:
    """Makes the index equal to what is below the paths: a new one, or one in which only what differs is touched.

    Args:
        directory: Of the index.
        paths: Files and folders.
        wanted: What it shall be like.
        replace: Whether an index that is there is built anew, whatever it is like; it answers as before until the new one is whole.

    Raises:
        InputError: a path leads nowhere, nothing can be read, or the index that is there was built otherwise.
        DiskError: the directory cannot be written.
    """
    start = time.monotonic()
    there = _is_index(directory)
    corpus = Corpus(paths)
    changes = None
    if there and replace:
        with corpus.documents() as documents:
            index = Index.build(directory, documents, **_options(wanted))
    elif there:
        index = _opened(directory, wanted)
        changes = _updated(index, corpus, prune=True)
    else:
        index, changes = _built(directory, corpus, wanted)
    return _report(index, corpus, changes, not there, start)


def add(directory: Path, paths: Sequence[Path]) -> BuildReport:
    """Adds what is below the paths, and puts what was changed in the place of what it was.

    Raises:
        InputError: there is no index, a path leads nowhere, or nothing can be read.
        DiskError: the directory cannot be written.
    """
    start = time.monotonic()
    index = Index.open(directory)
    corpus = Corpus(paths)
    changes = _updated(index, corpus, prune=False)
    return _report(index, corpus, changes, False, start)


def encoder_of(name: str | None) -> Encoder | None:
    """The encoder of a name; None is the default one.

    Raises:
        UnknownModel: it is not on this machine.
    """
    return None if name is None else HashEncoder() if name == HASH else SentenceEncoder(name)


def _built(directory: Path, corpus: Corpus, wanted: Wanted) -> tuple[Index, Changes]:
    """A new index, begun empty and filled bit by bit; nothing is left of it where there is nothing to fill it with."""
    index = Index.create(directory, **_options(wanted))
    try:
        return index, _updated(index, corpus, prune=True)
    except InputError:
        if not len(index):
            IndexStore(directory).remove()
        raise


def _updated(index: Index, corpus: Corpus, *, prune: bool) -> Changes:
    try:
        with corpus.documents() as documents:
            return index.update(documents, prune=prune, keep=corpus.unread, progress=False)
    except InputError as error:
        if corpus.count or any(file.source not in corpus.unread for file in corpus.files):
            raise
        reasons = "; ".join(f"{one.source}: {one.reason.rstrip('.')}" for one in corpus.unread.skipped[:3])
        raise InputError(f"None of the {len(corpus.files)} files could be read, so there is nothing to index. {reasons}.") from error


def _options(wanted: Wanted) -> dict[str, Any]:
    """Arguments of `Index.build`."""
    encoder = encoder_of(wanted.encoder)
    tokens = None if wanted.token_encoder is None else ColbertEncoder(wanted.token_encoder)
    cut = wanted.tokens is not None or wanted.overlap is not None
    chunker = Chunker(wanted.tokens, wanted.overlap, tokenizer=encoder if isinstance(encoder, TokenSpans) else None) if cut else None
    options = {
        "encoder": encoder,
        "token_encoder": tokens,
        "token_bits": wanted.bits,
        "methods": wanted.methods,
        "chunker": chunker,
        "language": wanted.language,
    }
    return {name: value for name, value in options.items() if value is not None}


def _is_index(directory: Path) -> bool:
    """Whether there is an index.

    Raises:
        InputError: there is something else.
    """
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise InputError(f"{str(directory)!r} is a file; an index is a folder. Name another one: homefire index build INDEX PATH...")
    names = {path.name for path in directory.iterdir()}
    if names & {"manifest.json", "manifest.copy.json"}:
        return True
    if visible := sorted(name for name in names if not name.startswith(".")):
        raise InputError(
            f"{str(directory)!r} holds {visible[0]!r} and other things, but no index. Name a folder of its own for the index, before the "
            "paths of what it shall hold: homefire index build INDEX PATH..."
        )
    return False


def _opened(directory: Path, wanted: Wanted) -> Index:
    """The index that is there, if it is like what is wanted.

    Raises:
        InputError: it is not.
    """
    manifest = Index.open(directory).manifest
    differences = list(_differences(manifest, wanted))
    if differences:
        raise InputError(
            f"The index {str(directory)!r} was built with {'; and with '.join(differences)}. Leave the option out to go on with it, or "
            "build it anew with --replace."
        )
    return Index.open(directory)


def _differences(manifest: Manifest, wanted: Wanted) -> list[str]:
    """What of the index is not as wanted, as in "--encoder a, not b"."""
    encoder, tokens = (None if entry is None else entry.name for entry in (manifest.encoder, manifest.token_encoder))
    options = {
        "encoder": (encoder, _name(wanted.encoder)),
        "token-encoder": (tokens, _name(wanted.token_encoder)),
        "bits": (manifest.token_bits, wanted.bits),
        "method": (set(manifest.methods), None if wanted.methods is None else set(wanted.methods)),
        "tokens": (manifest.chunking.tokens, wanted.tokens),
        "overlap": (manifest.chunking.overlap, wanted.overlap),
        "language": (manifest.language, wanted.language),
    }
    different = {name: pair for name, pair in options.items() if pair[1] is not None and pair[0] != pair[1]}
    return [f"--{name} {_shown(old)}, not {_shown(new)}" for name, (old, new) in different.items()]


def _name(model: str | None) -> str | None:
    """The name that an encoder gets from its model."""
    return Path(model).resolve().name if model is not None and Path(model).is_dir() else model


def _shown(value: object) -> str:
    return " ".join(sorted(value)) if isinstance(value, set) else "left out" if value is None else str(value)


def _report(index: Index, corpus: Corpus, changes: Changes | None, is_new: bool, start: float) -> BuildReport:
    return BuildReport(
        is_new=is_new,
        changes=changes,
        documents=corpus.count,
        skipped=corpus.unread.skipped,
        stats=index.stats(),
        seconds=time.monotonic() - start,
    )
