"""Who sent a request, in words."""

from __future__ import annotations


def caller_text(pid: int | None, comm: str, unknown: str = "?") -> str:
    """Return "comm[pid]", "kernel" for a request of its own (pid 0), and `unknown` where the capture does not tell.

    "pid 7" is a caller whose name is not known, in a guest for one. `pid` None: the header was cut before it. `comm` is
    escaped; with pid 0 it is who made the kernel ask: RELEASE and INIT name nobody.
    """
    if comm and pid == 0:
        return comm
    if comm:
        return f"{comm}[{'?' if pid is None else pid}]"
    if pid:
        return f"pid {pid}"
    return unknown if pid is None else "kernel"
