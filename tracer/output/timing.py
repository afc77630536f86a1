"""Where the time of an exchange went, in words: in the queue, with the server, or nowhere yet."""

from __future__ import annotations

from collections.abc import Callable

from tracer.output.style import duration
from tracer.trace.pairing import State
from tracer.trace.times import Timing

NOBODY = "ended by the kernel: nobody answered"


def timing_words(timing: Timing) -> str:
    """Return a sentence about how an exchange stands."""
    words = _WORDS.get(timing.state)
    return words(timing) if words is not None else timing.state.name.lower().replace("_", " ")


def is_telling(timing: Timing) -> bool:
    """Tell whether there is more to say than how long it took."""
    return timing.queue_wait_ns is not None or timing.state in _UNUSUAL


def timing_label(timing: Timing) -> str:
    """Return the same in the few words of a title."""
    wait_ns, pending_ns = timing.queue_wait_ns, timing.pending_ns
    if timing.state is State.PENDING and pending_ns is not None:
        return f"pending {duration(pending_ns)}" + _read(timing, ", not read", ", read {} ago")
    if timing.state is State.ABORTED:
        return f"aborted after {duration(timing.latency_ns)}" + _read(timing, ", never read", ", had been read")
    if timing.latency_ns is None:
        return timing.state.name.lower().replace("_", " ")
    parts = f" = {duration(wait_ns)} queue + {duration(timing.service_ns)} server" if wait_ns is not None else ""
    return duration(timing.latency_ns) + parts


def open_label(state: State, was_read: bool | None) -> str:
    """Return one word for an exchange without an answer: "unread" while its server has not taken it."""
    if state is not State.PENDING or was_read is None:
        return state.name.lower()
    return "serving" if was_read else "unread"


def _read(timing: Timing, never: str, then: str) -> str:
    """Return what is known of the server's reading, nothing where the capture does not tell."""
    if timing.was_read is None:
        return ""
    return then.format(duration(timing.read_ago_ns)) if timing.was_read else never


def _pending(timing: Timing) -> str:
    if timing.pending_ns is None:
        return "not answered" + _read(timing, ", the server has not read it", ", the server read it")
    waits = f"waits for {duration(timing.pending_ns)}"
    return waits + _read(timing, ", the server has not read it", ", the server read it {} ago")


def _done(timing: Timing) -> str:
    if timing.latency_ns is None:
        return "answered"
    took = f"took {duration(timing.latency_ns)}"
    if timing.queue_wait_ns is None:
        return took
    return (
        f"{took}: {duration(timing.queue_wait_ns)} in the queue until the server read it, "
        f"{duration(timing.service_ns)} until it answered"
    )


def _aborted(timing: Timing) -> str:
    after = f" after {duration(timing.latency_ns)}" if timing.latency_ns is not None else ""
    end = NOBODY.replace(":", after + ":", 1)
    if timing.queue_wait_ns is not None:
        return f"{end}; the server had read it after {duration(timing.queue_wait_ns)}"
    return end + _read(timing, "; the server never read it", "")


_UNUSUAL = (State.PENDING, State.ABORTED, State.INTERRUPTED, State.LOST)
_WORDS: dict[State, Callable[[Timing], str]] = {
    State.PENDING: _pending,
    State.DONE: _done,
    State.INTERRUPTED: lambda timing: f"interrupted, {_done(timing)}",
    State.ABORTED: _aborted,
    State.NO_REPLY: lambda _: "needs no reply",
    State.LOST: lambda _: "never answered: its unique was used again",
    State.ORPHAN_REPLY: lambda _: "a reply whose request was not captured",
    State.NOTIFY: lambda _: "a notification",
}
