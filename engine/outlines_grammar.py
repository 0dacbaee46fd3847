"""Grammars in the decoding of a transformers model, through Outlines, which compiles them with XGrammar.

Knows no batch: every sequence has a guide of its own, so that sequences with different grammars can be computed together.
"""

from __future__ import annotations

from typing import Any

from homefire.engine.grammar import Grammar
from homefire.errors import InputError, MissingExtra

MOST_COMPILED = 256 * 2**20
"""Bytes of compiled grammars that are kept."""


class Guides:
    """Compiles grammars for one model.

    Args:
        model: The model, as transformers loads it.
        tokenizer: Its tokenizer.
        special: Ids of the tokens that stand for no text. A grammar is about text, so none of them but the end may stand inside it.
        device: Where the logits are.

    Raises:
        MissingExtra: Outlines or XGrammar is not installed.
    """

    def __init__(self, model: Any, tokenizer: Any, special: frozenset[int], device: str) -> None:
        try:
            import outlines
            import torch
            from outlines.backends.xgrammar import XGrammarBackend
        except ImportError as error:
            raise MissingExtra(error.name or "outlines", "transformers", "Decoding with a grammar on transformers") from error
        self._backend: Any = XGrammarBackend(outlines.from_transformers(model, tokenizer))
        compiled: Any = self._backend.get_cfg_logits_processor('root ::= "a"').compiled_grammar  # Outlines says it were a str
        reads = compiled.tokenizer_info
        ends = frozenset(reads.stop_token_ids)
        self._forbidden: Any = torch.tensor(sorted(special - ends), dtype=torch.long, device=device)
        self._vocabulary: int = reads.vocab_size

    def guide(self, grammar: Grammar) -> Guide:
        """The guide of one sequence.

        Raises:
            InputError: the grammar is none.
        """
        if self._backend.grammar_compiler.get_cache_size_bytes() > MOST_COMPILED:
            self._backend.grammar_compiler.clear_cache()
        try:
            processor = self._backend.get_cfg_logits_processor(grammar.gbnf)
        except (RuntimeError, ValueError) as error:
            reason = str(error).split(": ", 1)[-1].strip()
            raise InputError(f"The grammar cannot be compiled: {reason}. It must be GBNF with a start rule named root.") from error
        return Guide(processor, self._forbidden, self._vocabulary)


class Guide:
    """Keeps one sequence to its grammar."""

    def __init__(self, processor: Any, forbidden: Any, vocabulary: int) -> None:
        self._processor = processor
        self._forbidden = forbidden
        self._vocabulary = vocabulary

    def allow(self, last: int, logits: Any) -> None:
        """Sets the logits (n_vocabulary,) of all tokens that the grammar does not allow behind `last` to minus infinity, in place."""
        import torch

        known = logits[: self._vocabulary]  # models often have more rows than there are tokens, and some fewer
        if (missing := self._vocabulary - len(known)) > 0:
            known = torch.nn.functional.pad(known, (0, missing), value=-torch.inf)
        self._processor(torch.tensor([[last]]), known[None])
        logits[: self._vocabulary] = known[: len(logits)]
        logits[self._vocabulary :] = -torch.inf
        logits.index_fill_(0, self._forbidden[self._forbidden < len(logits)], -torch.inf)
