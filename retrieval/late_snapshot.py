"""One state of a late-interaction store, opened: its segments, the rows that count, their ids, and the codec.

Knows no way to change it. What others commit later does not change it either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from homefire.retrieval.late_codec import Codec
from homefire.retrieval.late_files import Mask
from homefire.retrieval.late_ids import IdTable
from homefire.retrieval.late_part import TokenPart
from homefire.retrieval.stored_files import State

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

FORMAT = 1
FOLDERS = SEGMENTS, CODECS, DELETED = "segments", "codecs", "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """What a store was created with."""

    dim: int
    """Numbers in a vector."""
    bits: Literal[1, 2, 4, 16]
    """For each number, once there are so many tokens that they are compressed; 16 never compresses."""
    pool_factor: float
    """Of a text's tokens, one in so many is kept."""
    encoder: str | None
    """Name of what made the vectors."""
    seed: int
    """Of every draw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEntry:
    """One segment, and which of its rows count no more."""

    name: str
    rows: int
    deleted: str | None = None
    """File with the deleted rows; None where there are none."""
    deleted_rows: int = 0

    @property
    def live(self) -> int:
        """Rows that count."""
        return self.rows - self.deleted_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreManifest:
    """What a store's directory holds."""

    settings: StoreSettings
    codec: str | None = None
    """Folder of the codec; None before there is one."""
    segments: tuple[SegmentEntry, ...] = ()

    @property
    def names(self) -> set[str]:
        """The folders and files that it consists of."""
        files = {segment.deleted for segment in self.segments if segment.deleted}
        return {segment.name for segment in self.segments} | files | ({self.codec} if self.codec else set())

    def content(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


class View:
    """A segment, and the rows of it that count."""

    def __init__(self, entry: SegmentEntry, ids: IdTable, part: TokenPart, deleted: npt.NDArray[np.int64]) -> None:
        import numpy as np

        self.entry = entry
        self.ids = ids
        self.part = part
        self.deleted = deleted
        """Rows that count no more, ascending."""
        self.mask: Mask = None
        if len(deleted):
            self.mask = np.ones(entry.rows, dtype=np.bool_)
            self.mask[deleted] = False

    def live_rows(self) -> npt.NDArray[np.int64]:
        """Rows that count."""
        import numpy as np

        return np.arange(self.entry.rows) if self.mask is None else np.flatnonzero(self.mask)

    def among(self, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """A mask with the rows of some ids."""
        import numpy as np

        rows = self.rows_of(ids)
        mask = np.zeros(self.entry.rows, dtype=np.bool_)
        mask[rows[rows >= 0]] = True
        return mask

    def rows_of(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """The row of each id, -1 for those that are not here or count no more."""
        rows = self.ids.rows_of(ids)
        if self.mask is not None:
            rows[~self.mask[rows]] = -1
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class LateSnapshot:
    """All segments of one state."""

    state: State
    manifest: StoreManifest
    views: tuple[View, ...]
    codec: Codec | None
    device: str = "cpu"
    """Where passages are decoded and compared."""

    def __len__(self) -> int:
        return sum(view.entry.live for view in self.views)

    def ids(self) -> Iterator[str]:
        """All ids that count."""
        for view in self.views:
            yield from view.ids.ids_of(view.live_rows())

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that are not here."""
        import numpy as np

        found = np.zeros(len(ids), dtype=np.bool_)
        for view in self.views:
            found |= view.rows_of(ids) >= 0
        return [ids[place] for place in np.flatnonzero(~found).tolist()]


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """What is open already and need not be opened again."""

    views: Mapping[str, View] = field(default_factory=dict)
    """By the name of the segment."""
    codec_name: str | None = None
    codec: Codec | None = None

    @classmethod
    def of(cls, snapshot: LateSnapshot) -> OpenedStore:
        """Everything that a snapshot has open."""
        return cls({view.entry.name: view for view in snapshot.views}, snapshot.manifest.codec, snapshot.codec)


def manifest_of(state: State) -> StoreManifest:
    """The manifest of a state.

    Raises:
        ValueError: it is none of a late-interaction store, or names what the state has not.
    """
    values: dict[str, Any] = dict(state.content)
    try:
        settings = StoreSettings(**values.pop("settings"))
        manifest = StoreManifest(settings=settings, segments=tuple(SegmentEntry(**one) for one in values.pop("segments")), **values)
        known = {"/".join(file.split("/")[:2]) for file in state.files}
        if missing := manifest.names - known:
            raise ValueError(f"it names {sorted(missing)[0]!r}, of which it names no file")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the manifest is none of such a store ({type(error).__name__}: {error})") from error
    return manifest


def open_snapshot(directory: Path, state: State, device: str, opened: OpenedStore) -> LateSnapshot:
    """Opens everything that a state names.

    Args:
        directory: Of the store.
        state: What its manifest says.
        device: Where passages are decoded and compared.
        opened: What need not be opened again.

    Raises:
        InputError: the codec is damaged.
        FileNotFoundError: a file is missing.
        ValueError: a file or the manifest is not what it should be.
    """
    import numpy as np

    manifest = manifest_of(state)
    codec = opened.codec if manifest.codec == opened.codec_name else None
    if manifest.codec and codec is None:
        codec = Codec.open(directory / manifest.codec)
    views = []
    for entry in manifest.segments:
        known = opened.views.get(entry.name)
        if known is not None and known.entry == entry:
            views.append(known)
            continue
        folder = directory / entry.name
        part = known.part if known else TokenPart.open(folder, codec, device=device)
        ids = known.ids if known else IdTable.open(folder)
        deleted = np.load(directory / entry.deleted) if entry.deleted else np.zeros(0, dtype=np.int64)
        if not len(ids) == part.rows == entry.rows or len(deleted) != entry.deleted_rows:
            raise ValueError(f"{entry.name} has not the rows that the manifest counts")
        views.append(View(entry, ids, part, deleted))
    return LateSnapshot(state, manifest, tuple(views), codec, device)
