"""`homefire eval` and `homefire finetune`: options, the user's own files, what is shown and saved."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any, Literal, get_args

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from homefire.cli_run import evaluate_command, finetune
from homefire.engine.adapters import AdapterStore, Lineage
from homefire.engine.lm import LM
from homefire.engine.request import AdapterRef
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import AdapterError, ConfigError, HomefireError, InputError
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.module import Module
from homefire.modules.settings import current
from homefire.optimizers.bootstrap_finetune import FinetuneResult
from homefire.optimizers.evaluate import Evaluate, EvaluationResult
from homefire.optimizers.gate import Gate
from homefire.optimizers.report_data import StageRow
from homefire.optimizers.train_spec import TrainResult
from homefire.run_results import show_finetuning
from homefire.run_setup import Asked, choose_lm, prepare, train_settings
from homefire.user_code import load_program

app = typer.Typer()
app.command("eval")(evaluate_command)
app.command("finetune")(finetune)

CSV = "id,text,label\n" + "".join(f"{index},message {index},{'spam' if index % 2 else 'ham'}\n" for index in range(8))
TRAINED = {
    "run_id": "r",
    "validation_loss_before": None,
    "validation_loss_after": None,
    "rows": 8,
    "dropped_rows": 0,
    "steps": 1,
    "tokens": 80,
    "seconds": 2.0,
    "rows_per_second": 4.0,
    "peak_memory": 1,
    "dtype": "float32",
    "device": "cpu",
    "resumed": False,
}
PROGRAM = """
    from typing import Literal
    import homefire

    class Mail(homefire.Signature):
        '''Say what it is.'''
        text: str = homefire.InputField()
        label: Literal["ham", "spam"] = homefire.OutputField()

    def answer(request):
        number = int(request.messages[-1].content.split()[-1])
        if number == 3:
            raise ValueError("no idea about 3")
        return '{"label": "spam"}' if number < 6 else '{"label": "eggs"}'

    program = homefire.Predict(Mail)
    program.lm = homefire.ScriptedLM(answer)

    def make():
        return program

    def metric(example, prediction, trace=None):
        return 1.0 if prediction.label == "spam" else 0.5
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    Path("mail.csv").write_text(CSV, encoding="utf-8")
    Path("program.py").write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def asked(signature: str, **options: Any) -> Asked:
    return Asked(signature=signature, data=Path("mail.csv"), **options)


def test_the_lm_that_the_users_file_sets_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homefire.modules.settings._settings.process", current())  # put back at the end
    text = textwrap.dedent(PROGRAM).replace(
        "program.lm = homefire.ScriptedLM(answer)", "homefire.configure(lm=homefire.ScriptedLM(answer))"
    )
    Path("program.py").write_text(text, encoding="utf-8")
    assert "scripted" in run("eval", "program.py:program", "--data", "mail.csv")


