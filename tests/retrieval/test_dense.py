"""Dense parts: as exact as FAISS where they are flat, as good as they say where they are not, with any filter and from any thread."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from homefire.errors import MissingExtra
from homefire.retrieval.dense import DensePart, write_dense
from homefire.retrieval.dense_plan import DensePlan, choose_plan

Array = npt.NDArray[np.float32]
LISTS = DensePlan(kind="lists", lists=64)


def clustered(rows: int, dim: int = 24, seed: int = 0) -> Array:
    """Vectors of length 1 around some topics, as those of texts are."""
    random = np.random.default_rng(seed)
    topics = np.random.default_rng(7).standard_normal((50, dim), dtype=np.float32)
    vectors = topics[random.integers(0, 50, rows)] + 0.4 * random.standard_normal((rows, dim), dtype=np.float32)
    unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def part(folder: Path, vectors: Array, plan: DensePlan | None = None) -> DensePart:
    folder.mkdir()
    report = write_dense(folder, vectors, plan)
    opened = DensePart.open(folder)
    assert opened.report == report
    return opened


def by_numpy(queries: Array, vectors: Array, k: int, mask: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int64]:
    scores = queries @ vectors.T
    if mask is not None:
        scores[:, ~mask] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(scores, best, axis=1) == -np.inf, -1, best)


@pytest.mark.parametrize("count", [1, 3, 40], ids=["one query", "few queries", "a batch"])
def test_a_flat_part_gives_what_faiss_gives(tmp_path: Path, count: int) -> None:
    vectors, queries = clustered(700), clustered(count, seed=1)
    reference = faiss.IndexFlatIP(24)
    reference.add(vectors)
    flat = part(tmp_path / "a", vectors)
    assert flat.report.kind == "flat"
    before = faiss.cvar.distance_compute_blas_threshold, faiss.omp_get_max_threads()
    scores, rows = flat.search(queries, 10)
    assert (faiss.cvar.distance_compute_blas_threshold, faiss.omp_get_max_threads()) == before
    wanted_scores, wanted_rows = reference.search(queries, 10)
    assert rows.tolist() == wanted_rows.tolist()
    assert scores == pytest.approx(wanted_scores, abs=1e-6)
    assert flat.score(queries, rows) == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("plan", [None, LISTS], ids=["flat", "lists"])
@pytest.mark.parametrize("share", [0.9, 0.3, 0.05, 0.002, 0.0])
def test_a_filter_leaves_its_rows_and_finds_the_best_of_them(tmp_path: Path, plan: DensePlan | None, share: float) -> None:
    vectors, queries = clustered(3000), clustered(30, seed=1)
    mask = np.random.default_rng(2).random(3000) < share
    scores, rows = part(tmp_path / "a", vectors, plan).search(queries, 10, mask)
    wanted = by_numpy(queries, vectors, 10, mask)
    assert ((rows < 0) | mask[rows]).all()
    assert (rows < 0).sum() == (wanted < 0).sum()
    assert ((scores == -np.inf) == (rows < 0)).all()
    found = np.mean([len(set(row) & set(best)) / len(set(best)) for row, best in zip(rows.tolist(), wanted.tolist(), strict=True)])
    assert found == 1 if plan is None or share < 0.1 else found > 0.9


def test_lists_find_what_they_say_and_score_it_exactly(tmp_path: Path) -> None:
    vectors, queries = clustered(8000), clustered(200, seed=1)
    lists = part(tmp_path / "a", vectors, LISTS)
    report = lists.report
    assert (report.kind, report.lists, report.rows, report.dim) == ("lists", 64, 8000, 24)
    assert 1 <= report.probes < 64
    assert 0.98 <= report.recall <= 1
    scores, rows = lists.search(queries, 10)
    _, exact_rows = lists.exact(queries, 10)
    found = np.mean([np.isin(best, row).mean() for best, row in zip(exact_rows, rows, strict=True)])
    assert found > 0.95
    assert (np.diff(scores, axis=1) <= 0).all()
    assert scores == pytest.approx(np.take_along_axis(queries @ vectors.T, rows, axis=1), abs=1e-6)
    assert exact_rows.tolist() == by_numpy(queries, vectors, 10).tolist()


def test_more_lists_are_looked_into_where_vectors_have_no_topics(tmp_path: Path) -> None:
    random = np.random.default_rng(0).standard_normal((4000, 24), dtype=np.float32)
    scattered = part(tmp_path / "a", random, LISTS).report
    gathered = part(tmp_path / "b", clustered(4000), LISTS).report
    assert scattered.probes > gathered.probes
    assert scattered.recall >= 0.98


def test_a_recall_that_is_asked_for_is_reached(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((2000, 24), dtype=np.float32)
    low = part(tmp_path / "a", vectors, DensePlan(kind="lists", lists=64, recall=0.5)).report
    full = part(tmp_path / "b", vectors, DensePlan(kind="lists", lists=64, recall=1.0)).report
    assert 0.5 <= low.recall < full.recall
    assert low.probes < full.probes


@pytest.mark.parametrize("plan", [None, DensePlan(kind="lists", lists=8)], ids=["flat", "lists"])
def test_more_neighbours_than_rows_and_no_rows_at_all(tmp_path: Path, plan: DensePlan | None) -> None:
    few = part(tmp_path / "a", clustered(9), plan)
    scores, rows = few.search(clustered(2, seed=1), 12)
    assert sorted(rows[0].tolist()) == [-1, -1, -1, *range(9)]
    assert (scores[:, 9:] == -np.inf).all()
    none = part(tmp_path / "b", np.zeros((0, 24), dtype=np.float32), plan)
    assert none.search(clustered(2), 3)[1].tolist() == [[-1] * 3] * 2
    assert none.score(clustered(1), np.array([[-1, -1]])).tolist() == [[-np.inf, -np.inf]]
    assert few.search(clustered(0), 3)[0].shape == (0, 3)


def test_scores_of_given_rows_are_inner_products(tmp_path: Path) -> None:
    vectors, queries = clustered(50), clustered(2, seed=1)
    rows = np.array([[3, 3, -1, 49], [0, -1, -1, 7]])
    scores = part(tmp_path / "a", vectors).score(queries, rows)
    assert scores[0] == pytest.approx([vectors[3] @ queries[0], vectors[3] @ queries[0], -np.inf, vectors[49] @ queries[0]], abs=1e-6)
    assert scores[1, [1, 2]].tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("plan", [None, LISTS], ids=["flat", "lists"])
def test_many_threads_search_at_once_and_after_the_files_are_gone(tmp_path: Path, plan: DensePlan | None) -> None:
    queries = clustered(40, seed=1)
    opened = part(tmp_path / "a", clustered(2000), plan)
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    _, wanted = opened.search(queries, 5)
    threads_before = faiss.omp_get_max_threads()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: opened.search(queries[number : number + 1], 5)[1][0].tolist(), list(range(40)) * 5))
    assert found == wanted.tolist() * 5
    assert faiss.omp_get_max_threads() == threads_before


OPEN = """
import re, sys
from pathlib import Path
import faiss, numpy
from homefire.retrieval.dense import DensePart
numpy.load(sys.argv[2], mmap_mode="r")


