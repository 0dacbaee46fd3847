"""Stand-ins for tests under the names that DSPy's users know: DummyLM, DummyVectorizer, dummy_rm.

Knows no engine but the scripted one. New tests are written with `ScriptedLM`, which also says what is wrong.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from homefire.engine.request import Message, Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError
from homefire.modules.example import Example
from homefire.modules.format import Format
from homefire.modules.settings import current
from homefire.modules.signature import Field, make_signature
from homefire.modules.tool_schema import AnyJson

Answers = Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]]


class DummyLM(ScriptedLM):
    """An LM that answers with these outputs, in whatever format is asked for.

    >>> from homefire.modules.predict import Predict
    >>> predict = Predict("question -> answer")
    >>> predict.lm = DummyLM([{"answer": "red"}])
    >>> predict(question="Which colour?").answer
    'red'

    Args:
        answers: Outputs, one for each completion in order; or outputs by a text that stands in the last message.
        follow_examples: Whether a prompt that was a demo before is answered as in the demo.
        adapter: The format; that of the settings where None.
    """

    def __init__(self, answers: Answers, follow_examples: bool = False, *, adapter: Format | None = None) -> None:
        self._left = None if isinstance(answers, Mapping) else list(answers)
        self._known = answers if isinstance(answers, Mapping) else {}
        self._follows, self._form = follow_examples, adapter
        super().__init__(self._said)

    def get_convo(self, index: int) -> tuple[list[dict[str, Any]], list[str]]:
        """The messages of a call, and what was answered."""
        entry = self.history[index]
        return entry["messages"], entry["outputs"]

    def _said(self, request: Request) -> str:
        asked = request.messages[-1].content
        if self._follows and (shown := _shown(request.messages)) is not None:
            return shown
        if self._left is None:
            found = next((outputs for key, outputs in self._known.items() if key in asked), None)
            if found is None:
                raise InputError(f"This DummyLM has no answer to {asked!r:.200}; it has one for: {', '.join(map(repr, self._known))}.")
            return self._written(found)
        if not self._left:
            raise InputError("This DummyLM has no answers left. Give it one for each completion.")
        return self._written(self._left.pop(0))

    def _written(self, outputs: Mapping[str, Any]) -> str:
        fields = [Field(name, str if isinstance(value, str) else AnyJson, "output") for name, value in outputs.items()]
        return (self._form or current().format).answer(make_signature(fields), outputs)


class DummyVectorizer:
    """Vectors of texts by the pieces of letters in them, for tests: equal texts are equal vectors, and no model is needed.

    Args:
        max_length: Dimensions.
        n_gram: Letters of a piece.
    """

    def __init__(self, max_length: int = 100, n_gram: int = 2) -> None:
        self.max_length, self.n_gram = max_length, n_gram

    def __call__(self, texts: Sequence[str]) -> Any:
        """A numpy array `(n_texts, max_length)` of vectors of length 1."""
        import numpy as np

        counts = np.zeros((len(texts), self.max_length), dtype=np.float32)
        for row, text in zip(counts, texts, strict=True):
            for start in range(len(text) - self.n_gram + 1):
                row[zlib.crc32(text[start : start + self.n_gram].encode()) % self.max_length] += 1
        centred = counts - counts.mean(axis=1, keepdims=True)
        return centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-10)


def dummy_rm(passages: Sequence[str] = ()) -> Callable[..., list[Example]]:
    """A retriever over these texts, for tests: `rm(query, k=3)` gives the nearest, each with a field `long_text`."""
    vectorize = DummyVectorizer()
    vectors = vectorize(passages) if passages else None

    def search(query: str, *, k: int = 3, **options: Any) -> list[Example]:
        if vectors is None:
            raise InputError("This dummy_rm has no passages. Write dummy_rm(['a text', 'another one']).")
        scores = vectors @ vectorize([query])[0]
        return [Example(long_text=passages[place]) for place in (-scores).argsort(kind="stable")[:k]]

    return search


def _shown(messages: Sequence[Message]) -> str | None:
    """The answer of the last demo with the same inputs."""
    for asked, answered in reversed(list(pairwise(messages))):
        if (asked.role, answered.role) == ("user", "assistant") and asked.content == messages[-1].content:
            return answered.content
    return None
