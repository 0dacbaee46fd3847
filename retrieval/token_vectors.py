"""Token vectors: what late interaction compares, one vector a token, several a text.

Knows no encoder and no file: the vectors of all texts stand in one array, one text behind the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from homefire.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class TokenVectors:
    """The token vectors of some texts, in the order of the texts. A text may have no tokens.

    `len()` counts the texts, and `[i]` gives those of text `i`, of shape `(n_tokens_i, dim)`, without a copy.

    Raises:
        InputError: the offsets do not cut the vectors into texts.
    """

    vectors: npt.NDArray[np.float32]
    """float32 of shape `(n_tokens, dim)`."""
    offsets: npt.NDArray[np.int64]
    """Of shape `(n_texts + 1,)`: text `i` has the vectors `offsets[i]` to `offsets[i + 1]`."""

    def __post_init__(self) -> None:
        offsets = self.offsets
        if self.vectors.ndim != 2 or self.vectors.dtype != "float32":
            raise InputError(
                f"The token vectors have shape {self.vectors.shape} and type {self.vectors.dtype}; expected float32 of shape "
                "(n_tokens, dim). Use TokenVectors.of for a list of arrays, one a text."
            )
        if (
            offsets.ndim != 1
            or not len(offsets)
            or offsets[0] != 0
            or offsets[-1] != len(self.vectors)
            or (offsets[1:] < offsets[:-1]).any()
        ):
            raise InputError(
                f"The offsets do not cut {len(self.vectors)} token vectors into texts; expected ascending numbers from 0 to "
                f"{len(self.vectors)}, one more than there are texts. Use TokenVectors.of for a list of arrays, one a text."
            )

    @classmethod
    def of(cls, texts: Sequence[npt.ArrayLike], dim: int | None = None) -> TokenVectors:
        """Puts the arrays of several texts behind one another.

        Args:
            texts: One array of shape `(n_tokens, dim)` a text; an empty one for a text without tokens.
            dim: Numbers in a vector; needed only where no text has a token.

        Raises:
            InputError: the arrays have different dimensions, or are no matrices.
        """
        import numpy as np

        arrays = [np.asarray(text, dtype=np.float32) for text in texts]
        filled = [array for array in arrays if array.size]
        shapes = {array.shape[1:] for array in filled}
        if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
            raise InputError(
                f"The token vectors of the texts have the shapes {sorted({array.shape for array in filled})}; expected (n_tokens, dim) "
                "with one dim for all. Encode all texts with one encoder."
            )
        offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
        offsets[1:] = np.cumsum([len(array) if array.size else 0 for array in arrays])
        width = filled[0].shape[1] if filled else dim or 0
        return cls(np.concatenate(filled) if filled else np.zeros((0, width), dtype=np.float32), offsets)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return int(self.vectors.shape[1])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, text: int) -> npt.NDArray[np.float32]:
        if not -len(self) <= text < len(self):
            raise IndexError(f"There is no text {text} among {len(self)}.")
        text %= len(self)
        return self.vectors[self.offsets[text] : self.offsets[text + 1]]

    def require(self, dim: int, what: str) -> TokenVectors:
        """Itself, if its vectors are finite and have `dim` numbers; vectors of no text or token may have any.

        Raises:
            InputError: they are not.
        """
        import numpy as np

        if len(self.vectors) and self.dim != dim:
            raise InputError(f"The token vectors of {what} have {self.dim} numbers; expected {dim}. Encode with the encoder of the index.")
        if not np.isfinite(self.vectors).all():
            raise InputError(
                f"The token vectors of {what} have numbers that are not finite (NaN or infinite); expected finite ones. Repair the encoder."
            )
        return self
