"""Trains the encoder of an index on questions and their passages, through sentence-transformers' own trainer.

Knows no index and no language model: rows of texts in, a folder that any sentence-transformers program loads out.

The losses tell a question's passage from the others of its batch and from its hard negatives: in-batch negatives for the vectors of texts
(Henderson et al., arXiv 1705.00652), the same over MaxSim for those of tokens (ColBERT, arXiv 2004.12832, section 3.3).
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from homefire.configs.console import Task, progress, quiet_libraries
from homefire.configs.home import atomic_directory
from homefire.errors import InputError, MissingExtra, TrainingError
from homefire.optimizers.train_machine import encoder_lora, merge_lora

if TYPE_CHECKING:
    import torch

Kind = Literal["dense", "both", "late"]
_CHECKPOINTS = 4
"""Times that a run is saved on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRow:
    """What one question teaches."""

    question: str
    positive: str
    """The passage that answers it."""
    negatives: tuple[str, ...] = ()
    """Passages that look as if; as many in every row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRun:
    """How to train."""

    base: str
    """Folder or name of the model to begin with."""
    kind: Kind
    """`dense` teaches the vector of a text, `both` also those of its tokens, `late` a ColBERT model."""
    epochs: int
    batch_size: int
    learning_rate: float
    lora_rank: int | None
    seed: int
    most_steps: int | None = None
    """Ends the run early."""
    prompts: tuple[str, str] = ("", "")
    """What is put before queries and before passages, where the model does not say so itself."""
    fresh: bool = False
    """Whether a `late` model is to be made of one that gives a vector a text."""


def train_encoder(run: EncoderRun, rows: Sequence[EncoderRow], out: Path, work: Path) -> int:
    """Trains and writes the model to the folder `out`, which must not exist yet.

    Args:
        run: How.
        rows: What to learn; at least two.
        out: An ordinary sentence-transformers folder when it is done; LoRA is merged.
        work: Keeps checkpoints, from which the same call goes on after a stop; they are removed at the end.

    Returns:
        Steps of the whole run.

    Raises:
        MissingExtra: the libraries are not installed.
        InputError: too few rows, or a model that cannot be loaded or trained.
        TrainingError: the training failed.
    """
    if len(rows) < 2:
        raise InputError(f"There are {len(rows)} questions to learn from; expected at least 2. Ask about more passages.")
    quiet_libraries()
    library = _library()
    model = _load(library, run)
    if run.lora_rank is not None:
        encoder_lora(model, run.lora_rank)
    checkpoints = work / "checkpoints"
    with progress("Training the encoder") as bar:
        trainer = _trainer(library, run, model, rows, checkpoints, bar)
        last = _last(checkpoints)
        try:
            state = trainer.train(resume_from_checkpoint=None if last is None else str(last))
        except (RuntimeError, ValueError, OSError) as error:
            raise TrainingError(
                f"The encoder could not be trained: {type(error).__name__}: {error}. The same call goes on from the last checkpoint in "
                f"{checkpoints}; remove that folder to begin anew."
            ) from error
    if run.lora_rank is not None:
        merge_lora(model)
    with atomic_directory(out) as draft:
        model.save_pretrained(str(draft), create_model_card=False)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return int(state.global_step)


def _library() -> ModuleType:
    try:
        import accelerate  # noqa: F401
        import datasets  # noqa: F401
        import sentence_transformers
    except ImportError as error:
        raise MissingExtra(str(error.name), "train,retrieval", "Training an encoder") from error
    return sentence_transformers


def _load(library: ModuleType, run: EncoderRun) -> Any:
    made = library.MultiVectorEncoder if run.kind == "late" else library.SentenceTransformer
    given = {name: prompt for name, prompt in zip(("query", "document"), run.prompts, strict=True) if prompt}
    try:
        model = made(run.base, local_files_only=True, **({"prompts": given} if given else {}))
    except (OSError, ValueError) as error:
        raise InputError(f"The encoder {run.base!r} cannot be loaded for training: {error}. Give the folder of its model.") from error
    if run.kind == "late" and run.fresh:
        _keep_token_vectors(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"The encoder {run.base!r} has no weights that can be trained. Take another one.")
    return model


def _keep_token_vectors(model: Any) -> None:
    """Has a new ColBERT model begin with the token vectors as an index takes them from a plain encoder, which rank well already.

    It would begin with a random projection, and with the tokens that stand around every text.
    """
    import torch
    from sentence_transformers.base.modules.dense import Dense
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    for name, module in model.named_children():
        if isinstance(module, MultiVectorMask):
            module.skiplist_words = model.tokenizer.convert_ids_to_tokens(_around(model))
            module.skiplist_tasks = ["query", "document"]
            module.resolve_with_tokenizer(model.tokenizer)
        if isinstance(module, Dense):
            size = module.in_features
            whole = Dense(size, size, bias=False, activation_function=torch.nn.Identity(), init_weight=torch.eye(size))
            whole.module_input_name, whole.module_output_name = module.module_input_name, module.module_output_name
            setattr(model, name, whole.to(model.device))


def _trainer(library: ModuleType, run: EncoderRun, model: Any, rows: Sequence[EncoderRow], checkpoints: Path, bar: Task) -> Any:
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    multi = run.kind == "late"
    arguments = library.MultiVectorEncoderTrainingArguments if multi else library.SentenceTransformerTrainingArguments
    trainer = library.MultiVectorEncoderTrainer if multi else library.SentenceTransformerTrainer
    columns = _columns(rows)
    steps = _steps(run, len(rows))
    model.model_card_data.widget = [{"text": "none"}]  # its trainer would draw some, for a card that is not written
    made = trainer(
        model=model,
        args=arguments(
            output_dir=str(checkpoints),
            num_train_epochs=run.epochs,
            max_steps=run.most_steps or -1,
            per_device_train_batch_size=run.batch_size,
            learning_rate=run.learning_rate,
            warmup_steps=math.ceil(0.1 * steps),
            seed=run.seed,
            data_seed=run.seed,
            prompts=_prompts(model, columns),
            batch_sampler="no_duplicates",
            save_strategy="steps",
            save_steps=max(1, math.ceil(steps / _CHECKPOINTS)),
            save_total_limit=1,
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=model.device.type == "cpu",
            dataloader_pin_memory=model.device.type == "cuda",
            bf16=_half(model.device),
        ),
        train_dataset=Dataset.from_dict(columns),
        loss=_loss(model, run.kind),
        callbacks=[_shown_on(bar)],
    )
    made.remove_callback(PrinterCallback)
    return made


def _columns(rows: Sequence[EncoderRow]) -> dict[str, list[str]]:
    """The texts as the library takes them: questions first, then their passages, then the negatives."""
    negatives = {len(row.negatives) for row in rows}
    if len(negatives) > 1:
        raise InputError(f"The rows have {min(negatives)} to {max(negatives)} negatives; expected as many in each.")
    columns = {"question": [row.question for row in rows], "passage": [row.positive for row in rows]}
    return columns | {f"negative_{place + 1}": [row.negatives[place] for row in rows] for place in range(negatives.pop())}


def _steps(run: EncoderRun, rows: int) -> int:
    steps = run.epochs * math.ceil(rows / run.batch_size)
    return min(steps, run.most_steps or steps)


def _prompts(model: Any, columns: Mapping[str, object]) -> dict[str, str] | None:
    """The words that the model wants before queries and before passages, as it gets them when it encodes."""
    known = {name: text for name, text in model.prompts.items() if text}
    passage = next((known[name] for name in ("document", "passage", "corpus") if name in known), "")
    prompts = {name: known.get("query", "") if name == "question" else passage for name in columns}
    return prompts if any(prompts.values()) else None


def _half(device: torch.device) -> bool:
    """Whether products are bfloat16: on GPUs that know it."""
    import torch

    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def _loss(model: Any, kind: Kind) -> Any:
    if kind == "late":
        from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss

        return MultiVectorMultipleNegativesRankingLoss(model)
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    return MultipleNegativesRankingLoss(model) if kind == "dense" else _both(model, MultipleNegativesRankingLoss(model))


def _both(model: Any, of_texts: Any) -> Any:
    """The loss of the vectors of texts and, from the same run of the model, that of the vectors of their tokens by MaxSim."""
    import torch
    from sentence_transformers.multi_vector_encoder.scoring import colbert_scores
    from sentence_transformers.util import stack_padded_token_embeddings

    around = torch.tensor(_around(model), device=model.device)

    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.of_texts = of_texts

        def forward(self, sentence_features: Any, labels: Any = None) -> torch.Tensor:
            outputs = [self.model(dict(features)) for features in sentence_features]
            dense: torch.Tensor = self.of_texts.compute_loss_from_embeddings([one["sentence_embedding"] for one in outputs], labels)
            tokens = [torch.nn.functional.normalize(one["token_embeddings"], dim=-1) for one in outputs]
            masks = [one["attention_mask"].bool() & ~torch.isin(one["input_ids"], around) for one in outputs]
            passages, passage_masks = stack_padded_token_embeddings(tokens[1:], masks[1:])
            scores = colbert_scores(tokens[0], passages, queries_mask=masks[0], documents_mask=passage_masks)
            own = torch.arange(len(scores), device=scores.device) * len(tokens[1:])
            return dense + torch.nn.functional.cross_entropy(scores, own)

    return Both()


def _around(model: Any) -> list[int]:
    """Numbers of the tokens that the model puts around every text; an index searches without them."""
    tokenizer = model.tokenizer
    return sorted(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})


def _shown_on(bar: Task) -> Any:
    from transformers import TrainerCallback

    class Shown(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            bar.update(completed=state.global_step, total=state.max_steps)

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                bar.update(description=f"Training the encoder  loss {float(logs['loss']):.3f}")

    return Shown()


def _last(checkpoints: Path) -> Path | None:
    """The newest checkpoint that was written whole: the trainer writes its state last."""
    found = [path for path in checkpoints.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
