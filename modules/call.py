"""One call of a predictor: requests to a language model until every sample of the answer has its type.

Knows no optimizer and no thread. A call is a generator of batches of requests, so that `Predict` runs it the same way blocking and in
asyncio. What follows the first batch: an answer that was cut off is closed by one more request; one that breaks a constraint which no
grammar enforces is asked for again, and the model is told what was wrong.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

from homefire.engine.callbacks import observed
from homefire.engine.lm import LM
from homefire.engine.request import Completion, Listener, Message, Request
from homefire.errors import ConstraintError, ParseError
from homefire.modules.example import Prediction
from homefire.modules.field_stream import FieldReader
from homefire.modules.format import Closing, Format
from homefire.modules.reasoning import NativeReasoning, reasoned
from homefire.modules.signature import Signature
from homefire.modules.two_step_format import TwoStepFormat


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests to send at once."""

    requests: list[Request]
    listener: Listener | None = None
    """Hears the first of them."""
    model: LM | None = None
    """Who answers them; None is the LM of the call."""


Batches = Generator[Batch, list[list[Completion]], list["Answer"]]
"""Yields batches and is sent the completions of each, in order; returns an answer for every sample."""

MOST_RETRIES = 3
"""Times that one answer is asked for again because of a broken constraint."""
RETRY_SAMPLES = 4
"""Samples of each such time, in one request; the first that is right is taken."""
RETRY_TEMPERATURE = 0.7
"""At least this hot: drawn greedily, small models break the same constraint again."""


@dataclass(slots=True)
class Answer:
    """One sample of a call: its prediction, once it has one, and what that took."""

    request: Request
    """The request that the last completion answers."""
    completions: list[Completion] = field(default_factory=list)
    prediction: Prediction | None = None
    text: str = ""
    """The whole answer, once there is a prediction."""
    prefix: str = ""
    """Text before the next completion that belongs to the answer; not empty once a cut-off answer is being closed."""
    thoughts: str = ""
    """What was thought before that text."""
    retries: int = 0
    closing: bool = False
    """Whether the next completion is what closes it."""
    cut_off: bool = False
    follow_ups: int = 0
    """Requests after the first."""

    @property
    def made(self) -> Prediction:
        """The prediction.

        Raises:
            RuntimeError: the call has not ended.
        """
        if self.prediction is None:
            raise RuntimeError("the call has not ended")
        return self.prediction


def answers(model: LM, dialect: Format, signature: type[Signature], request: Request, reader: FieldReader | None = None) -> Batches:
    """Runs one call.

    Args:
        model: Answers the requests.
        dialect: Reads the answers.
        signature: What they are answers to.
        request: The first request.
        reader: Is told the pieces of the first sample.

    Raises:
        ParseError: from engines that enforce nothing, when asking again did not help either.
        ConstraintError: a constraint was broken each of the bounded number of times.
    """
    if isinstance(dialect, TwoStepFormat):
        return (yield from _in_two_steps(dialect, signature, request, reader))
    if isinstance(dialect, NativeReasoning) and model.thinking is None:
        request = replace(request, thinking=True)
    first = (yield Batch([request], reader))[0]
    found = [Answer(request) for _ in first]
    return (yield from _until_whole(_FollowUp(model, dialect, signature), found, [[one] for one in first], reader))


def _in_two_steps(dialect: TwoStepFormat, signature: type[Signature], request: Request, reader: FieldReader | None) -> Batches:
    """A free text for each sample, and then the answers that the other model finds in them."""
    said = (yield Batch([request]))[0]
    model, asked = dialect.extraction_model, dialect.extracting(signature)
    found = [Answer(dialect.extraction(signature, one.text), [one]) for one in said]
    results = yield Batch([answer.request for answer in found], reader, model)
    return (yield from _until_whole(_FollowUp(model, dialect.form, asked), found, results, reader, model))


def _until_whole(
    follow_up: _FollowUp, found: list[Answer], results: list[list[Completion]], reader: FieldReader | None, model: LM | None = None
) -> Batches:
    """Takes the first completions of all answers, and asks on until each has its prediction."""
    waiting = found
    while True:
        following = [(answer, follow_up.take(answer, completions)) for answer, completions in zip(waiting, results, strict=True)]
        requests = [next_request for _, next_request in following if next_request is not None]
        waiting = [answer for answer, next_request in following if next_request is not None]
        for answer in waiting:
            answer.follow_ups += 1
        if reader is not None:
            _tell(reader, found[0])
        if not waiting:
            return found
        heard = reader is not None and waiting[0] is found[0] and found[0].closing
        results = yield Batch(requests, reader if heard else None, model)


