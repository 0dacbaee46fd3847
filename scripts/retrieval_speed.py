"""How fast the index is beside bare libraries, and what it takes. Run it with: .venv/bin/python scripts/bench_retrieval.py

The contestants of a ratio take turns in one process. Encoding is measured by itself; searches get vectors that are there already.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ranking_metrics import quality, recall
from retrieval_quality import Prepared, by_method, exhaustive
from retrieval_vectors import MODEL, Texts

from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage

Measured = dict[str, Any]
Vectors = np.ndarray[Any, Any]
DIM = 384
BATCH = 64
SINGLE = 300
"""Queries that are timed one by one."""
BATCHES = 60
"""Batches that are timed, of other queries each."""
OPEN = """
import json, sys, time
import homefire, psutil
started = time.perf_counter()
index = homefire.Index.open(sys.argv[1])
seconds = time.perf_counter() - started
megabytes = psutil.Process().memory_info().rss / 2**20
print(json.dumps({"passages": len(index), "open_seconds": seconds, "open_megabytes": megabytes}))
"""
"""A program that opens an index first thing: loading what that takes counts, and memory is all that the process has then."""


def vectors(rows: int, seed: int) -> Vectors:
    """Vectors of length 1 that lie as those of texts do: around many centres, most of what tells them apart in few directions."""
    random = np.random.default_rng(seed)
    frame = np.random.default_rng(0)
    directions = frame.standard_normal((48, DIM), dtype=np.float32)
    centres = frame.standard_normal((500, 48), dtype=np.float32)
    made = np.empty((rows, DIM), dtype=np.float32)
    for start in range(0, rows, 100_000):
        part = made[start : start + 100_000]
        inner = centres[random.integers(0, len(centres), len(part))] + random.standard_normal((len(part), 48), dtype=np.float32)
        np.matmul(inner, directions, out=part)
        part += random.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return made


class Numbered:
    """An encoder whose texts begin with the number of their vector."""

    def __init__(self, passages: Vectors, queries: Vectors) -> None:
        self.name = "numbered"
        self.dim = DIM
        self._passages, self._queries = passages, queries

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return self._queries[[int(text) for text in texts]]

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        return self._passages[[int(text.split(maxsplit=1)[0]) for text in texts]]


def synthetic(rows: int) -> Measured:
    """An index of so many passages: what it takes to open and to search, each in a process of its own, and its speed over bare FAISS."""
    with tempfile.TemporaryDirectory(prefix="bench-retrieval-") as name:
        folder = Path(name)
        np.save(folder / "passages.npy", vectors(rows, 1))
        np.save(folder / "queries.npy", vectors(BATCHES * BATCH, 2))
        started = time.perf_counter()
        subprocess.run([sys.executable, __file__, "build", name], check=True, capture_output=True)
        seconds = time.perf_counter() - started
        opened = subprocess.check_output([sys.executable, "-c", OPEN, str(folder / "index")], text=True)
        searched = subprocess.check_output([sys.executable, __file__, "search", name], text=True)
        return {"build_seconds": seconds, **json.loads(opened), **json.loads(searched)}


def _build(folder: Path) -> Measured:
    passages = np.load(folder / "passages.npy", mmap_mode="r")
    words = [f"word{number}" for number in range(20_000)]
    random = np.random.default_rng(3)

    def made() -> Iterator[Passage]:
        for number in range(len(passages)):
            drawn = (random.pareto(1.0, 12) * 20).astype(int) % len(words)
            yield Passage(id=str(number), text=f"{number} {' '.join(words[one] for one in drawn)}", source=str(number // 10))

    Index.build(folder / "index", made(), _numbered(folder), methods=["dense", "bm25"])
    return {}


def _search(folder: Path) -> Measured:
    """Searches for 10 passages, by turns through the index and through FAISS alone."""
    encoder = _numbered(folder)
    index = Index.open(folder / "index", encoder)
    queries = np.load(folder / "queries.npy")
    bare, report = _bare(folder / "index")
    one = list(range(SINGLE))
    ours, theirs = turns(
        [
            (lambda number: index.search([str(number)], 10, method="dense"), one),
            (lambda number: _on_one_core(bare, queries[number : number + 1]), one),
        ]
    )
    batches = [range(start, start + BATCH) for start in range(0, len(queries), BATCH)]
    own, other = turns(
        [
            (lambda batch: index.search([str(number) for number in batch], 10, method="dense"), batches),
            (lambda batch: bare(queries[batch.start : batch.stop], 10), batches),
        ]
    )
    words = [f"word{number} word{3 * number + 1} word{7 * number}" for number in range(100)]
    (bm25,) = turns([(lambda query: index.search([query], 10, method="bm25"), words)])
    return {
        "kind": report["kind"],
        "recall": report["recall"],
        "single_milliseconds": 1000 * statistics.median(ours),
        "bare_milliseconds": 1000 * statistics.median(theirs),
        "more_milliseconds": 1000 * (statistics.median(ours) - statistics.median(theirs)),
        "batch_ratio": sum(other) / sum(own),
        "queries_per_second": BATCH * len(own) / sum(own),
        "bm25_milliseconds": 1000 * statistics.median(bm25),
    }


def _numbered(folder: Path) -> Numbered:
    return Numbered(np.load(folder / "passages.npy", mmap_mode="r"), np.load(folder / "queries.npy"))


def _bare(index: Path) -> tuple[Callable[[Vectors, int], Any], Measured]:
    """The search of FAISS's own index: the very lists of the part, in memory, or a flat one of its vectors."""
    import faiss

    (folder,) = index.glob("segments/*/dense")
    report: Measured = json.loads((folder / "dense.json").read_text(encoding="utf-8"))
    if report["kind"] == "flat":
        flat = faiss.IndexFlatIP(DIM)
        flat.add(np.load(folder / "vectors.npy"))
        return flat.search, report
    lists = faiss.read_index(str(folder / "lists.faiss"))
    lists.nprobe = report["probes"]
    return lists.search, report


