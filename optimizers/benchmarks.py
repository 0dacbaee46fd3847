"""Public data sets with their splits: HotPotQA, GSM8K, MATH and Banking77.

Knows no program. Rows come from a folder of the user's or from the Hugging Face cache; a broken row is an error that names its line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from homefire.errors import InputError
from homefire.optimizers.benchmark_source import Origin, Source
from homefire.optimizers.data_files import problems_of
from homefire.optimizers.data_splits import Dataset, Raw, Split, carved
from homefire.optimizers.math_answers import boxed, final_number, math_metric

_ADVICE = "Take the data anew from where it is published, or correct the rows."


class Benchmark(Dataset, ABC):
    """A public data set whose official training data is carved into `train` and `dev`, and whose official test data is `test`.

    Args:
        folder: A folder with its files; without it the one below `HOMEFIRE_DATA`, otherwise the Hugging Face cache.
        download: Whether to fetch it from the hub when it is in neither.
        sizes: Seeds and sizes, as for `Dataset`.

    Raises:
        InputError: it is not there; the message says both ways to give it.
    """

    origin: Origin
    inputs: tuple[str, ...] = ("question",)

    def __init__(self, folder: str | Path | None = None, *, download: bool = False, **sizes: Any) -> None:
        super().__init__(**{"input_keys": self.inputs, **sizes})
        self.source = Source(self.origin, folder, download=download)

    def read(self, split: Split) -> Sequence[Raw]:
        """All rows of a split, as they are used."""
        if split == "test":
            return self.made("test")
        train, dev = carved(self.made("train"))
        return train if split == "train" else dev

    def made(self, official: str) -> list[dict[str, Any]]:
        """The rows of an official split with the fields of the examples.

        Raises:
            InputError: rows are broken, or there are none.
        """
        rows = self.source.rows(official)
        made: list[dict[str, Any]] = []
        problems: list[str] = []
        for row in rows:
            if not self.wants(official, row.values):
                continue
            try:
                made.append(self.fields(row.values))
            except KeyError as error:
                problems.append(f"{row.place}: no {error.args[0]!r}")
            except ValueError as error:
                problems.append(f"{row.place}: {error}")
        if problems:
            raise problems_of(problems, _ADVICE)
        if not rows:
            raise InputError(f"The {official} data of {self.origin.title} has no rows. {_ADVICE}")
        return made

    def wants(self, official: str, row: Mapping[str, Any]) -> bool:
        """Whether a row of an official split is used at all."""
        return True

    @abstractmethod
    def fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of the example that a row is.

        Raises:
            KeyError: something is missing.
            ValueError: something is wrong.
        """


class GSM8K(Benchmark):
    """Grade-school mathematics (Cobbe et al., arXiv 2110.14168): `question`, `gold_reasoning`, `answer` (a whole number as text)."""

    origin = Origin(
        title="GSM8K",
        folder="gsm8k",
        files={"train": ("train.jsonl", "train*.parquet"), "test": ("test.jsonl", "test*.parquet")},
        hub="openai/gsm8k",
        config="main",
        splits={"train": "train", "test": "test"},
    )

    def __init__(self, folder: str | Path | None = None, *, download: bool = False, **sizes: Any) -> None:
        super().__init__(folder, download=download, **{"train_size": 200, "dev_size": 300, **sizes})

    def fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Cuts the solution at `####`."""
        reasoning, mark, answer = str(row["answer"]).partition("####")
        number = final_number(answer)
        if not mark or number is None:
            raise ValueError("its answer does not end in '#### ' and a number")
        return {"question": row["question"], "gold_reasoning": reasoning.strip(), "answer": str(number)}


class MATH(Benchmark):
    """Competition mathematics (Hendrycks et al., arXiv 2103.03874): `question`, `reasoning`, `answer`, `level`, `subject`.

    Args:
        subset: A subject, such as `algebra`; None takes all.
        folder: A folder with `train` and `test`, in each a folder for every subject with a JSON file for every problem, or JSON Lines.
        download: Whether to fetch it from the hub when it is not there.
        sizes: Seeds and sizes, as for `Dataset`.
    """

    origin = Origin(
        title="MATH",
        folder="math",
        files={"train": ("train.jsonl", "train/*/*.json"), "test": ("test.jsonl", "test/*/*.json")},
        hub="DigitalLearningGmbH/MATH-lighteval",
        splits={"train": "train", "test": "test"},
    )

    def __init__(self, subset: str | None = None, folder: str | Path | None = None, *, download: bool = False, **sizes: Any) -> None:
        self.subset = subset
        super().__init__(folder, download=download, **{"train_size": 350, "dev_size": 350, "test_size": 350, **sizes})

    metric = staticmethod(math_metric)

    def made(self, official: str) -> list[dict[str, Any]]:
        """The problems of the subject.

        Raises:
            InputError: rows are broken, or there is no such subject.
        """
        rows = super().made(official)
        if self.subset is None:
            return rows
        wanted = _subject(self.subset)
        found = [row for row in rows if _subject(row["subject"]) == wanted]
        if not found:
            known = ", ".join(sorted({_subject(row["subject"]) for row in rows}))
            raise InputError(f"MATH has no subject {self.subset!r}; it has {known}.")
        return found

    def fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Takes the answer out of the box at the end of the solution."""
        answer = boxed(str(row["solution"]))
        if answer is None:
            raise ValueError("its solution has no \\boxed{...} answer")
        known = {"level": row.get("level", ""), "subject": row.get("type", row.get("subject", ""))}
        return {"question": row["problem"], "reasoning": row["solution"], "answer": answer, **known}


