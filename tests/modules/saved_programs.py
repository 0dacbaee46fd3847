"""Programs that the golden files hold; their names and fields must stay as they are."""

from __future__ import annotations

import enum
from typing import Any

from pydantic import BaseModel, Field

from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.signature import InputField, OutputField, Signature


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Person(BaseModel):
    name: str = Field(alias="fullName")
    age: int | None = None


class Review(Signature):
    """Judge a review."""

    text: str = InputField(desc="what was written")
    mood: Mood = OutputField()
    stars: int = OutputField(ge=1, le=5)
    people: list[Person] = OutputField(desc="who is named", max_length=3)


class Reviewer(Module):
    def __init__(self) -> None:
        self.judge = ChainOfThought(Review)
        self.steps = [Predict("text, mood: Mood -> reply: str", temperature=0.5)]
        self.limit = 7
        self.names: dict[str, Any] = {"a": (1, 2.5), "b": None}

    def forward(self, text: str) -> Prediction:
        judged = self.judge(text=text)
        return judged.copy(reply=self.steps[0](text=text, mood=judged.mood).reply)


def reviewer() -> Reviewer:
    """The program as the golden files have it."""
    program = Reviewer()
    judge = program.judge.predict
    judge.signature = judge.signature.with_instructions("Be strict.").with_updated_fields("stars", desc="five is best")
    judge.demos = [
        Example(text="Ça va.", reasoning="short", mood=Mood.GOOD, stars=4, people=[Person(fullName="Ann", age=3)]).with_inputs("text")
    ]
    return program
