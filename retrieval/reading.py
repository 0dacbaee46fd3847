"""Reading: files and folders in, documents or passages out.

Knows which format is read by whom and what becomes of files that cannot be read: they are reported and skipped, never fatal.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from homefire.errors import InputError, MissingExtra
from homefire.retrieval.chunks import Chunker
from homefire.retrieval.corpus_files import CorpusFile, files_below, source_of
from homefire.retrieval.document import Document
from homefire.retrieval.passage import Passage
from homefire.retrieval.read_docx import read_docx
from homefire.retrieval.read_html import read_html
from homefire.retrieval.read_pdf import read_pdf
from homefire.retrieval.read_python import read_python
from homefire.retrieval.read_tables import read_csv, read_jsonl
from homefire.retrieval.source_file import SourceFile, Unreadable, read_once

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, a folder or a part of a file that was not read."""

    source: str
    reason: str
    """What is wrong and what to do, as a sentence without a subject."""
    whole: bool = True
    """Whether nothing of it was read."""
    others: tuple[str, ...] = ()
    """Sources of more files that were not read for the same reason."""


class Unread:
    """What was skipped, for `report`; and whether a source is among it, for the `keep` of `Index.update`."""

    def __init__(self) -> None:
        self.skipped: list[Skipped] = []
        self._names: set[str] = set()

    def __call__(self, skipped: Skipped) -> None:
        """Takes what was skipped."""
        self.skipped.append(skipped)
        self._names |= {skipped.source, *skipped.others}

    def __contains__(self, source: object) -> bool:
        """Whether nothing can be said of a source: it was skipped, or is below a folder or a row of a file that was."""
        text = str(source)
        above = {text[: found.start()] for found in re.finditer("[/#]", text)}
        return not self._names.isdisjoint({text, ".", *above})


Report: TypeAlias = Callable[[Skipped], None]
"""Takes what was skipped."""


def read_text(file: SourceFile) -> Iterator[Document]:
    """Plain text, Markdown or reStructuredText as it stands.

    Raises:
        Unreadable: the file is no text, or there is none in it.
    """
    text = file.text().replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise Unreadable("there is no text in it.")
    yield Document(file.source, text)


@dataclass(frozen=True, slots=True)
class _Format:
    read: Callable[[SourceFile], Iterator[Document]]
    most: int = 128 * 2**20
    """Bytes of a file that are read unless the user says otherwise."""


_TEXT, _HTML = _Format(read_text), _Format(read_html, 16 * 2**20)
_FORMATS: Mapping[str, _Format] = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".rst"), _TEXT),
    **dict.fromkeys((".html", ".htm", ".xhtml"), _HTML),
    ".pdf": _Format(read_pdf),
    ".docx": _Format(read_docx),
    **dict.fromkeys((".jsonl", ".ndjson"), _Format(read_jsonl)),
    **dict.fromkeys((".csv", ".tsv"), _Format(read_csv)),
    ".py": _Format(read_python, 16 * 2**20),
}

SUFFIXES = tuple(_FORMATS)
"""Endings of the names of files that can be read."""


def read_documents(
    paths: Iterable[Path | str], *, base: Path | str | None = None, max_bytes: int | None = None, report: Report | None = None
) -> Iterator[Document]:
    """Reads files, and all files that can be read below folders: in the order given, below a folder in the order of their names.

    Text (.txt, .md, .rst and so on), HTML, PDF and DOCX (with the extra `documents`) and docstrings (.py) give a document a file; JSON
    Lines and CSV give one a row, see `read_jsonl`. Hidden files below a folder, folders of installed packages and of indexes, and links to
    folders are left out. Files are read one at a time, each as it was at one moment.

    Args:
        paths: Files and folders.
        base: The folder that sources are relative to. Without it, and for files elsewhere, the source is the path as given, with what comes
            below a folder. So name the same paths from the same folder, or give absolute ones, when documents are to be updated later.
        max_bytes: Larger files are skipped. None takes 128 MiB, which needs about six times as much memory at worst, or 16 MiB for HTML and
            Python, which take long to read.
        report: Takes each file, folder or row that was skipped, as it happens; without it they are logged as warnings.

    Raises:
        InputError: a path leads nowhere, or there is no file among them that can be read.
    """
    skip = report or _warn
    files = find_files(paths, base=base, report=skip)
    missing: set[str] = set()
    return (document for file in files for document in _documents(file, max_bytes, skip, missing, files))


