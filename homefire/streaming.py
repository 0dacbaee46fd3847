"""Streaming: `from homefire.streaming import StreamListener`, or `homefire.streaming.StreamListener`.

Holds no code: names of `modules`, gathered under the name that other systems give them.
"""

from __future__ import annotations

from homefire.modules.field_stream import FieldDelta, Restarted
from homefire.modules.streaming import (
    StatusMessage,
    StatusMessageProvider,
    StreamListener,
    StreamResponse,
    apply_sync_streaming,
    streamify,
    streaming_response,
)

__all__ = [
    "FieldDelta",
    "Restarted",
    "StatusMessage",
    "StatusMessageProvider",
    "StreamListener",
    "StreamResponse",
    "apply_sync_streaming",
    "streamify",
    "streaming_response",
]
