"""CodeAct: the model acts by writing code that calls tools, sees what came out, and goes on (Wang et al., arXiv 2402.01030).

Knows no particular interpreter and no tool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from homefire.errors import CodeExecutionError, ConfigError, ContextTooLong
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.code import code_in
from homefire.modules.code_answer import transcript
from homefire.modules.code_history import CodeHistory, CodeStep
from homefire.modules.code_program import Ask, CodeProgram, Run, Steps, Work, checked_inputs
from homefire.modules.example import Prediction
from homefire.modules.interpreter import CodeInterpreter, Tools, named_tools
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.signature import Field, Signature, make_signature
from homefire.modules.tool import Tool


class CodeAct(CodeProgram):
    """Answers after some steps, each a snippet of Python that may call tools; variables stay from step to step.

    The prediction has the outputs and `trajectory`: `generated_code_0`, `code_output_0`, and so on for each step.

    >>> def weather(city: str) -> str:
    ...     return f"It rains in {city}."
    >>> act = CodeAct("question -> answer", tools=[weather])

    Args:
        signature: A signature class or string; its inputs are variables of the code.
        tools: Functions or tools that the code may call.
        max_iters: Most steps.
        interpreter: Runs the code of all calls and keeps its variables; None for a fresh sandbox each time.
        interpreter_factory: Makes the interpreter of each call.
        config: Sampling, as for `Predict`.
    """

    def __init__(
        self,
        signature: str | type[Signature],
        tools: Tools = (),
        max_iters: int = 5,
        interpreter: CodeInterpreter | None = None,
        *,
        interpreter_factory: Callable[[], CodeInterpreter] | None = None,
        **config: Any,
    ) -> None:
        super().__init__(interpreter, interpreter_factory)
        if max_iters < 1:
            raise ConfigError(f"max_iters is {max_iters!r}; expected a whole number above 0, as in CodeAct(..., max_iters=5).")
        self.signature, self.max_iters = Signature(signature), max_iters
        self.tools = named_tools(tools)
        inputs, outputs = list(self.signature.input_fields.values()), list(self.signature.output_fields.values())
        history = Field("trajectory", str, "input")
        code = Field("generated_code", code_in("python"), "output", "the next few lines of Python")
        finished = Field("finished", bool, "output", "whether all is known once this code has run")
        listed = "\n".join(f"- {tool_line(name, tool)}" for name, tool in self.tools.items())
        task = (
            f"{self.signature.instructions}\n\nFind out {', '.join(self.signature.output_fields)} by writing Python, one step at a time. "
            f"You see what each step prints and the value of its last line. Variables: {', '.join(self.signature.input_fields) or 'none'}. "
            f"{self._language()}"
        ).strip() + (f"\nFunctions:\n{listed}" if listed else "")
        self.codeact = Predict(make_signature([*inputs, history, code, finished], task), **config)
        answer = f"{self.signature.instructions}\n\nAnswer from what the code found out."
        self.extractor = ChainOfThought(make_signature([*inputs, history, *outputs], answer), **config)

    def work(self, inputs: Mapping[str, Any]) -> Work:
        return Work(self._steps(*checked_inputs(self.signature, inputs)), self.tools)

    def _steps(self, inputs: dict[str, Any], variables: dict[str, Any]) -> Steps:
        history = CodeHistory(most=2_000)
        for _ in range(self.max_iters):
            written: Prediction = yield from self._asked(self.codeact, inputs, history)
            code = str(written.generated_code)
            try:
                output = transcript((yield Run(code, variables if history.needs_inputs else {})))
            except CodeExecutionError as failure:
                history.add(CodeStep(code, str(failure), lost=failure.lost))
                continue
            history.add(CodeStep(code, output))
            if written.finished:
                break
        trajectory: dict[str, str] = {}
        for index, step in enumerate(history.steps):
            trajectory |= {f"generated_code_{index}": step.code, f"code_output_{index}": step.output}
        answer: Prediction = yield from self._asked(self.extractor, inputs, history)
        return answer.copy(trajectory=trajectory)

    def _asked(self, predictor: Module, inputs: dict[str, Any], history: CodeHistory) -> Steps:
        """The answer of a predictor, which is shown less of the history where the prompt does not fit."""
        while True:
            try:
                answer: Prediction = yield Ask(predictor, {**inputs, "trajectory": history.text})
                return answer
            except ContextTooLong:
                if not history.shorten():
                    raise


def tool_line(name: str, tool: Callable[..., Any]) -> str:
    """A tool as a model reads it, under the name that the code calls it by."""
    made = tool if isinstance(tool, Tool) else Tool(tool, name=name)
    return name + made.line().removeprefix(made.name)
