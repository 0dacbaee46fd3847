"""Examples and predictions: records of named fields.

Knows no model: an Example is data that a user has, a Prediction is what a program answered.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import asdict, dataclass, is_dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, overload

from pydantic import BaseModel

from homefire.errors import InputError


class Example:
    """A record whose fields are read as attributes or items, and that knows which of them are inputs.

    >>> example = Example(text="hot water", label="good").with_inputs("text")
    >>> example.text, example.inputs().toDict(), example.labels().toDict()
    ('hot water', {'text': 'hot water'}, {'label': 'good'})

    Fields whose names begin with `dspy_` are kept and copied, but counted and listed only where that is asked for.
    """

    def __init__(self, base: Mapping[str, Any] | Example | None = None, **fields: Any) -> None:
        self._store: dict[str, Any] = {**(base._store if isinstance(base, Example) else base or {}), **fields}
        self._input_keys: frozenset[str] | None = base._input_keys if isinstance(base, Example) else None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._store[name]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__} has no field {name!r}; it has {', '.join(map(repr, self._store)) or 'none'}."
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self._store[name] = value

    def __getitem__(self, name: str) -> Any:
        return self._store[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._store[name] = value

    def __delitem__(self, name: str) -> None:
        del self._store[name]

    def __contains__(self, name: object) -> bool:
        return name in self._store

    def __iter__(self) -> Iterator[str]:
        return iter(self._store)

    def __len__(self) -> int:
        return len(self._shown(False))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Example) and self._store == other._store

    def __hash__(self) -> int:
        return hash(tuple(sorted((name, repr(value)) for name, value in self._store.items())))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._store.items())
        return f"{type(self).__name__}({fields})"

    def keys(self, include_dspy: bool = False) -> KeysView[str]:
        return self._shown(include_dspy).keys()

    def values(self, include_dspy: bool = False) -> ValuesView[Any]:
        return self._shown(include_dspy).values()

    def items(self, include_dspy: bool = False) -> ItemsView[str, Any]:
        return self._shown(include_dspy).items()

    def _shown(self, include_dspy: bool) -> dict[str, Any]:
        if include_dspy or not any(name.startswith("dspy_") for name in self._store):
            return self._store
        return {name: value for name, value in self._store.items() if not name.startswith("dspy_")}

    def get(self, key: str, default: Any = None) -> Any:
        return self._store.get(key, default)

    def with_inputs(self, *names: str) -> Example:
        """A copy that knows its input fields; all others are labels."""
        copied = self.copy()
        copied._input_keys = frozenset(names)
        return copied

    def inputs(self) -> Example:
        """Only the input fields.

        Raises:
            ValueError: `with_inputs` was never called.
        """
        return self._part(inputs=True)

    def labels(self) -> Example:
        """Only the fields that are not inputs.

        Raises:
            ValueError: `with_inputs` was never called.
        """
        return self._part(inputs=False)

    def _part(self, *, inputs: bool) -> Example:
        if self._input_keys is None:
            raise ValueError(f"It is not known which fields of {self!r} are inputs. Say so: example.with_inputs('name', ...).")
        keys = self._input_keys
        part = Example({name: value for name, value in self.items() if (name in keys) == inputs})
        part._input_keys = keys
        return part

    def copy(self, **changes: Any) -> Example:
        copied = type(self)(self)
        copied._store.update(changes)
        return copied

    def without(self, *names: str) -> Example:
        copied = self.copy()
        copied._store = {name: value for name, value in self._store.items() if name not in names}
        return copied

    def toDict(self) -> dict[str, Any]:
        """The fields as plain values, nested records and pydantic models included."""
        return {name: _plain(value) for name, value in self._store.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInfo:
    """What it took to make a prediction."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0
    calls: int = 0
    """Requests that it took: one, and one more for each answer that was closed or asked for again."""
    from_cache: bool = False
    """Whether nothing was computed: all of it was in the response cache."""
    model: str = ""


if TYPE_CHECKING:
    field_first = property
