"""ProgramOfThought, CodeAct and RLM on the small real model: however poor its code, every program ends with values of the types."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from homefire.engine.lm import LM
from homefire.modules.code_act import CodeAct
from homefire.modules.program_of_thought import ProgramOfThought
from homefire.modules.rlm import RLM
from homefire.modules.settings import context

DOCUMENT = "The sky is blue. " * 2_000 + "The door is red. " + "The grass is green. " * 2_000


def multiply(a: float, b: float) -> float:
    """The product of two numbers."""
    return a * b


def test_programs_of_code_end_with_typed_values(smollm2: Path) -> None:
    thought = ProgramOfThought("question -> answer: float", max_iters=1)
    act = CodeAct("question -> answer: int, sure: bool", [multiply], max_iters=1)
    explore = RLM("document, question -> colour: Literal['red', 'green', 'blue']", max_iters=1, max_llm_calls=3)
    with context(lm=LM(str(smollm2), max_tokens=30)), ThreadPoolExecutor(3) as pool:
        thinking = pool.submit(thought, question="What is 12 times 13?")
        acting = pool.submit(act, question="What is 6 times 7?")
        exploring = pool.submit(explore, document=DOCUMENT, question="What colour is the door?")
        assert type(thinking.result().answer) is float
        assert (type(acting.result().answer), type(acting.result().sure)) == (int, bool)
        assert exploring.result().colour in ("red", "green", "blue")
        assert sorted(thinking.result().trajectory) == ["code_output_0", "generated_code_0"]
        assert sorted(acting.result().trajectory) == ["code_output_0", "generated_code_0"]
        assert sorted(exploring.result().trajectory[0]) == ["code", "output", "reasoning"]
