"""PAPILLON: a local model shields private text from a remote one. Run: .venv/bin/python scripts/examples/research/papillon.py

After Li et al. 2024, arXiv 2410.17127. A trusted local model writes a prompt without what is private ("Prompt Creator"), a stronger
remote model answers it, and the local model answers the user from that and from the private text ("Information Aggregator"). Here the
prompt is also checked before it leaves: where it still holds something private, nothing is sent and the local model answers alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Annotated

import research_corpus as corpus
import typer
from annotated_types import MaxLen
from rich.console import Console

import homefire
from homefire import Prediction, Signature

Spans = Annotated[list[str], MaxLen(8)]

FIND = Signature(
    "message -> private: Spans",
    "Copy what is private in the message word for word: names, places, employers, contacts, numbers, health, money.",
)
CREATE = Signature(
    "message, private: list[str] -> prompt",
    "Write what to ask a stranger who can help with the message. Leave out everything private; write placeholders instead.",
)
HELP = Signature("prompt -> reply", "Do what the prompt asks.")
AGGREGATE = Signature("message, reply -> answer", "Answer the message. Use the reply, which a stranger gave without the private details.")
ALONE = Signature("message -> answer", "Answer the message.")

_PATTERNS = (
    re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"),
    re.compile(r"\b(?:https?://|www\.)\S+"),
    re.compile(r"(?:\d[ ()/.,+-]{0,2}){4,}"),
)
"""What is private whatever a model thinks: mail addresses, web addresses, numbers of four digits and more."""
MOST_COPIED = 12
"""Words of the message in a row that a prompt may hold."""


class PAPILLON(homefire.Module):
    """Answers a private message with the help of a remote model: `answer`, `prompt`, `leaks`, `asked_remote`.

    The remote model sees the prompt alone, and only where `leaks` is empty. That covers what `private` names, what the patterns find and
    what the local model finds; no program knows what else its user holds private.

    Args:
        remote: Who helps; all other steps run on the LM of the settings or of the predictors.
    """

    def __init__(self, remote: homefire.LM) -> None:
        self.remote = remote
        self.find = homefire.Predict(FIND, max_tokens=100)
        self.create = homefire.ChainOfThought(CREATE, max_tokens=240)
        self.help = homefire.Predict(HELP, max_tokens=300)
        self.aggregate = homefire.Predict(AGGREGATE, max_tokens=300)
        self.alone = homefire.Predict(ALONE, max_tokens=300)

    def forward(self, *, message: str, private: Sequence[str] = ()) -> Prediction:
        """The answer; `private` are parts of the message that the caller knows to be private."""
        spans = self._private(message, private)
        prompt: str = self.create(message=message, private=spans).prompt
        leaks = leaked(prompt, message, spans)
        if leaks or not prompt.strip():
            return Prediction(answer=self.alone(message=message).answer, prompt=prompt, leaks=leaks, asked_remote=False)
        reply = self.help(prompt=prompt, lm=self.remote).reply
        answer = self.aggregate(message=message, reply=reply).answer
        return Prediction(answer=answer, prompt=prompt, leaks=[], asked_remote=True)

    def _private(self, message: str, named: Sequence[str]) -> list[str]:
        """What the caller named, what the patterns find and what the local model finds, as far as it is in the message."""
        matched = [match.group().strip() for pattern in _PATTERNS for match in pattern.finditer(message)]
        found = [span for span in self.find(message=message).private if _squeezed(span) and _squeezed(span) in _squeezed(message)]
        return list(dict.fromkeys([*named, *matched, *found]))


def leaked(prompt: str, message: str, private: Collection[str]) -> list[str]:
    """What of the private parts a prompt holds, and any long run of words that it copies from the message.

    Letter case, accents, spaces and punctuation hide nothing. Of a part of several words, each name and number counts by itself.
    """
    found = [piece for span in private for piece in _pieces(span) if _is_in(piece, prompt)]
    words, copied = _words(prompt), f" {' '.join(_words(message))} "
    runs = [" ".join(words[start : start + MOST_COPIED + 1]) for start in range(len(words) - MOST_COPIED)]
    return list(dict.fromkeys([*found, *[run for run in runs if f" {run} " in copied][:1]]))


def _pieces(span: str) -> list[str]:
    parts = [part for part in re.findall(r"\w+", span) if (len(part) > 2 and part != part.lower()) or any(map(str.isdigit, part))]
    return [span, *(part for part in parts if len(part) > 2)]


def _is_in(piece: str, prompt: str) -> bool:
    """Whether the words are there in a row, or their letters where they are enough to mean the same without spaces."""
    words, squeezed = " ".join(_words(piece)), _squeezed(piece)
    return bool(words) and (f" {words} " in f" {' '.join(_words(prompt))} " or (len(squeezed) >= 5 and squeezed in _squeezed(prompt)))


def _plain(text: str) -> str:
    """Letters without accents, all of one case."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(letter))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", _plain(text))


def _squeezed(text: str) -> str:
    return "".join(_words(text))


MESSAGE = "I am Maria Lopez, 52, and was let go by Brightwater Dental in Leeds. Write a mail that asks for my last pay of 2,310 pounds."


def main(
    message: Annotated[str, typer.Argument(help="What you want, private details included.")] = MESSAGE,
    private: Annotated[list[str] | None, typer.Option(help="Something private in it; can be given several times.")] = None,
    model: corpus.ModelOption = "smollm2-135m",
    remote: Annotated[str | None, typer.Option(help="The model that helps, as openai/NAME; without it all stays here.")] = None,
) -> None:
    """Answer a message; a remote model sees only what a local one wrote for it."""
    console = Console()
    local = homefire.LM(model)
    if remote is None:
        console.print("No --remote was given: the local model stands in for the remote one, and nothing leaves this machine.\n")
    homefire.configure(lm=local)
    made = PAPILLON(local if remote is None else homefire.LM(remote))(message=message, private=private or [])
    console.print(f"prompt: {made.prompt}", markup=False)
    said = "it was sent" if made.asked_remote else f"it was not sent, for it holds: {', '.join(made.leaks) or 'nothing at all'}"
    console.print(f"{said}\n\n{made.answer}", markup=False)


if __name__ == "__main__":
    corpus.run(main)
