"""`homefire index tune`: the encoder of an index taught on the index's own passages, with questions that a local model writes.

Knows no training: `tune` does it and says what came out.
"""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from homefire.cli_index_search import IndexPath

Kind = Literal["dense", "both", "late"]


def tune(
    index: IndexPath,
    out: Annotated[
        str | None, typer.Option(help="Folder of the tuned encoder, or a name for it; default: made of both names.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model that writes the questions; default: the default one.", show_default=False)
    ] = None,
    config: Annotated[str | None, typer.Option(help="Preset (laptop, gpu-server) or YAML file.", show_default=False)] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(help="What is taught: the vector of a passage, also those of its tokens, or a ColBERT model.", show_default=False),
    ] = None,
    passages: Annotated[int, typer.Option(min=4, help="Most passages that questions are written about.")] = 1000,
    questions: Annotated[int, typer.Option(min=1, help="Most questions about one passage.")] = 3,
    holdout: Annotated[float, typer.Option(help="Share of the passages to judge by.")] = 0.2,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the questions.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-5,
    rank: Annotated[int | None, typer.Option(min=1, help="Train a LoRA adapter of this rank and merge it.", show_default=False)] = None,
    apply: Annotated[bool, typer.Option("--apply/--no-apply", help="Build the index again with the encoder if it is better.")] = True,
    seed: Annotated[int, typer.Option(help="Decides the passages, the hold-out and the training.")] = 0,
) -> None:
    """Teach the encoder on the index's own passages; the index is built again only if held-out questions find their passages better.

    Leaves with 0 also when it is not better. The same command goes on where an interrupted one ended.
    """
    from homefire.configs.load import load, model_name
    from homefire.engine.lm import LM
    from homefire.engine.settings import EngineSettings
    from homefire.optimizers import encoder_tuning
    from homefire.retrieval.index import Index

    settings = encoder_tuning.TuneSettings(
        kind=kind,
        passages=passages,
        questions=questions,
        holdout=holdout,
        epochs=epochs,
        learning_rate=learning_rate,
        lora_rank=rank,
        seed=seed,
    )
    opened = Index.open(index)
    engine = load(config, EngineSettings, "engine") if config else EngineSettings()
    lm = LM(model or (model_name(config) if config else None), settings=engine)
    report = encoder_tuning.tune(opened, out, lm=lm, settings=settings, apply=apply)
    console = Console(highlight=False)
    console.print(Text(str(report)), soft_wrap=True)
