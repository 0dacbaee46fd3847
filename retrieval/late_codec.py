"""The residual codec: a token vector as the number of its nearest centroid and a few bits for each dimension of what is left.

Santhanam et al. 2022, ColBERTv2, arXiv 2112.01488, section 3.3. Knows no texts, rows or lists: vectors in, bytes out, and back.

Two bytes a token keep the length of the vector: the decoded one has it, so vectors of length 1 have length 1 again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from homefire.errors import InputError, MissingExtra
from homefire.retrieval.array_file import write_array
from homefire.retrieval.kmeans import assign
from homefire.retrieval.late_codebook import Bits, Codebook, Training, make_codebook

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from homefire.retrieval.encoder import Vectors

    Codes = npt.NDArray[Any]
    Bytes = npt.NDArray[np.uint8]
    Halves = npt.NDArray[np.float16]

_FILE = "codec.json"
_CENTROIDS, _ROTATION, _SPREAD = "centroids.npy", "rotation.npy", "spread.npy"
_BLOCK = 4096
"""Tokens that are encoded or decoded at once."""
_LONGEST = 60_000
"""Length that a scale in float16 can still give."""
_TINY = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Compressed:
    """Token vectors as a codec keeps them, `n` in all."""

    codes: Codes
    """Number of the nearest centroid, of shape `(n,)`."""
    residuals: Bytes
    """Buckets of what is left, of shape `(n, residual_bytes)`; the first dimension is in the lowest bits."""
    scales: Halves
    """What centroid and residual together are multiplied by, of shape `(n,)`."""
    residual_length: float = 0.0
    """Mean distance of the vectors to their centroids, as a share of their length; not needed to decode."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A query as a codec compares it with what it has encoded."""

    by_centroid: Vectors
    """Inner products with all centroids, float32 of shape `(n_tokens, n_centroids)`."""
    spread: Vectors
    """What the numbers that residual bytes stand for are multiplied with, float32 of shape `(n_tokens, residual_bytes * 8 // bits)`."""


