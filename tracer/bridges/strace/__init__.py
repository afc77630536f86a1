"""The strace bridge: reads a FUSE conversation from what strace prints of a server's reads and writes."""

from tracer.bridges.strace.command import Snap
from tracer.bridges.strace.importer import StraceLog
from tracer.bridges.strace.live import StraceBridge
from tracer.bridges.strace.outbox import StraceStats

__all__ = ["Snap", "StraceBridge", "StraceLog", "StraceStats"]
