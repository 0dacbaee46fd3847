"""Classification: messages sorted, with how sure the model is. Run: .venv/bin/python scripts/examples/classification.py

`Literal` names the choices, and nothing else can come out. The confidence is no number that the model makes up: every choice is scored
whole, in one batch, and its probability is read off. What is not sure enough goes to a person. Messages may follow the command.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from example_setup import ModelOption, run
from rich.console import Console
from rich.table import Table
from rich.text import Text

import homefire
from homefire import InputField, OutputField, Predict, Prediction, Signature

MESSAGES = [
    "My parcel should have been here on Monday. Where is it?",
    "You charged my card twice for one order.",
    "The app closes by itself whenever I open the settings.",
]


class Ticket(Signature):
    """Say which team the customer's message is for."""

    message: str = InputField()
    team: Literal["billing", "delivery", "technical", "other"] = OutputField()


class Triage(homefire.Module):
    """Names a team, and hands the message to a person where that is not sure enough."""

    def __init__(self, sure: float = 0.6) -> None:
        self.classify = Predict(Ticket)
        self.sure = sure

    def forward(self, message: str) -> Prediction:
        ticket = self.classify(message=message)
        probabilities = ticket.probabilities("team")
        confidence = probabilities[ticket.team]
        return ticket.copy(probabilities=probabilities, confidence=confidence, by_hand=confidence < self.sure)


def main(
    messages: Annotated[list[str] | None, typer.Argument(help="What customers wrote.")] = None,
    model: ModelOption = "smollm2-135m",
    sure: Annotated[float, typer.Option(min=0, max=1, help="Confidence below which a person decides.")] = 0.6,
) -> list[Prediction]:
    """Sort messages."""
    homefire.configure(lm=homefire.LM(model, max_tokens=32))
    given = messages or MESSAGES
    tickets: list[Prediction] = Triage(sure).batch([{"message": message} for message in given], max_errors=1)
    table = Table("message", "team", "confidence", "all", "by hand", show_lines=True)
    for message, ticket in zip(given, tickets, strict=True):
        every = ", ".join(f"{team} {share:.0%}" for team, share in ticket.probabilities.items())
        table.add_row(Text(message), ticket.team, f"{ticket.confidence:.0%}", every, "yes" if ticket.by_hand else "no")
    Console().print(table)
    return tickets


if __name__ == "__main__":
    run(main)
