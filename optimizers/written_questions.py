"""Questions that a language model writes about passages, kept in a file line by line, so that a stopped run goes on.

Knows no encoder and no index. The way is that of PATH (Xian et al., arXiv 2406.11706).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from annotated_types import MaxLen, MinLen

from homefire.configs.console import progress
from homefire.errors import DiskError, InputError
from homefire.modules.example import Prediction
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
        InputError: the program gives no list of questions.
        DiskError: the file cannot be written.
    """
    done = _read(file)
    left = [passage for passage in passages if key_of(passage) not in done]
    with progress("Writing questions", len(passages)) as bar:
        bar.update(completed=len(passages) - len(left))

        def keep(key: str, questions: list[str]) -> None:
            done[key] = questions
            _append(file, key, questions)
            bar.advance()
            if on_done is not None:
                on_done(len(done))

        kept = _Kept(program, keep, most)
        made = kept.batch([{"key": key_of(one), "passage": one.text[:_SHOWN]} for one in left], disable_progress_bar=True)
        if kept.wrong is not None:
            raise kept.wrong
        for passage, prediction in zip(left, made, strict=True):
            if prediction is None:  # the model failed; asking it again would not help
                keep(key_of(passage), [])
    return list(_different(passages, done))


class _Kept(Module):
    """Asks a program about one passage, and keeps what it wrote as soon as it is there."""

    def __init__(self, program: Module, keep: Callable[[str, list[str]], None], most: int) -> None:
        self.program = program
        self.keep = keep
        self.most = most
        self.lock = Lock()
        self.wrong: InputError | None = None
        """Set where the program gives no questions."""

    def forward(self, key: str, passage: str) -> Prediction:
        prediction = self.program(passage=passage)
        try:
            questions = _of(prediction, self.most)
        except InputError as error:
            self.wrong = error
            raise
        with self.lock:
            self.keep(key, questions)
        return prediction


def key_of(passage: Passage) -> str:
    """Equal for equal texts: what a passage is known by in the file."""
    return hashlib.sha256(passage.text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def words_of(text: str) -> str:
    """A text as its words alone: equal for texts that differ in case, spaces or marks only."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _of(prediction: Prediction, most: int) -> list[str]:
    """What a program answered, cleaned."""
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


def _append(file: Path, key: str, questions: list[str]) -> None:
    text = json.dumps({"passage": key, "questions": questions}) + "\n"
    try:
        with file.open("ab+") as out:
            if out.tell() and (out.seek(-1, os.SEEK_END), out.read(1))[1] != b"\n":
                text = "\n" + text  # behind a line that a kill cut off
            out.write(text.encode("ascii"))
    except OSError as error:
        raise DiskError(f"The questions cannot be written to {file}: {error.strerror or error}. Free some space.") from error
