"""The token vectors of a segment on disk: compressed by a codec or as they are, in memory-mapped files that are written once.

Knows no search and no ids: rows and numbers only. A row is a text; its tokens stand behind one another.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from homefire.errors import InputError
from homefire.retrieval.array_file import write_array
from homefire.retrieval.late_codec import Codec, Compressed
from homefire.retrieval.token_vectors import TokenVectors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from homefire.retrieval.encoder import Vectors

Mask: TypeAlias = "npt.NDArray[np.bool_] | None"
"""Shape `(rows,)`: true for rows that count; None means all of them."""

REPORT = "tokens.json"
OFFSETS, CODES, HEADS, TAILS, SCALES, VECTORS = "offsets.npy", "codes.npy", "heads.npy", "tails.npy", "scales.npy", "vectors.npy"
LIST_ROWS, LIST_OFFSETS = "list_rows.npy", "list_offsets.npy"

_BLOCK = 2**16
"""Tokens that are in memory at once while a part is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenReport:
    """What a part holds."""

    rows: int
    tokens: int
    dim: int
    codec: str | None
    """Fingerprint of the codec that reads it; None where the vectors are kept as they are, in float16."""
    residual_length: float
    """Mean distance of the vectors to their centroids, as a share of their length; 0 without a codec."""


def write_tokens(folder: Path, tokens: TokenVectors, codec: Codec | None, *, device: str | None = None) -> TokenReport:
    """Writes the token vectors of some texts into a folder that exists and is empty.

    Args:
        folder: Where the files go.
        tokens: One text a row.
        codec: Compresses them; None keeps them as float16, which is good for few: nothing is lost and nothing has to be trained.
        device: Where to compress: `cpu`, `cuda`, ...; None is the CPU.

    Raises:
        InputError: the vectors are not finite, or not of the codec's dimension.
    """
    import numpy as np

    tokens.require(tokens.dim if codec is None else codec.dim, "the passages")
    if codec is None and np.abs(tokens.vectors).max(initial=0) > np.finfo(np.float16).max:
        raise InputError("Some token vectors have numbers beyond 65,504; expected vectors of length 1. Repair the encoder.")
    blocks = (tokens.vectors[start : start + _BLOCK] for start in range(0, len(tokens.vectors), _BLOCK))
    dim = codec.dim if codec else tokens.dim
    return _write(folder, np.diff(tokens.offsets), dim, codec, (_columns(block, codec, device) for block in blocks))


def merge_files(folder: Path, parts: Sequence[tuple[TokenFiles, Mask]], codec: Codec | None) -> TokenReport:
    """Writes the rows of some parts that count as one part, in their order.

    What the codec has encoded is copied, so nothing is lost; what another codec encoded is decoded and encoded anew.

    Args:
        folder: Exists and is empty.
        parts: Of one dimension.
        codec: For the new part.
    """
    import numpy as np

    lengths = [np.diff(part.offsets) if mask is None else np.diff(part.offsets)[mask] for part, mask in parts]
    dim = codec.dim if codec else max((part.report.dim for part, _ in parts), default=0)
    blocks = (block for part, mask in parts for block in _kept(part, mask, codec))
    return _write(folder, np.concatenate([np.zeros(0, dtype=np.int64), *lengths]), dim, codec, blocks)


Block: TypeAlias = "tuple[Mapping[str, npt.NDArray[Any]], float]"
"""Some tokens as columns by file name, and their mean residual length."""


