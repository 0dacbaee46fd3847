"""The programs of the research line on the scripted engine: each step sees what it should, and what comes out keeps to the paper's rules.

The scripts import their neighbour as they do when they are run, so their folder is on the path.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import homefire
from homefire import Passage, ScriptedLM, Signature

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts" / "examples" / "research"))

from scripts.examples.research import baleen, colbert_qa, irera, papillon, path, storm
from tests.scripted_steps import Said, Shelf, asked, passage, scripted

# STORM

BEES, HONEY, HIVES, WASPS = map(passage, ("Bees dance.", "Honey keeps.", "Hives are warm.", "Wasps sting."))


def storm_lm(**changes: Said) -> ScriptedLM:
    said: dict[str, tuple[type[Signature], Said]] = {
        "relate": (storm.RELATE, {"topics": ["wasps"]}),
        "perspectives": (storm.PERSPECTIVES, {"perspectives": ["a cook, who wants honey", "a child"]}),
        "ask": (storm.ASK, lambda text: {"question": "Why warm?" if "Expert:" in text else "cook?" if "a cook" in text else "basics?"}),
        "plan": (storm.PLAN, lambda text: {"queries": ["hives" if "Why warm?" in text else "honey" if "cook?" in text else "bees"]}),
        "reply": (storm.REPLY, {"useful": [1], "answer": "So it is."}),
        "draft": (storm.DRAFT, {"headings": ["First thoughts"]}),
        "improve": (storm.IMPROVE, {"headings": ["Honey", "Warm hives", "honey"]}),
        "write": (storm.WRITE, {"sentences": [{"text": "One [7].", "sources": [1, 9]}, {"text": "Two.", "sources": []}]}),
        "polish": (storm.POLISH, {"repeated": [3, 4, 8], "lead": "In short."}),
    }
    return scripted(*({**said, **{name: (said[name][0], value) for name, value in changes.items()}}).values())


def storm_shelf() -> Shelf:
    return Shelf({"bees": [BEES, "bees DANCE"], "honey": [HONEY], "hives": [HIVES], "wasps": [WASPS]})


def storm_run(lm: ScriptedLM, search: Shelf, **limits: int) -> homefire.Prediction:
    with homefire.context(lm=lm):
        return storm.STORM(search, perspectives=2, rounds=2, k=2, sections=2, **limits)(topic="bees")


def test_storm_asks_from_perspectives_that_a_survey_of_related_topics_shows() -> None:
    lm = storm_lm()
    made = storm_run(lm, storm_shelf())
    assert "Wasps sting." in asked(lm, storm.PERSPECTIVES)[0] and "Bees dance." in asked(lm, storm.PERSPECTIVES)[0]
    assert [interview.reader for interview in made.interviews] == [storm.BASICS, "a cook, who wants honey"]


def test_storm_conversations_go_on_from_what_the_expert_found() -> None:
    lm = storm_lm()
    made = storm_run(lm, storm_shelf())
    cook = made.interviews[1].turns
    assert [turn.question for turn in cook] == ["cook?", "Why warm?"]
    assert [turn.sources for turn in cook] == [[HONEY], [HIVES]]
    later = [text for text in asked(lm, storm.ASK) if "Writer: cook?" in text]
    assert len(later) == 1 and "Expert: So it is." in later[0]
    assert any("Honey keeps." in text and "cook?" in text for text in asked(lm, storm.REPLY)), "the expert reads what was found"


def test_the_expert_of_storm_says_nothing_without_a_source() -> None:
    lm = storm_lm()
    made = storm_run(lm, Shelf({"bees": [BEES]}))
    cook = made.interviews[1].turns
    assert [(turn.answer, turn.sources) for turn in cook] == [(storm.NOTHING, [])] * 2
    assert not any("cook?" in text for text in asked(lm, storm.REPLY))
    with pytest.raises(homefire.InputError, match="nothing about 'bees'"):
        storm_run(storm_lm(), Shelf({}))


def test_storm_improves_its_outline_with_the_conversations() -> None:
    lm = storm_lm()
    made = storm_run(lm, storm_shelf())
    [improve] = asked(lm, storm.IMPROVE)
    assert "First thoughts" in improve and "Why warm? So it is." in improve
    assert len(made.headings) == 2 and made.headings[1] == "Warm hives", "no heading twice"


def test_every_citation_of_storm_is_of_a_passage_that_its_section_was_given() -> None:
    lm = storm_lm()
    made = storm_run(lm, storm_shelf())
    by_heading = {heading: next(text for text in asked(lm, storm.WRITE) if heading in text) for heading in made.headings}
    assert "[1] Hives are warm." in by_heading["Warm hives"], "the closest source comes first"
    assert made.references == [HONEY, HIVES]
    honey, hives = made.article.split("## ")[1:]
    assert "One. [1]" in honey and "One. [2]" in hives
    assert "[7]" not in made.article and "[9]" not in made.article


def test_storm_polishes_repetitions_away_but_no_section() -> None:
    made = storm_run(storm_lm(), storm_shelf())
    assert made.article.startswith("# bees\n\nIn short.\n\n## ")
    assert made.article.count("One.") == 2 and made.article.count("Two.") == 1


# IReRa


def irera_lm(ranking: list[int] | None = None) -> ScriptedLM:
    return scripted((irera.INFER, {"terms": ["fast", "red", "fast"]}), (irera.RANK, {"reasoning": "", "best": ranking or [1]}))


LABELS: dict[str, list[Passage | str]] = {"fast": ["hare", "car", "cloud"], "red": [passage("rose"), "car"]}


def irera_run(ranking: list[int] | None = None, found: dict[str, list[Passage | str]] = LABELS, **options: Any) -> homefire.Prediction:
    with homefire.context(lm=irera_lm(ranking)):
        return irera.IReRa(Shelf(found), {"hare", "car", "rose", "stone"}, depth=4, **options)(text="?")


def test_irera_keeps_to_the_labels_there_are() -> None:
    made = irera_run([3, 17, 1])
    assert made.terms == ["fast", "red"]
    assert made.candidates == ["hare", "rose", "car"], "each label at its nearest term; 'cloud' is no label"
    assert made.best == ["car", "hare", "rose"], "first those that were ranked, then the others as they were found"
    assert irera_run([3], candidates=2, best=1).best == ["hare"]


def test_irera_weighs_labels_by_how_frequent_they_are() -> None:
    counts = {"car": 98, "hare": 1, "stone": 1}
    assert irera_run(counts=counts, A=1000).candidates == ["car", "hare", "rose"], "a label that was never given comes last"
    assert irera_run(counts=counts).candidates == ["hare", "rose", "car"]


def test_irera_asks_for_no_ranking_of_nothing() -> None:
    made = irera_run(found={})
    assert made.best == [] and made.candidates == []


@pytest.mark.parametrize("options", [{"A": 10}, {"A": -1, "counts": {"car": 1}}, {"candidates": 51}, {"candidates": 0}])
def test_irera_refuses_what_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(homefire.InputError, match="expected"):
        irera_run(**options)


# Baleen

UMPIRE = passage("Red was umpire in 1965. He liked tea.")
SERIES = passage("The best player of 1965 was Sandy. It rained.")
SANDY = passage("Sandy came to the Hall of Fame.")


def numbers_of(text: str, *wanted: str) -> dict[str, Any]:
    """The numbers of the lines of the input `sentences` that hold one of the words."""
    lines = [line for line in text.split("sentences:", 1)[1].splitlines() if line.startswith("[")]
    return {"relevant": [place for place, line in enumerate(lines, 1) if any(word in line for word in wanted)]}


def baleen_lm(*wanted: str) -> ScriptedLM:
    return scripted(
        (baleen.SEEK, lambda text: {"query": "sandy" if "player" in text else "1965"}),
        (baleen.PICK, lambda text: numbers_of(text, *wanted)),
        (baleen.ANSWER, {"reasoning": "", "answer": "yes"}),
    )


def baleen_shelf() -> Shelf:
    return Shelf({"q": [UMPIRE], "1965": [UMPIRE, SERIES], "sandy": [SERIES, UMPIRE, SANDY]})


def baleen_run(lm: ScriptedLM, search: Shelf, **options: int) -> homefire.Prediction:
    with homefire.context(lm=lm):
        return baleen.Baleen(search, **options)(question="q")


def test_baleen_carries_its_facts_from_hop_to_hop() -> None:
    lm, shelf = baleen_lm("1965", "Hall"), baleen_shelf()
    made = baleen_run(lm, shelf, hops=3, k=1)
    assert made.queries == ["q", "1965", "sandy"] == shelf.queries
    assert [(fact.text, fact.passage, fact.hop) for fact in made.facts] == [
        ("Red was umpire in 1965.", UMPIRE, 1),
        ("The best player of 1965 was Sandy.", SERIES, 2),
        ("Sandy came to the Hall of Fame.", SANDY, 3),
    ]
    assert made.passages == [UMPIRE, SERIES, SANDY], "no passage twice"
    [_, second] = asked(lm, baleen.SEEK)
    assert "Red was umpire in 1965." in second and "player of 1965" in second and "tea" not in second
    [answer] = asked(lm, baleen.ANSWER)
    assert "Hall of Fame" in answer and "rained" not in answer
    assert (made.answer, made.stopped) == ("yes", "most hops")


def test_baleen_stops_when_a_hop_brings_nothing_new() -> None:
    no_fact = baleen_run(baleen_lm("umpire"), baleen_shelf(), hops=3, k=1)
    assert (no_fact.queries, no_fact.stopped, no_fact.passages) == (["q", "1965"], "nothing new", [UMPIRE, SERIES])
    no_passage = baleen_run(baleen_lm("1965"), Shelf({"q": [UMPIRE], "1965": [UMPIRE]}), hops=3)
    assert (no_passage.queries, no_passage.stopped, no_passage.passages) == (["q", "1965"], "nothing new", [UMPIRE])


def test_baleen_condenses_a_hop_in_two_stages() -> None:
    lm = baleen_lm("Red", "tea", "Sandy")
    made = baleen_run(lm, Shelf({"q": [UMPIRE, SERIES, SANDY]}), hops=1, facts=2)
    picks = asked(lm, baleen.PICK)
    assert len(picks) == 4 and "tea" in picks[3] and "rained" not in picks[3], "three passages, then what was picked in all of them"
    assert [fact.text for fact in made.facts] == ["Red was umpire in 1965.", "He liked tea."]


# ColBERT-QA


def reader(**answers: tuple[str | None, float]) -> ScriptedLM:
    def read(text: str) -> dict[str, Any]:
        answer, confidence = next((value for word, value in answers.items() if word in text), (None, 0.0))
        return {"answer": answer, "confidence": confidence}

    return scripted((colbert_qa.Read, read))


ANIMALS: list[Passage | str] = [
    "The Hare, which runs, lives here.",
    "Runs and hides: the hare.",
    passage("A snail crawls."),
    "Nothing at all.",
    "Snails are slow.",
]


def answered(lm: ScriptedLM, k: int = 5) -> homefire.Prediction:
    with homefire.context(lm=lm):
        return colbert_qa.ColBERTQA(Shelf({"who?": ANIMALS}), k)(question="who?")


def test_colbert_qa_adds_up_passages_that_agree() -> None:
    made = answered(reader(lives=("Hare", 0.6), hides=("the hare", 0.5), crawls=("snail", 0.7)))
    assert made.answer == "Hare" and made.confidence == pytest.approx(0.8)
    assert list(made.answers) == ["Hare", "snail"] and made.answers["snail"] == pytest.approx(0.7)
    assert [span.passage for span in made.spans] == ANIMALS[:3]
    assert answered(reader(lives=("Hare", 0.6), hides=("the hare", 0.2), crawls=("snail", 0.7))).answer == "snail"


def test_colbert_qa_takes_only_words_of_the_passage() -> None:
    made = answered(reader(lives=("a fox", 1.0), crawls=("snai", 1.0), slow=("  ", 1.0)))
    assert (made.answer, made.confidence, made.spans) == (None, 0.0, []) and len(made.passages) == 5


def test_relevance_guided_supervision_draws_from_what_the_retriever_finds() -> None:
    shelf = Shelf({"who?": ANIMALS, "what?": ["Hares."], "where?": ANIMALS})
    pairs = [("who?", "Hare"), ("what?", "hares"), ("where?", "the moon"), ("unknown?", "hare")]
    [row] = colbert_qa.relevance_guided(pairs, shelf, positives=1, negatives=2)
    assert (row.question, row.positives) == ("who?", ["The Hare, which runs, lives here."]), "the highest ranked one that holds the answer"
    assert len(row.negatives) == 2 and not any("hare" in text.lower() for text in row.negatives)
    assert list(colbert_qa.relevance_guided(pairs, shelf, positives=1, negatives=2)) == [row], "the same draw for the same seed"
    draws = {next(colbert_qa.relevance_guided(pairs, shelf, negatives=1, seed=seed)).negatives[0] for seed in range(20)}
    assert len(draws) > 1


def test_colbert_qa_command_writes_training_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colbert_qa.corpus, "python_library", lambda: [passage("Hares run."), passage("Snails crawl.")])
    (tmp_path / "pairs.jsonl").write_text('{"question": "Who runs?", "answer": "hares"}\n')
    result = invoked(colbert_qa.main, "--pairs", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "out.jsonl"))
    assert "1 of 1 questions" in result
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row == {"question": "Who runs?", "positives": ["Hares run."], "negatives": ["Snails crawl."]}


# All of them


def invoked(main: Callable[..., None], *arguments: str) -> str:
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("script", [storm, irera, papillon, path, baleen, colbert_qa], ids=lambda one: one.__name__.rpartition(".")[2])
def test_the_command_says_what_it_takes(script: Any) -> None:
    assert "--model" in invoked(script.main, "--help")
    assert f"Run: .venv/bin/python scripts/examples/research/{Path(script.__file__).name}" in script.__doc__


def test_the_programs_are_modules_whose_predictors_optimizers_see() -> None:
    programs = [
        storm.STORM(Shelf({})),
        irera.IReRa(Shelf({}), {"a"}),
        papillon.PAPILLON(ScriptedLM([])),
        path.PATH(),
        baleen.Baleen(Shelf({})),
        colbert_qa.ColBERTQA(Shelf({})),
    ]
    for program in programs:
        assert program.predictors() and program.deepcopy().dump_state() == program.dump_state()
