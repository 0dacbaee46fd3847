"""What hypothesis draws for tests of formats: whole signatures with values of their outputs, and texts that mean no good."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import reject
from hypothesis import strategies as st
from pydantic import PydanticUserError

from homefire.errors import SignatureError
from homefire.modules.signature import Field, Signature, make_signature
from tests.type_strategies import types

CHAT_MARKS = ["[[ ## a ## ]]", "\n[[ ## completed ## ]]", "\n\n[[ ## größe ## ]]\n", "[[ ##", "\\[[ ##", "[["]
XML_MARKS = ["</a>", "<a>", "</a>\n<b>", "<\\/a>", "</größe>", "</"]
OTHER_MARKS = ['{"a": 1}', '"}', "```json", "<|im_end|>", "<|im_start|>assistant\n", "</s>", "[INST]"]
SPACES = ["\n", "\n\n", " ", "\t", "\r\n", "\u2028"]
CHARACTERS = ["\x00", "\x07", "\x1b", "\x7f", "\\", '"', "'", "é", "漢字", "😀", "\u202e", "\ufffd", "e\u0301"]
PIECES = [*CHAT_MARKS, *XML_MARKS, *OTHER_MARKS, *SPACES, *CHARACTERS]
NAMES = ["a", "b", "answer", "größe", "completed", "items", "json", "value_1", "x" * 40]


def hostile_texts(*, max_pieces: int = 8) -> st.SearchStrategy[str]:
    """Text made of marks of the formats, control characters, other scripts and any characters that UTF-8 can write."""
    plain = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6)
    return st.lists(st.sampled_from(PIECES) | plain, max_size=max_pieces).map("".join)


class Case(NamedTuple):
    """A signature with values."""

    signature: type[Signature]
    inputs: dict[str, Any]
    outputs: dict[str, Any]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A signature of one to five outputs, about every third of them free text, with hostile inputs."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    fields, outputs = [], {}
    for name in names:
        annotation, values = _typed(draw)
        fields.append(Field(name, annotation, "output", draw(st.sampled_from(["", "a few words", "[[ ## a ## ]] </a>"]))))
        outputs[name] = draw(values)
    inputs = {f"in_{index}": draw(hostile_texts()) for index in range(draw(st.integers(0, 2)))}
    fields += [Field(name, str, "input") for name in inputs]
    return Case(_signature(fields, draw(st.sampled_from(["Answer.", "Say [[ ## a ## ]] and </a>."]))), inputs, outputs)


def _typed(draw: st.DrawFn) -> tuple[Any, st.SearchStrategy[Any]]:
    """A type with its values; not a model with a `typing.TypedDict` in it, which pydantic refuses on Python 3.11."""
    try:
        return draw(st.just((str, hostile_texts())) | types() | types())
    except PydanticUserError:
        reject()


def _signature(fields: list[Field], instructions: str) -> type[Signature]:
    """The signature; not with a dataclass that has such a TypedDict."""
    try:
        return make_signature(fields, instructions)
    except SignatureError as error:
        if "typing_extensions.TypedDict" in str(error):
            reject()
        raise
