"""`homefire index search`: the passages of an index that fit a query, with their scores and the query's words marked.

Knows no language model and no way of searching.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.text import Text

from homefire.where_option import HELP as WHERE_HELP
from homefire.where_option import where_of

if TYPE_CHECKING:
    from homefire.retrieval.excerpt import Highlighter
    from homefire.retrieval.index import Index
    from homefire.retrieval.reranker import Reranker

IndexPath = Annotated[Path, typer.Argument(metavar="INDEX", help="Directory of the index.", show_default=False)]
MethodName = Literal["fused", "dense", "bm25", "late"]
Method = Annotated[MethodName | None, typer.Option(help="How to search; without it the index's own way.", show_default=False)]
Where = Annotated[list[str] | None, typer.Option(metavar="FIELD=VALUE", help=WHERE_HELP)]
Rerank = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD|MODEL", help="Rank the best anew: by another method of the index, or by a cross-encoder.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Whole = Annotated[bool, typer.Option("--whole", help="Show passages whole instead of the piece that has the query's words.")]


def search(
    index: IndexPath,
    query: Annotated[str, typer.Argument(help="What to look for.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, help="How many passages.")] = 5,
    method: Method = None,
    where: Where = None,
    rerank: Rerank = None,
    whole: Whole = False,
    as_json: Json = False,
) -> None:
    """Find the passages that fit a query best."""
    from homefire.hit_display import record, show_hits
    from homefire.retrieval.index import Index

    opened = Index.open(index)
    filtered = where_of(where)
    start = time.perf_counter()
    if query.strip():
        _load(opened, method)
    reranker = reranker_of(rerank)
    loaded = time.perf_counter()
    hits = opened.search([query], k, method=method, where=filtered, rerank=reranker)[0]
    seconds = loaded - start, time.perf_counter() - loaded
    if as_json:
        print(json.dumps([record(hit) for hit in hits], indent=2, ensure_ascii=False, default=str))
        return
    console = Console(highlight=False)
    show_hits(hits, highlighter(query, opened), console, whole=whole)
    said = _nothing(opened, query) or _summary(opened, len(hits), method, filtered is not None, seconds)
    console.print(Text(said, style="dim"))


def highlighter(query: str, index: Index) -> Highlighter:
    """Marks the query's words as the index's BM25 sees them."""
    from homefire.retrieval.excerpt import Highlighter
    from homefire.retrieval.words import Analyzer

    return Highlighter(query, Analyzer.of(index.manifest.language))


def reranker_of(name: str | None) -> str | Reranker | None:
    """What ranks anew: a method of the index by its name, or a model.

    Raises:
        UnknownModel: the model is not on this machine.
    """
    from homefire.retrieval.index_manifest import METHODS
    from homefire.retrieval.reranker import CrossEncoderReranker

    return name if name is None or name in (*METHODS, "fused") else CrossEncoderReranker(name)


def _load(index: Index, method: str | None) -> None:
    """Loads the encoders that the method needs, as far as the index has them: a search alone takes far less time."""
    held = index.manifest.methods
    needed = held if (method or index.manifest.default_method) == "fused" else (method or index.manifest.default_method,)
    if "dense" in needed and "dense" in held:
        _ = index.encoder
    if "late" in needed and "late" in held:
        _ = index.token_encoder


def _nothing(index: Index, query: str) -> str:
    """Why nothing can be found, if so."""
    if not len(index):
        return f"The index is empty. Add documents: homefire index add {index.directory} PATH..."
    return "" if query.strip() else "The query is empty. Write some words to look for."


def _summary(index: Index, found: int, method: str | None, filtered: bool, seconds: tuple[float, float]) -> str:
    chosen = method or index.manifest.default_method
    by = f"{chosen} ({', '.join(index.manifest.methods)})" if chosen == "fused" else chosen
    among = f"{len(index):,} passages" + (", filtered," if filtered else "")
    return f"{found or 'None'} of {among} by {by} in {1000 * seconds[1]:,.0f} ms, after {seconds[0]:.1f} s of loading"
