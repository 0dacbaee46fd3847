"""A store of token vectors with ids, searched by late interaction: a directory that survives, with nothing else needed.

Knows no text and no encoder: whoever uses it hands in vectors and gets ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from homefire.errors import InputError
from homefire.retrieval.generations import MANIFEST, Generations
from homefire.retrieval.late_change import LateChange
from homefire.retrieval.late_check import StoreCheck, check_store
from homefire.retrieval.late_results import IdHit, StoreStats, ranked, stats_of
from homefire.retrieval.late_search import Effort
from homefire.retrieval.late_snapshot import FOLDERS, FORMAT, LateSnapshot, OpenedStore, StoreManifest, StoreSettings, open_snapshot
from homefire.retrieval.stored_files import State
from homefire.retrieval.token_vectors import TokenVectors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Tokens: TypeAlias = "TokenVectors | Sequence[npt.ArrayLike]"
"""Token vectors of some texts; a list has an array of shape `(n_tokens, dim)` for each."""

T = TypeVar("T")

REMEDY = "Mend it with LateInteractionStore.check(directory, repair=True), or make it again."


class LateInteractionStore:
    """Texts as their token vectors, under ids of your own. Make one with `create` or `open`.

    Any thread may call any method; other processes may read while one writes, and see its changes after `refresh`.

    ```python
    store = LateInteractionStore.create("store", dim=128)
    store.add(["a", "b"], [vectors_of_a, vectors_of_b])  # each of shape (n_tokens, 128)
    [hits] = store.search([vectors_of_query], k=2)
    ```
    """

    def __init__(self, directory: Path, snapshot: LateSnapshot) -> None:
        self.directory = directory
        self._snapshot = snapshot
        self._writing = Lock()

    @classmethod
    def create(
        cls,
        directory: Path | str,
        dim: int,
        *,
        bits: Literal[1, 2, 4, 16] = 2,
        pool_factor: float = 1,
        encoder: str | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> LateInteractionStore:
        """Makes an empty store.

        Args:
            directory: Where; it holds no store yet.
            dim: Numbers in a vector.
            bits: For each number of a vector beside its centroid, once there are 32,768 tokens; fewer are kept in float16, as all are with
                16, and searched exhaustively.
            pool_factor: Of a text's tokens, one in so many is kept: see `pool_tokens`.
            encoder: Name of what makes the vectors; `open` can then refuse another one.
            seed: Of every draw.
            device: Where texts are compressed, decoded and compared: `cpu`, `cuda`, ...

        Raises:
            InputError: there is a store already, or an argument cannot be used.
            DiskError: the directory cannot be written.
        """
        folder = Path(directory)
        if dim < 1 or bits not in (1, 2, 4, 16) or pool_factor < 1:
            raise InputError(
                f"dim is {dim}, bits {bits!r} and pool_factor {pool_factor}; expected dim >= 1, bits 1, 2, 4 or 16, and a factor >= 1."
            )
        generations = _generations(folder)
        with generations.writing(fresh=True) as writer:
            if (folder / MANIFEST).exists():
                what = "a store" if writer.state is not None else f"a {MANIFEST} that is of no store, or damaged,"
                raise InputError(
                    f"There is {what} in {str(folder)!r} already; open it with LateInteractionStore.open, or take another folder."
                )
            settings = StoreSettings(dim=dim, bits=bits, pool_factor=pool_factor, encoder=encoder, seed=seed)
            state = writer.commit(StoreManifest(settings=settings).content(), set())
        return cls(folder, open_snapshot(folder, state, device, OpenedStore()))

    @classmethod
    def open(cls, directory: Path | str, *, encoder: str | None = None, device: str = "cpu") -> LateInteractionStore:
        """Opens a store without reading its vectors.

        Args:
            directory: Of the store.
            encoder: Name of what will make the vectors of queries; another one than at `create` is refused.
            device: Where texts are decoded and compared.

        Raises:
            InputError: there is none, it is damaged, or of another encoder.
        """
        folder = Path(directory)
        store = cls(folder, _open(folder, device, OpenedStore()))
        stored = store.settings.encoder
        if None not in (encoder, stored) and encoder != stored:
            raise InputError(
                f"The store {str(folder)!r} has vectors of the encoder {stored!r}, but {encoder!r} was given; their vectors cannot be "
                f"compared. Open it with {stored!r}, or make a store for {encoder!r}."
            )
        return store

    @staticmethod
    def check(directory: Path | str, *, repair: bool = False) -> StoreCheck:
        """Reads every file of a store and compares it with what was written.

        Args:
            directory: Of the store.
            repair: Whether to leave out what is damaged, so that the rest can be used.

        Raises:
            InputError: there is no store, or nothing that can be mended.
            DiskError: the directory cannot be written.
        """
        return check_store(_generations(Path(directory)), repair=repair)

    @property
    def settings(self) -> StoreSettings:
        """What it was created with."""
        return self._snapshot.manifest.settings

    def __len__(self) -> int:
        return len(self._snapshot)

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and not self._snapshot.missing([id])

    def ids(self) -> Iterator[str]:
        """The ids of all texts."""
        return self._snapshot.ids()

    def stats(self) -> StoreStats:
        """Counts and sizes."""
        return stats_of(self._snapshot)

    def search(
        self, queries: Tokens, k: int = 10, *, among: Sequence[str] | None = None, effort: Effort | None = None
    ) -> list[list[IdHit]]:
        """The `k` best texts for each query, best first.

        Args:
            queries: Their token vectors.
            k: How many; all where there are fewer. Texts without tokens are not found.
            among: Only texts with these ids; those that are not in the store are passed over.
            effort: How hard to look; None finds nearly what an exhaustive search finds.

        Raises:
            InputError: `k` is below 1, or the vectors cannot be used.
        """
        if k < 1:
            raise InputError(f"k is {k}; it must be at least 1.")
        snapshot = self._snapshot
        tokens = self._tokens(queries, "the queries")
        found: list[list[tuple[float, str]]] = [[] for _ in range(len(tokens))]
        for view in snapshot.views:
            mask = view.mask if among is None else view.among(among)
            scores, rows = view.part.search(tokens, min(k, view.entry.rows), mask, effort)
            for hits, row_scores, places in zip(found, scores, rows, strict=True):
                there = places >= 0
                hits.extend(zip(row_scores[there].tolist(), view.ids.ids_of(places[there]), strict=True))
        return [ranked(hits, k) for hits in found]

    def rerank(self, queries: Tokens, candidates: Sequence[Sequence[str]], k: int | None = None) -> list[list[IdHit]]:
        """The best of some texts that another search found, by exact MaxSim, best first.

        Args:
            queries: Their token vectors.
            candidates: Ids for each query; those that are not in the store are passed over.
            k: How many; None is all of them.

        Raises:
            InputError: the vectors cannot be used, or there are not as many lists as queries.
        """
        snapshot = self._snapshot
        tokens = self._tokens(queries, "the queries")
        if len(candidates) != len(tokens):
            raise InputError(f"There are {len(candidates)} lists of candidates for {len(tokens)} queries; expected one for each.")
        import numpy as np

        found: list[list[tuple[float, str]]] = [[] for _ in candidates]
        unique = [list(dict.fromkeys(ids)) for ids in candidates]
        for view in snapshot.views:
            rows = np.full((len(unique), max(map(len, unique), default=0)), -1, dtype=np.int64)
            for row, ids in zip(rows, unique, strict=True):
                row[: len(ids)] = view.rows_of(ids)
            scores = view.part.score(tokens, rows)
            for hits, ids, row, row_scores in zip(found, unique, rows, scores, strict=True):
                hits.extend((float(row_scores[place]), ids[place]) for place in np.flatnonzero(row >= 0).tolist())
        return [ranked(hits, len(hits) if k is None else k) for hits in found]

    def read(self, ids: Sequence[str]) -> TokenVectors:
        """The token vectors of some texts as they are kept, decoded.

        Raises:
            InputError: an id is not in the store.
        """
        snapshot = self._snapshot
        _require_all(snapshot, ids)
        vectors: list[npt.NDArray[np.float32]] = [None] * len(ids)  # type: ignore[list-item]
        for view in snapshot.views:
            rows = view.rows_of(ids)
            places = (rows >= 0).nonzero()[0]
            read = view.part.read(rows[places])
            for number, place in enumerate(places.tolist()):
                vectors[place] = read[number]
        return TokenVectors.of(vectors, self.settings.dim)

    def add(self, ids: Sequence[str], tokens: Tokens) -> None:
        """Adds texts that are not in the store yet. Add many at once: each call writes files and waits for the disk.

        Raises:
            InputError: an id is in the store, is given twice, or the vectors cannot be used. Then nothing is added.
            DiskError: the disk is full. Then nothing is added.
        """
        given = self._given(ids, tokens)

        def change(change: LateChange, snapshot: LateSnapshot) -> None:
            missing = set(snapshot.missing(ids))
            if present := [one for one in ids if one not in missing]:
                raise InputError(
                    f"{_some(present)} in the store {str(self.directory)!r} already; add takes new ids. Use update to put others in their "
                    "place."
                )
            if ids:
                change.add(ids, given)

        self._change(change)

    def update(self, ids: Sequence[str], tokens: Tokens) -> int:
        """Puts texts in the place of those with the same ids, and adds those that are not in the store.

        Returns:
            How many were in the store.

        Raises:
            InputError: an id is given twice, or the vectors cannot be used. Then nothing changes.
            DiskError: the disk is full. Then nothing changes.
        """
        given = self._given(ids, tokens)

        def change(change: LateChange, _: LateSnapshot) -> int:
            replaced = change.delete(ids)
            if ids:
                change.add(ids, given)
            return replaced

        return self._change(change)

    def delete(self, ids: Sequence[str]) -> int:
        """Deletes texts, and says how many there were; ids that are not in the store are passed over.

        Raises:
            DiskError: the disk is full. Then nothing changes.
        """
        return self._change(lambda change, _: change.delete(ids))

    def compact(self, *, retrain: bool | None = None) -> None:
        """Removes deleted texts from the files and makes one segment of all.

        Args:
            retrain: Whether the codec is made anew and everything compressed again, which loses a little each time; None does so where
                there are 16 times as many tokens as it was made for, or they are 15% farther from its centroids than in training.

        Raises:
            DiskError: the disk is full. Then nothing changes.
        """
        self._change(lambda change, _: change.compact(retrain))

    def refresh(self) -> bool:
        """Takes up what other processes committed, and says whether there was anything.

        Raises:
            InputError: the store is damaged, or gone.
        """
        before = self._snapshot
        self._snapshot = _open(self.directory, before.device, OpenedStore.of(before))
        return self._snapshot.state.commit != before.state.commit

    def _change(self, make: Callable[[LateChange, LateSnapshot], T]) -> T:
        """Commits what `make` changes in the newest state."""
        with self._writing, _generations(self.directory).writing() as writer:
            newest = _open(self.directory, self._snapshot.device, OpenedStore.of(self._snapshot))
            change = LateChange(self.directory, writer, newest)
            made = make(change, newest)
            self._snapshot = change.commit() if change.has_changes else newest
        return made

    def _given(self, ids: Sequence[str], tokens: Tokens) -> TokenVectors:
        """The token vectors that came with some ids."""
        if isinstance(ids, str):
            raise InputError(f"The ids are the string {ids!r}; expected a list of ids.")
        given = self._tokens(tokens, "the texts")
        if len(given) != len(ids):
            raise InputError(f"There are {len(ids)} ids for the token vectors of {len(given)} texts; expected one for each.")
        if twice := [one for one, count in Counter(ids).items() if count > 1]:
            raise InputError(f"{_some(twice)} given more than once; expected each id once.")
        return given

    def _tokens(self, tokens: Tokens, what: str) -> TokenVectors:
        found = tokens if isinstance(tokens, TokenVectors) else TokenVectors.of(tokens, self.settings.dim)
        return found.require(self.settings.dim, what)


def _generations(directory: Path) -> Generations:
    return Generations(directory, format=FORMAT, what="late-interaction store", folders=FOLDERS, remedy=REMEDY)


def _open(directory: Path, device: str, opened: OpenedStore) -> LateSnapshot:
    generations = _generations(directory)

    def load(state: State) -> LateSnapshot:
        try:
            return open_snapshot(directory, state, device, opened)
        except ValueError as error:
            raise generations.damaged(str(error)) from error

    return generations.open(load)


def _require_all(snapshot: LateSnapshot, ids: Sequence[str]) -> None:
    if missing := snapshot.missing(ids):
        raise InputError(f"{_some(missing)} not in the store; expected ids that were added and not deleted.")


def _some(ids: Sequence[str]) -> str:
    """As the beginning of a sentence about some ids."""
    if len(ids) == 1:
        return f"The id {ids[0]!r} is"
    rest = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"The ids {', '.join(map(repr, ids[:3]))}{rest} are"
