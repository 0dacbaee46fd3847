"""Programs that write code and run it: the loop of predictions and snippets, blocking and in asyncio.

Knows no particular program: one is a generator that yields what to ask a predictor and what to run, and is sent the answers.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from homefire.errors import CodeExecutionError, ConfigError, ContextTooLong
from homefire.modules.example import Prediction
from homefire.modules.given_inputs import named_inputs
from homefire.modules.interpreter import CodeInterpreter, Interpreter, Ran, run_on
from homefire.modules.module import Module
from homefire.modules.python_interpreter import PythonInterpreter
from homefire.modules.sandbox_values import plain_input, readable
from homefire.modules.settings import current
from homefire.modules.signature import Signature


@dataclass(frozen=True, slots=True)
class Ask:
    """Asks a predictor."""

    predictor: Module
    inputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """Runs a snippet."""

    code: str
    variables: Mapping[str, Any] = field(default_factory=dict)


Steps = Generator[Ask | Run, Any, Prediction]
"""Is sent the Prediction of each Ask and the Ran of each Run; ContextTooLong and CodeExecutionError are thrown into it."""


@dataclass(frozen=True, slots=True)
class Work:
    """One run of a program."""

    steps: Steps
    tools: Mapping[str, Callable[..., Any]]
    """Functions that its code may call, beside those that the interpreter has."""


class CodeProgram(Module):
    """Base of ProgramOfThought, CodeAct and RLM.

    Args:
        interpreter: Runs the code of all calls, one after another, and keeps its variables between them; None for a fresh sandbox each.
        interpreter_factory: Makes the interpreter of each call; where neither is given, that of the settings.

    Raises:
        ConfigError: both are given.
    """

    signature: type[Signature]
    """What goes in and what is to come out."""

    def __init__(self, interpreter: CodeInterpreter | None, interpreter_factory: Callable[[], CodeInterpreter] | None) -> None:
        if interpreter is not None and interpreter_factory is not None:
            raise ConfigError("interpreter and interpreter_factory are both given. Give one interpreter, or what makes one for each call.")
        self.interpreter = interpreter
        self.interpreter_factory = interpreter_factory

    def _input_names(self) -> Sequence[str]:
        return list(self.signature.input_fields)

    @abstractmethod
    def work(self, inputs: Mapping[str, Any]) -> Work:
        """What to do for these inputs."""

    def forward(self, **inputs: Any) -> Prediction:
        """Writes and runs code until there is an answer.

        Raises:
            InputError: an input is missing, or cannot be given to the code.
            ContextTooLong: the inputs alone do not fit the model's context.
            CodeInterpreterError: the interpreter could not start, or broke.
        """
        work = self.work(inputs)
        interpreter, turn = self._interpreter()
        turn.acquire()
        try:
            return self._drive(work, interpreter)
        finally:
            turn.release()
            self._leave(interpreter)

    async def aforward(self, **inputs: Any) -> Prediction:
        """As `forward`, awaited; code runs on a thread of its own."""
        work = self.work(inputs)
        interpreter, turn = self._interpreter()
        while not turn.acquire(blocking=False):
            await asyncio.sleep(0.01)
        try:
            return await self._adrive(work, interpreter)
        finally:
            turn.release()
            self._leave(interpreter)

    def _drive(self, work: Work, interpreter: CodeInterpreter) -> Prediction:
        own = _lend(interpreter, work.tools)
        answer: Prediction | Ran | Exception | None = None
        try:
            while True:
                step = work.steps.throw(answer) if isinstance(answer, Exception) else work.steps.send(answer)
                try:
                    answer = step.predictor(**step.inputs) if isinstance(step, Ask) else run_on(interpreter, step.code, step.variables)
                except (ContextTooLong, CodeExecutionError) as error:
                    answer = error
        except StopIteration as ended:
            return _prediction(ended)
        finally:
            interpreter.tools = own

    async def _adrive(self, work: Work, interpreter: CodeInterpreter) -> Prediction:
        own = _lend(interpreter, work.tools)
        answer: Prediction | Ran | Exception | None = None
        try:
            while True:
                step = work.steps.throw(answer) if isinstance(answer, Exception) else work.steps.send(answer)
                try:
                    if isinstance(step, Ask):
                        answer = await step.predictor.acall(**step.inputs)
                    else:
                        answer = await asyncio.to_thread(run_on, interpreter, step.code, step.variables)
                except (ContextTooLong, CodeExecutionError) as error:
                    answer = error
        except StopIteration as ended:
            return _prediction(ended)
        finally:
            interpreter.tools = own

    def _interpreter(self) -> tuple[CodeInterpreter, threading.Lock]:
        """The interpreter of a call, and what lets one call at a time use it."""
        if self.interpreter is not None:
            return self.interpreter, _turn_of(self.interpreter)
        make = self.interpreter_factory or current().interpreter_factory or PythonInterpreter
        return make(), threading.Lock()

    def _leave(self, interpreter: CodeInterpreter) -> None:
        if interpreter is not self.interpreter:
            interpreter.shutdown()

    def _language(self) -> str:
        """What a model has to know of the Python that it writes."""
        if self.interpreter is None and (self.interpreter_factory or current().interpreter_factory):
            return ""
        if self.interpreter is None:
            return PythonInterpreter.note
        return self.interpreter.note if isinstance(self.interpreter, Interpreter) else ""


def checked_inputs(signature: type[Signature], inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs of a program, all of them: as a prompt shows them, and as plain data for code.

    Raises:
        InputError: one is missing, or cannot be given to code.
    """
    given = named_inputs(signature, inputs, "program", stacklevel=9)
    plain = {name: plain_input(value, f"the input {name!r}") for name, value in given.items()}
    return {name: readable(value, plain[name]) for name, value in given.items()}, plain


def _lend(interpreter: CodeInterpreter, tools: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Gives an interpreter the tools of a run; returns those that it had."""
    own = interpreter.tools
    interpreter.tools = {**own, **tools}
    return own


def _prediction(ended: StopIteration) -> Prediction:
    prediction: Prediction = ended.value
    return prediction


_turns: weakref.WeakKeyDictionary[CodeInterpreter, threading.Lock] = weakref.WeakKeyDictionary()
_turns_lock = threading.Lock()


def _turn_of(interpreter: CodeInterpreter) -> threading.Lock:
    with _turns_lock:
        return _turns.setdefault(interpreter, threading.Lock())
