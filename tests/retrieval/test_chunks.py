"""Chunks: where documents are cut, what the passages know, and that nothing is lost, too long or called the same."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homefire.errors import InputError
from homefire.retrieval.chunks import Chunker
from homefire.retrieval.document import Document, text_key
from homefire.retrieval.token_spans import GuessedTokens, Spans, TokenSpans, Words

PIECES = [
    *(
        "a",
        "word ",
        "An end. ",
        "Is it? ",
        "e.g. ",
        "\n",
        "\n\n",
        "# H\n",
        "## Sub\n",
        "```\n",
        "~~~\n",
        "- item\n",
        "| a | b |\n",
        "|---|\n",
    ),
    *(
        "Title\n=====\n",
        "---\n",
        "漢字。",
        "ภาษาไทย",
        " ",
        "\t",
        "x" * 90,
        "\f",
        ".",
        "...",
        "! ",
        "👩\u200d👩\u200d👧",
        "e\u0301",
        "\u200b",
    ),
    *(" " * 1200, "\r\n", "\r", "\0", "\ud800", "é", "\u0b95\u0bcd\u0bb7"),
]


class Bytes:
    """As the tokenizers of language models do with what they do not know: a token a byte, so several for one character."""

    max_tokens = 1000

    def token_spans(self, texts: Sequence[str]) -> list[Spans]:
        return [[(place, place + 1) for place, letter in enumerate(text) for _ in letter.encode()] for text in texts]


class FirstIsDear(Words):
    """A text has three tokens more than its words: alone it is longer than within another."""

    def token_spans(self, texts: Sequence[str]) -> list[Spans]:
        return [[*[(0, 0), (0, 1), (0, 1), (0, 1)], *spans] if spans else [] for spans in super().token_spans(texts)]


def cut(text: str, tokens: int, overlap: int = 0) -> list[str]:
    return [passage.text for passage in Chunker(tokens, overlap, tokenizer=Words()).chunk(Document("note", text))]


def test_every_heading_begins_a_passage_with_the_text_below_it() -> None:
    text = "# One\nfirst words here\n\n# Two\n## Three\nmore words\n\n## Four\nlast words"
    passages = Chunker(40, tokenizer=Words()).chunk(Document("note", text))
    assert [passage.text for passage in passages] == [*("# One\nfirst words here", "# Two\n## Three\nmore words", "## Four\nlast words")]
    assert [passage.metadata["heading"] for passage in passages] == ["One", "Two", "Two > Four"]


def test_a_section_of_a_few_words_goes_on_into_the_next() -> None:
    text = "# One\nfew\n\n# Two\nwords that are enough for a passage of their own\n\n# Three\nend"
    assert cut(text, 80) == ["# One\nfew\n\n# Two\nwords that are enough for a passage of their own", "# Three\nend"]


def test_paragraphs_come_before_sentences_and_sentences_before_lines_and_words() -> None:
    assert cut("a b c. D e f\n\ng h i. J k l m n o", 9) == ["a b c. D e f", "g h i. J k l m n o"]
    assert cut("a b c d e ff. G\nh i j k l m n", 9) == ["a b c d e ff.", "G\nh i j k l m n"]
    assert cut("a b c d e f\ng h i j k l m n", 9) == ["a b c d e f", "g h i j k l m n"]
    assert cut("a b c d e f g h i j k l m n", 9) == ["a b c d e f g h i", "j k l m n"]


@pytest.mark.parametrize(
    "text",
    [
        "They met Dr. Smith at the door.",
        "See Fig. 3 for J. Doe, e.g. Tuesday.",
        "It costs 3.5 euros, i.e. More or less.",
        "It is 3. of them, or more.",
    ],
)
def test_a_full_stop_within_a_sentence_ends_none(text: str) -> None:
    assert cut(f"One two three four five six. {text} End.", 11)[0] == "One two three four five six."


def test_sentences_end_in_scripts_of_all_kinds() -> None:
    assert cut("一二三四五。六七八九十。", 8) == ["一二三四五。", "六七八九十。"]
    assert cut("क ख ग घ। च छ ज झ।", 6) == ["क ख ग घ।", "च छ ज झ।"]
    assert cut("Really? “Yes, I am sure.” Then it is so.", 7) == ["Really? “Yes, I am sure.”", "Then it is so."]


def test_overlap_is_whole_sentences_where_they_are_short_enough() -> None:
    text = "One two three. Four five six seven. Eight nine. Ten eleven twelve thirteen. Fourteen."
    assert cut(text, 9, 3) == ["One two three. Four five six seven. Eight nine.", "Eight nine. Ten eleven twelve thirteen. Fourteen."]
    assert cut(text, 9, 1)[1] == "nine. Ten eleven twelve thirteen. Fourteen."


def test_nothing_overlaps_across_a_heading() -> None:
    text = "# One\na b c d e f g h i j\n\n# Two\nk l m n o p q r s t"
    assert cut(text, 14, 7) == ["# One\na b c d e f g h i j", "# Two\nk l m n o p q r s t"]
    assert cut("a b c d e f\n# Two\nk l\n\nm n o p q r s t u", 10, 5)[1:] == ["# Two\nk l\n\nm n o p q r", "n o p q r s t u"]


def test_fenced_code_stays_whole_when_it_fits() -> None:
    code = "```\none two\n\nthree four\nfive six seven\n```"
    assert cut(f"a b c\n\n{code}\n\nd e f", 10) == ["a b c", code, "d e f"]
    assert cut(f"# Head\n\n{code}", 9) == ["# Head", code]
    assert cut(f"a b c d e. F\n\n{code}", 9, 4) == ["a b c d e. F", code], "no overlap where it would not fit"
    assert len(cut(f"a b c\n\n{code}\n\nd e f", 8)) == 3


def test_rows_of_tables_and_items_stay_whole() -> None:
    table = "| name | age |\n| --- | --- |\n| Ann Bea | 3 |\n| Carl | 4 |"
    assert cut(table, 17) == ["| name | age |\n| --- | --- |\n| Ann Bea | 3 |", "| Carl | 4 |"]
    assert cut("- one two. Three\n- four five six\n- seven eight", 8) == ["- one two. Three\n- four five six", "- seven eight"]


def test_characters_that_belong_together_are_not_cut_apart() -> None:
    family, letter = "👩\u200d👩\u200d👧", "e\u0301"
    for passage in Chunker(40, 0, tokenizer=Bytes()).chunk(Document("note", family * 20)):
        assert set(passage.text.split(family)) == {""}
    for passage in Chunker(8, 0, tokenizer=Bytes()).chunk(Document("note", letter * 20)):
        assert set(passage.text.split(letter)) == {""}


def test_a_gap_of_nothing_ends_a_passage() -> None:
    assert cut("before" + " " * 2000 + "after", 100) == ["before", "after"]
    assert len(cut("before" + " " * 500 + "after", 100)) == 1


def test_pages_lines_titles_and_own_values_are_in_the_metadata() -> None:
    document = Document("note", "one\n\n# Two\ntwo\f\nthree\n\n# Four\nfour", {"year": 2020}, title="All")
    passages = Chunker(8, 0, tokenizer=Words()).chunk(document)
    assert [passage.metadata for passage in passages] == [
        {"title": "All", "page": 1, "line": 1, "year": 2020},
        {"title": "All", "heading": "Two", "page": 1, "line": 3, "year": 2020},
        {"title": "All", "heading": "Four", "page": 2, "line": 7, "year": 2020},
    ]
    assert passages[1].text == "# Two\ntwo\n\nthree", "no form feed is left in a text"
    [one] = Chunker().chunk(Document("note", "one", {"line": 70, "pages": 1}, lines=None))
    assert one.metadata == {"line": 70, "pages": 1, "page": 1}
    first, second = Chunker(2, 0, tokenizer=Words()).chunk(Document("note", "\na b\nc", lines=(3, 8, 20)))
    assert (first.metadata, second.metadata) == ({"line": 8}, {"line": 20})


def test_a_document_has_a_digest_of_all_but_its_source() -> None:
    document = Document("a", "text", {"x": 1, "y": 2}, "title")
    assert document.digest == Document("b", "text", {"y": 2, "x": 1}, "title").digest
    others = [
        Document("a", "other", {"x": 1, "y": 2}, "title"),
        Document("a", "text", {"x": 1}, "title"),
        Document("a", "text", {"x": 1, "y": 2}),
    ]
    assert len({document.digest, *(other.digest for other in others)}) == 4


def test_keys_are_equal_for_what_reads_the_same() -> None:
    assert text_key("Ofﬁce\u00a0hours\n\nare LONG") == text_key("  office hours are\u200b l\u00adong ")
    assert text_key("a + b") != text_key("a - b")


@pytest.mark.parametrize(("tokens", "overlap"), [(1, 0), (1001, 0), (10, 6), (10, -1)])
def test_sizes_that_the_encoder_cannot_read_are_refused(tokens: int, overlap: int) -> None:
    with pytest.raises(InputError, match=rf"tokens={tokens}, overlap={overlap} .* at most the 1000 that the encoder reads"):
        Chunker(tokens, overlap, tokenizer=Bytes())


def test_the_size_is_what_the_encoder_reads_where_that_is_less_than_usual() -> None:
    small = Bytes()
    small.max_tokens = 50
    assert (Chunker().tokens, Chunker().overlap) == (128, 25)
    assert (Chunker(tokenizer=Bytes()).tokens, Chunker(tokenizer=small).tokens, Chunker(tokenizer=small).overlap) == (128, 50, 10)


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=60), st.sampled_from([Words(), GuessedTokens(), Bytes(), FirstIsDear()]), st.data())
def test_passages_cover_the_text_fit_and_have_names_of_their_own(parts: list[str], tokenizer: TokenSpans, data: st.DataObject) -> None:
    tokens = data.draw(st.integers(8, 40))
    chunker = Chunker(tokens, data.draw(st.integers(0, tokens // 2)), tokenizer=tokenizer)
    text = "".join(parts)
    passages = chunker.chunk(Document("note", text))
    assert all(len(spans) <= tokens for spans in tokenizer.token_spans([passage.text for passage in passages]))
    assert all(passage.text == passage.text.strip() != "" for passage in passages)
    assert len({passage.id for passage in passages}) == len(passages)
    assert [passage.position for passage in passages] == list(range(len(passages)))
    assert chunker.chunk(Document("note", text)) == passages
    lines = [passage.metadata["line"] for passage in passages]
    assert lines == sorted(lines)
    apart = Chunker(tokens, 0, tokenizer=tokenizer).chunk(Document("note", text))
    fit = text.replace("\0", "\ufffd").replace("\ud800", "\ufffd")
    assert "".join("".join(passage.text.split()) for passage in apart) == "".join(fit.split())


@settings(deadline=None)
@given(st.lists(st.sampled_from([" ", " ", " ", ". ", "\n", "\n\n", "\n# ", "\n- "]), max_size=60), st.integers(4, 12), st.data())
def test_passages_overlap_by_no_more_than_asked(gaps: list[str], tokens: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tokens // 2))
    end = 0
    for passage in cut("".join(f"{gap}w{number}" for number, gap in enumerate(gaps)), tokens, overlap):
        numbers = [int(word.strip("w.")) for word in passage.split() if word.startswith("w")]
        assert numbers == list(range(numbers[0], numbers[-1] + 1))
        assert end - overlap <= numbers[0] <= end
        end = max(end, numbers[-1] + 1)
    assert end == len(gaps)


@pytest.mark.parametrize(
    "part", ["A sentence. ", "a log\n", "x", "漢", "\n", ".", "# h\n", "```\n", "| a ", "- \n", "a\u0301", '"', "Title\n==\n"]
)
def test_a_passage_has_so_many_characters_at_most_whatever_is_in_it(part: str) -> None:
    text = part * (50_000 // len(part))
    assert max((len(passage.text) for passage in Chunker().passages(Document("note", text))), default=0) <= 128 * 40


@pytest.mark.parametrize("part", ["A sentence of words.\n", "."])
def test_memory_stays_small_however_long_a_text_is(part: str) -> None:
    document = Document("note", part * (2_000_000 // len(part)))
    passages = Chunker().passages(document)
    tracemalloc.start()
    try:
        assert sum(1 for _ in islice(passages, 400)) == 400
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000


def test_tokens_are_those_of_the_encoder(minilm: Path) -> None:
    from homefire.retrieval.sentence_encoder import SentenceEncoder

    encoder = SentenceEncoder(str(minilm))
    assert isinstance(encoder, TokenSpans)
    chunker = Chunker(tokenizer=encoder)
    text = Path(__file__).read_text(encoding="utf-8")
    passages = chunker.chunk(Document("this file", text))
    counts = [len(spans) for spans in encoder.token_spans([passage.text for passage in passages])]
    assert max(counts) <= chunker.tokens == 128 < encoder.max_tokens < 256
    assert sum(counts) / len(counts) > 80
    assert [passage.id for passage in islice(chunker.passages(Document("this file", text)), 3)] == [passage.id for passage in passages[:3]]
