"""Token vectors: for each text a matrix with one row a token, all of them in one array.

Knows no encoder, no index and no compression: it is what they hand to each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from homefire.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class TokenVectors:
    """The token vectors of some texts, in the order of the texts."""

    vectors: npt.NDArray[np.float32]
    """Shape `(n_tokens, dim)`: the tokens of all texts, one text after the other."""
    offsets: npt.NDArray[np.int64]
    """Shape `(n_texts + 1,)`: text `i` has the rows from `offsets[i]` to before `offsets[i + 1]`."""

    @classmethod
    def of(cls, matrices: Sequence[npt.NDArray[np.float32]], dim: int | None = None) -> TokenVectors:
        """Puts one matrix a text together; `dim` is needed where there may be none.

        Raises:
            InputError: there is no matrix and no `dim`.
        """
        import numpy as np

        if dim is None:
            if not matrices:
                raise InputError("TokenVectors.of was given no matrices, so their dimensions are not known. Give dim as well.")
            dim = matrices[0].shape[1]
        offsets = np.zeros(len(matrices) + 1, dtype=np.int64)
        np.cumsum([len(matrix) for matrix in matrices], out=offsets[1:])
        vectors = np.concatenate(matrices, dtype=np.float32) if matrices else np.empty((0, dim), dtype=np.float32)
        return cls(vectors, offsets)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, text: int) -> npt.NDArray[np.float32]:
        """The vectors of one text, shape `(n_tokens of it, dim)`; a view."""
        place = text + len(self) if text < 0 else text
        if not 0 <= place < len(self):
            raise IndexError(f"text {text} of {len(self)}")
        return self.vectors[self.offsets[place] : self.offsets[place + 1]]

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        return (self[text] for text in range(len(self)))
