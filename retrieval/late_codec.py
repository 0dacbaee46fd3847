"""The residual codec: a token vector as the number of its nearest centroid and a few bits for each dimension of what is left.

Santhanam et al. 2022, ColBERTv2, arXiv 2112.01488, section 3.3. Knows no texts, rows or lists: vectors in, bytes out, and back.

Beyond the paper, each dimension has a scale of its own, a bucket stands for the mean of the residuals in it, and two bytes a token keep the
length of the vector: the decoded one has it, so vectors of length 1 have length 1 again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from math import log2, sqrt
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from homefire.errors import InputError, MissingExtra
from homefire.retrieval.kmeans import assign, kmeans

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from homefire.retrieval.encoder import Vectors

    Codes = npt.NDArray[Any]
    Bytes = npt.NDArray[np.uint8]
    Halves = npt.NDArray[np.float16]

Bits = Literal[1, 2, 4]

MOST_CENTROIDS = 2**14
"""More make training take long on a processor; with 100 million tokens each then stands for 6,000."""

_FILE = "codec.json"
PER_CENTROID = 32
"""Vectors a centroid is trained on."""

_CENTROIDS, _SPREAD = "centroids.npy", "spread.npy"
_BLOCK = 4096
"""Tokens that are encoded or decoded at once."""
_HELD_OUT = 8_000
"""Most vectors whose residuals say where the buckets are."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a codec was trained on."""

    tokens: int
    """Vectors in the sample."""
    expected_tokens: int
    """Vectors that the number of centroids was chosen for."""
    residual_length: float
    """Mean distance to the nearest centroid of vectors that the centroids were not trained on, as a share of their length."""
    seed: int


