"""Metrics of answers under the name that DSPy's users import them from: `from homefire.evaluate.metrics import answer_exact_match`.

Holds no code: names of `optimizers`.
"""

from __future__ import annotations

from homefire.optimizers.qa_metrics import EM, F1, HotPotF1, answer_exact_match, answer_passage_match, normalize_text

__all__ = ["EM", "F1", "HotPotF1", "answer_exact_match", "answer_passage_match", "normalize_text"]
