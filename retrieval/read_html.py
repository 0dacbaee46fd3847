"""HTML to Markdown: what a reader of the page would read, without scripts, styles, navigation and what is hidden.

Knows no file. Nothing in a page is executed or fetched; markdownify and Beautiful Soup do the work.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
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
_WORK = 20_000_000
"""Characters that may be looked at again, for tags or sections without an end, and children of one element, for those that go."""
_BLANKS = re.compile(r"[ \t\r\n\f\v\xa0]{100,}")
"""More blanks than any layout has; markdownify looks at all of them from each."""
_NO_CHARACTER = re.compile("&#(?!(?:[0-9]+|[xX][0-9a-fA-F]+)[^0-9a-fA-F])")
"""Python's parser takes all that follows the second such sign for text."""
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
    except (MissingExtra, Unreadable):
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
        Unreadable: it would take for ever.
    """
    try:
        from bs4 import BeautifulSoup
        from markdownify import MarkdownConverter
    except ImportError as error:
        raise MissingExtra("markdownify", "documents", "Reading HTML") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a page that looks like XML or like a file name is a page here
        soup = BeautifulSoup(_tamed(html.replace("\0", "")), "html.parser")
    _require_cheap(soup)
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
    return title, re.sub(r"\n{3,}", "\n\n", re.sub(r"(?<![ \t\xa0])[ \t\xa0]++(?=\n|\Z)", "", text)).strip("\n")


def _tamed(html: str) -> str:
    """The page without heaps of blanks, and of tags and comments never closed: for each Python's parser looks through all that follows."""
    html = _NO_CHARACTER.sub("&amp;#", html)
    html = _BLANKS.sub(lambda blanks: "\n" if "\n" in blanks[0] else " ", html)
    closed = html.rfind("-->") + 1
    html = html[:closed] + html[closed:].replace("<!--", "")
    html = ">".join(one.replace("<", "&lt;") if one.count("<") > _UNCLOSED else one for one in html.split(">"))
    scan = HTMLParser(convert_charrefs=False)
    try:
        scan.feed(html)  # as far as the first tag or section without an end
    except AssertionError:  # the page is rejected
        return html
    rest = scan.rawdata
    if rest.count("<") * len(rest) <= _WORK:
        return html
    for mark, plain in (("<![", "&lt;!["), ('"', "&quot;"), ("'", "&#39;")):
        rest = rest.replace(mark, plain)
    return html[: len(html) - len(scan.rawdata)] + rest


def _require_cheap(soup: BeautifulSoup) -> None:
    """Looks for elements with so many children that taking some of them out would take for ever: each is searched for among all.

    Raises:
        Unreadable: there is one.
    """
    from bs4.element import PreformattedString, Tag

    def goes_out(child: object) -> bool:
        return child.name in (*_NO_TEXT, "img") or _is_hidden(child) if isinstance(child, Tag) else isinstance(child, PreformattedString)

    for element in (soup, *soup.find_all(True)):
        goes = sum(map(goes_out, element.contents))
        if goes * len(element.contents) > _WORK:
            raise Unreadable(f"{goes:,} of the {len(element.contents):,} parts of its {element.name} are no text. Split the page.")


def _clean(soup: BeautifulSoup) -> None:
    """Takes out what is not read, and what would become marks without meaning."""
    from bs4.element import CData, PreformattedString

    for instruction in soup.find_all(string=lambda text: isinstance(text, PreformattedString) and not isinstance(text, CData)):
        instruction.extract()
    for element in soup.find_all(_NO_TEXT):
        element.decompose()
    for element in soup.find_all(_is_hidden):
        element.decompose()
    for element in _boxes(soup):
        element.decompose()
    for image in soup.find_all("img"):
        image.replace_with(str(image.get("alt") or ""))
    for cell in soup.find_all(["td", "th"], colspan=True):
        del cell["colspan"]
    for numbered in soup.find_all("ol"):
        if len(numbered.find_all("li", recursive=False)) > _NUMBERED_ITEMS:
            numbered.name = "ul"


def _boxes(soup: BeautifulSoup) -> list[Tag]:
    """Headers and asides that have no heading and are in no main part; parents are looked at once, however deep the page is."""
    elements = soup.find_all(True)
    inside: set[int] = set()
    headed: set[int] = set()
    for element in elements:
        above = element.parent
        if element.name in ("main", "article") or id(above) in inside:
            inside.add(id(element))
        if _HEADINGS.match(element.name):
            while above is not None and id(above) not in headed:
                headed.add(id(above))
                above = above.parent
    return [one for one in elements if one.name in ("header", "aside") and id(one) not in inside and id(one) not in headed]


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
