"""HTML to Markdown: what a reader of the page would read, without scripts, styles, navigation and what is hidden.

Knows no file. Nothing in a page is executed or fetched; markdownify and Beautiful Soup do the work.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from homefire.errors import MissingExtra
from homefire.retrieval.document import Document
from homefire.retrieval.source_file import SourceFile, Unreadable, said

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

_NO_TEXT = (
    *("script", "style", "noscript", "template", "iframe", "object", "embed", "applet", "svg", "math", "canvas", "audio", "video", "map"),
    *("nav", "form", "button", "input", "select", "textarea", "dialog", "menu", "footer", "head"),
)
_NO_TEXT_ROLES = ("navigation", "banner", "contentinfo", "search", "menu", "menubar", "toolbar", "dialog", "alertdialog")
_HIDDEN = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_HEADINGS = re.compile(r"h[1-6]$")
_PLAIN = ["a", "b", "strong", "em", "i", "u", "s", "del", "sub", "sup", "q"]
"""Elements of which the text alone is kept."""
_DECLARED = re.compile(rb"<(?:meta\s[^>]*?charset|\?xml\s[^>]*?encoding)\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_MAIN_SHARE = 0.2
"""Of the text of a page that its main element must have to stand for it."""
_UNCLOSED = 200
"""Tags in a row that may begin without an end; scripts have some such signs."""
_NUMBERED_ITEMS = 1000
"""Items of a list that are numbered; markdownify counts from the first one for each."""


def read_html(file: SourceFile) -> Iterator[Document]:
    """The page as one document; its title is that of the page.

    Raises:
        MissingExtra: markdownify is not installed.
        Unreadable: there is no text in the page, or it is none.
    """
    declared = _DECLARED.search(file.data[:2048])
    html = file.text(declared[1].decode() if declared else None)
    try:
        title, text = markdown_of(html)
    except MissingExtra:
        raise
    except Exception as error:  # what the libraries raise on pages that they reject has no common class
        raise Unreadable(f"it is no page that can be read ({said(error)}). Save it anew from a browser.") from error
    if not text:
        raise Unreadable("the page has no text of its own; one that is made by scripts must be saved from a browser.")
    yield Document(file.source, text, title=title, lines=None)


def markdown_of(html: str) -> tuple[str, str]:
    """Title and Markdown of a page.

    Raises:
        MissingExtra: markdownify is not installed.
    """
    try:
        from bs4 import BeautifulSoup
        from markdownify import MarkdownConverter
    except ImportError as error:
        raise MissingExtra("markdownify", "documents", "Reading HTML") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a page that looks like XML or like a file name is a page here
        soup = BeautifulSoup(_tamed(html.replace("\0", "")), "html.parser")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    _clean(soup)
    main = _main(soup)
    converter = MarkdownConverter(
        heading_style="atx", bullets="-", strip=_PLAIN, escape_asterisks=False, escape_underscores=False, table_infer_header=True
    )
    try:
        text = converter.convert_soup(main)
    except RecursionError:
        text = main.get_text("\n")
    return title, re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t\xa0]+(?=\n|\Z)", "", text)).strip("\n")


def _tamed(html: str) -> str:
    """The page without heaps of tags and comments that are never closed: for each Python's parser looks through all that follows."""
    closed = html.rfind("-->") + 1
    html = html[:closed] + html[closed:].replace("<!--", "")
    return ">".join(one.replace("<", "&lt;") if one.count("<") > _UNCLOSED else one for one in html.split(">"))


def _clean(soup: BeautifulSoup) -> None:
    """Takes out what is not read, and what would become marks without meaning."""
    from bs4.element import CData, PreformattedString

    for instruction in soup.find_all(string=lambda text: isinstance(text, PreformattedString) and not isinstance(text, CData)):
        instruction.extract()
    for element in soup.find_all(_NO_TEXT):
        element.decompose()
    for element in soup.find_all(_is_hidden):
        element.decompose()
    for element in soup.find_all(["header", "aside"]):
        if not element.decomposed and not element.find(_HEADINGS) and not element.find_parent(["main", "article"]):
            element.decompose()
    for image in soup.find_all("img"):
        image.replace_with(str(image.get("alt") or ""))
    for cell in soup.find_all(["td", "th"], colspan=True):
        del cell["colspan"]
    for numbered in soup.find_all("ol"):
        if len(numbered.find_all("li", recursive=False)) > _NUMBERED_ITEMS:
            numbered.name = "ul"


def _is_hidden(element: Tag) -> bool:
    return (
        element.has_attr("hidden")
        or str(element.get("aria-hidden", "")).lower() == "true"
        or str(element.get("role", "")).lower() in _NO_TEXT_ROLES
        or _HIDDEN.search(str(element.get("style", ""))) is not None
    )


def _main(soup: BeautifulSoup) -> Tag:
    """The element with what the page is about: its main one, its only article, or all of it."""
    articles = soup.find_all("article")
    whole = len(soup.get_text())
    for element in (soup.find("main"), soup.find(role="main"), articles[0] if len(articles) == 1 else None):
        if element is not None and len(element.get_text()) >= _MAIN_SHARE * whole:
            return element
    return soup
