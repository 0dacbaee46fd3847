"""Names that DSPy's users know for what homefire calls otherwise.

Holds no behaviour of its own: each is the thing itself under another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homefire import errors
from homefire.modules.module import Module
from homefire.modules.signature import Signature
from homefire.modules.signature import make_signature as _of_fields

AdapterParseError = errors.ParseError
BaseModule = Module
ContextWindowExceededError = errors.ContextTooLong
DSPyError = errors.HomefireError
LMAuthError = errors.KeyRefused
LMBillingError = errors.PaymentRefused
LMConfigurationError = errors.ConfigError
LMError = errors.ModelError
LMInvalidRequestError = errors.RequestRefused
LMNotConfiguredError = errors.ConfigError
LMProviderError = errors.ServerError
LMRateLimitError = errors.TooManyRequests
LMServerError = errors.ServerBroken
LMTimeoutError = errors.CallTimeout
LMTransportError = errors.ServerUnreachable
LMUnsupportedModelError = errors.UnknownModel


def is_retryable_lm_error(error: BaseException) -> bool:
    """Whether the same call may well work a little later; an LM has tried that as often as it was told to."""
    return isinstance(error, errors.TooManyRequests | errors.ServerBroken | errors.ServerUnreachable | errors.CallTimeout)


def ensure_signature(signature: str | type[Signature], instructions: str | None = None) -> type[Signature]:
    """The signature class that a text stands for; a class stays as it is, under other instructions where some are given."""
    return Signature(signature, instructions)


def make_signature(
    signature: str | Mapping[str, Any],
    instructions: str | None = None,
    signature_name: str = "StringSignature",
    custom_types: Mapping[str, Any] | None = None,
) -> type[Signature]:
    """A signature class from text, or from pairs of a type and `InputField()` or `OutputField()` by name, under a name of its own."""
    made = Signature(signature, instructions, custom_types=custom_types)
    return _of_fields(list(made.fields.values()), made.instructions, name=signature_name)
