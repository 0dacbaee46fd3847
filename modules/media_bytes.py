"""The bytes of images, sounds and files: read, fetched when that is asked for, their kind found in their first bytes.

Knows no signature and no message.
"""

from __future__ import annotations

import base64
import binascii
import re
import urllib.error
import urllib.request
from pathlib import Path

from homefire.errors import InputError

MOST_BYTES = 20_000_000
FETCH_SECONDS = 30.0
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)((?:;[\w-]+=[^;,]*)*);base64,")
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mp3"),
    (b"\xff\xfb", "audio/mp3"),
    (b"\xff\xf3", "audio/mp3"),
    (b"\xff\xf2", "audio/mp3"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
)
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_BRANDS = {b"avif": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heic", b"M4A ": "audio/m4a"}


def media_type_of(data: bytes) -> str | None:
    """The media type that the first bytes show; None for others."""
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12])
    return next((kind for beginning, kind in _BEGINNINGS if data.startswith(beginning)), None)


def read_bytes(path: Path, what: str) -> bytes:
    """The bytes of a file.

    Raises:
        InputError: it cannot be read, or is too large.
    """
    try:
        size = path.stat().st_size
        check_size(size, what, str(path))
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"The {what} {str(path)[:200]!r} cannot be read: {reason}. Give a path, bytes, or an address.") from None


def fetched(url: str, what: str) -> bytes:
    """The bytes behind an address.

    Raises:
        InputError: they cannot be had, or are too many.
    """
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise InputError(f"The {what} at {url} cannot be fetched: {error}. Save it to a file and give its path.") from None
    check_size(len(data), what, url)
    return data


def check_size(size: int, what: str, name: str) -> None:
    """Refuses what is empty or too large to send."""
    if size > MOST_BYTES:
        raise InputError(f"The {what} {name} has {size / 1e6:.1f} MB; at most {MOST_BYTES / 1e6:.0f} MB are sent. Make it smaller.")
    if not size:
        raise InputError(f"The {what} {name} is empty. Give one that has bytes.")


def data_url(data: bytes, media_type: str) -> str:
    """The bytes as a data URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def data_of(url: str, what: str) -> bytes:
    """The bytes of a data URL.

    Raises:
        InputError: it is none, or not in base64.
    """
    head = _DATA_URL.match(url)
    try:
        if head is None:
            raise ValueError("it does not begin with data:TYPE/SUBTYPE;base64,")
        return base64.b64decode(url[head.end() :], validate=True)
    except (ValueError, binascii.Error) as error:
        raise InputError(f"The {what} {url[:40]!r}... is no data URL: {error}. Give the bytes themselves.") from None


def declared_type(url: str) -> str:
    """The media type that a data URL names; empty for other texts."""
    head = _DATA_URL.match(url)
    return "" if head is None else head[1]
