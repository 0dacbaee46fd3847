"""The files of a corpus: which of those below a folder are read, and what they are called.

Knows no format, only endings of names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

_INSTALLED = ("node_modules", "__pycache__", "site-packages")
"""Folders that hold what others wrote."""
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """A file to read."""

    source: str
    path: Path


def source_of(path: str) -> str:
    """The name of a source: the path with forward slashes, on one line and of letters that every file can hold."""
    return on_one_line(Path(path).as_posix())


def on_one_line(name: str) -> str:
    """The name with what a terminal cannot show, line ends and bytes that are no UTF-8 among it, written as in Python strings."""
    return _UNPRINTABLE.sub(_escaped, name)


def _escaped(found: re.Match[str]) -> str:
    letter = found[0]
    if "\udc80" <= letter <= "\udcff":  # how Python keeps the bytes of a name that are no UTF-8
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")


def files_below(folder: Path, shown: Path, suffixes: Collection[str], skip: Callable[[str, str], None]) -> list[CorpusFile]:
    """All files with one of the endings below a folder, in the order of their sources.

    Hidden files and folders are left out, and folders of installed packages and of indexes. Links to files are followed; a link to a folder
    is not, so that no loop and no foreign folder is read.

    Args:
        folder: Where to look.
        shown: What stands for the folder in the sources; `.` leaves it out.
        suffixes: Endings in small letters.
        skip: Takes the source and the reason when a folder cannot be read or is a link.
    """
    found: list[CorpusFile] = []

    def failed(error: OSError) -> None:
        skip(named(Path(error.filename)), f"{error.strerror}. Check that you may read the folder.")

    def named(path: Path) -> str:
        return source_of(str(shown / path.relative_to(folder)))

    for top, folders, names in os.walk(folder, onerror=failed):
        here = Path(top)
        for name in list(folders):
            if name.startswith(".") or name in _INSTALLED or _is_made(here / name):
                folders.remove(name)
            elif (here / name).is_symlink():
                skip(named(here / name), "it is a link to a folder, which is not followed. Name that folder too, if it is to be read.")
        visible = [here / name for name in names if not name.startswith(".")]
        found += [CorpusFile(named(path), path) for path in visible if path.suffix.lower() in suffixes]
    return sorted(found, key=lambda file: file.source)


def _is_made(folder: Path) -> bool:
    """Whether a program filled a folder with what is not the user's: it is a virtual environment, or an index."""
    there = os.path.exists  # false, not an error, in a folder that may not be read
    return there(folder / "pyvenv.cfg") or (there(folder / "manifest.json") and there(folder / "segments"))
