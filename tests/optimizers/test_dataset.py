"""Traces to rows: the prompts that will be served, the answers that passed, nothing twice; and what cannot be trained on."""

from __future__ import annotations

from typing import Any

import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import EngineError, InputError
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Example, Prediction
from homefire.modules.json_format import JsonFormat
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.optimizers.bootstrap import Run, bootstrap
from homefire.optimizers.dataset import check_labels, hold_out, rows_of
from homefire.optimizers.metrics import field_match

FORMAT = JsonFormat()
MOOD = "text -> mood: Literal['good', 'bad']"


def examples(*moods: str) -> list[Example]:
    return [Example(text=f"text {i}", mood=mood).with_inputs("text") for i, mood in enumerate(moods)]


class TwoSteps(Module):
    """Notes first, a mood then; the notes are asked for twice."""

    def __init__(self) -> None:
        self.note = Predict("text -> note")
        self.judge = Predict("note, more -> mood: Literal['good', 'bad']")

    def forward(self, text: str) -> Prediction:
        first, second = self.note(text=text).note, self.note(text=text + "!").note
        return self.judge(note=first, more=second)


def run(program: Module, data: list[Example], script: Any = (), **options: Any) -> list[Run]:
    with context(lm=ScriptedLM(script)):
        return bootstrap(program, data, field_match("mood"), **options)


def test_labels_give_rows_without_a_model() -> None:
    program = Predict(MOOD)
    runs = run(program, examples("good", "bad"))
    rows = rows_of(runs, program, FORMAT, with_demos=True, seed=0)
    assert {row.completion for row in rows} == {'{"mood": "good"}', '{"mood": "bad"}'}
    assert all(row.prompt == FORMAT.render(program.signature, [], {"text": row.prompt[-1].content.removeprefix("text: ")}) for row in rows)


def test_the_program_itself_gives_what_labels_do_not_cover() -> None:
    def script(request: Request) -> str:
        return '{"reasoning": "because", "mood": "good"}'

    program = ChainOfThought(MOOD)
    runs = run(program, examples("good", "bad", "good"), script)
    assert [one.passed for one in runs] == [True, False, True]
    rows = rows_of(
        [*runs, *run(program, examples("bad"), lambda r: '{"reasoning": "no", "mood": "bad"}')], program, FORMAT, with_demos=True, seed=0
    )
    assert sorted(row.completion for row in rows)[0] == '{"reasoning": "because", "mood": "good"}'


def test_every_step_of_a_program_becomes_a_row_under_its_own_predictor() -> None:
    def script(request: Request) -> str:
        return f'{{"note": "about {request.messages[-1].content[6:]}"}}'

    program = TwoSteps()
    runs = run(program, examples("good", "bad"), script)
    rows = rows_of(runs, program, FORMAT, with_demos=True, seed=0)
    notes = [row for row in rows if '"note"' in row.completion]
    moods = [row for row in rows if '"mood"' in row.completion]
    assert (len(notes), len(moods)) == (4, 2)
    assert all("note: about text" in row.prompt[-1].content and "more: about text" in row.prompt[-1].content for row in moods)
    assert [step.path for step in runs[0].steps] == ["note", "note", "judge"]


def test_a_failing_run_is_left_out_and_a_failing_system_stops() -> None:
    def script(request: Request) -> str:
        return "broken" if "text 1" in request.messages[-1].content else '{"mood": "good"}'

    runs = run(Predict(MOOD), examples("good", "good", "bad"), script, labels=False)
    assert [one.passed for one in runs] == [True, False, False]
    assert "ParseError" in (runs[1].error or "")
    with pytest.raises(EngineError):
        run(Predict(MOOD), examples("good"), [EngineError("gone")], labels=False)


def test_a_threshold_of_zero_counts() -> None:
    runs = run(Predict(MOOD), examples("good"), lambda r: '{"mood": "bad"}', labels=False, threshold=0.0)
    assert runs[0].passed


def test_the_teachers_prompt_is_not_what_is_trained() -> None:
    student, teacher = Predict(MOOD), Predict(MOOD)
    teacher.signature = teacher.signature.with_instructions("Be a teacher.")
    teacher.demos = [Example(text="t", mood="good")]
    rows = rows_of(run(teacher, examples("good", "bad")), student, FORMAT, with_demos=True, seed=0)
    assert all(len(row.prompt) == 2 and "Be a teacher" not in row.prompt[0].content for row in rows)


def test_demos_of_the_student_are_in_the_rows_unless_excluded() -> None:
    student = Predict(MOOD)
    student.demos = [Example(text="t", mood="good")]
    runs = run(student, examples("good", "bad"))
    assert all(len(row.prompt) == 4 for row in rows_of(runs, student, FORMAT, with_demos=True, seed=0))
    assert all(len(row.prompt) == 2 for row in rows_of(runs, student, FORMAT, with_demos=False, seed=0))


def test_rows_are_distinct_and_their_order_is_of_the_seed() -> None:
    runs = run(Predict(MOOD), [*examples("good", "bad"), *examples("good", "bad")])
    first, again = (rows_of(runs, Predict(MOOD), FORMAT, with_demos=True, seed=1) for _ in range(2))
    assert len(first) == 2 and first == again


def test_nothing_to_train_on_says_why() -> None:
    failing = run(Predict(MOOD), examples("good"), ["broken"], labels=False)
    with pytest.raises(InputError, match=r"none of 1 runs passed the metric.*ParseError"):
        rows_of(failing, Predict(MOOD), FORMAT, with_demos=True, seed=0)
    with pytest.raises(InputError, match="none of 0 runs"):
        rows_of([], Predict(MOOD), FORMAT, with_demos=True, seed=0)


def test_one_class_is_nothing_to_learn() -> None:
    with pytest.raises(InputError, match="All 2 training rows have the same answer"):
        rows_of(run(Predict(MOOD), examples("good", "good")), Predict(MOOD), FORMAT, with_demos=True, seed=0)


def test_a_label_outside_the_choices_is_named() -> None:
    with pytest.raises(InputError, match=r"2 labels do not fit.*example 1: 'odd' is no value of the output 'mood'.*example 2: 'meh'"):
        check_labels(Predict(MOOD), examples("good", "odd", "meh"), FORMAT)
    check_labels(Predict(MOOD), examples("good", "bad"), FORMAT)


def test_held_out_examples_share_no_input_with_the_others() -> None:
    data = [Example(text=f"t{i % 10}", mood="good", i=i).with_inputs("text") for i in range(40)]
    train, held = hold_out(data, 0.3, seed=0)
    assert len(train) + len(held) == 40 and held
    assert not {one.text for one in train} & {one.text for one in held}
    with pytest.raises(InputError, match="too few"):
        hold_out(data[:1], 0.3, seed=0)
