"""HTML, PDF and Word files become Markdown; scripts, hidden parts, passwords and broken files do no harm."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homefire.retrieval.blocks import blocks
from homefire.retrieval.chunks import Chunker
from homefire.retrieval.document import Document
from homefire.retrieval.read_docx import read_docx
from homefire.retrieval.read_html import markdown_of, read_html
from homefire.retrieval.read_pdf import read_pdf
from homefire.retrieval.source_file import SourceFile, Unreadable
from tests.document_files import docx, encrypted, paragraph, pdf

PAGE = """<!DOCTYPE html><html><head><title> All about\n cats </title><style>p { color: red }</style><script>var evil = 1</script></head>
<body onload="evil()"><header><div>Site name</div></header><nav><a href="/">Home</a></nav>
<main><h1>Cats</h1><p>They <b>purr</b>, says <a href="javascript:evil()">a friend</a>. <img src="c.png" alt="A cat"><script>
evil()</script></p>
<h2>Food</h2><ul><li>fish<ul><li>tuna</li></ul></li><li>mice</li></ul><aside>A note.</aside>
<table><tr><th>Name</th><th>Age</th></tr><tr><td colspan="900">Tom</td><td>3</td></tr></table>
<pre>def meow():
    # loud
    pass</pre>
<p style="color:red; display : none">hidden one</p><p hidden>hidden two</p><p aria-hidden="true">hidden three</p><!-- hidden four -->
<template>hidden five</template><noscript>hidden six</noscript><iframe src="x">hidden seven</iframe>
<div role="navigation">hidden eight</div>
<svg><text>hidden nine</text></svg><p>5 &lt; 6 &amp; caf\u00e9 snake_case *star*</p></main>
<aside>Subscribe!</aside><form><input value="x"><button>Send</button></form><footer>Legal</footer></body></html>"""


def read(reader: Callable[[SourceFile], Iterator[Document]], data: bytes) -> Document:
    [document] = reader(SourceFile("file", data, pytest.fail))
    return document


def test_a_page_is_what_its_reader_reads() -> None:
    page = read(read_html, PAGE.encode())
    assert page.title == "All about cats"
    assert page.text == (
        "# Cats\n\nThey purr, says a friend. A cat\n\n## Food\n\n- fish\n  - tuna\n- mice\n\nA note.\n\n"
        "| Name | Age |\n| --- | --- |\n| Tom | 3 |\n\n```\ndef meow():\n    # loud\n    pass\n```\n\n5 < 6 & caf\u00e9 snake_case *star*"
    )
    assert [passage.metadata["heading"] for passage in Chunker(20, 0).chunk(page)][-1] == "Cats > Food"
    assert all("line" not in passage.metadata for passage in Chunker().chunk(page))


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>no frame at all", "no frame at all"),
        ("<body><article><p>The one article.</p></article><p>more</p></body>", "The one article."),
        ("<body><article>Two</article><article>articles</article></body>", "Two\n\narticles"),
        ("<main></main><p>The main element is empty.</p>", "The main element is empty."),
        ("<header><h1>Headed</h1></header><p>text</p>", "# Headed\n\ntext"),
        ("<p>unclosed <b>tags <i>everywhere<p>next", "unclosed tags everywhere\n\nnext"),
        ("<ol>" + "<li>x</li>" * 3 + "</ol>", "1. x\n2. x\n3. x"),
        ("a<br>b", "a\nb"),
    ],
)
def test_pages_of_all_kinds_give_their_text(html: str, text: str) -> None:
    assert markdown_of(html)[1] == text


@pytest.mark.parametrize(
    "data",
    [
        '<meta charset="windows-1251"><p>Привет</p>'.encode("cp1251"),
        '<?xml version="1.0" encoding="koi8-r"?><html><p>Привет</p></html>'.encode("koi8-r"),
        "<p>Привет</p>".encode("utf-16"),
        "\ufeff<meta charset=latin-1><p>Привет</p>".encode(),
        '<meta charset="no-such"><p>Привет</p>'.encode(),
    ],
)
def test_the_encoding_is_that_of_the_mark_or_the_declared_one(data: bytes) -> None:
    assert read(read_html, data).text == "Привет"


@pytest.mark.parametrize("data", [b"<html><script>document.write('hi')</script></html>", b"<p hidden>x</p>"])
def test_a_page_that_only_scripts_would_fill_is_reported(data: bytes) -> None:
    with pytest.raises(Unreadable, match="no text of its own"):
        read(read_html, data)


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("<div>" * 5000 + "deep", 1),
        ("<ol>" + "<li>item</li>" * 20_000, 20_000),
        ("<b" * 20_000, 0),
        ("<table>" + "<td colspan=1000>x" * 500, 500),
        ("x<a b='>' " * 20_000, 20_000),
        ("x<![CDATA[>" * 20_000, 20_000),
        ("<aside>" * 3000 + "<h1>x</h1>", 1),
        ("<p>x" + " " * 300_000 + "x</p><pre>x" + "\n" * 300_000 + "x</pre>", 4),
    ],
)
def test_pages_made_to_take_for_ever_do_not(html: str, words: int) -> None:
    _, text = markdown_of(html)
    assert sum(text.count(word) for word in ("deep", "item", "x")) == words


@pytest.mark.parametrize("part", ["text<!--note-->", "text<img>", "text<script></script>", "text<i hidden></i>"])
def test_a_page_with_a_heap_of_parts_to_take_out_is_reported(part: str) -> None:
    assert read(read_html, part.encode() * 500).text.count("text") == 500
    with pytest.raises(Unreadable, match=r"5,000 of the 10,000 parts of its b are no text\. Split the page\."):
        read(read_html, b"<b>" + part.encode() * 5000)


def test_signs_that_name_no_character_do_not_end_the_page() -> None:
    assert read(read_html, b"<p>R&#D and R&#D</p><p>caf&#233;</p>").text == "R&#D and R&#D\n\ncaf\u00e9"


def test_a_page_that_the_parser_rejects_is_reported() -> None:
    with pytest.raises(Unreadable, match=r"no page that can be read \(ParserRejectedMarkup: [^\n]*Save it anew"):
        read(read_html, b"<p>text</p><![foo[x")


def test_a_pdf_is_its_pages_with_whole_words() -> None:
    document = read(read_pdf, pdf(["Hello (world).\nThis is infor-\nmation, caf\u00e9.", "", "Third page, A-\nLevel."], title="My title"))
    assert (document.title, document.metadata, document.lines) == ("My title", {"pages": 3}, None)
    assert document.text.split("\f") == ["Hello (world).\nThis is information, caf\u00e9.\n", "\n", "Third page, A-\nLevel."]
    assert [passage.metadata["page"] for passage in Chunker(10, 0).chunk(document)] == [1, 1]
    assert [passage.metadata["page"] for passage in Chunker(6, 0).chunk(document)] == [1, 1, 1, 3]
    [only] = Chunker().chunk(read(read_pdf, pdf(["One page."])))
    assert only.metadata == {"pages": 1, "page": 1}


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_a_pdf_that_opens_without_a_password_is_read_and_another_is_reported(algorithm: str) -> None:
    pytest.importorskip("cryptography")
    assert read(read_pdf, encrypted(pdf(["Open to all."]), "", algorithm)).text == "Open to all."
    with pytest.raises(Unreadable, match="needs a password"):
        read(read_pdf, encrypted(pdf(["Closed."]), "secret", algorithm))


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", b"not a PDF" * 100, pdf(["text"])[:300]])
def test_a_broken_pdf_is_reported(data: bytes) -> None:
    with pytest.raises(Unreadable, match="no PDF that can be read"):
        read(read_pdf, data)


def test_a_pdf_of_pictures_is_reported_and_a_broken_page_is_left_out() -> None:
    with pytest.raises(Unreadable, match="none of its 2 pages has text"):
        read(read_pdf, pdf(["", ""]))
    left_out: list[str] = []
    broken = re.sub(rb"/Length \d\d >>", b"/Filter /X >>", pdf(["First.", "Second."]), count=1)
    [document] = read_pdf(SourceFile("file", broken, left_out.append))
    assert document.text == "\n\fSecond."
    assert len(left_out) == 1 and left_out[0].startswith("page 1 cannot be read")


def test_a_word_file_is_its_text_under_its_headings() -> None:
    body = [paragraph("Handbook", "Title"), paragraph("Leave", "heading1"), paragraph("Thirty days & more."), paragraph("How", "heading2")]
    table = "<w:tbl><w:tr><w:tc>" + paragraph("a") + "</w:tc><w:tc>" + paragraph("b") + "</w:tc></w:tr></w:tbl>"
    document = read(read_docx, docx("".join(body) + table))
    assert document.text == "# Handbook\n\n# Leave\n\nThirty days & more.\n\n## How\n\n| a | b |\n| --- | --- |"
    assert list(blocks(document.text, 100))[-1].heading == "Leave > How"


def without(name: str) -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(docx(paragraph("x")))) as whole, zipfile.ZipFile(out, "w") as some:
        for part in whole.namelist():
            if part != name:
                some.writestr(part, whole.read(part))
    return out.getvalue()


def packed(document: str, text: str) -> bytes:
    """A packed Word file whose text is in the part of that name."""
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(docx(paragraph(text)))) as whole, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as other:
        for part in whole.namelist():
            content = whole.read(part).replace(b"word/document.xml", document.encode())
            other.writestr(document if part == "word/document.xml" else part, content)
    return out.getvalue()


def test_the_text_of_a_word_file_may_have_any_name() -> None:
    assert read(read_docx, packed("word/text.bin", "Hello")).text == "Hello"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no DOCX that can be read"),
        (docx(paragraph("x"))[:400], "no DOCX that can be read"),
        (docx("<w:p><w:broken>"), "no DOCX that can be read"),
        (without("word/document.xml"), "no DOCX that can be read"),
        (docx(""), "it has no text"),
        (docx(paragraph("a" * 33_000_000)), "unpacks to 33,0.* bytes of XML"),
        (packed("word/text.bin", "a" * 33_000_000), "unpacks to 33,0.* bytes of XML"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "has a password or is an old .doc file"),
    ],
)
def test_a_broken_word_file_is_reported(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        read(read_docx, data)


def test_entities_of_a_word_file_neither_explode_nor_read_files() -> None:
    grown = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 20}">' for level in range(1, 9))
    for entities, used in ((f'<!ENTITY e0 "ha">{grown}', "e8"), ('<!ENTITY file SYSTEM "file:///etc/hostname">', "file")):
        out = BytesIO()
        with zipfile.ZipFile(BytesIO(docx(paragraph("NAMED")))) as whole, zipfile.ZipFile(out, "w") as changed:
            for part in whole.namelist():
                content = whole.read(part).decode().replace("NAMED", f"[&{used};]")
                changed.writestr(part, content.replace("?>", f"?><!DOCTYPE x [{entities}]>", 1))
        try:
            document = read(read_docx, out.getvalue())
        except Unreadable:
            continue
        assert document.text == "[]"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_bytes_are_changed_a_file_is_read_or_reported(data: st.DataObject) -> None:
    reader, whole = data.draw(
        st.sampled_from([(read_pdf, pdf(["Some text.", "More."])), (read_docx, docx(paragraph("text"))), (read_html, PAGE.encode())])
    )
    content = bytearray(whole)
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=20)):
        content[place] = byte
    end = data.draw(st.integers(0, len(content)))
    try:
        documents = list(reader(SourceFile("file", bytes(content[:end]), lambda reason: None)))
    except Unreadable as error:
        assert str(error)
    else:
        assert all(document.text.strip() for document in documents)
