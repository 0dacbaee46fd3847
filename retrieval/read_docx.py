"""Word files (DOCX) to Markdown, through HTML, with mammoth.

Knows no file. Pictures are left out but for their descriptions; nothing outside the file is opened.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

from homefire.errors import MissingExtra
from homefire.retrieval.document import Document
from homefire.retrieval.read_html import markdown_of
from homefire.retrieval.source_file import SourceFile, Unreadable, said

_MOST_XML = 32_000_000
"""Bytes of XML in a file once it is unpacked; a small file can hold any amount."""
_PACKED = 10
"""How many times smaller pictures and films never become by packing, so that what does may be XML whatever its name."""
_STYLES = """
p[style-name='Title'] => h1:fresh
p[style-name='Subtitle'] => h2:fresh
"""


def read_docx(file: SourceFile) -> Iterator[Document]:
    """The text of a Word file as one document.

    Raises:
        MissingExtra: mammoth or markdownify is not installed.
        Unreadable: the file is broken, encrypted, or has no text.
    """
    try:
        import mammoth
    except ImportError as error:
        raise MissingExtra("mammoth", "documents", "Reading DOCX") from error
    if file.data.startswith(b"\xd0\xcf\x11\xe0"):
        raise Unreadable("it has a password or is an old .doc file. Save it as .docx without a password.")
    try:
        with zipfile.ZipFile(io.BytesIO(file.data)) as parts:
            unpacked = sum(part.file_size for part in parts.infolist() if _may_be_xml(part))
        if unpacked > _MOST_XML:
            raise Unreadable(f"it unpacks to {unpacked:,} bytes of XML, and at most {_MOST_XML:,} are read. Split it.")
        images = mammoth.images.img_element(lambda image: {})
        html = mammoth.convert_to_html(io.BytesIO(file.data), convert_image=images, style_map=_STYLES).value
        _, text = markdown_of(html)
    except (Unreadable, MissingExtra):
        raise
    except Exception as error:  # broken XML, missing parts and wrong values have no common class
        raise Unreadable(f"it is no DOCX that can be read ({said(error)}). Save it anew from Word.") from error
    if not text:
        raise Unreadable("it has no text.")
    yield Document(file.source, text, lines=None)


def _may_be_xml(part: zipfile.ZipInfo) -> bool:
    """Whether a part may be read as XML: a file says itself which of its parts is the text, of whatever name."""
    return part.filename.endswith((".xml", ".rels")) or part.file_size > _PACKED * part.compress_size
