"""What a new index will be like: its encoders, its methods, how documents are cut for it.

Knows no passage and no file.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from homefire.configs.console import note
from homefire.errors import InputError, MissingExtra
from homefire.retrieval.chunks import Chunker
from homefire.retrieval.encoder import Encoder, TokenEncoder
from homefire.retrieval.index_encoders import entry_of
from homefire.retrieval.index_manifest import METHODS, Chunking, EncoderEntry, Manifest
from homefire.retrieval.sentence_encoder import SentenceEncoder
from homefire.retrieval.token_encoder import SentenceTokenEncoder
from homefire.retrieval.words import Analyzer

FUSED = "fused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to make an index."""

    manifest: Manifest
    """Without segments."""
    encoder: Encoder | None
    """None where the index has no vectors of passages."""
    token_encoder: TokenEncoder | None
    """None where it has no late interaction."""


def plan(
    encoder: Encoder | None,
    token_encoder: TokenEncoder | None,
    methods: Sequence[str] | None,
    chunker: Chunker | None,
    language: str,
    keep_duplicates: bool,
    token_bits: Literal[1, 2, 4],
) -> Plan:
    """Chooses what was left open. Arguments are those of `Index.build`.

    Raises:
        InputError: there is no such method or language, or the encoders cannot do what a method needs.
        MissingExtra: a method needs a library that is not installed.
        UnknownModel: the encoder is not on this machine.
    """
    if token_bits not in (1, 2, 4):
        raise InputError(f"token_bits is {token_bits!r}; it must be 1, 2 or 4.")
    wanted = None if methods is None else _checked(methods, language)
    if encoder is None and (wanted is None or "dense" in wanted or ("late" in wanted and token_encoder is None)):
        encoder = SentenceEncoder()
    if token_encoder is None and (wanted is None or "late" in wanted):
        token_encoder = _tokens_of(encoder, needed=wanted is not None)
    chosen = _possible(token_encoder, language) if wanted is None else wanted
    used = encoder if "dense" in chosen else None
    used_for_tokens = token_encoder if "late" in chosen else None
    manifest = Manifest(
        encoder=None if used is None else entry_of(used),
        token_encoder=None if used_for_tokens is None else entry_of(used_for_tokens),
        token_bits=token_bits,
        chunking=Chunking() if chunker is None else Chunking(tokens=chunker.tokens, overlap=chunker.overlap),
        methods=chosen,
        default_method=_default(chosen),
        language=language,
        keep_duplicates=keep_duplicates,
    )
    return Plan(manifest=manifest, encoder=used, token_encoder=used_for_tokens)


def planned(encoder: EncoderEntry) -> Manifest:
    """What an index of a known encoder will be like, without late interaction."""
    methods = _possible(None, "english")
    return Manifest(encoder=encoder, methods=methods, default_method=_default(methods))


def _default(methods: Sequence[str]) -> str:
    return FUSED if len(methods) > 1 else methods[0]


def _tokens_of(encoder: Encoder | None, *, needed: bool) -> TokenEncoder | None:
    """The token vectors of an encoder, where it has some.

    Raises:
        InputError: it has none, and they are needed.
    """
    if isinstance(encoder, SentenceEncoder):
        tokens = SentenceTokenEncoder(encoder)
        try:
            tokens.encode_queries(["a"])
        except InputError:
            if needed:
                raise
            return None
        return tokens
    if needed:
        name = "There is no encoder" if encoder is None else f"The encoder {encoder.name!r} gives one vector a text"
        raise InputError(f"{name}, but late interaction needs one a token. Give a token_encoder, or leave 'late' out of the methods.")
    return None


def _possible(token_encoder: TokenEncoder | None, language: str) -> tuple[str, ...]:
    late = () if token_encoder is None else ("late",)
    try:
        Analyzer.of(language)
    except MissingExtra as error:
        note(f"The index has no BM25. {error}")
        return ("dense", *late)
    return ("dense", "bm25", *late)


def _checked(methods: Sequence[str], language: str) -> tuple[str, ...]:
    if isinstance(methods, str) or not methods:
        raise InputError(f"methods is {methods!r}; expected a list of one or more of {', '.join(METHODS)}.")
    for method in methods:
        if method not in METHODS:
            near = difflib.get_close_matches(str(method), METHODS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise InputError(f"methods names {method!r}{hint} Expected some of {', '.join(METHODS)}. Their fusion comes by itself.")
    if "bm25" in methods:
        Analyzer.of(language)
    return tuple(method for method in METHODS if method in methods)