@dataclass(frozen=True, eq=False)
class TokenFiles:
    """The files of a part, opened without reading them."""

    report: TokenReport
    codec: Codec | None
    offsets: npt.NDArray[np.int64]
    """Of shape `(rows + 1,)`: row `i` has the tokens `offsets[i]` to `offsets[i + 1]`."""
    columns: Mapping[str, npt.NDArray[Any]]
    """Arrays with one entry a token, by the name of their file."""
    list_rows: npt.NDArray[Any]
    """For each centroid the rows that have tokens near it, ascending; one centroid behind the other."""
    list_offsets: npt.NDArray[np.int64]
    """Of shape `(n_centroids + 1,)`: where the rows of each centroid begin and end."""

    @classmethod
    def open(cls, folder: Path, codec: Codec | None) -> TokenFiles:
        """Opens a part.

        Args:
            folder: Where it was written.
            codec: The one that compressed it; not needed for a part without one.

        Raises:
            InputError: it was compressed by another codec.
            FileNotFoundError: a file is missing.
            ValueError: a file is not what it should be.
        """
        import numpy as np

        try:
            report = TokenReport(**json.loads((folder / REPORT).read_text(encoding="utf-8")))
        except TypeError as error:
            raise ValueError(f"{REPORT}: {error}") from error
        given = codec.fingerprint if codec else None
        if report.codec is not None and report.codec != given:
            raise InputError(
                f"The token vectors in {str(folder)!r} were compressed by the codec {report.codec!r}, but {given!r} was given. "
                "Open them with the codec that is stored with them."
            )
        codec = codec if report.codec else None
        offsets = _load(folder, OFFSETS, np.int64, (report.rows + 1,))
        columns = {name: _load(folder, name, dtype, shape) for name, dtype, shape in _layout(report.tokens, report.dim, codec)}
        if codec is None:
            none = np.zeros(0, dtype=np.int64)
            return cls(report, None, offsets, columns, none.astype(np.uint16), none)
        list_offsets = _load(folder, LIST_OFFSETS, np.int64, (codec.centroid_count + 1,))
        list_rows = _load(folder, LIST_ROWS, _row_type(report.rows), (int(list_offsets[-1]),))
        return cls(report, codec, offsets, columns, list_rows, list_offsets)

    @cached_property
    def filled_rows(self) -> int:
        """Rows that have tokens."""
        import numpy as np

        return int(np.count_nonzero(self.offsets[1:] > self.offsets[:-1]))

    def lengths(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many tokens each of some rows has."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def gather(self, name: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The entries of one column that belong to some rows, one row behind the other."""
        import numpy as np

        column, begins, ends = self.columns[name], self.offsets[rows].tolist(), self.offsets[rows + 1].tolist()
        slices = [column[begin:end] for begin, end in zip(begins, ends, strict=True)]
        return np.concatenate(slices) if slices else column[:0]

    def read(self, rows: npt.NDArray[np.int64]) -> TokenVectors:
        """The token vectors of some rows, decoded."""
        import numpy as np

        offsets = np.concatenate([[0], np.cumsum(self.lengths(rows))]).astype(np.int64)
        if self.codec is None:
            return TokenVectors(self.gather(VECTORS, rows).astype(np.float32), offsets)
        return TokenVectors(self.codec.decode(self.compressed(rows)), offsets)

    def compressed(self, rows: npt.NDArray[np.int64]) -> Compressed:
        """The tokens of some rows as the codec gave them."""
        import numpy as np

        codes, heads, tails, scales = (self.gather(name, rows) for name in (CODES, HEADS, TAILS, SCALES))
        return Compressed(codes, np.concatenate([heads, tails], axis=1), scales)


def ranges(begins: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The numbers of several runs, one run behind the other."""
    import numpy as np

    ends = np.cumsum(lengths)
    return np.repeat(begins - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)


def _layout(tokens: int, dim: int, codec: Codec | None) -> list[tuple[str, npt.DTypeLike, tuple[int, ...]]]:
    """Name, type and shape of the columns."""
    import numpy as np

    if codec is None:
        return [(VECTORS, np.float16, (tokens, dim))]
    head, tail = codec.head_bytes, codec.residual_bytes - codec.head_bytes
    return [
        (CODES, codec.code_type, (tokens,)),
        (HEADS, np.uint8, (tokens, head)),
        (TAILS, np.uint8, (tokens, tail)),
        (SCALES, np.float16, (tokens,)),
    ]


def _columns(vectors: Vectors, codec: Codec | None, device: str | None = None) -> Block:
    import numpy as np

    if codec is None:
        return {VECTORS: vectors.astype(np.float16)}, 0.0
    compressed = codec.encode(vectors, device=device)
    heads, tails = compressed.residuals[:, : codec.head_bytes], compressed.residuals[:, codec.head_bytes :]
    return {CODES: compressed.codes, HEADS: heads, TAILS: tails, SCALES: compressed.scales}, compressed.residual_length


def _kept(part: TokenFiles, mask: Mask, codec: Codec | None) -> Iterator[Block]:
    """The rows of a part that count, as columns for the codec; copied where they are for it already."""
    import numpy as np

    rows = np.arange(part.report.rows) if mask is None else np.flatnonzero(mask)
    ends = np.cumsum(part.lengths(rows))
    same = (codec.fingerprint if codec else None) == part.report.codec
    first = 0
    while first < len(rows):
        last = max(int(ends.searchsorted((ends[first - 1] if first else 0) + _BLOCK, side="right")), first + 1)
        some = rows[first:last]
        if same:
            yield {name: part.gather(name, some) for name in part.columns}, part.report.residual_length
        else:
            yield _columns(part.read(some).vectors, codec)
        first = last


def _write(folder: Path, lengths: npt.NDArray[np.int64], dim: int, codec: Codec | None, blocks: Iterator[Block]) -> TokenReport:
    """Writes the files; ordinary writes, because a full disk would kill a process that writes through a memory map."""
    import numpy as np

    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = int(offsets[-1])
    codes, total = [], 0.0
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("wb")) for name, _, _ in _layout(tokens, dim, codec)}
        layout: Any = np.lib.format
        for name, dtype, shape in _layout(tokens, dim, codec):
            layout.write_array_header_1_0(files[name], {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape})
        for columns, residual_length in blocks:
            for name, array in columns.items():
                files[name].write(np.ascontiguousarray(array).data)
            codes += [columns[CODES]] if codec else []
            total += residual_length * len(next(iter(columns.values())))
    write_array(folder / OFFSETS, [offsets], np.int64)
    if codec:
        _write_lists(folder, np.concatenate([np.zeros(0, dtype=codec.code_type), *codes]), lengths, codec.centroid_count)
    report = TokenReport(
        rows=len(lengths), tokens=tokens, dim=dim, codec=codec.fingerprint if codec else None, residual_length=total / max(tokens, 1)
    )
    (folder / REPORT).write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
    return report


def _write_lists(folder: Path, codes: npt.NDArray[Any], lengths: npt.NDArray[np.int64], centroids: int) -> None:
    """The lists of rows by centroid."""
    import numpy as np

    row_type = _row_type(len(lengths))
    rows = np.repeat(np.arange(len(lengths), dtype=row_type), lengths)
    order = np.argsort(codes, kind="stable")
    codes, rows = codes[order], rows[order]
    first = np.ones(len(codes), dtype=bool)
    first[1:] = (codes[1:] != codes[:-1]) | (rows[1:] != rows[:-1])
    write_array(folder / LIST_ROWS, [rows[first]], row_type)
    write_array(folder / LIST_OFFSETS, [codes[first].searchsorted(np.arange(centroids + 1))], np.int64)


def _row_type(rows: int) -> type[np.uint16] | type[np.uint32]:
    import numpy as np

    return np.uint16 if rows <= 2**16 else np.uint32


def _load(folder: Path, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Maps a file, and checks that it has this content's form."""
    import numpy as np

    try:
        array: npt.NDArray[Any] = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except EOFError as error:
        raise ValueError(f"{name} is empty") from error
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} has {array.dtype} of shape {array.shape}; expected {np.dtype(dtype)} of shape {shape}")
    return array.view(np.ndarray)  # slices of memory maps are slower to make