def _on_one_core(bare: Callable[[Vectors, int], Any], query: Vectors) -> None:
    """One query of FAISS, which on a busy machine waits for its second thread ten times as long as it computes."""
    import faiss

    cores = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    bare(query, 10)
    faiss.omp_set_num_threads(cores)


def turns(contestants: Sequence[tuple[Callable[[Any], object], Iterable[Any]]]) -> list[list[float]]:
    """Seconds of each call; the contestants take turns call by call, after two calls each that do not count."""
    works = [list(work) for _, work in contestants]
    seconds: list[list[float]] = [[] for _ in contestants]
    for number in range(-2, len(works[0])):
        for (call, _), work, seen in zip(contestants, works, seconds, strict=True):
            started = time.perf_counter()
            call(work[max(number, 0)])
            if number >= 0:
                seen.append(time.perf_counter() - started)
    return seconds


def late(prepared: Prepared) -> Measured:
    """Late interaction through the index against MaxSim with everything, in batches and one by one; and the bytes that it takes."""
    queries, count = prepared.reported, len(prepared.reported)
    whole = prepared.passages
    whole = Texts(whole.texts, whole.vectors, np.asarray(whole.halves, np.float32), np.asarray(whole.offsets))
    names = [passage.id for passage in prepared.data.passages]
    ours: list[list[str]] = [[]] * count
    theirs: list[list[str]] = [[]] * count

    with tempfile.TemporaryDirectory(prefix="bench-retrieval-") as folder:
        index = prepared.index(Path(folder) / "index")

        def own(places: range) -> None:
            found = index.search([queries[place].text for place in places], 10, method="late")
            ours[places.start : places.stop] = [[hit.passage.id for hit in hits] for hits in found]

        def other(places: range) -> None:
            scores = exhaustive(prepared.queries.tokens(places), whole)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
            theirs[places.start : places.stop] = [[names[place] for place in row] for row in best.tolist()]

        batches = [range(start, min(count, start + 50)) for start in range(0, count, 50)]
        seconds = turns([(own, batches), (other, batches)])
        ones = [range(place, place + 1) for place in range(min(count, 30))]
        single = turns([(own, ones), (other, ones)])
        size = _bytes(Path(folder) / "index")
    found = [sum(recall(ranked, query.relevant, 10) for ranked, query in zip(side, queries, strict=True)) for side in (ours, theirs)]
    return {
        "queries_per_second": count / sum(seconds[0]),
        "ratio": sum(seconds[1]) / sum(seconds[0]),
        "single_milliseconds": 1000 * statistics.median(single[0]),
        "single_ratio": statistics.median(single[1]) / statistics.median(single[0]),
        "recall_ratio": found[0] / found[1],
        **size,
    }


