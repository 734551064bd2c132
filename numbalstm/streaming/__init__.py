"""Models that run step by step: one stream, or a pool of thousands that join and leave at any time."""

from numbalstm.streaming.pool import StreamPool
from numbalstm.streaming.stream import Stream

__all__ = ["Stream", "StreamPool"]
