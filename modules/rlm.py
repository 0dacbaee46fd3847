"""RLM: a recursive language model, which explores its inputs as variables of a program (Zhang et al., arXiv 2512.24601).

Knows no particular interpreter. The prompt has only the type, the length and the beginning of each input, so that an input may be far
longer than the model's context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from homefire.configs.console import note
from homefire.engine.lm import LM
from homefire.errors import CodeExecutionError, ConfigError, ContextTooLong, InputError
from homefire.modules.code import code_in
from homefire.modules.code_act import tool_line
from homefire.modules.code_answer import transcript, typed
from homefire.modules.code_history import CodeHistory, CodeStep
from homefire.modules.code_program import Ask, CodeProgram, Run, Steps, Work, checked_inputs
from homefire.modules.example import Prediction
from homefire.modules.interpreter import CodeInterpreter, FinalOutput, Ran, Tools, named_tools
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.prompt_text import described
from homefire.modules.rlm_calls import RlmCalls
from homefire.modules.sandbox_values import clipped, shown
from homefire.modules.signature import Field, Signature, make_signature

_PREVIEW = 300


class RLM(CodeProgram):
    """Answers about inputs of any length: the model writes code that looks into them, asks the model about parts, and submits the outputs.

    The code has every input as a variable, and the functions `llm_query(prompt)`, `llm_query_batched(prompts)`, which is one batch of the
    engine, and `SUBMIT(...)`, whose values must have the types of the outputs. What does not is told to the model; where the steps run
    out, the outputs are extracted from what was seen, and `final_reasoning` says so. The prediction has the outputs, `trajectory` (a list
    of dicts with `reasoning`, `code`, `output`) and `final_reasoning`.

    Args:
        signature: A signature class or string.
        max_iters: Most snippets.
        max_llm_calls: Most prompts that the code may ask the model, in one call of this program.
        max_output_chars: Most characters of a snippet's output that the model is shown.
        verbose: Whether to print every step.
        tools: More functions or tools for the code.
        sub_lm: Answers `llm_query`; the LM of `generate_action` where None.
        interpreter: Runs the code of all calls and keeps its variables; None for a fresh sandbox each time.
        interpreter_factory: Makes the interpreter of each call.
        config: Sampling, as for `Predict`.
    """

    def __init__(
        self,
        signature: str | type[Signature],
        max_iters: int = 20,
        max_llm_calls: int = 50,
        max_output_chars: int = 10_000,
        verbose: bool = False,
        tools: Tools | None = None,
        sub_lm: LM | None = None,
        interpreter: CodeInterpreter | None = None,
        *,
        interpreter_factory: Callable[[], CodeInterpreter] | None = None,
        **config: Any,
    ) -> None:
        super().__init__(interpreter, interpreter_factory)
        if max_iters < 1 or max_llm_calls < 0 or max_output_chars < 1:
            raise ConfigError("max_iters and max_output_chars are whole numbers above 0, and max_llm_calls is 0 or more.")
        self.signature = Signature(signature)
        self.max_iters, self.max_llm_calls, self.max_output_chars = max_iters, max_llm_calls, max_output_chars
        self.verbose, self.sub_lm = verbose, sub_lm
        self.tools = named_tools(tools or {})
        if taken := [name for name in self.tools if name in ("llm_query", "llm_query_batched", "SUBMIT")]:
            raise ConfigError(f"A tool cannot be called {taken[0]!r}, which RLM brings. Give it another name: Tool(func, name='...').")
        seen = [Field("variables_info", str, "input"), Field("repl_history", str, "input")]
        step = [Field("iteration", str, "input"), Field("reasoning", str, "output", "what to do next, briefly")]
        code = Field("code", code_in("python"), "output", "the next few lines of Python")
        self.generate_action = Predict(make_signature([*seen, *step, code], self._task()), **config)
        outputs = list(self.signature.output_fields.values())
        answer = f"{self.signature.instructions}\n\nCode was run to find this out; answer from what it printed."
        self.extract = Predict(make_signature([*seen, *outputs], answer), **config)

    def work(self, inputs: Mapping[str, Any]) -> Work:
        _, plain = checked_inputs(self.signature, inputs)
        about = "\n".join(_about(self.signature.input_fields[name], inputs[name], value) for name, value in plain.items()) or "(none)"
        calls = RlmCalls(self.signature, self._sub_model, self.max_llm_calls)
        return Work(self._steps(plain, about, calls), {**self.tools, **calls.functions()})

    def _task(self) -> str:
        outputs = self.signature.output_fields.values()
        wanted = ", ".join(f"{field.name}=..." for field in outputs)
        types = "; ".join(f"{field.name}: {described(field)}" for field in outputs)
        lines = [
            self.signature.instructions,
            "",
            "Work in a Python session, a few lines at a time; variables stay. You see what each step prints. The inputs are variables: "
            "look at parts of them with print, never at all of a long one.",
            f"- SUBMIT({wanted}) ends the work. {types}.",
            f"- llm_query(prompt) asks a language model about a text; llm_query_batched(prompts) asks many at once; at most "
            f"{self.max_llm_calls} prompts in all.",
            *(f"- {tool_line(name, tool)}" for name, tool in self.tools.items()),
            self._language(),
        ]
        return "\n".join(lines).strip()

    def _sub_model(self) -> LM:
        return self.sub_lm or self.generate_action.language_model()

    def _steps(self, inputs: dict[str, Any], about: str, calls: RlmCalls) -> Steps:
        history = CodeHistory(self.max_output_chars)
        seen = {"variables_info": about}
        for index in range(1, self.max_iters + 1):
            last = "; the last step, call SUBMIT" if index == self.max_iters else ""
            step = {**seen, "iteration": f"{index} of {self.max_iters}{last}"}
            written: Prediction = yield from _asked(self.generate_action, step, history)
            code, lost = str(written.code), False
            try:
                ran: Ran = yield Run(code, inputs if history.needs_inputs else {})
            except CodeExecutionError as failure:
                output, lost = str(failure), failure.lost
            else:
                output = self._settled(ran, calls)
            history.add(CodeStep(code, output, written.reasoning, lost))
            if self.verbose:
                note(f"RLM step {index} of {self.max_iters}\n{code}\n{clipped(output, 1_000)}")
            if calls.submission.outputs is not None:
                return self._prediction(calls.submission.outputs, history, written.reasoning)
        answer: Prediction = yield from _asked(self.extract, seen, history)
        outputs = {name: answer[name] for name in self.signature.output_fields}
        return self._prediction(outputs, history, f"No SUBMIT within {self.max_iters} steps: extracted from what was seen.")

    def _settled(self, ran: Ran, calls: RlmCalls) -> str:
        """The output of a snippet; an interpreter that takes submissions itself is heard too."""
        if calls.submission.outputs is None and isinstance(ran.value, FinalOutput):
            try:
                calls.submission.outputs = typed(self.signature, self._by_name(ran.value.output))
            except InputError as error:
                return str(error)
        return transcript(ran) if calls.submission.outputs is None else calls.submission.text(ran)

    def _by_name(self, submitted: Any) -> Mapping[str, Any]:
        names = list(self.signature.output_fields)
        return submitted if isinstance(submitted, dict) and (len(names) > 1 or set(submitted) == set(names)) else {names[0]: submitted}

    def _prediction(self, outputs: dict[str, Any], history: CodeHistory, reasoning: str) -> Prediction:
        steps = [{"reasoning": step.reasoning, "code": step.code, "output": step.output} for step in history.steps]
        return Prediction(outputs, trajectory=steps, final_reasoning=reasoning)


def _asked(predictor: Module, inputs: dict[str, Any], history: CodeHistory) -> Steps:
    """The answer of a predictor, which is shown less of the history where the prompt does not fit."""
    while True:
        try:
            answer: Prediction = yield Ask(predictor, {**inputs, "repl_history": history.text})
            return answer
        except ContextTooLong:
            if not history.shorten():
                raise


def _about(field: Field, given: Any, value: Any) -> str:
    """An input as the prompt has it: its name, type, length and beginning."""
    sized = isinstance(value, str | list | tuple | set | dict)
    length = f", {len(value)} {'characters' if isinstance(value, str) else 'items'}" if sized else ""
    became = f", given as {type(value).__name__}" if type(given) is not type(value) else ""
    words = f" ({field.description})" if field.description else ""
    return f"- {field.name}{words}: {type(given).__name__}{became}{length}: {clipped(_beginning(value), _PREVIEW + 20)}"


def _beginning(value: Any) -> str:
    """The beginning of a value as text, made without writing all of it."""
    match value:
        case str():
            return repr(value[:_PREVIEW]) + (" ..." if len(value) > _PREVIEW else "")
        case list() | tuple():
            return shown(value[:5]) + (" ..." if len(value) > 5 else "")
        case dict():
            return shown(dict(list(value.items())[:5])) + (" ..." if len(value) > 5 else "")
    return shown(value)
