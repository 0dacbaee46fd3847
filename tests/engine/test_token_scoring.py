"""The tree of questions of scored texts, over a made-up model whose log-probabilities are known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from homefire.engine.scoring import MOST_NEXT, Question, TokenTree

TAILS = [[5, 1, 2], [5, 1, 3], [5], [7, 8], [5, 1, 2], []]


def logprob(path: Sequence[int], token: int) -> float:
    return -(token + sum(path) / 100)


def expected(tail: Sequence[int]) -> float:
    return sum(logprob(tail[:end], token) for end, token in enumerate(tail))


def answer(tree: TokenTree, questions: Sequence[Question], along: bool) -> None:
    for question in questions:
        tree.learn(question, {token: logprob(question.path, token) for token in (*question.next_ids, 99)})
        if along:
            tree.learn_path(question.path, [logprob(question.path[:end], token) for end, token in enumerate(question.path)])


def test_shared_branches_are_asked_about_once() -> None:
    tree = TokenTree(TAILS)
    questions = tree.first_questions()
    assert [(question.path, question.next_ids) for question in questions] == [((), (5, 7)), ((5, 1), (2, 3)), ((7,), (8,))]
    answer(tree, questions, along=True)
    assert tree.open_questions() == []
    assert tree.sums() == pytest.approx([expected(tail) for tail in TAILS])


def test_what_a_path_did_not_tell_is_asked_for() -> None:
    tree = TokenTree(TAILS)
    answer(tree, tree.first_questions(), along=False)
    tree.learn_path((5, 1), [None, None])
    assert tree.open_questions() == [Question((5,), (1,))]
    answer(tree, tree.open_questions(), along=False)
    assert tree.sums() == pytest.approx([expected(tail) for tail in TAILS])


def test_many_branches_make_several_questions() -> None:
    tree = TokenTree([[token] for token in range(MOST_NEXT + 5)])
    questions = tree.first_questions()
    assert [len(question.next_ids) for question in questions] == [MOST_NEXT, 5]
    answer(tree, questions, along=False)
    assert tree.sums() == pytest.approx([logprob((), token) for token in range(MOST_NEXT + 5)])
