"""Hundreds of generated signatures with hostile inputs on the real model, in all formats: every answer has its types."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from homefire.engine.lm import LM
from homefire.engine.settings import EngineSettings
from homefire.modules.chat_format import ChatFormat
from homefire.modules.format import Format
from homefire.modules.json_format import JsonFormat
from homefire.modules.parallel import run_in_threads
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.modules.xml_format import XmlFormat
from scripts.typed_cases import problems, typed_case

PER_FORMAT = 66
SIGNATURES = 11
FORMATS = [JsonFormat(), ChatFormat(), XmlFormat()]


@pytest.fixture(scope="module")
def lm(smollm2: Path) -> LM:
    return LM(f"vllm/{smollm2}", settings=EngineSettings(context=6144, kv_cache_gib=1.0, max_batch=32), max_tokens=32, cache=False)


def _wrong(lm: LM, form: Format, number: int) -> list[str]:
    case = typed_case(1, number, SIGNATURES)
    with context(lm=lm, format=form):
        prediction = Predict(case.signature)(**case.inputs)
    return [f"case {number}: {problem}" for problem in problems(case, prediction)]


@pytest.mark.filterwarnings("ignore:prediction[.]:UserWarning")  # outputs called keys and items are among the hostile names
@pytest.mark.parametrize("form", FORMATS, ids=["json", "chat", "xml"])
def test_every_answer_has_its_types(lm: LM, form: Format) -> None:
    first = FORMATS.index(form) * PER_FORMAT
    calls: list[Callable[[], list[str]]] = [partial(_wrong, lm, form, number) for number in range(first, first + PER_FORMAT)]
    found = run_in_threads(calls, lm.max_batch)
    assert [problem for problems_of_one in found for problem in problems_of_one] == []
