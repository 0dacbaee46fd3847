"""Printed text as it comes from code that runs elsewhere: kept up to a limit, counted beyond it.

Knows no interpreter.
"""

from __future__ import annotations


class PrintedText:
    """Collects what code prints.

    Args:
        most: Most characters that are kept; the rest is dropped and a notice takes its place.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[str] = []
        self._length = 0
        self._dropped = 0

    def take(self, stream: str, text: str) -> None:
        """Keeps a piece; standard output and standard error are one."""
        piece = text[: self._most - self._length]
        if piece:
            self._kept.append(piece)
        self._length += len(piece)
        self._dropped += len(text) - len(piece)

    @property
    def text(self) -> str:
        """What was kept, with a notice where something was dropped."""
        whole = "".join(self._kept)
        return f"{whole}\n[... {self._dropped} characters more were printed ...]" if self._dropped else whole
