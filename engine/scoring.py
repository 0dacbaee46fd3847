"""Scoring texts: their tokens behind one shared prompt, and the tree of questions whose answers add up to their log-probabilities.

Knows no backend and computes nothing. A text's log-probability is the sum over its tokens, each given all before it (teacher forcing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from homefire.engine.prompt import PromptEncoder
from homefire.engine.request import Request

MOST_NEXT = 128
"""Next tokens in one question; vLLM takes no more."""

Path = tuple[int, ...]


def shared_prompt(encoder: PromptEncoder, request: Request, texts: Sequence[str]) -> tuple[list[int], list[list[int]]]:
    """The tokens that all texts have before them, and those of each text behind that.

    Prefill and text are tokenized together, because a text's first characters may share a token with the end of the prefill.
    """
    base = [*encoder.encode(request.messages, request.thinking), *request.generated]
    whole = [encoder.encode_text(request.prefill + text) for text in texts]
    first = encoder.encode_request(replace(request, prefill=request.prefill + texts[0]))
    if first != [*base, *whole[0]]:  # a reasoning model's thoughts are ended before the text
        base, whole = [], [encoder.encode_request(replace(request, prefill=request.prefill + text)) for text in texts]
    common = 0
    for tokens in zip(*whole, strict=False):
        if len(set(tokens)) > 1:
            break
        common += 1
    return [*base, *whole[0][:common]], [ids[common:] for ids in whole]


@dataclass(frozen=True, slots=True)
class Question:
    """How likely tokens are behind the prompt and a path of tokens."""

    path: Path
    next_ids: Path


class TokenTree:
    """The tokens of several texts as one tree: every branch is asked about once.

    Args:
        tails: Token ids of each text, behind the shared prompt.
    """

    def __init__(self, tails: Sequence[Sequence[int]]) -> None:
        self._tails = [tuple(tail) for tail in tails]
        self._known: dict[Path, float] = {}

    def first_questions(self) -> list[Question]:
        """One question for the first tokens, and one for each path that leads to a last token: it learns the tokens between on its way."""
        return self._questions([path for tail in self._tails if tail for path in (tail[:1], tail)])

    def open_questions(self) -> list[Question]:
        """One question for each branch whose probability is not known yet."""
        return self._questions([tail[: end + 1] for tail in self._tails for end in range(len(tail)) if tail[: end + 1] not in self._known])

    def learn(self, question: Question, logprobs: Mapping[int, float]) -> None:
        """Takes the log-probabilities of a question's next tokens."""
        for token in question.next_ids:
            self._known[(*question.path, token)] = logprobs[token]

    def learn_path(self, path: Path, logprobs: Sequence[float | None]) -> None:
        """Takes the log-probabilities of a path's own tokens, None where they were not computed."""
        for end, logprob in enumerate(logprobs):
            if logprob is not None:
                self._known.setdefault(path[: end + 1], logprob)

    def sums(self) -> list[float]:
        """The log-probability of each text; there must be no open questions."""
        return [sum(self._known[tail[: end + 1]] for end in range(len(tail))) for tail in self._tails]

    def _questions(self, paths: Sequence[Path]) -> list[Question]:
        branches: dict[Path, dict[int, None]] = {}
        for path in paths:
            branches.setdefault(path[:-1], {})[path[-1]] = None
        questions = []
        for path, found in branches.items():
            next_ids = tuple(found)
            questions += [Question(path, next_ids[start : start + MOST_NEXT]) for start in range(0, len(next_ids), MOST_NEXT)]
        return questions
