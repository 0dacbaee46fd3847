"""MaxSim is the sum of the largest inner products, also in blocks, on other devices, and where there is nothing to compare."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from homefire.errors import InputError
from homefire.retrieval import maxsim as module
from homefire.retrieval.encoder import Vectors
from homefire.retrieval.maxsim import largest_of_each, maxsim, sums_of_each
from homefire.retrieval.one_core import on_one_core
from homefire.retrieval.token_vectors import TokenVectors
from tests.late_data import questions, texts

PASSAGES = texts(60)
QUERIES = questions(PASSAGES, 8)


def by_hand(queries: TokenVectors, passages: list[Vectors]) -> Vectors:
    return np.array([[sum(max(token @ passage.T, default=0) for token in queries[n]) for passage in passages] for n in range(len(queries))])


def test_it_is_the_sum_of_the_largest_products() -> None:
    assert maxsim(QUERIES, TokenVectors.of(PASSAGES)) == pytest.approx(by_hand(QUERIES, PASSAGES), abs=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUERY_TOKENS", 7)
    monkeypatch.setattr(module, "_PASSAGE_TOKENS", 25)
    monkeypatch.setattr(module, "_SMALL", 0)
    assert maxsim(QUERIES, TokenVectors.of(PASSAGES)) == pytest.approx(by_hand(QUERIES, PASSAGES), abs=1e-5)


def test_it_agrees_with_sentence_transformers() -> None:
    import torch
    from sentence_transformers.util import maxsim as theirs

    filled = [passage for passage in PASSAGES if len(passage)]
    queries = [torch.from_numpy(np.array(QUERIES[number])) for number in range(len(QUERIES))]
    expected = theirs(queries, [torch.from_numpy(passage) for passage in filled])
    assert maxsim(QUERIES, TokenVectors.of(filled)) == pytest.approx(expected.numpy(), abs=1e-5)


def test_texts_without_tokens_score_zero() -> None:
    empty = np.zeros((0, 4), dtype=np.float32)
    one = np.eye(4, dtype=np.float32)[:1]
    scores = maxsim(TokenVectors.of([empty, one]), TokenVectors.of([empty, one, empty, -one, empty]))
    assert scores.tolist() == [[0, 0, 0, 0, 0], [0, 1, 0, -1, 0]]
    assert maxsim(TokenVectors.of([], 4), TokenVectors.of([one])).shape == (0, 1)
    assert maxsim(TokenVectors.of([one]), TokenVectors.of([empty], 4)).tolist() == [[0]]


def test_vectors_of_another_encoder_are_refused() -> None:
    with pytest.raises(InputError, match="the queries have 4 numbers; expected 24"):
        maxsim(TokenVectors.of([np.eye(4)]), TokenVectors.of(PASSAGES))


def test_a_device_reduces_as_the_processor_does() -> None:
    import torch

    products = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 9)).astype(np.float32))
    lengths = np.array([2, 3, 4])
    assert np.array_equal(module._scattered(products, lengths), largest_of_each(products, np.array([0, 2, 5, 9])))
    assert sums_of_each(np.ones((3, 2), dtype=np.float32), np.array([0, 0, 3, 3])).tolist() == [[0, 0], [3, 3], [0, 0]]


@pytest.mark.gpu
def test_a_gpu_gives_the_same_scores() -> None:
    assert maxsim(QUERIES, TokenVectors.of(PASSAGES), device="cuda") == pytest.approx(by_hand(QUERIES, PASSAGES), abs=1e-4)


def test_small_work_uses_one_core_and_leaves_the_callers_threads_alone() -> None:
    import torch

    before = torch.get_num_threads()
    assert on_one_core(lambda number: (number, torch.get_num_threads()), range(5)) == [(number, 1) for number in range(5)]
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as fresh:
        assert fresh.submit(torch.get_num_threads).result() == before


def test_small_work_may_have_small_work_of_its_own_and_errors_come_through() -> None:
    """As many items as could block all threads if each waited for another one."""
    inner = on_one_core(lambda number: sum(on_one_core(lambda one: one * number, range(4))), range(64))
    assert inner == [6 * number for number in range(64)]
    with pytest.raises(ZeroDivisionError):
        on_one_core(lambda number: 1 // number, [1, 0, 2])
    assert on_one_core(str, []) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_has_threads_of_its_own() -> None:
    code = """
import os
from homefire.retrieval.one_core import on_one_core
assert on_one_core(abs, [-1]) == [1]
child = os.fork()
if child == 0:
    os._exit(on_one_core(abs, [-7, -8])[0])
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), on_one_core(abs, [-2]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == "7 [2]\n"


def test_many_threads_may_score_at_once() -> None:
    passages = TokenVectors.of(PASSAGES)
    with ThreadPoolExecutor(8) as threads:
        scores = list(threads.map(lambda _: maxsim(QUERIES, passages), range(24)))
    assert all(np.array_equal(one, scores[0]) for one in scores)


def test_token_vectors_are_cut_into_texts() -> None:
    tokens = TokenVectors.of([[[1, 2], [3, 4]], [], [[5, 6]]])
    assert len(tokens) == 3
    assert tokens.dim == 2
    assert [tokens[number].tolist() for number in (0, 1, -1)] == [[[1, 2], [3, 4]], [], [[5, 6]]]
    with pytest.raises(IndexError, match="no text 3 among 3"):
        tokens[3]
    assert TokenVectors.of([], dim=7).dim == 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenVectors.of([[[1, 2]], [[1, 2, 3]]]), r"shapes .*with one dim for all"),
        (lambda: TokenVectors.of([[1, 2]]), r"expected \(n_tokens, dim\)"),
        (lambda: TokenVectors(np.zeros((2, 3)), np.array([0, 2])), "type float64; expected float32"),
        (lambda: TokenVectors(np.zeros((2, 3), dtype=np.float32), np.array([0, 1])), "do not cut 2 token vectors into texts"),
        (lambda: TokenVectors.of([[[1, float("nan")]]]).require(2, "the passages"), "the passages have numbers that are not finite"),
    ],
)
def test_what_is_no_token_vectors_is_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]
