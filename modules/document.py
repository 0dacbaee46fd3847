"""Document: a text with a title, as an input that every engine takes.

Knows no retrieval: a passage that a search found is another thing. What is not text, a PDF for instance, goes as a file.
"""

from __future__ import annotations

import base64
import binascii
from os import PathLike
from pathlib import Path
from typing import Any, Self

from homefire.engine.request import Media
from homefire.errors import InputError
from homefire.modules.custom_type import Type
from homefire.modules.media_bytes import check_size, data_url, media_type_of, read_bytes


class Document(Type):
    r"""A text with a title.

    >>> Document("Cats purr.", title="Cats").format()
    'Cats\nCats purr.'

    Args:
        data: The text; of a document that is none, its bytes, also in base64.
        title: What it is called.
        media_type: `text/...`, or what its bytes are; then only engines that take files take it.

    Raises:
        InputError: the data is none of that.
    """

    data: str
    title: str | None = None
    media_type: str = "text/plain"

    def __init__(self, data: str | bytes, title: str | None = None, media_type: str = "text/plain") -> None:
        values: dict[str, Any] = {"data": _as_text(data, media_type), "title": title, "media_type": media_type}
        super().__init__(**values)

    @classmethod
    def from_file(cls, path: str | PathLike[str], title: str | None = None) -> Self:
        """The document in a file: a PDF, or text in UTF-8."""
        data = read_bytes(Path(path), "document")
        media_type = media_type_of(data) or "text/plain"
        return cls(data, title=title or Path(path).name, media_type=media_type)

    def format(self) -> str | list[str | Media]:
        if self.media_type.startswith("text/"):
            return f"{self.title}\n{self.data}" if self.title else self.data
        return [Media("file", f"data:{self.media_type};base64,{self.data}", self.title or "document")]

    def __repr__(self) -> str:
        named = f"{self.title!r}, " if self.title else ""
        return f"Document({named}{self.media_type}, {len(self.data)} characters)"

    __str__ = __repr__


def _as_text(data: object, media_type: str) -> str:
    is_text = media_type.startswith("text/")
    try:
        if isinstance(data, bytes):
            check_size(len(data), "document", "that was given")
            return data.decode() if is_text else data_url(data, media_type).partition(",")[2]
        if isinstance(data, str):
            return data if is_text else base64.b64encode(base64.b64decode(data, validate=True)).decode("ascii")
    except (UnicodeDecodeError, binascii.Error, ValueError) as error:
        wanted = "UTF-8 text" if is_text else "bytes, or base64 of them"
        raise InputError(f"The document's data cannot be read as {media_type}: {error}; expected {wanted}. Give media_type=...") from None
    raise InputError(f"A document's data is text or bytes; got a {type(data).__name__}. Write Document('text', title='...').")
