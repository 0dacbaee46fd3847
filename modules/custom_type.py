"""Types of a user's own in signatures: how a value is shown to a model, and how that becomes a message.

Knows no format and no engine. An output of such a type is read by its pydantic fields, like any other model.
"""

from __future__ import annotations

import json
import re
import secrets
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, SerializationInfo, SerializerFunctionWrapHandler, model_serializer
from pydantic_core import to_jsonable_python

from homefire.engine.request import Media, Message, Role
from homefire.errors import InputError

_SALT = secrets.token_hex(8)
"""Makes sure that no text of a user's is taken for the place of a medium."""
_PLACE = re.compile(f"\ue0f2{_SALT}-([0-9]+)\ue0f3")


class Type(BaseModel):
    """Base of types that say themselves how a model reads them.

    >>> class Event(Type):
    ...     name: str
    ...     day: str
    ...     def format(self) -> str:
    ...         return f"{self.name} on {self.day}"

    It may stand anywhere in a signature, also inside lists and pydantic models, as an input and as an output.
    """

    def format(self) -> str | Sequence[str | Media | Type | Mapping[str, Any]]:
        """The value as an input: text, or parts, which are texts, images, sounds and files in order. By default its fields as JSON."""
        rendering = Rendering()
        return rendering.message("user", rendering.json_of(self)).content

    @classmethod
    def description(cls) -> str:
        """What a model is told of the type, once in a prompt."""
        return ""

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo):  # type: ignore[no-untyped-def]  # the fields' own
        if isinstance(info.context, Rendering) and type(self).format is not Type.format:
            return info.context.text_of(self)
        return handler(self)


class Rendering:
    """Makes one message: notes the media that its texts mention, and puts them into their places at the end."""

    __slots__ = ("_media", "field")

    def __init__(self) -> None:
        self._media: list[Media] = []
        self.field = ""
        """The input whose value is being shown, for errors."""

    def text_of(self, value: Type) -> str:
        """What `value.format()` says, with a place for each medium.

        Raises:
            InputError: it says something else.
        """
        if type(value).format is Type.format:
            return self.json_of(value)
        said = value.format()
        if isinstance(said, str):
            return said
        if not isinstance(said, Sequence):
            raise _no_parts(value, said)
        return "".join(self._part(value, part) for part in said)

    def json_of(self, value: Any) -> str:
        """JSON of a value, in which the types of a user's own are shown as they say.

        Raises:
            ValueError: it has none.
            RecursionError: it contains itself.
        """
        plain = to_jsonable_python(value, by_alias=True, bytes_mode="base64", inf_nan_mode="constants", fallback=str, context=self)
        return json.dumps(plain, ensure_ascii=False)

    def message(self, role: Role, text: str) -> Message:
        """The message with this text, whose places are filled."""
        if not self._media:
            return Message(role, text)
        pieces: list[str | Media] = []
        for index, piece in enumerate(_PLACE.split(text)):
            if index % 2:
                pieces.append(self._media[int(piece)])
            elif piece:
                pieces.append(piece)
        return Message(role, "".join(map(str, pieces)), tuple(pieces))

    def _part(self, value: Type, part: str | Media | Type | Mapping[str, Any]) -> str:
        """The text of a part; texts and images may also come in OpenAI's words."""
        match part:
            case str(text) | {"type": "text", "text": str(text)}:
                return text
            case Type():
                return self.text_of(part)
            case Media():
                return self._place(part)
            case {"type": "image_url", "image_url": {"url": str(url)}}:
                return self._place(Media("image", url))
        raise _no_parts(value, part)

    def _place(self, media: Media) -> str:
        self._media.append(replace(media, source=self.field))
        return f"\ue0f2{_SALT}-{len(self._media) - 1}\ue0f3"


def custom_types(annotation: Any) -> set[type[Type]]:
    """The types of a user's own that values of an annotation may hold, also inside lists and pydantic models."""
    return set(_found(annotation, set()))


def descriptions(annotation: Any) -> str:
    """What the types in an annotation say of themselves."""
    said = sorted({f"{cls.__name__}: {cls.description()}" for cls in custom_types(annotation) if cls.description()})
    return "; ".join(said)


def _found(annotation: Any, seen: set[int]) -> Iterator[type[Type]]:
    if id(annotation) in seen:
        return
    seen.add(id(annotation))
    for argument in typing.get_args(annotation):
        yield from _found(argument, seen)
    if isinstance(annotation, type) and typing.get_origin(annotation) is None and issubclass(annotation, BaseModel):
        if issubclass(annotation, Type):
            yield annotation
        for field in annotation.model_fields.values():
            yield from _found(field.annotation, seen)


def _no_parts(value: Type, said: object) -> InputError:
    wanted = "expected text, or a list of texts, images, sounds and files"
    return InputError(f"{type(value).__name__}.format() gave {said!r}; {wanted}. Write `return f'...'` or `return ['...', self.image]`.")
