"""Snapshots: one state of an index, opened; what others commit later does not change it.

Knows no way of searching: it says which rows there are, which of them count, and what passages they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

from homefire.retrieval.bm25 import Bm25
from homefire.retrieval.filters import Where
from homefire.retrieval.index_manifest import Manifest, SegmentEntry, manifest_of
from homefire.retrieval.late_codec import Codec
from homefire.retrieval.passage import Passage
from homefire.retrieval.segment import Segment
from homefire.retrieval.stored_files import State

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Mask: TypeAlias = "npt.NDArray[np.bool_] | None"
"""Of shape `(rows,)`: true for rows that count; None means all."""

_FILTERS = 32
"""Filters whose rows stay in memory."""


class View:
    """A segment as one state sees it: with the rows that count."""

    def __init__(self, segment: Segment, entry: SegmentEntry, deleted: npt.NDArray[np.int64], first: int) -> None:
        import numpy as np

        self.segment = segment
        self.entry = entry
        self.deleted = deleted
        """Rows that count no more, ascending, the spare ones included."""
        self.first = first
        """Number of its first row among those of the whole snapshot."""
        self.alive: Mask = None
        """Rows that are searched."""
        if entry.deleted_rows:
            self.alive = np.ones(entry.rows, dtype=np.bool_)
            self.alive[deleted[deleted < entry.rows]] = False

    @property
    def rows(self) -> int:
        """Rows that can be searched, the deleted ones included."""
        return self.entry.rows


class Snapshot:
    """All segments of one state.

    Args:
        state: What the manifest said.
        manifest: The same as values.
        views: Its segments.
        codec: Of its token vectors.
    """

    def __init__(self, state: State, manifest: Manifest, views: tuple[View, ...], codec: Codec | None) -> None:
        import numpy as np

        self.state = state
        self.manifest = manifest
        self.views = views
        self.codec = codec
        self.firsts = np.array([view.first for view in views], dtype=np.int64)
        self._lock = Lock()
        self._masks: dict[str, list[Mask]] = {}

    def __len__(self) -> int:
        return self.manifest.count

    @property
    def opened(self) -> Opened:
        """What a newer state need not open again."""
        return Opened({view.segment.name: view.segment for view in self.views}, self.manifest.codec, self.codec)

    @cached_property
    def bm25(self) -> Bm25:
        """Scores by terms, with the statistics of this state."""
        views = [view for view in self.views if view.segment.terms]
        return Bm25([view.segment.terms for view in views if view.segment.terms], [view.alive for view in views])

    def masks(self, where: Where | None) -> list[Mask]:
        """For each view the rows that count and that the filter lets through.

        Raises:
            InputError: the filter cannot be used.
        """
        if where is None:
            return [view.alive for view in self.views]
        key = repr(where)
        with self._lock:
            found = self._masks.get(key)
        if found is None:
            fields = self.fields()
            fitting = [view.segment.table.matching(where, fields) for view in self.views]
            found = [fits if view.alive is None else fits & view.alive for fits, view in zip(fitting, self.views, strict=True)]
            with self._lock:
                if len(self._masks) >= _FILTERS:
                    self._masks.clear()
                self._masks[key] = found
        return found

    def fields(self) -> set[str]:
        """Names of the values that passages have."""
        return {field for view in self.views for field in view.segment.table.fields()}

    def passages(self) -> Iterator[Passage]:
        """All passages that are searched, a portion at a time."""
        for view in self.views:
            for row in view.segment.table.all(0, view.rows):
                if view.alive is None or view.alive[row.row]:
                    yield row.passage

    def get(self, ids: Collection[str]) -> dict[str, Passage]:
        """The passages of some ids, as far as they are searched."""
        found: dict[str, Passage] = {}
        for view in self.views:
            rows = [row for _, row in view.segment.table.rows_with("id", ids) if row < view.rows]
            there = [row for row in rows if view.alive is None or view.alive[row]]
            found |= {passage.id: passage for passage in view.segment.table.fetch(there).values()}
        return found

    def sources(self) -> set[str]:
        """Where the passages are from, the spare ones included."""
        import numpy as np

        found: set[str] = set()
        for view in self.views:
            keep = None
            if len(view.deleted):
                keep = np.ones(view.entry.rows + view.entry.spare, dtype=np.bool_)
                keep[view.deleted] = False
            found |= view.segment.table.sources(keep)
        return found

    def fetch(self, rows: Iterable[int]) -> Mapping[int, Passage]:
        """The passages of some rows, numbered through the whole snapshot; and maybe of others."""
        if len(self.views) == 1:
            return self.views[0].segment.fetch(list(rows))
        found: dict[int, Passage] = {}
        for view, places in self.split(rows):
            passages = view.segment.fetch(places)
            found |= {view.first + row: passages[row] for row in places}
        return found

    def split(self, rows: Iterable[int]) -> Iterator[tuple[View, list[int]]]:
        """The views that hold some rows, each with those rows as its segment numbers them."""
        import numpy as np

        numbers = np.unique(np.fromiter(rows, dtype=np.int64))
        places = np.searchsorted(self.firsts, numbers, side="right") - 1
        for place in np.unique(places).tolist():
            view = self.views[place]
            yield view, (numbers[places == place] - view.first).tolist()


@dataclass(frozen=True, slots=True)
class Opened:
    """What is open already."""

    segments: Mapping[str, Segment] = field(default_factory=dict)
    """By name."""
    codec_name: str | None = None
    codec: Codec | None = None


def open_snapshot(directory: Path, state: State, opened: Opened) -> Snapshot:
    """Opens everything that a state names.

    Args:
        directory: Of the index.
        state: What the manifest says.
        opened: What need not be opened again.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file or the manifest is not what it should be.
        MissingExtra: a library is not installed.
    """
    import numpy as np

    manifest = manifest_of(state)
    codec = opened.codec if manifest.codec == opened.codec_name else None
    if manifest.codec and codec is None:
        codec = Codec.open(directory / manifest.codec)
    views, first = [], 0
    for entry in manifest.segments:
        segment = opened.segments.get(entry.name) or Segment.open(directory, entry.name, manifest.methods, codec)
        deleted = np.load(directory / entry.deleted) if entry.deleted else np.zeros(0, dtype=np.int64)
        if (segment.table.rows, segment.table.spare, len(deleted)) != (entry.rows, entry.spare, entry.deleted_rows + entry.deleted_spare):
            raise ValueError(f"{entry.name} has not the rows that the manifest counts")
        views.append(View(segment, entry, deleted, first))
        first += entry.rows
    return Snapshot(state, manifest, tuple(views), codec)
