"""Few-shot optimizers: demos from labels and from runs that pass; the student stays as it was."""

from __future__ import annotations

import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Example
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.optimizers.few_shot import BootstrapFewShot, LabeledFewShot
from homefire.optimizers.metrics import field_match

DATA = [Example(n=str(i), odd=i % 2 == 1).with_inputs("n") for i in range(12)]


def script(request: Request) -> str:
    """Right below six."""
    number = int(request.messages[-1].content.removeprefix("n: "))
    return f'{{"reasoning": "look at {number}", "odd": {str(number % 2 == 1 and number < 6).lower()}}}'


def test_labels_become_demos() -> None:
    student = Predict("n -> odd: bool")
    compiled = LabeledFewShot(k=3, seed=1).compile(student, trainset=DATA)
    assert len(compiled.demos) == 3 and all(demo in DATA for demo in compiled.demos)
    assert student.demos == []
    assert LabeledFewShot(k=3, seed=1).compile(student, trainset=DATA).demos == compiled.demos


def test_runs_that_pass_become_demos_with_their_reasoning() -> None:
    student = ChainOfThought("n -> odd: bool")
    optimizer = BootstrapFewShot(field_match("odd"), max_bootstrapped_demos=3, max_labeled_demos=3)
    with context(lm=ScriptedLM(script)):
        compiled = optimizer.compile(student, trainset=DATA)
    demos = compiled.predict.demos
    assert len(demos) == 3
    assert all(demo.reasoning == f"look at {demo.n}" and demo.odd == (int(demo.n) % 2 == 1) for demo in demos)
    assert not any(int(demo.n) >= 6 and demo.odd for demo in demos)
    assert student.predict.demos == []


def test_labels_fill_up_what_runs_did_not_give() -> None:
    with context(lm=ScriptedLM(lambda request: '{"odd": true}')):
        optimizer = BootstrapFewShot(lambda example, prediction, trace: example.n == "3", max_bootstrapped_demos=4, max_labeled_demos=6)
        compiled = optimizer.compile(Predict("n -> odd: bool"), trainset=DATA)
    assert len(compiled.demos) == 6
    assert len({demo.n for demo in compiled.demos}) == 6


def test_an_empty_trainset_is_an_error() -> None:
    with pytest.raises(InputError, match="empty trainset"):
        LabeledFewShot().compile(Predict("a -> b"), trainset=[])
    with pytest.raises(InputError, match="empty trainset"):
        BootstrapFewShot().compile(Predict("a -> b"), trainset=[])
