"""Agents: a question that needs looking up and calculating. Run: .venv/bin/python scripts/examples/agents.py

The agent has two tools: a search over the documents of `rag.py`, and Python in a sandbox without files, network or processes. A grammar
lets the model call only tools that there are, with arguments of their types; a tool that fails is one more thing to observe, and the agent
goes on. A question and a folder of documents may follow the command.
"""

from __future__ import annotations

from typing import Annotated

import typer
from example_setup import ModelOption, TokensOption, run, show
from rag import EncoderOption, FolderArgument, index_of

import homefire
from homefire import Index, InputField, OutputField, Prediction, PythonInterpreter, ReAct, Signature

QUESTION = "Which function of the statistics module gives the middle value, and what is the middle value of 3, 1, 4, 1, 5, 9 and 2?"


class Ask(Signature):
    """Answer the question. Look up facts with search, and calculate instead of guessing."""

    question: str = InputField()
    answer: str = OutputField(desc="one sentence")
    number: float | None = OutputField(desc="the number that is asked for, if one is")


def calculate(code: str) -> str:
    """Runs Python and gives the value of its last line, for example `sum([2, 3]) / 2`."""
    with PythonInterpreter(timeout=5) as python:
        return str(python.execute(code))


def researcher(index: Index, max_iters: int = 3) -> ReAct:
    """An agent that searches the index and calculates."""

    def search(query: str) -> list[str]:
        """Finds passages of the documents."""
        return [hit.passage.text for hit in index.search([query], k=3)[0]]

    return ReAct(Ask, tools=[search, calculate], max_iters=max_iters, calls_per_step=2)


def main(
    question: Annotated[str, typer.Argument(help="What to answer.")] = QUESTION,
    folder: FolderArgument = None,
    model: ModelOption = "smollm2-135m",
    encoder: EncoderOption = "all-minilm-l6-v2",
    max_iters: Annotated[int, typer.Option(min=1, help="Most steps.")] = 3,
    max_tokens: TokensOption = 80,
) -> Prediction:
    """Answer a question with tools."""
    index = index_of(folder, encoder)
    homefire.configure(lm=homefire.LM(model, max_tokens=max_tokens))
    answer = researcher(index, max_iters)(question=question)
    show(question, answer, "trajectory", "reasoning", "answer", "number")
    return answer


if __name__ == "__main__":
    run(main)
