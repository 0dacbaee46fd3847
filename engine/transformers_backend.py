"""transformers as a backend, grammars through Outlines: for machines that vLLM has no package for.

Knows no threads. All rows are computed together, a token a step, each with its own sampling, grammar and random source; new requests join
between two tokens, and finished or cancelled ones leave.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homefire.configs.console import quiet_libraries
from homefire.engine.drawing import draw, penalize, random_source
from homefire.engine.key_value_batch import KeyValueBatch, free_memory, is_out_of_memory
from homefire.engine.outlines_grammar import Guide, Guides
from homefire.engine.prompt import PromptEncoder
from homefire.engine.request import Completion, FinishReason, Request, Sampling
from homefire.engine.settings import ChosenSettings
from homefire.engine.threaded_engine import Emit, Ended
from homefire.errors import EngineError, MissingExtra


@dataclass(eq=False, slots=True, kw_only=True)
class _Asked:
    """A request, and what has been completed of it."""

    request_id: str
    prompt_ids: list[int]
    sampling: Sampling
    stream: bool
    done: dict[int, Completion] = field(default_factory=dict)


@dataclass(eq=False, slots=True, kw_only=True)
class _Row:
    """One sample of a request."""

    asked: _Asked
    index: int
    guide: Guide | None
    source: Any
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Scoring:
    request_id: str
    prompt_ids: list[int]
    tails: list[list[int]]


class TransformersBackend:
    """A loaded model.

    Args:
        path: Checkpoint folder.
        settings: What to run with.

    Raises:
        EngineError: transformers cannot load the model.
        MissingExtra: transformers or Outlines is not installed.
    """

    def __init__(self, path: Path, settings: ChosenSettings) -> None:
        quiet_libraries()
        try:
            import torch
            import transformers  # noqa: F401  named here where it is missing
        except ImportError as error:
            raise MissingExtra(error.name or "transformers", "transformers", "The transformers engine") from error
        self._torch: Any = torch
        self._settings = settings
        if settings.core_count:
            torch.set_num_threads(settings.core_count)
        self._encoder = PromptEncoder(path)
        self._seeds = random.Random(settings.seed)
        self._draws_on = "cuda" if settings.device == "cuda" else "cpu"
        self._most_rows = settings.max_batch
        self._waiting: deque[_Row] = deque()
        self._rows: list[_Row] = []
        self._scorings: deque[_Scoring] = deque()
        self._model: Any = None
        self._batch: Any = None
        self.load_weights(path)
        self._guides = Guides(self._model, self._encoder.tokenizer, self._encoder.special_ids, self._draws_on)

    def add(self, request_id: str, prompt_ids: list[int], sampling: Sampling, request: Request, stream: bool) -> None:
        asked = _Asked(request_id=request_id, prompt_ids=prompt_ids, sampling=sampling, stream=stream)
        seed = self._seeds.getrandbits(62) if sampling.seed is None else sampling.seed
        if not self._rows and not self._waiting:
            self._most_rows = self._settings.max_batch
        for index in range(sampling.n):
            guide = None if request.grammar is None else self._guides.guide(request.grammar)
            self._waiting.append(_Row(asked=asked, index=index, guide=guide, source=random_source(seed, index, self._draws_on)))

    def score(self, request_id: str, prompt_ids: list[int], tails: list[list[int]], request: Request) -> None:
        self._scorings.append(_Scoring(request_id, prompt_ids, tails))

    def step(self, emit: Emit) -> list[tuple[str, Ended]]:
        ended: list[tuple[str, Ended]] = [self._scored(self._scorings.popleft())] if self._scorings else []
        failed: dict[_Asked, Exception] = {}
        if self._rows or self._waiting:
            logits = self._compute(failed)
            ended += self._finished(self._drawn(logits, failed, emit), failed)
        ended += [(asked.request_id, _explained(error)) for asked, error in failed.items()]
        return ended

    def abort(self, request_id: str) -> None:
        self._scorings = deque(one for one in self._scorings if one.request_id != request_id)
        self._waiting = deque(row for row in self._waiting if row.asked.request_id != request_id)
        self._keep([row for row in self._rows if row.asked.request_id != request_id])

    def load_weights(self, path: Path) -> None:
        from transformers import AutoModelForCausalLM

        self._model = self._batch = None  # so that there is room for the new weights
        dtype = getattr(self._torch, self._settings.dtype)
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True)
            self._model = model.to(self._settings.device).eval()
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"transformers cannot load the model in {path}: {error}") from error
        self._batch = KeyValueBatch(self._model, self._settings.device)
        ends = self._model.generation_config.eos_token_id
        self._ends = self._encoder.eos_ids | ({ends} if isinstance(ends, int) else set(ends or ()))

    def sleep(self) -> None:
        self._model.to("cpu")
        free_memory()

    def wake(self) -> None:
        self._model.to(self._settings.device)

    def close(self) -> None:
        self._waiting.clear()
        self._scorings.clear()
        self._rows = []
        del self._model, self._batch, self._guides

    def _scored(self, one: _Scoring) -> tuple[str, Ended]:
        try:
            return one.request_id, self._batch.score(one.prompt_ids, one.tails, self._settings.max_batch)
        except Exception as error:
            return one.request_id, _explained(error)

    def _compute(self, failed: dict[_Asked, Exception]) -> list[Any]:
        """Logits (n_vocabulary,) of the next token of every row; the rows that join come last.

        Where the memory does not suffice for all of them, half of them wait again.
        """
        parts: list[Any] = []
        if self._rows:
            rows = self._rows
            try:
                parts += self._batch.forward([row.tokens[-1] for row in rows]).to(self._draws_on)
            except Exception as error:
                self._keep([])
                self._put_back(rows, error, failed)
        while joining := self._joining():
            groups = _by_prompt(joining)
            try:
                prompts = [[*group[0].asked.prompt_ids, *group[0].tokens] for group in groups]
                parts += self._batch.join(prompts, list(map(len, groups))).to(self._draws_on)
                self._rows = [*self._rows, *joining]
            except Exception as error:
                self._put_back(joining, error, failed)
        return parts

    def _joining(self) -> list[_Row]:
        """The rows that can join now, oldest first."""
        if self._rows and not self._batch.can_grow:
            return []
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most_rows - len(self._rows)))]

    def _put_back(self, rows: Sequence[_Row], error: Exception, failed: dict[_Asked, Exception]) -> None:
        """Lets rows wait that the memory did not suffice for, with what they have, so that half of them can go on; or fails them."""
        alone = len(rows) == 1 and not self._rows
        if alone or not is_out_of_memory(error):
            failed |= dict.fromkeys((row.asked for row in rows), error)
            return
        self._waiting.extendleft(reversed(rows))
        self._most_rows = len(self._rows) + len(rows) // 2
        free_memory()

    def _drawn(self, logits: Sequence[Any], failed: dict[_Asked, Exception], emit: Emit) -> list[_Row]:
        """Gives every row its next token; returns the rows that have got one."""
        drawn: list[tuple[_Row, Any, Any]] = []
        for row, line in zip(self._rows, logits, strict=True):
            if row.asked not in failed:
                try:
                    drawn.append((row, *self._next(row, line)))
                except Exception as error:
                    failed[row.asked] = error
        if not drawn:
            return []
        tokens = self._torch.stack([token for _, token, _ in drawn]).tolist()
        logprobs = self._torch.stack([logprob for _, _, logprob in drawn]).tolist()
        for (row, _, _), token, logprob in zip(drawn, tokens, logprobs, strict=True):
            row.tokens.append(token)
            row.logprobs.append(min(logprob, 0.0))
            if row.asked.stream:
                emit(row.asked.request_id, row.index, [token])
        return [row for row, _, _ in drawn]

    def _next(self, row: _Row, logits: Any) -> tuple[Any, Any]:
        """A row's next token and its log-probability among those that the grammar allows; logits (n_vocabulary,)."""
        sampling, prompt = row.asked.sampling, row.asked.prompt_ids
        if row.guide is not None:
            row.guide.allow((row.tokens or prompt)[-1], logits)
        logprobs = logits.log_softmax(-1) if sampling.logprobs else self._torch.zeros(1).expand(len(logits))
        if sampling.repetition_penalty != 1:
            penalize(logits, [*prompt, *row.tokens], sampling.repetition_penalty)
        token = draw(logits, sampling, row.source) if sampling.temperature > 0 else logits.argmax()
        return token, logprobs[token]

    def _finished(self, drawn: Sequence[_Row], failed: dict[_Asked, Exception]) -> list[tuple[str, Ended]]:
        """The requests whose last sample has ended; the rows that go on are kept."""
        going, ended = [], list[tuple[str, Ended]]()
        for row in drawn:
            asked = row.asked
            if asked in failed:
                continue
            if (reason := self._reason(row)) is None:
                going.append(row)
                continue
            asked.done[row.index] = Completion(
                text="",
                token_ids=tuple(row.tokens),
                finish_reason=reason,
                prompt_tokens=len(asked.prompt_ids),
                logprobs=tuple(row.logprobs) if asked.sampling.logprobs else None,
                completion_tokens=len(row.tokens),
            )
            if len(asked.done) == asked.sampling.n:
                ended.append((asked.request_id, [asked.done[index] for index in range(asked.sampling.n)]))
        self._waiting = deque(row for row in self._waiting if row.asked not in failed)
        self._keep(going)
        return ended

    def _reason(self, row: _Row) -> FinishReason | None:
        """Why a row has ended; None while it has not."""
        sampling = row.asked.sampling
        if row.tokens[-1] in self._ends:
            return "stop"
        if sampling.stop:
            text = self._encoder.decode(row.tokens)
            if any(word in text for word in sampling.stop):
                return "stop"
        return "length" if len(row.tokens) >= sampling.max_tokens else None

    def _keep(self, rows: list[_Row]) -> None:
        stay = set(map(id, rows))
        self._batch.keep([place for place, row in enumerate(self._rows) if id(row) in stay])
        self._rows = rows


def _by_prompt(rows: Sequence[_Row]) -> list[list[_Row]]:
    """Rows side by side, the samples of one request that have no token yet together: their prompt is computed once."""
    groups: list[list[_Row]] = []
    for row in rows:
        if groups and not row.tokens and not groups[-1][0].tokens and groups[-1][0].asked is row.asked:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _explained(error: Exception) -> Exception:
    if not is_out_of_memory(error):
        return error
    problem = "The memory does not suffice for one request alone. Shorten its prompt, or start the model with a smaller number type"
    return EngineError(f"{problem}: LM(..., settings=EngineSettings(dtype='bfloat16')). PyTorch said: {error}")
