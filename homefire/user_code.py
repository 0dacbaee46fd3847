"""What the user names on the command line: a signature in text, or a program, signature or function in a file of Python.

Knows no data and no model. A user's file is run once; what goes wrong in it is told with its line.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import re
import sys
import traceback
import typing
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from homefire.errors import InputError, SignatureError
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.module import Module, Predictor
from homefire.modules.predict import Predict
from homefire.modules.rag import RAG
from homefire.modules.signature import Field, Signature, make_signature
from homefire.modules.signature_text import parse_signature

_REFERENCE = re.compile(r"(?P<path>.+\.py):(?P<name>\w+)")


def load_program(text: str, *, instructions: str | None = None, think: bool = False) -> Module:
    """The program that an argument names; a copy, which the caller may change.

    Args:
        text: a signature such as `text -> label: Literal['a', 'b']`, or `path/to/file.py:name` of a Module, a Signature class, or a
            callable without arguments that makes a Module.
        instructions: instructions of the signature, or of the program's only predictor.
        think: reason before the answer; not for programs that are modules already.

    Raises:
        InputError: no such file or name, a name of another kind, or an error in the user's file.
        SignatureError: the text is no signature.
    """
    found = _signature(text) if "->" in text or not _looks_like_file(text) else load_object(text)
    if not isinstance(found, Module | type) and callable(found):
        found = _made(text, found)
    if isinstance(found, type) and issubclass(found, Module):
        found = _made(text, found)
    if isinstance(found, type) and issubclass(found, Signature):
        signature = found if instructions is None else found.with_instructions(instructions)
        return ChainOfThought(signature) if think else Predict(signature)
    if not isinstance(found, Module):
        raise InputError(
            f"{text} is a {type(found).__name__}; expected a Module, a Signature class, or a callable without arguments that makes "
            "a Module."
        )
    if think:
        raise InputError(f"{text} is a program, and --think is for signatures. Leave it out, or use ChainOfThought in the program.")
    program = found.deepcopy()
    if instructions is not None:
        if len(program.predictors()) != 1:
            raise InputError(f"{text} has {len(program.predictors())} predictors; --instructions is for one. Write them in the file.")
        predictor = program.predictors()[0]
        predictor.signature = predictor.signature.with_instructions(instructions)
    return program


def load_function(text: str, takes: int) -> Callable[..., Any]:
    """The function `path/to/file.py:name`, which can be called with so many arguments.

    Raises:
        InputError: see `load_program`.
    """
    found = load_object(text)
    if not callable(found) or isinstance(found, type):
        raise InputError(f"{text} is a {type(found).__name__}; expected a function.")
    try:
        inspect.signature(found).bind(*range(takes))
    except TypeError as error:
        raise InputError(f"{text} cannot be called with {takes} arguments: {error}. Give it {takes} parameters by position.") from None
    return found


def load_object(text: str) -> object:
    """What `path/to/file.py:name` names.

    Raises:
        InputError: see `load_program`.
    """
    reference = _REFERENCE.fullmatch(text)
    if reference is None:
        raise InputError(f"{text!r} names nothing in a file. Write the file, a colon and the name in it, as in program.py:program.")
    shown, name = Path(reference["path"]), reference["name"]
    path = shown.expanduser().resolve()
    if not path.is_file():
        raise InputError(f"There is no file {shown}. Check the path; it is read from {Path.cwd()}.")
    with _blaming(shown, path):
        names = vars(_module(path))
    if name in names:
        found: object = names[name]
        return found
    module = _module(path)
    known = [key for key, value in names.items() if not key.startswith("_") and _is_of(module, value)]
    near = difflib.get_close_matches(name, known, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{shown} has no name {name!r}.{guess} It defines: {', '.join(known) or 'nothing that could be used'}.")


def fields_of(program: Module, columns: Collection[str]) -> type[Signature]:
    """What a program reads from data with these columns, and the outputs that can be compared with the data.

    For a module of the user's own the inputs are the parameters of its `forward`, those with a default only where there is a column;
    types are those of the predictors' fields of the same name, otherwise those of the annotations.

    Raises:
        InputError: the program has no predictor.
    """
    match program:
        case Predictor():
            return program.signature
        case ChainOfThought():
            return program.predict.signature
        case RAG():
            return program.task
    known: dict[str, Field] = {}
    outputs: dict[str, Field] = {}
    for predictor in program.predictors():
        known = {**predictor.signature.input_fields, **known}
        outputs |= predictor.signature.output_fields
    if not outputs:
        raise InputError(f"The program {type(program).__name__} has no predictor, so there is nothing to run a model with.")
    parameters = list(inspect.signature(program.forward).parameters.values())
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        inputs = {name: field for name, field in known.items() if name in columns and name not in outputs}
    else:
        needed = [one.name for one in parameters if one.default is one.empty or one.name in columns]
        hints = _hints(program)
        inputs = {name: Field(name, known[name].type if name in known else hints.get(name, str), "input") for name in needed}
    return make_signature([*inputs.values(), *(field for name, field in outputs.items() if name not in inputs)])


def _looks_like_file(text: str) -> bool:
    return _REFERENCE.fullmatch(text) is not None or text.endswith(".py")


def _signature(text: str) -> type[Signature]:
    try:
        return make_signature([Field(*declared) for declared in parse_signature(text, {})])
    except SignatureError as error:
        raise SignatureError(f"{error} For types of your own write the signature into a file and name it: program.py:NAME.") from None


def _made(text: str, maker: Callable[..., Any]) -> object:
    try:
        inspect.signature(maker).bind()
    except TypeError as error:
        raise InputError(f"{text} makes no program without arguments: {error}. Make one in the file, and name that.") from None
    shown = Path(text.rpartition(":")[0])
    with _blaming(shown, shown.expanduser().resolve()):
        made: object = maker()
    if not isinstance(made, Module):
        raise InputError(f"{text}() gives a {type(made).__name__}; expected a Module.")
    return made


def _hints(program: Module) -> dict[str, Any]:
    try:
        return typing.get_type_hints(type(program).forward)
    except (NameError, TypeError):
        return {}


def _is_of(module: ModuleType, value: object) -> bool:
    """Whether it was defined in the module and could be a program, a signature or a function."""
    if isinstance(value, Module):
        return True
    return callable(value) and inspect.getmodule(value) is module


@cache
def _module(path: Path) -> ModuleType:
    """The file as a module, run once; files beside it can be imported, as when Python runs it."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    name = f"homefire_user_{path.stem}_{abs(hash(path)):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a name that ends in .py has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _blaming(shown: Path, path: Path) -> Iterator[None]:
    """Turns what goes wrong in a user's file into an error with the user's line.

    Raises:
        InputError: anything went wrong.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        line, code = _place(path, error)
        place = f", line {line}" if line else ""
        raise InputError(
            f"{shown}{place} failed with {type(error).__name__}: {error}{f' (in `{code}`)' if code else ''}. Correct the file; "
            "the whole traceback is shown by: homefire --debug ..."
        ) from error


def _place(path: Path, error: BaseException) -> tuple[int | None, str]:
    """Line and code in the user's file that led to an error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno, (error.text or "").strip()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (frames[-1].lineno, frames[-1].line or "") if frames else (None, "")
