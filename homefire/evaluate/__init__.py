"""Evaluation: `from homefire.evaluate import answer_exact_match`, or `homefire.evaluate.answer_exact_match`.

Holds no code: names of `optimizers`, gathered under the name that other systems give them.
"""

from __future__ import annotations

from homefire.evaluate import metrics
from homefire.optimizers.comparison import Comparison, compare
from homefire.optimizers.evaluate import Evaluate, EvaluationFailed, EvaluationInterrupted
from homefire.optimizers.evaluation_result import EvaluationResult
from homefire.optimizers.evaluation_row import Row
from homefire.optimizers.judge_metrics import CompleteAndGrounded, SemanticF1
from homefire.optimizers.metrics import field_match
from homefire.optimizers.qa_metrics import EM, F1, HotPotF1, answer_exact_match, answer_passage_match, normalize_text

__all__ = [
    "EM",
    "F1",
    "Comparison",
    "CompleteAndGrounded",
    "Evaluate",
    "EvaluationFailed",
    "EvaluationInterrupted",
    "EvaluationResult",
    "HotPotF1",
    "Row",
    "SemanticF1",
    "answer_exact_match",
    "answer_passage_match",
    "compare",
    "field_match",
    "metrics",
    "normalize_text",
]
