"""What a program of code steps has done so far, as the model is shown it: short enough, and saying what was left out.

Knows no model and no interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from homefire.modules.sandbox_values import clipped

_SHORTEST = 200


@dataclass(frozen=True, slots=True)
class CodeStep:
    """One snippet and what came of it."""

    code: str
    output: str
    reasoning: str = ""
    lost: bool = False
    """Whether the variables went with it."""


@dataclass(slots=True)
class CodeHistory:
    """The steps of one run.

    Args:
        most: Most characters of an output that are shown.
    """

    most: int
    steps: list[CodeStep] = field(default_factory=list)
    _left_out: int = 0

    def add(self, step: CodeStep) -> None:
        self.steps.append(step)

    @property
    def needs_inputs(self) -> bool:
        """Whether the next snippet has to be given the inputs: it is the first, or the variables are lost."""
        return not self.steps or self.steps[-1].lost

    @property
    def text(self) -> str:
        """The steps in order; those that were left out are counted."""
        if not self.steps:
            return "(nothing yet)"
        notice = [f"[{self._left_out} earlier steps left out]"] if self._left_out else []
        shown = list(enumerate(self.steps, 1))[self._left_out :]
        return "\n".join([*notice, *(self._shown(number, step) for number, step in shown)])

    def shorten(self) -> bool:
        """Makes the text shorter, because a prompt did not fit; whether that was possible.

        Outputs are cut first, down to some 200 characters; then the oldest steps are left out, all but the last.
        """
        longest = max((len(step.output) for step in self.steps[self._left_out :]), default=0)
        if min(longest, self.most) > _SHORTEST:
            self.most = max(_SHORTEST, min(longest, self.most) // 2)
            return True
        if self._left_out < len(self.steps) - 1:
            self._left_out += max(1, (len(self.steps) - self._left_out) // 2)
            self._left_out = min(self._left_out, len(self.steps) - 1)
            return True
        return False

    def _shown(self, number: int, step: CodeStep) -> str:
        thought = f"Thought: {clipped(step.reasoning, 500)}\n" if step.reasoning else ""
        return f"=== Step {number} ===\n{thought}Code:\n{step.code}\nOutput:\n{clipped(step.output, self.most)}"