def _tell(reader: FieldReader, answer: Answer) -> None:
    """Brings a stream up to what became of its answer."""
    if answer.prediction is not None:
        reader.read(answer.text)
    elif answer.closing:
        reader.go_on_from(answer.prefix)
    else:
        reader.restart()


@dataclass(frozen=True, slots=True)
class _FollowUp:
    """Decides what an answer needs next."""

    model: LM
    dialect: Format
    signature: type[Signature]

    def take(self, answer: Answer, completions: Sequence[Completion]) -> Request | None:
        """Reads completions of an answer's last request; returns the next one, or None when the answer is whole."""
        answer.completions += completions
        cut: Completion | None = None
        failure: tuple[Completion, ParseError] | None = None
        for completion in completions:
            if completion.finish_reason == "length" and not answer.closing:
                cut = cut or completion
                continue
            try:
                self._settle(answer, answer.prefix + completion.text, completion.thinking or answer.thoughts)
                return None
            except ParseError as error:
                failure = failure or (completion, error)
        if cut is not None:
            return self._closed(answer, cut)
        assert failure is not None
        return self._again(answer, *failure)

    def _settle(self, answer: Answer, text: str, thoughts: str) -> None:
        answer.prediction, answer.text = self._parsed(text, thoughts), text
        if answer.cut_off:
            answer.prediction._cut_off = True

    def _parsed(self, text: str, thoughts: str) -> Prediction:
        with observed("adapter_parse", self.dialect, {"signature": self.signature, "completion": text}) as parsing:
            values = reasoned(self.dialect, self.signature, self.dialect.parse(self.signature, text), thoughts)
            parsing.give(values)
        return Prediction(values)

    def _closed(self, answer: Answer, completion: Completion) -> Request | None:
        """The request that closes an answer which was cut off; none where nothing is missing."""
        closing = self.dialect.close(self.signature, completion.text)
        answer.cut_off = closing.grammar is not None or closing.prefill != completion.text
        if closing.grammar is None:
            try:
                self._settle(answer, closing.prefill, completion.thinking)
                return None
            except ParseError as error:
                return self._again(answer, completion, error)
        if not self.model.info.continues:
            said = f"the answer was longer than {answer.request.sampling.max_tokens} tokens and was cut off; be much briefer"
            return self._again(answer, completion, ConstraintError((said,), completion.text))
        answer.prefix, answer.closing, answer.thoughts = closing.prefill, True, completion.thinking
        return continuation(answer.request, completion, closing)

    def _again(self, answer: Answer, completion: Completion, error: ParseError) -> Request:
        """The request that asks again and says what was wrong.

        Raises:
            ParseError: this error, when it is no use.
        """
        if isinstance(error, ConstraintError):
            most, problems = MOST_RETRIES, error.problems
        else:
            enforced = answer.request.grammar is not None and self.model.info.structured == "grammar"
            most = 0 if enforced else 1
            problems = ("the answer did not have the form that was asked for",)
        if answer.retries >= most:
            raise error
        answer.retries += 1
        before = answer.request.messages[: None if answer.retries == 1 else -2]
        said = Message("assistant", answer.prefix + completion.text)
        wanted = Message("user", self.dialect.correction(self.signature, problems))
        sampling = replace(
            answer.request.sampling,
            n=RETRY_SAMPLES,
            temperature=max(answer.request.sampling.temperature, RETRY_TEMPERATURE),
            seed=(answer.request.sampling.seed or 0) + answer.retries,
        )
        answer.prefix, answer.thoughts, answer.closing = "", "", False
        answer.request = replace(answer.request, messages=(*before, said, wanted), sampling=sampling)
        return answer.request


def continuation(request: Request, completion: Completion, closing: Closing) -> Request:
    """The same request going on where its answer was cut off; its keys and values up to there are still in the engine's cache."""
    sampling = replace(request.sampling, n=1, max_tokens=closing.max_tokens, stop=())
    whole = bool(completion.token_ids) and closing.prefill.startswith(completion.text) and not request.media  # which are no token ids
    generated = completion.token_ids if whole else ()
    prefill = closing.prefill[len(completion.text) :] if whole else closing.prefill
    return replace(request, generated=generated, prefill=prefill, grammar=closing.grammar, sampling=sampling, reserve=0)
