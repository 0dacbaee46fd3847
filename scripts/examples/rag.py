"""RAG: a question answered from documents. Run: .venv/bin/python scripts/examples/rag.py

A question and a folder of documents may follow the command: text, Markdown, HTML, PDF, Word, CSV and more. Without a folder, the documents
are sentences from the documentation of Python's own library, which every Python has. The encoder is fetched once with:
homefire models pull all-minilm-l6-v2
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from example_setup import ModelOption, TokensOption, run, show

import homefire
from homefire import RAG, Index, InputField, OutputField, Passage, Prediction, Signature
from homefire.configs.home import home
from homefire.demo_data import stdlib_docstrings

QUESTION = "Which function copies a whole folder with everything in it?"
AREAS = ("collections", "dates", "files", "math")

FolderArgument: TypeAlias = Annotated[Path | None, typer.Argument(help="Your documents; otherwise the documentation of Python's library.")]
EncoderOption: TypeAlias = Annotated[str, typer.Option(help="Compares meanings; `hash` compares words and needs no model.")]


class Answer(Signature):
    """Answer the question from the context."""

    context: list[str] = InputField(desc="passages that may help")
    question: str = InputField()
    answer: str = OutputField(desc="one or two sentences")
    supported: bool = OutputField(desc="whether the context says so")


def python_library() -> Iterator[Passage]:
    """A passage for each public function and class of some areas of Python's library: its name and what it does."""
    for row in stdlib_docstrings():
        if row.label in AREAS and row.member == row.family and not row.member.startswith("_"):
            text = f"{row.member}: {row.text}"
            yield Passage(id=text, text=text, source=row.member)


def index_of(folder: Path | None, encoder: str) -> Index:
    """Indexes the documents of a folder, or of Python's library.

    A large folder is indexed once, in a place of its own, and opened from then on with `Index.open(place, encoder)`.
    """
    passages = python_library() if folder is None else homefire.read_folder(folder)
    chosen = homefire.HashEncoder() if encoder == "hash" else homefire.SentenceEncoder(encoder)
    return Index.build(home() / "examples" / "index", passages, chosen)


def main(
    question: Annotated[str, typer.Argument(help="What to answer.")] = QUESTION,
    folder: FolderArgument = None,
    model: ModelOption = "smollm2-135m",
    encoder: EncoderOption = "all-minilm-l6-v2",
    passages: Annotated[int, typer.Option(min=1, help="Passages that the model reads.")] = 3,
    max_tokens: TokensOption = 80,
) -> Prediction:
    """Answer a question from documents."""
    index = index_of(folder, encoder)
    homefire.configure(lm=homefire.LM(model, max_tokens=max_tokens))
    answer = RAG(index, Answer, k=passages)(question=question)
    cited = [passage.source for passage in answer.citations]
    show(question, answer.copy(found=[passage.source for passage in answer.passages], cited=cited), "answer", "supported", "found", "cited")
    return answer


if __name__ == "__main__":
    run(main)
