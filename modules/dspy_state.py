"""States that DSPy wrote, as ours: fields by what they are shown as, steps of its ReAct as ours, LMs without what means nothing here.

Knows no file and no module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from warnings import warn

from homefire.engine.lm_options import SAMPLING
from homefire.errors import InputError

State = dict[str, Any]

_CALLS = "next_tool_calls"
_CALL = ("next_tool_name", "next_tool_args")
"""What a step of DSPy's ReAct says in two fields; ours has a list of typed calls."""
_RESULTS = "tool_call_results"
"""Stands in a step of our ReActV2 where DSPy's has its tools, which ours has in its instructions."""
_KNOWN_OF_LM = ("model", "model_type", "cache", "num_retries", "api_base", "_dspy_lm_class", "provider")


def is_dspys(state: Mapping[str, Any]) -> bool:
    """Whether DSPy wrote the state of a predictor."""
    return any("prefix" in field for field in state["signature"]["fields"])


def translated(state: Mapping[str, Any], names: Sequence[str]) -> State:
    """The state of one predictor as `dump_state` gives it.

    Args:
        state: What DSPy wrote of the predictor.
        names: The fields of its signature in the program.

    Raises:
        InputError: it has other fields.
    """
    fields, instructions = state["signature"]["fields"], state["signature"]["instructions"]
    demos = [dict(demo) for demo in state["demos"]]
    found = _names_of(fields, names)
    described = {name: _description(field) for name, field in zip(found, fields, strict=True)}
    if "tools" in found and _RESULTS in names:
        described = {_RESULTS if name == "tools" else name: "" if name == "tools" else said for name, said in described.items()}
        demos = [{name: value for name, value in demo.items() if name not in ("tools", "history")} for demo in demos]
    if found != list(names) and _CALLS in names:
        described = _with_calls(described)
        demos = [_with_call(demo) for demo in demos]
        instructions = instructions.replace(_CALL[0], f"{_CALLS}.name").replace(_CALL[1], f"{_CALLS}.args")
    if list(described) != list(names):
        raise InputError(f"The saved signature has the fields {', '.join(found)}, but the program's has {', '.join(names)}.")
    signature = {"instructions": instructions, "fields": [{"name": name, "description": said} for name, said in described.items()]}
    return {"signature": signature, "demos": demos, "config": {}, "lm": _own_lm(state.get("lm"))}


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
    shown = {f"{infer_prefix(name)}:": name for name in (*names, *_CALL)}
    plain = [re.fullmatch(r"\$\{(\w+)\}", str(field["description"])) for field in fields]
    known = [found.group(1) if found else shown.get(field["prefix"]) for field, found in zip(fields, plain, strict=True)]
    if len(fields) == len(names) and all(one in (None, name) for one, name in zip(known, names, strict=True)):
        return list(names)
    return [one or str(field["prefix"]).rstrip(":") for one, field in zip(known, fields, strict=True)]


def _description(field: Mapping[str, Any]) -> str:
    """What a field says of itself; the name in braces that DSPy puts in place of nothing is nothing."""
    said = str(field["description"])
    return "" if re.fullmatch(r"\$\{[^}]*\}", said) else said


def _with_calls(described: Mapping[str, str]) -> dict[str, str]:
    """The descriptions of a step, those of a call's two fields as one."""
    if [name for name in described if name in _CALL] != list(_CALL):
        return dict(described)
    said = "; ".join(f"{part}: {described[name]}" for name, part in zip(_CALL, ("name", "args"), strict=True) if described[name])
    return {name: text for name, text in described.items() if name not in _CALL} | {_CALLS: said}


def _with_call(demo: Mapping[str, Any]) -> State:
    """A demo of a step with its call as a list of one."""
    made = {name: value for name, value in demo.items() if name not in _CALL}
    if _CALL[0] in demo:
        made[_CALLS] = [{"name": demo[_CALL[0]], "args": _arguments(demo.get(_CALL[1]))}]
    return made


def _arguments(said: Any) -> Any:
    try:
        return json.loads(said) if isinstance(said, str) else said or {}
    except ValueError:
        return {}


def _own_lm(lm: Mapping[str, Any] | None) -> State | None:
    if lm is None:
        return None
    sampling = {name: lm[name] for name in SAMPLING if lm.get(name) is not None}
    plain = {name: lm[name] for name in ("cache", "num_retries", "api_base") if lm.get(name) is not None}
    left = [name for name, value in lm.items() if name not in (*SAMPLING, *_KNOWN_OF_LM) and value not in (None, {}, [], False)]
    if left:
        warn(f"{', '.join(left)} of the saved LM {lm['model']!r} is not known here and is left out.", stacklevel=7)
    return {"model": lm["model"], "adapter": None, "settings": {}, "sampling": sampling, **plain}
