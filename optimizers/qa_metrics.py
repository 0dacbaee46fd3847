"""Metrics for answers to questions: exact match and overlap of words, normalised as the scripts of SQuAD and HotPotQA do.

Knows no model. Sources of the rules: P. Rajpurkar, J. Zhang, K. Lopyrev, P. Liang, SQuAD, arXiv 1606.05250, section 6.1, and its version 2,
arXiv 1806.03822; Z. Yang et al., HotpotQA, arXiv 1809.09600, section 5.2. Text is brought to Unicode's composed form first, so that two
ways of writing one letter are equal.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from homefire.errors import InputError
from homefire.modules.example import Example, Prediction
from homefire.retrieval.passage import Passage

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CLOSED = frozenset({"yes", "no", "noanswer"})
"""Answers of HotPotQA that are right or wrong, whatever words they share."""


def normalize_text(s: str) -> str:
    """Small letters, without ASCII punctuation and English articles, single blanks.

    >>> normalize_text("The  Eiffel Tower, (in) Paris!")
    'eiffel tower in paris'
    """
    bare = unicodedata.normalize("NFC", s).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def EM(prediction: str, answers_list: str | Sequence[str]) -> bool:
    """Whether the prediction is one of the answers, both normalised."""
    found = normalize_text(prediction)
    return any(found == normalize_text(answer) for answer in _several(answers_list))


def F1(prediction: str, answers_list: str | Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the words, 0 to 1, for the answer where it is best; two empty texts agree (SQuAD 2).

    >>> F1("the cat sat", ["a cat sat down", "dog"])
    0.8
    """
    return max(_f1(prediction, answer) for answer in _several(answers_list))


def HotPotF1(prediction: str, answers_list: str | Sequence[str]) -> float:
    """As `F1`, but yes, no and noanswer are right or wrong as a whole, and nothing agrees with an empty text (HotPotQA)."""
    return max(_hotpot_f1(prediction, answer) for answer in _several(answers_list))


def answer_exact_match(example: Example, pred: Prediction, trace: Any = None, frac: float = 1.0) -> bool:
    """Whether the prediction's `answer` is the example's, or one of them where it has several.

    Args:
        example: Has `answer`: a text or a number, or a list of them.
        pred: Has `answer`.
        trace: Not looked at.
        frac: Below 1, that much `F1` is enough.
    """
    said, right = _field(pred, "prediction", "answer"), _field(example, "example", "answer")
    answers = list(right) if isinstance(right, list | tuple | set) else [right]
    if _is_number(said) and all(_is_number(answer) for answer in answers):
        return any(said == answer for answer in answers)
    texts = [_text(answer) for answer in answers]
    return EM(_text(said), texts) if frac >= 1 else F1(_text(said), texts) >= frac


def answer_passage_match(example: Example, pred: Prediction, trace: Any = None) -> bool:
    """Whether one of the example's answers stands in a passage of the prediction's `context`, word for word after normalising.

    Args:
        example: Has `answer`: a text, or a list of them.
        pred: Has `context`: a list of texts or passages, or one text.
        trace: Not looked at.
    """
    context, right = _field(pred, "prediction", "context"), _field(example, "example", "answer")
    passages = [context] if isinstance(context, str | Passage) else list(context)
    answers = list(right) if isinstance(right, list | tuple | set) else [right]
    words = [f" {normalize_text(_text(answer))} " for answer in answers]
    texts = [f" {normalize_text(passage.text if isinstance(passage, Passage) else str(passage))} " for passage in passages]
    return any(answer.strip() and answer in text for answer in words for text in texts)


def _f1(prediction: str, answer: str) -> float:
    said, right = normalize_text(prediction).split(), normalize_text(answer).split()
    if not said or not right:
        return float(said == right)
    shared = (Counter(said) & Counter(right)).total()
    return 2 * shared / (len(said) + len(right))


def _hotpot_f1(prediction: str, answer: str) -> float:
    said, right = normalize_text(prediction), normalize_text(answer)
    if said != right and {said, right} & _CLOSED:
        return 0.0
    return _f1(prediction, answer) if said and right else 0.0


def _several(answers: str | Iterable[str]) -> list[str]:
    found = [answers] if isinstance(answers, str) else list(answers)
    if not found:
        raise InputError("There is no answer to compare with; give at least one, as in EM('Paris', ['Paris']).")
    if wrong := [answer for answer in found if not isinstance(answer, str)]:
        raise InputError(f"The answer {wrong[0]!r} is no text. Give texts, as in EM('42', ['42']).")
    return found


def _field(record: Example, what: str, name: str) -> Any:
    if name not in record:
        known = ", ".join(record) or "no field"
        other = next(iter(record), "label")
        raise InputError(f"This metric reads the field {name!r}; the {what} has {known}. Others: homefire.field_match({other!r}).")
    return record[name]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)
