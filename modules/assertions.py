"""Assertions: what must hold of a program's answers, checked where the program is written (arXiv 2312.13382, sections 3 and 4).

Knows no model. Where `Assert` or `Suggest` fails inside a `forward`, that forward runs again: calls that were answered before are answered
the same without a model, and the predictor at fault is asked again, with its past output and what was wrong. Whatever else the forward
does, such as calls of tools, is done again.
"""

from __future__ import annotations

import json
import threading
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from pydantic_core import to_jsonable_python

from homefire.errors import HomefireError, InputError
from homefire.modules.attempts import Advice
from homefire.modules.example import Prediction
from homefire.modules.trace import Trace, current_trace, snapshot

MAX_BACKTRACKS = 2
"""Times that one call is made again."""
MOST_REMEMBERED = 1000
"""Calls of one forward that can be gone back to; the oldest are forgotten."""


class AssertionFailed(HomefireError, AssertionError):
    """What must hold of an answer does not, also after the predictor was asked again."""

    def __init__(self, message: str, said: str, past: tuple[str, ...]) -> None:
        super().__init__(said)
        self.condition = message
        """The message of the assertion."""
        self.past = past
        """The outputs that were wrong, as JSON; the last one is the newest."""


class Asked(Protocol):
    """A module, as assertions see it."""

    def predictors(self) -> Sequence[object]: ...


class Asserted(Protocol):
    """A module whose number of backtracks can be set."""

    max_backtracks: int


@dataclass(slots=True)
class _Case:
    """A call that was answered wrongly."""

    predictor: object
    inputs: Mapping[str, Any]
    past: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def advice(self) -> tuple[Advice, ...]:
        """What the predictor is told."""
        wrong = "\n".join(dict.fromkeys(self.messages))
        return (Advice("past_output_", "an earlier answer that was wrong", self.past[-1]), Advice("feedback_", "what must hold", wrong))


@dataclass(frozen=True, slots=True, eq=False)
class _Settled:
    """A call that has its answer."""

    predictor: object
    inputs: Mapping[str, Any]
    prediction: Prediction
    values: Mapping[str, Any]
    """The fields as they were answered; a program may change those of the prediction."""

    def again(self) -> Prediction:
        """The same answer, for a forward that runs again."""
        copied = self.prediction.copy()
        copied._store = dict(self.values)
        return copied

    def answers(self, predictor: object, inputs: Mapping[str, Any]) -> bool:
        return self.predictor is predictor and _same(self.inputs, inputs)


current_scope: ContextVar[Scope | None] = ContextVar("homefire_scope", default=None)
"""The innermost forward that is running."""


class Backtrack(BaseException):
    """Ends a forward that is to run again; no error, so that `except Exception` in a program lets it pass."""

    def __init__(self, scope: Scope, settled: _Settled, case: _Case) -> None:
        super().__init__("a forward of homefire runs again")
        self.scope = scope
        self.settled = settled
        self.case = case


Made = TypeVar("Made")


def run_again(most: int, forward: Callable[[], Made]) -> Made:
    """What a module's forward gives; it runs again from where an assertion in it failed, so many times for each."""
    with Scope(most) as scope:
        while True:
            try:
                return forward()
            except Backtrack as signal:
                scope.begin_again(signal)


async def arun_again(most: int, forward: Callable[[], Awaitable[Made]]) -> Made:
    """As `run_again`, awaited."""
    with Scope(most) as scope:
        while True:
            try:
                return await forward()
            except Backtrack as signal:
                scope.begin_again(signal)


class Scope:
    """The calls inside one run of a module's forward; `with` begins and ends it."""

    __slots__ = ("_lock", "_token", "around", "cases", "most", "pending", "replayed", "settled")

    def __init__(self, most: int) -> None:
        self.around = current_scope.get()
        self.most = most
        self.settled: deque[_Settled] = deque(maxlen=MOST_REMEMBERED)
        self.replayed: list[_Settled] = []
        self.pending: list[_Case] = []
        self.cases: list[_Case] = []
        self._lock = threading.Lock()
        self._token: Token[Scope | None] | None = None

    def __enter__(self) -> Self:
        self._token = current_scope.set(self)
        return self

    def __exit__(self, *failure: object) -> None:
        if self._token is not None:
            current_scope.reset(self._token)
        if self.replayed:
            self._drop_replayed()

    def begin_again(self, signal: Backtrack) -> None:
        """Makes ready for another run: all calls but the one at fault keep their answers.

        Raises:
            Backtrack: it is another forward that runs again.
        """
        if signal.scope is not self:
            raise signal
        if (trace := current_trace()) is not None:
            _failed(trace, signal.settled.prediction, f"AssertionFailed: {signal.case.messages[-1]}")
        self.replayed = [one for one in self.settled if one is not signal.settled] + self.replayed
        self.pending.append(signal.case)
        self.settled.clear()
        self._forget(signal.settled)

    def _drop_replayed(self) -> None:
        """Drops the answers that the last run did not use."""
        trace = current_trace()
        for one in self.replayed:
            self._forget(one)
            if trace is not None:
                _failed(trace, one.prediction, "An earlier step was answered anew, so this one was not used.")

    def _forget(self, settled: _Settled) -> None:
        """Takes an answer from the forwards around this one."""
        around = self.around
        while around is not None:
            if settled in around.settled:
                around.settled.remove(settled)
            around = around.around

    def take(self, predictor: object, inputs: Mapping[str, Any]) -> _Settled | None:
        """The answer that a call had in the run before."""
        with self._lock:
            for index, one in enumerate(self.replayed):
                if one.answers(predictor, inputs):
                    return self.replayed.pop(index)
        return None

    def take_case(self, predictor: object, inputs: Mapping[str, Any]) -> _Case | None:
        """What is to be told to a predictor that is asked again."""
        with self._lock:
            for index, case in enumerate(self.pending):
                if case.predictor is predictor and _same(case.inputs, inputs):
                    return self.pending.pop(index)
        return None

    def case_of(self, settled: _Settled) -> _Case:
        for case in self.cases:
            if case.predictor is settled.predictor and _same(case.inputs, settled.inputs):
                return case
        self.cases.append(_Case(settled.predictor, settled.inputs))
        return self.cases[-1]


