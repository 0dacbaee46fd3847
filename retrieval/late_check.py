"""Checking a late-interaction store: every file is read and compared with what was written, and what is damaged can be left out.

Knows no search. A segment with a damaged file is left out whole, because its rows cannot be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from homefire.errors import HomefireError, InputError
from homefire.retrieval.generations import COPY, Generations
from homefire.retrieval.late_files import TokenFiles
from homefire.retrieval.late_ids import IdTable
from homefire.retrieval.late_snapshot import SegmentEntry, StoreManifest, manifest_of
from homefire.retrieval.stored_files import State, problems


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCheck:
    """What a check found."""

    problems: tuple[str, ...]
    """A sentence for each file that is not what was written; none where all is well."""
    repaired: bool
    """Whether the store can be used again."""
    lost: tuple[str, ...] = ()
    """Ids of the texts that were left out, as far as they can be read, maybe with some that had been deleted. Add them again."""
    lost_texts: int = 0
    """How many texts were left out."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.problems


def check_store(generations: Generations, *, repair: bool) -> StoreCheck:
    """Checks a store, and leaves out what is damaged if asked to.

    Raises:
        InputError: there is no store, or its manifest and the copy of that cannot be read.
        DiskError: the directory cannot be written.
    """
    try:
        found = [f"{problem.name} {problem.what}" for problem in generations.checked()[1]]
    except InputError as error:
        if not (generations.directory / COPY).is_file():
            raise
        found = [str(error)]
    if not found or not repair:
        return StoreCheck(problems=tuple(found), repaired=False)
    with generations.writing(fresh=True) as writer:
        manifest = _manifest(generations, writer.state or writer.restore())
        assert writer.state is not None
        broken = {"/".join(problem.name.split("/")[:2]) for problem in problems(generations.directory, writer.state)}
        lost = [
            segment
            for segment in manifest.segments
            if segment.name in broken or segment.deleted in broken or (manifest.codec in broken and not _is_plain(generations, segment))
        ]
        ids = [one for segment in lost for one in _ids(generations, segment)]
        kept = tuple(segment for segment in manifest.segments if segment not in lost)
        codec = None if manifest.codec in broken else manifest.codec
        mended = replace(manifest, segments=kept, codec=codec)
        writer.commit(mended.content(), mended.names)
    return StoreCheck(problems=tuple(found), repaired=True, lost=tuple(ids), lost_texts=sum(segment.live for segment in lost))


def _manifest(generations: Generations, state: State) -> StoreManifest:
    try:
        return manifest_of(state)
    except ValueError as error:
        raise generations.damaged(str(error)) from error


def _is_plain(generations: Generations, segment: SegmentEntry) -> bool:
    """Whether no codec is needed to read a segment."""
    try:
        TokenFiles.open(generations.directory / segment.name, None)
    except (HomefireError, OSError, ValueError):
        return False
    return True


def _ids(generations: Generations, segment: SegmentEntry) -> list[str]:
    """The ids of a segment; none where they cannot be read."""
    import numpy as np

    try:
        table = IdTable.open(generations.directory / segment.name)
        return table.ids_of(np.arange(len(table)))
    except (OSError, ValueError):
        return []
