"""One side of the comparison with DSPy, in either environment. Run it with: PYTHON scripts/peer_dspy.py LIBRARY WORK RESULT

`scripts/bench_dspy.py` does that. LIBRARY is `dspy` or `homefire`; WORK and RESULT are JSON files. Both sides run this very code:
signatures, inputs, Evaluate, counting. Only the LM is made differently: homefire loads the model into this process, DSPy calls a server.
"""

import importlib
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

JSON_FORMAT = "JSONAdapter"


class Event(BaseModel):
    title: str
    month: int
    tags: list[str]


def signatures(lib: Any) -> dict[str, Any]:
    """Six ordinary typed signatures over one text, and the one whose speed is measured."""

    class Mood(lib.Signature):
        """Say how the text sounds."""

        text: str = lib.InputField()
        mood: Literal["good", "mixed", "bad"] = lib.OutputField()

    class Facts(lib.Signature):
        """Answer from the text."""

        text: str = lib.InputField()
        people: int = lib.OutputField(desc="how many people are named")
        place: str | None = lib.OutputField(desc="where it happens, if the text says so")

    class Topics(lib.Signature):
        """List what the text is about."""

        text: str = lib.InputField()
        topics: list[str] = lib.OutputField(desc="one to three words each")

    class Check(lib.Signature):
        """Say whether the text makes a complaint, and how sure you are."""

        text: str = lib.InputField()
        complaint: bool = lib.OutputField()
        confidence: float = lib.OutputField(desc="from 0 to 1")

    class Scores(lib.Signature):
        """Score the text."""

        text: str = lib.InputField()
        scores: dict[str, int] = lib.OutputField(desc="for each quality that you judge, one to five")

    class Extract(lib.Signature):
        """Extract the event that the text tells of."""

        text: str = lib.InputField()
        event: Event = lib.OutputField()

    class Docstring(lib.Signature):
        """Say in a few words what the docstring's function does, and whether it returns something."""

        text: str = lib.InputField()
        summary: str = lib.OutputField()
        returns: Literal["yes", "no", "unclear"] = lib.OutputField()

    return {each.__name__: each for each in (Mood, Facts, Topics, Check, Scores, Extract, Docstring)}


class Count:
    """A metric that counts predictions whose outputs all have the types of the signature."""

    def __init__(self, lib: Any, signature: Any) -> None:
        self.valid = 0
        types = {name: field.type if lib.__name__ == "homefire" else field.annotation for name, field in signature.output_fields.items()}
        self._types = {name: TypeAdapter(kind) for name, kind in types.items()}
        self._lock = threading.Lock()

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        for name, kind in self._types.items():
            kind.validate_python(getattr(prediction, name), strict=True)
        with self._lock:
            self.valid += 1
        return 1.0


def language_model(lib: Any, work: dict[str, Any]) -> Any:
    sampling = {"max_tokens": work["max_tokens"], "temperature": 0.0}
    if lib.__name__ == "homefire":
        return lib.LM(work["model"], cache=False, **sampling)
    lib.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    return lib.LM(f"openai/{work['model']}", api_base=work["url"], api_key="none", cache=False, num_retries=2, **sampling)


def configure(lib: Any, lm: Any, form: str) -> None:
    made = None if form == "default" else getattr(lib, JSON_FORMAT)()
    lib.configure(lm=lm, **({} if made is None else {"format" if lib.__name__ == "homefire" else "adapter": made}))


def evaluate(lib: Any, signature: Any, texts: list[str], threads: int | None) -> dict[str, float]:
    examples = [lib.Example(text=text).with_inputs("text") for text in texts]
    count = Count(lib, signature)
    options = {} if lib.__name__ == "homefire" else {"max_errors": 10 * len(texts)}
    run = lib.Evaluate(devset=examples, metric=count, num_threads=threads, display_progress=False, **options)
    started = time.perf_counter()
    run(lib.Predict(signature))
    return {"seconds": time.perf_counter() - started, "valid": count.valid, "examples": len(texts)}


def calls_of(lm: Any) -> int:
    """Calls that DSPy's LM made so far; DSPy keeps the last ten thousand."""
    return len(lm.history)


def main(library: str, work_file: str, result_file: str) -> None:
    logging.disable(logging.CRITICAL)
    work = json.loads(Path(work_file).read_text(encoding="utf-8"))
    lib = importlib.import_module(library)
    lm = language_model(lib, work)
    made = signatures(lib)
    configure(lib, lm, "default")
    evaluate(lib, made["Docstring"], work["warm_up"], work["threads"])
    results = []
    for form in work["formats"]:
        configure(lib, lm, form)
        for name, signature in made.items():
            texts = work["docstrings"] if name == "Docstring" else work["texts"]
            before = calls_of(lm) if library == "dspy" else 0
            row: dict[str, Any] = {"format": form, "signature": name, **evaluate(lib, signature, texts, work["threads"])}
            if library == "dspy":
                row["calls"] = calls_of(lm) - before
            results.append(row)
    Path(result_file).write_text(json.dumps(results), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