def settle(scope: Scope, predictor: object, inputs: Mapping[str, Any], prediction: Prediction) -> None:
    """Remembers an answer in all forwards that are running."""
    one = _Settled(predictor, snapshot(inputs), prediction, dict(prediction._store))
    around: Scope | None = scope
    while around is not None:
        around.settled.append(one)
        around = around.around


def known_answer(scope: Scope, predictor: object, inputs: Mapping[str, Any]) -> Prediction | tuple[Advice, ...]:
    """In a forward that runs again, the answer of a call, or what to tell the predictor when it is asked again; otherwise nothing."""
    around, inner = scope, [scope]
    while True:
        if around.pending and (case := around.take_case(predictor, inputs)) is not None:
            return case.advice()
        if around.replayed and (found := around.take(predictor, inputs)) is not None:
            for one in inner:
                one.settled.append(found)
            return found.again()
        if around.around is None:
            return ()
        around = around.around
        inner.append(around)


def Assert(condition: object, message: str = "", target_module: Asked | None = None) -> bool:
    """What must hold of the answers so far; otherwise a predictor is asked again, and in the end the program fails.

    >>> Assert(len("short") < 10, "At most ten characters.")
    True

    Args:
        condition: Anything true or false.
        message: What must hold, in words that the model reads.
        target_module: Whose last call is made again; by default the last predictor that was called.

    Raises:
        AssertionFailed: it does not hold, and the predictor was asked `max_backtracks` times already.
    """
    return bool(condition) or _fail(message, target_module, hard=True)


def Suggest(condition: object, message: str = "", target_module: Asked | None = None) -> bool:
    """As `Assert`, but in the end there is a warning, and the program goes on; returns whether it holds."""
    return bool(condition) or _fail(message, target_module, hard=False)


T = TypeVar("T", bound=Asserted)


def backtrack_handler(*, max_backtracks: int = MAX_BACKTRACKS) -> None:
    """Stands for what homefire always does when an assertion fails; see `assert_transform_module`."""


def assert_transform_module(module: T, assertion_handler: Any = backtrack_handler) -> T:
    """The module itself: assertions work in every module. Sets its `max_backtracks`, where `partial(backtrack_handler, ...)` names it.

    Raises:
        InputError: another handler.
    """
    options = assertion_handler.keywords if isinstance(assertion_handler, partial) else {}
    handler = assertion_handler.func if isinstance(assertion_handler, partial) else assertion_handler
    if handler is not backtrack_handler:
        raise InputError(
            f"The handler is {handler!r}; expected homefire.backtrack_handler, or partial(backtrack_handler, max_backtracks=2)."
        )
    module.max_backtracks = options.get("max_backtracks", MAX_BACKTRACKS)
    return module


def _fail(message: str, target: Asked | None, *, hard: bool) -> bool:
    message = message or "The answer does not meet what was asked for."
    scope, settled = _at_fault(target)
    past: tuple[str, ...] = ()
    if scope is not None and settled is not None:
        case = scope.case_of(settled)
        said = json.dumps(to_jsonable_python(settled.values, by_alias=True, fallback=str), ensure_ascii=False)
        if len(case.past) < scope.most:
            case.past.append(said)
            case.messages.append(message)
            raise Backtrack(scope, settled, case)
        past = (*case.past, said)
    times = (
        f" after {len(past) - 1} further attempts; the last answer was {past[-1]}"
        if past
        else ", and no call of a predictor came before it"
    )
    told = f"{'An assertion' if hard else 'A suggestion'} does not hold{times}: {message}"
    if hard:
        raise AssertionFailed(message, told, past)
    warnings.warn(told, stacklevel=3)
    return False


def _at_fault(target: Asked | None) -> tuple[Scope | None, _Settled | None]:
    """The innermost forward in which the target answered, and its last answer there."""
    wanted = None if target is None else {id(predictor) for predictor in target.predictors()}
    scope = current_scope.get()
    while scope is not None:
        for settled in reversed(scope.settled):
            if wanted is None or id(settled.predictor) in wanted:
                return scope, settled
        scope = scope.around
    return None, None


def _failed(trace: Trace, prediction: Prediction, error: str) -> None:
    """Moves the step that made a prediction to the failures of a trace and of those around it."""
    around: Trace | None = trace
    while around is not None:
        for step in [one for one in around.steps if one.prediction is prediction]:
            around.steps.remove(step)
            around.failures.append(replace(step, error=error))
        around = around.outer


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether inputs are equal; values that cannot be compared are so only to themselves."""
    if one.keys() != other.keys():
        return False
    for name, value in one.items():
        try:
            equal = value is other[name] or bool(value == other[name])
        except Exception:
            equal = False
        if not equal:
            return False
    return True
