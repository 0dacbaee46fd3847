"""A real run, kept and read again: token ids and log-probabilities, spans with their counts, streamed pieces, feedback, training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import homefire
from homefire.optimizers.dataset import rows_of
from homefire.optimizers.stored_runs import stored_runs
from homefire.streaming import StreamListener, StreamResponse


class Rate(homefire.Signature):
    """Say how the review sounds."""

    review: str = homefire.InputField()
    mood: Literal["good", "bad"] = homefire.OutputField()


class Both(homefire.Module):
    def __init__(self) -> None:
        self.rate = homefire.Predict(Rate, logprobs=True)
        self.reply = homefire.Predict("review, mood -> reply", max_tokens=24)

    def forward(self, **inputs: Any) -> homefire.Prediction:
        mood = self.rate(**inputs).mood
        return homefire.Prediction(mood=mood, reply=self.reply(review=inputs["review"], mood=mood).reply)


def test_what_a_real_program_did_is_kept_and_learnt_from(smollm2: Path, tmp_path: Path) -> None:
    program = Both()
    program.set_lm(homefire.LM(str(smollm2), cache=False))
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    store = homefire.TraceStore(tmp_path / "traces.db")
    call = homefire.streamify(program, stream_listeners=[StreamListener("reply")], async_streaming=False)
    with homefire.context(callbacks=[homefire.OpenTelemetry(provider)]), store.recording(), homefire.record() as trace:
        items = list(call(review="A warm and happy film."))
        made = program(review="Dull from the first minute to the last.")
    streamed = "".join(item.chunk for item in items if isinstance(item, StreamResponse))
    assert streamed == items[-1].reply
    assert sum(isinstance(item, StreamResponse) for item in items) > 2

    assert [step.path for step in trace.steps] == ["rate", "reply", "rate", "reply"]
    kept = [step for one in store.traces(like=program) for step in one.steps]
    assert [step.completions for step in kept] == [step.completions for step in trace.steps]
    assert [step.prediction.toDict() for step in kept] == [step.prediction.toDict() for step in trace.steps]
    first = kept[0].completions[0]
    assert first.token_ids
    assert first.logprobs is not None
    assert len(first.logprobs) == len(first.token_ids)

    models = [dict(span.attributes or {}) for span in exporter.get_finished_spans() if span.name == "LM"]
    assert sum(one["llm.token_count.completion"] for one in models) == sum(step.usage.completion_tokens for step in kept)
    assert {one["llm.model_name"] for one in models} == {program.rate.language_model().model}

    store.feedback(made.trace_id or "", score=1.0)
    rows = rows_of(stored_runs(store, program, min_score=0.5), program, homefire.JsonFormat(), with_demos=False, seed=0)
    assert len(rows) == 2
    assert {row.completion for row in rows} == {step.answer for step in trace.steps[2:]}
    store.close()
