"""The words that BM25 counts: those of bm25s, and what that would lose of other scripts."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from homefire.errors import InputError
from homefire.retrieval.words import Analyzer, fingerprints

ENGLISH = Analyzer.of("english")
PLAIN = "The CATs' 2nd running-shoes aren't in Zürich, naïve_ones; A b c 3.14 x2 ÉCOLE Straße über ΑΒΓ мир"


def by_bm25s(texts: list[str], language: str, stop_words: str | list[str]) -> list[list[str]]:
    stemmer = Stemmer.Stemmer(language)
    import bm25s  # not above: it imports numba, beside which engines of other tests would take a process of their own

    found = bm25s.tokenize(texts, stopwords=stop_words, stemmer=stemmer, return_ids=False, show_progress=False)
    assert isinstance(found, list)
    return found


def test_terms_are_those_of_bm25s() -> None:
    assert [ENGLISH.terms(PLAIN)] == by_bm25s([PLAIN], "english", "en")
    assert "the" not in ENGLISH.terms(PLAIN)
    german = Analyzer.of("german")
    assert [german.terms(PLAIN)] == by_bm25s([PLAIN], "german", "de")


@given(st.text(st.characters(max_codepoint=0x24F, exclude_characters="İ"), max_size=60))
def test_any_latin_text_is_cut_as_bm25s_cuts_it(text: str) -> None:
    """But for İ, whose small letter carries an accent of its own."""
    assert Analyzer("none", frozenset()).words(text) == re.findall(r"(?u)\b\w\w+\b", text.lower())


def test_scripts_without_spaces_give_characters_and_pairs() -> None:
    assert sorted(ENGLISH.words("東京都 is Tokyo")) == sorted(["東", "京", "都", "東京", "京都", "is", "tokyo"])
    assert ENGLISH.words("猫") == ["猫"]
    assert {"สวัส"[:2], "ส"} <= set(ENGLISH.words("สวัสดี"))
    assert ENGLISH.words("abc漢字def") == ["abc", "漢", "字", "漢字", "def"]


def test_accents_and_vowel_signs_stay_in_their_words() -> None:
    assert ENGLISH.words("हिन्दी में भाषा") == ["हिन्दी", "में", "भाषा"]
    assert ENGLISH.words("cafe\u0301 re\u0301sume\u0301") == ["café", "résumé"]
    assert ENGLISH.words("مَكْتَبَة") == ["مَكْتَبَة"]
    assert ENGLISH.words("한국어 문서") == ["한국어", "문서"]


def test_ligatures_and_wide_letters_are_those_that_people_type() -> None:
    assert ENGLISH.words("ﬁnding ﬂow") == ["finding", "flow"]
    assert ENGLISH.words("\uff21\uff22\uff11") == ["ab1"]


@pytest.mark.parametrize("text", ["", " \n\t", "?!", "\0\0", "a", "\ud800\udfff", "\u0301\u0301", "🎉🎉"])
def test_a_text_without_words_has_no_terms(text: str) -> None:
    assert ENGLISH.terms(text) == []


def test_a_language_without_a_stemmer_keeps_its_words() -> None:
    chinese = Analyzer.of("chinese")
    assert chinese.stems(["running"]) == ["running"]
    assert "的" in chinese.stop_words
    assert "的" not in chinese.terms("我的猫")
    assert Analyzer.of("none").terms("The runnings") == ["the", "runnings"]


def test_an_unknown_language_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no language 'englisch'; did you mean 'english'\? Expected one of: arabic, "):
        Analyzer.of("englisch")


def test_fingerprints_are_the_same_everywhere_and_differ() -> None:
    assert fingerprints(["cat", "dog"]).tolist() == [0x2F989D7B2CDD2733, 0x9F9C5ED2C1C78439], "indexes on disk depend on it"
    assert len(set(fingerprints([str(number) for number in range(10_000)]).tolist())) == 10_000
    assert fingerprints([]).shape == (0,)


def test_numba_stays_out_so_that_vllm_can_compute_in_the_same_process() -> None:
    code = "import sys; from homefire.retrieval.words import Analyzer; print(Analyzer.of().terms('The cats'), 'llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "['cat'] False\n"
