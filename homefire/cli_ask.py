"""`homefire ask`: a question answered from an index, with the passages that the answer was taken from.

Knows no way of searching and no prompt.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from annotated_types import MaxLen
from rich.console import Console
from rich.text import Text

from homefire.cli_index_search import IndexPath, Json, Method, Rerank, Where, Whole, highlighter, reranker_of
from homefire.errors import InputError
from homefire.where_option import where_of

_LONGEST = 800
"""Characters of an answer: small models do not always know when to end."""
_INSTRUCTIONS = (
    "Answer the question from the context: name the passages that have the answer, then answer in one to three sentences, from these "
    "passages alone. Say so if they do not have it."
)
"""Citations come first: a small model that has named the right passage answers from it more often."""


def ask(
    index: IndexPath,
    question: Annotated[str, typer.Argument(help="What you want to know.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, help="How many passages the model reads.")] = 4,
    model: Annotated[str | None, typer.Option(help="Model that answers; without it the default one.", show_default=False)] = None,
    config: Annotated[str | None, typer.Option(help="Preset (laptop, gpu-server) or YAML file.", show_default=False)] = None,
    method: Method = None,
    where: Where = None,
    rerank: Rerank = None,
    whole: Whole = False,
    as_json: Json = False,
) -> None:
    """Answer a question from an index: the answer, what it cites, and the passages the model read."""
    from homefire.hit_display import place, record, show_hits
    from homefire.modules.rag import RAG
    from homefire.modules.signature import Signature
    from homefire.retrieval.excerpt import shown
    from homefire.retrieval.index import Index
    from homefire.run_setup import choose_lm, running

    opened = Index.open(index)
    found = opened(question, k=k, method=method, where=where_of(where), rerank=reranker_of(rerank))
    if not found:
        raise InputError(f"Nothing in the index {str(index)!r} was found for that question, so there is nothing to answer from.")
    signature = Signature("context: list[str], question -> citations: list[int], answer", _INSTRUCTIONS)
    bounded = signature.with_updated_fields("answer", Annotated[str, MaxLen(_LONGEST)])
    program = RAG(lambda query, k: found, bounded, k=k)
    with running(choose_lm(program, model, None, config)):
        prediction = program(question=question)
    cited = {passage.id for passage in prediction.citations}
    if as_json:
        passages = [{**record(hit), "cited": hit.passage.id in cited} for hit in found]
        print(json.dumps({"question": question, "answer": prediction.answer, "passages": passages}, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False, markup=False)
    console.print(Text(shown(prediction.answer), style="bold"))
    names = Text(", ").join(Text.assemble(f"[{hit.rank}] ", place(hit.passage)) for hit in found if hit.passage.id in cited)
    console.print(Text.assemble("from ", names) if cited else Text("The answer cites none of the passages.", style="yellow"))
    console.print()
    show_hits(found, highlighter(question, opened), console, whole=whole, cited=cited)