def test_a_program_of_the_users_own_file_is_measured(folder: Path) -> None:
    shown = run("eval", "program.py:program", "--data", "mail.csv", "--save", "out/rows.jsonl")
    words = [" ".join(line.split()) for line in shown.splitlines()]
    assert words[:4] == ["program text: str -> label: Literal['ham', 'spam']", "model scripted", "judged by label", "examples 8"]
    assert words[4] == "score 25.0% (95% interval 7.1 to 59.1%)"
    assert words[5:7] == ["valid outputs 5/8", "failures 3"]
    assert [word.split()[0] for word in words[7:9]] == ["seconds", "tokens/s"]
    assert words[9].startswith("example 4: ValueError: no idea about 3")
    assert words[10].startswith("example 7: ParseError: The completion has a value of the wrong type")
    rows = [json.loads(line) for line in Path("out/rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 8
    assert {key: rows[1][key] for key in ("text", "label", "predicted_label", "score", "error")} == {
        "text": "message 1",
        "label": "spam",
        "predicted_label": "spam",
        "score": 1.0,
        "error": None,
    }
    assert "predicted_label" not in rows[3]
    assert rows[3]["error"] == "ValueError: no idea about 3"


def test_a_metric_of_the_users_own(folder: Path) -> None:
    shown = run(
        "eval", "program.py:make", "--data", "mail.csv", "--metric", "program.py:metric", "--limit", "2", "--seed", "1", "--save", "a.csv"
    )
    assert "judged by      program.py:metric" in shown
    assert "examples       2" in shown
    assert Path("a.csv").read_text(encoding="utf-8").startswith("text,label,predicted_label,score,error,seconds,")


def test_a_signature_that_thinks(folder: Path) -> None:
    program = prepare(asked("program.py:Mail", think=True)).program
    assert isinstance(program, ChainOfThought)
    assert list(program.predict.signature.output_fields) == ["reasoning", "label"]


def test_choices_come_from_all_files(folder: Path) -> None:
    Path("valid.csv").write_text("text,label\nhello,eggs\nmessage 1,spam\n", encoding="utf-8")
    prepared = prepare(asked("text -> label", choices=["label"]), valid=Path("valid.csv"))
    assert get_args(prepared.program.predictors()[0].signature.output_fields["label"].type) == ("eggs", "ham", "spam")
    assert [example.text for example in prepared.valid or []] == ["hello", "message 1"]
    assert "message 1" not in [example.text for example in prepared.examples]
    assert len(prepared.examples) == 7


def test_a_limit_draws_by_the_seed_and_keeps_the_order(folder: Path) -> None:
    def drawn(seed: int) -> list[str]:
        return [example.text for example in prepare(asked("text -> label"), limit=3, seed=seed).examples]

    assert drawn(0) == drawn(0) == sorted(drawn(0))
    assert any(drawn(seed) != drawn(0) for seed in range(1, 5))
    assert len(prepare(asked("text -> label"), limit=100).examples) == 8


@pytest.mark.parametrize(
    ("signature", "options", "message"),
    [
        ("text -> label", {"choices": ["lable"]}, "--choices lable is no output of the program. Its outputs are: label"),
        ("text -> label", {"match": ["text"]}, "--match text is no output of the program. Its outputs are: label"),
        ("text -> label, why", {"match": ["why"]}, "has no column 'why'.*Choose others with --match"),
        ("text -> lable", {}, r"has no column 'lable'. Did you mean 'label'\?"),
        ("txt -> label", {}, r"has no column 'txt'. Did you mean 'text'\?"),
        ("text -> label", {"match": ["label"], "metric": "program.py:metric"}, "--match and --metric were both given"),
        ("text -> label", {"save": Path("rows.xlsx")}, "must end in .csv"),
    ],
)
def test_options_that_cannot_be_used(signature: str, options: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        prepare(asked(signature, **options))


def test_a_file_to_judge_by_needs_the_same_columns_and_other_rows(folder: Path) -> None:
    Path("valid.csv").write_text("text,kind\nhello,ham\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"valid.csv has no column 'label'"):
        prepare(asked("text -> label"), valid=Path("valid.csv"))
    with pytest.raises(InputError, match="so there is nothing to train on"):
        prepare(asked("text -> label"), valid=Path("mail.csv"))


def adapter_folder(folder: Path) -> Path:
    made = folder / "adapter"
    made.mkdir()
    (made / "adapter_config.json").write_text("{}", encoding="utf-8")
    (made / "adapter_model.safetensors").write_bytes(b"weights")
    return made


def lineage(base: str) -> Lineage:
    return Lineage(
        base_model=base,
        base_fingerprint="0",
        data_hash="0",
        rows=1,
        settings={},
        seed=0,
        program="text -> label",
        scores={},
        versions={},
        created="2026-01-01T00:00:00+00:00",
    )


def test_which_lm_a_program_gets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Named(LM):
        def __init__(self, model: str | None = None, **options: Any) -> None:
            self.asked = model, options
            super().__init__(engine=ScriptedLM([]).scripted)

    monkeypatch.setattr("homefire.run_setup.LM", Named)
    own, bare = load_program("program.py:program"), load_program("text -> label")
    assert choose_lm(own, None, None, None) is None
    default = choose_lm(bare, None, None, None)
    assert isinstance(default, Named)
    assert default.asked == (None, {})
    chosen = choose_lm(own, "some-model", None, "laptop")
    assert isinstance(chosen, Named)
    assert own.predictors()[0].lm is chosen
    assert chosen.asked[0] == "some-model"
    assert chosen.asked[1]["settings"].context == 4096
    with pytest.raises(ConfigError, match="cannot be read"):
        choose_lm(bare, None, None, "laptopp")
    stored = AdapterStore().add("mail", adapter_folder(folder), lineage("the-base"))
    adapted = choose_lm(bare, None, "mail@1", None)
    assert isinstance(adapted, Named)
    assert (adapted.asked[0], adapted.asked[1]["adapter"]) == ("the-base", stored)
    with pytest.raises(AdapterError, match="nothing"):
        choose_lm(bare, None, "nothing@1", None)


def test_training_settings_from_all_sides() -> None:
    assert train_settings(None, rank=4, epochs=None).alpha == 8.0
    settings = train_settings("laptop", epochs=7, seed=3)
    assert (settings.epochs, settings.batch_size, settings.seed) == (7, 8, 3)
    with pytest.raises(ConfigError, match="learning_rate is 5"):
        train_settings(None, learning_rate=5.0)


def test_only_local_models_are_finetuned(folder: Path) -> None:
    for extra in (["--holdout", "0.5"], ["--teacher", "program.py:make", "--holdout", "0.5"]):
        with pytest.raises(HomefireError, match="scripted is not a local model"):
            run("finetune", "program.py:program", "--data", "mail.csv", "--name", "mail", *extra)
    with pytest.raises(InputError, match=r"--holdout is 1.5"):
        run("finetune", "program.py:program", "--data", "mail.csv", "--name", "mail", "--holdout", "1.5")
    with pytest.raises(InputError, match="--holdout and --valid were both given"):
        run("finetune", "program.py:program", "--data", "mail.csv", "--name", "mail", "--holdout", "0.5", "--valid", "mail.csv")


def evaluated(program: Module, answer: Callable[[int], str]) -> EvaluationResult:
    program.set_lm(ScriptedLM(lambda request: json.dumps({"label": answer(int(request.messages[-1].content.split()[-1]))})))
    prepared = prepare(asked("text -> label: Literal['ham', 'spam']"))
    return Evaluate(prepared.examples, prepared.metric, display_progress=False)(program)


@pytest.mark.parametrize("better", [True, False])
def test_what_finetuning_shows(better: bool, folder: Path) -> None:
    program = load_program("text -> label: Literal['ham', 'spam']")
    before = evaluated(program, lambda number: "ham" if number % 2 else "spam")
    after = evaluated(program, lambda number: "spam" if number % 2 else "ham") if better else before
    training = TrainResult.from_json({**TRAINED, "losses": []}, folder)
    result = FinetuneResult(
        program=program,
        candidate=program,
        adapter=AdapterRef("mail", 2, folder),
        before=before,
        after=after,
        decision=Gate().decide(before, after),
        training=training,
        stages=(StageRow(name="Finetune", seconds=2.0, tokens_per_second=40.0, detail="1 steps over 8 rows"),),
    )
    console = Console(file=StringIO(), width=120)
    show_finetuning(result, {"program": "text -> label"}, console)
    assert isinstance(console.file, StringIO)
    shown = " ".join(console.file.getvalue().split())
    assert f"score 0.0% (95% interval 0.0 to 32.4%) {'100.0% (95% interval 67.6 to 100.0%)' if better else '0.0%'}" in shown
    assert "Finetune 2.0 40 1 steps over 8 rows" in shown
    if better:
        assert "Promoted: 0.000 before, 1.000 after, on 8 held-out examples" in shown
        assert 'mail@2 is in service: homefire.LM("scripted", adapter="mail").' in shown
        assert "Roll it back: homefire adapters rollback mail" in shown
    else:
        assert "Not promoted: the gain of +0.000 is not above 0" in shown
        assert "mail@2 is kept and not in service" in shown
    assert {row["run"] for row in before.records(run="before")} == {"before"}


def test_saved_columns_do_not_hide_the_datas_own(folder: Path) -> None:
    Path("mail.csv").write_text("text,score\nmessage 1,3\nmessage 2,4\n", encoding="utf-8")
    prepared = prepare(asked("text -> score: int", choices=["score"]))
    prepared.program.set_lm(ScriptedLM(['{"score": 3}'] * 2))
    rows = Evaluate(prepared.examples, prepared.metric, num_threads=1, display_progress=False)(prepared.program).records()
    assert [(row["score"], row["predicted_score"], row["score_"]) for row in rows] == [(3, 3, 1.0), (4, 3, 0.0)]
    assert prepared.fields.output_fields["score"].type == Literal[3, 4]


@pytest.mark.parametrize("command", ["eval", "finetune"])
def test_help_loads_nothing_heavy(command: str) -> None:
    code = f"""
        import sys, typer
        from homefire.cli_run import evaluate_command, finetune
        app = typer.Typer()
        app.command("eval")(evaluate_command)
        app.command("finetune")(finetune)
        try:
            app(["{command}", "--help"])
        finally:
            print(*sorted({{name.split(".")[0] for name in sys.modules}}))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "vllm", "peft", "trl", "datasets", "numpy"} & set(done.stdout.splitlines()[-1].split())


@pytest.mark.model
def test_the_real_model_is_measured(smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mail.csv").write_text(CSV, encoding="utf-8")
    shown = run("eval", "text -> label", "--data", "mail.csv", "--choices", "label", "--model", str(smollm2), "--save", "rows.json")
    assert "valid outputs  8/8" in shown
    assert "failures       0" in shown
    rows = json.loads(Path("rows.json").read_text(encoding="utf-8"))
    assert {row["predicted_label"] for row in rows} <= {"ham", "spam"}
    assert all(row["completion_tokens"] > 0 for row in rows)
