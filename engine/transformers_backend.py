"""transformers as a backend, grammars through Outlines: for machines that vLLM has no package for.

Knows no threads. Requests that wait together and are drawn alike run as one batch, to its end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from homefire.configs.console import quiet_libraries
from homefire.engine.grammar import Grammar
from homefire.engine.request import Completion, Request, Sampling
from homefire.engine.settings import ChosenSettings
from homefire.errors import EngineError, MissingExtra


@dataclass(frozen=True, slots=True)
class _Waiting:
    request_id: str
    prompt_ids: list[int]
    sampling: Sampling
    grammar: Grammar | None

    @property
    def kind(self) -> tuple[Sampling, Grammar | None]:
        """Requests of one kind can share a batch; how long each may become is its own affair."""
        return replace(self.sampling, max_tokens=1), self.grammar


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
            import outlines
            import torch
            import xgrammar  # noqa: F401  Outlines compiles GBNF with it
            from transformers import AutoTokenizer
        except ImportError as error:
            raise MissingExtra(error.name or "transformers", "transformers", "The transformers engine") from error
        self._torch: Any = torch
        self._outlines: Any = outlines
        self._settings = settings
        if settings.core_count:
            torch.set_num_threads(settings.core_count)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self._waiting: list[_Waiting] = []
        self._model: Any = None
        self._steerable: Any = None
        self.load_weights(path)

    def add(self, request_id: str, prompt_ids: list[int], sampling: Sampling, request: Request) -> None:
        self._waiting.append(_Waiting(request_id, prompt_ids, sampling, request.grammar))

    def step(self) -> list[tuple[str, list[Completion] | Exception]]:
        kind = self._waiting[0].kind
        batch = [one for one in self._waiting if one.kind == kind][: self._settings.max_batch]
        taken = {one.request_id for one in batch}
        self._waiting = [one for one in self._waiting if one.request_id not in taken]
        try:
            return self._generate(batch)
        except Exception as error:
            return [(one.request_id, error) for one in batch]

    def abort(self, request_id: str) -> None:
        self._waiting = [one for one in self._waiting if one.request_id != request_id]

    def load_weights(self, path: Path) -> None:
        from transformers import AutoModelForCausalLM

        self._model = self._steerable = None  # so that there is room for the new weights
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(self._torch, self._settings.dtype), local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineError(f"transformers cannot load the model in {path}: {error}") from error
        self._model = model.to(self._settings.device).eval()
        self._steerable = self._outlines.from_transformers(self._model, self._tokenizer)
        self._compiler = lru_cache(maxsize=256)(self._compile)

    def sleep(self) -> None:
        self._model.to("cpu")

    def wake(self) -> None:
        self._model.to(self._settings.device)

    def close(self) -> None:
        self._waiting = []
        del self._model, self._steerable

    def _compile(self, grammar: Grammar) -> Any:
        from outlines.backends import get_cfg_logits_processor

        return get_cfg_logits_processor("xgrammar", self._steerable, grammar.gbnf)

    def _generate(self, batch: list[_Waiting]) -> list[tuple[str, list[Completion] | Exception]]:
        torch, sampling = self._torch, batch[0].sampling
        longest = max(len(one.prompt_ids) for one in batch)
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else self._tokenizer.eos_token_id
        ids = torch.tensor([[pad] * (longest - len(one.prompt_ids)) + one.prompt_ids for one in batch], device=self._settings.device)
        mask = torch.tensor(
            [[0] * (longest - len(one.prompt_ids)) + [1] * len(one.prompt_ids) for one in batch], device=self._settings.device
        )
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max(one.sampling.max_tokens for one in batch),
                pad_token_id=pad,
                return_dict_in_generate=True,
                output_logits=sampling.logprobs,
                **self._drawing(sampling, batch[0].grammar),
            )
        rows = output.sequences[:, longest:].reshape(len(batch), sampling.n, -1)
        logprobs = self._logprobs(output, rows) if sampling.logprobs else None
        ended: list[tuple[str, list[Completion] | Exception]] = []
        for index, one in enumerate(batch):
            said = [None] * sampling.n if logprobs is None else logprobs[index].tolist()
            ended.append((one.request_id, [self._completion(one, ids, said[i]) for i, ids in enumerate(rows[index].tolist())]))
        return ended

    def _drawing(self, sampling: Sampling, grammar: Grammar | None) -> dict[str, Any]:
        """The arguments of `generate` that say how tokens are drawn."""
        arguments: dict[str, Any] = {"do_sample": sampling.temperature > 0, "num_return_sequences": sampling.n}
        if sampling.temperature > 0:
            arguments |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        if sampling.stop:
            arguments |= {"stop_strings": list(sampling.stop), "tokenizer": self._tokenizer}
        if grammar is not None:
            processor = self._compiler(grammar)
            processor.reset()
            arguments["logits_processor"] = [processor]
        return arguments

    def _logprobs(self, output: Any, rows: Any) -> Any:
        logits = self._torch.stack(output.logits, dim=1).float()  # (batch * n, n_tokens, vocabulary)
        chosen = logits.log_softmax(-1).gather(-1, rows.reshape(logits.shape[0], -1, 1))
        return chosen.reshape(rows.shape)

    def _completion(self, one: _Waiting, ids: list[int], logprobs: list[float] | None) -> Completion:
        ends = self._model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else set(ends or [])
        stop = next((index + 1 for index, token in enumerate(ids) if token in ends), None)
        count = min(stop or len(ids), one.sampling.max_tokens)
        text = self._tokenizer.decode(ids[:count], skip_special_tokens=True)
        for word in one.sampling.stop:
            text = text.split(word)[0]
        stopped = (stop is not None and stop <= count) or any(word in self._tokenizer.decode(ids[:count]) for word in one.sampling.stop)
        return Completion(
            text=text,
            token_ids=tuple(ids[:count]),
            finish_reason="stop" if stopped else "length",
            prompt_tokens=len(one.prompt_ids),
            logprobs=None if logprobs is None else tuple(logprobs[:count]),
        )
