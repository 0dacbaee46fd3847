"""Information extraction: an email becomes an object. Run: .venv/bin/python scripts/examples/information_extraction.py

The types are ordinary pydantic models, nested as you like. Their limits, such as at least one item and no negative price, hold while the
model writes. What can be computed is left to Python. The text of an order may follow the command.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer
from example_setup import ModelOption, TokensOption, run, show
from pydantic import BaseModel, Field

import homefire
from homefire import InputField, OutputField, Predict, Prediction, Signature

EMAIL = """Hello, this is Ada Moreau from Lyon. Please send me 2 desk lamps at 35.50 euros each and 1 oak shelf for 120 euros.
I am at home on 2026-03-14. You reach me at ada@example.org. Thank you!"""


class Customer(BaseModel):
    """Who orders."""

    name: str = Field(max_length=60)
    city: str | None = Field(max_length=60)
    email: str | None = Field(max_length=60)


class Item(BaseModel):
    """What is ordered."""

    name: str = Field(max_length=60)
    quantity: int = Field(ge=1, le=1000)
    unit_price: float = Field(ge=0)


class Order(BaseModel):
    """Everything that an order says."""

    customer: Customer
    items: list[Item] = Field(min_length=1, max_length=5)
    delivery: date | None


class ReadOrder(Signature):
    """Read the order from the email."""

    email: str = InputField()
    order: Order = OutputField()


class OrderReader(homefire.Module):
    """Reads an order and adds up what it costs."""

    def __init__(self) -> None:
        self.read = Predict(ReadOrder)

    def forward(self, email: str) -> Prediction:
        read = self.read(email=email)
        return read.copy(total=sum(item.quantity * item.unit_price for item in read.order.items))


def main(
    email: Annotated[str, typer.Argument(help="The text of an order.")] = EMAIL,
    model: ModelOption = "smollm2-135m",
    max_tokens: TokensOption = 200,
) -> Prediction:
    """Read an order from an email."""
    homefire.configure(lm=homefire.LM(model, max_tokens=max_tokens))
    read = OrderReader()(email=email)
    show("Order", read, "order", "total")
    return read


if __name__ == "__main__":
    run(main)
