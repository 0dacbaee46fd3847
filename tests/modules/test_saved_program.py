"""Whole programs in a folder: data that runs no code, or a pickle where that is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import tests.modules.saved_programs as saved_programs
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError
from homefire.modules.best_of_n import BestOfN
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.saved_program import load
from homefire.modules.settings import context
from homefire.modules.signature import InputField, OutputField, Signature
from tests.modules.saved_programs import Mood, Person, Reviewer, reviewer

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
ANSWERS = ['{"reasoning": "r", "mood": "bad", "stars": 2, "people": [{"fullName": "Bo", "age": 1}]}', '{"reply": "Sorry."}']


def check(program: Any) -> None:
    with context(lm=ScriptedLM(ANSWERS)):
        answer = program(text="Bad.")
    assert (answer.mood, answer.people, answer.reply) == (Mood.BAD, [Person(fullName="Bo", age=1)], "Sorry.")


@pytest.mark.parametrize("layout", [1, 2])
def test_a_program_of_every_layout_is_loaded(layout: int) -> None:
    program = load(GOLDEN / f"program_layout_{layout}")
    assert type(program) is Reviewer and (program.limit, program.names) == (7, {"a": (1, 2.5), "b": None})
    assert program.dump_state() == reviewer().dump_state()
    assert program.judge.predict.signature.equals(reviewer().judge.predict.signature)
    assert program.judge.predict.demos == reviewer().judge.predict.demos
    check(program)


def test_the_program_of_today_is_the_golden_one(tmp_path: Path) -> None:
    reviewer().save(tmp_path / "now", save_program=True)
    now, golden = (json.loads((folder / "program.json").read_text("utf-8")) for folder in (tmp_path / "now", GOLDEN / "program_layout_2"))
    assert now["program"] == golden["program"]


class Holder(Module):
    """Holds values of all kinds that are data."""

    def __init__(self) -> None:
        self.first = Predict("a: Literal['x', 'y'] -> b: dict[str, int | None], c: tuple[int, ...]")
        self.same = self.first
        self.me: Any = self
        self.values: Any = {1: {2, 3}, "$odd": frozenset("a"), "nan": float("inf"), "when": date(2024, 2, 29), "exact": Decimal("1.10")}
        self.others = [Path("a/b"), Person(fullName="Ann"), Mood.GOOD, Prediction(x=1), Example(y=(1,)).with_inputs("y")]


def test_values_of_all_kinds_and_shared_ones_come_back(tmp_path: Path) -> None:
    program = Holder()
    program.first.lm = ScriptedLM([]).copy(temperature=0.5)
    program.first.lm = None
    program.save(tmp_path / "p", save_program=True)
    loaded = load(tmp_path / "p")
    assert loaded.same is loaded.first and loaded.me is loaded
    assert loaded.values == program.values and loaded.others == program.others
    assert type(loaded.others[3]) is Prediction and loaded.others[4].inputs().toDict() == {"y": [1]}
    assert loaded.first.signature.equals(program.first.signature)
    assert loaded.first.signature.input_fields["a"].type == Literal["x", "y"]


def test_signatures_keep_defaults_and_classes_of_functions_are_described(tmp_path: Path) -> None:
    class Local(BaseModel):
        size: int

    class Sized(Signature):
        text: str = InputField(default="none")
        found: list[Local] = OutputField()

    program = Predict(Sized)
    program.save(tmp_path / "p", save_program=True)
    loaded = load(tmp_path / "p")
    with context(lm=ScriptedLM(['{"found": [{"size": 3}]}'])):
        found = loaded().found
    assert [one.size for one in found] == [3] and type(found[0]).__name__ == "Local"


def test_lms_are_saved_by_their_state(smollm2: Path, tmp_path: Path) -> None:
    from homefire.engine.lm import LM

    program = ChainOfThought("a -> b")
    program.set_lm(LM(str(smollm2), temperature=0.25))
    for folder, modules in (("data", None), ("pickle", [])):
        program.save(tmp_path / folder, save_program=True, modules_to_serialize=modules)
        lm = load(tmp_path / folder, allow_code=folder == "pickle").get_lm()
        assert lm.path == program.get_lm().path and lm.sampling().temperature == 0.25


def test_what_only_a_pickle_can_hold_is_named(tmp_path: Path) -> None:
    program = BestOfN(Predict("a -> b"), 2, lambda inputs, prediction: 1.0, threshold=1.0)
    with pytest.raises(InputError, match=r"BestOfN.reward_fn is <function .* modules_to_serialize=\[\]"):
        program.save(tmp_path / "p", save_program=True)
    assert not (tmp_path / "p").exists()
    program.save(tmp_path / "p", save_program=True, modules_to_serialize=[])
    with pytest.raises(InputError, match=r"homefire.load\(.*allow_code=True\)"):
        load(tmp_path / "p")
    loaded = load(tmp_path / "p", allow_pickle=True)
    with context(lm=ScriptedLM(lambda request: '{"b": "x"}')):
        assert loaded(a="1").b == "x"


def test_a_pickle_with_the_code_of_a_module_needs_no_module(tmp_path: Path) -> None:
    reviewer().save(tmp_path / "p", save_program=True, modules_to_serialize=[saved_programs])
    code = (
        f"import homefire; program = homefire.load({str(tmp_path / 'p')!r}, allow_code=True)\n"
        f"homefire.configure(lm=homefire.ScriptedLM({ANSWERS!r})); print(program(text='x').reply)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Sorry."


def test_functions_by_name_need_leave(tmp_path: Path) -> None:
    program = Holder()
    program.values = json.dumps
    program.save(tmp_path / "p", save_program=True)
    with pytest.raises(InputError, match=r"holds json.dumps, a function or class"):
        load(tmp_path / "p")
    assert load(tmp_path / "p", allow_code=True).values is json.dumps


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = (GOLDEN / "program_layout_1" / "program.json").read_text("utf-8")
    assert old in text
    (tmp_path / "p").mkdir(exist_ok=True)
    (tmp_path / "p" / "program.json").write_text(text.replace(old, new), encoding="utf-8")
    return tmp_path / "p"


NAME = "tests.modules.saved_programs:Reviewer"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("os:system", "which is no Savable"),
        ("subprocess:Popen", "which is no Savable"),
        ("homefire.modules.example:Example", "which is no Savable"),
        ("no_such_module:Program", "Write `import no_such_module` first"),
        ("tests.modules.saved_programs:Gone", "not there any more"),
        ("__main__:Program", "put it into a file of its own"),
        ("homefire.modules.predict:Predict.forward.__globals__", "not there any more"),
    ],
)
def test_a_file_can_name_only_programs_that_are_imported(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(edited(tmp_path, NAME, name))


def test_no_module_is_imported_unless_that_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "homefire_canary.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = edited(tmp_path, NAME, "homefire_canary:Program")
    with pytest.raises(InputError, match="import homefire_canary"):
        load(folder)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(InputError, match="not there any more"):
        load(folder, allow_code=True)
    assert (tmp_path / "ran").exists()
    monkeypatch.delitem(sys.modules, "homefire_canary")


def test_without_its_module_a_program_says_what_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, saved_programs.__name__)
    with pytest.raises(InputError, match=r"Write `import tests\.modules\.saved_programs` first"):
        load(GOLDEN / "program_layout_1")


def test_classes_that_are_not_imported_are_made_from_their_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Predict(saved_programs.Review)
    program.save(tmp_path / "p", save_program=True)
    monkeypatch.setitem(sys.modules, saved_programs.__name__, types.ModuleType("empty"))
    loaded = load(tmp_path / "p")
    with context(lm=ScriptedLM(['{"mood": "good", "stars": 5, "people": []}'])):
        answer = loaded(text="x")
    assert (answer.mood.value, answer.stars) == ("good", 5) and not isinstance(answer.mood, Mood)


def test_damage_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no program.json"):
        load(tmp_path)
    (tmp_path / "program.pkl").write_bytes(b"")
    with pytest.raises(InputError, match="one of DSPy's"):
        load(tmp_path)
    (tmp_path / "program.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="was cut off"):
        load(tmp_path)
    (tmp_path / "program.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="holds no program"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"program.load\("):
        load(tmp_path / "program.json")
    with pytest.raises(InputError, match="layout 7"):
        load(edited(tmp_path, '"homefire": 1', '"homefire": 7'))
    with pytest.raises(InputError, match="damaged: KeyError"):
        load(edited(tmp_path, '"number"', '"numbre"'))
    with pytest.raises(InputError, match="of the kind 'tuble'"):
        load(edited(tmp_path, '"$tuple"', '"$tuble"'))
    with pytest.raises(InputError, match="into a folder"):
        Predict("a -> b").save(tmp_path / "x.json", save_program=True)


def test_a_changed_pickle_and_other_versions_are_told(tmp_path: Path) -> None:
    program = Predict("a -> b")
    for _ in range(2):  # the second one replaces the first
        program.demos.append(Example(a="1", b="2"))
        program.save(tmp_path / "p", save_program=True, modules_to_serialize=[])
    (pickled,) = (tmp_path / "p").glob("*.pkl")
    entry = tmp_path / "p" / "program.json"
    entry.write_text(entry.read_text("utf-8").replace('"python": "3', '"python": "2'), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"was pickled with python 2"):
        assert len(load(tmp_path / "p", allow_code=True).demos) == 2
    pickled.write_bytes(pickled.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="is damaged"):
        load(tmp_path / "p", allow_code=True)
    pickled.unlink()
    with pytest.raises(InputError, match="is missing"):
        load(tmp_path / "p", allow_code=True)
