"""The late-interaction part of a segment: one matrix of token vectors a passage, searched by MaxSim.

Knows no text, no encoder and no index: rows and numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from homefire.errors import InputError
from homefire.retrieval.late_codec import Asked, Codec
from homefire.retrieval.late_files import Mask, TokenFiles, TokenReport, merge_files
from homefire.retrieval.late_search import Effort, candidates, exact, search
from homefire.retrieval.one_core import on_one_core
from homefire.retrieval.token_vectors import TokenVectors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Rows: TypeAlias = "npt.NDArray[np.int64]"
Scores: TypeAlias = "npt.NDArray[np.float32]"


class TokenPart:
    """A written part, memory-mapped. Methods may be called from any thread; `write_tokens` writes one.

    Args:
        files: Of the part.
        device: Where passages are decoded and compared: `cpu`, `cuda`, ...; which of them, the processor chooses in any case.
    """

    def __init__(self, files: TokenFiles, *, device: str = "cpu") -> None:
        self.files = files
        self.device = device

    @classmethod
    def open(cls, folder: Path, codec: Codec | None, *, device: str = "cpu") -> TokenPart:
        """Opens a part without reading it.

        Args:
            folder: Where it was written.
            codec: The one it was written with; one that it was not needs is not looked at.
            device: As above.

        Raises:
            InputError: the part was written with another codec.
            FileNotFoundError: a file is missing.
            ValueError: a file is not what it should be.
        """
        return cls(TokenFiles.open(folder, codec), device=device)

    @property
    def report(self) -> TokenReport:
        """What it holds."""
        return self.files.report

    @property
    def rows(self) -> int:
        """How many passages."""
        return self.report.rows

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self.report.dim

    def search(self, queries: TokenVectors, k: int, mask: Mask = None, effort: Effort | None = None) -> tuple[Scores, Rows]:
        """The `k` rows with the largest MaxSim for each query, best first, as far as the effort finds them.

        Args:
            queries: Their token vectors.
            k: Rows a query, at least 1.
            mask: Rows that may be returned.
            effort: How hard to look.

        Returns:
            Scores and rows, both of shape `(n_queries, k)`; row -1 with score minus infinity where there are fewer. Rows without tokens are
            not found, and a query without tokens finds nothing.

        Raises:
            InputError: the queries have another dimension, or are not finite.
        """
        import numpy as np

        self._require(queries)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)

        def some(numbers: range) -> None:
            for number, asked in zip(numbers, self._asked(queries, numbers), strict=True):
                found_scores, found = search(self.files, queries[number], k, mask, effort or Effort(), asked, self.device)
                scores[number, : len(found)], rows[number, : len(found)] = found_scores, found

        on_one_core(some, _few_at_once(len(queries)))
        return scores, rows

    def candidates(self, queries: TokenVectors, count: int, mask: Mask = None, effort: Effort | None = None) -> Rows:
        """The most promising rows for each query by centroids alone, best first.

        Args:
            queries: Their token vectors.
            count: Rows a query, at least 1.
            mask: Rows that may be returned.
            effort: How hard to look.

        Returns:
            Shape `(n_queries, count)`; -1 where there are fewer. Without a codec there are no centroids, and rows come as they are.

        Raises:
            InputError: as `search`.
        """
        import numpy as np

        self._require(queries)
        rows = np.full((len(queries), count), -1, dtype=np.int64)

        def one(number: int) -> None:
            found = candidates(self.files, queries[number], count, mask, effort or Effort())
            rows[number, : len(found)] = found

        on_one_core(one, range(len(queries)))
        return rows

    def score(self, queries: TokenVectors, rows: Rows) -> Scores:
        """MaxSim of each query with the decoded vectors of its rows.

        Args:
            queries: Their token vectors.
            rows: Shape `(n_queries, n)`; -1 stands for no row.

        Returns:
            Shape `(n_queries, n)`; minus infinity for row -1, 0 for rows without tokens and queries without.

        Raises:
            InputError: as `search`.
        """
        import numpy as np

        self._require(queries)
        scores = np.full(rows.shape, -np.inf, dtype=np.float32)

        def one(number: int) -> None:
            asked = rows[number] >= 0
            scores[number, asked] = exact(self.files, queries[number], rows[number, asked], device=self.device)

        on_one_core(one, range(len(queries)))
        return scores

    def read(self, rows: Rows) -> TokenVectors:
        """The decoded token vectors of some rows."""
        return self.files.read(rows)

    def token_count(self, rows: Rows) -> int:
        """How many tokens some rows have together."""
        return int(self.files.lengths(rows).sum())

    def _asked(self, queries: TokenVectors, numbers: range) -> list[Asked | None]:
        """What the codec makes of some queries, which follow each other; it is quicker to ask for them together."""
        if self.files.codec is None:
            return [None] * len(numbers)
        offsets = queries.offsets[numbers.start : numbers.stop + 1]
        asked = self.files.codec.ask(queries.vectors[offsets[0] : offsets[-1]])
        cuts = zip((offsets[:-1] - offsets[0]).tolist(), (offsets[1:] - offsets[0]).tolist(), strict=True)
        return [Asked(asked.by_centroid[begin:end], asked.spread[begin:end]) for begin, end in cuts]

    def _require(self, queries: TokenVectors) -> None:
        if self.report.tokens:
            queries.require(self.dim, "the queries")


def _few_at_once(count: int) -> list[range]:
    """The numbers up to `count` in runs: short ones where there are few, so that every core has work."""
    step = min(8, max(1, count // 8))
    return [range(start, min(count, start + step)) for start in range(0, count, step)]


def merge_tokens(folder: Path, parts: Sequence[TokenPart], masks: Sequence[Mask], codec: Codec | None) -> TokenReport:
    """Writes the rows of some parts that count as one part, in their order, into a folder that exists and is empty.

    What the codec has encoded is copied, so nothing is lost; what another one encoded is decoded and encoded anew.

    Raises:
        InputError: the parts have different dimensions.
    """
    dims = {part.dim for part in parts if part.report.tokens} | ({codec.dim} if codec else set())
    if len(dims) > 1:
        raise InputError(f"The parts have {sorted(dims)} dimensions; expected one. Encode all passages with one encoder.")
    return merge_files(folder, [(part.files, mask) for part, mask in zip(parts, masks, strict=True)], codec)
