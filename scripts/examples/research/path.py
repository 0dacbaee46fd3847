"""PATH: training data for a retriever, from passages alone. Run: .venv/bin/python scripts/examples/research/path.py --most 20

After Xian et al. 2024, arXiv 2406.11706. A model writes questions that each passage answers; hard negatives are what a
retriever ranks high for the question besides the passage. Questions for which the retriever does not find the passage again are dropped.
The prompt is a parameter of the training: `PATH` is a program like any other, so optimizers can tune its instructions for the score of the
retriever that comes out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import research_corpus as corpus
import typer
from annotated_types import MaxLen, MinLen
from research_corpus import Found, Search, all_of, distinct, text_of, words_of
from rich.console import Console

import homefire
from homefire import Prediction, Signature
from homefire.configs.home import write_atomic

Questions = Annotated[list[Annotated[str, MaxLen(120)]], MinLen(1), MaxLen(3)]
ASK = Signature("passage -> questions: Questions", "Write different questions that this passage answers, as if you had not seen it.")
AT_ONCE = 16
"""Passages that are asked about between two writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One example for a retriever."""

    question: str
    positive: str
    negatives: list[str]


class PATH(homefire.Module):
    """Questions that a passage answers: `questions`, each different."""

    def __init__(self) -> None:
        self.ask = homefire.Predict(ASK, max_tokens=120)

    def forward(self, *, passage: str) -> Prediction:
        written = self.ask(passage=passage).questions
        return Prediction(questions=list({words_of(one): one.strip() for one in written if words_of(one)}.values()))


def row_of(question: str, positive: str, search: Search, *, within: int = 3, negatives: int = 4) -> Row | None:
    """The example that a question makes, or None where the passage is not among the first `within` that it finds.

    The negatives are the highest ranked of the others.
    """
    found = [text_of(one) for one in distinct(search(question, within + negatives))]
    own = words_of(positive)
    if own not in {words_of(text) for text in found[:within]}:
        return None
    others = [text for text in found if words_of(text) != own][:negatives]
    return Row(question=question, positive=positive, negatives=others) if others else None


def make_rows(program: PATH, passages: Sequence[Found], search: Search, out: Path, *, within: int = 3, negatives: int = 4) -> list[Row]:
    """Writes the examples of all passages to a JSONL file, and goes on from where it was stopped.

    Beside the file lies `NAME.progress`, a line for each passage that was done; both are replaced as a whole after every few passages.
    A question that an earlier passage has is left out.

    Raises:
        InputError: the file was begun with another prompt, model or other numbers.
    """
    setup = {"within": within, "negatives": negatives, "program": program.dump_state(), "model": str(program.ask.language_model())}
    progress = out.with_name(f"{out.name}.progress")
    done = _opened(progress, setup)
    texts = {_key(text_of(one)): text_of(one) for one in distinct(passages)}
    left = [key for key in texts if key not in done]
    _write(out, progress, setup, texts, done)
    for start in range(0, len(left), AT_ONCE):
        some = left[start : start + AT_ONCE]
        for key, made in zip(some, all_of(program, [{"passage": texts[key]} for key in some]), strict=True):
            rows = (row_of(question, texts[key], search, within=within, negatives=negatives) for question in made.questions)
            done[key] = [asdict(row) for row in rows if row is not None]
        _write(out, progress, setup, texts, done)
    return list(_different(texts, done))


def _different(texts: dict[str, str], done: dict[str, list[dict[str, Any]]]) -> Iterator[Row]:
    """The rows in the order of the passages, each question once."""
    asked: set[str] = set()
    for row in (row for key in texts for row in done.get(key, [])):
        if (question := words_of(row["question"])) not in asked:
            asked.add(question)
            yield Row(**row)


def _write(out: Path, progress: Path, setup: dict[str, Any], texts: dict[str, str], done: dict[str, list[dict[str, Any]]]) -> None:
    lines = [{"setup": setup}, *({"passage": key, "rows": rows} for key, rows in done.items())]
    write_atomic(progress, _jsonl(lines))
    write_atomic(out, _jsonl([asdict(row) for row in _different(texts, done)]))


def _opened(progress: Path, setup: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each passage that was done before."""
    if not progress.exists():
        return {}
    first, *lines = map(json.loads, progress.read_text(encoding="utf-8").splitlines())
    if first != {"setup": setup}:
        raise homefire.InputError(f"{progress} was begun with {first['setup']}, and this run has {setup}. Give another --out.")
    return {line["passage"]: line["rows"] for line in lines}


def _jsonl(values: Sequence[Any]) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def main(
    model: corpus.ModelOption = "smollm2-135m",
    folder: corpus.FolderOption = None,
    encoder: corpus.EncoderOption = "hash",
    most: Annotated[int, typer.Option(help="Passages to ask about, evenly spread; the search is in all of them.")] = 20,
    within: Annotated[int, typer.Option(help="Rank at which a question must find its passage again.")] = 3,
    negatives: Annotated[int, typer.Option(help="Hard negatives of a question.")] = 4,
    out: Annotated[Path, typer.Option(help="File of the examples; picked up when it is there.")] = Path("questions.jsonl"),
) -> None:
    """Write questions about passages and keep those that find them again."""
    homefire.configure(lm=homefire.LM(model))
    passages = corpus.passages_in(folder)
    chosen = passages[:: max(1, len(passages) // max(1, most))][:most]
    rows = make_rows(PATH(), chosen, corpus.search_in(passages, encoder), out, within=within, negatives=negatives)
    console = Console()
    for row in rows[:5]:
        console.print(f"{row.question}\n  + {row.positive}\n  - {row.negatives[0]}", markup=False)
    console.print(f"{len(rows)} examples from {len(chosen)} passages: {out}", markup=False)


if __name__ == "__main__":
    corpus.run(main)
