"""Code: an output type for source code, without the fences that models put around it.

Knows no format and no interpreter; to pydantic and to the grammars it is a text.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import Any, ClassVar, Self

from pydantic_core import CoreSchema, core_schema

_FENCED = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[ \t]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)


class Code(str):
    r"""Source code: a str whose fences and empty lines around it are gone.

    >>> Code["python"]("```python\nprint(1)\n```")
    'print(1)'

    As a type, `Code` is code in any language and `Code["sql"]` code in one; `language` tells which.
    """

    language: ClassVar[str] = ""

    def __new__(cls, code: str = "") -> Self:
        return super().__new__(cls, code if isinstance(code, cls) else _stripped(str(code), cls.language))

    def __class_getitem__(cls, language: str) -> type[Code]:
        return code_in(language)

    @property
    def code(self) -> str:
        """The code as a plain str."""
        return str.__str__(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema(), serialization=core_schema.to_string_ser_schema())

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return _restored, (self.language, self.code)


@lru_cache(maxsize=64)
def code_in(language: str) -> type[Code]:
    """The type of code in a language; the same one every time."""
    return type(f"Code[{language!r}]", (Code,), {"language": language, "__module__": Code.__module__, "__slots__": ()})


def _restored(language: str, text: str) -> Code:
    return (code_in(language) if language else Code)(text)


def _stripped(text: str, language: str) -> str:
    """The code in a text: what is fenced where something is, otherwise all of it."""
    while True:
        inner = _once(text, language)
        if inner == text:
            return text
        text = inner


def _once(text: str, language: str) -> str:
    bare = text.strip("\n").rstrip()
    if language.lower() in ("python", "py") and _is_python(bare):
        return bare
    blocks = _FENCED.findall(bare)
    own = [block for block in blocks if language and block[1].lower() == language.lower()] or blocks
    return "\n".join(block[2].strip("\n") for block in own).rstrip() if own else bare


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
