"""What code in a recursive language model may call: the model itself, within a budget, and SUBMIT.

Knows no interpreter and no prompt format; a question is a plain turn of the user.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from homefire.engine.lm import LM
from homefire.engine.request import Message, Request
from homefire.errors import InputError
from homefire.modules.interpreter import Direct
from homefire.modules.signature import Signature
from homefire.modules.submission import Submission


class RlmCalls:
    """The functions of one run.

    Args:
        signature: Whose outputs SUBMIT takes.
        model: Gives the LM that answers, when it is first asked.
        most: Most questions.
    """

    def __init__(self, signature: type[Signature], model: Callable[[], LM], most: int) -> None:
        self.submission = Submission(signature)
        self._model = model
        self._left = self._most = most
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Questions so far."""
        return self._most - self._left

    def functions(self) -> dict[str, Callable[..., Any]]:
        """The functions by the name that code calls them by."""
        return {"llm_query": Direct(self.query), "llm_query_batched": Direct(self.query_batched), "SUBMIT": self.submission.function}

    def query(self, prompt: str) -> str:
        """What the model says to a prompt.

        Raises:
            InputError: no text, or the budget is used up.
        """
        return self.query_batched([prompt])[0]

    def query_batched(self, prompts: Sequence[str]) -> list[str]:
        """What the model says to each of some prompts, all of which are one batch of the engine.

        Raises:
            InputError: not a list of texts, or more than the budget has left; then none is asked.
        """
        if not isinstance(prompts, list | tuple) or not all(isinstance(prompt, str) and prompt.strip() for prompt in prompts):
            raise InputError("A prompt is a text that is not empty: llm_query('...'), llm_query_batched(['...', '...']).")
        with self._lock:
            if len(prompts) > self._left:
                raise InputError(
                    f"{len(prompts)} calls of the model were asked for, but {self._left} of {self._most} are left. "
                    "Work with what you have in Python, then call SUBMIT."
                )
            self._left -= len(prompts)
        if not prompts:
            return []
        model = self._model()
        sampling = model.sampling()
        requests = [Request(messages=(Message("user", prompt),), sampling=sampling, adapter=model.adapter) for prompt in prompts]
        return [completions[0].text for completions in model.generate(requests)]
