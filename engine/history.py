"""History: the last calls of language models, with what was asked, what was answered and what it took; kept in memory, text only.

Knows no engine and no program; whoever makes a call records it.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from homefire.engine.ambient import Ambient
from homefire.engine.request import Message, Sampling

_PLAIN = asdict(Sampling())
_COLOURS = {"system": "magenta", "user": "cyan", "assistant": "yellow"}


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """How much history is kept."""

    enabled: bool = True
    most: int = 1000
    """Entries of the process, and of each LM."""


history_limits: Ambient[HistoryLimits] = Ambient("history", HistoryLimits())
"""The settings set them."""


@dataclass(slots=True, kw_only=True, eq=False)
class HistoryEntry(Mapping[str, Any]):
    """One call of an LM. It is also a mapping: `entry["messages"]`, `entry["outputs"]`, `entry["usage"]`, ...

    Not frozen only because one is made for every call, and making a frozen one takes three times as long.
    """

    model: str
    adapter: str | None
    messages: tuple[Message, ...]
    sampling: Sampling
    outputs: tuple[str, ...] = ()
    thinking: tuple[str, ...] = ()
    """What the model thought before each output, where it did."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0
    from_cache: bool = False
    """Whether the response cache answered; then the tokens are those of the call that was stored."""
    time: float
    """When the call ended, in seconds since 1970."""
    error: str | None = None
    """Type and message of what failed; then there are no outputs."""

    def __getitem__(self, name: str) -> Any:
        return _ITEMS[name](self)

    def __iter__(self) -> Iterator[str]:
        return iter(_ITEMS)

    def __len__(self) -> int:
        return len(_ITEMS)

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of the call; none where the response cache answered."""
        if self.from_cache:
            return {}
        total = self.prompt_tokens + self.completion_tokens
        counts = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens, "total_tokens": total}
        return {**counts, "cached_tokens": self.cached_tokens}

    @property
    def when(self) -> datetime:
        """When the call ended, in local time."""
        return datetime.fromtimestamp(self.time, UTC).astimezone()


_ITEMS: dict[str, Callable[[HistoryEntry], Any]] = {
    "prompt": lambda entry: None,
    "messages": lambda entry: [{"role": message.role, "content": message.content} for message in entry.messages],
    "kwargs": lambda entry: {name: value for name, value in asdict(entry.sampling).items() if value != _PLAIN[name]},
    "outputs": lambda entry: list(entry.outputs),
    "thinking": lambda entry: list(entry.thinking),
    "usage": lambda entry: entry.usage,
    "cost": lambda entry: None,
    "timestamp": lambda entry: entry.when.isoformat(),
    "model": lambda entry: entry.model,
    "model_type": lambda entry: "chat",
    "adapter": lambda entry: entry.adapter,
    "seconds": lambda entry: entry.seconds,
    "from_cache": lambda entry: entry.from_cache,
    "error": lambda entry: entry.error,
}


def without_media(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Messages as history keeps them: with the stand-ins of images and files, not with their bytes."""
    return tuple([replace(message, parts=()) if message.parts else message for message in messages])


class History:
    """The last entries, as many as the settings say."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[HistoryEntry] = deque(maxlen=HistoryLimits().most)

    def record(self, entry: HistoryEntry, most: int) -> None:
        """Appends an entry; the oldest ones above `most` go."""
        if most != self._entries.maxlen:
            with self._lock:
                self._entries = deque(self._entries.copy(), most)
        self._entries.append(entry)

    def entries(self) -> list[HistoryEntry]:
        """All that is kept, the oldest first."""
        return list(self._entries.copy())

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()


process_history = History()
"""The calls of all LMs of this process."""


def inspect_history(n: int = 1, file: TextIO | None = None) -> None:
    """Prints the last calls of all LMs of this process.

    Args:
        n: How many.
        file: Where to; standard output if not given. Colours are used on a terminal only.
    """
    print_entries(process_history.entries(), n, file)


def print_entries(entries: list[HistoryEntry], n: int, file: TextIO | None) -> None:
    """Prints the last `n` of these entries."""
    console = Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False)
    say = partial(console.print, soft_wrap=True)
    for entry in entries[-n:] if n > 0 else []:
        say(Text(_headline(entry), style="bold"))
        for message in entry.messages:
            say(Text(f"\n{message.role.capitalize()}:", style=f"bold {_COLOURS[message.role]}"))
            say(Text(message.content))
        for index, output in enumerate(entry.outputs):
            number = f" {index + 1} of {len(entry.outputs)}" if len(entry.outputs) > 1 else ""
            if index < len(entry.thinking) and entry.thinking[index]:
                say(Text(f"\nThinking{number}:", style="bold dim"))
                say(Text(entry.thinking[index], style="dim"))
            say(Text(f"\nResponse{number}:", style="bold green"))
            say(Text(output))
        if entry.error is not None:
            say(Text(f"\nFailed: {entry.error}", style="bold red"))
        say("")


def _headline(entry: HistoryEntry) -> str:
    name = entry.model if entry.adapter is None else f"{entry.model} with {entry.adapter}"
    took = "from the response cache" if entry.from_cache else f"{entry.seconds:.2f} s"
    tokens = f"{entry.prompt_tokens} + {entry.completion_tokens} tokens"
    cached = f" ({entry.cached_tokens} of the prompt cached)" if entry.cached_tokens else ""
    return f"[{entry.when:%Y-%m-%d %H:%M:%S}] {name}, {took}, {tokens}{cached}"
