"""Files with the state of a program: instructions, demos and LMs by the path of their predictor; also those that DSPy wrote.

Knows no module; what it reads is data, and no code runs but that of a pickle where one is allowed.
"""

from __future__ import annotations

import json
import pickle
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from warnings import warn

from packaging.version import Version

from homefire.configs.home import write_atomic
from homefire.engine.lm_options import SAMPLING
from homefire.errors import InputError

LAYOUT = 1
"""Of the files; one that is written with a higher number cannot be read here."""

State = dict[str, Any]
_DSPY_LM = ("model", "model_type", "cache", "num_retries", "api_base", "_dspy_lm_class", "provider")


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
    """The states of all predictors in a file, by their path; those of a file of DSPy's as it has them, see `own_state`.

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


def check_layout(path: Path, layout: object, written: Mapping[str, str]) -> None:
    """Warns of a file that a newer homefire wrote.

    Raises:
        InputError: this one cannot read it.
    """
    theirs, ours = written.get("homefire", "0"), versions()["homefire"]
    if not isinstance(layout, int) or layout > LAYOUT:
        raise InputError(
            f"{path} has the layout {layout!r}, written by homefire {theirs}; this is homefire {ours}, which reads layouts up to {LAYOUT}. "
            "Install that version, or save the program again with this one."
        )
    if Version(theirs) > Version(ours):
        warn(
            f"{path} was written by homefire {theirs}, which is newer than this one, {ours}; what is new there is not known here.",
            stacklevel=5,
        )


def own_state(state: Mapping[str, Any], names: Sequence[str]) -> State:
    """The state of one predictor as `dump_state` gives it; one of DSPy's is translated.

    Args:
        state: What a file has of the predictor.
        names: The fields of its signature in the program.

    Raises:
        InputError: it is the state of something else, or has other fields.
    """
    try:
        fields = state["signature"]["fields"]
        theirs = any("prefix" in field for field in fields)
        found = _names_of(fields, names) if theirs else [field["name"] for field in fields]
        if list(found) != list(names):
            raise InputError(f"The saved signature has the fields {', '.join(found)}, but the program's has {', '.join(names)}.")
        if not theirs:
            return {"config": {}, "lm": None, **state, "demos": [dict(demo) for demo in state["demos"]]}
        described = [
            {"name": name, "description": "" if field["description"] == f"${{{name}}}" else field["description"]}
            for name, field in zip(names, fields, strict=True)
        ]
        signature = {"instructions": state["signature"]["instructions"], "fields": described}
        return {"signature": signature, "demos": state["demos"], "config": {}, "lm": _own_lm(state.get("lm"))}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"The saved state of a predictor cannot be read: it lacks {error}. Save the program again.") from None


def infer_prefix(name: str) -> str:
    """The words that DSPy shows for a field: `Search Query` for `search_query` and `searchQuery`."""
    words, word = [], ""
    for before, char in zip("_" + name, name, strict=False):
        if char == "_" or (char.isupper() and not before.isupper()) or (char.isdigit() and not before.isdigit()):
            words.append(word)
            word = ""
        word += "" if char == "_" else char
    return " ".join(one if one.isupper() else one.capitalize() for one in (*words, word) if one)


def _names_of(fields: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The names of DSPy's fields, which say what they are shown as, and `${name}` where they are not described."""
    shown = {f"{infer_prefix(name)}:": name for name in names}
    plain = [re.fullmatch(r"\$\{(\w+)\}", str(field["description"])) for field in fields]
    known = [found.group(1) if found else shown.get(field["prefix"]) for field, found in zip(fields, plain, strict=True)]
    if len(fields) == len(names) and all(one in (None, name) for one, name in zip(known, names, strict=True)):
        return list(names)
    return [one or str(field["prefix"]).rstrip(":") for one, field in zip(known, fields, strict=True)]


def _own_lm(lm: Mapping[str, Any] | None) -> State | None:
    if lm is None:
        return None
    sampling = {name: lm[name] for name in SAMPLING if lm.get(name) is not None}
    plain = {name: lm[name] for name in ("cache", "num_retries", "api_base") if lm.get(name) is not None}
    left = [name for name, value in lm.items() if name not in (*SAMPLING, *_DSPY_LM) and value not in (None, {}, [], False)]
    if left:
        warn(f"{', '.join(left)} of the saved LM {lm['model']!r} is not known here and is left out.", stacklevel=6)
    return {"model": lm["model"], "adapter": None, "settings": {}, "sampling": sampling, **plain}


def _predictors(path: Path, saved: Any) -> State:
    if not isinstance(saved, dict):
        raise InputError(f"{path} is not a program that `save` wrote: it holds a {type(saved).__name__}.")
    if "homefire" in saved:
        check_layout(path, saved["homefire"], saved.get("versions", {}))
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
