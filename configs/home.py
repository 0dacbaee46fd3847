"""Where homefire keeps its files, and how it writes them so that a kill leaves nothing half-made.

Knows no models, adapters or runs: others say what they store, this says where and how.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from homefire.errors import DiskError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def home() -> Path:
    """The folder with models, adapters and caches: `HOMEFIRE_HOME`, or `homefire` in the platform's cache folder. It may not exist yet."""
    if chosen := os.environ.get("HOMEFIRE_HOME"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "homefire"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "homefire"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache") / "homefire"


def require_directory(path: Path, purpose: str, *, free_bytes: int = 0) -> Path:
    """Makes sure that `path` is a folder that can be written and has room.

    Args:
        path: Folder, created with its parents if need be.
        purpose: What it is for, as in "models" or "the run's checkpoints"; shown in errors.
        free_bytes: Space that will be needed.

    Raises:
        DiskError: it cannot be created or written, or has less space than that.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{secrets.token_hex(4)}"
        probe.write_bytes(b"1")
        probe.unlink()
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise _no_space(path) from error
        raise DiskError(
            f"The folder {path} for {purpose} cannot be written: {error.strerror or error}. {_elsewhere('a folder that you can write')}"
        ) from error
    free = shutil.disk_usage(path).free
    if free < free_bytes:
        raise DiskError(
            f"The disk of {path} has {size(free)} free, but {purpose} need {size(free_bytes)} ({free_bytes:,} bytes). "
            f"Free some space. {_elsewhere('a folder on a larger disk')}"
        )
    return path


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside `target` that becomes `target` when the block ends well, and vanishes when it does not.

    What a killed process left behind is removed by the next call for the same target. Work of living processes is never touched.

    Raises:
        FileExistsError: `target` exists; two writers must agree by a lock of their own who goes first.
        DiskError: no space is left, or the folder above cannot be written.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    require_directory(target.parent, f"{target.name!r}")
    _remove_abandoned(target)
    temporary = target.parent / f".{target.name}.tmp-{secrets.token_hex(6)}"
    with FileLock(_lock_of(temporary)):
        temporary.mkdir()
        try:
            yield temporary
            _sync_tree(temporary)
            if target.exists():
                raise FileExistsError(f"{target} was made by another process meanwhile")
            os.rename(temporary, target)
            _sync(target.parent)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise _no_space(target.parent) from error
            raise
        finally:
            _remove(temporary)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replaces the file at `path` (text as UTF-8): readers see the old content or the new, never a part.

    Raises:
        DiskError: the folder cannot be written or no space is left.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.tmp-{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        if error.errno in _NO_SPACE:
            raise _no_space(path.parent) from error
        raise DiskError(f"The file {path} cannot be written: {error.strerror or error}. Choose a place that you can write.") from error


def size(count: int) -> str:
    """Bytes in words: `1.4 GB`, `94 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _elsewhere(what: str) -> str:
    return f"To use another place, set the environment variable HOMEFIRE_HOME to {what}: HOMEFIRE_HOME=/path/to/folder."


def _no_space(folder: Path) -> DiskError:
    return DiskError(f"No space is left on the disk of {folder}. Free some space. {_elsewhere('a folder on a larger disk')}")


def _lock_of(temporary: Path) -> Path:
    return temporary.with_name(temporary.name + ".lock")


def _remove_abandoned(target: Path) -> None:
    """Removes temporary folders whose lock nobody holds: the lock dies with its process."""
    for folder in target.parent.glob(f".{target.name}.tmp-*"):
        if folder.is_dir():
            with suppress(Timeout), FileLock(_lock_of(folder), timeout=0):
                _remove(folder)


def _remove(temporary: Path) -> None:
    """Removes a temporary folder and its lock, which the caller holds."""
    shutil.rmtree(temporary, ignore_errors=True)
    with suppress(OSError):
        _lock_of(temporary).unlink()


def _sync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(parent, name), "rb+") as file:
                os.fsync(file.fileno())
        _sync(Path(parent))


def _sync(folder: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
