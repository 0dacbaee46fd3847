"""DataLoader: every kind of file, the hub's cache, splits, and what is wrong with data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from homefire.errors import InputError
from homefire.modules.example import Example
from homefire.modules.settings import context
from homefire.optimizers.data_loader import DataLoader
from homefire.optimizers.data_splits import Dataset

ROWS = [{"text": "a, b", "label": 3, "note": "x"}, {"text": "ü", "label": 4, "note": ""}]
LOADER = DataLoader()


def written(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    match path.suffix:
        case ".csv":
            path.write_text('text,label,note\n"a, b",3,x\nü,4,\n', encoding="utf-8")
        case ".tsv":
            path.write_text("text\tlabel\tnote\na, b\t3\tx\nü\t4\t\n", encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(ROWS, indent=2), encoding="utf-8")
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
        case _:
            parquet = pytest.importorskip("pyarrow.parquet")
            arrow = pytest.importorskip("pyarrow")
            parquet.write_table(arrow.Table.from_pylist(ROWS), path)
    return path


def load(path: Path, **options: Any) -> list[Example]:
    readers = {".csv": LOADER.from_csv, ".tsv": LOADER.from_csv, ".json": LOADER.from_json, ".jsonl": LOADER.from_jsonl}
    reader: Any = readers.get(path.suffix, LOADER.from_parquet)
    made: list[Example] = reader(path, **options)
    return made


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"data.{kind}")
    assert [example.toDict() for example in load(path)] == ROWS
    some = load(path, fields=("text", "label"), input_keys=("text",))
    assert [example.toDict() for example in some] == [{"text": row["text"], "label": row["label"]} for row in ROWS]
    assert some[0].inputs().toDict() == {"text": "a, b"} and some[0].labels().toDict() == {"label": 3}
    assert load(path, fields=["label"], input_keys=["text"])[1].toDict() == {"label": 4, "text": "ü"}


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_columns_that_are_missing_are_named(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"data.{kind}")
    with pytest.raises(InputError, match=r"no column 'labl'. Did you mean 'label'. The columns are: text, label, note"):
        load(path, fields=("text", "labl"))
    with pytest.raises(InputError, match="no column 'question'"):
        load(path, input_keys=("question",))
    with pytest.raises(InputError, match=r"input_keys is the text 'text'; expected a list of names: input_keys=\['text'\]"):
        load(path, input_keys="text")
    with pytest.raises(InputError, match=r"nothing.(csv|json|jsonl|parquet)"):
        load(tmp_path / f"nothing.{kind}")


def test_without_inputs_an_example_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="with_inputs"):
        load(written(tmp_path, "data.csv"))[0].inputs()


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (["1", "2"], [1, 2]),
        (["1", ""], [1, None]),
        (["1", "2.5"], [1.0, 2.5]),
        (["-3", "+4"], [-3, 4]),
        (["007", "12"], ["007", "12"]),
        (["1", "x"], ["1", "x"]),
        (["1e3", "2"], [1000.0, 2.0]),
        (["nan", "1"], ["nan", "1"]),
        (["12345678901234567890", "1"], [12345678901234567890.0, 1.0]),
        (["", ""], ["", ""]),
    ],
)
def test_columns_of_numbers_become_numbers(column: list[str], expected: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,n\n" + "".join(f"t,{value}\n" for value in column), encoding="utf-8")
    found = [example.n for example in LOADER.from_csv(path)]
    assert found == expected and list(map(type, found)) == list(map(type, expected))
    assert [example.n for example in LOADER.from_csv(path, numbers=False)] == column


def test_broken_rows_are_named_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"q": 1, "a": 2}\n\n{"q": 1}\n{"a": 2}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"2 rows are broken: .*line 3: no 'a'; .*line 4: no 'q'. Complete the rows"):
        LOADER.from_json(path, fields=["q", "a"])
    path.write_text('{"q": 1, "a": 2}\n{"q": 1\n', encoding="utf-8")
    with pytest.raises(InputError, match="broken in line 2"):
        LOADER.from_json(path)
    (tmp_path / "data.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        LOADER.from_parquet(tmp_path / "data.parquet")
    with pytest.raises(InputError, match="is not named like JSON"):
        LOADER.from_json(tmp_path / "data.csv")


def test_data_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", None], "n": [1.0, float("nan")], "flag": [True, False]})
    found = LOADER.from_pandas(frame, input_keys=["text"])
    assert [example.toDict() for example in found] == [
        {"text": "a", "n": 1.0, "flag": True},
        {"text": None, "n": None, "flag": False},
    ]
    with pytest.raises(InputError, match="list is no pandas data frame"):
        LOADER.from_pandas([1, 2])


def test_objects_of_a_retriever() -> None:
    class Store:
        def get_objects(self, num_samples: int, fields: list[str]) -> list[dict[str, Any]]:
            return [{name: row[name] for name in fields} for row in ROWS[:num_samples]]

    with context(rm=Store()):
        (example,) = LOADER.from_rm(num_samples=1, fields=["text", "label"], input_keys=["text"])
    assert (example.inputs().toDict(), example.labels().toDict()) == ({"text": "a, b"}, {"label": 3})
    with context(rm=None), pytest.raises(InputError, match=r"The retriever of the settings is None, which has no get_objects"):
        LOADER.from_rm(num_samples=1, fields=["text"], input_keys=["text"])


def test_splits_are_drawn_by_the_seed() -> None:
    data = list(range(100))
    parts = LOADER.train_test_split(data, train_size=0.8, random_state=3)
    assert (len(parts["train"]), len(parts["test"])) == (80, 20)
    assert sorted(parts["train"] + parts["test"]) == data and parts["train"] != sorted(parts["train"])
    assert LOADER.train_test_split(data, 0.8, random_state=3) == parts != LOADER.train_test_split(data, 0.8, random_state=4)
    few = LOADER.train_test_split(data, train_size=10, test_size=5)
    assert (len(few["train"]), len(few["test"])) == (10, 5)
    assert LOADER.sample(data, 5, seed=1) == LOADER.sample(data, 5, seed=1) != LOADER.sample(data, 5, seed=2)


@pytest.mark.parametrize(("sizes", "said"), [((1.5,), "train_size is 1.5"), ((90, 20), "need 110 of 100"), ((-1,), "train_size is -1")])
def test_sizes_that_do_not_fit(sizes: tuple[Any, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        LOADER.train_test_split(list(range(100)), *sizes)
    with pytest.raises(InputError, match="101 examples were to be drawn from 100"):
        LOADER.sample(list(range(100)), 101)


def cached(home: Path, name: str, config: str, splits: dict[str, list[dict[str, Any]]], features: Any = None) -> None:
    """Lays down a data set as `datasets` leaves it in its cache after a download."""
    datasets = pytest.importorskip("datasets")
    short = name.rpartition("/")[2].lower()
    source = datasets.DatasetDict({split: datasets.Dataset.from_list(rows, features=features) for split, rows in splits.items()})
    folder = home / name.replace("/", "___") / config / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    infos = {}
    for split, part in source.items():
        part.save_to_disk(str(home / "saved" / split))
        (arrow,) = (home / "saved" / split).glob("*.arrow")
        shutil.copy(arrow, folder / f"{short}-{split}.arrow")
        infos[split] = {"name": split, "num_bytes": 1, "num_examples": len(part), "dataset_name": short}
    info = json.loads((home / "saved" / next(iter(splits)) / "dataset_info.json").read_text(encoding="utf-8"))
    version = {"version_str": "0.0.0", "major": 0, "minor": 0, "patch": 0}
    info |= {"builder_name": "parquet", "dataset_name": short, "config_name": config, "version": version, "splits": infos}
    (folder / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")


def test_the_hubs_cache_is_read_and_nothing_is_fetched(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})
    rows = {"train": [{"text": "a", "label": 1}, {"text": "b", "label": 0}], "test": [{"text": "c", "label": -1}]}
    cached(tmp_path, "someone/mails", "default", rows, features)
    options: dict[str, Any] = {"input_keys": ("text",), "cache_dir": str(tmp_path)}
    parts = LOADER.from_huggingface("someone/mails", **options)
    assert isinstance(parts, dict)
    assert [example.toDict() for example in parts["train"]] == [{"text": "a", "label": "good"}, {"text": "b", "label": "bad"}]
    assert parts["test"][0].label == -1
    train = LOADER.from_huggingface("someone/mails", split="train[:1]", **options)
    assert isinstance(train, list) and train[0].inputs().toDict() == {"text": "a"} and len(train) == 1
    both = LOADER.from_huggingface("someone/mails", split=["train", "test"], fields=["label"], **options)
    assert isinstance(both, dict) and list(both) == ["train", "test"] and both["train"][0].toDict() == {"label": "good", "text": "a"}
    with pytest.raises(InputError, match=r"'someone/nothing' cannot be loaded without the network.*download=True"):
        LOADER.from_huggingface("someone/nothing", **options)


def test_the_network_is_closed_whatever_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    seen: list[tuple[bool, bool]] = []

    def load(*_: Any, **__: Any) -> None:
        seen.append((datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE))
        raise ConnectionError("no way")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InputError, match="without the network"):
        LOADER.from_huggingface("someone/mails")
    with pytest.raises(InputError, match="'someone/mails' cannot be loaded: no way"):
        LOADER.from_huggingface("someone/mails", download=True)
    assert seen == [(True, True), (False, False)]
    assert (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE) == (False, False)


class Numbers(Dataset):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._train = [{"n": n, "even": n % 2 == 0} for n in range(50)]
        self._dev = [Example(n=n).with_inputs("n") for n in range(10)]


def test_a_data_set_of_ones_own() -> None:
    data = Numbers(train_seed=1, train_size=20, dev_size=5, input_keys=["n"])
    assert len(data.train) == 20 and len(data.dev) == 5 and data.train is data.train
    assert data.train == Numbers(train_seed=1, train_size=20, input_keys=["n"]).train
    assert Numbers(train_seed=1, train_size=5, input_keys=["n"]).train == data.train[:5]
    assert Numbers(train_seed=2, train_size=20).train != data.train
    assert data.train[0].inputs().keys() == {"n"} and data.dev[0].inputs().keys() == {"n"}
    with pytest.raises(InputError, match=r"Numbers has no split 'test'. Set self._test"):
        data.test  # noqa: B018
    before = data.train
    data.reset_seeds(train_seed=2, train_size=7)
    assert len(data.train) == 7 and data.train != before[:7]
    assert Numbers(test_size=0).test == []
    with pytest.raises(InputError, match="dev_size is -1"):
        Numbers(dev_size=-1)
