"""Passages: pieces of the user's own text, small enough to encode, each with a stable id and the place it came from.

Knows no encoder and no index: files and strings in, passages out.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from homefire.errors import InputError

SUFFIXES = (".txt", ".md", ".rst")

_IDEOGRAPHS = r"\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]{{1,40}}")
"""Scripts without spaces count one word a character; an endless run without spaces is cut every 40."""
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")

_log = logging.getLogger(__name__)


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
    metadata: dict[str, str | int | float | bool] = field(default_factory=dict, hash=False)
    """Values kept with the passage; the readers here set `line`, the line in the file where the passage begins."""


def split(text: str, source: str, *, words: int = 100, overlap: int = 20) -> Iterator[Passage]:
    """Cuts a text into passages of at most `words` words, at blank lines where there is one in the second half of a passage.

    The passages are slices of the text with its own line breaks. Each begins with the last `overlap` words of the one before. With 100
    words most passages stay within the 256 tokens that small encoders read, also in technical text.

    Raises:
        InputError: `words` is below 2, or `overlap` is negative or more than half of `words`.
    """
    if words < 2 or not 0 <= overlap <= words // 2:
        raise InputError(
            f"words={words}, overlap={overlap} cannot be used; words must be at least 2 and overlap between 0 and half of words."
        )
    return _slices(text, source, words, overlap)


def read_folder(path: Path | str, *, words: int = 100, overlap: int = 20) -> Iterator[Passage]:
    """Reads all .txt, .md and .rst files below a folder, in the order of their paths; hidden files and folders are left out.

    The source of a passage is the file's path relative to the folder. A file that cannot be read is logged as a warning and skipped.

    Raises:
        InputError: there is no such folder, or no file of these kinds in it; or as `split` does.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{str(path)!r} is not a folder; read_folder needs one, and read_files takes single files.")
    files = {file.relative_to(folder): file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file()}
    visible = {name.as_posix(): file for name, file in files.items() if not any(part.startswith(".") for part in name.parts)}
    if not visible:
        raise InputError(f"No file below {str(path)!r} ends in {', '.join(SUFFIXES)}; point to a folder that has some.")
    return _read(sorted(visible.items()), words, overlap)


def read_files(paths: Iterable[Path | str], *, words: int = 100, overlap: int = 20) -> Iterator[Passage]:
    """Reads .txt, .md and .rst files in the order given.

    The source of a passage is the path as given, with forward slashes. A file that cannot be read is logged as a warning and skipped.

    Raises:
        InputError: a path leads to no file, or to one of another kind; or as `split` does.
    """
    files = [Path(path) for path in paths]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise InputError(f"There is no file at {', '.join(map(repr, missing))}; check the paths.")
    foreign = [str(file) for file in files if file.suffix.lower() not in SUFFIXES]
    if foreign:
        raise InputError(
            f"{', '.join(map(repr, foreign))}: expected {', '.join(SUFFIXES)}. Read other text yourself and hand it to split()."
        )
    return _read([(file.as_posix(), file) for file in files], words, overlap)


def _read(files: list[tuple[str, Path]], words: int, overlap: int) -> Iterator[Passage]:
    split("", "", words=words, overlap=overlap)
    return (passage for source, file in files for passage in _slices(_text(file), source, words, overlap))


def _text(file: Path) -> str:
    """The text of a file; empty when it cannot be read, which is logged."""
    try:
        data = file.read_bytes()
        if b"\0" in data:
            _log.warning("%s was skipped: it has zero bytes, so it is no UTF-8 text. Save it as UTF-8 or take it out.", file)
            return ""
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _log.warning(
            "%s is not UTF-8 (byte %d: %s); it was read as Windows-1252. Save it as UTF-8 if letters look wrong.",
            file,
            error.start,
            error.reason,
        )
        return data.decode("cp1252", errors="replace")
    except OSError as error:
        _log.warning("%s was skipped: %s. Check that it exists and that you may read it.", file, error.strerror)
        return ""


def _slices(text: str, source: str, words: int, overlap: int) -> Iterator[Passage]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    spans = [match.span() for match in _WORD.finditer(text)]
    begin, position, line, counted = 0, 0, 1, 0
    while begin < len(spans):
        end = _end(text, spans, begin, words)
        first, last = spans[begin][0], spans[end - 1][1]
        piece = text[first:last]
        line, counted = line + text.count("\n", counted, first), first
        digest = hashlib.sha256(f"{source}\0{piece}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        yield Passage(id=digest, text=piece, source=source, position=position, metadata={"line": line})
        if end == len(spans):
            return
        begin, position = end - overlap, position + 1


def _end(text: str, spans: list[tuple[int, int]], begin: int, words: int) -> int:
    """Index after the last word of the passage that begins with the word `begin`; more than `words // 2` words on, so passages advance."""
    full = begin + words
    if full >= len(spans):
        return len(spans)
    for end in range(full, begin + words // 2, -1):
        if _BLANK_LINE.search(text, spans[end - 1][1], spans[end][0]):
            return end
    return full
