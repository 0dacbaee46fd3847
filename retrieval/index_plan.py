"""What a new index will be like: its encoder, its methods, how documents are cut for it.

Knows no passage and no file.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from homefire.configs.console import note
from homefire.errors import InputError, MissingExtra
from homefire.retrieval.chunks import Chunker
from homefire.retrieval.encoder import Encoder
from homefire.retrieval.index_encoders import entry_of
from homefire.retrieval.index_manifest import METHODS, Chunking, Manifest
from homefire.retrieval.sentence_encoder import SentenceEncoder
from homefire.retrieval.words import Analyzer

FUSED = "fused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to make an index."""

    manifest: Manifest
    """Without segments."""
    encoder: Encoder | None
    """None where the index has no vectors."""


def plan(encoder: Encoder | None, methods: Sequence[str] | None, chunker: Chunker | None, language: str, keep_duplicates: bool) -> Plan:
    """Chooses what was left open.

    Args:
        encoder: None takes all-minilm-l6-v2.
        methods: None takes all that the encoder and the installed libraries allow.
        chunker: None takes what suits the encoder.
        language: Of the passages, for BM25.
        keep_duplicates: Whether a text may stand in several passages.

    Raises:
        InputError: there is no such method or language.
        MissingExtra: a method needs a library that is not installed.
        UnknownModel: the encoder is not on this machine.
    """
    chosen = _chosen(methods, language)
    if "dense" in chosen and encoder is None:
        encoder = SentenceEncoder()
    used = encoder if "dense" in chosen else None
    manifest = Manifest(
        encoder=None if used is None else entry_of(used),
        chunking=Chunking() if chunker is None else Chunking(tokens=chunker.tokens, overlap=chunker.overlap),
        methods=chosen,
        default_method=FUSED if len(chosen) > 1 else chosen[0],
        language=language,
        keep_duplicates=keep_duplicates,
    )
    return Plan(manifest=manifest, encoder=used)


def _chosen(methods: Sequence[str] | None, language: str) -> tuple[str, ...]:
    if methods is None:
        try:
            Analyzer.of(language)
        except MissingExtra as error:
            note(f"The index has no BM25, only vectors. {error}")
            return ("dense",)
        return "dense", "bm25"
    if isinstance(methods, str) or not methods:
        raise InputError(f"methods is {methods!r}; expected a list of one or more of {', '.join(METHODS)}.")
    for method in methods:
        if method not in METHODS:
            near = difflib.get_close_matches(str(method), METHODS, 1)
            hint = f"; did you mean {near[0]!r}" if near else ""
            raise InputError(f"methods names {method!r}{hint}; expected some of {', '.join(METHODS)}. Their fusion comes by itself.")
    if "bm25" in methods:
        Analyzer.of(language)
    return tuple(method for method in METHODS if method in methods)