class Banking77(Benchmark):
    """Questions to a bank and their intents (Casanueva et al., arXiv 2003.04807): `text`, `label`."""

    origin = Origin(
        title="Banking77",
        folder="banking77",
        files={"train": ("train.csv", "train*.parquet"), "test": ("test.csv", "test*.parquet")},
        hub="mteb/banking77",
        splits={"train": "train", "test": "test"},
    )
    inputs = ("text",)

    @property
    def labels(self) -> list[str]:
        """The intents of the training data, sorted."""
        return sorted({str(row["label"]) for row in self.made("train")})

    def fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Takes the intent by its name."""
        label = next((row[name] for name in ("category", "label_text", "label") if name in row), None)
        if not isinstance(label, str) or not label.strip() or not str(row["text"]).strip():
            raise ValueError(f"it has no text, or its label is {label!r} instead of the name of an intent")
        return {"text": row["text"], "label": label}


class HotPotQA(Benchmark):
    """Questions that need two articles (Yang et al., arXiv 1809.09600): `question`, `answer`, and details.

    Args:
        only_hard_examples: Whether `train` and `dev` hold only the questions that the data calls hard.
        keep_details: `"dev_titles"` keeps the titles of the two articles as `gold_titles`; True also `type`, `level`, `context` (title and
            sentences of each article) and `supporting_facts`; False nothing. What the data does not say is left out.
        unofficial_dev: Whether `dev` is carved from the training data; otherwise it is the official one, which `test` is in any case.
        folder: A folder with the official files.
        download: Whether to fetch it from the hub when it is not there.
        sizes: Seeds and sizes, as for `Dataset`.
    """

    origin = Origin(
        title="HotPotQA",
        folder="hotpotqa",
        files={
            "train": ("hotpot_train_v1.1.json", "hotpot_train*.json", "train*.parquet"),
            "dev": (
                "hotpot_dev_fullwiki_v1.json",
                "hotpot_dev_distractor_v1.json",
                "hotpot_dev_v1_simplified.json",
                "hotpot_dev*.json",
                "validation*.parquet",
            ),
        },
        hub="hotpotqa/hotpot_qa",
        config="fullwiki",
        splits={"train": "train", "dev": "validation"},
    )

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        only_hard_examples: bool = True,
        keep_details: bool | Literal["dev_titles"] = "dev_titles",
        unofficial_dev: bool = True,
        download: bool = False,
        **sizes: Any,
    ) -> None:
        self.only_hard_examples = only_hard_examples
        self.keep_details = keep_details
        self.unofficial_dev = unofficial_dev
        super().__init__(folder, download=download, **sizes)

    def read(self, split: Split) -> Sequence[Raw]:
        """All rows of a split, as they are used."""
        if split == "test" or (split == "dev" and not self.unofficial_dev):
            return self.made("dev")
        return super().read(split)

    def wants(self, official: str, row: Mapping[str, Any]) -> bool:
        """Of the training data perhaps only what is hard."""
        return official != "train" or not self.only_hard_examples or row.get("level", "hard") == "hard"

    def fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Takes both forms of details, pairs and columns."""
        made = {"question": row["question"], "answer": row["answer"]}
        if self.keep_details is False:
            return made
        facts = _pairs(row.get("supporting_facts"), "sent_id")
        if facts is not None:
            made["gold_titles"] = list(dict.fromkeys(title for title, _ in facts))
        if self.keep_details is True:
            context = _pairs(row.get("context"), "sentences")
            known = {"type": row.get("type"), "level": row.get("level"), "context": context, "supporting_facts": facts}
            made |= {name: value for name, value in known.items() if value is not None}
        return made


def _pairs(value: Any, second: str) -> list[tuple[str, Any]] | None:
    """Pairs of a title and something, from a list of pairs or from two columns."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return list(zip(value["title"], value[second], strict=True))
    return [(title, other) for title, other in value]


def _subject(name: str) -> str:
    """A subject as it is called everywhere: `counting_and_probability`."""
    return "_".join(name.lower().replace("&", "and").replace("_", " ").split())
