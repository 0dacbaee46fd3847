"""Answers of mathematics problems: how they are read from solutions and when two of them are the same.

Knows no model and no data set. The rules are ours, after what the authors of the data sets say: K. Cobbe et al., arXiv 2110.14168
(GSM8K: the number after `####`), and D. Hendrycks et al., arXiv 2103.03874 (MATH: what stands in the last box; answers that LaTeX writes
in several ways count as one).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from homefire.modules.example import Example, Prediction

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+")
_DROPPED = re.compile(r"\\left|\\right|\\!|\\,|\\;|\\:|\\ |\\quad|\\displaystyle|\^\{?\\circ\}?|\\degree|\\\$|\$|\\%|%|~")
_UNITS = re.compile(r"\\(?:text|mbox)\{\s*[^}]*\}\s*$")
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mbox|textit)\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac(\d)(\d)|\\frac(\d)\{|\\frac(\{[^{}]*\})(\d)")
_SLASHED = re.compile(r"(-?)\(?(\d+)\)?/\(?(\d+)\)?")
_PLAIN_FRACTION = re.compile(r"(-?)\\frac\{(-?\d+)\}\{(-?\d+)\}")


def gsm8k_metric(example: Example, pred: Prediction, trace: Any = None) -> bool:
    """Whether the number in the prediction's `answer` is the one in the example's.

    A text counts as the number behind `####`, otherwise as the last number in it; signs of money and commas do not matter.
    """
    right, said = final_number(example.answer), final_number(pred.answer)
    return right is not None and right == said


def math_metric(example: Example, pred: Prediction, trace: Any = None) -> bool:
    """Whether the prediction's `answer` is the example's, whichever way LaTeX writes it; a boxed answer counts as what is in the box."""
    said = str(pred.answer)
    return same_mathematics(str(example.answer), boxed(said) or said)


def final_number(answer: Any) -> Fraction | None:
    """The number that an answer ends with; None where there is none."""
    if isinstance(answer, bool) or answer is None:
        return None
    if isinstance(answer, int | float):
        return Fraction(str(answer)) if answer == answer and abs(answer) != float("inf") else None
    text = str(answer)
    found = _NUMBER.findall(text.rpartition("####")[2])
    return Fraction(found[-1].replace(",", "").removeprefix("+")) if found else None


def boxed(solution: str) -> str | None:
    r"""What stands in the last `\boxed{...}` of a solution.

    >>> boxed(r"Thus $x = \boxed{\frac{1}{2}}$.")
    '\\frac{1}{2}'
    """
    start = max(solution.rfind("\\boxed"), solution.rfind("\\fbox"))
    if start < 0:
        return None
    rest = solution[start:].removeprefix("\\boxed").removeprefix("\\fbox").lstrip()
    if not rest.startswith("{"):
        return re.split(r"[\s$]", rest, maxsplit=1)[0] or None
    depth = 0
    for place, sign in enumerate(rest):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return rest[1:place]
    return None


def same_mathematics(one: str, other: str) -> bool:
    """Whether two answers are the same once spaces, units, ways of writing fractions and the like are set aside."""
    first, second = _plain(one), _plain(other)
    if first == second:
        return True
    values = _value(first), _value(second)
    return values[0] is not None and values[0] == values[1]


def _plain(answer: str) -> str:
    text = answer.strip().rstrip(".").strip()
    without_units = _UNITS.sub("", text).strip()
    text = _TEXT.sub(r"\1", without_units or text)
    text = _DROPPED.sub("", text).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"^[a-zA-Z](?:\\in)?=", "", text)
    text = re.sub(r"\\sqrt(\w)", r"\\sqrt{\1}", text)
    text = _SHORT_FRACTION.sub(_spelled, text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?:\D|$))", "", text) if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text) else text
    text = re.sub(r"(?<![\d])\.(?=\d)", "0.", text)
    if slashed := _SLASHED.fullmatch(text):
        text = f"{slashed[1]}\\frac{{{slashed[2]}}}{{{slashed[3]}}}"
    return text


def _spelled(match: re.Match[str]) -> str:
    if match[1]:
        return f"\\frac{{{match[1]}}}{{{match[2]}}}"
    return f"\\frac{{{match[3]}}}{{" if match[3] else f"\\frac{match[4]}{{{match[5]}}}"


def _value(text: str) -> Fraction | None:
    if fraction := _PLAIN_FRACTION.fullmatch(text):
        below = int(fraction[3])
        return Fraction(int(f"{fraction[1]}1") * int(fraction[2]), below) if below else None
    return Fraction(text) if re.fullmatch(r"-?\d+(\.\d+)?", text) else None
