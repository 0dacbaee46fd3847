"""PDF to text, page by page, with pypdf.

Knows no file. Pages that are pictures have no text here: reading letters off pictures is another program's work.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from homefire.errors import MissingExtra
from homefire.retrieval.document import Document
from homefire.retrieval.source_file import SourceFile, Unreadable, said

if TYPE_CHECKING:
    from pypdf import PdfReader

_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u2010\u00ad]\n(?=[^\W\d_A-Z])")
"""At the end of a line within a word."""


def read_pdf(file: SourceFile) -> Iterator[Document]:
    """The text of a PDF as one document: a form feed between pages, words that were split at line ends whole again.

    Raises:
        MissingExtra: pypdf is not installed.
        Unreadable: the file is broken, needs a password, or has no text.
    """
    try:
        import pypdf
        from pypdf.errors import DependencyError
    except ImportError as error:
        raise MissingExtra("pypdf", "documents", "Reading PDF") from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what matters of its remarks is in the reasons below
    try:
        reader = pypdf.PdfReader(io.BytesIO(file.data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("it needs a password. Save a copy without one, for instance with: qpdf --decrypt --password=... IN OUT")
        pages = list(_pages(reader, file))
        title = str((reader.metadata and reader.metadata.title) or "").strip()
    except Unreadable:
        raise
    except DependencyError as error:
        raise Unreadable('it is encrypted with AES. Install what opens it with: pip install "cryptography"') from error
    except Exception as error:  # what pypdf raises on broken files has no common class
        raise Unreadable(f"it is no PDF that can be read ({said(error)}). Save it anew from the program it is from.") from error
    if not any(map(str.strip, pages)):
        raise Unreadable(f"none of its {len(pages)} pages has text; they may be pictures. Add the text with: ocrmypdf IN OUT")
    yield Document(file.source, "\n\f".join(pages), {"pages": len(pages)}, title=title, lines=None)


def _pages(reader: PdfReader, file: SourceFile) -> Iterator[str]:
    """The text of each page, empty where it cannot be read."""
    for number in range(len(reader.pages)):
        try:
            text = reader.pages[number].extract_text()
        except Exception as error:
            file.leave_out(f"page {number + 1} cannot be read ({said(error)}); the other pages are.")
            text = ""
        yield _HYPHEN.sub("", text.replace("\r\n", "\n").replace("\f", "\n"))
