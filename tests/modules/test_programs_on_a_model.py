"""BestOfN, Refine, votes and assertions on the real small model: whatever it says, the answers have their types."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import pytest

from homefire.engine.lm import LM
from homefire.modules.assertions import Suggest
from homefire.modules.best_of_n import BestOfN
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Prediction
from homefire.modules.majority import majority
from homefire.modules.module import Module
from homefire.modules.multi_chain import MultiChainComparison
from homefire.modules.predict import Predict
from homefire.modules.refine import Refine
from homefire.modules.settings import context
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.modules.trace import record


class Judge(Signature):
    """Is the review good or bad?"""

    review: str = InputField()
    mood: Literal["good", "bad"] = OutputField()
    stars: int = OutputField(ge=1, le=5)


class Careful(Module):
    """Suggests what no answer can satisfy, so that every backtrack happens."""

    def __init__(self) -> None:
        self.judge = Predict(Judge)

    def forward(self, review: str) -> Prediction:
        judged = self.judge(review=review)
        Suggest(judged.stars > 5, "The stars are more than five.")
        return judged


@pytest.fixture(scope="module")
def lm(smollm2: Path) -> LM:
    return LM(str(smollm2), max_tokens=16)


def typed(answer: Prediction) -> bool:
    return answer.mood in ("good", "bad") and type(answer.stars) is int and 1 <= answer.stars <= 5


def test_every_way_of_asking_twice_gives_typed_answers(lm: LM) -> None:
    review = "The soup was cold and the waiter rude."
    with context(lm=lm), record() as trace:
        best = BestOfN(Predict(Judge), 3, lambda inputs, judged: -judged.stars, threshold=0)(review=review)
        refined = Refine(Predict(Judge), 2, lambda inputs, judged: judged.stars, threshold=9)(review=review)
        chains = ChainOfThought(Judge, n=3)(review=review)
        compared = MultiChainComparison(Judge, M=3)(chains, review=review)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            careful = Careful()(review=review)
    assert all(typed(one) for one in (best, refined, compared, careful, majority(chains), *chains.completions))
    assert [str(one.message) for one in warned if "stars are more than five" in str(one.message)]
    failed = [step.messages[-1].content for step in trace.failures]
    assert len(failed) == 2 and "feedback_: The stars are more than five." in failed[1]
    assert [step.path for step in trace.steps] == ["module", "adviser", "module", "predict", "predict", "judge"]
