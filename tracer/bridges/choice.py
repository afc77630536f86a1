"""Which bridge overhears a server on this machine: eBPF wherever it loads, else strace."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tracer.bridges.ebpf import EbpfBridge, LoadFailure
from tracer.bridges.strace import StraceBridge
from tracer.records import Sink


class EitherBridge:
    """Captures through eBPF; where that cannot be loaded, through strace, and says why."""

    def __init__(self, ebpf: EbpfBridge, strace: StraceBridge, on_note: Callable[[str], None]) -> None:
        self._ebpf, self._strace, self._on_note = ebpf, strace, on_note

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Capture as the bridge that is chosen does."""
        try:
            self._ebpf.run(sink, stop)
        except LoadFailure as failure:  # raised before anything was captured, or started
            self._on_note(f"recording through strace, for eBPF cannot be used: {failure.message}")
            self._strace.run(sink, stop)
