"""One file of a corpus: its bytes, read once and unchanged, and the text in them.

Knows no format but plain text: what a reader cannot use it raises as `Unreadable`, which skips the file and no other.
"""

from __future__ import annotations

import codecs
import logging
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_ATTEMPTS = 3
_SETTLED_NS = 2_000_000_000
"""How long ago a file was changed when its time of change can be trusted."""
_CHUNK = 1 << 20
_LONGEST_REASON = 200
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MOST_CONTROL = 0.02
"""Share of control characters in what is no UTF-8, above which it is no text; random bytes have a tenth."""

_log = logging.getLogger(__name__)


class Unreadable(Exception):
    """A file, or a part of one, that cannot be used; the message is the reason and what to do, without the name of the file."""


def said(error: Exception) -> str:
    """An error of a library on one line, for a reason."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_LONGEST_REASON]}"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was read."""

    source: str
    """Its name among the sources."""
    data: bytes
    leave_out: Callable[[str], None]
    """Takes the reason why a part of the file is left out."""

    def text(self, declared: str | None = None) -> str:
        """The text: by its byte order mark, in UTF-8, as `declared`, or in Windows-1252, which is logged.

        Raises:
            Unreadable: the bytes are no text.
        """
        for mark, encoding in _BOMS:
            if self.data.startswith(mark):
                return self.data[len(mark) :].decode(encoding, "replace")
        if b"\0" in self.data:
            raise Unreadable("it has zero bytes, so it is no text in UTF-8. Save it as UTF-8 or take it out.")
        for encoding in filter(None, (declared, "utf-8")):
            try:
                return self.data.decode(encoding)
            except LookupError:
                continue
            except UnicodeDecodeError as error:
                problem = error
        if len(_CONTROL.findall(self.data)) > _MOST_CONTROL * len(self.data):
            raise Unreadable("it is binary, not text. Take it out, or give it the ending of what it is.")
        _log.warning(
            "%s is not UTF-8 (byte %d: %s); it was read as Windows-1252. Save it as UTF-8 if letters look wrong.",
            self.source,
            problem.start,
            problem.reason,
        )
        return self.data.decode("cp1252", "replace")


def read_once(path: Path, most: int) -> bytes:
    """All bytes of a file as it was at one moment.

    A file that was written to a short while ago is read twice: its time of change is coarse, and cannot tell two writes apart.

    Raises:
        Unreadable: the file is no ordinary one, has more than `most` bytes, keeps changing, or cannot be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Unreadable("it is no ordinary file.")
        for _ in range(_ATTEMPTS):
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                if before.st_size > most:
                    raise Unreadable(
                        f"it has {before.st_size:,} bytes, and at most {most:,} are read. Split it, or raise the limit with max_bytes."
                    )
                data = file.read(most + 1)
                after = os.fstat(file.fileno())
                same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns) and len(data) == after.st_size
                if same and (time.time_ns() - after.st_mtime_ns > _SETTLED_NS or _is_still(file, data)):
                    return data
    except OSError as error:
        raise Unreadable(f"{error.strerror or error}. Check that it exists and that you may read it.") from error
    raise Unreadable("it changed each time while it was read. Read it again when nothing writes to it.")


def _is_still(file: BinaryIO, data: bytes) -> bool:
    file.seek(0)
    place = 0
    while chunk := file.read(_CHUNK):
        if data[place : place + len(chunk)] != chunk:
            return False
        place += len(chunk)
    return place == len(data)
