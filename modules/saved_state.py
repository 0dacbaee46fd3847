"""Files with the state of a program: instructions, demos and LMs by the path of their predictor; also those that DSPy wrote.

Knows no module; what it reads is data, and no code runs but that of a pickle where one is allowed.
"""

from __future__ import annotations

import json
import pickle
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from warnings import warn

from packaging.version import Version
from pydantic_core import to_jsonable_python

from homefire.configs.home import write_atomic
from homefire.engine.lm import LM
from homefire.errors import InputError
from homefire.modules.dspy_state import is_dspys, translated
from homefire.modules.example import Example
from homefire.modules.signature import Signature

LAYOUT = 1
"""Of the files; one that is written with a higher number cannot be read here."""

State = dict[str, Any]


def write_state(path: Path, predictors: State, *, allow_pickle: bool) -> None:
    """Writes a state, atomically: as JSON, or pickled where the name ends in `.pkl`.

    Raises:
        InputError: a pickle that was not allowed, or another ending than these.
    """
    state = {"homefire": LAYOUT, "versions": versions(), "predictors": predictors}
    if path.suffix == ".pkl":
        _check_pickle(path, allow_pickle, "save")
        write_atomic(path, pickle.dumps(state))
    elif path.suffix in (".json", ""):
        write_atomic(path, json.dumps(state, ensure_ascii=False, indent=2))
    else:
        raise InputError(f"A program is saved as .json, not as {path.suffix}. Write program.save({str(path.with_suffix('.json'))!r}).")


def read_state(path: Path, *, allow_pickle: bool) -> State:
    """The states of all predictors in a file, by their path; those of a file of DSPy's as it has them, see `parts_of`.

    Raises:
        InputError: no such file, a pickle that was not allowed, a damaged file, or one that is no saved program.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder, which holds a whole program. Write program = homefire.load({str(path)!r}).")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no saved program at {path}. Write program.save({str(path)!r}) first.") from None
    if path.suffix == ".pkl":
        _check_pickle(path, allow_pickle, "load")
        saved = _unpickled(path, data)
    else:
        try:
            saved = json.loads(data)
        except ValueError as error:
            raise InputError(f"{path} is not a program that `save` wrote, or it was cut off: {error}.") from None
    return _predictors(path, saved)


def versions() -> dict[str, str]:
    """What a file was written with."""
    try:
        own = version("homefire")
    except PackageNotFoundError:
        own = "0"
    return {"homefire": own, "python": ".".join(platform.python_version_tuple()[:2])}


def check_layout(path: Path, layout: object, newest: int, written: Mapping[str, str]) -> None:
    """Warns of a file that a newer homefire wrote.

    Raises:
        InputError: this one cannot read it.
    """
    theirs, ours = written.get("homefire", "0"), versions()["homefire"]
    if not isinstance(layout, int) or layout > newest:
        raise InputError(
            f"{path} has the layout {layout!r}, written by homefire {theirs}; this is homefire {ours}, which reads layouts up to {newest}. "
            "Install that version, or save the program again with this one."
        )
    if Version(theirs) > Version(ours):
        warn(
            f"{path} was written by homefire {theirs}, which is newer than this one, {ours}; what is new there is not known here.",
            stacklevel=5,
        )


def state_of(signature: type[Signature], demos: Sequence[Example], config: Mapping[str, Any], lm: LM | None) -> State:
    """The state of one predictor, as JSON values."""
    return {
        "signature": signature.dump_state(),
        "demos": [to_jsonable_python(Example(demo).toDict(), by_alias=True) for demo in demos],
        "config": to_jsonable_python(config),
        "lm": None if lm is None else lm.dump_state(),
    }


def parts_of(
    state: Mapping[str, Any], signature: type[Signature], *, allow_endpoint: bool
) -> tuple[type[Signature], list[Example], dict[str, Any], LM | None]:
    """Signature, demos, sampling and LM of the state of one predictor.

    Args:
        state: What `state_of` gave, or DSPy.
        signature: That of the predictor in the program, which has the types.
        allow_endpoint: Whether to take the address of a server from the state.

    Raises:
        InputError: it is the state of something else, or has other fields.
    """
    own = _own_state(state, list(signature.fields))
    lm = None if own["lm"] is None else LM.from_state(own["lm"], allow_endpoint=allow_endpoint)
    return signature.load_state(own["signature"]), [Example(demo) for demo in own["demos"]], dict(own["config"]), lm


def _own_state(state: Mapping[str, Any], names: Sequence[str]) -> State:
    """The state of one predictor; one of DSPy's is translated."""
    try:
        if is_dspys(state):
            return translated(state, names)
        found = [field["name"] for field in state["signature"]["fields"]]
        if found != list(names):
            raise InputError(f"The saved signature has the fields {', '.join(found)}, but the program's has {', '.join(names)}.")
        return {"config": {}, "lm": None, **state, "demos": [dict(demo) for demo in state["demos"]]}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"The saved state of a predictor cannot be read: it lacks {error}. Save the program again.") from None


def _predictors(path: Path, saved: Any) -> State:
    if not isinstance(saved, dict):
        raise InputError(f"{path} is not a program that `save` wrote: it holds a {type(saved).__name__}.")
    if "homefire" in saved:
        check_layout(path, saved["homefire"], LAYOUT, saved.get("versions", {}))
        predictors = saved.get("predictors")
    elif "signature" in saved and "demos" in saved:
        predictors = {"self": {name: value for name, value in saved.items() if name != "metadata"}}
    else:
        predictors = {name.removeprefix("self."): value for name, value in saved.items() if name != "metadata"}
    if not isinstance(predictors, dict) or not all(isinstance(one, dict) and "signature" in one for one in predictors.values()):
        raise InputError(f"{path} is not a program that `save` wrote: it has no predictors with signatures.")
    return {path or "self": one for path, one in predictors.items()}


def _check_pickle(path: Path, allowed: bool, verb: str) -> None:
    if not allowed:
        raise InputError(
            f"{path} is a pickle, and loading a pickle runs the code in it. Use .json, or, for files that you trust, "
            f"program.{verb}({str(path)!r}, allow_pickle=True)."
        )


def _unpickled(path: Path, data: bytes) -> Any:
    try:
        return pickle.loads(data)
    except Exception as error:
        raise InputError(f"{path} cannot be unpickled: {type(error).__name__}: {error}.") from None