def read_folder(
    path: Path | str, chunker: Chunker | None = None, *, max_bytes: int | None = None, report: Report | None = None
) -> Iterator[Passage]:
    """The passages of all files below a folder that can be read, see `read_documents`; sources are relative to the folder.

    Raises:
        InputError: there is no such folder, or no file in it that can be read.
    """
    if not Path(path).is_dir():
        raise InputError(f"{str(path)!r} is not a folder; read_folder needs one, and read_files takes single files.")
    return _passages(read_documents([path], base=path, max_bytes=max_bytes, report=report), chunker)


def read_files(
    paths: Iterable[Path | str], chunker: Chunker | None = None, *, max_bytes: int | None = None, report: Report | None = None
) -> Iterator[Passage]:
    """The passages of files, in the order given, see `read_documents`; the source is the path as given, with forward slashes.

    Raises:
        InputError: a path leads to no file, or to one of a kind that cannot be read.
    """
    files = [Path(path) for path in paths]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise InputError(f"There is no file at {', '.join(map(repr, missing))}; check the paths.")
    foreign = [str(file) for file in files if file.suffix.lower() not in _FORMATS]
    if foreign:
        raise InputError(
            f"{', '.join(map(repr, foreign))}: expected {', '.join(SUFFIXES)}. Read other text yourself and make documents of it: "
            "Chunker().chunk(Document(source, text))."
        )
    return _passages(read_documents(files, max_bytes=max_bytes, report=report), chunker)


def find_files(paths: Iterable[Path | str], *, base: Path | str | None = None, report: Report | None = None) -> list[CorpusFile]:
    """The files that `read_documents` reads, each once, with the sources that it gives them.

    Raises:
        InputError: as `read_documents` does.
    """
    skip = report or _warn
    given = [Path(path) for path in paths]
    found: dict[str, CorpusFile] = {}
    for path in given:
        shown = Path(os.path.relpath(path, base)) if base is not None else path
        shown = path if ".." in shown.parts else shown
        if path.is_dir():
            below = files_below(path, shown, _FORMATS, lambda source, reason: skip(Skipped(source, reason)))
        elif not os.path.lexists(path):
            raise InputError(f"There is nothing at {str(path)!r}; expected a file or a folder. Check the path.")
        elif path.suffix.lower() in _FORMATS:
            below = [CorpusFile(source_of(str(shown)), path)]
        else:
            skip(Skipped(source_of(str(shown)), f"its name ends in none of {', '.join(SUFFIXES)}."))
            below = []
        for file in below:
            found.setdefault(file.source, file)
    if not found:
        named = ", ".join(repr(str(path)) for path in given)
        raise InputError(f"No file at or below {named or 'no path at all'} ends in {', '.join(SUFFIXES)}; name files or folders that do.")
    return list(found.values())


def _documents(file: CorpusFile, max_bytes: int | None, skip: Report, missing: set[str], files: list[CorpusFile]) -> Iterator[Document]:
    """The documents of one file; `missing` are the formats for which packages are missing, which are reported once."""
    suffix = file.path.suffix.lower()
    kind = _FORMATS[suffix]
    if kind.read.__name__ in missing:
        return
    try:
        data = read_once(file.path, kind.most if max_bytes is None else max_bytes)
        yield from kind.read(SourceFile(file.source, data, lambda reason: skip(Skipped(file.source, reason, whole=False))))
    except Unreadable as error:
        skip(Skipped(file.source, str(error)))
    except MissingExtra as error:
        missing.add(kind.read.__name__)
        same = tuple(other.source for other in files if _FORMATS[other.path.suffix.lower()] is kind)
        reason = f"{error} Without it all {len(same)} files of this kind are skipped." if len(same) > 1 else str(error)
        skip(Skipped(file.source, reason, others=tuple(source for source in same if source != file.source)))


def _passages(documents: Iterable[Document], chunker: Chunker | None) -> Iterator[Passage]:
    cut = (chunker or Chunker()).passages
    return (passage for document in documents for passage in cut(document))


def _warn(skipped: Skipped) -> None:
    _log.warning("%s %s: %s", skipped.source, "was skipped" if skipped.whole else "was read in part", skipped.reason)
