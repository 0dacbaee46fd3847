"""Math: a problem in words, solved step by step, answered by a number. Run: .venv/bin/python scripts/examples/math_problems.py

`answer: float` is all it takes: whatever the model writes, the answer is a number. Several chains of thought are drawn in one request, and
the answer that most of them reach is taken (self-consistency, Wang et al., arXiv 2203.11171). A problem may follow the command.
"""

from __future__ import annotations

from typing import Annotated

import typer
from example_setup import ModelOption, TokensOption, run, show

import homefire
from homefire import ChainOfThought, InputField, OutputField, Prediction, Signature

PROBLEM = "Two fair dice are rolled. What is the probability that their sum is nine?"


class MathProblem(Signature):
    """Solve the problem."""

    problem: str = InputField()
    answer: float = OutputField(desc="only the number")


class Solver(homefire.Module):
    """Thinks several times and takes the answer that most chains reach."""

    def __init__(self, chains: int = 3) -> None:
        self.solve = ChainOfThought(MathProblem, n=chains)

    def forward(self, problem: str) -> Prediction:
        several = self.solve(problem=problem)
        best = homefire.majority(several, field="answer")
        answers = [one.answer for one in several.completions]
        return best.copy(answers=answers, agreement=answers.count(best.answer) / len(answers))


def main(
    problem: Annotated[str, typer.Argument(help="What to solve.")] = PROBLEM,
    model: ModelOption = "smollm2-135m",
    chains: Annotated[int, typer.Option(min=1, help="Chains of thought, drawn at once.")] = 3,
    max_tokens: TokensOption = 160,
) -> Prediction:
    """Solve a math problem."""
    homefire.configure(lm=homefire.LM(model, max_tokens=max_tokens))
    solution = Solver(chains)(problem=problem)
    show(problem, solution, "reasoning", "answers", "agreement", "answer")
    return solution


if __name__ == "__main__":
    run(main)
