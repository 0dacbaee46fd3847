"""Values of an output type: from Python to JSON and to bare text, and back.

Knows no prompt and no signature; a format puts these texts between its own words.
"""

from __future__ import annotations

import json
import math
import re
from functools import cached_property, lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from homefire.errors import ConstraintError, InputError, ParseError
from homefire.modules.bare_text import choice_texts, read_line, style, write_line
from homefire.modules.portable_types import portable
from homefire.modules.shape_reader import shapes_of
from homefire.modules.shape_values import dumped, loadable, needs_loading
from homefire.modules.type_shape import Choices, Either, Flag, Named, Null, Number, Shape, Shapes, Text
from homefire.modules.type_words import in_words

_FORM_ERROR = re.compile(
    r".*_(type|parsing|parsing_size|required|attribute|attributes_type|unicode|forbidden)|missing|enum|literal_error|union_tag_.*|json_.*"
    r"|finite_number|(int|date|datetime)_from_.*|date_from_.*|.*_keyword.*|is_instance_of|missing_argument"
)
"""Pydantic's names for values of another form or type; all its other errors are broken constraints."""


class ValueType:
    """One output type. For every value x, `load(dump(x)) == x` and `from_bare(bare(x)) == x`."""

    def __init__(self, annotation: Any, shapes: Shapes) -> None:
        self.annotation = annotation
        self.shapes = shapes

    def __repr__(self) -> str:
        return f"ValueType({self.annotation!r})"

    @property
    def free(self) -> bool:
        """Whether bare text of the type may hold anything: a str without bounds and pattern."""
        return isinstance(self._root, Text) and self._root.free

    def dump(self, value: Any) -> Any:
        """The JSON value of a Python value: records as objects in the order of their fields, sets sorted.

        Raises:
            InputError: `value` is no value of the type.
        """
        try:
            return dumped(self.shapes, self.shapes.root, self._valid(value))
        except ValidationError as error:
            said = _sentence(error.errors()[0])
        except (ValueError, TypeError, AttributeError) as error:
            said = str(error)
        raise InputError(f"{value!r} is not {in_words(self.annotation)}: {said}.")

    def load(self, jsonable: Any) -> Any:
        """The Python value of a JSON value.

        Raises:
            ConstraintError: of the right form, but breaking a constraint.
            ParseError: not of the type.
        """
        return self._load(jsonable, json.dumps(jsonable, ensure_ascii=False))

    def bare(self, value: Any) -> str:
        """The text of a value where no JSON is around it: texts and scalars without quotes, everything else as JSON on one line.

        A str with bounds or a pattern is one line, in which control characters, `<` and spaces at the ends are escaped as in JSON.

        Raises:
            InputError: `value` is no value of the type.
        """
        plain = self.dump(value)
        match style(self.shapes, self._root), self._scalar:
            case "text", _:
                return str(plain)
            case "line", _:
                return write_line(plain)
            case "raw", Choices() as choices if plain is not None or None in choices.plain:
                position = next(i for i, own in enumerate(choices.plain) if type(own) is type(plain) and own == plain)
                return choice_texts(choices, optional=self._root is not choices)[position]
            case "raw", _:
                return plain if isinstance(plain, str) else json.dumps(plain)
        return json.dumps(plain, ensure_ascii=False)

    def from_bare(self, text: str) -> Any:
        """The Python value of a bare text. Texts are taken as they are; around other values white space does not count.

        Raises:
            ConstraintError: of the right form, but breaking a constraint.
            ParseError: not of the type.
        """
        match style(self.shapes, self._root), self._scalar:
            case "text", _:
                return self._load(text, text)
            case "line", _:
                return self._load(read_line(text), text)
            case "raw", Choices() as choices:
                texts = choice_texts(choices, optional=self._root is not choices)
                if text.strip() in texts:
                    return self._load(choices.plain[texts.index(text.strip())], text)
                return self._load(_scalar(text.strip()), text)
            case "raw", Named() | Number(exact=True):
                own = self._scalar is self._root or text.strip() != "null"
                return self._load(text.strip() if own else None, text)
            case "raw", _:
                return self._load(_scalar(text.strip()), text)
        try:
            return self._load(json.loads(text, strict=False), text)
        except json.JSONDecodeError as error:
            raise ParseError(f"The text is not JSON ({error}); expected {in_words(self.annotation)}: {text!r}", text) from None

    def choices(self) -> tuple[Any, ...] | None:
        """The values of a Literal, an Enum or bool; None for types without a fixed set of values."""
        match self._root:
            case Choices(values):
                return values
            case Flag():
                return (True, False)
        return None

    @property
    def _root(self) -> Shape:
        return self.shapes.of(self.shapes.root)

    @cached_property
    def _scalar(self) -> Shape:
        """The root, or what it is when it is not None."""
        if isinstance(self._root, Either):
            return next(one for member in self._root.members if not isinstance(one := self.shapes.of(member), Null))
        return self._root

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(portable(self.annotation))

    @cached_property
    def _through_python(self) -> bool:
        return needs_loading(self.shapes)

    def _valid(self, value: Any) -> Any:
        """A value as Python has it, or its JSON value as demos from a file have it."""
        try:
            return self._adapter.validate_python(value)
        except ValidationError:
            try:
                return self._validate(value)
            except (ValidationError, TypeError, ValueError):
                pass
            raise

    def _validate(self, plain: Any) -> Any:
        if self._through_python:
            return self._adapter.validate_python(loadable(self.shapes, self.shapes.root, plain))
        return self._adapter.validate_json(json.dumps(plain))

    def _load(self, plain: Any, text: str) -> Any:
        if _has_endless(plain):
            raise ParseError(f"The value holds a number that is not finite; expected {in_words(self.annotation)}: {text!r}", text)
        try:
            return self._validate(plain)
        except ValidationError as error:
            problems = error.errors(include_url=False)
        if any(not _is_form_error(problem["type"]) for problem in problems):
            raise ConstraintError(tuple(_sentence(p) for p in problems if not _is_form_error(p["type"])), text)
        raise ParseError(f"The value is not {in_words(self.annotation)}: {_sentence(problems[0])}: {text!r}", text)


def value_type(annotation: Any) -> ValueType:
    """The value type of an annotation, made once.

    Raises:
        SignatureError: the type has no grammar.
    """
    try:
        return _cached(annotation, repr(annotation))
    except TypeError:
        return ValueType(annotation, shapes_of(annotation))


@lru_cache(maxsize=512)
def _cached(annotation: Any, order: str) -> ValueType:
    """`order` tells apart the unions that compare equal though their members come in another order."""
    return ValueType(annotation, shapes_of(annotation))


def _scalar(text: str) -> Any:
    """A bare scalar as JSON value: what is no number, bool or null is text."""
    try:
        plain = json.loads(text)
    except ValueError:
        return text
    return plain if isinstance(plain, int | float | bool | None) else text


def _is_form_error(name: str) -> bool:
    return _FORM_ERROR.fullmatch(name) is not None


def _sentence(problem: Any) -> str:
    """What pydantic says of a value, beginning with where in the value it is."""
    place = ".".join(str(part) for part in problem["loc"])
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    given = problem["input"]
    got = f", got {given!r}" if isinstance(given, str | int | float | bool | None) else ""
    return f"{place + ': ' if place else ''}{said[:1].lower()}{said[1:]}{got}"


def _has_endless(plain: Any) -> bool:
    match plain:
        case float():
            return not math.isfinite(plain)
        case list():
            return any(map(_has_endless, plain))
        case dict():
            return any(map(_has_endless, plain.values()))
    return False