def peak():  # of this program alone; the peak that getrusage tells begins with that of the program which started it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])


before = peak()
part = DensePart.open(Path(sys.argv[1]))
opened = peak()
print(part.rows, (opened - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of memory")
@pytest.mark.parametrize("plan", [None, DensePlan(kind="lists", lists=16)], ids=["flat", "lists"])
def test_a_large_part_is_opened_without_reading_it(tmp_path: Path, plan: DensePlan | None) -> None:
    part(tmp_path / "a", clustered(200_000, dim=64), plan)
    command = [sys.executable, "-c", OPEN, str(tmp_path / "a"), str(tmp_path / "a" / "vectors.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    rows, mebibytes = done.stdout.split()
    assert int(rows) == 200_000
    assert float(mebibytes) < 5, "the vectors have 49 MiB, the lists 12"


def test_the_plan_goes_by_size_and_machine() -> None:
    assert choose_plan(0, 384, cores=1) == DensePlan(kind="flat")
    assert choose_plan(100_000, 384, cores=2).kind == "flat"
    million = choose_plan(1_000_000, 384, cores=2)
    assert (million.kind, million.lists) == ("lists", 2048)
    assert choose_plan(1_000_000, 384, cores=64).kind == "flat"
    assert choose_plan(1_000_000, 384, cores=2, gpu_bytes=8 * 2**30).kind == "flat"


@pytest.mark.gpu
def test_a_gpu_finds_what_the_processor_finds(tmp_path: Path) -> None:
    if not faiss.get_num_gpus():
        pytest.skip("this is FAISS's build for processors")
    vectors, queries = clustered(400_000, dim=64), clustered(50, dim=64, seed=1)
    large = part(tmp_path / "a", vectors)
    assert large._gpu is not None
    scores, rows = large.search(queries, 10)
    exact_scores, exact_rows = large.exact(queries, 10)
    assert (rows == exact_rows).mean() > 0.99
    assert scores == pytest.approx(exact_scores, abs=1e-4)


def test_the_report_is_plain_json(tmp_path: Path) -> None:
    part(tmp_path / "a", clustered(10))
    values = json.loads((tmp_path / "a" / "dense.json").read_text(encoding="utf-8"))
    assert values == {"kind": "flat", "rows": 10, "dim": 24, "lists": 0, "probes": 0, "recall": 1.0}


def test_without_faiss_the_error_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part(tmp_path / "a", clustered(10))
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match=r'faiss-cpu.*pip install "homefire\[retrieval\]"'):
        DensePart.open(tmp_path / "a")
