r"""Free text between marks: written raw, with a rare escape, so that every text comes back as it was.

Knows no signature and no format; a format says which mark ends the text. The rules, for whoever reads such a text:

- The mark never stands in it. Where a value has one, a backslash stands before it when it begins a line (`\[[ ##`), and otherwise behind
  its first character (`<\/name>`).
- White space around the text does not count, there is at most one empty line in a row, and there is a text: small models would leave it
  out or pad it with empty lines. A value that begins or ends with white space, has more empty lines, or is empty, has a backslash there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from homefire.engine.grammar import Chars, GrammarBuilder, Repeat, Rule, Term, choice, seq

BLANK = " \t\r\f\v"
"""White space within a line."""
_BLANK_CLASS = r" \t\r\x0b\x0c"
_LEADING = re.compile(rf"\\*[{BLANK}]")
_TRAILING = re.compile(rf"[{BLANK}]\\*\Z")
_TRAILED = re.compile(rf"[{BLANK}]\\+\Z")
_UNDECIDED = re.compile(r"[\s\\\ufffd]*\Z")


@dataclass(frozen=True)
class FreeText:
    """The language of free texts that end at a mark.

    Args:
        mark: What never stands in the text. No white space is at its ends; unless it has its own line, its first character is in it once.
        own_line: Whether the mark counts only at the beginning of a line.
    """

    mark: str
    own_line: bool

    def escape(self, value: str) -> str:
        """The text that stands for a value; it is never empty."""
        lines = self._inner.sub(r"\1\\", value).split("\n")
        blank = [not line.strip(BLANK) for line in lines]
        for index, line in enumerate(lines):
            alone = not line and 0 < index < len(lines) - 1 and not blank[index - 1]
            if not alone and self._takes_backslash(index, line):
                lines[index] = "\\" + line
        text = "\n".join(lines)
        return text + "\\" if _TRAILING.search(text) else text

    def unescape(self, text: str) -> str:
        """The value that a text stands for; every text stands for one."""
        text = text.strip(BLANK + "\n")
        if _TRAILED.search(text):
            text = text[:-1]
        lines = text.split("\n")
        for index, line in enumerate(lines):
            if line.startswith("\\") and self._takes_backslash(index, line):
                lines[index] = line[1:]
        return self._inner_escaped.sub(r"\1", "\n".join(lines))

    def so_far(self, text: str) -> str:
        """The beginning of the value that is certain, however the text goes on; it only grows as the text does."""
        decided = _UNDECIDED.sub("", text)
        begun = self._begun.search(decided)
        return self.unescape(decided if begun is None else _UNDECIDED.sub("", decided[: begun.start()]))

    def term(self, builder: GrammarBuilder, name: str) -> Rule:
        """The texts with the mark that ends them.

        Right-recursive, one state of a reader a rule, and every next character leads to one state only: XGrammar follows that in 2
        microseconds a token, and takes up to 20 milliseconds after each line end where fewer rules do more.

        Args:
            builder: Gets the rules.
            name: Begins their names.
        """
        line, ended, fresh = (Rule(f"{name}{suffix}") for suffix in ("-line", "-ended", "-fresh"))
        begun = seq(self.mark[0], Rule(f"{name}-mark1"))
        anywhere, special = ([], "\n") if self.own_line else ([begun], "\n" + self.mark[0])
        for part in ("empty", "mark"):
            for place in range(1, len(self.mark)):
                is_last = place == len(self.mark) - 1
                ways: list[Term] = [] if is_last else [seq(self.mark[place], Rule(f"{name}-{part}{place + 1}"))]
                ways += [seq(self.mark[place])] if is_last and part == "mark" else []
                ways += [*anywhere, seq("\n", ended), seq(_none_of(special + self.mark[place]), line)]
                builder.define(f"{name}-{part}{place}", choice(ways))
        builder.define(line.name, seq(Repeat(_none_of(special)), choice([seq("\n", ended), *anywhere])))
        builder.define(ended.name, choice([fresh, seq("\n", fresh)]))
        inked = seq(_none_of("\n" + BLANK + self.mark[0]), line)
        indented = seq(Repeat(Chars(_BLANK_CLASS), 1), choice([seq(_none_of(special + BLANK), line), *anywhere]))
        builder.define(fresh.name, choice([inked, begun, indented]))
        break_first = [] if self.own_line else ["\n"]
        return builder.define(name, seq(choice(["", *break_first]), choice([inked, seq(self.mark[0], Rule(f"{name}-empty1"))])))

    def _takes_backslash(self, index: int, line: str) -> bool:
        return bool(self._special_line.match(line) or (index == 0 and _LEADING.match(line)))

    @cached_property
    def _special_line(self) -> re.Pattern[str]:
        marked = rf"|{re.escape(self.mark)}" if self.own_line else ""
        return re.compile(rf"\\*(?:[{BLANK}]*\Z{marked})")

    @cached_property
    def _inner(self) -> re.Pattern[str]:
        return re.compile(r"(?!)()" if self.own_line else rf"({re.escape(self.mark[0])})(?=\\*{re.escape(self.mark[1:])})")

    @cached_property
    def _inner_escaped(self) -> re.Pattern[str]:
        return re.compile(r"(?!)()" if self.own_line else rf"({re.escape(self.mark[0])})\\(?=\\*{re.escape(self.mark[1:])})")

    @cached_property
    def _begun(self) -> re.Pattern[str]:
        """The mark, or an end of the text that may become the mark or the mark escaped."""
        mark, first, others = re.escape(self.mark), re.escape(self.mark[0]), self.mark[1:]
        more = "|".join(re.escape(others[:length]) for length in range(len(others), -1, -1))
        half = rf"\\*{first}(?:{more})\Z" if self.own_line else rf"{first}\\*(?:{more})\Z"
        return re.compile(rf"^(?:{mark}|{half})" if self.own_line else f"{mark}|{half}", re.MULTILINE)


def tight_text(most: int) -> Term:
    """One to so many characters of one line that need no escape in any format."""
    return Repeat(Chars(r"^\x00-\x1f\x7f\\<>\[\]"), 1, most)


def _none_of(characters: str) -> Chars:
    return Chars("^" + "".join(char if char.isalnum() and char.isascii() else f"\\U{ord(char):08x}" for char in dict.fromkeys(characters)))
