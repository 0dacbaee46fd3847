"""The page for DSPy's users: its tables are true, no name is missing, and programs in DSPy's manner run after `import homefire as dspy`.

DSPy's names are a list beside the tests; DSPy itself is not needed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import homefire as dspy
from homefire.engine.request import Request
from homefire.modules.settings import current

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "dspy.md").read_text(encoding="utf-8")
NAMES = (ROOT / "tests" / "golden" / "dspy_names.txt").read_text(encoding="utf-8").splitlines()
BEFORE, BEYOND = PAGE.split("## Beyond DSPy\n")
HERE, ELSEWHERE = ("same", "better"), ("absent", "later")


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


TABLE = [(name, row[1]) for row in rows(BEFORE) if len(row) == 3 and row[1] != "here" and "---" not in row[1] for name in named(row[0])]


def resolve(name: str) -> object:
    value: object = dspy
    for part in name.split("."):
        value = getattr(value, part)
    return value


@pytest.fixture(autouse=True)
def _settings_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homefire.modules.settings._settings.process", current())


def use(*answers: dict[str, Any]) -> dspy.ScriptedLM:
    """Makes an LM that says these answers the ambient one."""
    lm = dspy.ScriptedLM([json.dumps(answer) for answer in answers])
    dspy.configure(lm=lm)
    return lm


def test_every_row_has_a_status_that_there_is() -> None:
    assert {status for _, status in TABLE} == {*HERE, *ELSEWHERE}


def test_every_name_of_dspy_stands_on_the_page_once() -> None:
    listed = [name for name in NAMES if name and not name.startswith("#")]
    assert len(listed) > 300
    assert sorted(name for name, _ in TABLE) == sorted(listed)


def found(name: str) -> bool:
    try:
        resolve(name)
    except AttributeError:
        return False
    return True


def test_the_names_that_are_here_are_those_that_are_found() -> None:
    assert [name for name, _ in TABLE if found(name)] == [name for name, status in TABLE if status in HERE]


def test_every_other_public_name_is_listed_as_beyond_dspy() -> None:
    shared = {name.split(".")[0] for name, status in TABLE if status in HERE}
    own = {name for name in dir(dspy) if not name.startswith("__")} - shared
    beyond = [name for row in rows(BEYOND) for name in named(row[0])]
    assert sorted(beyond) == sorted(own)


REFUSED = [named(row[0])[0] for row in rows(BEFORE) if len(row) == 2 and named(row[0])]


def test_there_are_refused_arguments() -> None:
    assert len(REFUSED) > 10


@pytest.mark.parametrize("call", REFUSED)
def test_an_argument_that_is_refused_is_an_error_that_names_it(call: str) -> None:
    function, argument = call.split("(")[0], re.findall(r"(\w+)=", call)[-1]
    with pytest.raises((TypeError, dspy.ConfigError), match=f"{argument}|takes no arguments"):
        eval(call, {function: resolve(function), "big": None, "embedder": None})


def test_names_that_the_page_sends_to_are_there() -> None:
    words = {word for row in rows(BEFORE) if len(row) == 3 for word in re.findall(r"`([\w.]+)`", row[2])}
    dotted = {word for word in words if word.split(".")[0] in dir(dspy)}
    assert len(dotted) > 20
    assert [word for word in sorted(dotted) if not found(word)] == []


def test_the_first_program_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    lm = dspy.ScriptedLM([json.dumps({"reasoning": "120 / 1.5", "answer": 80.0})])
    monkeypatch.setattr("homefire.LM", lambda: lm, raising=False)
    for block in blocks:
        exec(compile(block, "docs/dspy.md", "exec", dont_inherit=True), {"__name__": "page"})
    assert capsys.readouterr().out == "80.0\n"


def test_a_signature_as_text() -> None:
    use({"summary": "Short.", "words": 2})
    predict = dspy.Predict("document: str, language -> summary, words: int")
    prediction = predict(document="A long text.", language="English")
    assert (prediction.summary, prediction.words) == ("Short.", 2)


class Triage(dspy.Signature):
    """Decide who should read the mail."""

    subject: str = dspy.InputField()
    body: str = dspy.InputField(desc="may be empty")
    team: Literal["sales", "support"] = dspy.OutputField()
    urgency: float = dspy.OutputField(desc="one is at once", ge=0, le=1)


def test_a_signature_as_a_class() -> None:
    lm = use({"team": "support", "urgency": 0.9})
    mail = dspy.Predict(Triage)(subject="It burns", body="")
    assert (mail.team, mail.urgency) == ("support", 0.9)
    assert "Decide who should read the mail." in lm.scripted.requests[0].messages[0].content


class Person(BaseModel):
    name: str
    born: int


def test_nested_types_and_several_completions() -> None:
    use(*({"people": [{"name": name, "born": 1815}]} for name in ("Ada", "Ada", "Charles")))
    find = dspy.Predict("text -> people: list[Person]", n=3)
    prediction = find(text="Ada was born in 1815.")
    assert prediction.people == [Person(name="Ada", born=1815)]
    assert len(prediction.completions.people) == 3
    assert dspy.majority(prediction.completions).people[0].name == "Ada"


class Answers(dspy.Module):
    def __init__(self, tries: int = 1) -> None:
        super().__init__()
        self.tries = tries
        self.plan = dspy.ChainOfThought("question -> query: str")
        self.answer = dspy.Predict("question, query -> answer: str")

    def forward(self, question: str) -> dspy.Prediction:
        for _ in range(self.tries):
            query = self.plan(question=question).query
        return dspy.Prediction(query=query, answer=self.answer(question=question, query=query).answer)


def test_a_module_of_its_own_saved_and_loaded(tmp_path: Path) -> None:
    use({"reasoning": "hm", "query": "moon"}, {"answer": "1969"})
    program = Answers()
    assert program(question="When?").toDict() == {"query": "moon", "answer": "1969"}
    assert [name for name, _ in program.named_predictors()] == ["plan.predict", "answer"]
    program.answer.demos = [dspy.Example(question="a", query="b", answer="c").with_inputs("question", "query")]
    program.answer.signature = program.answer.signature.with_instructions("Answer with a year.")
    program.save(tmp_path / "state.json")
    again = Answers()
    again.load(tmp_path / "state.json")
    assert again.answer.demos[0].answer == "c"
    assert again.answer.signature.instructions == "Answer with a year."
    program.save(tmp_path / "whole", save_program=True)
    assert isinstance(dspy.load(tmp_path / "whole"), Answers)


def test_an_agent_with_a_tool() -> None:
    def population(city: str) -> int:
        """Says how many people live in a city."""
        return {"Bern": 134_000}[city]

    calls = iter([{"name": "population", "args": {"city": "Bern"}}, {"name": "finish", "args": {}}])

    def script(request: Request) -> str:
        if "next_tool_calls" in request.messages[0].content:
            return json.dumps({"next_thought": "Look it up.", "next_tool_calls": [next(calls)]})
        assert "134000" in request.messages[-1].content
        return json.dumps({"reasoning": "The tool said so.", "answer": 134_000})

    dspy.configure(lm=dspy.ScriptedLM(script))
    agent = dspy.ReAct("question -> answer: int", tools=[population], max_iters=5)
    prediction = agent(question="How many people live in Bern?")
    assert prediction.answer == 134_000
    assert prediction.trajectory["tool_name_0"] == "population"
    assert "134000" in str(prediction.trajectory["observation_0"])


def test_an_evaluation() -> None:
    use({"answer": "Rome"}, {"answer": "Lyon"})
    devset = [dspy.Example(question=land, answer=city).with_inputs("question") for land, city in (("Italy", "rome"), ("France", "Paris"))]
    evaluate = dspy.Evaluate(devset=devset, metric=dspy.evaluate.answer_exact_match, num_threads=1, display_progress=False)
    result = evaluate(dspy.Predict("question -> answer"))
    assert result.score == 50.0
    assert [score for _, _, score in result.results] == [1.0, 0.0]


def test_a_metric_that_returns_a_prediction_with_feedback() -> None:
    use({"answer": "Rome"})

    def metric(gold: dspy.Example, pred: dspy.Prediction, trace: Any = None) -> dspy.Prediction:
        return dspy.Prediction(score=float(gold.answer == pred.answer), feedback="Well done.")

    devset = [dspy.Example(question="Italy", answer="Rome").with_inputs("question")]
    assert dspy.Evaluate(devset=devset, metric=metric, display_progress=False)(dspy.Predict("question -> answer")).score == 100.0


def test_a_few_shot_program() -> None:
    dspy.configure(lm=dspy.ScriptedLM(lambda request: json.dumps({"answer": "Rome"})))
    trainset = [dspy.Example(question=f"Italy {number}", answer="Rome").with_inputs("question") for number in range(3)]
    optimizer = dspy.teleprompt.BootstrapFewShot(metric=dspy.evaluate.answer_exact_match, max_bootstrapped_demos=2, max_labeled_demos=2)
    program = dspy.Predict("question -> answer")
    assert len(optimizer.compile(program, trainset=trainset).demos) == 2
    assert program.demos == []


def test_a_stream_of_one_output() -> None:
    use({"reasoning": "as ever", "answer": "a blue sky"})
    listener = dspy.streaming.StreamListener(signature_field_name="answer")
    program = dspy.streamify(dspy.ChainOfThought("question -> answer"), stream_listeners=[listener])

    async def pieces() -> list[Any]:
        return [piece async for piece in program(question="What is up?")]

    *chunks, last = asyncio.run(pieces())
    assert "".join(piece.chunk for piece in chunks if isinstance(piece, dspy.streaming.StreamResponse)) == "a blue sky"
    assert isinstance(last, dspy.Prediction)


def test_settings_for_a_block_and_for_all() -> None:
    use({"answer": "outside"})
    predict = dspy.Predict("question -> answer")
    inner = dspy.ScriptedLM([json.dumps({"answer": "inside"})])
    with dspy.context(lm=inner, adapter=dspy.JSONAdapter()):
        assert dspy.settings.lm is inner
        assert predict(question="Where?").answer == "inside"
    assert predict(question="Where?").answer == "outside"


def test_markers_of_the_chat_adapter() -> None:
    dspy.configure(lm=dspy.ScriptedLM(["[[ ## answer ## ]]\nRome\n\n[[ ## completed ## ]]"]), adapter=dspy.ChatAdapter())
    assert dspy.Predict("question -> answer")(question="Italy?").answer == "Rome"


def test_the_best_of_several() -> None:
    dspy.configure(lm=dspy.ScriptedLM([json.dumps({"answer": text}) for text in ("two words", "one", "more")], max_batch=1))

    def one_word(args: dict[str, Any], pred: dspy.Prediction) -> float:
        return 1.0 if len(pred.answer.split()) == 1 else 0.0

    best = dspy.BestOfN(module=dspy.Predict("question -> answer"), N=3, reward_fn=one_word, threshold=1.0)
    assert best(question="What?").answer == "one"


def test_an_assertion_that_has_a_call_made_again() -> None:
    lm = use({"answer": "far too long"}, {"answer": "short"})

    class Brief(dspy.Module):
        def __init__(self) -> None:
            self.predict = dspy.Predict("question -> answer")

        def forward(self, question: str) -> dspy.Prediction:
            prediction = self.predict(question=question)
            dspy.Assert(len(prediction.answer) < 6, "Answer with one short word.")
            return prediction

    assert Brief()(question="What?").answer == "short"
    assert "Answer with one short word." in lm.scripted.requests[1].messages[-1].content


def test_a_conversation() -> None:
    lm = use({"answer": "Bern."})
    history = dspy.History(messages=[{"question": "Capital of Italy?", "answer": "Rome."}])
    chat = dspy.Predict(dspy.Signature("question, history: dspy.History -> answer"))
    assert chat(question="And of Switzerland?", history=history).answer == "Bern."
    assert [message.role for message in lm.scripted.requests[0].messages] == ["system", "user", "assistant", "user"]


def test_usage_callbacks_and_history(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []

    class Ears(dspy.utils.BaseCallback):
        def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            heard.append(outputs.answer)

    use({"answer": "Rome"})
    dspy.configure(callbacks=[Ears()])
    predict = dspy.Predict("question -> answer")
    with dspy.track_usage() as tracker:
        predict(question="Italy?")
    assert heard == ["Rome"]
    assert next(iter(tracker.get_total_tokens().values()))["completion_tokens"] > 0
    dspy.inspect_history(n=1)
    assert "Rome" in capsys.readouterr().out
    assert len(predict.history) == 1


class Hop(dspy.Module):
    """A program of the tutorials: searches, and answers from what it found."""

    def __init__(self, k: int = 2) -> None:
        self.retrieve = dspy.Retrieve(k=k)
        self.answer = dspy.ChainOfThought("context: list[str], question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        context = self.retrieve(question).passages
        return dspy.Prediction(context=context, answer=self.answer(context=context, question=question).answer)


TOWNS = ["Rome lies on the Tiber.", "Bern lies on the Aare.", "Cats purr."]


def test_a_program_that_retrieves_by_the_settings(tmp_path: Path) -> None:
    index = dspy.Index.build(tmp_path, [dspy.Passage(id=text, text=text, source="towns") for text in TOWNS], dspy.HashEncoder())
    for rm in (
        index,
        lambda query, k: [{"long_text": text} for text in TOWNS if "Rome" in text],
        dspy.Embeddings(TOWNS, dspy.HashEncoder()),
    ):
        use({"reasoning": "so", "answer": "Tiber"})
        dspy.configure(rm=rm)
        prediction = Hop()(question="Where does Rome lie?")
        assert prediction.context[0] == TOWNS[0] and prediction.answer == "Tiber"
    assert dspy.settings.rm is rm


def test_a_search_by_embeddings_in_a_users_module() -> None:
    lm = use({"reasoning": "so", "response": "Aare"})
    embedder = dspy.Embedder(dspy.HashEncoder().encode_passages)
    search = dspy.retrievers.Embeddings(embedder=embedder, corpus=TOWNS, k=1)

    class Answer(dspy.Module):
        def __init__(self) -> None:
            self.respond = dspy.ChainOfThought("context: list[str], question -> response")

        def forward(self, question: str) -> Any:
            return self.respond(context=search(question).passages, question=question)

    assert Answer()(question="Where does Bern lie?").response == "Aare"
    assert "Bern lies on the Aare." in lm.scripted.requests[0].messages[-1].content


def test_names_that_make_signatures() -> None:
    made = dspy.make_signature({"n": (int, dspy.InputField()), "even": (bool, dspy.OutputField())}, "Say whether it is.", "Parity")
    assert (made.__name__, made.signature, made.instructions) == ("Parity", "n -> even", "Say whether it is.")
    assert dspy.ensure_signature(made) is made
    assert dspy.ensure_signature("n -> even: bool", "Say it.").instructions == "Say it."
    assert dspy.make_signature(made, signature_name="Other").__name__ == "Other"  # type: ignore[arg-type]
    assert made.__name__ == "Parity"


def test_errors_are_caught_under_dspys_names() -> None:
    dspy.configure(lm=dspy.ScriptedLM(["nothing"], context=10))
    with pytest.raises(dspy.ContextWindowExceededError):
        dspy.Predict("question -> answer")(question="x" * 100)
    dspy.configure(lm=dspy.ScriptedLM(["nothing"] * 20))
    with pytest.raises(dspy.AdapterParseError):
        dspy.Predict("question -> answer: int")(question="x")
    dspy.configure(lm=None)
    with pytest.raises(dspy.LMNotConfiguredError):
        dspy.Predict("question -> answer")(question="x")
    assert issubclass(dspy.LMTimeoutError, dspy.DSPyError)


@pytest.mark.parametrize("space", ["datasets", "evaluate", "retrievers", "streaming", "teleprompt", "utils"])
def test_the_names_of_a_namespace_can_be_imported(space: str) -> None:
    module: Any = importlib.import_module(f"homefire.{space}")
    assert module is getattr(dspy, space)
    assert module.__all__
    assert [name for name in module.__all__ if not found(f"{space}.{name}")] == []
