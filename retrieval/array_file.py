"""Array files: arrays in NumPy's format, written piece by piece, to be memory-mapped.

Knows no meaning of the numbers. A full disk is an `OSError` with its number, which `numpy.save` does not give.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

_AT_ONCE = 2**24
"""Numbers written at once."""


def write_array(file: Path, pieces: Sequence[npt.NDArray[Any]], dtype: npt.DTypeLike) -> None:
    """Writes arrays one behind the other along their first axis; there is at least one.

    Args:
        file: Where; ends in `.npy`.
        pieces: Equal in all axes but the first; may be memory maps, which are read piece by piece.
        dtype: Type of the numbers in the file.
    """
    import numpy as np

    shape = (sum(len(piece) for piece in pieces), *pieces[0].shape[1:])
    layout: Any = np.lib.format
    with file.open("wb") as stream:
        layout.write_array_header_1_0(stream, {"descr": layout.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape})
        for piece in pieces:
            rows = max(1, _AT_ONCE // max(1, int(np.prod(piece.shape[1:]))))
            for start in range(0, len(piece), rows):
                stream.write(np.ascontiguousarray(piece[start : start + rows], dtype=dtype).data)