else:

    class field_first(property):
        """A property that gives way to a field of the same name: a signature may well have an output `confidence`."""

        def __set_name__(self, owner, name):
            self._name = name

        def __get__(self, instance, owner=None):
            if instance is not None and self._name in instance._store:
                return instance._store[self._name]
            return super().__get__(instance, owner)


class FieldScorer(Protocol):
    """What knows the probabilities of an answer's choices; see `probability`."""

    def probabilities(self, name: str, outputs: Mapping[str, Any]) -> dict[Any, float]: ...

    async def aprobabilities(self, name: str, outputs: Mapping[str, Any]) -> dict[Any, float]: ...


class Prediction(Example):
    """What a program answered: its fields are typed values.

    A Prediction with a field `score` stands for that number in arithmetic and comparisons, so that a metric may return one.
    """

    _completions: tuple[Prediction, ...] = ()
    _info = CallInfo()
    _cut_off = False
    _thinking = ""
    _scorer: FieldScorer | None = None
    _probabilities: Mapping[str, dict[Any, float]] = MappingProxyType({})
    _usage: Mapping[str, dict[str, int | float]] = MappingProxyType({})
    _trace_id: str | None = None

    @classmethod
    def from_completions(
        cls, list_or_dict: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any] | Example], signature: Any = None
    ) -> Prediction:
        """The first of several completions, which knows all of them.

        Args:
            list_or_dict: A record for each, or a list of values for each field.
            signature: What they are answers to; kept by the completions.

        Raises:
            InputError: there is none, or the fields have lists of different lengths.
        """
        made = Completions(list_or_dict, signature)
        first = made[0]
        first._completions = made
        return first

    @property
    def completions(self) -> Completions:
        """All predictions of a call with `n` above 1; the first one is this prediction's own."""
        return self._completions if isinstance(self._completions, Completions) else Completions(self._completions or (self,))

    def set_lm_usage(self, value: Mapping[str, Mapping[str, int | float]]) -> None:
        """Says what each model did for this prediction."""
        self._usage = {model: dict(counts) for model, counts in value.items()}

    @field_first
    def info(self) -> CallInfo:
        """Tokens and seconds of the call that made this prediction."""
        return self._info

    @field_first
    def cut_off(self) -> bool:
        """Whether the answer reached its token limit and was closed, so that its last fields may be shorter than the model meant."""
        return self._cut_off

    @field_first
    def thinking(self) -> str:
        """What a reasoning model thought before it answered; empty for other models."""
        return self._thinking

    @field_first
    def trace_id(self) -> str | None:
        """Id of the trace that has the call which made this prediction; None where nothing was recorded."""
        return self._trace_id

    def get_lm_usage(self) -> dict[str, dict[str, int | float]]:
        """Tokens, calls and seconds of each model that worked for this prediction; empty where `track_usage` is not set."""
        return dict(self._usage)

    @field_first
    def probabilities(self) -> Callable[[str], dict[Any, float]]:
        """`probabilities(name)`: how likely each value of a Literal, Enum or bool output was, given what came before; the likeliest first.

        Every value is scored whole, in one batch on the prompt that is still in the engine's cache; the result is kept.

        Raises:
            InputError: no such output, one without a fixed set of values, or a prediction that no predictor made.
            EngineError: the engine cannot score texts.
        """
        return self._scored

    async def aprobabilities(self, name: str) -> dict[Any, float]:
        """As `probabilities`, awaited."""
        if name not in self._probabilities:
            self._probabilities = {**self._probabilities, name: await self._scored_by().aprobabilities(name, self._store)}
        return dict(self._probabilities[name])

    @field_first
    def confidence(self) -> Callable[[str], float]:
        """`confidence(name)`: probability of the value that this prediction has, 0 to 1; raises as `probabilities` does."""
        return lambda name: self._scored(name)[self._store[name]]

    def _scored(self, name: str) -> dict[Any, float]:
        if name not in self._probabilities:
            self._probabilities = {**self._probabilities, name: self._scored_by().probabilities(name, self._store)}
        return dict(self._probabilities[name])

    def _scored_by(self) -> FieldScorer:
        if self._scorer is None:
            raise InputError("Only the prediction of a predictor has probabilities, and only where it was made; this one has no engine.")
        return self._scorer

    def __getstate__(self) -> dict[str, Any]:
        """An engine stays where it is: copies and pickles do without it."""
        return {name: value for name, value in self.__dict__.items() if name != "_scorer"}

    def copy(self, **changes: Any) -> Prediction:
        copied = Prediction(self)
        copied._store.update(changes)
        copied._completions, copied._info, copied._scorer = self._completions, self._info, self._scorer
        copied._cut_off, copied._thinking, copied._usage = self._cut_off, self._thinking, self._usage
        copied._trace_id = self._trace_id
        return copied

    def __float__(self) -> float:
        if "score" not in self:
            raise TypeError(f"{self!r} has no field 'score', so it is not a number.")
        return float(self["score"])

    def __bool__(self) -> bool:
        return bool(self["score"]) if "score" in self else True

    def __lt__(self, other: float | Prediction) -> bool:
        return float(self) < float(other)

    def __gt__(self, other: float | Prediction) -> bool:
        return float(self) > float(other)

    def __le__(self, other: float | Prediction) -> bool:
        return float(self) <= float(other)

    def __ge__(self, other: float | Prediction) -> bool:
        return float(self) >= float(other)

    def __add__(self, other: float | Prediction) -> float:
        return float(self) + float(other)

    __radd__ = __add__

    def __truediv__(self, other: float | Prediction) -> float:
        return float(self) / float(other)

    def __rtruediv__(self, other: float | Prediction) -> float:
        return float(other) / float(self)


