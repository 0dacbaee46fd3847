"""Tuning an encoder on the user's own passages: a local LM writes questions, the encoder learns to find their passages, the gate decides.

Knows no sentence-transformers: `encoder_training` computes. The way is that of PATH (Xian et al., arXiv 2406.11706): passages need no
labels, because a model writes the questions that each of them answers; hard negatives are what BM25 ranks high besides the passage.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from homefire.configs.console import note
from homefire.configs.home import home, require_directory, write_atomic
from homefire.engine.lm import LM
from homefire.errors import ConfigError, InputError
from homefire.modules.module import Module
from homefire.optimizers.encoder_training import EncoderRow, EncoderRun, Kind, train_encoder
from homefire.optimizers.gate import Gate
from homefire.optimizers.index_comparison import Scores, pool_of, rebuilt, scores_of
from homefire.optimizers.question_pairs import Found, rows_of, split, that_find
from homefire.optimizers.tune_report import TuneReport
from homefire.optimizers.written_questions import question_writer, write_questions
from homefire.retrieval.encoder import Encoder, TokenEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage
from homefire.retrieval.sentence_encoder import SentenceEncoder
from homefire.retrieval.token_encoder import ColbertEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

_FEWEST = 4
"""Passages below which nothing can be learnt and compared."""
_SETUP, _QUESTIONS, _MODEL = "setup.json", "questions.jsonl", "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneSettings:
    """How an encoder is tuned.

    Raises:
        ConfigError: values out of their range; all of them in one message.
    """

    kind: Kind | None = None
    """`dense` teaches the vector of a text, `both` also those of its tokens, `late` a ColBERT model; None looks at the index."""
    passages: int = 1000
    """Most passages that questions are written about, spread evenly over the index."""
    questions: int = 3
    """Most questions about one passage."""
    within: int = 20
    """Rank at which a question must find its passage to count as one that it answers."""
    negatives: int = 2
    """Hard negatives of a question."""
    holdout: float = 0.2
    """Share of the passages whose questions are not learnt from but compare the encoder before and after."""
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 2e-5
    """At its peak; with LoRA about ten times as much is right."""
    lora_rank: int | None = None
    """Trains a LoRA adapter of this rank and merges it; None trains all weights."""
    most_steps: int | None = None
    """Ends the training early."""
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [] if self.kind in (None, "dense", "both", "late") else [f"kind is {self.kind!r}, expected dense, both or late"]
        least = {"passages": _FEWEST, "questions": 1, "within": 1, "negatives": 0, "epochs": 1, "batch_size": 2, "seed": 0}
        least |= {name: 1 for name in ("lora_rank", "most_steps") if getattr(self, name) is not None}
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                problems.append(f"{name} is {value!r}, expected a whole number from {low} on")
        if not 0 < self.holdout < 1:
            problems.append(f"holdout is {self.holdout!r}, expected a share between 0 and 1")
        if not 0 < self.learning_rate <= 1:
            problems.append(f"learning_rate is {self.learning_rate!r}, expected a number above 0, at most 1")
        if problems:
            raise ConfigError("The settings of the tuning cannot be used: " + "; ".join(problems) + ".")


def tune(
    index: Index | Path | str,
    out: Path | str | None = None,
    *,
    lm: LM | None = None,
    settings: TuneSettings | None = None,
    gate: Gate | None = None,
    apply: bool = True,
    asker: Module | None = None,
) -> TuneReport:
    """Tunes the encoder of an index on its passages; goes on where it was stopped when it is called again.

    Args:
        index: The index, or its directory.
        out: Folder of the tuned encoder, or a name for it among the models in homefire's folder, by which `SentenceEncoder(name)` finds it;
            by default the name of the old encoder and that of the index. Beside it, `NAME.tuning` holds what a stopped run goes on from.
        lm: Writes the questions; by default that of the settings.
        settings: See `TuneSettings`.
        gate: What the tuned encoder must show on the held-out questions; by default more than luck.
        apply: Whether to build the index again with a tuned encoder that is better. The next update then takes all documents for new.
        asker: Writes the questions instead: a program `passage -> questions: list[str]`, which may have been optimized.

    Raises:
        InputError: too few passages or questions, a run there that was begun with another model, or an encoder that cannot be trained.
        ConfigError: no LM.
        MissingExtra: sentence-transformers' trainer is not installed.
        TrainingError: the training failed; the same call goes on from its last checkpoint.
        KeyboardInterrupt: interrupted; the same call goes on.
    """
    opened = index if isinstance(index, Index) else Index.open(index)
    return _Tuning(opened, out, lm, settings or TuneSettings(), gate or Gate(), asker).run(apply)


class _Tuning:
    """One tuning, step by step."""

    def __init__(
        self, index: Index, out: Path | str | None, lm: LM | None, settings: TuneSettings, gate: Gate, asker: Module | None
    ) -> None:
        self.began = time.perf_counter()
        self.index, self.settings, self.gate = index, settings, gate
        self.kind = settings.kind or _kind_of(index)
        self.base = _base_of(index, self.kind)
        self.out = _folder(out, index)
        self.work = self.out.with_name(f"{self.out.name}.tuning")
        self.program = (asker or question_writer(settings.questions)).deepcopy()
        if lm is not None:
            self.program.set_lm(lm)
        self.lm = self.program.predictors()[0].language_model() if self.program.predictors() else None
        self.asked = False
        """Whether the language model was needed, and so is running."""

    def run(self, apply: bool) -> TuneReport:
        """All steps, and what came out."""
        require_directory(self.work, "the tuning")
        passages = self._passages()
        self._check_setup()
        questions = write_questions(self.program, passages, self.work / _QUESTIONS, self.settings.questions, self._heard)
        found = that_find(self.index, questions, {passage.id: passage for passage in passages}, self.settings.within)
        learnt, held_out = split(found, self.settings.holdout, self.settings.seed)
        pool = pool_of(self.index, held_out, self.settings.seed)
        before = self._before(pool, held_out)
        self._train(rows_of(learnt, self.index.encoder, passages, self.settings.negatives, self.settings.seed))
        after = scores_of(rebuilt(self.index, self.work / "after", pool, *self._tuned(self.work / _MODEL)), held_out)
        method = self.index.manifest.default_method
        decision = self.gate.compare(before[method].ndcg, after[method].ndcg, f"held-out questions by {method} search (nDCG@10)")
        report = TuneReport(
            folder=self.out if decision.promoted else None,
            decision=decision,
            applied=apply and decision.promoted,
            passages=len(passages),
            questions=len(questions),
            learnt=len(learnt),
            held_out=len(held_out),
            before={name: scores.means for name, scores in before.items()},
            after={name: scores.means for name, scores in after.items()},
            seconds=time.perf_counter() - self.began,
        )
        return self._finished(report)

    def _heard(self, done: int) -> None:
        self.asked = True

    def _passages(self) -> list[Passage]:
        """Those that are asked about, evenly spread."""
        whole = [passage for passage in self.index.passages() if len(passage.text.split()) > 3]
        if len(whole) < _FEWEST:
            raise InputError(
                f"The index {str(self.index.directory)!r} has {len(whole)} passages of more than three words; expected at least {_FEWEST} "
                "to tune its encoder on. Add documents first: homefire index add."
            )
        most = min(self.settings.passages, len(whole))
        return [whole[place * len(whole) // most] for place in range(most)]

    def _check_setup(self) -> None:
        """Questions of another model or prompt are not mixed with these."""
        setup = {"model": str(self.lm), "program": self.program.dump_state(), "questions": self.settings.questions}
        file, wanted = self.work / _SETUP, json.loads(json.dumps(setup))
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            there = None
        if there is not None and there != wanted:
            raise InputError(
                f"{self.work} holds questions that {there.get('model')} wrote, or that were asked for in another way; this run has "
                f"{self.lm}. Go on as it was begun, give another `out`, or remove that folder."
            )
        write_atomic(file, json.dumps(setup, indent=1))

    def _before(self, pool: Sequence[Passage], held_out: Sequence[Found]) -> Mapping[str, Scores]:
        if len(pool) == len(self.index):
            return scores_of(self.index, held_out)
        late = self.index.token_encoder if "late" in self.index.manifest.methods else None
        return scores_of(rebuilt(self.index, self.work / "before", pool, self.index.encoder, late), held_out)

    def _train(self, rows: Sequence[EncoderRow]) -> None:
        """The tuned model in the work folder; what another run left there is not gone on from."""
        chosen = self.settings
        run = EncoderRun(
            base=str(self.base),
            kind=self.kind,
            epochs=chosen.epochs,
            batch_size=chosen.batch_size,
            learning_rate=chosen.learning_rate,
            lora_rank=chosen.lora_rank,
            seed=chosen.seed,
            most_steps=chosen.most_steps,
            prompts=self._prompts(),
            fresh=self.kind == "late" and not self._is_colbert,
        )
        name = hashlib.sha256(json.dumps([asdict(run), [asdict(row) for row in rows]]).encode()).hexdigest()
        mark = self.work / "run.txt"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != name:
            for left in (self.work / _MODEL, self.work / "checkpoints"):
                shutil.rmtree(left, ignore_errors=True)
            write_atomic(mark, name)
        if not (self.work / _MODEL).is_dir():
            with _asleep(self.lm if self.asked else None):
                train_encoder(run, rows, self.work / _MODEL, self.work)

    def _prompts(self) -> tuple[str, str]:
        """Those of the encoder, which the tuned one is to have too; a ColBERT model has its own."""
        encoder = None if self._is_colbert and self.kind == "late" else self.index.encoder
        return (encoder.query_prompt, encoder.passage_prompt) if isinstance(encoder, SentenceEncoder) else ("", "")

    @property
    def _is_colbert(self) -> bool:
        entry = self.index.manifest.token_encoder
        return entry is not None and entry.kind == "colbert"

    def _tuned(self, folder: Path) -> tuple[Encoder, TokenEncoder | None]:
        """The encoders of an index with the tuned one; None takes the token vectors of the other."""
        if self.kind == "late":
            return self.index.encoder, ColbertEncoder(folder)
        return SentenceEncoder(folder), self.index.token_encoder if self._is_colbert else None

    def _finished(self, report: TuneReport) -> TuneReport:
        """Puts the model in its place, or removes it; the questions stay with it, or for another try."""
        record = json.dumps({**asdict(report), "folder": report.folder and str(report.folder), "settings": asdict(self.settings)}, indent=1)
        for name in ("before", "after", "checkpoints"):
            shutil.rmtree(self.work / name, ignore_errors=True)
        if report.folder is None:
            shutil.rmtree(self.work / _MODEL, ignore_errors=True)
            write_atomic(self.work / "report.json", record)
            return report
        write_atomic(self.work / _MODEL / "tuning.json", record)
        shutil.copyfile(self.work / _QUESTIONS, self.work / _MODEL / _QUESTIONS)
        (self.work / _MODEL).rename(self.out)
        if report.applied:
            note(f"Building {self.index.directory} again with {self.out.name}.")
            rebuilt(self.index, self.index.directory, self.index.passages(), *self._tuned(self.out))
        shutil.rmtree(self.work, ignore_errors=True)
        return report


def _kind_of(index: Index) -> Kind:
    """What suits the index: the model whose vectors it is searched by."""
    manifest = index.manifest
    if manifest.encoder is None:
        return "late"
    return "both" if manifest.token_encoder is not None and manifest.token_encoder.kind == "sentence tokens" else "dense"


def _base_of(index: Index, kind: Kind) -> Path:
    """The folder of the model to begin with.

    Raises:
        InputError: the index has no encoder that can be trained.
    """
    entry = index.manifest.token_encoder
    encoder: object = None
    if kind == "late" and entry is not None:
        encoder = index.token_encoder
    elif index.manifest.encoder is not None:
        encoder = index.encoder
    match encoder:
        case SentenceEncoder() | ColbertEncoder():
            return encoder.folder
        case _:
            name = "no encoder" if encoder is None else f"the encoder {type(encoder).__name__}"
            raise InputError(
                f"The index {str(index.directory)!r} has {name}, which cannot be trained; expected a sentence-transformers model. "
                "Build it with one: Index.build(directory, passages, SentenceEncoder())."
            )


def _folder(out: Path | str | None, index: Index) -> Path:
    """Where the tuned encoder goes; a name that is taken gets a number, unless it was given.

    Raises:
        InputError: there is something.
    """
    models = home() / "models"
    if out is None:
        entry = index.manifest.encoder or index.manifest.token_encoder
        name = f"{Path(entry.name).name if entry else 'encoder'}-{index.directory.absolute().stem}"
        free = (models / (name if number == 1 else f"{name}-{number}") for number in range(1, 10_000))
        return next(folder for folder in free if not folder.exists())
    folder = models / out if isinstance(out, str) and Path(out).name == out else Path(out)
    if folder.exists():
        raise InputError(f"There is something at {folder} already. Give the tuned encoder another name or folder.")
    return folder


@contextmanager
def _asleep(lm: LM | None) -> Iterator[None]:
    """Has the language model give back its memory for a block."""
    engine = None if lm is None else lm.engine()
    if engine is not None:
        engine.sleep()
    try:
        yield
    finally:
        if engine is not None:
            engine.wake()