class Codec:
    """Encodes and decodes token vectors. Make one with `Codec.train` or `Codec.open`; methods may be called from any thread."""

    def __init__(self, codebook: Codebook) -> None:
        self.codebook = codebook
        self.bits = codebook.bits
        self.training = codebook.training

    @classmethod
    def train(
        cls,
        sample: Vectors,
        bits: Bits = 2,
        *,
        expected_tokens: int | None = None,
        centroids: int | None = None,
        seed: int = 0,
        device: str | None = None,
    ) -> Codec:
        """Finds centroids and buckets for vectors like those of the sample.

        Args:
            sample: float32 of shape `(n, dim)`, at least one; about 40 a centroid are enough, of more some are drawn.
            bits: For each dimension of the residual: 1, 2 or 4.
            expected_tokens: Vectors that will be encoded; as many as the sample has when not given. Says how many centroids are good.
            centroids: How many, instead; fewer where the sample is too small for them.
            seed: Of every draw. On a CPU equal arguments give an equal codec.
            device: Where to compute: `cpu`, `cuda`, ...; None is the CPU.

        Raises:
            InputError: the sample is empty or has numbers that are not finite, or `bits` is none of the three.
            MissingExtra: torch is not installed.
        """
        _torch()
        checked = _checked(sample)
        if not len(checked):
            raise InputError("The sample to train the codec on has no vectors; expected at least one.")
        expected = max(expected_tokens or 0, len(checked))
        return cls(make_codebook(checked, bits, expected_tokens=expected, centroids=centroids, seed=seed, device=device or "cpu"))

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return len(self.codebook.spread)

    @property
    def residual_bytes(self) -> int:
        """Bytes that the residual of one token takes."""
        return -(-self.dim * self.bits // 8)

    @property
    def head_bytes(self) -> int:
        """How many of these, the first ones, are enough for a good guess of an inner product."""
        return -(-self.codebook.head_dims * self.bits // 8)

    @property
    def centroid_count(self) -> int:
        """How many centroids there are."""
        return len(self.codebook.centroids)

    @property
    def code_type(self) -> type[np.uint16] | type[np.uint32]:
        """Of the numbers of centroids."""
        import numpy as np

        return np.uint16 if self.centroid_count <= 2**16 else np.uint32

    @cached_property
    def centroids(self) -> Vectors:
        """float32 of shape `(centroid_count, dim)`, on the turned axes."""
        import numpy as np

        return self.codebook.centroids.astype(np.float32)

    @cached_property
    def table(self) -> Vectors:
        """What each value of a residual byte stands for, float32 of shape `(256, 8 // bits)`, before the spread."""
        import numpy as np

        per_byte = 8 // self.bits
        shifts = np.arange(per_byte) * self.bits
        table: Vectors = self.codebook.weights[(np.arange(256)[:, None] >> shifts) & (2**self.bits - 1)]
        return table

    @cached_property
    def fingerprint(self) -> str:
        """Says which codec this is: what one has encoded, only an equal one can decode."""
        digest = hashlib.sha256(f"{self.bits} {self.codebook.head_dims}".encode())
        for array in self._arrays():
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    def encode(self, vectors: Vectors, *, device: str | None = None) -> Compressed:
        """Compresses vectors of shape `(n, dim)`.

        Raises:
            InputError: they have another dimension, numbers that are not finite, or lengths beyond 60,000.
        """
        import numpy as np

        torch = _torch()
        checked = _checked(vectors, self.dim)
        where = device or "cpu"
        count = len(checked)
        codes = np.empty(count, dtype=self.code_type)
        residuals = np.empty((count, self.residual_bytes), dtype=np.uint8)
        scales, lengths = np.empty(count, dtype=np.float16), np.empty(count, dtype=np.float32)
        book = self.codebook
        arrays = (self.centroids, book.rotation, book.spread, book.cutoffs, book.weights)
        centroids, rotation, spread, cutoffs, weights = (torch.from_numpy(array).to(where) for array in arrays)
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            given = torch.from_numpy(checked[block]).to(where) @ rotation
            own = given.norm(dim=1)
            if own.max() > _LONGEST:
                raise InputError(
                    f"A token vector is {float(own.max()):,.0f} long; expected lengths near 1, up to {_LONGEST:,}. Normalise them."
                )
            nearest, _ = assign(given, centroids)
            left = given - centroids[nearest]
            buckets = torch.bucketize(left / spread, cutoffs, out_int32=True)
            found = (centroids[nearest] + spread * weights[buckets]).norm(dim=1)
            codes[block] = nearest.cpu().numpy()
            residuals[block] = _packed(buckets, self.bits).cpu().numpy()
            scales[block] = (own / found.clamp(min=_TINY)).clamp(max=_LONGEST).cpu().numpy()
            lengths[block] = (left.norm(dim=1) / own.clamp(min=_TINY)).cpu().numpy()
        return Compressed(codes, residuals, scales, float(lengths.mean()) if count else 0.0)

    def decode(self, compressed: Compressed) -> Vectors:
        """The vectors again, nearly: float32 of shape `(n, dim)`."""
        import numpy as np

        torch = _torch()
        back = torch.from_numpy(self.codebook.rotation).T
        vectors = np.empty((len(compressed.codes), self.dim), dtype=np.float32)
        for start in range(0, len(vectors), _BLOCK):
            block = slice(start, start + _BLOCK)
            scaled = np.take(self.table, compressed.residuals[block], axis=0).reshape(-1, self.residual_bytes * (8 // self.bits))
            found = self.centroids[compressed.codes[block]] + scaled[:, : self.dim] * self.codebook.spread
            found *= compressed.scales[block, None].astype(np.float32)
            vectors[block] = (torch.from_numpy(found) @ back).numpy()
        return vectors

    def ask(self, query: Vectors) -> Asked:
        """What it takes to compare a query with encoded vectors.

        An inner product is the one with the centroid, plus the one of `Asked.spread` with what the residual's bytes stand for in `table`,
        both times the scale.

        Args:
            query: Shape `(n_tokens, dim)`.
        """
        import numpy as np

        torch = _torch()
        turned = torch.from_numpy(np.require(query, np.float32, ["C", "W"])) @ torch.from_numpy(self.codebook.rotation)
        by_centroid = (turned @ torch.from_numpy(self.centroids).T).numpy()
        spread = np.zeros((len(query), self.residual_bytes * (8 // self.bits)), dtype=np.float32)
        np.multiply(turned.numpy(), self.codebook.spread, out=spread[:, : self.dim])
        return Asked(by_centroid, spread)

    def drift(self, residual_length: float) -> float:
        """How much worse the centroids fit now than in training: 1 is as well, 1.2 says that vectors are 20% farther from them.

        Args:
            residual_length: Of what was encoded since.
        """
        return residual_length / max(self.training.residual_length, _TINY)

    def save(self, folder: Path) -> None:
        """Writes the codec into a folder that exists."""
        book = self.codebook
        write_array(folder / _CENTROIDS, [book.centroids], "float16")
        write_array(folder / _ROTATION, [book.rotation], "float32")
        write_array(folder / _SPREAD, [book.spread], "float32")
        values = {
            "bits": self.bits,
            "head_dims": book.head_dims,
            "fingerprint": self.fingerprint,
            "cutoffs": book.cutoffs.tolist(),
            "weights": book.weights.tolist(),
            "training": asdict(self.training),
        }
        (folder / _FILE).write_text(json.dumps(values, indent=1), encoding="utf-8")

    def _arrays(self) -> tuple[npt.NDArray[Any], ...]:
        book = self.codebook
        return book.centroids, book.rotation, book.spread, book.cutoffs, book.weights

    @classmethod
    def open(cls, folder: Path) -> Codec:
        """Reads the codec that `save` wrote.

        Raises:
            InputError: a file is damaged, or they do not belong together.
            FileNotFoundError: a file is missing.
        """
        import numpy as np

        try:
            values = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            centroids, rotation, spread = (np.load(folder / name, allow_pickle=False) for name in (_CENTROIDS, _ROTATION, _SPREAD))
            book = Codebook(
                bits=values["bits"],
                head_dims=values["head_dims"],
                centroids=centroids,
                rotation=rotation,
                spread=spread,
                cutoffs=np.array(values["cutoffs"], dtype=np.float32),
                weights=np.array(values["weights"], dtype=np.float32),
                training=Training(**values["training"]),
            )
            codec = cls(book)
            if codec.fingerprint != values["fingerprint"]:
                raise ValueError("its files are not those that were written together")
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(f"The codec in {str(folder)!r} is damaged: {error}. Build the index again.") from error
        return codec


def _packed(buckets: torch.Tensor, bits: int) -> torch.Tensor:
    """Bucket numbers of shape `(n, dim)` as uint8 of shape `(n, residual_bytes)`; unused bits are zero."""
    import torch

    per_byte = 8 // bits
    padded = torch.nn.functional.pad(buckets, (0, -buckets.shape[1] % per_byte))
    shifts = torch.arange(per_byte, device=buckets.device) * bits
    return (padded.view(len(buckets), -1, per_byte) << shifts).sum(dim=2).to(torch.uint8)


def _checked(vectors: Vectors, dim: int | None = None) -> Vectors:
    """The vectors in a block of memory that may be written to."""
    import numpy as np

    if vectors.ndim != 2 or not vectors.shape[1] or (dim is not None and vectors.shape[1] != dim):
        raise InputError(
            f"The token vectors have shape {vectors.shape}; expected (n_tokens, {dim or 'dim'}). Encode with the encoder of the index."
        )
    checked = np.require(vectors, np.float32, ["C", "W"])
    if not np.isfinite(checked).all():
        raise InputError("Some token vectors have numbers that are not finite (NaN or infinite); expected finite ones. Repair the encoder.")
    return checked


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", "retrieval", "Late interaction") from error
    return torch