def methods(prepared: Prepared) -> Measured:
    """Milliseconds of one query by every method without its encoding, and of the encoding of one query; queries a second in batches."""
    from homefire.retrieval.sentence_encoder import SentenceEncoder

    texts = [query.text for query in prepared.reported]
    ones, batches = texts[:100], [texts[start : start + BATCH] for start in range(0, min(len(texts), 512), BATCH)]
    encoder = SentenceEncoder(MODEL)
    (encoding,) = turns([(lambda text: encoder.encode_queries_and_tokens([text]), ones)])
    measured = {"encoding milliseconds": 1000 * statistics.median(encoding)}
    with tempfile.TemporaryDirectory(prefix="bench-retrieval-") as folder:
        index = prepared.index(Path(folder) / "index")
        for method in (*index.manifest.methods, *(["fused"] if len(index.manifest.methods) > 1 else [])):
            (single,) = turns([(lambda text, method=method: index.search([text], 10, method=method), ones)])
            (batch,) = turns([(lambda some, method=method: index.search(some, 10, method=method), batches)])
            measured |= {
                f"{method} milliseconds": 1000 * statistics.median(single),
                f"{method} queries_per_second": sum(map(len, batches)) / sum(batch),
            }
    return measured


def _bytes(index: Path) -> Measured:
    """All files of late interaction, the codec too, over the number of tokens."""
    folders = [*index.glob("segments/*/tokens"), *index.glob("codecs/*")]
    total = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    tokens = sum(json.loads(file.read_text(encoding="utf-8"))["tokens"] for file in index.glob("segments/*/tokens/tokens.json"))
    return {"tokens": tokens, "megabytes": total / 2**20, "bytes_a_token": total / tokens}


def bits(prepared: Prepared) -> Measured:
    """Quality and size of late interaction by the bits of its codec, and without one."""
    relevant = [query.relevant for query in prepared.reported]
    names = [passage.id for passage in prepared.data.passages]
    scores = exhaustive(prepared.queries.tokens(range(len(relevant))), prepared.passages)
    ranked = [[names[place] for place in row] for row in np.argsort(-scores, axis=1, kind="stable")[:, :20].tolist()]
    exact = {"exact nDCG@10": quality(ranked, relevant)["nDCG@10"], "exact megabytes": prepared.passages.halves.nbytes / 2**20}
    measured: Measured = dict(exact)
    choices: tuple[Literal[1, 2, 4], ...] = (1, 2, 4)
    for count in choices:
        with tempfile.TemporaryDirectory(prefix="bench-retrieval-") as folder:
            index = prepared.index(Path(folder) / "index", methods=["late"], token_bits=count)
            found = by_method(index, prepared.reported)["index, late"]
            measured |= {f"{count} bits nDCG@10": found["nDCG@10"], f"{count} bits megabytes": _bytes(Path(folder) / "index")["megabytes"]}
    return measured


def updates(prepared: Prepared) -> Measured:
    """Quality after a third of the documents was removed and added again in three writes, over that of an index built at once."""
    third = prepared.data.passages[::3]
    with tempfile.TemporaryDirectory(prefix="bench-retrieval-") as folder:
        rebuilt = by_method(prepared.index(Path(folder) / "rebuilt"), prepared.reported)
        index = prepared.index(Path(folder) / "index")
        index.remove([passage.source for passage in third])
        for start in range(3):
            index.add(third[start::3])
        changed = by_method(index, prepared.reported)
    return {f"{name} ratio": changed[name]["nDCG@10"] / row["nDCG@10"] for name, row in rebuilt.items()}


def encoding(texts: Sequence[str], rounds: int = 4) -> Measured:
    """Passages a second over sentence-transformers' own `encode_document` with the same model and batch."""
    from sentence_transformers import SentenceTransformer

    from homefire.retrieval.sentence_encoder import SentenceEncoder

    encoder = SentenceEncoder(MODEL)
    model = SentenceTransformer(str(encoder.folder), local_files_only=True)
    batch, work = encoder.batch_size, list(texts)
    both = [
        (lambda _: encoder.encode_passages(work), range(rounds)),
        (lambda _: model.encode_document(work, batch_size=batch, show_progress_bar=False), range(rounds)),
    ]
    ours, theirs = turns(both)
    apart = np.abs(encoder.encode_passages(work[:64]) - model.encode_document(work[:64], batch_size=batch)).max()
    return {
        "ratio": sum(theirs) / sum(ours),
        "passages_per_second": rounds * len(work) / sum(ours),
        "largest_difference": float(apart),
    }


if __name__ == "__main__":
    print(json.dumps({"build": _build, "search": _search}[sys.argv[1]](Path(sys.argv[2]))))
