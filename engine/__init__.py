"""Tokens in, tokens out: what runs a model. Knows no signature, no program and no metric."""