METHODS = frozenset(
    name
    for kind in (Example, Prediction)
    for name, value in vars(kind).items()
    if not name.startswith("_") and not isinstance(value, field_first)
)
"""What a record has under a name of its own, so that a field of that name is read as `prediction["items"]`."""


class Completions(tuple[Prediction, ...]):
    """The predictions of one call, in order; `completions[1]` is the second one, `completions.answer` all values of a field.

    >>> Completions([{"answer": "a"}, {"answer": "b"}]).answer
    ['a', 'b']

    Raises:
        InputError: there is none, or the fields have lists of different lengths.
    """

    signature: Any
    """What the predictions are answers to, where that was said."""

    def __new__(
        cls, list_or_dict: Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any] | Example], signature: Any = None
    ) -> Completions:
        completions = list_or_dict
        if isinstance(completions, Mapping):
            lengths = {name: len(values) for name, values in completions.items()}
            if len(set(lengths.values())) > 1:
                raise InputError(f"The fields have lists of different lengths: {lengths}. Give a value of every field for each completion.")
            completions = [dict(zip(completions, values, strict=True)) for values in zip(*completions.values(), strict=True)]
        made = super().__new__(cls, (one if isinstance(one, Prediction) else Prediction(one) for one in completions))
        if not made:
            raise InputError("There is no completion. Write, for example: Completions([{'answer': 'yes'}, {'answer': 'no'}]).")
        made.signature = signature
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (list(self), self.signature)

    @overload  # type: ignore[override]
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Prediction, ...]: ...
    @overload
    def __getitem__(self, index: str) -> list[Any]: ...
    def __getitem__(self, index: int | slice | str) -> Any:
        return [one[index] for one in self] if isinstance(index, str) else super().__getitem__(index)

    def __getattr__(self, name: str) -> list[Any]:
        if name.startswith("__") or name not in self[0]:
            raise AttributeError(f"The completions have no field {name!r}; they have {', '.join(map(repr, self[0])) or 'none'}.")
        return self[name]

    def __contains__(self, value: object) -> bool:
        return value in self[0] if isinstance(value, str) else super().__contains__(value)

    def items(self) -> Iterator[tuple[str, list[Any]]]:
        """Every field with all its values."""
        return ((name, self[name]) for name in self[0])


def _plain(value: Any) -> Any:
    match value:
        case Example():
            return value.toDict()
        case BaseModel():
            return value.model_dump(by_alias=True)
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _plain(asdict(value))
        case _:
            return value
