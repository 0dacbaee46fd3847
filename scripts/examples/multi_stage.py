"""Multi-stage pipelines: an article is planned, drafted and edited. Run: .venv/bin/python scripts/examples/multi_stage.py

Three small signatures make one program. The sections are drafted at the same time, as one batch of the engine; how many there are is the
model's to say, within the limits of the outline. A topic may follow the command.
"""

from __future__ import annotations

from typing import Annotated

import typer
from example_setup import ModelOption, TokensOption, run
from pydantic import Field
from rich.console import Console
from rich.markdown import Markdown

import homefire
from homefire import InputField, OutputField, Predict, Prediction, Signature

Heading = Annotated[str, Field(min_length=1, max_length=60)]


class Outline(Signature):
    """Plan a short article."""

    topic: str = InputField()
    title: Heading = OutputField()
    headings: list[Heading] = OutputField(desc="of the sections", min_length=2, max_length=4)


class Section(Signature):
    """Write this section of the article."""

    title: str = InputField(desc="of the article")
    outline: list[str] = InputField(desc="all sections")
    heading: str = InputField(desc="the section to write")
    text: str = OutputField(desc="one paragraph")


class Edit(Signature):
    """Edit the draft: one voice, no repetition, nothing left out."""

    draft: str = InputField()
    article: str = OutputField(desc="the whole article in Markdown")


class Writer(homefire.Module):
    """Outlines, drafts all sections at once, then edits.

    Args:
        max_tokens: Most tokens of the outline and of each section; the article may have as many as four sections.
    """

    def __init__(self, max_tokens: int = 96) -> None:
        self.outline = Predict(Outline, max_tokens=max_tokens)
        self.section = Predict(Section, max_tokens=max_tokens)
        self.edit = Predict(Edit, max_tokens=4 * max_tokens)

    def forward(self, topic: str) -> Prediction:
        plan = self.outline(topic=topic)
        wanted = [{"title": plan.title, "outline": plan.headings, "heading": heading} for heading in plan.headings]
        drafts = self.section.batch(wanted, max_errors=1, disable_progress_bar=True)
        sections = [draft.text for draft in drafts]
        draft = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in zip(plan.headings, sections, strict=True))
        edited = self.edit(draft=f"# {plan.title}\n\n{draft}")
        return edited.copy(title=plan.title, headings=plan.headings, sections=sections)


def main(
    topic: Annotated[str, typer.Argument(help="What to write about.")] = "Why cities plant trees",
    model: ModelOption = "smollm2-135m",
    max_tokens: TokensOption = 96,
) -> Prediction:
    """Write a short article."""
    homefire.configure(lm=homefire.LM(model))
    written = Writer(max_tokens)(topic=topic)
    console = Console()
    console.print("Outline:", " / ".join([written.title, *written.headings]), markup=False)
    console.print(Markdown(written.article))
    return written


if __name__ == "__main__":
    run(main)
