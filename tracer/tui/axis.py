"""The labels under the timeline: round times since the start of the trace."""

from __future__ import annotations

from tracer.tui.density import Window

TICK_CELLS = 14  # at least, from one label to the next
UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"), (1, "ns"))


def axis_text(window: Window, columns: int, zero_ns: int, has_times: bool) -> str:
    """Return a line of `columns` cells with a tick and a label at every round time since `zero_ns`."""
    cells = [" "] * columns
    step = _step(window.length_ns * TICK_CELLS // max(1, columns))
    first = -(-(window.start_ns - zero_ns) // step) * step
    for since in range(first, window.end_ns - zero_ns, step):
        at = window.column(zero_ns + since, columns)
        label = "╵" + (_label(since, step) if has_times else f"#{zero_ns + since}")
        if at >= 0 and at + len(label) < columns:
            cells[at : at + len(label)] = label
    return "".join(cells)


def _step(at_least_ns: int) -> int:
    """Return the next of 1, 2, 5, 10, 20, 50 ..."""
    power = 1
    while power * 10 <= at_least_ns:
        power *= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= at_least_ns)


def _label(since_ns: int, step_ns: int) -> str:
    """Return a time in the unit that makes the step a small whole number."""
    if since_ns == 0:
        return "0"
    for size, unit in UNITS:
        if step_ns >= size or unit == "ns":
            if unit == "s" and since_ns >= 60 * size:
                minutes, seconds = divmod(since_ns // size, 60)
                return f"{minutes}m{seconds:02d}"
            return f"{since_ns // size}{unit}"
    return str(since_ns)