class Codec:
    """Encodes and decodes token vectors. Make one with `Codec.train` or `Codec.open`; methods may be called from any thread."""

    def __init__(self, *, bits: Bits, centroids: Halves, spread: Vectors, cutoffs: Vectors, weights: Vectors, training: Training) -> None:
        self.bits = bits
        self.training = training
        self.spread = spread
        """Scale of the residuals in each dimension, float32 of shape `(dim,)`."""
        self.cutoffs = cutoffs
        """Borders between the buckets of a scaled residual, float32 of shape `(2 ** bits - 1,)`."""
        self.weights = weights
        """What each bucket stands for, float32 of shape `(2 ** bits,)`."""
        self._halves = centroids

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
        if bits not in (1, 2, 4):
            raise InputError(f"bits is {bits!r}; it must be 1, 2 or 4.")
        if centroids is not None and centroids < 1:
            raise InputError(f"centroids is {centroids}; it must be at least 1.")
        torch = _torch()
        checked = _checked(sample)
        if not len(checked):
            raise InputError("The sample to train the codec on has no vectors; expected at least one.")
        expected = max(expected_tokens or 0, len(checked))
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(checked), generator=generator).numpy()
        held_out = min(max(len(order) // 8, 1), _HELD_OUT)
        wanted = min(centroids or centroids_for(expected), MOST_CENTROIDS, max((len(order) - held_out) // 4, 1))
        trained_on = order[held_out:][: wanted * PER_CENTROID] if len(order) > 1 else order
        vectors = torch.from_numpy(checked[trained_on]).to(device or "cpu")
        found = kmeans(vectors, wanted, seed=seed).half()
        rest = torch.from_numpy(checked[order[:held_out]]).to(found.device)
        spread, cutoffs, weights, length = _buckets(rest, found.float(), bits)
        training = Training(tokens=len(order), expected_tokens=expected, residual_length=length, seed=seed)
        return cls(bits=bits, centroids=found.cpu().numpy(), spread=spread, cutoffs=cutoffs, weights=weights, training=training)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return len(self.spread)

    @property
    def residual_bytes(self) -> int:
        """Bytes that the residual of one token takes."""
        return -(-self.dim * self.bits // 8)

    @property
    def centroid_count(self) -> int:
        """How many centroids there are."""
        return len(self._halves)

    @property
    def code_type(self) -> type[np.uint16] | type[np.uint32]:
        """Of the numbers of centroids."""
        import numpy as np

        return np.uint16 if self.centroid_count <= 2**16 else np.uint32

    @cached_property
    def centroids(self) -> Vectors:
        """float32 of shape `(centroid_count, dim)`."""
        import numpy as np

        return self._halves.astype(np.float32)

    @cached_property
    def table(self) -> Vectors:
        """What each value of a residual byte stands for, float32 of shape `(256, 8 // bits)`, before the spread."""
        import numpy as np

        per_byte = 8 // self.bits
        shifts = np.arange(per_byte) * self.bits
        table: Vectors = self.weights[(np.arange(256)[:, None] >> shifts) & (2**self.bits - 1)]
        return table

    @cached_property
    def fingerprint(self) -> str:
        """Says which codec this is: what one has encoded, only an equal one can decode."""
        digest = hashlib.sha256(f"{self.bits}".encode())
        for array in (self._halves, self.spread, self.cutoffs, self.weights):
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
        centroids = torch.from_numpy(self.centroids).to(where)
        spread, cutoffs, weights = (torch.from_numpy(array).to(where) for array in (self.spread, self.cutoffs, self.weights))
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            given = torch.from_numpy(checked[block]).to(where)
            nearest, _ = assign(given, centroids)
            left = given - centroids[nearest]
            buckets = torch.bucketize(left / spread, cutoffs, out_int32=True)
            own = given.norm(dim=1)
            found = (centroids[nearest] + spread * weights[buckets]).norm(dim=1)
            codes[block] = nearest.cpu().numpy()
            residuals[block] = _packed(buckets, self.bits).cpu().numpy()
            scales[block] = (own / found.clamp(min=_TINY)).clamp(max=60_000).cpu().numpy()
            lengths[block] = (left.norm(dim=1) / own.clamp(min=_TINY)).cpu().numpy()
        return Compressed(codes, residuals, scales, float(lengths.mean()) if count else 0.0)

    def decode(self, compressed: Compressed) -> Vectors:
        """The vectors again, nearly: float32 of shape `(n, dim)`."""
        import numpy as np

        vectors = np.empty((len(compressed.codes), self.dim), dtype=np.float32)
        for start in range(0, len(vectors), _BLOCK):
            block = slice(start, start + _BLOCK)
            scaled = self.unpack(compressed.residuals[block])
            found = self.centroids[compressed.codes[block]] + scaled * self.spread
            vectors[block] = found * compressed.scales[block, None].astype(np.float32)
        return vectors

    def unpack(self, residuals: Bytes) -> Vectors:
        """Residuals before the spread, float32 of shape `(n, dim)`, from bytes of shape `(n, residual_bytes)`."""
        import numpy as np

        return np.take(self.table, residuals, axis=0).reshape(len(residuals), -1)[:, : self.dim]

    def spread_query(self, query: Vectors) -> Vectors:
        """What to multiply residuals before the spread with, to get their inner products with a query.

        Args:
            query: Shape `(n, dim)`.

        Returns:
            float32 of shape `(n, residual_bytes * 8 // bits)`; zero where bits of a residual are unused.
        """
        import numpy as np

        spread = np.zeros((len(query), self.residual_bytes * (8 // self.bits)), dtype=np.float32)
        np.multiply(query, self.spread, out=spread[:, : self.dim])
        return spread

    def drift(self, residual_length: float) -> float:
        """How much worse the centroids fit now than in training: 1 is as well, 1.2 says that vectors are 20% farther from them.

        Args:
            residual_length: Of what was encoded since.
        """
        return residual_length / max(self.training.residual_length, _TINY)

    def save(self, folder: Path) -> None:
        """Writes the codec into a folder that exists."""
        import numpy as np

        np.save(folder / _CENTROIDS, self._halves)
        np.save(folder / _SPREAD, self.spread)
        values = {
            "bits": self.bits,
            "fingerprint": self.fingerprint,
            "cutoffs": self.cutoffs.tolist(),
            "weights": self.weights.tolist(),
            "training": asdict(self.training),
        }
        (folder / _FILE).write_text(json.dumps(values, indent=1), encoding="utf-8")

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
            centroids, spread = (np.load(folder / name, allow_pickle=False) for name in (_CENTROIDS, _SPREAD))
            codec = cls(
                bits=values["bits"],
                centroids=centroids,
                spread=spread,
                cutoffs=np.array(values["cutoffs"], dtype=np.float32),
                weights=np.array(values["weights"], dtype=np.float32),
                training=Training(**values["training"]),
            )
            if codec.fingerprint != values["fingerprint"]:
                raise ValueError("its files are not those that were written together")
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(f"The codec in {str(folder)!r} is damaged: {error}. Build the index again.") from error
        return codec


def centroids_for(tokens: int) -> int:
    """How many centroids are good for that many tokens: a power of 2 near four times the square root."""
    return min(1 << round(log2(4 * sqrt(max(tokens, 1)))), MOST_CENTROIDS)


def _buckets(vectors: torch.Tensor, centroids: torch.Tensor, bits: int) -> tuple[Vectors, Vectors, Vectors, float]:
    """Spread, cutoffs and weights for the residuals of some vectors, and their mean length."""
    import numpy as np

    torch = _torch()
    left = vectors - centroids[assign(vectors, centroids)[0]]
    spread = left.square().mean(dim=0).sqrt().clamp(min=_TINY)
    scaled = (left / spread).flatten()
    levels = 2**bits
    ordered = scaled.sort().values
    borders = torch.arange(1, levels, device=ordered.device) * (len(ordered) - 1) // levels
    cutoffs = ordered[borders].contiguous()
    bucket = torch.bucketize(scaled, cutoffs)
    sizes = torch.bincount(bucket, minlength=levels)
    sums = torch.zeros(levels, dtype=torch.float64, device=scaled.device).index_add_(0, bucket, scaled.double())
    weights = (sums / sizes.clamp(min=1)).float()
    length = (left.norm(dim=1) / vectors.norm(dim=1).clamp(min=_TINY)).mean()
    spread_, cutoffs_, weights_ = (tensor.cpu().numpy().astype(np.float32) for tensor in (spread, cutoffs, weights))
    return spread_, cutoffs_, weights_, float(length)


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
