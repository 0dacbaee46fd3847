"""Questions that a language model writes about passages, kept in a file line by line, so that a stopped run goes on.

Knows no encoder and no index. The way is that of PATH (Xian et al., arXiv 2406.11706).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MaxLen, MinLen

from homefire.configs.console import progress
from homefire.errors import DiskError, InputError
from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.retrieval.passage import Passage

_LONGEST = 160
"""Characters of a question."""
_SHOWN = 2000
"""Characters of a passage that the model sees."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question that a passage answers."""

    text: str
    passage: str
    """The passage's id."""


def question_writer(most: int) -> Module:
    """A program `passage -> questions` that writes at most so many about a passage."""
    questions: Any = Annotated[list[Annotated[str, MinLen(8), MaxLen(_LONGEST)]], MinLen(1), MaxLen(most)]
    fields = {"passage": (str, InputField()), "questions": (questions, OutputField())}
    said = "Write different questions that people who have not seen this passage would ask, and that it answers."
    return _Writer(Signature(fields, said), max_tokens=60 * most)


class _Writer(Module):
    """Calls the model once a passage."""

    def __init__(self, signature: type[Signature], max_tokens: int) -> None:
        self.ask = Predict(signature, max_tokens=max_tokens)

    def forward(self, passage: str) -> Prediction:
        return self.ask(passage=passage)


def write_questions(
    program: Module, passages: Sequence[Passage], file: Path, most: int, on_done: Callable[[int], None] | None = None
) -> list[Question]:
    """The questions about all passages, each question once; passages that the file has already are not asked about again.

    Args:
        program: Takes `passage`, gives `questions`.
        passages: What to ask about.
        file: Gets a line for every passage as soon as it is done; a line that a kill cut off is written anew.
        most: Questions to keep of one passage.
        on_done: Hears how many passages are done.

    Raises:
        TooManyFailures: the model failed for all of the first ones.
        DiskError: the file cannot be written.
    """
    done = _read(file)
    left = [passage for passage in passages if key_of(passage) not in done]
    at_once = max(8, 2 * program.useful_threads())
    with progress("Writing questions", len(passages)) as bar:
        bar.update(completed=len(passages) - len(left))
        for start in range(0, len(left), at_once):
            some = left[start : start + at_once]
            inputs = [Example(passage=passage.text[:_SHOWN]).with_inputs("passage") for passage in some]
            made = program.batch(inputs, disable_progress_bar=True)
            lines = {key_of(passage): _of(prediction, most) for passage, prediction in zip(some, made, strict=True)}
            _append(file, lines)
            done |= lines
            bar.advance(len(some))
            if on_done is not None:
                on_done(len(passages) - len(left) + start + len(some))
    return list(_different(passages, done))


def key_of(passage: Passage) -> str:
    """Equal for equal texts: what a passage is known by in the file."""
    return hashlib.sha256(passage.text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def words_of(text: str) -> str:
    """A text as its words alone: equal for texts that differ in case, spaces or marks only."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _of(prediction: Prediction | None, most: int) -> list[str]:
    """What a program answered, cleaned; nothing where it failed."""
    if prediction is None:
        return []
    questions = prediction.get("questions")
    if isinstance(questions, str) or not isinstance(questions, Sequence):
        raise InputError(f"The program that writes questions answered {prediction!r}; expected a list of texts as `questions`.")
    return [str(question).strip() for question in questions if words_of(str(question))][:most]


def _different(passages: Sequence[Passage], done: dict[str, list[str]]) -> Iterator[Question]:
    """Questions in the order of the passages; one that was asked about an earlier passage too says little and is left out."""
    asked: set[str] = set()
    for passage in passages:
        for text in done.get(key_of(passage), []):
            if (words := words_of(text)) not in asked:
                asked.add(words)
                yield Question(text, passage.id)


def _read(file: Path) -> dict[str, list[str]]:
    done: dict[str, list[str]] = {}
    if file.exists():
        for line in file.read_bytes().split(b"\n"):
            try:
                record = json.loads(line)
                done[str(record["passage"])] = [str(question) for question in record["questions"]]
            except (ValueError, KeyError, TypeError):
                continue  # the end of a file whose writer was killed
    return done


def _append(file: Path, lines: dict[str, list[str]]) -> None:
    text = "".join(json.dumps({"passage": key, "questions": questions}) + "\n" for key, questions in lines.items())
    try:
        whole = not file.exists() or file.read_bytes()[-1:] in (b"", b"\n")
        with file.open("a", encoding="utf-8") as out:
            out.write(text if whole else "\n" + text)
            out.flush()
    except OSError as error:
        raise DiskError(f"The questions cannot be written to {file}: {error.strerror or error}. Free some space.") from error
