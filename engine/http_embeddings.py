"""Embeddings over HTTP: vectors of texts from a model on a server that speaks OpenAI's protocol.

Knows no corpus and no index; the connection, its retries and its errors are those of `HttpEngine`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from homefire.engine.http_engine import HttpEngine
from homefire.errors import ServerError


def embedded(engine: HttpEngine, texts: Sequence[str], options: Mapping[str, Any]) -> list[list[float]]:
    """One vector a text, in the order of the texts.

    Args:
        engine: The engine of the model.
        texts: What to embed, in one request.
        options: More fields of the request, such as `dimensions`.

    Raises:
        ServerError: the server refused, or answered with something that is not that.
    """
    return _vectors(_asked(engine, texts, options).result(), len(texts), engine)


async def aembedded(engine: HttpEngine, texts: Sequence[str], options: Mapping[str, Any]) -> list[list[float]]:
    """As `embedded`, awaited."""
    return _vectors(await asyncio.wrap_future(_asked(engine, texts, options)), len(texts), engine)


def _asked(engine: HttpEngine, texts: Sequence[str], options: Mapping[str, Any]) -> Future[object]:
    return engine.embed({"input": list(texts), "encoding_format": "float", **options})


def _vectors(answer: object, count: int, engine: HttpEngine) -> list[list[float]]:
    data = answer.get("data") if isinstance(answer, dict) else None
    entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
    found = {entry.get("index", place): entry.get("embedding") for place, entry in enumerate(entries)}
    vectors = [found.get(place) for place in range(count)]
    wrong = [place for place, vector in enumerate(vectors) if not (isinstance(vector, list) and vector and all(map(_is_number, vector)))]
    if wrong or len({len(vector) for vector in vectors if isinstance(vector, list)}) > 1:
        what = f"no numbers for text {wrong[0]} of {count}" if wrong else "vectors of different lengths"
        raise ServerError(f"{engine.where} answered with {what}; expected an embedding for each text. Is it a model for embeddings?")
    return [vector for vector in vectors if isinstance(vector, list)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
