"""ProgramOfThought: the model writes a program whose result is the answer (Chen et al., arXiv 2211.12588).

Knows no particular interpreter. What the program computes is taken as it is where it has the types of the outputs; otherwise the model
reads it and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from homefire.errors import CodeExecutionError, ConfigError, ContextTooLong
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.code import code_in
from homefire.modules.code_answer import taken, transcript, wanted_value
from homefire.modules.code_program import Ask, CodeProgram, Run, Steps, Work, checked_inputs
from homefire.modules.example import Prediction
from homefire.modules.interpreter import CodeInterpreter, Ran
from homefire.modules.sandbox_values import clipped
from homefire.modules.signature import Field, Signature, make_signature
from homefire.modules.submission import Submission

_MOST_SHOWN = 2_000


class ProgramOfThought(CodeProgram):
    """Answers with the result of a program that the model writes; a program that fails is written again, and the model is shown why.

    The prediction has the outputs and `trajectory`: `generated_code_0`, `code_output_0`, and so on for each attempt. Where no attempt
    comes to a result, the model answers from what there is. A program may also call `SUBMIT(...)` with the outputs.

    Args:
        signature: A signature class or string; its inputs are variables of the program.
        max_iters: Most programs that are written.
        interpreter: Runs all programs; None for a fresh sandbox each time.
        interpreter_factory: Makes the interpreter of each call.
        config: Sampling, as for `Predict`.
    """

    def __init__(
        self,
        signature: str | type[Signature],
        max_iters: int = 3,
        interpreter: CodeInterpreter | None = None,
        *,
        interpreter_factory: Callable[[], CodeInterpreter] | None = None,
        **config: Any,
    ) -> None:
        super().__init__(interpreter, interpreter_factory)
        if max_iters < 1:
            raise ConfigError(f"max_iters is {max_iters!r}; expected a whole number above 0, as in ProgramOfThought(..., max_iters=3).")
        self.signature, self.max_iters = Signature(signature), max_iters
        inputs, outputs = list(self.signature.input_fields.values()), list(self.signature.output_fields.values())
        code = Field("generated_code", code_in("python"), "output")
        names = ", ".join(self.signature.input_fields) or "none"
        task = (
            f"{self.signature.instructions}\n\nWrite a Python program for this. Variables that it has: {names}. Its last line is an "
            f"expression, whose value is {wanted_value(self.signature)}. {self._language()}"
        ).strip()
        before = [Field("previous_code", str, "input"), Field("error", str, "input")]
        ran = [Field("final_generated_code", str, "input"), Field("code_output", str, "input")]
        self.code_generate = ChainOfThought(make_signature([*inputs, code], task), **config)
        mend = f"{task}\n\nThe previous code did not work; mend it."
        self.code_regenerate = ChainOfThought(make_signature([*inputs, *before, code], mend), **config)
        answer = f"{self.signature.instructions}\n\nA program was written and run for this; answer from its output."
        self.generate_output = ChainOfThought(make_signature([*inputs, *ran, *outputs], answer), **config)

    def work(self, inputs: Mapping[str, Any]) -> Work:
        submission = Submission(self.signature)
        return Work(self._steps(*checked_inputs(self.signature, inputs), submission), {"SUBMIT": submission.function})

    def _steps(self, inputs: dict[str, Any], variables: dict[str, Any], submission: Submission) -> Steps:
        trajectory: dict[str, Any] = {}
        code, output = "", ""
        for attempt in range(self.max_iters):
            if attempt == 0:
                written: Prediction = yield Ask(self.code_generate, inputs)
            else:
                error = clipped(output, _MOST_SHOWN)
                written = yield Ask(self.code_regenerate, {**inputs, "previous_code": code, "error": error})
            code = str(written.generated_code)
            try:
                ran = yield Run(code, variables)
            except CodeExecutionError as failure:
                output, outputs, worked = str(failure), None, False
            else:
                output, outputs, worked = self._result(ran, submission)
            trajectory |= {f"generated_code_{attempt}": code, f"code_output_{attempt}": output}
            if outputs is not None:
                return Prediction(outputs, trajectory=trajectory)
            if worked:
                break
        return (yield from self._answered(inputs, code, output)).copy(trajectory=trajectory)

    def _result(self, ran: Ran, submission: Submission) -> tuple[str, dict[str, Any] | None, bool]:
        """What a program showed, the outputs where it has them, and whether there is something to answer from."""
        if submission.outputs is not None:
            return submission.text(ran), submission.outputs, True
        if ran.value is None and not ran.printed.strip():
            return "The code has no value and printed nothing. Its last line must be an expression.", None, False
        return transcript(ran), taken(self.signature, ran), True

    def _answered(self, inputs: dict[str, Any], code: str, output: str) -> Steps:
        """The model's answer from the output, of which less is shown where the prompt does not fit."""
        most = _MOST_SHOWN
        while True:
            asked = {**inputs, "final_generated_code": clipped(code, most), "code_output": clipped(output, most)}
            try:
                answer: Prediction = yield Ask(self.generate_output, asked)
                return answer
            except ContextTooLong:
                if most < 100:
                    raise
                most //= 2
