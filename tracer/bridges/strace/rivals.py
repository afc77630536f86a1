"""Two servers that seem to serve one mount.

The kernel gives the number of an unmounted connection to the next mount. A server that did not notice its unmount (it
hangs, or is stopped) still holds a descriptor with that number, and fdinfo does not tell that the connection is dead.
Processes of one server share a descriptor, inherited from the one that opened it: strangers do not.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Final

from tracer.bridges.host import processes
from tracer.bridges.host.words import printable
from tracer.errors import CaptureError

# kcmp(2) has no wrapper in libc; its number from the kernel's syscall tables.
_KCMP: Final = {
    "x86_64": 312, "aarch64": 272, "riscv64": 272, "loongarch64": 272, "s390x": 343, "ppc64le": 354,
}  # fmt: skip
_KCMP_FILE: Final = 0
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def check_one_server(mount_point: str, connection: int, pids: Sequence[int]) -> None:
    """Raise CaptureError when some of `pids`, all holders of `connection`, have nothing to do with each other."""
    families: list[set[int]] = []
    for pid in pids:
        related = [family for family in families if any(_share(pid, other, connection) for other in family)]
        families = [family for family in families if family not in related]
        families.append({pid}.union(*related))
    if len(families) < 2:
        return
    listed = ", ".join(f"{pid} ({processes.name(pid)})" for pid in list(pids)[:8])
    raise CaptureError(
        f"{len(families)} servers hold the connection of {printable(os.fsencode(mount_point), 200)}: {listed}; "
        "only one serves it, others are left from a mount that is gone",
        "give the one that serves it with --pid PID",
    )


def _share(one: int, other: int, connection: int) -> bool:
    """Tell whether two processes hold the same open file of a connection; True when that cannot be told."""
    number = _KCMP.get(os.uname().machine)
    if number is None:
        return True
    answers = [
        _LIBC.syscall(number, one, other, _KCMP_FILE, fd, other_fd)
        for fd in _fds(one, connection)
        for other_fd in _fds(other, connection)
    ]
    return not answers or min(answers) <= 0  # 0: the same; -1: we may not ask, or the kernel has no kcmp


def _fds(pid: int, connection: int) -> list[int]:
    return [fd for fd in processes.device_fds(pid) if processes.connection_of(pid, fd) == connection]
