"""The words that BM25 counts: a text in lower case, without stop words, each word cut to its stem.

Knows no index and no scores.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import re
import runpy
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from homefire.errors import InputError, MissingExtra

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_UNSPACED = (
    r"\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ede\u1000-\u103f\u1050-\u109d\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
    r"\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # kana, ideographs
)
"""Scripts that put no spaces between words."""
_MARKS = (
    r"\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    r"\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u0900-\u0963\u0971-\u0df3\u0f71-\u0fbc\u200d"
)
"""Vowel signs and accents inside words, which `\\w` does not match."""
_ASCII_WORD = re.compile(r"\w\w+")
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}](?:[^\W{_UNSPACED}]|[{_MARKS}])+")
_RUN = re.compile(rf"[{_UNSPACED}]")
_VARIANTS = re.compile(r"[\ufb00-\ufb06\uff01-\uff9f]")
"""Ligatures and wide or narrow forms of letters."""


@dataclass(frozen=True, slots=True)
class Analyzer:
    """Turns texts into terms, as `bm25s.tokenize` with a stemmer does: words of at least two characters, without stop words, stemmed.

    Where that would lose text it goes on: accents and vowel signs belong to their word, and of scripts without spaces between words
    (Chinese, Japanese, Thai and others) every character and every pair of neighbours is a term, so that no dictionary is needed.
    """

    language: str
    """Name of the stemmer, as `english`; `none` stems nothing."""
    stop_words: frozenset[str]
    """Left out; in lower case."""

    @classmethod
    def of(cls, language: str = "english") -> Analyzer:
        """The analyzer of a language, with the stop words that bm25s lists for it, where it does.

        Raises:
            InputError: neither a stemmer nor stop words are known for the language.
            MissingExtra: bm25s or PyStemmer is not installed.
        """
        lists = _stop_words()
        try:
            import Stemmer
        except ImportError as error:
            raise MissingExtra("PyStemmer", "retrieval", "BM25") from error
        lists["english"] = lists.pop("en")
        lists.pop("en_plus", None)
        known = sorted({"none", *Stemmer.algorithms(), *lists})
        if language not in known:
            near = difflib.get_close_matches(language, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise InputError(f"BM25 knows no language {language!r}{hint} Expected one of: {', '.join(known)}.")
        return cls(language, frozenset(lists.get(language, ())))

    def words(self, text: str) -> list[str]:
        """The words of a text in order, with stop words, not stemmed."""
        if text.isascii():
            return _ASCII_WORD.findall(text.lower())
        whole = unicodedata.normalize("NFKC", text) if _VARIANTS.search(text) else unicodedata.normalize("NFC", text)
        found = _WORD.findall(whole.lower())
        if not any(_RUN.match(piece) for piece in found):
            return found
        return [word for piece in found for word in (_characters_and_pairs(piece) if _RUN.match(piece) else (piece,))]

    def stems(self, words: Sequence[str]) -> list[str]:
        """The stem of each word."""
        import Stemmer

        if self.language not in Stemmer.algorithms():
            return list(words)
        return list(Stemmer.Stemmer(self.language, 0).stemWords(list(words)))  # one for each call: a stemmer is for one thread

    def terms(self, text: str) -> list[str]:
        """The terms of a text in order."""
        return self.stems([word for word in self.words(text) if word not in self.stop_words])


def _stop_words() -> dict[str, tuple[str, ...]]:
    """The lists of bm25s, by language.

    Their file is loaded alone, because the package imports numba where it is installed, and beside numba vLLM's CPU build cannot compute
    in this process.
    """
    package = importlib.util.find_spec("bm25s")
    if package is None or package.origin is None:
        raise MissingExtra("bm25s", "retrieval", "BM25")
    lists = runpy.run_path(str(Path(package.origin).with_name("stopwords.py")))
    return {name.removeprefix("STOPWORDS_").lower(): words for name, words in lists.items() if name.startswith("STOPWORDS_")}


def _characters_and_pairs(run: str) -> list[str]:
    return [*run, *(run[place : place + 2] for place in range(len(run) - 1))]


def fingerprints(terms: Sequence[str]) -> npt.NDArray[np.uint64]:
    """A number of 64 bits for each term, by which it is found; of ten million terms two agree once in 400,000 indexes."""
    import numpy as np

    digests = b"".join(hashlib.blake2b(term.encode(), digest_size=8).digest() for term in terms)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
