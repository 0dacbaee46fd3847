"""Changes of a late-interaction store: added texts, deleted ones, merged segments, gathered and then committed at once.

Knows no search. Whoever uses it holds the lock of the store.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from homefire.retrieval.generations import Writer
from homefire.retrieval.late_codec import Codec
from homefire.retrieval.late_files import write_tokens
from homefire.retrieval.late_ids import IdTable, write_ids
from homefire.retrieval.late_part import TokenPart, merge_tokens
from homefire.retrieval.late_pooling import pool_tokens
from homefire.retrieval.late_snapshot import CODECS, DELETED, SEGMENTS, LateSnapshot, OpenedStore, SegmentEntry, View, open_snapshot
from homefire.retrieval.late_training import first_codec, sample, worth_renewing
from homefire.retrieval.token_vectors import TokenVectors

_TIER = 2
"""A segment is merged with those behind it when it has at most so many times as many texts as they: few segments stay, each larger."""


class LateChange:
    """Gathers changes of one state and commits them.

    Args:
        directory: Of the store.
        writer: Holds its lock.
        snapshot: The state to begin from.
    """

    def __init__(self, directory: Path, writer: Writer, snapshot: LateSnapshot) -> None:
        self._directory = directory
        self._writer = writer
        self._snapshot = snapshot
        self._views = list(snapshot.views)
        self._codec, self._codec_name = snapshot.codec, snapshot.manifest.codec
        self.has_changes = False

    def add(self, ids: Sequence[str], tokens: TokenVectors) -> None:
        """Writes texts whose ids are not there as a segment."""
        settings = self._snapshot.manifest.settings
        tokens = pool_tokens(tokens, settings.pool_factor)
        if self._codec is None and settings.bits != 16:
            parts = [(view.part, view.mask) for view in self._views]
            self._use(first_codec(tokens, parts, settings.bits, seed=settings.seed, device=self._snapshot.device))
        with self._writer.folder(SEGMENTS) as draft:
            write_ids(draft.path, ids)
            write_tokens(draft.path, tokens, self._codec, device=self._snapshot.device)
        self._hold(draft.name, len(ids))

    def delete(self, ids: Sequence[str]) -> int:
        """Marks the rows of these ids as deleted, and says how many there were."""
        import numpy as np

        gone = 0
        for place, view in enumerate(self._views):
            rows = np.unique(view.rows_of(ids))
            rows = rows[rows >= 0]
            if len(rows):
                gone += len(rows)
                self.has_changes = True
                deleted = np.union1d(view.deleted, rows)
                self._views[place] = View(replace(view.entry, deleted=None, deleted_rows=len(deleted)), view.ids, view.part, deleted)
        return gone

    def compact(self, retrain: bool | None) -> None:
        """Makes one segment of all rows that count."""
        parts = [view.part for view in self._views]
        settings = self._snapshot.manifest.settings
        if self._codec is not None and settings.bits != 16 and (worth_renewing(self._codec, parts) if retrain is None else retrain):
            none = TokenVectors.of([], settings.dim)
            drawn = sample(none, [(view.part, view.mask) for view in self._views], seed=settings.seed)
            total = sum(part.report.tokens for part in parts)
            if len(drawn):
                self._use(Codec.train(drawn, settings.bits, expected_tokens=total, seed=settings.seed, device=self._snapshot.device))
        if len(self._views) > 1 or any(view.mask is not None or self._is_outdated(view) for view in self._views):
            self._merge(self._views)

    def commit(self) -> LateSnapshot:
        """Makes the changes those of the store, and opens the new state."""
        self._views = [view for view in self._views if view.entry.live]
        self._merge_tiers()
        self._views = [self._with_deleted_file(view) for view in self._views]
        manifest = replace(self._snapshot.manifest, codec=self._codec_name, segments=tuple(view.entry for view in self._views))
        state = self._writer.commit(manifest.content(), manifest.names)
        opened = OpenedStore({view.entry.name: view for view in self._views}, self._codec_name, self._codec)
        return open_snapshot(self._directory, state, self._snapshot.device, opened)

    def _use(self, codec: Codec | None) -> None:
        """Writes a codec and takes it for all that is written from now on."""
        if codec is not None:
            with self._writer.folder(CODECS) as draft:
                codec.save(draft.path)
            self._codec, self._codec_name = codec, draft.name

    def _hold(self, name: str, rows: int) -> None:
        import numpy as np

        self.has_changes = True
        folder = self._directory / name
        part = TokenPart.open(folder, self._codec, device=self._snapshot.device)
        self._views.append(View(SegmentEntry(name=name, rows=rows), IdTable.open(folder), part, np.zeros(0, dtype=np.int64)))

    def _is_outdated(self, view: View) -> bool:
        """Whether a segment is not compressed by the codec that there is."""
        return view.part.report.codec != (self._codec.fingerprint if self._codec else None)

    def _merge_tiers(self) -> None:
        """Merges segments that are small beside those behind them, half deleted or of no codec while there is one."""
        merged: set[int] = set()
        behind = 0
        for place in range(len(self._views) - 1, -1, -1):
            live = self._views[place].entry.live
            if behind and live <= _TIER * behind:
                merged |= {place, place + 1}
            behind += live
        merged |= {place for place, view in enumerate(self._views) if view.entry.live * 2 < view.entry.rows or self._is_outdated(view)}
        if merged:
            self._merge([self._views[place] for place in sorted(merged)])

    def _merge(self, views: Sequence[View]) -> None:
        """Makes one segment of some, in the place of the first."""
        ids = [one for view in views for one in view.ids.ids_of(view.live_rows())]
        with self._writer.folder(SEGMENTS) as draft:
            write_ids(draft.path, ids)
            merge_tokens(draft.path, [view.part for view in views], [view.mask for view in views], self._codec)
        place = self._views.index(views[0])
        rest = [view for view in self._views if view not in views]
        self._views = rest
        self._hold(draft.name, len(ids))
        self._views.insert(min(place, len(rest)), self._views.pop())

    def _with_deleted_file(self, view: View) -> View:
        import numpy as np

        if not view.entry.deleted_rows or view.entry.deleted:
            return view
        data = io.BytesIO()
        np.save(data, view.deleted)
        return View(replace(view.entry, deleted=self._writer.file(DELETED, ".npy", data.getvalue())), view.ids, view.part, view.deleted)
