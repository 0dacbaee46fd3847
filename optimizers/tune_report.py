"""What a tuning of an encoder came to, as a value and as a short table for the terminal.

Knows no index and no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from homefire.optimizers.gate import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneReport:
    """What came out. `str(report)` is a table for the terminal."""

    folder: Path | None
    """The tuned encoder, an ordinary sentence-transformers folder; None where it was not better."""
    decision: Decision
    """`decision.promoted`, and `decision.sentence` in words."""
    applied: bool
    """Whether the index has been built again with it."""
    passages: int
    """That questions were written about."""
    questions: int
    """Written, different ones."""
    learnt: int
    """Questions learnt from."""
    held_out: int
    """Questions that compare."""
    before: Mapping[str, Mapping[str, float]]
    """By method of search: `ndcg@10` and `recall@1` with the old encoder, 0 to 1."""
    after: Mapping[str, Mapping[str, float]]
    """Likewise with the tuned one."""
    seconds: float

    def __str__(self) -> str:
        lines = [
            f"{self.questions} questions about {self.passages} passages; learnt from {self.learnt}, compared on {self.held_out}, "
            f"in {self.seconds:.0f} s.",
            "",
            f"{'search':10}{'nDCG@10 before':>16}{'after':>8}{'R@1 before':>13}{'after':>8}",
        ]
        for method, old in self.before.items():
            new = self.after[method]
            lines.append(f"{method:10}{old['ndcg@10']:16.3f}{new['ndcg@10']:8.3f}{old['recall@1']:13.3f}{new['recall@1']:8.3f}")
        lines += ["", self.decision.sentence]
        if self.folder is not None:
            lines.append(f"The tuned encoder is in {self.folder}." + (" The index uses it." if self.applied else ""))
        return "\n".join(lines)
