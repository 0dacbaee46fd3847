"""Whole programs in a folder: classes by name and attributes as data, so that loading runs no code; or a pickle, where that is asked for.

Knows no module beyond what `Savable` says. A class is found where it is imported already; nothing is constructed, attributes are put back.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from warnings import warn

from homefire.configs.home import write_atomic
from homefire.engine.lm import LM
from homefire.errors import InputError, MissingExtra
from homefire.modules.program_values import ProgramReader, ProgramWriter
from homefire.modules.savable import Savable
from homefire.modules.saved_state import check_layout, versions
from homefire.modules.signature import Signature, make_signature

ENTRY = "program.json"
LAYOUT = 2
"""Of the folders; one that is written with a higher number cannot be read here."""


def save_program(program: Savable, folder: Path, modules_to_serialize: Sequence[Any] | None) -> None:
    """Writes a program into a folder; the old one there is replaced in one step.

    Args:
        program: The program.
        folder: Made if need be.
        modules_to_serialize: Modules whose code goes into a pickle; None writes no pickle.

    Raises:
        InputError: an attribute that only a pickle can hold, or one that not even a pickle can.
    """
    if folder.is_file() or folder.suffix in (".json", ".pkl"):
        raise InputError(f"A whole program is saved into a folder, not into {folder}. Write program.save('my_program', save_program=True).")
    entry: dict[str, Any] = {"homefire": LAYOUT, "versions": versions()}
    old = {path.name for path in folder.glob("program-*.pkl")}
    if modules_to_serialize is None:
        entry["program"] = ProgramWriter().written(program, type(program).__name__)
    else:
        data = _pickled(program, modules_to_serialize)
        digest = hashlib.sha256(data).hexdigest()
        entry |= {"pickle": f"program-{digest[:12]}.pkl", "sha256": digest}
        entry["versions"]["cloudpickle"] = _cloudpickle().__version__
        write_atomic(folder / entry["pickle"], data)
    write_atomic(folder / ENTRY, json.dumps(entry, ensure_ascii=False, indent=1))
    for name in old - {entry.get("pickle")}:
        with suppress(OSError):
            (folder / name).unlink()


def load(path: str | Path, allow_code: bool = False, *, allow_pickle: bool = False, allow_endpoint: bool = False) -> Any:
    """The program that `program.save(folder, save_program=True)` wrote.

    Args:
        path: The folder.
        allow_code: Whether code may run: that of a pickle, and that of modules that are not imported yet.
        allow_pickle: Another name of `allow_code`.
        allow_endpoint: Whether to take addresses of servers from the file, which then decides where prompts go.

    Raises:
        InputError: no such folder, a damaged file, a class that is not imported, or a pickle that was not allowed.
    """
    folder, allowed = Path(path), allow_code or allow_pickle
    entry = _entry(folder)
    check_layout(folder / ENTRY, entry.get("homefire"), LAYOUT, entry.get("versions", {}))
    if "pickle" in entry:
        return _unpickled(folder, entry, allowed, allow_endpoint)
    try:
        program = ProgramReader(allow_code=allowed, allow_endpoint=allow_endpoint).read(entry["program"])
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{folder / ENTRY} is damaged: {type(error).__name__}: {error}. Save the program again.") from None
    if not isinstance(program, Savable):
        raise InputError(f"{folder / ENTRY} holds a {type(program).__name__}, which is no program.")
    return program


def _entry(folder: Path) -> dict[str, Any]:
    if folder.is_file():
        raise InputError(
            f"{folder} is a file, which holds the state of a program. Make the program, then write program.load({str(folder)!r})."
        )
    try:
        entry = json.loads((folder / ENTRY).read_text(encoding="utf-8"))
    except FileNotFoundError:
        theirs = (folder / "program.pkl").exists()
        hint = (
            "its pickle is one of DSPy's, which only DSPy can load; save its state as JSON there" if theirs else "there is no program.json"
        )
        raise InputError(f"{folder} is not a program that `save(..., save_program=True)` wrote: {hint}.") from None
    except ValueError as error:
        raise InputError(f"{folder / ENTRY} is damaged or was cut off: {error}.") from None
    if not isinstance(entry, dict) or not ({"pickle", "program"} & set(entry)):
        raise InputError(f"{folder / ENTRY} holds no program.")
    return entry


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, allow_endpoint: bool) -> None:
        super().__init__(io.BytesIO(data))
        self._allow_endpoint = allow_endpoint

    def persistent_load(self, pid: Any) -> LM:
        return LM.from_state(json.loads(pid), allow_endpoint=self._allow_endpoint)


def _pickled(program: Savable, modules: Sequence[Any]) -> bytes:
    cloudpickle = _cloudpickle()

    class Pickler(cloudpickle.Pickler):  # type: ignore[name-defined,misc]
        """Keeps LMs as their state, for engines stay where they are, and signatures as their fields, for most are made by calls."""

        def persistent_id(self, value: Any) -> str | None:
            return json.dumps(value.dump_state()) if isinstance(value, LM) else None

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, type) and issubclass(value, Signature) and value is not Signature:
                return make_signature, (list(value.fields.values()), value.instructions), None
            return super().reducer_override(value)

    file, registered = io.BytesIO(), []
    try:
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
            registered.append(module)
        Pickler(file).dump(program)
    except Exception as error:
        raise InputError(
            f"The program cannot be pickled: {type(error).__name__}: {error}. Save its state: program.save('x.json')."
        ) from error
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)
    return file.getvalue()


def _unpickled(folder: Path, entry: dict[str, Any], allowed: bool, allow_endpoint: bool) -> Any:
    if not allowed:
        raise InputError(
            f"{folder} holds a pickle, and loading a pickle runs the code in it. If you trust it, write "
            f"homefire.load({str(folder)!r}, allow_code=True)."
        )
    path = folder / Path(entry["pickle"]).name
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} is missing, which holds the program. Save it again.") from None
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise InputError(f"{path} is damaged: it is not what {ENTRY} was written with. Save the program again.")
    written, here = entry["versions"], {**versions(), "cloudpickle": _cloudpickle().__version__}
    if others := [f"{name} {written.get(name)} (here {found})" for name, found in here.items() if written.get(name) != found]:
        warn(f"{path} was pickled with {', '.join(others)}; it may behave differently.", stacklevel=3)
    try:
        return _Unpickler(data, allow_endpoint).load()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} cannot be unpickled: {type(error).__name__}: {error}.") from error


def _cloudpickle() -> Any:
    try:
        return import_module("cloudpickle")  # which has no types
    except ImportError:
        raise MissingExtra("cloudpickle", "pickle", "Saving and loading programs with their code") from None
