"""Files that code in a sandbox may use: those granted by name, and no other.

Knows no sandbox's process. A file is read and written here, in the host, under the name that it was granted by; its real path never
goes to the code, and neither does anything else of the system.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from homefire.errors import InputError


class GrantedFiles:
    """Single files under names of their own.

    Args:
        readable: Files that may be read.
        writable: Files that may be read and written; they need not exist yet.
        folders: Names of the folders that are granted beside them, for whoever lists what there is.
        most_bytes: Most bytes of a file that is read, and of all that is written.
        most_calls: Most operations.
    """

    def __init__(
        self, readable: Mapping[str, Path], writable: Mapping[str, Path], folders: Iterable[str] = (), *, most_bytes: int, most_calls: int
    ) -> None:
        self._files = {PurePosixPath("/", name): path for name, path in (*readable.items(), *writable.items())}
        self._writable = {PurePosixPath("/", name) for name in writable}
        self._folders = [PurePosixPath("/", name) for name in folders]
        self._left_bytes = self._most_bytes = most_bytes
        self._left_calls = most_calls

    def answer(self, operation: str, args: tuple[Any, ...]) -> Any:
        """The result of an operation of the code; None where there is no such thing here.

        Raises:
            OSError: it is refused, or failed.
        """
        self._left_calls -= 1
        if self._left_calls < 0:
            raise OSError(errno.EMFILE, "too many operations on files in one snippet")
        if operation == "Path.iterdir" and self._name(args[0]) == PurePosixPath("/"):
            return sorted([*self._files, *self._folders])
        if not operation.startswith("Path.") and operation != "open":
            return None
        name = self._name(args[0])
        if name not in self._files:
            return None
        try:
            return self._of_file(operation, name, args)
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(name)) from None

    def _of_file(self, operation: str, name: PurePosixPath, args: tuple[Any, ...]) -> Any:
        path = self._files[name]
        match operation.removeprefix("Path."):
            case "exists" | "is_file":
                return path.is_file()
            case "is_dir" | "is_symlink":
                return False
            case "read_text":
                return self._read(path).decode("utf-8")
            case "read_bytes":
                return self._read(path)
            case "write_text" | "write_bytes":
                return self._write(name, args[1], "wb")
            case "append_text" | "append_bytes":
                return self._write(name, args[1], "ab")
            case "open":
                return self._open(name, str(args[1]))
            case "stat":
                from pydantic_monty import StatResult

                found = path.stat()
                return StatResult.file_stat(found.st_size, mtime=found.st_mtime)
        return None

    def _open(self, name: PurePosixPath, mode: str) -> Any:
        from pydantic_monty import MontyFileHandle

        handle = MontyFileHandle(str(name), mode)
        if handle.mode.startswith("r"):
            self._files[name].stat()
        if handle.writable:
            self._write(name, b"", "wb" if handle.mode.startswith("w") else "ab")
        return handle

    def _read(self, path: Path) -> bytes:
        with path.open("rb") as file:
            content = file.read(self._most_bytes + 1)
        if len(content) > self._most_bytes:
            raise OSError(errno.EFBIG, f"file larger than {self._most_bytes} bytes")
        return content

    def _write(self, name: PurePosixPath, content: str | bytes, mode: str) -> int:
        if name not in self._writable:
            raise PermissionError(errno.EACCES, "this file may only be read")
        raw = content.encode("utf-8") if isinstance(content, str) else content
        self._left_bytes -= len(raw)
        if self._left_bytes < 0:
            raise OSError(errno.ENOSPC, f"more than {self._most_bytes} bytes written")
        with self._files[name].open(mode) as file:
            file.write(raw)
        return len(content)

    @staticmethod
    def _name(path: Any) -> PurePosixPath:
        """The path that an operation is about: a path, or an open file that has one."""
        return path if isinstance(path, PurePosixPath) else PurePosixPath(str(path.path))


def checked_grants(grants: Mapping[str, str | Path], argument: str) -> dict[str, Path]:
    """Granted files and folders by name, as absolute paths.

    Raises:
        InputError: a name that leads elsewhere.
    """
    for name in grants:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\0" in name:
            raise InputError(f"{argument} grants the name {name!r}; expected a plain name, as in {argument}={{'data.csv': path}}.")
    return {name: Path(path).resolve() for name, path in grants.items()}


def by_last_name(paths: Sequence[str | Path], argument: str) -> dict[str, Path]:
    """Files and folders under the last part of their path; files under the same below `sandbox/` too.

    Raises:
        InputError: a text instead of a list, or two paths that end alike.
    """
    if isinstance(paths, str | Path):
        raise InputError(f"{argument} is {paths!r}; expected a list, as in {argument}=[{str(paths)!r}].")
    found = {Path(path).resolve() for path in paths}
    names = [path.name for path in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"{argument} has two paths that end in {min(twice)!r}. Name them: files={{'one': path, 'other': path}}.")
    return {name: path for path in found for name in (path.name, f"sandbox/{path.name}") if name == path.name or not path.is_dir()}
